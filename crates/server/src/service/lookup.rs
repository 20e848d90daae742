//! What the store knows about a digest: of an image, or of an index and all of its images. And whether that still
//! counts: reports of older rules do for a while, so that an upgrade does not stop a cluster.
//!
//! ```text
//! reading  reports are read one after another, within the memory for them, for as long as somebody waits
//! judged   what they say under a policy, which is remembered where reports are large
//! ```

mod judged;
mod reading;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use jiff::Timestamp;
use layersift_fleet::add_stored_base;
use layersift_model::{Digest, ImageReport, LayerKey, ReportKind};
use layersift_report::Policy;
use layersift_scan::MemoryLease;
use layersift_store::{ReportEntry, Seconds, Store, StoreError};

use crate::admission::Basis;

pub(crate) use judged::{Judging, RememberedJudgements, failing_of};
pub(crate) use reading::{CancelOnDrop, NotRead, Reading, report_memory};

/// Which reports count that are not under the present key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Older {
    /// Those under keys that services answered by: decisions rest on no others.
    Served,
    /// All, for whoever reads them.
    Any,
}

/// The reports that there are of each image of a digest, none of which was read yet.
#[derive(Debug)]
pub(crate) struct Found {
    key: LayerKey,
    /// Of each image, the best first.
    entries: Vec<Vec<ReportEntry>>,
    /// The keys that services answered by, and until when.
    served: Vec<(LayerKey, Seconds)>,
    /// Whether the digest is known to be that of these images: it is of one of them, and was noted after the others.
    is_noted: bool,
}

/// What is known of a report without its findings.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    ruleset: String,
    reader_revision: Option<u32>,
    may_be_index: bool,
}

/// The reports of all images of a digest, with the memory that they take.
#[derive(Debug)]
pub(crate) struct WholeReports {
    pub(crate) reports: Vec<ImageReport>,
    ground: Ground,
    pub(crate) memory: Option<MemoryLease>,
}

/// What an answer rests on.
#[derive(Debug)]
struct Ground {
    basis: Basis,
    /// Since when the oldest report is outdated; `None` where all are of the present key.
    outdated_since: Option<Seconds>,
}

/// Looks up which reports there are of `digest`, under `key` and under older ones. `None` where there are none, or not
/// of all of its images.
pub(crate) fn find(store: &Store, digest: &Digest, key: &LayerKey, older: Older) -> Result<Option<Found>, StoreError> {
    let led_to = store.images().led_to(digest)?;
    // An index is noted under its own digest last, after all of its images.
    let is_noted = led_to.contains(digest);
    let manifests: BTreeSet<Digest> =
        if is_noted { led_to.into_iter().collect() } else { BTreeSet::from([digest.clone()]) };
    let manifests: Vec<Digest> = manifests.into_iter().collect();
    let served = store.service().served_keys()?;
    let others: Vec<LayerKey> = served.iter().map(|(key, _)| key.clone()).collect();
    let entries = store.images().report_entries(&manifests, Some(key), (older == Older::Served).then_some(&others))?;
    let is_known = entries.len() == manifests.len();
    Ok(is_known.then(|| Found { key: key.clone(), entries, served, is_noted }))
}

impl Found {
    /// The reports of all images, all at once, as somebody is to see them. `None` where one is missing.
    pub(crate) fn whole(&self, reading: &Reading<'_>) -> Result<Option<WholeReports>, NotRead> {
        let best = self.entries.iter().filter_map(|entries| entries.first());
        let bytes = best.fold(0_u64, |sum, entry| sum.saturating_add(entry.memory()));
        let memory = reading.memory_for(self.entries.len(), bytes)?;
        let (mut reports, mut read) = (Vec::new(), Vec::new());
        for entries in &self.entries {
            let read_one = |entry| Ok::<_, NotRead>(reading.read(entry)?.map(|report| (entry, report)));
            let found = entries.iter().find_map(|entry| read_one(entry).transpose()).transpose()?;
            let Some((entry, report)) = found else { return Ok(None) };
            read.push((entry, Facts::of(&report)));
            reports.push(report);
        }
        let ground = self.ground(read.iter().map(|(entry, facts)| (*entry, facts)));
        Ok(ground.map(|ground| WholeReports { reports, ground, memory }))
    }

    /// Hands the report of each image to `take`, one after another: the next one is only read when `take` has done with
    /// it. Whether there was one of each, which does not turn out before the end.
    pub(crate) fn each(
        &self,
        reading: &Reading<'_>,
        mut take: impl FnMut(&ReportEntry, ImageReport) -> Result<(), NotRead>,
    ) -> Result<bool, NotRead> {
        let mut read = Vec::with_capacity(self.entries.len());
        for entries in &self.entries {
            let facts = reading.first(entries, |entry, report| {
                let facts = Facts::of(&report);
                take(entry, report)?;
                Ok((entry.clone(), facts))
            })?;
            let Some(facts) = facts else { return Ok(false) };
            read.push(facts);
        }
        Ok(self.ground(read.iter().map(|(entry, facts)| (entry, facts))).is_some())
    }

    /// What an answer rests on that is made of these reports. `None` where they say nothing about the images of the
    /// digest.
    fn ground<'f>(&self, read: impl Iterator<Item = (&'f ReportEntry, &'f Facts)> + Clone) -> Option<Ground> {
        // The report of an index says nothing about its images.
        if !self.is_noted && read.clone().any(|(_, facts)| facts.may_be_index) {
            return None;
        }
        let of_older_key = read.clone().filter(|(entry, _)| entry.key != self.key);
        let outdated_since = of_older_key.map(|(entry, _)| superseded(entry, &self.served)).min();
        // The oldest one is what the answer rests on.
        let (entry, facts) = read.min_by_key(|(entry, _)| (entry.key == self.key, entry.stored_at))?;
        let basis = Basis {
            ruleset: facts.ruleset.clone(),
            reader_revision: facts.reader_revision,
            scanned_at: entry.stored_at,
            is_outdated: outdated_since.is_some(),
            attestation: None,
        };
        Some(Ground { basis, outdated_since })
    }
}

impl Facts {
    fn of(report: &ImageReport) -> Facts {
        Facts {
            ruleset: report.tool.ruleset.clone(),
            reader_revision: report.tool.reader_revision,
            may_be_index: report.kind == ReportKind::Artifact && report.layers.is_empty(),
        }
    }
}

impl WholeReports {
    /// The reports, if all are under the present key, with the time of the oldest where they do not have their own.
    pub(crate) fn present(mut self) -> Option<WholeReports> {
        let scanned_at = Timestamp::from_second(self.ground.basis.scanned_at).ok();
        self.reports.iter_mut().for_each(|report| report.scanned_at = report.scanned_at.or(scanned_at));
        self.ground.outdated_since.is_none().then_some(self)
    }
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
fn superseded(report: &ReportEntry, served: &[(LayerKey, Seconds)]) -> Seconds {
    let until = served.iter().find(|(key, _)| *key == report.key).map_or(report.stored_at, |(_, until)| *until);
    until.max(report.stored_at)
}
