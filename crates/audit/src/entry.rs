//! What an entry says, and the line of JSON that it is written as.
//!
//! The bytes of the line are what is hashed. Nothing has to write the same JSON again, so there is no canonical form.

use std::collections::BTreeMap;

use layersift_model::{changes_display, json_output};
use serde::{Deserialize, Serialize};

/// The longest line of an entry in bytes, without its newline.
pub const MOST_LINE: usize = 16 * 1024;

/// The most texts that `what` may have, and a verdict reasons.
const MOST_ITEMS: usize = 64;
/// The longest text in bytes of JSON.
const MOST_TEXT: usize = 1024;

/// A decision of the service.
///
/// It is for the log of an audit: no secret belongs in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// When it was decided, in milliseconds since 1970.
    pub time: u64,
    /// Which part of the service decided.
    pub kind: Kind,
    /// Who asked, as the service knows them.
    pub who: String,
    /// What it was about: `image`, `digest`, `namespace`, …
    pub what: BTreeMap<String, String>,
    /// The digest of the policy.
    pub policy: String,
    /// The rule set that the reports were made with.
    pub ruleset: String,
    /// What was decided.
    pub verdict: Verdict,
    /// Whether a text of this entry, or a list, was longer and was cut.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cut: bool,
}

/// A part of the service that decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A cluster, or a runtime, that asks whether an image may run.
    Admission,
    /// Harbor's scanner adapter.
    Harbor,
    /// The gate in front of prompts.
    Prompt,
}

impl Kind {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Admission => "admission",
            Kind::Harbor => "harbor",
            Kind::Prompt => "prompt",
        }
    }
}

/// What was decided, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// Such as `pass`, `fail` or `incomplete`.
    pub outcome: String,
    /// What came of it, such as `allowed`, `denied` or `warned`.
    pub effect: String,
    /// The ids of the rules that it rests on.
    pub reasons: Vec<String>,
}

impl Entry {
    /// Changes the texts that come from whoever asked, and from images: to mask secrets in them.
    pub fn change_texts(&mut self, mut change: impl FnMut(&str) -> String) {
        let texts = self.what.values_mut().chain(&mut self.verdict.reasons);
        for text in std::iter::once(&mut self.who).chain(texts) {
            *text = change(text);
        }
    }

    /// The line of this entry, without a newline, with texts cut so that it is at most [`MOST_LINE`] bytes long.
    ///
    /// # Errors
    /// If it cannot be written as JSON, which the types rule out.
    pub(crate) fn line(&self) -> serde_json::Result<Vec<u8>> {
        let (mut items, mut text) = (MOST_ITEMS, MOST_TEXT);
        loop {
            let line = json_output::line(&self.bounded(items, text))?;
            // A few texts of a few bytes always fit.
            if line.len() <= MOST_LINE || text <= 16 {
                return Ok(line);
            }
            (items, text) = (items.div_ceil(2), text / 2);
        }
    }

    /// The entry with at most `items` in a list, and `most` bytes of JSON in a text.
    fn bounded(&self, items: usize, most: usize) -> Entry {
        let mut is_cut = self.cut || self.what.len() > items || self.verdict.reasons.len() > items;
        let mut text = |text: &str| {
            let kept = cut(text, most);
            is_cut |= kept.len() < text.len();
            kept.to_string()
        };
        let mut entry = Entry {
            time: self.time,
            kind: self.kind,
            who: text(&self.who),
            what: self.what.iter().take(items).map(|(name, value)| (text(name), text(value))).collect(),
            policy: text(&self.policy),
            ruleset: text(&self.ruleset),
            verdict: Verdict {
                outcome: text(&self.verdict.outcome),
                effect: text(&self.verdict.effect),
                reasons: self.verdict.reasons.iter().take(items).map(|reason| text(reason)).collect(),
            },
            cut: false,
        };
        entry.cut = is_cut;
        entry
    }
}

/// The beginning of `text` that takes at most `most` bytes inside a string of JSON.
fn cut(text: &str, most: usize) -> &str {
    let mut used = 0;
    let end = text.char_indices().find(|(_, c)| {
        used += match *c {
            '"' | '\\' => 2,
            c if changes_display(c) => 6,
            c => c.len_utf8(),
        };
        used > most
    });
    end.and_then(|(at, _)| text.get(..at)).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry(who: &str, what: usize, reasons: usize) -> Entry {
        let verdict = Verdict { outcome: who.into(), effect: who.into(), reasons: vec![who.into(); reasons] };
        let what = (0..what).map(|number| (format!("{number}{who}"), who.into())).collect();
        let (policy, ruleset) = (who.into(), who.into());
        Entry { time: 7, kind: Kind::Admission, who: who.into(), what, policy, ruleset, verdict, cut: false }
    }

    #[test]
    fn a_line_is_short_and_says_when_it_was_cut() {
        for text in ["\u{0}", "\"", "é", "\u{9b}", "\u{202e}", "\u{10ffff}"] {
            let line = entry(&text.repeat(100_000), 1000, 1000).line().unwrap();
            assert!(line.len() <= MOST_LINE, "{}", line.len());
            assert!(serde_json::from_slice::<Entry>(&line).unwrap().cut);
        }
        let whole = entry("kubelet", 3, 3);
        let line = whole.line().unwrap();
        assert!(!String::from_utf8_lossy(&line).contains("cut"));
        assert_eq!(serde_json::from_slice::<Entry>(&line).unwrap(), whole);
    }

    #[test]
    fn what_steers_a_terminal_is_escaped_and_kept() {
        let hostile = entry("a\u{202e}b\u{2066}c\u{9b}31m", 2, 2);
        let line = String::from_utf8(hostile.line().unwrap()).unwrap();
        assert!(!line.contains(changes_display) && line.contains("a\\u202eb\\u2066c\\u009b31m"), "{line}");
        assert_eq!(serde_json::from_str::<Entry>(&line).unwrap(), hostile);
    }

    #[test]
    fn texts_from_outside_are_changed_and_those_of_the_service_stay() {
        let mut changed = entry("asked", 1, 1);
        changed.change_texts(|text| text.replace("asked", "***"));
        assert_eq!(
            (&changed.who[..], &changed.what["0asked"][..], &changed.verdict.reasons[0][..]),
            ("***", "***", "***")
        );
        assert_eq!((&changed.policy[..], &changed.verdict.outcome[..]), ("asked", "asked"));
    }

    proptest! {
        #[test]
        fn any_entry_is_one_short_line(who in ".{0,2000}", what in 0..100_usize, reasons in 0..100_usize) {
            let line = entry(&who, what, reasons).line().unwrap();
            prop_assert!(line.len() <= MOST_LINE);
            prop_assert!(!String::from_utf8(line).unwrap().contains(changes_display));
        }
    }
}
