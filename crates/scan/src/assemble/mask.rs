//! Masks the secrets of configuration and documents where a report quotes them.

use std::cell::Cell;
use std::cmp::Reverse;
use std::collections::BTreeSet;

use layersift_model::Secret;
use memchr::memmem::Finder;

use super::config::ConfigFinding;
use crate::documents::DocumentFinding;

/// The length in bytes from which on a secret is masked in texts of other fields, too.
const LONG: usize = 12;

/// The bytes that may be searched for secrets, those for each secret, and what it takes to begin. It is half a second;
/// texts beyond are hidden.
const MOST_SEARCHED: u64 = 2 << 30;
const BEGUN: u64 = 64;

/// What stands for a text that is hidden.
const HIDDEN: &str = "…";

/// Masks the secrets of configuration and documents in all text of them that a report shows.
pub(super) struct Mask {
    /// The longest first: masking a secret inside a longer one must not leave the rest of that one readable.
    secrets: Vec<Masked>,
    /// What is in `secrets`: the same token may be in a thousand fields.
    known: BTreeSet<(Option<String>, String)>,
    left: Cell<u64>,
}

struct Masked {
    /// The field that a short secret is masked in; `None` for a long one, which is masked everywhere.
    at: Option<String>,
    value: Finder<'static>,
    masked: String,
}

impl Mask {
    pub(super) fn new(findings: &[ConfigFinding]) -> Mask {
        let mut mask = Mask { secrets: Vec::new(), known: BTreeSet::new(), left: Cell::new(MOST_SEARCHED) };
        mask.add(findings);
        mask
    }

    pub(super) fn add(&mut self, findings: &[ConfigFinding]) {
        for finding in findings {
            self.add_secret(&finding.at, finding.secret.as_ref(), finding.raw.as_deref());
        }
        self.sort();
    }

    pub(super) fn add_documents(&mut self, findings: &[DocumentFinding]) {
        for finding in findings {
            let at = finding.location.document.kind.to_string();
            self.add_secret(&at, finding.secret.as_ref(), finding.raw.as_deref());
        }
        self.sort();
    }

    /// Adds the secret of the field `at`, which is written as `raw` there.
    fn add_secret(&mut self, at: &str, secret: Option<&Secret>, raw: Option<&str>) {
        let Some(secret) = secret else { return };
        let text = raw.or_else(|| std::str::from_utf8(secret.reveal()).ok());
        let Some(text) = text.filter(|text| !text.is_empty()) else { return };
        let at = (text.len() < LONG).then(|| at.to_string());
        if self.known.insert((at.clone(), text.to_string())) {
            self.secrets.push(Masked { at, value: Finder::new(text).into_owned(), masked: secret.masked() });
        }
    }

    fn sort(&mut self) {
        self.secrets.sort_by_key(|masked| Reverse(masked.value.needle().len()));
    }

    /// Masks in `text`, the text of the field `at`, all secrets of that field and the long secrets of other fields. A
    /// short password of another field, such as `postgres`, may be an ordinary word here.
    pub(super) fn apply(&self, at: &str, text: &str) -> String {
        self.replace(text, |masked| masked.at.as_deref().is_none_or(|own| own == at))
    }

    /// Masks in `text` all secrets, and so maybe words that are none.
    pub(super) fn apply_all(&self, text: &str) -> String {
        self.replace(text, |_| true)
    }

    fn replace(&self, text: &str, is_hidden: impl Fn(&Masked) -> bool) -> String {
        let mut text = text.to_string();
        for masked in self.secrets.iter().filter(|masked| is_hidden(masked)) {
            let work = text.len() as u64 + BEGUN;
            if self.left.get() < work {
                return HIDDEN.into();
            }
            self.left.set(self.left.get() - work);
            if let (Some(_), Ok(value)) =
                (masked.value.find(text.as_bytes()), std::str::from_utf8(masked.value.needle()))
            {
                text = text.replace(value, &masked.masked);
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mask(secrets: &[(&str, &str)]) -> Mask {
        let mut mask = Mask::new(&[]);
        for (at, value) in secrets {
            mask.add_secret(at, Some(&Secret::new(value.as_bytes().to_vec())), None);
        }
        mask.sort();
        mask
    }

    #[test]
    fn short_secrets_are_masked_in_their_field_and_long_ones_everywhere() {
        let mask = mask(&[("Env[0]", "postgres"), ("Env[1]", "hT5vB9nM2cX7zQ"), ("Env[2]", "hT5vB9nM2cX7zQ-longer")]);
        assert_eq!(mask.apply("Env[1]", "image postgres"), "image postgres");
        assert!(!mask.apply("Env[0]", "image postgres").contains("postgres"));
        assert!(!mask.apply_all("image postgres").contains("postgres"));
        let long = mask.apply("", "a hT5vB9nM2cX7zQ-longer b");
        assert!(!long.contains("hT5vB9nM2cX7zQ") && !long.contains("longer"), "{long}");
    }

    #[test]
    fn a_secret_in_many_fields_is_looked_for_once_and_texts_beyond_the_work_are_hidden() {
        let many: Vec<String> = (0..1_000).map(|number| format!("Env[{number}]")).collect();
        let same = mask(&many.iter().map(|at| (&at[..], "hT5vB9nM2cX7zQ")).collect::<Vec<_>>());
        assert_eq!(same.secrets.len(), 1);
        let text = "x".repeat(1 << 20);
        assert_eq!(same.apply("", &text), text);
        same.left.set(100);
        assert_eq!(same.apply("", &text), HIDDEN);
        assert_eq!(same.apply("", "short"), "short");
    }
}
