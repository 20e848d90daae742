//! What the reports of all images of one target may take together. An archive or an index may name a thousand images
//! with the same layers, in a few kilobytes, and each report has the findings of all of its layers.
//!
//! Images take from the budget in their order. Where it is used up, every image has a little all the same: its gravest
//! findings, and a gap. Which those are depends on the target alone
//! ([095](../../../docs/decisions/095-bound-the-reports-of-a-target.md)).

use std::sync::Arc;

use layersift_model::{Footprint, Gap, GapReason, ImageGap, LayerReport, Limits};

use crate::assemble::work::{LOOKS, Work};

/// What every image may take: bytes of findings and of gaps, looks at directories, and work of its configuration.
const LEAST: TargetBudget =
    TargetBudget { finding_bytes: 16 << 10, gap_bytes: 4 << 10, looks: 5_000, configuration_work: 500_000, records: 0 };

/// What remains of the looks once the scan was cancelled: half a second.
const LOOKS_IN_A_HURRY: u64 = 500_000;

/// The looks that each finding of the layers of an image takes: it is chosen, named and masked anew in each report.
const FINDING: u64 = 2;

/// The work of the configurations of a target beyond [`LEAST`], as that of several layers.
const CONFIGURATIONS: u64 = 8;

/// What is left for the images that follow.
#[derive(Clone, Debug)]
pub(crate) struct TargetBudget {
    finding_bytes: u64,
    gap_bytes: u64,
    looks: u64,
    configuration_work: u64,
    records: usize,
}

impl TargetBudget {
    /// What `limits` permit.
    pub(crate) fn new(limits: &Limits) -> TargetBudget {
        TargetBudget {
            finding_bytes: limits.image_finding_bytes,
            // Gaps are small, and images of a store have many that differ.
            gap_bytes: limits.gap_bytes.saturating_mul(16),
            looks: LOOKS,
            configuration_work: limits.layer_work.saturating_mul(CONFIGURATIONS),
            records: limits.target_packages,
        }
    }

    /// Leaves only the work of a short time.
    pub(crate) fn hurry(&mut self) {
        self.looks = self.looks.min(LOOKS_IN_A_HURRY);
    }

    /// Takes the work of the findings and gaps of an image with these `layers`: a gap takes one look, as it is named
    /// and ranked anew in each report. If none is left, each layer becomes a gap.
    pub(crate) fn begin_image(&mut self, layers: &mut [Result<Arc<LayerReport>, Gap>]) {
        let findings: usize = layers.iter().flatten().map(|report| report.findings.len()).sum();
        let gaps: usize = layers.iter().flatten().map(|report| report.gaps.len()).sum();
        if self.looks == 0 && findings + gaps > 0 {
            let detail = "the images of this target have too many findings or gaps; those of this image are not known";
            layers.fill(Err(Gap::new(GapReason::TooManyFindings, detail)));
        }
        self.looks = self.looks.saturating_sub(findings as u64 * FINDING + gaps as u64);
    }

    /// Takes the work of the gaps of an image whose layers have so many. Returns whether they may be listed.
    pub(crate) fn begin_inventory(&mut self, gaps: usize) -> bool {
        let is_permitted = self.looks > 0 || gaps == 0;
        self.looks = self.looks.saturating_sub(gaps as u64);
        is_permitted
    }

    /// The bytes that the findings of the next image may take.
    pub(crate) fn finding_bytes(&self) -> u64 {
        self.finding_bytes.max(LEAST.finding_bytes)
    }

    /// The bytes that the gaps of the next image may take, which are at most `most`.
    pub(crate) fn gap_bytes(&self, most: u64) -> u64 {
        self.gap_bytes.clamp(LEAST.gap_bytes.min(most), most)
    }

    /// The work of joining the layers of the next image.
    pub(crate) fn join(&self) -> Work {
        Work::of(self.looks.max(LEAST.looks))
    }

    /// The work that scanning the next configuration may take, which is at most `most`.
    pub(crate) fn configuration_work(&self, most: u64) -> u64 {
        self.configuration_work.clamp(LEAST.configuration_work.min(most), most)
    }

    /// The packages and marks of AI that the inventory of the next image may list.
    pub(crate) fn records(&self) -> usize {
        self.records
    }

    /// Takes what an inventory lists.
    pub(crate) fn take_records(&mut self, records: usize) {
        self.records = self.records.saturating_sub(records);
    }

    /// Takes the gaps of a report, and the work of joining its layers.
    pub(crate) fn take_report(&mut self, gaps: &[ImageGap], work: &Work) {
        self.gap_bytes = self.gap_bytes.saturating_sub(gaps.iter().map(Footprint::footprint).sum());
        self.looks = self.looks.saturating_sub(work.taken());
    }

    /// Takes the bytes of findings.
    pub(crate) fn take_findings(&mut self, bytes: u64) {
        self.finding_bytes = self.finding_bytes.saturating_sub(bytes);
    }

    /// Takes the work of scanning a configuration.
    pub(crate) fn take_configuration(&mut self, work: u64) {
        self.configuration_work = self.configuration_work.saturating_sub(work);
    }
}
