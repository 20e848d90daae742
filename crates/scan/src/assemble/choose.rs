//! Chooses the findings of an image that its report has room for: all of them, or else the gravest.

use std::cmp::{Ordering, Reverse};
use std::mem::size_of;
use std::sync::Arc;

use layersift_model::{FileLocation, Finding, Footprint, LayerFinding, LayerReport, LayerSummary, PathKey};

use layersift_model::{Rank, Ranked};

/// The findings in files that the report of an image has.
pub(super) struct Chosen<'r> {
    /// Those of each layer, in their order.
    pub(super) findings: Vec<Vec<&'r LayerFinding>>,
    /// The bytes that they take.
    pub(super) bytes: u64,
    /// How many were left out.
    pub(super) left_out: u64,
}

/// Chooses findings that take `limit` bytes at most, in memory and in the report of the image, whose `layers` are named
/// by every finding.
pub(super) fn choose<'r>(reports: &'r [Option<Arc<LayerReport>>], layers: &[LayerSummary], limit: u64) -> Chosen<'r> {
    let all = || {
        reports.iter().enumerate().flat_map(|(layer, report)| {
            let findings = report.iter().flat_map(|report| &report.findings).enumerate();
            let name = layers.get(layer).map_or(0, name_bytes);
            findings.map(move |(index, finding)| Candidate { layer, index, finding, name })
        })
    };
    let mut findings: Vec<Vec<&LayerFinding>> = vec![Vec::new(); reports.len()];
    let bytes = all().map(|one| one.footprint()).sum::<u64>();
    if bytes <= limit {
        all().for_each(|one| findings[one.layer].push(one.finding));
        return Chosen { findings, bytes, left_out: 0 };
    }
    let mut gravest = Ranked::new(usize::MAX, limit);
    all().for_each(|one| gravest.add(one));
    let (mut gravest, left_out) = gravest.into_parts();
    let bytes = gravest.iter().map(Footprint::footprint).sum();
    gravest.sort_by_key(|one| (one.layer, one.index));
    gravest.into_iter().for_each(|one| findings[one.layer].push(one.finding));
    Chosen { findings, bytes, left_out }
}

/// Drops the least grave of `findings` beyond `limit` bytes, and returns how many. The gravest stays in any case.
pub(super) fn keep_gravest(findings: &mut Vec<Finding>, limit: u64) -> u64 {
    if findings.iter().map(Footprint::footprint).sum::<u64>() <= limit {
        return 0;
    }
    let before = findings.len();
    findings.sort_by_key(|one| Reverse((one.severity, one.rule.confidence)));
    let mut bytes = 0_u64;
    let fitting = findings.iter().take_while(|one| {
        bytes = bytes.saturating_add(one.footprint());
        bytes <= limit
    });
    let fitting = fitting.count().max(1);
    findings.truncate(fitting);
    (before - findings.len()) as u64
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
