//! Secrets before and after, by fingerprint.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use layersift_model::{Finding, ImageReport, RuleInfo, Severity, State};

use super::{Change, Trace, place, worst};

/// A secret of one image or of both.
#[derive(Clone, Debug)]
pub struct ComparedSecret<'r> {
    /// The worst of the rules that found it.
    pub rule: &'r RuleInfo,
    /// The worst severity of its findings after; of those before if there are none.
    pub severity: Severity,
    /// Its masked form.
    pub masked: &'r str,
    /// Its keyed fingerprint.
    pub fingerprint: &'r str,
    /// Whether it came, went or stayed.
    pub change: Change,
    /// Its places before.
    pub before: Vec<&'r Finding>,
    /// Its places after.
    pub after: Vec<&'r Finding>,
    /// The fingerprint of the value that has its place after.
    pub replaced_by: Option<&'r str>,
    /// The fingerprint of the value whose place it has.
    pub replaces: Option<&'r str>,
    /// The places after where a search found the value itself, though no finding there is this secret.
    pub traces: Vec<Trace>,
    /// Whether the image after was searched for its value, as far as that is known.
    pub(super) is_searched: bool,
    /// Whether the image after was read to its end and by the same rules, so that what was not found is not there.
    is_certain: bool,
}

/// What became of a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fate {
    /// It is new.
    New,
    /// A container of the image after sees it.
    StillThere,
    /// Only a layer of the image after has it: whoever can pull the image can pull that layer.
    StillInLayer,
    /// It was not found in the image after, of which not everything was read or searched, or not by the same rules.
    NotFound,
    /// Nothing after has it, and nothing of its kind is in its place.
    Gone,
    /// Nothing after has it, and another value is in its place.
    GoneAndRotated,
}

impl Fate {
    /// All fates, the worst first.
    pub const ALL: [Fate; 6] =
        [Fate::New, Fate::StillThere, Fate::StillInLayer, Fate::NotFound, Fate::Gone, Fate::GoneAndRotated];

    /// Its name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Fate::New => "new",
            Fate::StillThere => "still-there",
            Fate::StillInLayer => "still-in-layer",
            Fate::NotFound => "not-found",
            Fate::Gone => "gone",
            Fate::GoneAndRotated => "gone-and-rotated",
        }
    }

    /// What it means, in a few words.
    pub fn words(self) -> &'static str {
        match self {
            Fate::New => "new",
            Fate::StillThere => "still there, with the same value",
            Fate::StillInLayer => "still in a layer, with the same value: whoever pulls the image has it",
            Fate::NotFound => "not found, but not everything was read or searched, or not by the same rules",
            Fate::Gone => "gone; nothing is in its place, so whether it was rotated cannot be seen",
            Fate::GoneAndRotated => "gone and rotated: another value is in its place",
        }
    }
}

impl ComparedSecret<'_> {
    /// What became of it.
    pub fn fate(&self) -> Fate {
        match self.change {
            Change::Came => Fate::New,
            Change::Stayed if self.after.iter().any(|finding| finding.state() == State::Present) => Fate::StillThere,
            Change::Stayed if self.traces.iter().any(|trace| trace.is_present) => Fate::StillThere,
            Change::Stayed => Fate::StillInLayer,
            Change::Went if !self.is_certain || !self.is_searched => Fate::NotFound,
            Change::Went if self.replaced_by.is_some() => Fate::GoneAndRotated,
            Change::Went => Fate::Gone,
        }
    }

    /// The findings whose severity counts for the image after: those of before, if only the value was found there.
    pub(super) fn of_image_after(&self) -> &[&Finding] {
        if self.after.is_empty() { &self.before } else { &self.after }
    }

    /// Whether it is in other places than before.
    pub fn moved(&self) -> bool {
        let places = |findings: &[&Finding]| findings.iter().map(|finding| place(finding)).collect::<BTreeSet<_>>();
        self.change == Change::Stayed && places(&self.before) != places(&self.after)
    }
}

/// The secrets of both reports, worst first.
pub(super) fn compare<'r>(
    before: &'r ImageReport,
    after: &'r ImageReport,
    is_certain: bool,
) -> Vec<ComparedSecret<'r>> {
    let (old, new) = (by_fingerprint(before), by_fingerprint(after));
    let fingerprints: BTreeSet<&str> = old.keys().chain(new.keys()).copied().collect();
    let mut secrets: Vec<ComparedSecret<'r>> = fingerprints
        .into_iter()
        .filter_map(|fingerprint| {
            let places = |of: &BTreeMap<&'r str, Vec<&'r Finding>>| of.get(fingerprint).cloned().unwrap_or_default();
            let (before, after) = (places(&old), places(&new));
            let shown = if after.is_empty() { &before } else { &after };
            let first = shown.iter().max_by_key(|finding| finding.severity)?;
            Some(ComparedSecret {
                rule: &first.rule,
                severity: worst(shown),
                masked: &first.secret.as_ref()?.masked,
                fingerprint,
                change: Change::of(!before.is_empty(), !after.is_empty()),
                before,
                after,
                replaced_by: None,
                replaces: None,
                traces: Vec::new(),
                is_searched: true,
                is_certain,
            })
        })
        .collect();
    pair(&mut secrets);
    sort(&mut secrets);
    secrets
}

/// Notes where the values of secrets that went were found.
pub(super) fn add_traces(secrets: &mut [ComparedSecret<'_>], traces: &[Trace]) {
    let mut of: BTreeMap<&str, Vec<Trace>> = BTreeMap::new();
    for trace in traces {
        of.entry(&trace.fingerprint).or_default().push(trace.clone());
    }
    for secret in secrets.iter_mut().filter(|secret| secret.change == Change::Went) {
        if let Some(traces) = of.remove(secret.fingerprint) {
            secret.change = Change::Stayed;
            secret.traces = traces;
        }
    }
    sort(secrets);
}

pub(super) fn sort(secrets: &mut [ComparedSecret<'_>]) {
    secrets.sort_by_key(|secret| (Reverse(secret.severity), secret.fate(), secret.rule.id.clone()));
}

fn by_fingerprint(report: &ImageReport) -> BTreeMap<&str, Vec<&Finding>> {
    let mut secrets: BTreeMap<&str, Vec<&Finding>> = BTreeMap::new();
    for finding in &report.findings {
        if let Some(fingerprint) = finding.fingerprint() {
            secrets.entry(fingerprint).or_default().push(finding);
        }
    }
    secrets
}

/// Pairs each secret that went with one that came to its place, by the same rule. A value follows one other at most.
fn pair(secrets: &mut [ComparedSecret<'_>]) {
    let places = |findings: &[&Finding]| -> Vec<(String, String)> {
        findings.iter().map(|finding| (finding.rule.id.clone(), place(finding))).collect()
    };
    let mut came: BTreeMap<(String, String), Vec<usize>> = BTreeMap::new();
    for (index, secret) in secrets.iter().enumerate().filter(|(_, secret)| secret.change == Change::Came) {
        for place in places(&secret.after) {
            came.entry(place).or_default().push(index);
        }
    }
    let mut taken = BTreeSet::new();
    for index in 0..secrets.len() {
        let Some(went) = secrets.get(index).filter(|secret| secret.change == Change::Went) else { continue };
        let mut followers = places(&went.before).into_iter().filter_map(|place| came.get(&place)).flatten();
        let Some(&follower) = followers.find(|follower| !taken.contains(*follower)) else { continue };
        taken.insert(follower);
        let (old, new) = (went.fingerprint, secrets[follower].fingerprint);
        secrets[index].replaced_by = Some(new);
        secrets[follower].replaces = Some(old);
    }
}
