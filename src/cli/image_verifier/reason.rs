//! A judgement and its reason, as containerd passes it on to whoever pulls: one short line, without control characters.

use layersift_model::changes_display;

/// The most bytes of a reason. containerd keeps 32 KiB, but events of Kubernetes show far less.
const MOST_BYTES: usize = 2 << 10;

/// Whether an image may be pulled, and why.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Judgement {
    pub(super) is_allowed: bool,
    reason: String,
}

impl Judgement {
    pub(super) fn allow(reason: &str) -> Judgement {
        Judgement { is_allowed: true, reason: reason.into() }
    }

    pub(super) fn deny(reason: &str) -> Judgement {
        Judgement { is_allowed: false, reason: reason.into() }
    }

    /// The line to print.
    pub(super) fn text(&self) -> String {
        let word = if self.is_allowed { "allowed" } else { "denied" };
        shortened(&clean(&format!("layersift: {word}: {}", self.reason)), MOST_BYTES)
    }
}

/// `text` in one line: what changes how other text is displayed, and every run of white space, becomes one space.
pub(super) fn clean(text: &str) -> String {
    let plain = text.replace(|c: char| changes_display(c) || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}'), " ");
    plain.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// `text` with at most `most` bytes, of which the last are an ellipsis if something was left out.
pub(super) fn shortened(text: &str, most: usize) -> String {
    const ELLIPSIS: &str = "…";
    if text.len() <= most {
        return text.into();
    }
    let most = most.saturating_sub(ELLIPSIS.len());
    let start = (0..=most).rev().find_map(|end| text.get(..end)).unwrap_or_default();
    format!("{start}{ELLIPSIS}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_one_short_plain_line() {
        let text = Judgement::deny("two\nlines\u{1b}[2J\u{202e}and \t a tab").text();
        assert_eq!(text, "layersift: denied: two lines [2J and a tab");
        let text = Judgement::deny(&"é".repeat(5_000)).text();
        assert!(text.len() <= MOST_BYTES && text.ends_with("é…"), "{}", text.len());
    }
}
