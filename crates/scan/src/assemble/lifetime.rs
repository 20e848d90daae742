//! Lifetimes: which findings of a layer later layers overwrite, delete or hard-link.
//!
//! Source: OCI image-spec v1.1, `layer.md`, "Applying Changesets" and "Whiteouts". Symbolic links of lower layers are
//! followed in the directories of a path, as by a runtime that extracts one layer over the other. A runtime that stacks
//! layers as overlay file systems puts a directory in the place of such a link, and keeps the file below the other
//! path; [`Tracked::through`] says where that differs.

use std::collections::HashMap;
use std::sync::Arc;

use layersift_model::{ImagePath, LayerFinding, LayerReport, Origin, PathKey, State, Touch, Touched};

use crate::layer::symlinks::{RelevantLinks, Symlinks};

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
    /// The path by which that layer overwrote or deleted it, if symbolic links lead from there to the file.
    pub through: Option<ImagePath>,
    /// The path with the symbolic links in its directories followed.
    real: ImagePath,
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
    let relevant = relevant_links(layers);
    let mut symlinks = Symlinks::default();
    for (index, report) in layers.iter().enumerate() {
        let Some(report) = report else { continue };
        let before = symlinks.clone();
        // A link that the layer replaces is not followed in this layer.
        symlinks.retain(|link, all| !is_replaced(link, &report.touched, all));
        let below = symlinks.clone();
        symlinks.add(report.symlinks.iter().filter(|link| relevant.has(link)));
        let linked = link_on(&mut all, index, report, &before, &symlinks);
        for earlier in all.tracked.iter_mut().filter(|earlier| earlier.state == State::Present) {
            if let Some((state, through)) =
                ended_through(&earlier.finding.place.path, &earlier.real, &report.touched, &below)
            {
                earlier.state = state;
                earlier.ended_by = Some(index);
                earlier.through = through;
            }
        }
        all.tracked.extend(linked);
        all.tracked.extend(report.findings.iter().map(|finding| begin(finding.clone(), index, &symlinks)));
    }
    all
}

/// The findings of blobs that do not lie on top of each other.
pub fn separate(layers: &[Option<Arc<LayerReport>>]) -> Lifetimes {
    let mut all = Lifetimes::default();
    for (index, report) in layers.iter().enumerate() {
        let findings = report.iter().flat_map(|report| &report.findings);
        all.tracked.extend(findings.map(|finding| begin(finding.clone(), index, &Symlinks::default())));
    }
    all
}

/// The symbolic links that may lead to a file with a finding.
fn relevant_links(layers: &[Option<Arc<LayerReport>>]) -> RelevantLinks<'_> {
    let reports = layers.iter().flatten();
    let found = reports.clone().flat_map(|report| report.findings.iter().map(|finding| &finding.place.path));
    // Without findings, no file is followed.
    if found.clone().next().is_none() {
        return RelevantLinks::default();
    }
    let linked = reports.clone().flat_map(|report| &report.hard_links).flat_map(|link| match &link.origin {
        Origin::Below(path) => [Some(path), Some(&link.link)],
        Origin::Entry(_) => [None, None],
    });
    let linked = linked.flatten();
    RelevantLinks::new(reports.flat_map(|report| &report.symlinks), found.chain(linked))
}

/// The state of a finding in its own layer.
fn begin(finding: LayerFinding, layer: usize, symlinks: &Symlinks) -> Tracked {
    let state = finding.superseded.unwrap_or(State::Present);
    let ended_by = finding.superseded.map(|_| layer);
    let real = symlinks.resolve(&finding.place.path);
    Tracked { finding, layer, state, ended_by, through: None, real }
}

/// The effect on a file of a layer that touches `touched`, and the path through the symbolic links of the layers
/// `below` by which it has it. `path` is the file's path in its layer, and `real` that with its links followed.
pub(crate) fn ended_through(
    path: &ImagePath,
    real: &ImagePath,
    touched: &Touched,
    below: &Symlinks,
) -> Option<(State, Option<ImagePath>)> {
    // The bytes outside of all entries have no path.
    if path.is_root() {
        return None;
    }
    let named = |other: ImagePath| (other != *path).then_some(other);
    if let Some(state) = ended(real, touched) {
        return Some((state, named(real.clone())));
    }
    let mut aliases = below.aliases(real).into_iter();
    aliases.find_map(|other| Some((ended_elsewhere(&other, touched, below)?, named(other))))
}

/// The effect on a file to which `path` leads through `symlinks`. What the layer does to the links themselves is
/// another matter.
fn ended_elsewhere(path: &ImagePath, touched: &Touched, symlinks: &Symlinks) -> Option<State> {
    if touched.has(path.key(), Touch::Implied) {
        return Some(State::Overwritten);
    }
    replaced_elsewhere(path, touched, symlinks)
}

/// Whether a layer that touches `touched` replaces or removes the link at `path`, by that path or by another.
pub(crate) fn is_replaced(path: &ImagePath, touched: &Touched, symlinks: &Symlinks) -> bool {
    let mut others = symlinks.aliases(path).into_iter();
    replaced(path, touched).is_some() || others.any(|other| replaced_elsewhere(&other, touched, symlinks).is_some())
}

fn replaced_elsewhere(path: &ImagePath, touched: &Touched, symlinks: &Symlinks) -> Option<State> {
    let key = path.key();
    if touched.has(key, Touch::Other) || touched.has(key, Touch::Directory) {
        return Some(State::Overwritten);
    }
    let is_removed = |above: &ImagePath| {
        let key = above.key();
        let has_removed = [Touch::Whiteout, Touch::Other].iter().any(|touch| touched.has(key, *touch));
        touched.has(key, Touch::Opaque) || (has_removed && !symlinks.has(above))
    };
    (touched.has(key, Touch::Whiteout) || path.ancestors().any(|above| is_removed(&above))).then_some(State::Deleted)
}

/// The effect of a layer that touches `touched` on the file at `path` of a lower layer; `None` if it remains.
fn ended(path: &ImagePath, touched: &Touched) -> Option<State> {
    if touched.has(path.key(), Touch::Implied) { Some(State::Overwritten) } else { replaced(path, touched) }
}

/// The same for a link: directories that are only implied are below it.
fn replaced(path: &ImagePath, touched: &Touched) -> Option<State> {
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
fn link_on(
    all: &mut Lifetimes,
    index: usize,
    report: &LayerReport,
    before: &Symlinks,
    symlinks: &Symlinks,
) -> Vec<Tracked> {
    let mut linked = Vec::new();
    let wanted = report.hard_links.iter().any(|link| matches!(link.origin, Origin::Below(_)));
    if !wanted {
        return linked;
    }
    let mut present: HashMap<PathKey, Vec<&LayerFinding>> = HashMap::new();
    for tracked in all.tracked.iter().filter(|tracked| tracked.state == State::Present) {
        present.entry(tracked.real.key()).or_default().push(&tracked.finding);
    }
    for link in &report.hard_links {
        let Origin::Below(target) = &link.origin else { continue };
        // The link may have been made before or after the layer changed the links on the way to its target.
        let paths = [before.resolve(target), symlinks.resolve(target)];
        let is_elsewhere = paths[0] != *target;
        let own = if is_elsewhere { own_findings(report, &paths[0], link.entry, before) } else { Vec::new() };
        let below = paths.iter().find_map(|path| present.get(&path.key())).map_or(&[][..], Vec::as_slice);
        for original in if own.is_empty() { below } else { &own } {
            if linked.len() >= MAX_LINKED {
                all.overflowed = true;
                return linked;
            }
            linked.push(begin(original.linked(link), index, symlinks));
        }
    }
    linked
}

/// The findings in the file that the layer itself has at the resolved path `target` before entry `number`. The layer
/// knew it by another path, because the link that leads there is in a lower layer.
fn own_findings<'r>(
    report: &'r LayerReport,
    target: &ImagePath,
    number: u32,
    symlinks: &Symlinks,
) -> Vec<&'r LayerFinding> {
    let is_before = |finding: &&LayerFinding| finding.entry < number;
    let at_target: Vec<&LayerFinding> = report
        .findings
        .iter()
        .filter(is_before)
        .filter(|finding| finding.place.path.name() == target.name())
        .filter(|finding| symlinks.resolve(&finding.place.path) == *target)
        .collect();
    let last = at_target.iter().map(|finding| finding.entry).max();
    at_target.into_iter().filter(|finding| Some(finding.entry) == last).collect()
}
