//! Chooses the findings of an image that its report has room for: all of them, or else the gravest.

use std::cmp::Ordering;
use std::mem::size_of;
use std::sync::Arc;

use layersift_model::{FileLocation, Finding, Footprint, LayerFinding, LayerReport, LayerSummary, PathKey};

use layersift_model::{Rank, Ranked};

/// The findings of each layer in their order, and how many were left out. They take `limit` bytes at most, in memory
/// and in the report of the image, whose `layers` are named by every finding.
pub(super) fn choose<'r>(
    reports: &'r [Option<Arc<LayerReport>>],
    layers: &[LayerSummary],
    limit: u64,
) -> (Vec<Vec<&'r LayerFinding>>, u64) {
    let all = || {
        reports.iter().enumerate().flat_map(|(layer, report)| {
            let findings = report.iter().flat_map(|report| &report.findings).enumerate();
            let name = layers.get(layer).map_or(0, name_bytes);
            findings.map(move |(index, finding)| Candidate { layer, index, finding, name })
        })
    };
    let mut chosen: Vec<Vec<&LayerFinding>> = vec![Vec::new(); reports.len()];
    if all().map(|one| one.footprint()).sum::<u64>() <= limit {
        all().for_each(|one| chosen[one.layer].push(one.finding));
        return (chosen, 0);
    }
    let mut gravest = Ranked::new(usize::MAX, limit);
    all().for_each(|one| gravest.add(one));
    let (mut gravest, dropped) = gravest.into_parts();
    gravest.sort_by_key(|one| (one.layer, one.index));
    gravest.into_iter().for_each(|one| chosen[one.layer].push(one.finding));
    (chosen, dropped)
}

/// The bytes of what a finding repeats of its layer.
fn name_bytes(layer: &LayerSummary) -> u64 {
    const DIGESTS: usize = 256;
    (DIGESTS + layer.created_by.as_ref().map_or(0, String::len)) as u64
}

struct Candidate<'r> {
    layer: usize,
    index: usize,
    finding: &'r LayerFinding,
    name: u64,
}

impl Footprint for Candidate<'_> {
    /// In the report of the image, and what it takes to follow it through the layers.
    fn footprint(&self) -> u64 {
        let path = self.finding.place.path.as_bytes();
        let keys = (memchr::memchr_iter(b'/', path).count() + 2) * size_of::<PathKey>();
        let fixed = size_of::<Finding>() + size_of::<FileLocation>() + keys;
        self.finding.footprint() + self.name + (fixed + path.len()) as u64
    }
}

impl Rank for Candidate<'_> {
    fn rank(&self, other: &Self) -> Ordering {
        let grave = |one: &Self| (one.finding.severity, one.finding.rule.confidence);
        let place = |one: &Self| (one.layer, one.index);
        grave(other).cmp(&grave(self)).then_with(|| place(self).cmp(&place(other)))
    }
}
