//! Findings that are no secrets, such as open ports and containers that run as root, before and after.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use layersift_model::{Finding, ImageReport, RuleInfo, Severity};

use super::{Change, place, worst};

/// A finding that is no secret, in one image or in both.
#[derive(Clone, Debug)]
pub struct Exposure<'r> {
    /// Its rule.
    pub rule: &'r RuleInfo,
    /// The worst severity after; before if it went.
    pub severity: Severity,
    /// Whether it came, went or stayed.
    pub change: Change,
    /// The findings before.
    pub before: Vec<&'r Finding>,
    /// The findings after.
    pub after: Vec<&'r Finding>,
}

impl<'r> Exposure<'r> {
    /// One of its findings: after, or before if it went.
    pub fn finding(&self) -> Option<&'r Finding> {
        self.after.first().or(self.before.first()).copied()
    }
}

/// The exposures of both reports, worst first.
pub(super) fn compare<'r>(before: &'r ImageReport, after: &'r ImageReport) -> Vec<Exposure<'r>> {
    let mut all: BTreeMap<(String, String), [Vec<&'r Finding>; 2]> = BTreeMap::new();
    for (which, report) in [before, after].into_iter().enumerate() {
        for finding in report.findings.iter().filter(|finding| finding.secret.is_none()) {
            all.entry((finding.rule.id.clone(), place(finding))).or_default()[which].push(finding);
        }
    }
    let mut exposures: Vec<Exposure<'r>> = all
        .into_values()
        .filter_map(|[before, after]| {
            let shown = if after.is_empty() { &before } else { &after };
            Some(Exposure {
                rule: &shown.first()?.rule,
                severity: worst(shown),
                change: Change::of(!before.is_empty(), !after.is_empty()),
                before,
                after,
            })
        })
        .collect();
    exposures.sort_by_key(|exposure| (Reverse(exposure.severity), exposure.change));
    exposures
}
