//! The configuration of an image, or the document in its place.

use std::sync::Arc;

use layersift_model::{Digest, Gap, GapReason};

use super::wire::Descriptor;
use super::{Document, DocumentContent, DocumentKind, Image, ImageError, ImageKind, LayerSource, choose};
use crate::config::{ConfigError, ImageConfig, MAX_VALUES, PackedConfig};
use crate::image_source::Location;
use crate::json::Node;

/// What a configuration is as JSON.
pub(super) enum Tree {
    /// A value.
    Node(Node),
    /// It claims to be the configuration of an image, and has more values than one may have.
    TooManyValues,
    /// It is missing, or no JSON.
    None,
}

impl Tree {
    /// The value.
    pub(super) fn node(&self) -> Option<&Node> {
        if let Tree::Node(node) = self { Some(node) } else { None }
    }

    /// The value.
    pub(super) fn into_node(self) -> Option<Node> {
        if let Tree::Node(node) = self { Some(node) } else { None }
    }
}

/// The configuration `config`, whose bytes are `bytes`, as JSON.
pub(super) fn tree(config: &Descriptor, bytes: Option<&[u8]>) -> Tree {
    let most = if config.is_image_config() { MAX_VALUES } else { usize::MAX };
    match bytes.map(|bytes| Node::parse_within(bytes, most)) {
        Some(Ok(Some(node))) => Tree::Node(node),
        Some(Ok(None)) if config.is_image_config() => Tree::TooManyValues,
        _ => Tree::None,
    }
}

/// Takes the configuration of `image`, or the document in its place. Returns what is read of it.
///
/// # Errors
/// If the configuration is damaged.
pub(super) fn take(
    image: &mut Image,
    media_type: Option<String>,
    place: &Location,
    bytes: Vec<u8>,
) -> Result<ImageConfig, ImageError> {
    let bytes: Arc<[u8]> = bytes.into();
    if image.kind == ImageKind::Image {
        match PackedConfig::parse(&bytes) {
            Ok((packed, read)) => {
                (image.config, image.has_config) = (packed, true);
                return Ok(read);
            }
            Err(error @ ConfigError::Damaged(_)) => return Err(damaged(place, &error)),
            Err(error @ ConfigError::TooManyValues) => {
                let detail = format!("{error}; it was scanned as a file, and its settings were not checked");
                image.gaps.push(Gap::new(GapReason::DocumentTooLarge, detail).at(&place.0));
            }
        }
    }
    image.documents.push(Document {
        kind: DocumentKind::Configuration,
        digest: image.config_digest.clone(),
        media_type,
        is_of_index: false,
        attached_to: None,
        referrer: None,
        content: DocumentContent::Bytes(bytes),
    });
    Ok(ImageConfig::default())
}

/// An image whose manifest cannot be read, from its layers and from its configuration, which is at `place`.
///
/// # Errors
/// If the configuration is damaged, or too large to be read.
pub fn without_manifest(
    place: &Location,
    digest: Digest,
    config: Vec<u8>,
    layers: Vec<LayerSource>,
) -> Result<Image, ImageError> {
    let (config, read) = PackedConfig::parse(&config.into()).map_err(|error| damaged(place, &error))?;
    let mut image = Image { config_digest: Some(digest), config, has_config: true, layers, ..Image::default() };
    choose::finish(&mut image, &read, None);
    Ok(image)
}

fn damaged(place: &Location, error: &ConfigError) -> ImageError {
    ImageError::Document { document: place.0.clone(), reason: error.to_string() }
}
