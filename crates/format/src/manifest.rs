//! Resolves the list of a source to images: walks indexes, and reads and verifies manifests and configurations.
//!
//! Sources: OCI image-spec v1.1, `manifest.md` and `image-index.md`; Docker's schema 2 manifests have the same shape.
//! The kind of a document is told by its fields, because many tools omit `mediaType`. Attestations: BuildKit,
//! `docs/attestations/attestation-storage.md`. Caches: BuildKit, `cache/remotecache`.

mod cache;
mod choose;
mod classify;
mod configuration;
mod reach;
mod read;
mod referrers;
mod unpacked;
mod wire;

use std::collections::HashSet;
use std::sync::Arc;

use layersift_model::{Digest, Footprint, Gap, GapReason, Limits};

use super::config::{HistoryEntry, ImageConfig, PackedConfig};
use super::platform::{Choice, Platform};
use crate::image_source::{FileSet, ImageSource, LayerForm, Listed, Location};
use crate::json::JsonString;
use crate::source_error::SourceError;

pub use self::configuration::without_manifest;
pub use self::reach::{Reached, ReachedDocument, Unread, UnreadReason, reach};
use self::read::DocumentReader;
pub use self::referrers::{add_referrers, is_index, listed_referrers};
pub use self::unpacked::UnpackedImage;
use self::wire::WireDocument;

/// An image, ready to have its layers read.
#[derive(Clone, Debug, Default)]
pub struct Image {
    /// What it is.
    pub kind: ImageKind,
    /// The name of the image.
    pub reference: Option<String>,
    /// The digest of its manifest.
    pub manifest_digest: Option<Digest>,
    /// The digest of its configuration.
    pub config_digest: Option<Digest>,
    /// `os/architecture[/variant]`: that of the index, by which runtimes choose, or that of the configuration.
    pub platform: Option<String>,
    /// The platforms of the index that were not chosen.
    pub other_platforms: Vec<String>,
    /// Its configuration; empty for a root file system.
    pub config: PackedConfig,
    /// Whether the image has a configuration.
    pub has_config: bool,
    /// Its layers, base first; the blobs of an artifact.
    pub layers: Vec<LayerSource>,
    /// The other documents that someone who pulls the image gets: indexes, the manifest, attestations.
    pub documents: Vec<Document>,
    /// Documents of the image that could not be read or verified.
    pub gaps: Vec<Gap>,
    /// Referrers of the image that could not be read.
    pub referrer_gaps: Vec<Gap>,
    /// What a reader of the report should know besides.
    pub notes: Vec<String>,
}

/// What a manifest describes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ImageKind {
    /// A container image.
    #[default]
    Image,
    /// Any other files: a chart, a signature, a model.
    Artifact,
    /// The cache of a builder: layers that do not lie on top of each other.
    Cache,
    /// The files of a container, in the store of an engine.
    Container,
    /// The files of a volume, in the store of an engine.
    Volume,
    /// Files in the store of an engine that belong to no image, container or volume.
    Orphan,
}

/// The location of a layer, and what the manifest and the configuration say about it.
#[derive(Clone, Debug, Default)]
pub struct LayerSource {
    /// The location of the blob; `None` if the manifest has no digest for it.
    pub location: Option<Location>,
    /// The digest that the manifest names.
    pub digest: Option<Digest>,
    /// The size in bytes that the manifest names.
    pub size: Option<u64>,
    /// The digest that the configuration names for the uncompressed bytes.
    pub diff_id: Option<Digest>,
    /// The media type that the manifest names.
    pub media_type: Option<String>,
    /// The file name of a blob of an artifact.
    pub title: Option<String>,
    /// Other addresses of the blob, for a foreign layer.
    pub urls: Vec<String>,
}

/// A document of an image, apart from its configuration.
#[derive(Clone, Debug)]
pub struct Document {
    /// What it is.
    pub kind: DocumentKind,
    /// Its digest.
    pub digest: Option<Digest>,
    /// Its media type.
    pub media_type: Option<String>,
    /// Whether it belongs to an index that names the image, and not to the image alone.
    pub is_of_index: bool,
    /// The manifest that the index, or the manifest of an attestation, attaches it to.
    pub attached_to: Option<Digest>,
    /// The manifest of the referrer that it is, or is a part of.
    pub referrer: Option<Digest>,
    /// What is in it.
    pub content: DocumentContent,
}

/// The manifest of an image, as the indexes that lead to it name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its digest.
    pub digest: Digest,
    /// Its media type; empty for a document that no index names.
    pub media_type: String,
    /// Its size in bytes.
    pub size: Option<u64>,
    /// The platform by which runtimes choose it.
    pub platform: Option<Platform>,
}

/// What a document of an image is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DocumentKind {
    /// An index that names the manifest.
    Index,
    /// The manifest of the image, or of one of its attestations.
    Manifest,
    /// A statement on how the image was built.
    Provenance,
    /// A software bill of materials.
    Sbom,
    /// Any other attestation.
    Attestation,
    /// The signed content, or another part, of a signature.
    Signature,
    /// A list of what refers to the image.
    Referrers,
    /// The manifest of an artifact that refers to the image.
    Referrer,
    /// The configuration of an artifact, an attestation or a cache; or one of an image that is too large to be read.
    Configuration,
    /// A blob of an artifact.
    Blob,
}

/// The content of a document.
#[derive(Clone, Debug)]
pub enum DocumentContent {
    /// The bytes of the document.
    Bytes(Arc<[u8]>),
    /// The strings of a part of a document.
    Strings(Arc<[JsonString]>),
    /// A blob that was not read yet.
    Blob(Location),
}

/// Why the images of a target cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The source itself failed.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A document is missing, damaged or too large.
    #[error("{document}: {reason}")]
    Document {
        /// The document.
        document: String,
        /// What is wrong with it.
        reason: String,
    },
    /// No image of the target is for the requested platform.
    #[error(
        "no image for platform {wanted}; the target has {known}; choose one with --platform OS/ARCH, or --platform all"
    )]
    NoSuchPlatform {
        /// The requested platform.
        wanted: String,
        /// The platforms of the target.
        known: String,
    },
    /// Indexes are nested deeper, or name more manifests, than the limit.
    #[error("{document}: indexes are nested too deeply or name too many manifests")]
    IndexTooLarge {
        /// The index at which the limit was reached.
        document: String,
    },
}

impl ImageKind {
    /// The name of the kind in the targets of reports.
    pub fn name(self) -> &'static str {
        match self {
            ImageKind::Image => "image",
            ImageKind::Artifact => "artifact",
            ImageKind::Cache => "cache",
            ImageKind::Container => "container",
            ImageKind::Volume => "volume",
            ImageKind::Orphan => "orphan",
        }
    }
}

/// Of its documents, only those whose bytes it has.
impl Footprint for Image {
    fn footprint(&self) -> u64 {
        let documents = self.documents.iter().map(|document| match &document.content {
            DocumentContent::Bytes(bytes) => bytes.len(),
            DocumentContent::Strings(strings) => strings.iter().map(|one| one.path.len() + one.text.len()).sum(),
            DocumentContent::Blob(location) => location.0.len(),
        });
        let documents = self.documents.len() * size_of::<Document>() + documents.sum::<usize>();
        let texts = self.notes.iter().chain(&self.other_platforms).map(|text| size_of::<String>() + text.len());
        let gaps = self.gaps.iter().chain(&self.referrer_gaps).map(Footprint::footprint).sum::<u64>();
        let layers = self.layers.iter().map(Footprint::footprint).sum::<u64>();
        (size_of::<Image>() + documents + texts.sum::<usize>()) as u64 + self.config.bytes() + gaps + layers
    }
}

impl Footprint for LayerSource {
    fn footprint(&self) -> u64 {
        let location = self.location.as_ref().map_or(0, |location| location.0.len());
        let texts = [&self.media_type, &self.title].into_iter().flatten().map(String::len).sum::<usize>();
        let urls = self.urls.iter().map(|url| size_of::<String>() + url.len()).sum::<usize>();
        (size_of::<LayerSource>() + location + texts + urls) as u64
    }
}

impl LayerSource {
    /// Whether the blob is a layer of an image by its media type. Old tools left the type out.
    pub fn is_layer(&self) -> bool {
        wire::is_layer_type(self.media_type.as_deref().unwrap_or_default())
    }
}

impl DocumentKind {
    /// What a statement with this type of predicate is.
    pub fn of_predicate(predicate: &str) -> DocumentKind {
        let predicate = predicate.to_ascii_lowercase();
        if predicate.contains("slsa.dev/provenance") {
            DocumentKind::Provenance
        } else if predicate.contains("spdx") || predicate.contains("cyclonedx") {
            DocumentKind::Sbom
        } else {
            DocumentKind::Attestation
        }
    }

    /// The name of the kind in reports.
    pub fn name(self) -> &'static str {
        match self {
            DocumentKind::Index => "index",
            DocumentKind::Manifest => "manifest",
            DocumentKind::Provenance => "provenance",
            DocumentKind::Sbom => "sbom",
            DocumentKind::Attestation => "attestation",
            DocumentKind::Signature => "signature",
            DocumentKind::Referrers => "referrers",
            DocumentKind::Referrer => "referrer",
            DocumentKind::Configuration => "configuration",
            DocumentKind::Blob => "blob",
        }
    }
}

/// The images of a source.
///
/// # Errors
/// If the source cannot be read, a document is damaged, or no image is for the requested platform.
pub fn images(source: &dyn ImageSource, choice: &Choice, limits: &Limits) -> Result<Vec<Image>, ImageError> {
    let reader = DocumentReader::new(source, limits);
    let mut images: Vec<Image> = Vec::new();
    let mut seen = HashSet::new();
    for listed in source.list()? {
        let name = listed.reference();
        let found = match reader.listed(listed, choice, &mut images) {
            Err(error) if source.has_rest() => vec![unreadable(name, &error)],
            found => found?,
        };
        // An image with several tags is read once.
        images.extend(found.into_iter().filter(|image| match &image.manifest_digest {
            Some(digest) => seen.insert(digest.clone()),
            None => true,
        }));
        if images.len() > limits.manifests {
            return Err(ImageError::IndexTooLarge { document: "the target".into() });
        }
        reader.bound_all_layers(images.iter().map(|image| image.layers.len()).sum())?;
    }
    if images.is_empty() && !source.has_rest() {
        return Err(ImageError::Document { document: "the target".into(), reason: "no image found".into() });
    }
    if source.is_store() {
        images.iter_mut().for_each(|image| stored_layers(source, image));
    }
    Ok(images)
}

/// The manifests that the one document of a source leads to, through indexes of indexes as well: those of which
/// [`images`] returns an image. Attestations are not among them. A manifest that is not an index is its own member.
///
/// # Errors
/// As for [`images`].
pub fn members(source: &dyn ImageSource, limits: &Limits) -> Result<Vec<Member>, ImageError> {
    let reader = DocumentReader::new(source, limits);
    let mut members = Vec::new();
    for listed in source.list()? {
        let Listed::Manifest { location, digest, .. } = listed else { continue };
        members.extend(reader.members(location, digest)?);
    }
    Ok(members)
}

/// The files of a store that are in no image, as an image of their kind.
pub fn file_set(files: FileSet) -> Image {
    let FileSet { kind, layers, notes, gaps, .. } = files;
    let entry = |what: &String| HistoryEntry { created_by: what.clone(), ..HistoryEntry::default() };
    let history = layers.iter().map(|(_, what)| entry(what)).collect();
    let layer = |(location, _)| LayerSource { location: Some(location), ..LayerSource::default() };
    Image {
        kind,
        config: ImageConfig { history, ..ImageConfig::default() }.into(),
        layers: layers.into_iter().map(layer).collect(),
        notes,
        gaps,
        ..Image::default()
    }
}

/// Checks that a document with this `digest` is a manifest or an index that can be read at all.
///
/// # Errors
/// [`ImageError::Document`] for a document of another kind, or of a version that is not supported.
pub fn check_document(digest: &Digest, bytes: &[u8]) -> Result<(), ImageError> {
    WireDocument::parse(&Location(digest.to_string()), bytes).map(drop)
}

/// The digests under which [`images_and_index`] returns images for a document with this `digest`: of a manifest, that
/// digest; of an index, also those of the manifests that it names, attestations apart. `None` if the document does not
/// tell: it is damaged, or an index of indexes.
pub fn image_digests(digest: &Digest, bytes: &[u8]) -> Option<Vec<Digest>> {
    let nowhere = Location(digest.to_string());
    let document = WireDocument::parse(&nowhere, bytes).ok()?;
    let entries = document.manifests.as_ref().filter(|_| !document.is_cache_index()).into_iter().flatten();
    let entries: Vec<_> = entries.filter(|entry| !entry.is_attestation()).collect();
    if entries.iter().any(|entry| entry.is_index()) {
        return None;
    }
    std::iter::once(Some(digest.clone())).chain(entries.iter().map(|entry| entry.digest(&nowhere).ok())).collect()
}

/// The platforms that an index names, attestations apart, in the order of the alphabet. None for any other document.
pub fn index_platforms(bytes: &[u8]) -> Vec<String> {
    let document = WireDocument::parse(&Location("the index".into()), bytes).ok();
    let entries = document.and_then(|document| document.manifests).unwrap_or_default();
    let running = entries.iter().filter(|entry| !entry.is_attestation());
    let mut platforms: Vec<String> = running.filter_map(|entry| Some(entry.platform.as_ref()?.text())).collect();
    platforms.sort_unstable();
    platforms.dedup();
    platforms
}

/// All images of a source, and each index as an artifact of its own that has the documents of the index. A store that
/// keeps one report for each digest needs this: the same image may be named by several indexes.
///
/// # Errors
/// As for [`images`].
pub fn images_and_index(source: &dyn ImageSource, index: &Digest, limits: &Limits) -> Result<Vec<Image>, ImageError> {
    let mut images = images(source, &Choice::All, limits)?;
    let mut documents: Vec<Document> = Vec::new();
    let mut seen = HashSet::new();
    let mut notes = Vec::new();
    for image in images.iter_mut().filter(|image| image.manifest_digest.as_ref() != Some(index)) {
        let (of_index, own): (Vec<Document>, Vec<Document>) =
            std::mem::take(&mut image.documents).into_iter().partition(|document| document.is_of_index);
        image.documents = own;
        documents.extend(of_index.into_iter().filter(|document| seen.insert((document.kind, document.digest.clone()))));
        notes.append(&mut image.notes);
    }
    notes.sort();
    notes.dedup();
    let reference = images.first().and_then(|image| image.reference.clone());
    if !documents.is_empty() && images.iter().all(|image| image.manifest_digest.as_ref() != Some(index)) {
        images.push(Image {
            kind: ImageKind::Artifact,
            reference,
            manifest_digest: Some(index.clone()),
            documents,
            notes,
            ..Image::default()
        });
    }
    Ok(images)
}

impl DocumentReader<'_> {
    /// The images of an entry of a listing; `images` are those of the entries before it.
    fn listed(&self, listed: Listed, choice: &Choice, images: &mut Vec<Image>) -> Result<Vec<Image>, ImageError> {
        Ok(match listed {
            Listed::RootFs { layer } => vec![root_fs(layer)],
            Listed::Files(files) => vec![file_set(files)],
            Listed::DockerArchive { reference, config, layers, listing } => {
                let mut image = self.docker_archive(reference, &config, layers)?;
                let listing = read::document_of(listing);
                if let Some(known) = known(&image, images) {
                    known.documents.extend(listing);
                    return Ok(Vec::new());
                }
                image.documents.extend(listing);
                choose::only(image, choice)?
            }
            Listed::Manifest { reference, location, digest, listing } => {
                self.manifests(reference, location, digest, listing, choice)?
            }
        })
    }
}

/// The image that an archive lists in its `index.json` as it lists `image`, an entry of its `manifest.json`. Some
/// versions of Docker leave the layers out there.
fn known<'i>(image: &Image, images: &'i mut Vec<Image>) -> Option<&'i mut Image> {
    let known = images.iter().position(|known| known.config_digest == image.config_digest)?;
    let places = |image: &Image| image.layers.iter().map(|layer| layer.location.clone()).collect::<Vec<_>>();
    if images[known].layers.is_empty() && !image.layers.is_empty() {
        images.remove(known);
        return None;
    }
    images.get_mut(known).filter(|known| places(known) == places(image))
}

/// An image of a store that cannot be read.
fn unreadable(reference: Option<String>, error: &ImageError) -> Image {
    let gaps = vec![Gap::new(GapReason::DamagedDocument, error.to_string())];
    Image { reference, gaps, ..Image::default() }
}

/// Removes digests that cannot be compared, because the store has the files of a layer and not its blob.
fn stored_layers(source: &dyn ImageSource, image: &mut Image) {
    let mut not_compared = Vec::new();
    for (index, layer) in image.layers.iter_mut().enumerate() {
        let Some(location) = &layer.location else { continue };
        match source.layer_form(location) {
            LayerForm::Blob => continue,
            LayerForm::Archive => {}
            LayerForm::Files => {
                layer.diff_id = None;
                not_compared.push(index.to_string());
            }
        }
        (layer.digest, layer.size) = (None, None);
    }
    if !not_compared.is_empty() {
        image.notes.push(format!(
            "the engine kept only the unpacked files of layer {}; its digest could not be compared",
            not_compared.join(", ")
        ));
    }
}

fn root_fs(layer: Location) -> Image {
    Image { layers: vec![LayerSource { location: Some(layer), ..LayerSource::default() }], ..Image::default() }
}
