//! Masks the secrets of configuration and documents where a report quotes them.

use layersift_model::Secret;

use super::config::ConfigFinding;
use crate::documents::DocumentFinding;

/// Masks the secrets of configuration and documents in all text of them that a report shows.
pub(super) struct Mask(Vec<Masked>);

struct Masked {
    at: String,
    value: String,
    masked: String,
}

impl Mask {
    pub(super) fn new(findings: &[ConfigFinding]) -> Mask {
        let mut mask = Mask(Vec::new());
        mask.add(findings);
        mask
    }

    pub(super) fn add(&mut self, findings: &[ConfigFinding]) {
        let masked = |finding: &ConfigFinding| {
            let secret: &Secret = finding.secret.as_ref()?;
            let text = finding.raw.as_deref().or_else(|| std::str::from_utf8(secret.reveal()).ok());
            let value = text.filter(|value| !value.is_empty())?.to_string();
            Some(Masked { at: finding.at.clone(), value, masked: secret.masked() })
        };
        self.0.extend(findings.iter().filter_map(masked));
        self.sort();
    }

    pub(super) fn add_documents(&mut self, findings: &[DocumentFinding]) {
        let masked = |finding: &DocumentFinding| {
            let secret: &Secret = finding.secret.as_ref()?;
            let text = finding.raw.as_deref().or_else(|| std::str::from_utf8(secret.reveal()).ok());
            let value = text.filter(|value| !value.is_empty())?.to_string();
            Some(Masked { at: finding.location.document.kind.to_string(), value, masked: secret.masked() })
        };
        self.0.extend(findings.iter().filter_map(masked));
        self.sort();
    }

    /// The longest first: masking a secret inside a longer one must not leave the rest of that one readable.
    fn sort(&mut self) {
        self.0.sort_by_key(|masked| std::cmp::Reverse(masked.value.len()));
    }

    /// Masks in `text`, the text of the field `at`, all secrets of that field and the long secrets of other fields. A
    /// short password of another field, such as `postgres`, may be an ordinary word here.
    pub(super) fn apply(&self, at: &str, text: &str) -> String {
        const LONG: usize = 12;
        let hidden = self.0.iter().filter(|masked| masked.at == at || masked.value.len() >= LONG);
        hidden.fold(text.to_string(), |text, masked| text.replace(&masked.value, &masked.masked))
    }

    /// Masks in `text` all secrets, and so maybe words that are none.
    pub(super) fn apply_all(&self, text: &str) -> String {
        self.0.iter().fold(text.to_string(), |text, masked| text.replace(&masked.value, &masked.masked))
    }
}
