//! Manifests, indexes and descriptors of registries, as far as attestations need them. What others wrote in them is
//! kept. The order of the fields is that of the recordings.

use std::collections::BTreeMap;

use layersift_model::{Digest, parse};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The media type of a manifest.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// The media type of an index.
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const IMAGE_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(crate) const EMPTY_CONFIG: &str = "application/vnd.oci.empty.v1+json";

/// A reference to a document or blob.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// The media type.
    pub media_type: String,
    /// The digest.
    pub digest: Digest,
    /// The size in bytes.
    pub size: u64,
    /// What kind of artifact a manifest is; often wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// Annotations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
    /// Other fields, such as a platform.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl Descriptor {
    /// The descriptor of `bytes`.
    pub fn of(media_type: &str, bytes: &[u8]) -> Descriptor {
        let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        Descriptor {
            media_type: media_type.into(),
            digest: Digest::of(bytes),
            size,
            artifact_type: None,
            annotations: None,
            other: Map::new(),
        }
    }
}

/// Bytes with their media type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// The media type.
    pub media_type: String,
    /// The bytes.
    pub bytes: Vec<u8>,
}

impl Document {
    /// The descriptor of the document.
    pub fn descriptor(&self) -> Descriptor {
        Descriptor::of(&self.media_type, &self.bytes)
    }
}

/// A manifest.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Manifest {
    pub(crate) schema_version: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) media_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) artifact_type: Option<String>,
    pub(crate) config: Descriptor,
    #[serde(default, deserialize_with = "or_null")]
    pub(crate) layers: Vec<Descriptor>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) subject: Option<Descriptor>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) annotations: Option<BTreeMap<String, String>>,
    #[serde(flatten)]
    pub(crate) other: Map<String, Value>,
}

/// An index.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Index {
    pub(crate) schema_version: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) media_type: Option<String>,
    #[serde(default, deserialize_with = "or_null")]
    pub(crate) manifests: Vec<Descriptor>,
    #[serde(flatten)]
    pub(crate) other: Map<String, Value>,
}

impl Index {
    /// The index in `document`, if it is one; cosign does not see those of Docker's media type.
    pub(crate) fn parse(document: &Document) -> Option<Index> {
        if document.media_type != INDEX {
            return None;
        }
        let index: Index = parse::json(&document.bytes).ok()?;
        let is_index = index.media_type.as_deref().is_none_or(|kind| kind == INDEX) && index.schema_version == 2;
        let is_image = index.manifests.is_empty() && index.other.contains_key("layers");
        (is_index && !is_image).then_some(index)
    }

    pub(crate) fn empty() -> Index {
        Index { schema_version: 2, media_type: Some(INDEX.into()), manifests: Vec::new(), other: Map::new() }
    }
}

/// A list that some registries write as `null` when it is empty.
fn or_null<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<Descriptor>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}
