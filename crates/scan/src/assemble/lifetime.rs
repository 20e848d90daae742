//! Lifetimes: which findings of a layer later layers overwrite, delete or hard-link.
//!
//! Source: OCI image-spec v1.1, `layer.md`, "Applying Changesets" and "Whiteouts". Paths are compared
//! literally: writes through a symbolic link of a lower layer are not resolved.

use std::collections::HashMap;
use std::sync::Arc;

use layersift_model::{ImagePath, LayerFinding, LayerReport, Origin, PathKey, State, Touch, Touched};

/// A finding of a layer, with its lifetime in the image.
#[derive(Clone, Debug)]
pub struct Tracked {
    /// The finding.
    pub finding: LayerFinding,
    /// The index of the layer that added it.
    pub layer: usize,
    /// Whether it is still in the final image.
    pub state: State,
    /// The index of the layer that overwrote or deleted it.
    pub ended_by: Option<usize>,
}

/// The maximum number of findings that hard links across layers may add.
const MAX_LINKED: usize = 10_000;

/// The findings of all layers, with their lifetimes.
#[derive(Debug, Default)]
pub struct Lifetimes {
    /// The findings.
    pub tracked: Vec<Tracked>,
    /// Whether findings in hard links were dropped, because there were too many.
    pub overflowed: bool,
}

/// Follows the findings of all layers, base first, to the final image. Unread layers have no effect.
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

/// The state of a finding in its own layer.
fn begin(finding: LayerFinding, layer: usize) -> Tracked {
    let state = finding.superseded.unwrap_or(State::Present);
    let ended_by = finding.superseded.map(|_| layer);
    Tracked { finding, layer, state, ended_by }
}

/// The effect of a layer that touches `touched` on the file at `path` of a lower layer; `None` if it remains.
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

/// The findings of lower layers that hard links of this layer add under new paths.
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
            if linked.len() >= MAX_LINKED {
                all.overflowed = true;
                return linked;
            }
            linked.push(begin(original.linked(link), index));
        }
    }
    linked
}
