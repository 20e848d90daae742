//! Lifetimes: what of a layer's findings later layers overwrite, delete or link on.
//!
//! Source: OCI image-spec v1.1, `layer.md`, "Applying Changesets" and "Whiteouts". Paths are compared as they are
//! written: a layer that writes through a symbolic link of a lower layer is not followed.

use std::sync::Arc;

use crate::finding::{LayerFinding, State};
use crate::layer_report::{LayerReport, Origin, Touch, Touched};
use crate::path::ImagePath;

/// A finding in the image, with its lifetime.
#[derive(Clone, Debug)]
pub struct Tracked {
    /// What was found.
    pub finding: LayerFinding,
    /// The layer that brought it.
    pub layer: usize,
    /// Whether it is still there.
    pub state: State,
    /// The layer that overwrote or deleted it.
    pub ended_by: Option<usize>,
}

/// Findings that hard links across layers may add, all together.
const LINKED: usize = 10_000;

/// Follows the findings of all layers, base first, to the final image. Layers that were not read change nothing.
pub fn follow(layers: &[Option<Arc<LayerReport>>]) -> Vec<Tracked> {
    let mut tracked: Vec<Tracked> = Vec::new();
    for (index, report) in layers.iter().enumerate() {
        let Some(report) = report else { continue };
        let linked = link_on(&tracked, index, report);
        for earlier in tracked.iter_mut().filter(|earlier| earlier.state == State::Present) {
            if let Some(state) = ended(&earlier.finding.place.path, &report.touched) {
                earlier.state = state;
                earlier.ended_by = Some(index);
            }
        }
        tracked.extend(linked);
        tracked.extend(report.findings.iter().map(|finding| Tracked {
            finding: finding.clone(),
            layer: index,
            state: finding.superseded.unwrap_or(State::Present),
            ended_by: finding.superseded.map(|_| index),
        }));
    }
    tracked
}

/// What happens to the file at `path` when a layer that touches `touched` comes on top.
fn ended(path: &ImagePath, touched: &Touched) -> Option<State> {
    let key = path.key();
    if touched.has(key, Touch::Other) || touched.has(key, Touch::Directory) {
        return Some(State::Overwritten);
    }
    let removed = touched.has(key, Touch::Whiteout)
        || path.ancestors().any(|above| {
            let key = above.key();
            [Touch::Whiteout, Touch::Opaque, Touch::Other].iter().any(|touch| touched.has(key, *touch))
        });
    removed.then_some(State::Deleted)
}

/// What hard links of a layer to files of lower layers carry on.
fn link_on(tracked: &[Tracked], index: usize, report: &LayerReport) -> Vec<Tracked> {
    let mut linked = Vec::new();
    for link in &report.hard_links {
        let Origin::Below(target) = link.origin else { continue };
        let present = tracked.iter().filter(|earlier| earlier.state == State::Present);
        for original in present.filter(|earlier| earlier.finding.place.path.key() == target) {
            if linked.len() >= LINKED {
                return linked;
            }
            let mut finding = original.finding.clone();
            finding.note = Some(format!("hard link to {}", original.finding.place.path));
            finding.place.path = link.link.clone();
            linked.push(Tracked { finding, layer: index, state: State::Present, ended_by: None });
        }
    }
    linked
}
