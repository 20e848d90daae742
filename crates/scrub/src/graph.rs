//! Reads the documents of one image: its indexes, manifests and configurations.

use std::collections::BTreeMap;

use layersift_format::json::Node;
use layersift_format::{Fetched, ImageSource, Listed, Location};
use layersift_model::{Digest, Hasher, Limits};
use serde::Deserialize;

use crate::error::ScrubError;

/// The media types of what is written for a source without a manifest.
const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";

/// The deepest nesting of indexes.
const DEEPEST: usize = 8;

/// The most bytes of a blob of an attestation, a signature or another artifact in an index.
const LARGEST_ARTIFACT: u64 = 256 << 20;

/// The annotation by which BuildKit marks attestations, and the one with the manifest that they are of.
const REFERENCE_TYPE: &str = "vnd.docker.reference.type";
const REFERENCE_DIGEST: &str = "vnd.docker.reference.digest";

/// A manifest or an index.
pub(crate) struct Document {
    /// Its digest; `None` if the source has no such document, or has it as its listing.
    pub(crate) digest: Option<Digest>,
    pub(crate) media_type: String,
    pub(crate) bytes: Vec<u8>,
    pub(crate) node: Node,
    pub(crate) content: Content,
}

/// What a document names.
pub(crate) enum Content {
    Index(Vec<Child>),
    Manifest(Manifest),
}

/// A document that an index names, in the order of the index.
pub(crate) struct Child {
    pub(crate) document: Document,
    /// The image that this has attestations of, or refers to.
    pub(crate) refers_to: Option<Digest>,
}

/// A manifest.
pub(crate) struct Manifest {
    pub(crate) config: Option<Blob>,
    /// The bytes of the configuration, if this is an image.
    pub(crate) config_bytes: Option<Vec<u8>>,
    pub(crate) layers: Vec<Blob>,
}

/// A blob that a manifest names.
#[derive(Clone, Debug)]
pub(crate) struct Blob {
    pub(crate) location: Location,
    /// Its digest; `None` in archives that do not say it.
    pub(crate) digest: Option<Digest>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Wire {
    media_type: String,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
    subject: Option<Descriptor>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Descriptor {
    media_type: String,
    digest: String,
    annotations: BTreeMap<String, String>,
    platform: Option<Platform>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Platform {
    os: String,
    architecture: String,
}

/// Reads documents of a source.
pub(crate) struct Reader<'s> {
    pub(crate) source: &'s dyn ImageSource,
    pub(crate) limits: &'s Limits,
    pub(crate) target: &'s str,
}

impl Reader<'_> {
    /// The document that the target names, and the name of the image. `only` is the manifest of the image that is
    /// wanted alone.
    pub(crate) fn root(&self, only: Option<&Digest>) -> Result<(Document, Option<String>), ScrubError> {
        let listed = self.source.list()?;
        let (manifests, others): (Vec<Listed>, Vec<Listed>) =
            listed.into_iter().partition(|listed| matches!(listed, Listed::Manifest { .. }));
        // Docker lists its images twice in one archive.
        let mut listed = if manifests.is_empty() { others } else { manifests };
        let count = listed.len();
        let Some(one) = listed.pop().filter(|_| count == 1) else {
            return Err(self.refused(format!("it has {count} images; name one of them")));
        };
        match one {
            Listed::Manifest { reference, location, digest, .. } => {
                if let Some(only) = only.filter(|only| Some(*only) != digest.as_ref()) {
                    let location = self.source.locate_manifest(only);
                    return Ok((self.document(&location, Some(only), "", 0)?, reference));
                }
                Ok((self.document(&location, digest.as_ref(), "", 0)?, reference))
            }
            Listed::DockerArchive { reference, config, layers, .. } => Ok((self.docker(config, layers)?, reference)),
            Listed::RootFs { .. } | Listed::Files(_) => {
                Err(self.refused("these are files of a host, without layers to rewrite".into()))
            }
        }
    }

    fn refused(&self, why: String) -> ScrubError {
        ScrubError::Target { target: self.target.into(), why }
    }

    fn document(
        &self,
        location: &Location,
        digest: Option<&Digest>,
        media_type: &str,
        depth: usize,
    ) -> Result<Document, ScrubError> {
        let failed = |why: String| ScrubError::Document { document: location.0.clone(), why };
        if depth > DEEPEST {
            return Err(failed("indexes are nested too deeply".into()));
        }
        let bytes = self.bytes(location, digest)?;
        let node = Node::parse(&bytes).map_err(|error| failed(error.to_string()))?;
        let wire: Wire = node.strict().map_err(|error| failed(error.to_string()))?;
        let is_index = wire.manifests.is_some();
        if is_index && (wire.layers.is_some() || wire.config.is_some()) {
            return Err(failed("the document is both a manifest and an index (CVE-2021-41190)".into()));
        }
        let media_type = [&wire.media_type[..], media_type, if is_index { OCI_INDEX } else { OCI_MANIFEST }];
        let media_type = media_type.into_iter().find(|name| !name.is_empty()).unwrap_or_default().to_owned();
        let content = match wire.manifests {
            Some(entries) => {
                let children = entries.into_iter().map(|entry| self.child(&entry, location, depth));
                Content::Index(children.collect::<Result<_, _>>()?)
            }
            None => Content::Manifest(self.manifest(&wire, location)?),
        };
        // A list of a source is not a document of the image, but becomes one.
        Ok(Document { digest: digest.cloned(), media_type, bytes, node, content })
    }

    fn child(&self, entry: &Descriptor, index: &Location, depth: usize) -> Result<Child, ScrubError> {
        let digest = entry.digest(index)?;
        let location = self.source.locate_manifest(&digest);
        let mut document = self.document(&location, Some(&digest), &entry.media_type, depth + 1)?;
        let subject = document.node.strict::<Wire>().ok().and_then(|wire| wire.subject);
        let mut refers_to = subject.and_then(|subject| subject.digest.parse().ok());
        if let (true, Content::Manifest(manifest)) = (entry.is_attestation(), &mut document.content) {
            // Its configuration looks like that of an image.
            manifest.config_bytes = None;
            refers_to = entry.annotations.get(REFERENCE_DIGEST).and_then(|digest| digest.parse().ok());
        }
        Ok(Child { document, refers_to })
    }

    fn manifest(&self, wire: &Wire, location: &Location) -> Result<Manifest, ScrubError> {
        let blob = |descriptor: &Descriptor| {
            let digest = descriptor.digest(location)?;
            Ok::<_, ScrubError>(Blob { location: self.source.locate(&digest), digest: Some(digest) })
        };
        let layers: Vec<Blob> = wire.layers.iter().flatten().map(blob).collect::<Result<_, _>>()?;
        let config = wire.config.as_ref().map(blob).transpose()?;
        let config_bytes = match &config {
            Some(config) => {
                let bytes = self.bytes(&config.location, config.digest.as_ref())?;
                let has_diff_ids = Node::parse(&bytes).is_ok_and(|node| {
                    let diff_ids = node.get("rootfs").and_then(|rootfs| rootfs.get("diff_ids"));
                    diff_ids.is_some_and(|list| list.elements().len() == layers.len())
                });
                Some(bytes).filter(|_| has_diff_ids)
            }
            None => None,
        };
        Ok(Manifest { config, config_bytes, layers })
    }

    /// The image of a Docker archive, which has no manifest: one is made once the layers were read.
    fn docker(&self, config: Location, layers: Vec<Location>) -> Result<Document, ScrubError> {
        let bytes = self.bytes(&config, None)?;
        let digest = Some(Digest::of(&bytes));
        let blob = |location| Blob { location, digest: None };
        let manifest = Manifest {
            config: Some(Blob { location: config, digest }),
            config_bytes: Some(bytes),
            layers: layers.into_iter().map(blob).collect(),
        };
        Ok(Document {
            digest: None,
            media_type: OCI_MANIFEST.into(),
            bytes: Vec::new(),
            node: Node::Null,
            content: Content::Manifest(manifest),
        })
    }

    /// A document, whose digest is checked.
    fn bytes(&self, location: &Location, digest: Option<&Digest>) -> Result<Vec<u8>, ScrubError> {
        self.read(location, digest, self.limits.document_bytes)
    }

    /// A blob of what is not an image, such as an attestation.
    pub(crate) fn artifact(&self, blob: &Blob) -> Result<Vec<u8>, ScrubError> {
        self.read(&blob.location, blob.digest.as_ref(), LARGEST_ARTIFACT)
    }

    fn read(&self, location: &Location, digest: Option<&Digest>, most: u64) -> Result<Vec<u8>, ScrubError> {
        let failed = |why: String| ScrubError::Document { document: location.0.clone(), why };
        let blob = self.open(location)?;
        let bytes = blob.read_document(most).map_err(|error| failed(error.to_string()))?;
        let bytes = bytes.ok_or_else(|| failed("it is too large".into()))?;
        if let Some(expected) = digest {
            let mut hasher = Hasher::new(expected.algorithm());
            hasher.update(&bytes);
            let found = hasher.finish();
            if found != *expected {
                return Err(failed(format!("the digest does not match: it is {found}")));
            }
        }
        Ok(bytes)
    }

    /// Opens a blob, which has to be there.
    pub(crate) fn open(&self, location: &Location) -> Result<layersift_format::Blob<'_>, ScrubError> {
        match self.source.open(location)? {
            Fetched::Blob(blob) => Ok(blob),
            Fetched::Missing | Fetched::Passed(_) => {
                let why = format!(
                    "{}; scrub needs the whole image, or --platform for one that is complete",
                    self.source.missing("blob")
                );
                Err(ScrubError::Document { document: location.0.clone(), why })
            }
        }
    }
}

impl Descriptor {
    fn digest(&self, document: &Location) -> Result<Digest, ScrubError> {
        let failed = |error| ScrubError::Document { document: document.0.clone(), why: format!("{error}") };
        self.digest.parse().map_err(failed)
    }

    /// Whether this is the manifest of attestations. On a platform that runtimes choose, the annotation could hide an
    /// image.
    fn is_attestation(&self) -> bool {
        let is_marked = self.annotations.get(REFERENCE_TYPE).is_some_and(|kind| kind == "attestation-manifest");
        let is_unknown = |platform: &Platform| platform.os == "unknown" && platform.architecture == "unknown";
        is_marked && self.platform.as_ref().is_some_and(is_unknown)
    }
}

impl Document {
    /// The manifests of images, base first.
    pub(crate) fn images(&self) -> Vec<&Manifest> {
        match &self.content {
            Content::Manifest(manifest) if manifest.config_bytes.is_some() => vec![manifest],
            Content::Manifest(_) => Vec::new(),
            Content::Index(children) => children.iter().flat_map(|child| child.document.images()).collect(),
        }
    }
}
