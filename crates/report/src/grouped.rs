//! Findings in groups and with numbers, the same in every part of a page: sections of one rule and severity, worst
//! first, and in them the secrets, each with all its places.

use std::cmp::Reverse;
use std::collections::HashMap;

use layersift_model::{Finding, FingerprintKey, ImageReport, RuleInfo, Severity, State};

/// The findings of one rule and severity.
pub(crate) struct Section<'r> {
    pub(crate) rule: &'r RuleInfo,
    pub(crate) severity: Severity,
    /// Never empty.
    pub(crate) entries: Vec<Entry<'r>>,
}

/// A secret with all its places, or a finding that is not one.
pub(crate) struct Entry<'r> {
    /// Its number in the report of the image, from 1.
    pub(crate) number: usize,
    /// Never empty, in the order of the report.
    pub(crate) places: Vec<&'r Finding>,
    position: usize,
}

impl<'r> Section<'r> {
    /// All its findings.
    pub(crate) fn findings(&self) -> impl Iterator<Item = &'r Finding> {
        self.entries.iter().flat_map(|entry| entry.places.iter().copied())
    }
}

impl<'r> Entry<'r> {
    /// The first place.
    pub(crate) fn first(&self) -> Option<&'r Finding> {
        self.places.first().copied()
    }

    /// How many places it has.
    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether it is a secret.
    pub(crate) fn is_secret(&self) -> bool {
        self.first().is_some_and(|finding| finding.secret.is_some())
    }

    fn severity(&self) -> Option<Severity> {
        self.places.iter().map(|finding| finding.severity).max()
    }

    fn counts(&self) -> bool {
        self.places.iter().any(|finding| finding.counts())
    }

    /// The state of its most visible place.
    fn state(&self) -> Option<State> {
        self.places.iter().map(|finding| finding.state()).min()
    }
}

/// All findings of `report` in sections. What counts for the verdict comes before what is allowed or in the baseline,
/// and what is in the final image before what is gone.
pub(crate) fn sections(report: &ImageReport) -> Vec<Section<'_>> {
    let mut sections: Vec<Section<'_>> = Vec::new();
    let mut of_rule: HashMap<(&str, Severity), usize> = HashMap::new();
    for entry in entries(report) {
        let (Some(first), Some(severity)) = (entry.first(), entry.severity()) else { continue };
        let index = *of_rule.entry((&first.rule.id, severity)).or_insert(sections.len());
        match sections.get_mut(index) {
            Some(section) => section.entries.push(entry),
            None => sections.push(Section { rule: &first.rule, severity, entries: vec![entry] }),
        }
    }
    for section in &mut sections {
        section.entries.sort_by_key(|entry| (!entry.counts(), entry.state(), entry.position));
    }
    sections.sort_by_cached_key(|section| {
        let first = section.entries.first();
        let rank = first.map(|entry| (!entry.counts(), entry.state()));
        (Reverse(section.severity), rank, section.entries.iter().map(|entry| entry.position).min())
    });
    let numbers = sections.iter_mut().flat_map(|section| &mut section.entries);
    numbers.zip(1..).for_each(|(entry, number)| entry.number = number);
    sections
}

/// Secrets by rule and fingerprint, and the other findings one by one.
fn entries(report: &ImageReport) -> Vec<Entry<'_>> {
    let mut entries: Vec<Entry<'_>> = Vec::new();
    let mut of_secret: HashMap<(&str, &str), usize> = HashMap::new();
    for (position, finding) in report.findings.iter().enumerate() {
        let new = entries.len();
        let index = match finding.fingerprint() {
            // Nothing is known of secrets without a fingerprint, so they are not the same.
            Some(fingerprint) if !fingerprint.is_empty() => {
                *of_secret.entry((&finding.rule.id, fingerprint)).or_insert(new)
            }
            _ => new,
        };
        match entries.get_mut(index) {
            Some(entry) => entry.places.push(finding),
            None => entries.push(Entry { number: 0, places: vec![finding], position }),
        }
    }
    entries
}

/// Whether fingerprints of `report`, and ids of findings, which are made from them, may be handed on. Under the
/// built-in key, which is public, anyone can compare a fingerprint with that of a password that they guess.
pub(crate) fn has_private_key(report: &ImageReport) -> bool {
    report.tool.fingerprint_key.as_ref().is_some_and(|id| *id != FingerprintKey::default().id())
}
