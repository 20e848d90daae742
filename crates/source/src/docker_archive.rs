//! Docker archives: what `docker save` and skopeo's `docker-archive:` write.
//!
//! `manifest.json` lists images with the paths of their configuration and layers. Source: Docker image specification
//! v1.2, "Combined Image JSON + Filesystem Changeset Format", and what Docker and skopeo write today: layers as
//! `<id>/layer.tar`, as symbolic links to `<hash>.tar`, or under `blobs/`.

use layersift_format::json::{JsonString, Node};
use layersift_format::{DocumentError, Fetched, ImageSource, Listed, Location, SourceError};
use layersift_model::{Digest, Gap, Limits, list_names};
use serde::Deserialize;

use crate::stream::StreamLayout;
use crate::target::{Transport, parse_path_and_reference};
use crate::tree::Tree;

/// `docker-archive:`
pub(crate) static TRANSPORT: Transport = Transport {
    name: "docker-archive",
    argument: "FILE[:REFERENCE]",
    parse: parse_path_and_reference,
    open: |context| {
        let (reference, limits) = (context.reference(), context.limits.clone());
        context.archive(StreamLayout::DockerArchive, |tree| Box::new(DockerArchive::new(tree, reference, limits)))
    },
};

/// The listing of a Docker archive.
pub(crate) const MANIFEST: &str = "manifest.json";

/// A Docker archive.
pub(crate) struct DockerArchive<T> {
    tree: T,
    reference: Option<String>,
    limits: Limits,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Image {
    config: String,
    #[serde(default)]
    repo_tags: Vec<String>,
    /// An image made from scratch may have none.
    #[serde(default)]
    layers: Vec<String>,
    /// Everything that the listing says of it.
    #[serde(skip)]
    strings: Vec<JsonString>,
}

impl<T: Tree> DockerArchive<T> {
    /// The archive in `tree`; only the image called `reference`, if there is one.
    pub(crate) fn new(tree: T, reference: Option<String>, limits: Limits) -> DockerArchive<T> {
        DockerArchive { tree, reference, limits }
    }
}

impl<T: Tree> ImageSource for DockerArchive<T> {
    fn list(&self) -> Result<Vec<Listed>, SourceError> {
        let missing = || failed(DocumentError::Missing { expected: "an archive that `docker save` wrote" });
        let bytes = self.tree.document(MANIFEST, self.limits.document_bytes)?.ok_or_else(missing)?;
        let images = parse(&bytes, &self.limits)?;
        let known: Vec<String> = images.iter().flat_map(|image| image.repo_tags.iter().cloned()).collect();
        let wanted = |image: &Image| match &self.reference {
            Some(reference) => image.repo_tags.iter().any(|tag| same_reference(tag, reference)),
            None => true,
        };
        let listed: Vec<Listed> = images.into_iter().filter(wanted).map(Listed::from).collect();
        match (&self.reference, listed.is_empty()) {
            (Some(wanted), true) => Err(no_such_reference(wanted, &known)),
            _ => Ok(listed),
        }
    }

    fn locate(&self, digest: &Digest) -> Location {
        Location(format!("blobs/{}/{}", digest.algorithm().name(), digest.hex()))
    }

    fn open(&self, location: &Location) -> Result<Fetched<'_>, SourceError> {
        self.tree.open(&location.0)
    }

    fn gaps(&self) -> Vec<Gap> {
        self.tree.gaps()
    }

    fn compressed_documents(&self) -> Option<u64> {
        self.tree.compressed_documents()
    }
}

/// The images in the listing `bytes`.
pub(crate) fn listed(bytes: &[u8], limits: &Limits) -> Result<Vec<Listed>, SourceError> {
    Ok(parse(bytes, limits)?.into_iter().map(Listed::from).collect())
}

fn parse(bytes: &[u8], limits: &Limits) -> Result<Vec<Image>, SourceError> {
    let node = Node::parse(bytes).map_err(|error| failed(error.into()))?;
    let mut images: Vec<Image> = node.strict().map_err(|error| failed(error.into()))?;
    if images.is_empty() || images.len() > limits.manifests {
        return Err(failed(DocumentError::Count { what: "images", count: images.len(), most: limits.manifests }));
    }
    for (index, (image, entry)) in images.iter_mut().zip(node.elements()).enumerate() {
        image.strings = entry.strings_unless(&format!("[{index}]"), &[], &is_place);
    }
    Ok(images)
}

/// Whether `text` is the place of a blob as tools name them, which has a digest and no secret.
fn is_place(text: &str) -> bool {
    let is_digest = |name: &str| name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
    text.split('/').all(|name| {
        matches!(name, "blobs" | "sha256" | "layer.tar")
            || is_digest(name.trim_end_matches(".json").trim_end_matches(".tar"))
    })
}

fn failed(error: DocumentError) -> SourceError {
    SourceError::Document { document: MANIFEST.into(), error }
}

/// The error for a reference that is not among `known`.
pub(crate) fn no_such_reference(wanted: &str, known: &[String]) -> SourceError {
    SourceError::NoSuchReference { wanted: wanted.into(), known: list_names(known, "no named images") }
}

impl From<Image> for Listed {
    fn from(image: Image) -> Listed {
        Listed::DockerArchive {
            reference: image.repo_tags.into_iter().next(),
            config: Location(image.config),
            layers: image.layers.into_iter().map(Location).collect(),
            listing: image.strings,
        }
    }
}

/// Whether `tag` is the reference `wanted`, in which a missing tag means `latest`.
fn same_reference(tag: &str, wanted: &str) -> bool {
    tag == wanted || tag.strip_suffix(":latest") == Some(wanted)
}
