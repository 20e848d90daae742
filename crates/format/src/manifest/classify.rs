//! Tells what a manifest describes: an image, a cache of a builder, or an artifact.
//!
//! Blobs that are not layers by their media types are told apart once they are read, in the assembly of the report.

use super::ImageKind;
use super::configuration::Tree;
use super::wire::{Descriptor, WireDocument};
use crate::config::ImageConfig;
use crate::json::Node;

/// The configuration and the blobs of a manifest, or of an index that is a BuildKit cache.
pub(super) fn parts(document: WireDocument) -> (Option<Descriptor>, Vec<Descriptor>) {
    if let Some(entries) = document.manifests {
        let (config, layers): (Vec<Descriptor>, Vec<Descriptor>) =
            entries.into_iter().partition(Descriptor::is_cache_config);
        return (config.into_iter().next(), layers);
    }
    let blobs = document.layers.into_iter().chain(document.blobs).flatten();
    (document.config, blobs.collect())
}

/// What a manifest with this configuration and these blobs is. The content decides before the media types: an image
/// with a media type that no runtime minds must not pass as an artifact.
pub(super) fn kind(config: &Descriptor, tree: &Tree, bytes: Option<&[u8]>, blobs: &[Descriptor]) -> ImageKind {
    if config.is_cache_config() {
        return ImageKind::Cache;
    }
    if let Tree::TooManyValues = tree {
        return ImageKind::Image;
    }
    let node = tree.node();
    let text = |name: &str| node.and_then(|node| node.get(name)).and_then(Node::as_str).unwrap_or_default();
    let has_platform = !text("architecture").is_empty() && text("architecture") != "unknown";
    let diff_ids = node.and_then(|node| node.get("rootfs")).and_then(|rootfs| rootfs.get("diff_ids"));
    let has_diff_ids = diff_ids.is_some_and(|list| !list.elements().is_empty());
    let has_layers = blobs.iter().any(Descriptor::is_layer);
    let is_image = match bytes {
        // What cannot be read is held to be what its media type says.
        None => config.is_image_config(),
        Some(_) if config.is_image_config() => has_layers || blobs.is_empty() || has_platform,
        // No runtime runs what it cannot parse.
        Some(bytes) => has_diff_ids && (has_layers || has_platform) && ImageConfig::parse(bytes).is_ok(),
    };
    if is_image { ImageKind::Image } else { ImageKind::Artifact }
}
