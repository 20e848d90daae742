//! What the store knows about a digest: of an image, or of an index and all of its images. And whether that still
//! counts: reports of older rules do for a while, so that an upgrade does not stop a cluster.

use std::collections::BTreeSet;

use jiff::Timestamp;
use layersift_fleet::add_stored_base;
use layersift_model::{Digest, ImageReport, LayerKey, ReportKind};
use layersift_report::Policy;
use layersift_store::{DatedReport, Seconds, Store, StoreError, StoredReport};

use crate::admission::{Basis, Decision, Outcome, Terms};

/// What is known about a digest.
#[derive(Debug)]
pub(crate) enum Known {
    /// Nothing, or not all of its images.
    Nothing,
    /// A report of each of its images.
    Reports(Reports),
}

/// The reports of all images of a digest.
#[derive(Debug)]
pub(crate) struct Reports {
    pub(crate) reports: Vec<ImageReport>,
    basis: Basis,
    /// Since when the oldest of them is outdated; `None` where all are of the present key.
    outdated_since: Option<Seconds>,
}

/// Which reports count that are not under the present key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Older {
    /// Those under keys that services answered by: decisions rest on no others.
    Served,
    /// All, for whoever reads them.
    Any,
}

/// Looks up what is known about `digest`, by reports under `key` where there are any, and otherwise by older ones.
pub(crate) fn look_up(store: &Store, digest: &Digest, key: &LayerKey, older: Older) -> Result<Known, StoreError> {
    let led_to = store.images().led_to(digest)?;
    // An index is noted under its own digest last, after all of its images.
    let is_noted = led_to.contains(digest);
    let manifests: BTreeSet<Digest> =
        if is_noted { led_to.into_iter().collect() } else { BTreeSet::from([digest.clone()]) };
    let manifests: Vec<Digest> = manifests.into_iter().collect();
    let served = store.service().served_keys()?;
    let others: Vec<LayerKey> = served.iter().map(|(key, _)| key.clone()).collect();
    let dated = store.images().dated_reports(&manifests, key, (older == Older::Served).then_some(&others))?;
    if dated.len() < manifests.len() {
        return Ok(Known::Nothing);
    }
    // The report of an index says nothing about its images.
    let may_be_index = |report: &ImageReport| report.kind == ReportKind::Artifact && report.layers.is_empty();
    if !is_noted && dated.iter().any(|dated| may_be_index(&dated.report)) {
        return Ok(Known::Nothing);
    }
    let of_older_key = dated.iter().filter(|dated| dated.key != *key);
    let outdated_since = of_older_key.map(|dated| superseded(dated, &served)).min();
    // The oldest one is what the answer rests on.
    let Some(oldest) = dated.iter().min_by_key(|dated| (dated.key == *key, dated.stored_at)) else {
        return Ok(Known::Nothing);
    };
    let basis = Basis {
        ruleset: oldest.report.tool.ruleset.clone(),
        reader_revision: oldest.report.tool.reader_revision,
        scanned_at: oldest.stored_at,
        is_outdated: outdated_since.is_some(),
        attestation: None,
    };
    Ok(Known::Reports(Reports {
        reports: dated.into_iter().map(|dated| dated.report).collect(),
        basis,
        outdated_since,
    }))
}

/// One of `manifests` of which a stored report fails under `terms`, under any key that services answer or answered by.
/// This also finds those of an index that is not known as a whole.
pub(crate) fn failing_of(
    store: &Store,
    manifests: &[Digest],
    key: &LayerKey,
    (terms, bases): (&Terms, &[Vec<Digest>]),
) -> Result<Option<Digest>, StoreError> {
    let served = store.service().served_keys()?;
    let others = served.into_iter().map(|(other, _)| other).filter(|other| other != key);
    for key in std::iter::once(key.clone()).chain(others) {
        for StoredReport { report, .. } in store.images().reports(manifests, &key)? {
            let mut reports = [report];
            add_asked_bases(store, &mut reports, &terms.findings)?;
            let Some(digest) = reports[0].manifest_digest.clone() else { continue };
            let basis = Basis::default();
            let found = Decision::of_reports("", digest.clone(), &mut reports, &terms.findings, bases, basis);
            if found.outcome == Outcome::Fail {
                return Ok(Some(digest));
            }
        }
    }
    Ok(None)
}

/// Adds what the images of `reports` are based on, by the store, where `policy` asks for it.
pub(crate) fn add_asked_bases<'r>(
    store: &Store,
    reports: impl IntoIterator<Item = &'r mut ImageReport>,
    policy: &Policy,
) -> Result<(), StoreError> {
    if policy.allow.asks_for_base() { add_bases(store, reports) } else { Ok(()) }
}

/// Adds what the images of `reports` are based on, by the store.
pub(crate) fn add_bases<'r>(
    store: &Store,
    reports: impl IntoIterator<Item = &'r mut ImageReport>,
) -> Result<(), StoreError> {
    reports.into_iter().try_for_each(|report| add_stored_base(store, report))
}

/// The layers of each base image that is in the store, of an index those of each of its images.
pub(crate) fn layers_of_bases(store: &Store, bases: &[Digest]) -> Result<Vec<Vec<Digest>>, StoreError> {
    let mut all = Vec::new();
    for base in bases {
        let mut manifests = store.images().led_to(base)?;
        manifests.push(base.clone());
        for manifest in manifests {
            let Some(image) = store.images().find(&manifest)? else { continue };
            all.push(store.images().layers(image.id)?.into_iter().map(|layer| layer.digest).collect());
        }
    }
    Ok(all)
}

/// When a report stopped being of a key that services answer by, which is not before it was stored.
fn superseded(report: &DatedReport, served: &[(LayerKey, Seconds)]) -> Seconds {
    let until = served.iter().find(|(key, _)| *key == report.key).map_or(report.stored_at, |(_, until)| *until);
    until.max(report.stored_at)
}

impl Reports {
    /// The reports, if all are under the present key, with the time of the oldest where they do not have their own.
    pub(crate) fn present(mut self) -> Option<Vec<ImageReport>> {
        let scanned_at = Timestamp::from_second(self.basis.scanned_at).ok();
        self.reports.iter_mut().for_each(|report| report.scanned_at = report.scanned_at.or(scanned_at));
        self.outdated_since.is_none().then_some(self.reports)
    }

    /// What the reports say under `terms`. One that is outdated for too long says nothing, unless it fails.
    pub(crate) fn judge(
        &mut self,
        (image, digest): (&str, &Digest),
        terms: &Terms,
        bases: &[Vec<Digest>],
        now: Seconds,
    ) -> Decision {
        let decision =
            Decision::of_reports(image, digest.clone(), &mut self.reports, &terms.findings, bases, self.basis.clone());
        let age = Seconds::try_from(terms.max_report_age.as_secs()).unwrap_or(Seconds::MAX);
        // A time that is still to come was noted by a clock that was wrong.
        let is_too_old = self.outdated_since.is_some_and(|since| since > now || now.saturating_sub(since) > age);
        if is_too_old && decision.outcome != Outcome::Fail {
            let why = "its report is of rules that were replaced longer ago than max-report-age";
            return Decision {
                basis: decision.basis,
                platforms: decision.platforms,
                ..Decision::without_report(image, Some(digest.clone()), Outcome::Unknown, why)
            };
        }
        decision
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dated(key: &str, stored_at: Seconds) -> DatedReport {
        DatedReport { report: ImageReport::default(), key: LayerKey::new(key), stored_at }
    }

    #[test]
    fn a_report_is_outdated_since_its_key_was_last_served() {
        let key = |(key, until): (&str, Seconds)| (LayerKey::new(key), until);
        // As after an upgrade from `a` to `b`, back to `a`, and to `b` again.
        let served: Vec<_> = [("a", 500), ("b", 900)].map(key).into();
        assert_eq!(superseded(&dated("a", 20), &served), 500);
        assert_eq!(superseded(&dated("a", 700), &served), 700, "a replica of the version before noted it late");
    }
}
