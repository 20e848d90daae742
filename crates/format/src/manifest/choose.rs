//! Chooses the images of an index by their platforms: by the index, as runtimes do, and by the configurations where the
//! index names no such platform.

use super::read::Leaf;
use super::{Image, ImageError};
use crate::config::ImageConfig;
use crate::platform::{Choice, Platform};
use layersift_model::list_names;

/// The leaves of an index that are wanted, and the platforms of the others.
pub(super) struct Chosen {
    pub(super) leaves: Vec<Leaf>,
    pub(super) others: Vec<Leaf>,
}

/// The platform that `choice` asks for; `None` for all images.
pub(super) fn wanted(choice: &Choice, images: usize) -> Option<Platform> {
    match choice {
        Choice::All => None,
        Choice::Default if images <= 1 => None,
        Choice::Default => Some(Platform::host()),
        Choice::One(platform) => Some(platform.clone()),
    }
}

/// `image`, if `choice` admits it.
///
/// # Errors
/// If it is for another platform.
pub(super) fn only(image: Image, choice: &Choice) -> Result<Vec<Image>, ImageError> {
    let Some(wanted) = wanted(choice, 1) else { return Ok(vec![image]) };
    match image.platform.as_deref().and_then(|platform| platform.parse::<Platform>().ok()) {
        Some(platform) if platform.rank(&wanted).is_some() => Ok(vec![image]),
        _ => Err(no_such_platform(&wanted, [image.platform.as_deref()].into_iter())),
    }
}

/// Splits `leaves` into those whose platform, which `platform` returns, serves `wanted` best, and the others. None is
/// chosen if none serves.
pub(super) fn split(leaves: Vec<Leaf>, wanted: &Platform, platform: impl Fn(&Leaf) -> Option<Platform>) -> Chosen {
    let ranks: Vec<Option<usize>> =
        leaves.iter().map(|leaf| platform(leaf).and_then(|platform| platform.rank(wanted))).collect();
    let best = ranks.iter().flatten().min().copied();
    let (mut chosen, mut others) = (Vec::new(), Vec::new());
    for (leaf, rank) in leaves.into_iter().zip(ranks) {
        if best.is_some() && rank == best { chosen.push(leaf) } else { others.push(leaf) }
    }
    Chosen { leaves: chosen, others }
}

/// The error for a platform that the target does not have.
pub(super) fn no_such_platform<'p>(wanted: &Platform, known: impl Iterator<Item = Option<&'p str>>) -> ImageError {
    let mut known: Vec<&str> = known.map(|platform| platform.unwrap_or("unknown")).collect();
    known.dedup();
    ImageError::NoSuchPlatform { wanted: wanted.to_string(), known: list_names(known, "no images") }
}

/// Assigns the diff_ids of `config` to the layers, and compares the platforms of index and configuration.
pub(super) fn finish(image: &mut Image, config: &ImageConfig, of_index: Option<&Platform>) {
    let diff_ids = &config.rootfs.diff_ids;
    for (layer, diff_id) in image.layers.iter_mut().zip(diff_ids) {
        layer.diff_id = Some(diff_id.clone());
    }
    let of_config = config.platform();
    if let (Some(of_index), Some(text)) = (of_index, &of_config)
        && let Ok(parsed) = text.parse::<Platform>()
        && (&parsed.os, &parsed.architecture) != (&of_index.os, &of_index.architecture)
    {
        image.notes.push(format!("the index says that the image is for {of_index}, but its configuration says {text}"));
    }
    if image.platform.is_none() {
        image.platform = of_config;
    }
}
