//! The list of what changed, which is written as JSON.

use std::fmt;

use layersift_model::Digest;
use serde::{Deserialize, Serialize};

/// The version of the list's form.
pub(crate) const SCHEMA: u32 = 1;

/// What was changed in an image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changes {
    /// The version of this form.
    pub schema: u32,
    /// The version of the program.
    pub tool: String,
    /// The image that was read.
    pub source: String,
    /// The image that was written.
    pub output: String,
    /// The manifest or index that the name of the image led to. Its old digest is `None` if the source had none, as in
    /// a Docker archive.
    pub root: Replaced,
    /// Manifests and indexes that changed, the root among them.
    pub manifests: Vec<Replaced>,
    /// Configurations that changed.
    pub configs: Vec<Replaced>,
    /// Layers that changed.
    pub layers: Vec<LayerChange>,
    /// What was done, place by place.
    pub places: Vec<Place>,
    /// Documents of the old image that the new one does not have.
    pub dropped: Vec<Dropped>,
    /// What else leads to the value, or holds it, and can be pulled by way of the old image: the index that a platform
    /// was taken out of, its other platforms, and what refers to the image.
    pub held: Vec<Held>,
    /// What can be pulled by way of the old image, and was not read.
    pub unread: Vec<String>,
    /// The keyed fingerprints of the secrets that were blanked.
    pub fingerprints: Vec<String>,
}

/// A document or blob that is not a part of what was rewritten.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Held {
    /// Its digest.
    pub digest: Digest,
    /// What it is.
    pub kind: HeldKind,
}

/// Whether something is a manifest, which a registry keeps apart, or any other blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HeldKind {
    /// A manifest or an index.
    Manifest,
    /// A layer, a configuration or another blob.
    Blob,
}

/// A document that another one took the place of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replaced {
    /// The old digest.
    pub old: Option<Digest>,
    /// The new digest.
    pub new: Option<Digest>,
}

/// A layer that another one took the place of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerChange {
    /// The digest of the old blob.
    pub old: Digest,
    /// The digest of its uncompressed bytes.
    pub old_diff_id: Digest,
    /// The digest of the new blob.
    pub new: Digest,
    /// The digest of its uncompressed bytes.
    pub new_diff_id: Digest,
    /// `plain`, `gzip` or `zstd`.
    pub compression: String,
}

/// What was done in one place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    /// What was done.
    pub action: Action,
    /// The layer, configuration or document, by its old digest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blob: Option<Digest>,
    /// The path of the file, or of the value in JSON.
    pub path: String,
    /// The index of the entry in the layer's archive, from 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entry: Option<u32>,
    /// The offset in the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    /// The number of bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub length: Option<u64>,
    /// The keyed fingerprint of the secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
    /// What a reader should know besides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// What was done in a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// A file was removed from a layer.
    Removed,
    /// A file was removed from a layer, and a whiteout keeps what lower layers have there hidden.
    RemovedWithWhiteout,
    /// A value in a file became filler.
    Blanked,
    /// A value in a document became filler.
    Masked,
    /// An annotation that describes the old layer was removed.
    AnnotationRemoved,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Action::Removed => "removed",
            Action::RemovedWithWhiteout => "removed, with a whiteout in its place",
            Action::Blanked => "blanked",
            Action::Masked => "masked",
            Action::AnnotationRemoved => "removed an annotation of the old layer",
        })
    }
}

/// A document that the new image does not have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dropped {
    /// Its digest.
    pub digest: Digest,
    /// What it is.
    pub kind: String,
    /// Why it was dropped.
    pub why: String,
    /// The blobs that it names.
    pub blobs: Vec<Digest>,
}

impl Changes {
    /// Every blob of the old image that has to be gone before the secret is, the manifests apart.
    pub fn old_blobs(&self) -> Vec<Digest> {
        let configs = self.configs.iter().filter_map(|config| config.old.clone());
        let layers = self.layers.iter().map(|layer| layer.old.clone());
        let dropped = self.dropped.iter().flat_map(|dropped| dropped.blobs.iter().cloned());
        distinct(layers.chain(configs).chain(dropped).chain(self.held(HeldKind::Blob)))
    }

    /// Every manifest and index of the old image that has to be gone.
    pub fn old_manifests(&self) -> Vec<Digest> {
        let manifests = self.manifests.iter().chain([&self.root]).filter_map(|manifest| manifest.old.clone());
        let dropped = self.dropped.iter().map(|dropped| dropped.digest.clone());
        distinct(manifests.chain(dropped).chain(self.held(HeldKind::Manifest)))
    }

    /// The paths of the files that were removed.
    pub fn removed_paths(&self) -> impl Iterator<Item = &str> {
        removed_paths(&self.places)
    }

    fn held(&self, kind: HeldKind) -> impl Iterator<Item = Digest> {
        self.held.iter().filter(move |held| held.kind == kind).map(|held| held.digest.clone())
    }

    /// Whether it is a list of the form that this version writes.
    pub fn is_of_this_form(&self) -> bool {
        self.schema == SCHEMA
    }

    /// Whether anything changed.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty() && self.dropped.is_empty()
    }
}

/// The paths of the files that were removed, among `places`.
pub(crate) fn removed_paths(places: &[Place]) -> impl Iterator<Item = &str> {
    let removed = |place: &&Place| matches!(place.action, Action::Removed | Action::RemovedWithWhiteout);
    places.iter().filter(removed).map(|place| &place.path[..])
}

fn distinct(all: impl Iterator<Item = Digest>) -> Vec<Digest> {
    let mut known: Vec<Digest> = Vec::new();
    for digest in all {
        if !known.contains(&digest) {
            known.push(digest);
        }
    }
    known
}
