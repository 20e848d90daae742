//! Layers before and after, by the digest of their uncompressed bytes.

use std::collections::HashSet;

use layersift_model::{Digest, ImageReport, LayerSummary};

/// The layers of two images.
#[derive(Clone, Debug)]
pub struct LayerChanges<'r> {
    /// How many layers both begin with.
    pub shared_first: usize,
    /// The layers that both have, as they are after.
    pub stayed: Vec<&'r LayerSummary>,
    /// The layers that are new.
    pub came: Vec<&'r LayerSummary>,
    /// The layers that are not there any more.
    pub went: Vec<&'r LayerSummary>,
}

impl<'r> LayerChanges<'r> {
    pub(super) fn new(before: &'r ImageReport, after: &'r ImageReport) -> LayerChanges<'r> {
        let known = |report: &'r ImageReport| report.layers.iter().filter_map(identity).collect::<HashSet<&Digest>>();
        let (old, new) = (known(before), known(after));
        let is_in = |set: &HashSet<&Digest>, layer: &LayerSummary| identity(layer).is_some_and(|id| set.contains(id));
        let (stayed, came) = after.layers.iter().partition(|layer| is_in(&old, layer));
        let is_same = |(a, b): &(&LayerSummary, &LayerSummary)| identity(a).is_some() && identity(a) == identity(b);
        LayerChanges {
            shared_first: before.layers.iter().zip(&after.layers).take_while(is_same).count(),
            stayed,
            came,
            went: before.layers.iter().filter(|layer| !is_in(&new, layer)).collect(),
        }
    }
}

/// What tells a layer from another, however it is compressed.
fn identity(layer: &LayerSummary) -> Option<&Digest> {
    layer.diff_id.as_ref().or(layer.digest.as_ref())
}
