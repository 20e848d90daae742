//! Resolves the list of a source to images: walks indexes, and reads and verifies manifests and configurations.
//!
//! Sources: OCI image-spec v1.1, `manifest.md` and `image-index.md`; Docker's schema 2 manifests have the same shape.
//! The kind of a document is told by its fields, because many tools omit `mediaType`.

use std::cell::RefCell;
use std::collections::HashSet;

use oci_spec::image::{Descriptor, ImageIndex, ImageManifest};

use super::config::ImageConfig;
use super::platform::{Choice, Platform};
use crate::image_source::{Fetched, ImageSource, Listed, Location};
use crate::source_error::SourceError;
use layersift_model::{Digest, Gap, GapReason, Hasher, Limits};

/// An image, ready to have its layers read.
#[derive(Debug, Default)]
pub struct Image {
    /// The name of the image.
    pub reference: Option<String>,
    /// The digest of its manifest.
    pub manifest_digest: Option<Digest>,
    /// The digest of its configuration.
    pub config_digest: Option<Digest>,
    /// `os/architecture[/variant]`.
    pub platform: Option<String>,
    /// Its configuration; empty for a root file system.
    pub config: ImageConfig,
    /// Whether the image has a configuration.
    pub has_config: bool,
    /// Its layers, base first.
    pub layers: Vec<LayerSource>,
    /// Documents of the image that could not be read or verified.
    pub gaps: Vec<Gap>,
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
    /// Other addresses of the blob, for a foreign layer.
    pub urls: Vec<String>,
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

/// The annotation by which BuildKit marks the manifest of an attestation, which is not an image.
const ATTESTATION: &str = "vnd.docker.reference.type";

/// The images of a source.
///
/// # Errors
/// If the source cannot be read, a document is damaged, or no image is for the requested platform.
pub fn images(source: &dyn ImageSource, choice: &Choice, limits: &Limits) -> Result<Vec<Image>, ImageError> {
    let reader = DocumentReader { source, limits, configs: RefCell::default() };
    let mut images: Vec<Image> = Vec::new();
    let mut seen = HashSet::new();
    for listed in source.list()? {
        let found = match listed {
            Listed::RootFs { layer } => vec![root_fs(layer)],
            Listed::DockerArchive { reference, config, layers } => {
                let image = reader.docker_archive(reference, &config, layers)?;
                if reader.knows(&image) { Vec::new() } else { choose(vec![image], choice)? }
            }
            Listed::Manifest { reference, location, digest } => {
                reader.manifests(reference, location, digest, choice)?
            }
        };
        // An image with several tags is read once.
        images.extend(found.into_iter().filter(|image| match &image.manifest_digest {
            Some(digest) => seen.insert(digest.clone()),
            None => true,
        }));
        if images.len() > limits.manifests {
            return Err(ImageError::IndexTooLarge { document: "the target".into() });
        }
    }
    if images.is_empty() {
        return Err(ImageError::Document { document: "the target".into(), reason: "no image found".into() });
    }
    Ok(images)
}

fn root_fs(layer: Location) -> Image {
    Image { layers: vec![LayerSource { location: Some(layer), ..LayerSource::default() }], ..Image::default() }
}

/// A manifest, as an index or the source lists it.
struct ListedManifest {
    location: Location,
    digest: Option<Digest>,
    platform: Option<Platform>,
    bytes: Option<Vec<u8>>,
    gaps: Vec<Gap>,
}

struct DocumentReader<'s> {
    source: &'s dyn ImageSource,
    limits: &'s Limits,
    /// The configurations of all manifests that were read, for any platform.
    configs: RefCell<HashSet<Digest>>,
}

impl DocumentReader<'_> {
    fn manifests(
        &self,
        reference: Option<String>,
        location: Location,
        digest: Option<Digest>,
        choice: &Choice,
    ) -> Result<Vec<Image>, ImageError> {
        let mut manifests = Vec::new();
        let root = ListedManifest { location, digest, platform: None, bytes: None, gaps: Vec::new() };
        self.walk(root, 0, &mut HashSet::new(), &mut manifests)?;
        let images =
            manifests.into_iter().map(|listed| self.image(reference.clone(), listed)).collect::<Result<Vec<_>, _>>();
        choose(images?, choice)
    }

    /// Collects the manifests below a document that is a manifest or an index.
    fn walk(
        &self,
        mut listed: ListedManifest,
        depth: usize,
        seen: &mut HashSet<Location>,
        manifests: &mut Vec<ListedManifest>,
    ) -> Result<(), ImageError> {
        if !seen.insert(listed.location.clone()) {
            return Ok(());
        }
        if depth > self.limits.index_depth || manifests.len() >= self.limits.manifests {
            return Err(ImageError::IndexTooLarge { document: listed.location.0 });
        }
        let Some(bytes) = self.document(&listed.location, listed.digest.as_ref(), &mut listed.gaps)? else {
            if listed.digest.is_none() {
                let reason = "not found; the target is not an image".into();
                return Err(ImageError::Document { document: listed.location.0, reason });
            }
            manifests.push(listed);
            return Ok(());
        };
        let Some(index) = as_index(&listed.location, &bytes)? else {
            manifests.push(ListedManifest { bytes: Some(bytes), ..listed });
            return Ok(());
        };
        let before = manifests.len();
        for descriptor in index.manifests() {
            if is_attestation(descriptor) {
                continue;
            }
            let digest = digest_of(&listed.location, descriptor)?;
            let location = self.source.locate_manifest(&digest);
            let platform = descriptor.platform().as_ref().map(platform_of);
            let gaps = listed.gaps.clone();
            let child = ListedManifest { location, digest: Some(digest), platform, bytes: None, gaps };
            self.walk(child, depth + 1, seen, manifests)?;
        }
        // The gaps of an index without manifests must still reach the report.
        if manifests.len() == before && !listed.gaps.is_empty() {
            manifests.push(listed);
        }
        Ok(())
    }

    fn image(&self, reference: Option<String>, listed: ListedManifest) -> Result<Image, ImageError> {
        let ListedManifest { location, digest, platform, bytes, mut gaps } = listed;
        let platform = platform.map(|platform| platform.to_string());
        // An index may name manifests of platforms that were not copied. That only matters for the chosen platform.
        let Some(bytes) = bytes else {
            return Ok(Image { reference, manifest_digest: digest, platform, gaps, ..Image::default() });
        };
        let failed = |reason: String| ImageError::Document { document: location.0.clone(), reason };
        let manifest: ImageManifest = serde_json::from_slice(&bytes).map_err(|error| failed(error.to_string()))?;
        let config_digest = digest_of(&location, manifest.config())?;
        self.configs.borrow_mut().insert(config_digest.clone());
        let place = self.source.locate(&config_digest);
        let config = match self.document(&place, Some(&config_digest), &mut gaps)? {
            Some(bytes) => Some(parse_config(&place, &bytes)?),
            None => None,
        };
        self.bound_layers(&location, manifest.layers().len())?;
        let mut layers = Vec::new();
        for descriptor in manifest.layers() {
            layers.push(self.layer(&location, descriptor)?);
        }
        let has_config = config.is_some();
        let mut image = Image {
            reference,
            manifest_digest: Some(digest.unwrap_or_else(|| Digest::of(&bytes))),
            config_digest: Some(config_digest),
            platform,
            config: config.unwrap_or_default(),
            has_config,
            layers,
            gaps,
        };
        finish(&mut image);
        Ok(image)
    }

    fn bound_layers(&self, document: &Location, layers: usize) -> Result<(), ImageError> {
        if layers <= self.limits.layers {
            return Ok(());
        }
        let reason = format!("the manifest names {layers} layers, more than the limit of {}", self.limits.layers);
        Err(ImageError::Document { document: document.0.clone(), reason })
    }

    /// Whether a manifest with the same configuration was read: an archive may list one image in both formats.
    fn knows(&self, image: &Image) -> bool {
        image.config_digest.as_ref().is_some_and(|digest| self.configs.borrow().contains(digest))
    }

    fn layer(&self, manifest: &Location, descriptor: &Descriptor) -> Result<LayerSource, ImageError> {
        let digest = digest_of(manifest, descriptor)?;
        Ok(LayerSource {
            location: Some(self.source.locate(&digest)),
            digest: Some(digest),
            size: Some(descriptor.size()),
            diff_id: None,
            media_type: Some(descriptor.media_type().to_string()),
            urls: descriptor.urls().clone().unwrap_or_default(),
        })
    }

    fn docker_archive(
        &self,
        reference: Option<String>,
        config: &Location,
        layers: Vec<Location>,
    ) -> Result<Image, ImageError> {
        self.bound_layers(config, layers.len())?;
        let mut gaps = Vec::new();
        let bytes = self.document(config, digest_in_name(&config.0).as_ref(), &mut gaps)?;
        let parsed = bytes.as_deref().map(|bytes| parse_config(config, bytes)).transpose()?;
        let layer = |location: Location| LayerSource {
            digest: location.0.starts_with("blobs/").then(|| digest_in_name(&location.0)).flatten(),
            location: Some(location),
            media_type: Some("application/vnd.docker.image.rootfs.diff.tar".into()),
            ..LayerSource::default()
        };
        let mut image = Image {
            reference,
            config_digest: bytes.as_deref().map(Digest::of),
            has_config: parsed.is_some(),
            config: parsed.unwrap_or_default(),
            layers: layers.into_iter().map(layer).collect(),
            gaps,
            ..Image::default()
        };
        finish(&mut image);
        Ok(image)
    }

    /// Reads a document, and adds a gap if its digest differs. `None`, and a gap, if the document is missing.
    fn document(
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
                gaps.push(Gap::new(GapReason::MissingBlob, "the image does not contain this document").at(&location.0));
                return Ok(None);
            }
        };
        let limit = self.limits.document_bytes;
        let bytes = blob.read_document(limit).map_err(|error| failed(error.to_string()))?;
        let bytes = bytes.ok_or_else(|| failed(format!("the document is larger than {limit} bytes")))?;
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

/// Assigns the diff_ids of the configuration to the layers, and sets the platform if the index names none.
fn finish(image: &mut Image) {
    let diff_ids = &image.config.rootfs.diff_ids;
    if image.has_config && diff_ids.len() != image.layers.len() {
        let detail = format!(
            "the image has {} layers, but its configuration has {} diff_ids",
            image.layers.len(),
            diff_ids.len()
        );
        image.gaps.push(Gap::new(GapReason::DiffIdMismatch, detail));
    }
    for (layer, diff_id) in image.layers.iter_mut().zip(diff_ids) {
        layer.diff_id = Some(diff_id.clone());
    }
    image.platform = image.config.platform().or(image.platform.take());
}

/// The digests of the images of a document: `digest` for a manifest, or the digests of the manifests of an index,
/// without attestations. `None` if the document does not tell: it is damaged, or an index of indexes.
pub fn image_digests(digest: &Digest, bytes: &[u8]) -> Option<Vec<Digest>> {
    let nowhere = Location(digest.to_string());
    let Some(index) = as_index(&nowhere, bytes).ok()? else { return Some(vec![digest.clone()]) };
    let children = index.manifests().iter().filter(|child| !is_attestation(child));
    children.map(|child| digest_of(&nowhere, child).ok()).collect()
}

fn choose(images: Vec<Image>, choice: &Choice) -> Result<Vec<Image>, ImageError> {
    let wanted = match choice {
        Choice::All => return Ok(images),
        Choice::Default if images.len() == 1 => return Ok(images),
        Choice::Default => Platform::host(),
        Choice::One(platform) => platform.clone(),
    };
    let fits = |image: &Image| {
        let platform: Option<Platform> = image.platform.as_deref().and_then(|text| text.parse().ok());
        platform.is_some_and(|platform| platform.satisfies(&wanted))
    };
    // Several images may match, such as variants with gzip and Zstandard layers: a runtime may run any of them.
    let (chosen, others): (Vec<Image>, Vec<Image>) = images.into_iter().partition(fits);
    if !chosen.is_empty() {
        return Ok(chosen);
    }
    let known: Vec<String> =
        others.into_iter().map(|image| image.platform.unwrap_or_else(|| "an unnamed platform".into())).collect();
    let known = if known.is_empty() { "none".into() } else { known.join(", ") };
    Err(ImageError::NoSuchPlatform { wanted: wanted.to_string(), known })
}

/// Whether a descriptor is that of an attestation. BuildKit gives attestations a platform that no runtime chooses; on
/// any other platform the annotation is ignored, because it could hide an image.
fn is_attestation(descriptor: &Descriptor) -> bool {
    let unknown = |platform: Platform| platform.os == "unknown" && platform.architecture == "unknown";
    let marked = descriptor.annotations().as_ref().and_then(|all| all.get(ATTESTATION)).map(String::as_str);
    marked == Some("attestation-manifest") && descriptor.platform().as_ref().map(platform_of).is_some_and(unknown)
}

fn as_index(location: &Location, bytes: &[u8]) -> Result<Option<ImageIndex>, ImageError> {
    let failed = |error: serde_json::Error| ImageError::Document {
        document: location.0.clone(),
        reason: format!("the document is neither a manifest nor an index: {error}"),
    };
    #[derive(serde::Deserialize)]
    struct Shape {
        manifests: Option<serde::de::IgnoredAny>,
        layers: Option<serde::de::IgnoredAny>,
        config: Option<serde::de::IgnoredAny>,
    }
    let shape: Shape = serde_json::from_slice(bytes).map_err(failed)?;
    if shape.manifests.is_none() {
        return Ok(None);
    }
    // CVE-2021-41190: tools disagree on how to read such a document, so a scanner may scan what a runtime does not run.
    if shape.layers.is_some() || shape.config.is_some() {
        let reason =
            "the document is both a manifest and an index, which tools read differently (CVE-2021-41190)".into();
        return Err(ImageError::Document { document: location.0.clone(), reason });
    }
    serde_json::from_slice(bytes).map(Some).map_err(failed)
}

fn parse_config(location: &Location, bytes: &[u8]) -> Result<ImageConfig, ImageError> {
    ImageConfig::parse(bytes)
        .map_err(|error| ImageError::Document { document: location.0.clone(), reason: error.to_string() })
}

fn digest_of(document: &Location, descriptor: &Descriptor) -> Result<Digest, ImageError> {
    let text: &str = descriptor.digest().as_ref();
    text.parse().map_err(|error| ImageError::Document { document: document.0.clone(), reason: format!("{error}") })
}

fn platform_of(platform: &oci_spec::image::Platform) -> Platform {
    Platform {
        os: platform.os().to_string(),
        architecture: platform.architecture().to_string(),
        variant: platform.variant().clone(),
    }
}

/// The digest in the name of a file, as in `<hex>.json` and `blobs/sha256/<hex>`.
fn digest_in_name(path: &str) -> Option<Digest> {
    let name = path.rsplit('/').next()?;
    let name = name.strip_prefix("sha256:").unwrap_or(name);
    format!("sha256:{}", name.strip_suffix(".json").unwrap_or(name)).parse().ok()
}
