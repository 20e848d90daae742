//! Lifetimes: what of a layer's findings later layers overwrite, delete or link on.
//!
//! Source: OCI image-spec v1.1, `layer.md`, "Applying Changesets" and "Whiteouts". Paths are compared as they are
//! written: a layer that writes through a symbolic link of a lower layer is not followed.

use std::collections::HashMap;
use std::sync::Arc;

use layersift_model::{ImagePath, LayerFinding, LayerReport, Origin, PathKey, State, Touch, Touched};

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

/// The findings of all layers, and whether that is all of them.
#[derive(Debug, Default)]
pub struct Lifetimes {
    /// What was found.
    pub tracked: Vec<Tracked>,
    /// Whether hard links carry on more findings than are followed.
    pub overflowed: bool,
}

/// Follows the findings of all layers, base first, to the final image. Layers that were not read change nothing.
pub fn follow(layers: &[Option<Arc<LayerReport>>]) -> Lifetimes {
    let mut all = Lifetimes::default();
    for (index, report) in layers.iter().enumerate() {
        let Some(report) = report else { continue };
        let linked = link_on(&mut all, index, report);
        for earlier in all.tracked.iter_mut().filter(|earlier| earlier.state == State::Present) {
            if let Some(state) = ended(&earlier.finding.place.path, &report.touched) {
                earlier.state = state;
                earlier.ended_by = Some(index);
            }
        }
        all.tracked.extend(linked);
        all.tracked.extend(report.findings.iter().map(|finding| begin(finding.clone(), index)));
    }
    all
}

/// A finding when its layer is put on the ones below.
fn begin(finding: LayerFinding, layer: usize) -> Tracked {
    let state = finding.superseded.unwrap_or(State::Present);
    let ended_by = finding.superseded.map(|_| layer);
    Tracked { finding, layer, state, ended_by }
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
fn link_on(all: &mut Lifetimes, index: usize, report: &LayerReport) -> Vec<Tracked> {
    let mut linked = Vec::new();
    let wanted = report.hard_links.iter().any(|link| matches!(link.origin, Origin::Below(_)));
    if !wanted {
        return linked;
    }
    let mut present: HashMap<PathKey, Vec<&LayerFinding>> = HashMap::new();
    for tracked in all.tracked.iter().filter(|tracked| tracked.state == State::Present) {
        present.entry(tracked.finding.place.path.key()).or_default().push(&tracked.finding);
    }
    for link in &report.hard_links {
        let Origin::Below(target) = link.origin else { continue };
        for original in present.get(&target).into_iter().flatten() {
            if linked.len() >= LINKED {
                all.overflowed = true;
                return linked;
            }
            linked.push(begin(original.linked(link), index));
        }
    }
    linked
}
