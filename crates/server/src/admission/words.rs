//! Decisions in words: bounded, and without characters that change how the rest of a terminal's line is displayed.
//!
//! Image references come from the author of a pod; instructions, titles and paths from the author of an image. The API
//! server hands a message on as it is, and kubectl prints it.

use crate::admission::{Decision, Reason};
use layersift_model::{changes_display, is_invisible};
use std::borrow::Cow;

/// What stands for text that was cut off.
const CUT: &str = "…";

/// Bytes that the name of an image takes at most, so that there is room for the reasons.
const MOST_NAME: usize = 160;

/// Bytes that one reason takes at most.
const MOST_REASON: usize = 400;

/// `text` in one line: white space becomes a space, and what is invisible or changes the display becomes U+FFFD.
pub(crate) fn clean(text: &str) -> Cow<'_, str> {
    if text.chars().all(|c| c == ' ' || !(c.is_whitespace() || is_deceptive(c))) {
        return Cow::Borrowed(text);
    }
    let shown = |c: char| match c {
        c if c.is_whitespace() => ' ',
        c if is_deceptive(c) => char::REPLACEMENT_CHARACTER,
        c => c,
    };
    Cow::Owned(text.chars().map(shown).collect())
}

/// Control and bidirectional formatting characters, and characters that take no room.
fn is_deceptive(c: char) -> bool {
    changes_display(c) || is_invisible(c)
}

/// `text` in at most `most` bytes, with an ellipsis where it was cut off.
pub(crate) fn cut(text: &str, most: usize) -> Cow<'_, str> {
    if text.len() <= most {
        return Cow::Borrowed(text);
    }
    let Some(room) = most.checked_sub(CUT.len()) else { return Cow::Borrowed("") };
    Cow::Owned(format!("{}{CUT}", beginning(text, room)))
}

/// The whole characters in the first `most` bytes.
pub(crate) fn beginning(text: &str, most: usize) -> &str {
    let mut end = most.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// `text` cleaned, then cut. What is far too long is cut before as well, as cleaning may make it three times as long.
pub(crate) fn tidy(text: &str, most: usize) -> String {
    let near = beginning(text, most.saturating_add(CUT.len() + 1));
    cut(&clean(near), most).into_owned()
}

/// The decision in one line of at most `most` bytes: the image, then the reasons as far as they fit, then how many more
/// there are.
pub(crate) fn describe(decision: &Decision, most: usize) -> String {
    let mut text = tidy(&decision.image, MOST_NAME.min(most / 2));
    if let Some(digest) = &decision.digest
        && !decision.image.contains(digest.hex())
    {
        text.push_str(&format!(" ({}:{})", digest.algorithm().name(), digest.short()));
    }
    text.push_str(": ");
    if decision.reasons.is_empty() {
        text.push_str(decision.outcome.name());
    }
    let mut told = 0;
    for reason in &decision.reasons {
        let sentence = cut(&reason_in_words(reason), MOST_REASON).into_owned();
        let more = more_reasons(decision, told + 1);
        // The first reason is told in any case, cut to what is left.
        if told > 0 && text.len() + 2 + sentence.len() + more.len() > most {
            break;
        }
        if told > 0 {
            text.push_str("; ");
        }
        let room = most.saturating_sub(text.len() + more.len());
        text.push_str(&cut(&sentence, room));
        told += 1;
    }
    text.push_str(&more_reasons(decision, told));
    cut(&text, most).into_owned()
}

fn more_reasons(decision: &Decision, told: usize) -> String {
    match decision.reasons_total.max(decision.reasons.len() as u64).saturating_sub(told as u64) {
        0 => String::new(),
        more => format!("; and {more} more"),
    }
}

/// For example ``aws.access-key: AWS access key in app/.env, layer 3 (COPY . /app), linux/arm64``.
fn reason_in_words(reason: &Reason) -> String {
    let mut text = tidy(&reason.rule, 80);
    if !reason.title.is_empty() {
        text.push_str(&format!(": {}", tidy(&reason.title, 120)));
    }
    if let Some(place) = &reason.place {
        text.push_str(&format!(" in {}", tidy(place, 120)));
    }
    if let Some(layer) = reason.layer {
        text.push_str(&format!(", layer {layer}"));
    }
    if let Some(instruction) = &reason.instruction {
        text.push_str(&format!(" ({})", tidy(instruction, 100)));
    }
    if let Some(platform) = &reason.platform {
        text.push_str(&format!(", {}", tidy(platform, 40)));
    }
    text
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::admission::{Effect, Outcome};

    /// A decision with one finding.
    pub(crate) fn failed(image: &str) -> Decision {
        let reason = Reason {
            layer: Some(3),
            instruction: Some("COPY . /app".into()),
            place: Some("app/.env".into()),
            ..Reason::of_words("aws.access-key", "AWS access key")
        };
        let digest = Some(layersift_model::Digest::of(image.as_bytes()));
        let base = Decision::without_report(image, digest, Outcome::Fail, "");
        Decision { reasons: vec![reason], effect: Effect::Deny, ..base }
    }

    #[test]
    fn a_decision_names_the_image_the_rule_the_layer_the_instruction_and_the_place() {
        let decision = failed("registry.example.org/app:1");
        let short = decision.digest.clone().unwrap().short().to_owned();
        assert_eq!(
            describe(&decision, 1_000),
            format!(
                "registry.example.org/app:1 (sha256:{short}): aws.access-key: AWS access key in app/.env, layer 3 \
                 (COPY . /app)"
            )
        );
    }

    #[test]
    fn a_long_decision_tells_what_fits_and_counts_the_rest() {
        let mut decision = failed("app:1");
        decision.reasons = vec![decision.reasons[0].clone(); 20];
        decision.reasons_total = 41;
        for most in [0, 1, 3, 10, 90, 200, 400, 1_000, 5_000] {
            let text = describe(&decision, most);
            assert!(text.len() <= most, "{most}: {text}");
            let told = text.matches("aws.access-key").count();
            assert!(most < 200 || text.ends_with(&format!("; and {} more", 41 - told)), "{most}: {text}");
        }
    }

    #[test]
    fn nothing_that_changes_the_display_is_left() {
        let hostile = "a\u{1b}[31m\n\r\tb\0\u{7f}\u{85}\u{202e}c\u{2066}\u{200b}\u{feff}\u{ad}\u{e0041}\u{2028}d";
        let replaced = '\u{fffd}';
        let cleaned = clean(hostile);
        assert!(cleaned.starts_with(&format!("a{replaced}[31m   b{replaced}{replaced}")), "{cleaned:?}");
        assert!(cleaned.chars().all(|c| !is_deceptive(c) && (c == ' ' || !c.is_whitespace())));
        assert_eq!(clean("Schlüssel 🔑 ключ"), "Schlüssel 🔑 ключ");
    }

    #[test]
    fn text_is_cut_between_characters() {
        let text = "ä🔑".repeat(100);
        for most in 0..40 {
            assert!(cut(&text, most).len() <= most);
            assert!(tidy(&text, most).len() <= most);
        }
        assert_eq!(cut("abc", 3), "abc");
        assert_eq!(cut("abcd", 3), "…");
    }
}
