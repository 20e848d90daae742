//! The report of one image: everything that a scan says of it, and what a policy makes of that.
//!
//! This is what the program stores, judges, compares and writes. Its serde form is the JSON report, schema 1; see
//! `report_json.rs`.

use jiff::Timestamp;

use crate::digest::Digest;
use crate::finding::Finding;
use crate::gap::Gap;
use crate::verdict::{Judgement, Verdict};

/// A layer of an image, as reports list it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LayerSummary {
    /// Its position, from 0 at the base.
    pub index: usize,
    /// The digest of its blob; the one the manifest names where the layer was not read.
    pub digest: Option<Digest>,
    /// The digest of its uncompressed bytes.
    pub diff_id: Option<Digest>,
    /// The media type that the manifest names.
    pub media_type: Option<String>,
    /// The instruction that made it, secrets masked.
    pub created_by: Option<String>,
    /// Whether the layer was read. What a layer that was not read holds is not known.
    pub is_read: bool,
    /// Entries of any kind in it.
    pub entries: u64,
    /// Regular files in it.
    pub files: u64,
    /// Its uncompressed size in bytes.
    pub bytes: u64,
    /// Its stored size in bytes.
    pub stored_bytes: u64,
    /// Paths that it removes from the layers below; an opaque directory ends in `/`.
    pub whiteouts: Vec<String>,
}

/// Bytes of an image that were not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageGap {
    /// Why, and which bytes.
    pub gap: Gap,
    /// The layer they are in, where they are in one.
    pub layer: Option<usize>,
}

/// What made a report. Everything but the name may be empty: reports for comparison leave versions out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tool {
    /// The version of the program.
    pub version: String,
    /// The digest of the rules.
    pub ruleset: String,
    /// The name and version of the pattern engine.
    pub engine: String,
    /// The revision of what is read of an image; see `layersift_scan::READER_REVISION`.
    pub reader_revision: Option<u32>,
    /// The id of the key that secrets were fingerprinted with; see [`crate::FingerprintKey::id`].
    pub fingerprint_key: Option<String>,
}

/// The report of one image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageReport {
    /// The target as it was written.
    pub target: String,
    /// The name that the image goes by.
    pub reference: Option<String>,
    /// The digest of its manifest.
    pub manifest_digest: Option<Digest>,
    /// The digest of its configuration.
    pub config_digest: Option<Digest>,
    /// `os/architecture[/variant]`.
    pub platform: Option<String>,
    /// What made the report.
    pub tool: Tool,
    /// When the scan began.
    pub scanned_at: Option<Timestamp>,
    /// How long the scan of the whole target took, in milliseconds.
    pub milliseconds: Option<u64>,
    /// Its layers, base first.
    pub layers: Vec<LayerSummary>,
    /// What was found, ordered by layer, path and offset; then the configuration and combinations.
    pub findings: Vec<Finding>,
    /// What was not read.
    pub gaps: Vec<ImageGap>,
    /// What a policy says of it; `None` until one was applied.
    pub judgement: Option<Judgement>,
}

impl ImageReport {
    /// Regular files in all layers.
    pub fn files(&self) -> u64 {
        self.layers.iter().map(|layer| layer.files).sum()
    }

    /// Uncompressed bytes of all layers.
    pub fn bytes(&self) -> u64 {
        self.layers.iter().map(|layer| layer.bytes).sum()
    }

    /// Whether nothing is known of the image: no configuration, no entry in a layer, no gap.
    pub fn is_empty(&self) -> bool {
        self.config_digest.is_none() && self.gaps.is_empty() && self.layers.iter().all(|layer| layer.entries == 0)
    }

    /// The verdict; [`Verdict::Incomplete`] where no policy was applied.
    pub fn verdict(&self) -> Verdict {
        self.judgement.as_ref().map_or(Verdict::Incomplete, |judgement| judgement.verdict)
    }

    /// Removes versions, times and durations, so that two reports of the same image are the same.
    pub fn make_reproducible(&mut self) {
        self.tool.version.clear();
        self.tool.engine.clear();
        self.scanned_at = None;
        self.milliseconds = None;
    }

    /// Removes the values of secrets.
    pub fn remove_secret_values(&mut self) {
        for secret in self.findings.iter_mut().filter_map(|finding| finding.secret.as_mut()) {
            secret.value = None;
        }
    }
}
