//! What a scan says of one image.

use crate::digest::Digest;
use crate::finding::Finding;
use crate::gap::Gap;

/// A layer of an image, as reports list it.
#[derive(Clone, Debug)]
pub struct LayerLine {
    /// Its place, from 0 at the base.
    pub index: usize,
    /// The digest of its blob; the one found, or the one the manifest names where it was not read.
    pub digest: Option<Digest>,
    /// The digest of its uncompressed bytes.
    pub diff_id: Option<Digest>,
    /// The media type that the manifest names.
    pub media_type: Option<String>,
    /// The instruction that made it, secrets masked.
    pub created_by: Option<String>,
    /// Entries of any kind in it.
    pub entries: u64,
    /// Regular files in it.
    pub files: u64,
    /// Its uncompressed size in bytes.
    pub bytes: u64,
    /// Its size as it is stored, in bytes.
    pub blob_bytes: u64,
    /// Paths that it removes from the layers below; an opaque directory ends in `/`.
    pub whiteouts: Vec<String>,
}

/// Bytes of an image that were not looked at.
#[derive(Clone, Debug)]
pub struct ImageGap {
    /// Why.
    pub gap: Gap,
    /// The layer they are in, where they are in one.
    pub layer: Option<usize>,
}

/// What a scan says of one image.
#[derive(Clone, Debug, Default)]
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
    /// The digest of the rules.
    pub ruleset: String,
    /// The name and version of the engine that proposed the findings.
    pub engine: String,
    /// Its layers, base first.
    pub layers: Vec<LayerLine>,
    /// What was found: by layer, path and offset; the configuration and chains behind.
    pub findings: Vec<Finding>,
    /// What was not looked at.
    pub gaps: Vec<ImageGap>,
    /// How long the scan took, in seconds; of the whole target where it holds several images.
    pub seconds: f64,
}

impl ImageReport {
    /// Regular files in all layers.
    pub fn files(&self) -> u64 {
        self.layers.iter().map(|layer| layer.files).sum()
    }

    /// Whether nothing is known of the image: no configuration, no entry in a layer, no gap.
    pub fn is_empty(&self) -> bool {
        self.config_digest.is_none() && self.gaps.is_empty() && self.layers.iter().all(|layer| layer.entries == 0)
    }

    /// Uncompressed bytes of all layers.
    pub fn bytes(&self) -> u64 {
        self.layers.iter().map(|layer| layer.bytes).sum()
    }
}
