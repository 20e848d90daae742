//! The fields of manifests and indexes, read as leniently as runtimes read them.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use oci_spec::image::MediaType;
use serde::Deserialize;

use layersift_model::Digest;

use super::{DocumentKind, ImageError};
use crate::image_source::Location;
use crate::json::Node;
use crate::platform::Platform;

/// The media type of the configuration of a BuildKit cache.
const CACHE_CONFIG: &str = "application/vnd.buildkit.cacheconfig.v0";

/// The media type of the configuration of a Docker image.
const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";

/// The media types of Docker's indexes and manifests.
const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

/// How the media types of layers begin.
const LAYERS: [&str; 2] = ["application/vnd.oci.image.layer.", "application/vnd.docker.image.rootfs."];

/// The media type of artifact manifests, which OCI image-spec v1.1-rc had.
const ARTIFACT: &str = "application/vnd.oci.artifact.manifest.v1+json";

/// The content of the configurations of artifacts that have none (OCI image-spec v1.1, "Guidance for an Empty
/// Descriptor"). Some tools do not push it.
const EMPTY_CONTENT: &[u8] = b"{}";

/// The most bytes of a blob that is embedded in a descriptor.
const MOST_EMBEDDED: usize = 1 << 20;

/// The annotation by which BuildKit marks the manifest of an attestation, and the one with the image that it is of.
const REFERENCE_TYPE: &str = "vnd.docker.reference.type";
const REFERENCE_DIGEST: &str = "vnd.docker.reference.digest";

/// The annotation with the type of a statement.
const PREDICATE: &str = "in-toto.io/predicate-type";

/// The same of cosign.
const COSIGN_PREDICATE: &str = "predicateType";

/// The annotation with the file name of a blob.
const TITLE: &str = "org.opencontainers.image.title";

/// A manifest or an index.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct WireDocument {
    pub(super) media_type: String,
    pub(super) artifact_type: String,
    pub(super) config: Option<Descriptor>,
    pub(super) layers: Option<Vec<Descriptor>>,
    /// The blobs of the artifact manifests of OCI image-spec v1.1-rc.
    pub(super) blobs: Option<Vec<Descriptor>>,
    pub(super) manifests: Option<Vec<Descriptor>>,
    pub(super) subject: Option<Descriptor>,
    /// The layers of a manifest of Docker's schema 1.
    fs_layers: Option<serde::de::IgnoredAny>,
}

/// A reference to a blob or a document.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Descriptor {
    pub(super) media_type: String,
    pub(super) digest: String,
    pub(super) size: Option<u64>,
    pub(super) urls: Vec<String>,
    pub(super) annotations: BTreeMap<String, String>,
    pub(super) platform: Option<WirePlatform>,
    /// The blob itself in base64 (OCI image-spec v1.1, "Embedded Content").
    data: Option<String>,
}

/// A platform as an index names it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct WirePlatform {
    os: String,
    architecture: String,
    variant: String,
}

impl WireDocument {
    /// Parses the document `bytes`, which is at `location`.
    ///
    /// # Errors
    /// If it is neither a manifest nor an index, or is one that tools read differently.
    pub(super) fn parse(location: &Location, bytes: &[u8]) -> Result<WireDocument, ImageError> {
        let failed = |reason: String| ImageError::Document { document: location.0.clone(), reason };
        let not_json =
            |error| failed(format!("expected a manifest or an index, found {}: {error}", what_begins(bytes)));
        let node = Node::parse(bytes).map_err(not_json)?;
        let document: WireDocument = node.strict().map_err(|error| failed(error.to_string()))?;
        let WireDocument { media_type, config, layers, manifests, fs_layers, .. } = &document;
        if fs_layers.is_some() && layers.is_none() {
            return Err(failed(
                "unsupported Docker schema 1 manifest (application/vnd.docker.distribution.manifest.v1+json); push the \
                 image again with a current client"
                    .into(),
            ));
        }
        // CVE-2021-41190: tools disagree on how to read such a document, and may run what a scanner did not read.
        if manifests.is_some() && (layers.is_some() || config.is_some()) {
            return Err(failed(
                "the document is both a manifest and an index, which tools read differently (CVE-2021-41190)".into(),
            ));
        }
        if config.is_none() && layers.is_none() && manifests.is_none() && !document.is_artifact() {
            let kind = if media_type.is_empty() { "a document without media type" } else { media_type };
            return Err(failed(format!("the document is neither a manifest nor an index, but {kind}")));
        }
        Ok(document)
    }

    /// Whether this is an artifact manifest, which has no configuration, and need not have blobs.
    pub(super) fn is_artifact(&self) -> bool {
        self.blobs.is_some() || self.media_type == ARTIFACT
    }

    /// Whether this is an index whose entries are the layers and the configuration of a BuildKit cache.
    pub(super) fn is_cache_index(&self) -> bool {
        self.manifests.iter().flatten().any(Descriptor::is_cache_config)
    }
}

impl Descriptor {
    /// Whether this is the configuration of a BuildKit cache.
    pub(super) fn is_cache_config(&self) -> bool {
        self.media_type == CACHE_CONFIG
    }

    /// Whether this is the configuration of an image by its media type.
    pub(super) fn is_image_config(&self) -> bool {
        self.media_type == DOCKER_CONFIG || MediaType::from(&self.media_type[..]) == MediaType::ImageConfig
    }

    /// The media type, if it has one.
    pub(super) fn named_type(&self) -> Option<String> {
        Some(self.media_type.clone()).filter(|text| !text.is_empty())
    }

    /// Whether this is an index by its media type.
    pub(super) fn is_index(&self) -> bool {
        self.media_type == DOCKER_INDEX || MediaType::from(&self.media_type[..]) == MediaType::ImageIndex
    }

    /// Whether this is a layer of an image by its media type. Old tools left the type out.
    pub(super) fn is_layer(&self) -> bool {
        is_layer_type(&self.media_type)
    }

    /// The bytes of the blob, which has this `digest`, if they are known without reading it.
    pub(super) fn embedded(&self, digest: &Digest) -> Option<Vec<u8>> {
        let data = self.data.as_ref().filter(|data| data.len() <= MOST_EMBEDDED);
        let embedded = data.and_then(|data| STANDARD.decode(data).ok());
        let is_blob = |bytes: &[u8]| Digest::of(bytes) == *digest;
        embedded.into_iter().chain([EMPTY_CONTENT.to_vec()]).find(|bytes| is_blob(bytes))
    }

    /// Whether the blob is a JSON document by its media type.
    pub(super) fn is_json(&self) -> bool {
        self.media_type.ends_with("+json") || self.media_type.ends_with("/json")
    }

    /// Whether this is the manifest of attestations. BuildKit gives it a platform that no runtime chooses; on any other
    /// platform the annotation is ignored, because it could hide an image.
    pub(super) fn is_attestation(&self) -> bool {
        let is_marked = self.annotations.get(REFERENCE_TYPE).is_some_and(|kind| kind == "attestation-manifest");
        is_marked && self.platform.as_ref().is_some_and(|platform| platform.platform().is_unknown())
    }

    /// The manifest of the image that an attestation is of.
    pub(super) fn subject(&self) -> Option<Digest> {
        self.annotations.get(REFERENCE_DIGEST)?.parse().ok()
    }

    /// What a blob of an attestation is.
    pub(super) fn statement(&self) -> DocumentKind {
        let predicate = self.annotations.get(PREDICATE).or_else(|| self.annotations.get(COSIGN_PREDICATE));
        DocumentKind::of_predicate(predicate.map_or("", String::as_str))
    }

    /// What a blob of an artifact is.
    pub(super) fn file(&self) -> DocumentKind {
        match self.statement() {
            DocumentKind::Attestation => DocumentKind::Blob,
            kind => kind,
        }
    }

    /// The file name of the blob.
    pub(super) fn title(&self) -> Option<String> {
        self.annotations.get(TITLE).filter(|title| !title.is_empty()).cloned()
    }

    /// The digest.
    ///
    /// # Errors
    /// If it is not one; `document` is the document that names it.
    pub(super) fn digest(&self, document: &Location) -> Result<Digest, ImageError> {
        self.digest
            .parse()
            .map_err(|error| ImageError::Document { document: document.0.clone(), reason: format!("{error}") })
    }
}

impl WirePlatform {
    /// The platform in the usual spelling.
    pub(super) fn platform(&self) -> Platform {
        Platform::new(&self.os, &self.architecture, &self.variant)
    }

    /// Whether it is written as every runtime matches it: in lower case, and with Go's name of the architecture.
    pub(super) fn is_usual(&self) -> bool {
        let Platform { os, architecture, .. } = self.platform();
        os == self.os && architecture == self.architecture
    }

    /// The platform as it is written.
    pub(super) fn text(&self) -> String {
        let variant = if self.variant.is_empty() { String::new() } else { format!("/{}", self.variant) };
        format!("{}/{}{variant}", self.os, self.architecture)
    }
}

/// Whether blobs of this media type are layers of images.
pub(super) fn is_layer_type(media_type: &str) -> bool {
    media_type.is_empty() || LAYERS.iter().any(|prefix| media_type.starts_with(prefix))
}

/// What a document that is not JSON looks like.
fn what_begins(bytes: &[u8]) -> &'static str {
    match bytes.trim_ascii_start() {
        [] => "an empty document",
        [b'<', ..] => "HTML or XML",
        [0x1f, 0x8b, ..] => "gzip data",
        _ => "a document that is not JSON",
    }
}
