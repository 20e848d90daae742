//! The bundle form: a Sigstore bundle, version 0.3, in a manifest of its own that refers to the image.
//!
//! Both versions of cosign look for bundles first. Where there is one, of whatever key and type, they do not read the
//! `.att` manifest, so this form is always written.

use std::collections::BTreeMap;

use jiff::Timestamp;
use layersift_model::{ParseError, parse};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::Map;

use crate::dsse::{Envelope, EnvelopeError, EnvelopeForm};
use crate::encoding::{Base64, base64};
use crate::json::{self, JsonError};
use crate::keys::PublicKey;
use crate::oci::{Descriptor, Document, EMPTY_CONFIG, MANIFEST, Manifest};

/// The media type of a bundle, of its layer and of its artifact.
pub const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
/// What cosign asks of the layer of a bundle.
pub(crate) const BUNDLE_TYPES: &str = "application/vnd.dev.sigstore.bundle";
/// The other name of version 0.3.
const BUNDLE_BEFORE: &str = "application/vnd.dev.sigstore.bundle+json;version=0.3";
const CONTENT: &str = "dev.sigstore.bundle.content";
pub(crate) const PREDICATE_TYPE: &str = "dev.sigstore.bundle.predicateType";
const CREATED: &str = "org.opencontainers.image.created";

/// Why a text is not accepted as a bundle.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BundleError {
    /// Not strict JSON.
    #[error("the bundle is refused")]
    Json(#[source] JsonError),
    /// Fields that a bundle does not have, or of another kind.
    #[error("it is not a bundle of Sigstore")]
    Shape(#[source] ParseError),
    /// Another version.
    #[error("the bundle has the media type `{0}` instead of version 0.3")]
    Version(String),
    /// Neither an envelope nor a signature, or no verification material.
    #[error("the bundle lacks content or verification material")]
    Empty,
    /// A bundle that is verified with a certificate, or that signs an artifact without a statement.
    #[error("the bundle is not an attestation that is verified with a key")]
    NotByKey,
    /// Its envelope.
    #[error("the envelope of the bundle is refused")]
    Envelope(#[source] EnvelopeError),
}

impl BundleError {
    /// Whether cosign takes the text for a bundle all the same, and so does not look for `.att` manifests.
    pub fn is_bundle(&self) -> bool {
        match self {
            BundleError::Json(_) | BundleError::Shape(_) | BundleError::Version(_) | BundleError::Empty => false,
            BundleError::NotByKey => true,
            BundleError::Envelope(error) => !matches!(error, EnvelopeError::Base64(_)),
        }
    }
}

/// A bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundle {
    /// The signed statement.
    pub envelope: Envelope,
    /// The name of the key, which nobody checks.
    pub hint: Option<String>,
    /// Responses of time stamp authorities over the bytes of the signature; not checked yet.
    pub timestamps: Vec<Vec<u8>>,
}

/// What is written to a registry for an attestation.
#[derive(Clone, Debug)]
pub struct Artifact {
    /// The blobs, which are written first.
    pub blobs: Vec<Document>,
    /// The manifest.
    pub manifest: Document,
    /// What an index lists the manifest as.
    pub entry: Descriptor,
}

impl Bundle {
    /// The bundle of an envelope that `key` verifies.
    pub fn new(envelope: Envelope, key: &PublicKey) -> Bundle {
        Bundle { envelope, hint: Some(key.hint()), timestamps: Vec::new() }
    }

    /// The bundle in `text`.
    ///
    /// # Errors
    /// If it is not one of version 0.3 with an envelope that a key verifies.
    pub fn parse(text: &[u8]) -> Result<Bundle, BundleError> {
        let text = json::check(text).map_err(BundleError::Json)?;
        let form: Form = parse::json(text).map_err(BundleError::Shape)?;
        if !is_version(&form.media_type) {
            return Err(BundleError::Version(form.media_type.chars().take(160).collect()));
        }
        let material = form.verification_material;
        let by_certificate = material.certificate.is_some() || material.x509_certificate_chain.is_some();
        if form.dsse_envelope.is_none() && form.message_signature.is_none()
            || material.public_key.is_none() && !by_certificate
        {
            return Err(BundleError::Empty);
        }
        let (Some(envelope), Some(key), false) = (form.dsse_envelope, material.public_key, by_certificate) else {
            return Err(BundleError::NotByKey);
        };
        let envelope = Envelope::from_bundle(&envelope).map_err(BundleError::Envelope)?;
        let stamps = material.timestamp_verification_data.and_then(|data| data.rfc3161_timestamps).unwrap_or_default();
        let timestamps = stamps.iter().filter_map(|stamp| Base64::Protobuf.decode(&stamp.signed_timestamp)).collect();
        Ok(Bundle { envelope, hint: key.hint, timestamps })
    }

    /// The bundle as JSON: the blob in a registry, and a file for `cosign verify-blob-attestation`.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn to_json(&self) -> serde_json::Result<String> {
        let stamp = |token: &Vec<u8>| Stamp { signed_timestamp: base64(token) };
        let stamps = || Stamps { rfc3161_timestamps: Some(self.timestamps.iter().map(stamp).collect()) };
        let material = Material {
            public_key: Some(Key { hint: self.hint.clone() }),
            certificate: None,
            x509_certificate_chain: None,
            _tlog_entries: None,
            timestamp_verification_data: (!self.timestamps.is_empty()).then(stamps),
        };
        serde_json::to_string(&Form {
            media_type: BUNDLE.into(),
            verification_material: material,
            dsse_envelope: Some(self.envelope.form()),
            message_signature: None,
        })
    }

    /// What is written to a registry to attach the bundle to `subject`.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn artifact(
        &self,
        predicate_type: &str,
        subject: &Descriptor,
        created: Timestamp,
    ) -> serde_json::Result<Artifact> {
        let config = Document { media_type: EMPTY_CONFIG.into(), bytes: b"{}".to_vec() };
        let blob = Document { media_type: BUNDLE.into(), bytes: self.to_json()?.into_bytes() };
        let annotations = BTreeMap::from([
            (CONTENT.into(), "dsse-envelope".into()),
            (PREDICATE_TYPE.into(), predicate_type.into()),
            (CREATED.into(), created.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()),
        ]);
        let Descriptor { media_type, digest, size, .. } = subject.clone();
        let subject = Descriptor { media_type, digest, size, ..Descriptor::of("", b"") };
        let manifest = Manifest {
            schema_version: 2,
            media_type: Some(MANIFEST.into()),
            artifact_type: Some(BUNDLE.into()),
            config: config.descriptor(),
            layers: vec![blob.descriptor()],
            subject: Some(subject),
            annotations: Some(annotations.clone()),
            other: Map::new(),
        };
        let manifest = Document { media_type: MANIFEST.into(), bytes: serde_json::to_vec(&manifest)? };
        let mut entry = manifest.descriptor();
        entry.artifact_type = Some(BUNDLE.into());
        entry.annotations = Some(annotations);
        Ok(Artifact { blobs: vec![config, blob], manifest, entry })
    }
}

/// The blob in which `manifest` has its bundle: its only layer, if it looks like one to cosign.
pub fn bundle_layer(manifest: &[u8]) -> Option<Descriptor> {
    let mut layers = parse::json::<Manifest>(manifest).ok()?.layers;
    let layer = layers.pop().filter(|_| layers.is_empty())?;
    layer.media_type.starts_with(BUNDLE_TYPES).then_some(layer)
}

fn is_version(media_type: &str) -> bool {
    let patch = media_type.strip_prefix("application/vnd.dev.sigstore.bundle.v0.3.");
    let patch = patch.and_then(|rest| rest.strip_suffix("+json"));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    media_type == BUNDLE || media_type == BUNDLE_BEFORE || patch.is_some_and(is_number)
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Form {
    media_type: String,
    verification_material: Material,
    #[serde(default)]
    dsse_envelope: Option<EnvelopeForm>,
    #[serde(default, skip_serializing)]
    message_signature: Option<IgnoredAny>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Material {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    public_key: Option<Key>,
    #[serde(default, skip_serializing)]
    certificate: Option<IgnoredAny>,
    #[serde(default, skip_serializing)]
    x509_certificate_chain: Option<IgnoredAny>,
    #[serde(default, rename = "tlogEntries", skip_serializing)]
    _tlog_entries: Option<Vec<IgnoredAny>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    timestamp_verification_data: Option<Stamps>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Key {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Stamps {
    #[serde(default)]
    rfc3161_timestamps: Option<Vec<Stamp>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Stamp {
    signed_timestamp: String,
}
