//! An image whose blobs can be opened again.

use anyhow::{Context, bail};

use layersift_format::manifest::{self, Document, DocumentContent, Image};
use layersift_format::platform::Choice;
use layersift_format::{Blob, Fetched, ImageSource, Listed, Location, Opened};
use layersift_model::{Digest, Hasher, Limits};
use layersift_source::registry::RegistryOptions;
use layersift_source::{Target, open};

/// A target and its images.
pub(super) struct OpenedImage {
    source: Box<dyn ImageSource>,
    pub(super) images: Vec<Image>,
    limits: Limits,
}

impl OpenedImage {
    /// Opens `target`. A stream, which can be read only once, is refused.
    pub(super) fn open(target: &str, choice: Choice, options: &RegistryOptions) -> anyhow::Result<OpenedImage> {
        let limits = Limits::default();
        let parsed = Target::parse(target)?;
        let Opened::Source(source) = open(&parsed, &limits, options)? else {
            bail!("{target} can be read only once: save it to a file that is not compressed, and carve from that");
        };
        let mut images = manifest::images(&*source, &choice, &limits)?;
        manifest::add_referrers(&*source, &limits, &mut images);
        Ok(OpenedImage { source, images, limits })
    }

    /// The layer with the index `layer` of `image`.
    pub(super) fn layer(&self, image: &Image, layer: usize) -> anyhow::Result<Blob<'_>> {
        let count = image.layers.len();
        let source = image.layers.get(layer).with_context(|| format!("the image has no layer {layer}, but {count}"))?;
        let location = source.location.as_ref().with_context(|| format!("layer {layer} has no digest"))?;
        self.blob(location, &format!("layer {layer}"))
    }

    /// The bytes of the document with this digest: the configuration, a manifest, or an attestation.
    pub(super) fn document(&self, image: &Image, digest: &Digest) -> anyhow::Result<Vec<u8>> {
        let documents = image.documents.iter().filter(|document| document.digest.as_ref() == Some(digest));
        for Document { content, .. } in documents {
            match content {
                DocumentContent::Bytes(bytes) => return Ok(bytes.to_vec()),
                DocumentContent::Blob(location) => return self.verified(location, digest),
                DocumentContent::Strings(_) => {}
            }
        }
        for location in self.places(digest)? {
            if let Ok(bytes) = self.verified(&location, digest) {
                return Ok(bytes);
            }
        }
        bail!("the image has no document {digest}")
    }

    /// Where a document may be.
    fn places(&self, digest: &Digest) -> anyhow::Result<Vec<Location>> {
        let mut places = vec![self.source.locate(digest), self.source.locate_manifest(digest)];
        for listed in self.source.list()? {
            match listed {
                Listed::DockerArchive { config, .. } => places.push(config),
                Listed::Manifest { location, .. } => places.push(location),
                Listed::RootFs { .. } | Listed::Files(_) => {}
            }
        }
        Ok(places)
    }

    fn verified(&self, location: &Location, digest: &Digest) -> anyhow::Result<Vec<u8>> {
        let limit = self.limits.document_bytes;
        let bytes = self.blob(location, "document")?.read_document(limit)?;
        let bytes = bytes.with_context(|| format!("the document has more than {limit} bytes"))?;
        let mut hasher = Hasher::new(digest.algorithm());
        hasher.update(&bytes);
        if hasher.finish() != *digest {
            bail!("the document is not the one with the digest {digest}");
        }
        Ok(bytes)
    }

    fn blob(&self, location: &Location, what: &str) -> anyhow::Result<Blob<'_>> {
        match self.source.open(location).with_context(|| location.0.clone())? {
            Fetched::Blob(blob) => Ok(blob),
            Fetched::Missing => bail!("{}", self.source.missing(what)),
            Fetched::Passed(_) => bail!("the {what} can be read only once"),
        }
    }
}
