//! Reads indexes, manifests, configurations and attestations, and makes images of them.

mod members;

use std::cell::Cell;
use std::collections::HashSet;
use std::sync::Arc;

use layersift_model::{Digest, Gap, GapReason, Hasher, Limits};

use super::cache::order_by_tree;
use super::choose::{self, Chosen};
use super::classify::{kind, parts};
use super::configuration;
use super::wire::{Descriptor, WireDocument, WirePlatform};
use super::{Document, DocumentContent, DocumentKind, Image, ImageError, ImageKind, LayerSource};
use crate::config::ImageConfig;
use crate::image_source::{Fetched, ImageSource, Location};
use crate::json::JsonString;
use crate::platform::{Choice, Platform};

/// The media type of the layers of a Docker archive.
const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";

/// Reads the documents of one source.
pub(super) struct DocumentReader<'s> {
    pub(super) source: &'s dyn ImageSource,
    pub(super) limits: &'s Limits,
    /// The bytes of the documents that were read so far.
    read_bytes: Cell<u64>,
}

/// A manifest, as an index or the source names it.
#[derive(Clone, Default)]
pub(super) struct Leaf {
    location: Location,
    digest: Option<Digest>,
    /// The platform that the index names, and as it is written there.
    platform: Option<Platform>,
    platform_text: Option<String>,
    /// The media type and the size that the index names.
    media_type: String,
    size: Option<u64>,
    /// Whether the index writes the platform in the usual spelling, which every runtime matches.
    is_usual: bool,
    /// The media type is that of an index.
    is_index: bool,
    /// The manifest has attestations, of this image.
    attests: Option<Option<Digest>>,
    bytes: Option<Arc<[u8]>>,
    is_missing: bool,
    /// The indexes that lead to the manifest.
    indexes: Vec<Document>,
    gaps: Vec<Gap>,
}

/// The document of the strings with which a source lists an image.
pub(super) fn document_of(listing: Vec<JsonString>) -> Option<Document> {
    (!listing.is_empty()).then_some(Document {
        kind: DocumentKind::Index,
        digest: None,
        media_type: None,
        is_of_index: true,
        attached_to: None,
        referrer: None,
        content: DocumentContent::Strings(listing.into()),
    })
}

impl Leaf {
    /// The platform for people.
    pub(super) fn platform_text(&self) -> Option<&str> {
        self.platform_text.as_deref()
    }
}

impl<'s> DocumentReader<'s> {
    pub(super) fn new(source: &'s dyn ImageSource, limits: &'s Limits) -> DocumentReader<'s> {
        DocumentReader { source, limits, read_bytes: Cell::new(0) }
    }

    /// The images that a manifest or an index at `location` leads to. `listing` has the strings with which the source
    /// lists it.
    pub(super) fn manifests(
        &self,
        reference: Option<String>,
        location: Location,
        digest: Option<Digest>,
        listing: Vec<JsonString>,
        choice: &Choice,
    ) -> Result<Vec<Image>, ImageError> {
        let mut root = Leaf { location, digest, ..Leaf::default() };
        root.indexes.extend(document_of(listing));
        let (leaves, attestations) = self.leaves(root)?;
        let known: HashSet<Digest> = leaves.iter().filter_map(|leaf| leaf.digest.clone()).collect();
        let Chosen { leaves, others } = self.choose(leaves, choice)?;
        let absent: Vec<String> = leaves.iter().filter(|leaf| leaf.is_missing).map(platform_or_digest).collect();
        let keeps_absent = absent.len() == leaves.len();
        let leaves = leaves.into_iter().filter(|leaf| keeps_absent || !leaf.is_missing);
        let mut images: Vec<Image> = Vec::new();
        let mut layers = 0;
        for leaf in leaves {
            images.push(self.image(reference.clone(), leaf)?);
            layers += images.last().map_or(0, |image| image.layers.len());
            self.bound_all_layers(layers)?;
        }
        for image in &mut images {
            image.other_platforms = others.iter().map(platform_or_digest).collect();
            if !keeps_absent && !absent.is_empty() {
                image.notes.push(format!(
                    "the target does not contain the images that its index names for {}",
                    absent.join(", ")
                ));
            }
        }
        for leaf in attestations {
            self.attest(leaf, &known, &mut images)?;
        }
        Ok(images)
    }

    /// Collects the manifests below a document that is a manifest or an index. A manifest for a named platform is not
    /// read, because it may not be wanted.
    fn expand(
        &self,
        mut leaf: Leaf,
        depth: usize,
        seen: &mut HashSet<(Location, Option<Platform>)>,
        leaves: &mut Vec<Leaf>,
    ) -> Result<(), ImageError> {
        if !seen.insert((leaf.location.clone(), leaf.platform.clone())) {
            return Ok(());
        }
        if depth > self.limits.index_depth || leaves.len() >= self.limits.manifests {
            return Err(ImageError::IndexTooLarge { document: leaf.location.0 });
        }
        if leaf.attests.is_some() || (leaf.platform.is_some() && !leaf.is_index) {
            leaves.push(leaf);
            return Ok(());
        }
        self.read(&mut leaf)?;
        let Some(bytes) = leaf.bytes.clone() else {
            if leaf.digest.is_none() {
                let reason = "not found; the target is not an image".into();
                return Err(ImageError::Document { document: leaf.location.0, reason });
            }
            leaves.push(leaf);
            return Ok(());
        };
        let document = WireDocument::parse(&leaf.location, &bytes)?;
        let Some(entries) = document.manifests.as_ref().filter(|_| !document.is_cache_index()) else {
            leaves.push(leaf);
            return Ok(());
        };
        let before = leaves.len();
        leaf.indexes.push(Document {
            kind: DocumentKind::Index,
            digest: Some(leaf.digest.clone().unwrap_or_else(|| Digest::of(&bytes))),
            media_type: (!document.media_type.is_empty()).then(|| document.media_type.clone()),
            is_of_index: true,
            attached_to: None,
            referrer: None,
            content: DocumentContent::Bytes(Arc::clone(&bytes)),
        });
        for entry in entries {
            let child = self.child(&leaf, entry)?;
            self.expand(child, depth + 1, seen, leaves)?;
        }
        // The annotations of an index without manifests, and its gaps, must still reach the report. A registry without
        // referrers keeps such an index when the last signature of an image is deleted.
        if leaves.len() == before && (entries.is_empty() || !leaf.gaps.is_empty()) {
            leaves.push(Leaf { bytes: Some(bytes), ..leaf });
        }
        Ok(())
    }

    fn child(&self, parent: &Leaf, entry: &Descriptor) -> Result<Leaf, ImageError> {
        let digest = entry.digest(&parent.location)?;
        let named = entry.platform.as_ref().filter(|platform| !platform.platform().is_unknown());
        Ok(Leaf {
            location: self.source.locate_manifest(&digest),
            digest: Some(digest),
            platform: named.map(|platform| platform.platform()).or_else(|| parent.platform.clone()),
            platform_text: named.map(|platform| platform.text()).or_else(|| parent.platform_text.clone()),
            media_type: entry.media_type.clone(),
            size: entry.size,
            is_usual: named.map_or(parent.is_usual, WirePlatform::is_usual),
            is_index: entry.is_index(),
            attests: entry.is_attestation().then(|| entry.subject()),
            bytes: None,
            is_missing: false,
            indexes: parent.indexes.clone(),
            gaps: parent.gaps.clone(),
        })
    }

    /// Reads the document of a leaf, if it was not read yet.
    fn read(&self, leaf: &mut Leaf) -> Result<(), ImageError> {
        if leaf.bytes.is_none() && !leaf.is_missing {
            leaf.bytes = self.document(&leaf.location, leaf.digest.as_ref(), &mut leaf.gaps)?.map(Into::into);
            leaf.is_missing = leaf.bytes.is_none();
        }
        Ok(())
    }

    /// The leaves that `choice` asks for, which are read, and the others. What is for no platform, such as a signature,
    /// is for every choice.
    fn choose(&self, mut leaves: Vec<Leaf>, choice: &Choice) -> Result<Chosen, ImageError> {
        if leaves.len() > 1 && *choice != Choice::All {
            leaves.iter_mut().filter(|leaf| leaf.platform.is_none()).try_for_each(|leaf| self.read(leaf))?;
            let (for_any, images): (Vec<Leaf>, Vec<Leaf>) =
                leaves.into_iter().partition(|leaf| leaf.platform.is_none() && self.config_platform(leaf).is_none());
            let mut chosen = match images.is_empty() {
                true => Chosen { leaves: Vec::new(), others: Vec::new() },
                false => self.choose_image(images, choice)?,
            };
            chosen.leaves.extend(for_any);
            return Ok(chosen);
        }
        self.choose_image(leaves, choice)
    }

    /// The images that `choice` asks for, which are read, and the others.
    fn choose_image(&self, mut leaves: Vec<Leaf>, choice: &Choice) -> Result<Chosen, ImageError> {
        let Some(wanted) = choose::wanted(choice, leaves.len()) else {
            leaves.iter_mut().try_for_each(|leaf| self.read(leaf))?;
            return Ok(Chosen { leaves, others: Vec::new() });
        };
        for leaf in leaves.iter_mut().filter(|leaf| leaf.platform.is_none()) {
            self.read(leaf)?;
        }
        let of_index = |leaf: &Leaf| leaf.platform.clone().or_else(|| self.config_platform(leaf));
        let first_unnamed = leaves.iter().find(|leaf| leaf.platform.is_none()).map(|leaf| leaf.location.clone());
        let mut chosen = choose::split(leaves, &wanted, of_index);
        let is_sure = |leaf: &Leaf| leaf.is_usual && leaf.platform.as_ref() == Some(&wanted);
        if !chosen.leaves.iter().any(is_sure) {
            // Without such an entry, skopeo and podman take the first without a platform, whatever its configuration
            // says.
            if let Some(first) =
                first_unnamed.and_then(|first| chosen.others.iter().position(|leaf| leaf.location == first))
            {
                chosen.leaves.push(chosen.others.remove(first));
            }
        }
        chosen.leaves.iter_mut().try_for_each(|leaf| self.read(leaf))?;
        let is_absent = !chosen.leaves.is_empty() && chosen.leaves.iter().all(|leaf| leaf.is_missing);
        if chosen.leaves.is_empty() || (is_absent && *choice == Choice::Default) {
            chosen.others.iter_mut().try_for_each(|leaf| self.read(leaf))?;
        }
        if chosen.leaves.is_empty() {
            chosen = choose::split(chosen.others, &wanted, |leaf| self.config_platform(leaf));
        } else if is_absent && *choice == Choice::Default {
            // A partial export: what it does contain was exported on purpose.
            let (present, others): (Vec<Leaf>, Vec<Leaf>) =
                chosen.others.into_iter().partition(|leaf| !leaf.is_missing);
            let leaves = if present.is_empty() { chosen.leaves } else { present };
            chosen = Chosen { leaves, others };
        }
        if chosen.leaves.is_empty() {
            return Err(choose::no_such_platform(&wanted, chosen.others.iter().map(Leaf::platform_text)));
        }
        Ok(chosen)
    }

    /// The platform that the configuration of a leaf names.
    fn config_platform(&self, leaf: &Leaf) -> Option<Platform> {
        let document = WireDocument::parse(&leaf.location, leaf.bytes.as_ref()?).ok()?;
        let digest: Digest = document.config?.digest.parse().ok()?;
        let bytes = self.document(&self.source.locate(&digest), Some(&digest), &mut Vec::new()).ok()??;
        let config = ImageConfig::parse(&bytes).ok()?;
        config.platform()?.parse().ok()
    }

    fn image(&self, reference: Option<String>, leaf: Leaf) -> Result<Image, ImageError> {
        let Leaf { location, digest, platform, platform_text, bytes, indexes, gaps, .. } = leaf;
        let mut image = Image { reference, platform: platform_text, documents: indexes, gaps, ..Image::default() };
        let Some(bytes) = bytes else {
            return Ok(Image { manifest_digest: digest, ..image });
        };
        let document = WireDocument::parse(&location, &bytes)?;
        let digest = digest.unwrap_or_else(|| Digest::of(&bytes));
        if document.manifests.is_some() && !document.is_cache_index() {
            return Ok(Image { kind: ImageKind::Artifact, manifest_digest: Some(digest), ..image });
        }
        image.documents.push(Document {
            kind: DocumentKind::Manifest,
            digest: Some(digest.clone()),
            media_type: (!document.media_type.is_empty()).then(|| document.media_type.clone()),
            is_of_index: false,
            attached_to: None,
            referrer: None,
            content: DocumentContent::Bytes(Arc::clone(&bytes)),
        });
        image.manifest_digest = Some(digest);
        // The artifact manifests of OCI image-spec v1.1-rc have no configuration.
        let is_artifact = document.is_artifact();
        let (config, blobs) = parts(document);
        self.bound_layers(&location, blobs.len())?;
        let (mut tree, mut read) = (None, ImageConfig::default());
        if let Some(config) = &config {
            let digest = config.digest(&location)?;
            let place = self.source.locate(&digest);
            let bytes = match config.embedded(&digest) {
                Some(bytes) => Some(bytes),
                None => self.document(&place, Some(&digest), &mut image.gaps)?,
            };
            let node = configuration::tree(config, bytes.as_deref());
            image.kind = kind(config, &node, bytes.as_deref(), &blobs);
            // It takes a multiple of its bytes, and so does what is read of it next.
            tree = node.into_node().filter(|_| image.kind == ImageKind::Cache);
            image.config_digest = Some(digest);
            if let Some(bytes) = bytes {
                read = configuration::take(&mut image, config.named_type(), &place, bytes)?;
            }
        } else if is_artifact {
            image.kind = ImageKind::Artifact;
        } else {
            let reason = "the manifest has no configuration".into();
            return Err(ImageError::Document { document: location.0, reason });
        }
        for blob in &blobs {
            let layer = self.layer(&location, blob)?;
            if image.kind == ImageKind::Artifact
                && let Some(bytes) = layer.digest.as_ref().and_then(|digest| blob.embedded(digest))
            {
                let (kind, digest, media_type) = (blob.file(), layer.digest, layer.media_type);
                let content = DocumentContent::Bytes(bytes.into());
                image.documents.push(Document {
                    kind,
                    digest,
                    media_type,
                    is_of_index: false,
                    attached_to: None,
                    referrer: None,
                    content,
                });
            } else if image.kind == ImageKind::Artifact
                && blob.is_json()
                && layer.size.is_some_and(|size| size <= self.limits.document_bytes)
            {
                image.documents.extend(blob_document(blob.file(), layer));
            } else {
                image.layers.push(layer);
            }
        }
        if image.kind == ImageKind::Cache {
            order_by_tree(&mut image.layers, tree.as_ref());
        }
        choose::finish(&mut image, &read, platform.as_ref());
        Ok(image)
    }

    /// Adds the documents of an attestation to the image that it is of; to all `images` if it is of none in the index.
    fn attest(&self, mut leaf: Leaf, known: &HashSet<Digest>, images: &mut [Image]) -> Result<(), ImageError> {
        let subject = leaf.attests.clone().flatten();
        let is_of = |image: &Image| image.manifest_digest == subject;
        let is_other = subject.as_ref().is_some_and(|subject| known.contains(subject));
        if is_other && !images.iter().any(is_of) {
            return Ok(());
        }
        leaf.gaps.clear();
        self.read(&mut leaf)?;
        let mut documents = Vec::new();
        let mut notes = Vec::new();
        if let Some(bytes) = &leaf.bytes {
            documents = self.statements(&leaf, bytes, &mut notes)?;
            if self.source.is_store() {
                self.drop_never_kept(&leaf, &mut documents, &mut notes)?;
            }
        } else {
            // Whoever made a partial copy could not get it either.
            leaf.gaps.clear();
            notes.push(format!("the target does not contain the attestation {}", platform_or_digest(&leaf)));
        }
        for image in images.iter_mut().filter(|image| !is_other || is_of(image)) {
            image.documents.extend(documents.iter().cloned());
            image.notes.extend(notes.iter().cloned());
            image.gaps.extend(leaf.gaps.iter().cloned());
        }
        Ok(())
    }

    /// Drops the blobs of an attestation that an engine never had: it pulls what it needs to run the image.
    fn drop_never_kept(
        &self,
        leaf: &Leaf,
        documents: &mut Vec<Document>,
        notes: &mut Vec<String>,
    ) -> Result<(), ImageError> {
        let before = documents.len();
        let mut kept = Vec::with_capacity(before);
        for document in documents.drain(..) {
            let is_missing = match &document.content {
                DocumentContent::Blob(location) => matches!(self.source.open(location)?, Fetched::Missing),
                DocumentContent::Bytes(_) | DocumentContent::Strings(_) => false,
            };
            kept.extend((!is_missing).then_some(document));
        }
        if kept.len() < before {
            notes.push(format!("the engine did not keep all of the attestation {}", platform_or_digest(leaf)));
        }
        *documents = kept;
        Ok(())
    }

    /// The manifest, the configuration and the statements of an attestation.
    fn statements(&self, leaf: &Leaf, bytes: &Arc<[u8]>, notes: &mut Vec<String>) -> Result<Vec<Document>, ImageError> {
        let document = WireDocument::parse(&leaf.location, bytes)?;
        if let (Some(Some(named)), Some(subject)) = (&leaf.attests, &document.subject)
            && subject.digest.parse::<Digest>().ok().as_ref() != Some(named)
        {
            notes.push(format!(
                "the attestation {} is of {named} by the index, but of {} by itself",
                platform_or_digest(leaf),
                subject.digest
            ));
        }
        let mut documents = vec![Document {
            kind: DocumentKind::Manifest,
            digest: leaf.digest.clone(),
            media_type: Some(document.media_type.clone()).filter(|text| !text.is_empty()),
            is_of_index: true,
            attached_to: None,
            referrer: None,
            content: DocumentContent::Bytes(Arc::clone(bytes)),
        }];
        let (config, blobs) = parts(document);
        self.bound_layers(&leaf.location, blobs.len())?;
        for config in config.iter() {
            documents.extend(blob_document(DocumentKind::Configuration, self.layer(&leaf.location, config)?));
        }
        for blob in &blobs {
            documents.extend(blob_document(blob.statement(), self.layer(&leaf.location, blob)?));
        }
        for document in &mut documents {
            document.is_of_index = true;
            document.attached_to = leaf.attests.clone().flatten();
        }
        Ok(documents)
    }

    pub(super) fn bound_layers(&self, document: &Location, layers: usize) -> Result<(), ImageError> {
        if layers <= self.limits.layers {
            return Ok(());
        }
        let reason = format!("the manifest names {layers} layers, more than the limit of {}", self.limits.layers);
        Err(ImageError::Document { document: document.0.clone(), reason })
    }

    /// Fails if all images of the target have too many `layers`. One layer may be named by all of them, and each tells
    /// what created it.
    pub(super) fn bound_all_layers(&self, layers: usize) -> Result<(), ImageError> {
        if layers <= self.limits.target_layers {
            return Ok(());
        }
        let reason = format!(
            "its images name more than {} layers in all; choose one of them by its name, or with --platform",
            self.limits.target_layers
        );
        Err(ImageError::Document { document: "the target".into(), reason })
    }

    pub(super) fn layer(&self, manifest: &Location, descriptor: &Descriptor) -> Result<LayerSource, ImageError> {
        let digest = descriptor.digest(manifest)?;
        Ok(LayerSource {
            location: Some(self.source.locate(&digest)),
            digest: Some(digest),
            size: descriptor.size,
            diff_id: None,
            media_type: descriptor.named_type(),
            title: descriptor.title(),
            urls: descriptor.urls.clone(),
        })
    }

    /// The image of an entry of a Docker archive's `manifest.json`.
    pub(super) fn docker_archive(
        &self,
        reference: Option<String>,
        config: &Location,
        layers: Vec<Location>,
    ) -> Result<Image, ImageError> {
        self.bound_layers(config, layers.len())?;
        let mut gaps = Vec::new();
        let bytes = self.document(config, digest_in_name(&config.0).as_ref(), &mut gaps)?;
        let config_digest = bytes.as_deref().map(Digest::of);
        let layer = |location: Location| LayerSource {
            digest: location.0.starts_with("blobs/").then(|| digest_in_name(&location.0)).flatten(),
            location: Some(location),
            media_type: Some(DOCKER_LAYER.into()),
            ..LayerSource::default()
        };
        let mut image = Image {
            reference,
            config_digest,
            layers: layers.into_iter().map(layer).collect(),
            gaps,
            ..Image::default()
        };
        let read = bytes.map(|bytes| configuration::take(&mut image, None, config, bytes));
        choose::finish(&mut image, &read.transpose()?.unwrap_or_default(), None);
        Ok(image)
    }

    /// Reads a document, and adds a gap if its digest differs. `None`, and a gap, if the document is missing.
    pub(super) fn document(
        &self,
        location: &Location,
        digest: Option<&Digest>,
        gaps: &mut Vec<Gap>,
    ) -> Result<Option<Vec<u8>>, ImageError> {
        let failed = |reason: String| ImageError::Document { document: location.0.clone(), reason };
        let blob = match self.source.open(location)? {
            Fetched::Blob(blob) => blob,
            Fetched::Passed(_) => return Err(failed(
                "the document was read as a layer; the stream cannot be rewound, so save it to a file and scan that"
                    .into(),
            )),
            Fetched::Missing => {
                let detail = self.source.missing("document");
                gaps.push(Gap::new(GapReason::MissingBlob, detail).at(&location.0));
                return Ok(None);
            }
        };
        let limit = self.limits.document_bytes;
        let bytes = blob.read_document(limit).map_err(|error| failed(error.to_string()))?;
        let bytes = bytes.ok_or_else(|| failed(format!("the document is larger than {limit} bytes")))?;
        self.read_bytes.set(self.read_bytes.get() + bytes.len() as u64);
        let limit = self.limits.target_document_bytes;
        if self.read_bytes.get() > limit {
            return Err(failed(format!("the documents of the target take more than {limit} bytes in all")));
        }
        if let Some(expected) = digest {
            let mut hasher = Hasher::new(expected.algorithm());
            hasher.update(&bytes);
            let found = hasher.finish();
            if found != *expected {
                let detail = format!("expected {expected}, found {found}");
                gaps.push(Gap::new(GapReason::DigestMismatch, detail).at(&location.0));
            }
        }
        Ok(Some(bytes))
    }
}

/// A blob as a document that is read later.
pub(super) fn blob_document(kind: DocumentKind, blob: LayerSource) -> Option<Document> {
    let content = DocumentContent::Blob(blob.location?);
    Some(Document {
        kind,
        digest: blob.digest,
        media_type: blob.media_type,
        is_of_index: false,
        attached_to: None,
        referrer: None,
        content,
    })
}

fn platform_or_digest(leaf: &Leaf) -> String {
    let digest = || leaf.digest.as_ref().map(Digest::to_string);
    leaf.platform_text.clone().or_else(digest).unwrap_or_else(|| "unknown".into())
}

/// The digest in the name of a file, as in `<hex>.json` and `blobs/sha256/<hex>`.
fn digest_in_name(path: &str) -> Option<Digest> {
    let name = path.rsplit('/').next()?;
    let name = name.strip_prefix("sha256:").unwrap_or(name);
    format!("sha256:{}", name.strip_suffix(".json").unwrap_or(name)).parse().ok()
}
