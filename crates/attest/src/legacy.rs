//! The form before bundles: envelopes as the layers of a manifest under the tag `sha256-<hex>.att`, which all
//! attestations of an image share. Layers are appended, and those of others are kept.

use std::collections::BTreeMap;

use layersift_model::parse;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::dsse::{Envelope, EnvelopeError};
use crate::encoding::{Base64, base64};
use crate::oci::{Descriptor, Document, IMAGE_CONFIG, MANIFEST, Manifest};

/// The media type of a layer.
const ENVELOPE: &str = "application/vnd.dsse.envelope.v1+json";
/// Cosign refuses a layer without it. For an attestation it is empty.
const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
pub(crate) const PREDICATE_TYPE: &str = "predicateType";
const TIMESTAMP: &str = "dev.sigstore.cosign/rfc3161timestamp";
const REKOR_BUNDLE: &str = "dev.sigstore.cosign/bundle";
/// As many layers as cosign reads.
pub(crate) const MOST_LAYERS: usize = 1000;

/// Why a `.att` manifest or one of its layers is not accepted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LegacyError {
    /// The tag holds something else.
    #[error("the tag for attestations does not hold a manifest")]
    NotAManifest,
    /// More layers than cosign reads.
    #[error("{0} attestations are attached, and cosign reads no more than {MOST_LAYERS}")]
    TooMany(usize),
    /// A layer that cosign refuses.
    #[error("the layer lacks the annotation {SIGNATURE}")]
    NoSignatureAnnotation,
    /// A proof of a transparency log that is not JSON.
    #[error("the annotation {REKOR_BUNDLE} of the layer is not JSON")]
    RekorBundle,
    /// The envelope in a layer.
    #[error("the envelope in the layer is refused")]
    Envelope(#[source] EnvelopeError),
    /// It cannot be written.
    #[error("the manifest cannot be written")]
    Write(#[source] serde_json::Error),
}

/// An envelope that is a layer, with its time stamp.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// The signed statement.
    pub envelope: Envelope,
    /// The response of a time stamp authority over the bytes of the layer; not checked yet.
    pub timestamp: Option<Vec<u8>>,
}

/// A layer to be appended: its blob and its descriptor.
#[derive(Clone, Debug)]
pub struct NewLayer {
    pub(crate) blob: Document,
    pub(crate) descriptor: Descriptor,
}

impl Layer {
    /// The layer `blob` that a manifest describes so.
    ///
    /// # Errors
    /// If cosign refuses it.
    pub fn parse(descriptor: &Descriptor, blob: &[u8]) -> Result<Layer, LegacyError> {
        let annotation = |name: &str| descriptor.annotations.as_ref().and_then(|all| all.get(name));
        if annotation(SIGNATURE).is_none() {
            return Err(LegacyError::NoSignatureAnnotation);
        }
        let is_json = |text: &String| text.is_empty() || parse::json::<Value>(text).is_ok();
        if !annotation(REKOR_BUNDLE).is_none_or(is_json) {
            return Err(LegacyError::RekorBundle);
        }
        let stamp = annotation(TIMESTAMP).and_then(|text| parse::json::<Stamp>(text).ok());
        let timestamp = stamp.and_then(|stamp| Base64::Standard.decode(&stamp.token));
        Ok(Layer { envelope: Envelope::parse(blob).map_err(LegacyError::Envelope)?, timestamp })
    }

    /// The layer as it is appended to a manifest.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn to_append(&self, predicate_type: &str) -> serde_json::Result<NewLayer> {
        let blob = Document { media_type: ENVELOPE.into(), bytes: self.envelope.to_json()?.into_bytes() };
        let mut annotations =
            BTreeMap::from([(SIGNATURE.into(), String::new()), (PREDICATE_TYPE.into(), predicate_type.into())]);
        if let Some(token) = &self.timestamp {
            annotations.insert(TIMESTAMP.into(), serde_json::to_string(&Stamp { token: base64(token) })?);
        }
        let mut descriptor = blob.descriptor();
        descriptor.annotations = Some(annotations);
        Ok(NewLayer { blob, descriptor })
    }
}

/// What has to be written so that the tag has `layers` after those of the manifest `before`: the configuration, and the
/// manifest.
///
/// # Errors
/// If the tag holds something else, or would have more layers than cosign reads.
pub(crate) fn append(before: Option<&Document>, layers: &[Descriptor]) -> Result<(Document, Document), LegacyError> {
    let mut manifest = match before {
        Some(document) => parse(document)?,
        None => first_manifest(),
    };
    manifest.layers.extend_from_slice(layers);
    if manifest.layers.len() > MOST_LAYERS {
        return Err(LegacyError::TooMany(manifest.layers.len()));
    }
    let config = pseudo_config(&manifest.layers).map_err(LegacyError::Write)?;
    manifest.config = config.descriptor();
    let media_type = before.map_or(MANIFEST, |document| document.media_type.as_str()).into();
    let bytes = serde_json::to_vec(&manifest).map_err(LegacyError::Write)?;
    Ok((config, Document { media_type, bytes }))
}

fn first_manifest() -> Manifest {
    Manifest {
        schema_version: 2,
        media_type: Some(MANIFEST.into()),
        artifact_type: None,
        config: Descriptor::of(IMAGE_CONFIG, b""),
        layers: Vec::new(),
        subject: None,
        annotations: None,
        other: Map::new(),
    }
}

impl NewLayer {
    /// What is written for an image that has no attestation yet: the blob of the layer, the configuration, and the
    /// manifest.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn artifact(&self) -> Result<(Vec<Document>, Document), LegacyError> {
        let (config, manifest) = append(None, std::slice::from_ref(&self.descriptor))?;
        Ok((vec![self.blob.clone(), config], manifest))
    }
}

/// The layers of a `.att` manifest.
///
/// # Errors
/// If it is not a manifest, or has more layers than cosign reads.
pub fn legacy_layers(document: &Document) -> Result<Vec<Descriptor>, LegacyError> {
    let layers = parse(document)?.layers;
    if layers.len() > MOST_LAYERS { Err(LegacyError::TooMany(layers.len())) } else { Ok(layers) }
}

fn parse(document: &Document) -> Result<Manifest, LegacyError> {
    let manifest: Manifest = parse::json(&document.bytes).map_err(|_| LegacyError::NotAManifest)?;
    if manifest.other.contains_key("manifests") { Err(LegacyError::NotAManifest) } else { Ok(manifest) }
}

/// The configuration that cosign writes. It has to be an image's, because cosign rewrites it as one.
fn pseudo_config(layers: &[Descriptor]) -> serde_json::Result<Document> {
    const NEVER: &str = "0001-01-01T00:00:00Z";
    let config = Config {
        architecture: "",
        created: NEVER,
        history: layers.iter().map(|_| History { created: NEVER }).collect(),
        os: "",
        rootfs: RootFs { kind: "layers", diff_ids: layers.iter().map(|layer| layer.digest.to_string()).collect() },
        config: Map::new(),
    };
    Ok(Document { media_type: IMAGE_CONFIG.into(), bytes: serde_json::to_vec(&config)? })
}

#[derive(Serialize)]
struct Config {
    architecture: &'static str,
    created: &'static str,
    history: Vec<History>,
    os: &'static str,
    rootfs: RootFs,
    config: Map<String, Value>,
}

#[derive(Serialize)]
struct History {
    created: &'static str,
}

#[derive(Serialize)]
struct RootFs {
    #[serde(rename = "type")]
    kind: &'static str,
    diff_ids: Vec<String>,
}

#[derive(Serialize, Deserialize)]
struct Stamp {
    #[serde(rename = "SignedRFC3161Timestamp")]
    token: String,
}
