//! The layers of a builder's cache, whose configuration says which was made on which.

use layersift_model::Digest;

use super::LayerSource;
use crate::json::Node;

/// Orders the layers of a cache so that each comes after the one that it was made on.
pub(super) fn order_by_tree(layers: &mut [LayerSource], config: Option<&Node>) {
    let nodes = config.and_then(|config| config.get("layers")).map(Node::elements).unwrap_or_default();
    let parent_of = |index: usize| -> Option<usize> {
        let Some(Node::Number(parent)) = nodes.get(index)?.get("parent") else { return None };
        usize::try_from(parent.as_i64()?).ok().filter(|parent| *parent < nodes.len())
    };
    let depth_of = |index: usize| {
        let above = std::iter::successors(parent_of(index), |parent| parent_of(*parent));
        // A circle is as deep as there are layers.
        above.take(nodes.len()).count()
    };
    let place = |layer: &LayerSource| {
        let digest = layer.digest.as_ref().map(Digest::to_string).unwrap_or_default();
        let index = nodes.iter().position(|node| node.get("blob").and_then(Node::as_str) == Some(&digest));
        (index.map_or(usize::MAX, depth_of), index.unwrap_or(usize::MAX))
    };
    layers.sort_by_cached_key(place);
}
