//! The report of one image: the result of a scan, and the verdict of a policy on it.
//!
//! This is what the program stores, judges, compares and writes. Its serde form is the JSON report, schema 1; see
//! `report_json.rs`.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::build::{BuildStep, FixPatch, ImageBase, LayerOrigin};
use crate::digest::Digest;
use crate::finding::{Finding, Location};
use crate::gap::Gap;
use crate::verdict::{Judgement, Verdict};

/// A layer in the report of an image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LayerSummary {
    /// Its position, from 0 at the base.
    pub index: usize,
    /// The digest of its blob; if the layer was not read, the digest that the manifest names.
    pub digest: Option<Digest>,
    /// The digest of its uncompressed bytes.
    pub diff_id: Option<Digest>,
    /// The media type that the manifest names.
    pub media_type: Option<String>,
    /// The instruction that created it, secrets masked.
    pub created_by: Option<String>,
    /// When it was created, as the history says; the builder may have set any time.
    pub created_at: Option<Timestamp>,
    /// Whether the layer was read. The contents of an unread layer are unknown.
    pub is_read: bool,
    /// Entries of any kind in it.
    pub entries: u64,
    /// Regular files in it.
    pub files: u64,
    /// Its uncompressed size in bytes.
    pub bytes: u64,
    /// Its stored size in bytes.
    pub stored_bytes: u64,
    /// The paths that it removes from the layers below; an opaque directory ends in `/`.
    pub whiteouts: Vec<String>,
    /// The number of bytes after the end of its archive, which runtimes ignore and which were scanned.
    pub bytes_after_end: u64,
    /// Whether it is one of the base image; `None` if that is not known.
    pub origin: Option<LayerOrigin>,
    /// The instruction that made it.
    pub step: Option<BuildStep>,
}

/// Bytes of an image that were not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageGap {
    /// The gap.
    pub gap: Gap,
    /// The index of their layer, if they are in one.
    pub layer: Option<usize>,
}

/// The program that wrote a report. Fields may be empty: reproducible reports omit versions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tool {
    /// The version of the program.
    pub version: String,
    /// The digest of the rules.
    pub ruleset: String,
    /// The name and version of the pattern engine.
    pub engine: String,
    /// The reader revision; see `layersift_scan::READER_REVISION`.
    pub reader_revision: Option<u32>,
    /// The id of the fingerprint key; see [`crate::FingerprintKey::id`].
    pub fingerprint_key: Option<String>,
}

/// What was scanned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum ReportKind {
    /// A container image, or a root file system.
    #[default]
    Image,
    /// Other files of a registry: a chart, a signature, a model, an index.
    Artifact,
    /// The cache of a builder.
    Cache,
    /// The files of a container, in the store of an engine.
    Container,
    /// The files of a volume, in the store of an engine.
    Volume,
    /// Files in the store of an engine that belong to no image, container or volume.
    Orphan,
}

/// The report of one image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageReport {
    /// The target, as given on the command line.
    pub target: String,
    /// The name of the image.
    pub reference: Option<String>,
    /// The digest of its manifest.
    pub manifest_digest: Option<Digest>,
    /// The digest of its configuration.
    pub config_digest: Option<Digest>,
    /// `os/architecture[/variant]`.
    pub platform: Option<String>,
    /// The platforms of its index that were not read.
    pub other_platforms: Vec<String>,
    /// What it is: `image`, `artifact` or `cache`.
    pub kind: ReportKind,
    /// What a reader should know besides, such as platforms that contradict each other.
    pub notes: Vec<String>,
    /// The image that it is based on.
    pub base: Option<ImageBase>,
    /// Whether what refers to the image, such as signatures, was left out on purpose.
    pub without_referrers: bool,
    /// The program that wrote the report.
    pub tool: Tool,
    /// When the scan began.
    pub scanned_at: Option<Timestamp>,
    /// The duration of the scan of the whole target, in milliseconds.
    pub milliseconds: Option<u64>,
    /// Its layers, base first.
    pub layers: Vec<LayerSummary>,
    /// The findings in files by layer, path and offset, followed by those in documents, in the configuration and by
    /// combinations.
    pub findings: Vec<Finding>,
    /// What was not read.
    pub gaps: Vec<ImageGap>,
    /// Proposed changes of the Dockerfile.
    pub patches: Vec<FixPatch>,
    /// The verdict of a policy; `None` until one was applied.
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

    /// Whether the report is empty: no configuration, no layer entry, no gap.
    pub fn is_empty(&self) -> bool {
        self.config_digest.is_none()
            && self.manifest_digest.is_none()
            && self.gaps.is_empty()
            && self.layers.iter().all(|layer| layer.entries == 0)
    }

    /// The verdict; [`Verdict::Incomplete`] if no policy was applied.
    pub fn verdict(&self) -> Verdict {
        self.judgement.as_ref().map_or(Verdict::Incomplete, |judgement| judgement.verdict)
    }

    /// Sets the image that this one is based on, and with it whether layers and the findings in their files came with
    /// it. That of findings in the configuration, which no layer tells, is kept if the number of layers stays the same.
    pub fn set_base(&mut self, base: ImageBase) {
        let before = self.base.as_ref().and_then(|base| base.layers);
        let origin =
            |index: usize| base.layers.map(|layers| if index < layers { LayerOrigin::Base } else { LayerOrigin::Own });
        for layer in &mut self.layers {
            layer.origin = origin(layer.index);
        }
        for finding in &mut self.findings {
            match &finding.location {
                Location::File(file) => finding.origin = origin(file.layer.index),
                _ if before.is_some() && before != base.layers => finding.origin = None,
                _ => {}
            }
        }
        self.base = Some(base);
    }

    /// Removes versions, times and durations, so that two reports of the same image are equal.
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
