//! Lifetimes: which findings of a layer later layers overwrite, delete or hard-link.
//!
//! Source: OCI image-spec v1.1, `layer.md`, "Applying Changesets" and "Whiteouts". Symbolic links of lower layers are
//! followed in the directories of a path, as by a runtime that extracts one layer over the other. A runtime that stacks
//! layers as overlay file systems puts a directory in the place of such a link, and keeps the file below the other
//! path; [`Tracked::through`] says where that differs.

use std::borrow::Cow;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use layersift_model::{Footprint, HardLink, ImagePath, LayerFinding, LayerReport, Origin, PathKey, State, Touched};

use super::changes::{Changes, Ending, RealPath};
use super::work::{LINK, Work};
use layersift_format::symlinks::{RelevantLinks, Symlinks};

/// The most findings that hard links across the layers of an image may add, and their bytes in memory.
const MAX_LINKED: usize = 10_000;
const MAX_LINKED_BYTES: u64 = 8 << 20;

/// The looks at a directory that take as long as looking at this many findings.
const FINDINGS_PER_LOOK: u64 = 16;

/// A finding of a layer, with its lifetime in the image.
#[derive(Clone, Debug)]
pub struct Tracked<'r> {
    /// The finding.
    pub finding: Cow<'r, LayerFinding>,
    /// The index of the layer that added it.
    pub layer: usize,
    /// Whether it is still in the final image.
    pub state: State,
    /// The index of the layer that overwrote or deleted it.
    pub ended_by: Option<usize>,
    /// The path by which that layer overwrote or deleted it, if symbolic links lead from there to the file.
    pub through: Option<ImagePath>,
    /// The path with the symbolic links in its directories followed; shared by the findings of one file.
    real: Rc<RealPath>,
}

/// The findings of all layers, with their lifetimes.
#[derive(Debug, Default)]
pub struct Lifetimes<'r> {
    /// The findings.
    pub tracked: Vec<Tracked<'r>>,
    /// How many findings in hard links were dropped, because there were too many.
    pub dropped: u64,
    /// How many findings hard links across layers added, and their bytes in memory.
    linked: usize,
    pub(crate) linked_bytes: u64,
}

/// The findings of each layer that are followed.
pub type Chosen<'r> = [Vec<&'r LayerFinding>];

/// Follows the `chosen` findings of all layers, base first, to the final image. Unread layers have no effect. A finding
/// for which no `work` is left counts as present. What hard links across layers add has `room` bytes.
pub(crate) fn follow<'r>(
    layers: &'r [Option<Arc<LayerReport>>],
    chosen: &Chosen<'r>,
    room: u64,
    work: &mut Work,
) -> Lifetimes<'r> {
    let room = room.min(MAX_LINKED_BYTES);
    let mut all = Lifetimes::default();
    let relevant = relevant_links(layers, chosen);
    let (mut symlinks, mut files) = (Symlinks::default(), FilesFound::default());
    for (index, report) in layers.iter().enumerate() {
        let Some(report) = report else { continue };
        work.take(LINK * symlinks.len() as u64);
        let before = symlinks.clone();
        // A link that the layer replaces is not followed in this layer.
        let mut changes = Changes::new(&report.touched, &before);
        symlinks.retain(|link| !changes.replace(link, work));
        let below = symlinks.clone();
        symlinks.add(report.symlinks.iter().filter(|link| relevant.has(link)));
        let linked = link_on(&mut all, &mut files, (index, report), [&before, &symlinks], room, work);
        end(&mut all.tracked, index, &report.touched, &below, work);
        all.tracked.extend(linked);
        all.tracked.extend(begin(chosen.get(index).into_iter().flatten().copied(), index, &symlinks, work));
    }
    if symlinks.is_exhausted() {
        work.exhaust();
    }
    all
}

/// The `chosen` findings of blobs that do not lie on top of each other.
pub(crate) fn separate<'r>(chosen: &Chosen<'r>, work: &mut Work) -> Lifetimes<'r> {
    let mut all = Lifetimes::default();
    for (index, findings) in chosen.iter().enumerate() {
        all.tracked.extend(begin(findings.iter().copied(), index, &Symlinks::default(), work));
    }
    all
}

/// The symbolic links that may lead to a file with a finding.
fn relevant_links<'r>(layers: &'r [Option<Arc<LayerReport>>], chosen: &Chosen<'r>) -> RelevantLinks<'r> {
    let reports = layers.iter().flatten();
    let found = chosen.iter().flatten().map(|finding| &finding.place.path);
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

/// The state of findings in their own layer.
fn begin<'r>(
    findings: impl Iterator<Item = &'r LayerFinding>,
    layer: usize,
    symlinks: &Symlinks,
    work: &mut Work,
) -> Vec<Tracked<'r>> {
    let mut all: Vec<Tracked<'r>> = Vec::new();
    for finding in findings {
        let known = all.last().filter(|last| last.finding.place.path == finding.place.path);
        let real = known.map(|last| Rc::clone(&last.real));
        all.push(begin_one(Cow::Borrowed(finding), layer, real, symlinks, work));
    }
    all
}

fn begin_one<'r>(
    finding: Cow<'r, LayerFinding>,
    layer: usize,
    real: Option<Rc<RealPath>>,
    symlinks: &Symlinks,
    work: &mut Work,
) -> Tracked<'r> {
    let state = finding.superseded.unwrap_or(State::Present);
    let ended_by = finding.superseded.map(|_| layer);
    let real = real.unwrap_or_else(|| {
        // To follow links, each directory is looked for.
        work.take(if symlinks.is_empty() { 1 } else { finding.place.path.depth() as u64 });
        Rc::new(RealPath::new(symlinks.resolve(&finding.place.path)))
    });
    Tracked { finding, layer, state, ended_by, through: None, real }
}

/// Ends the findings that layer `index`, which touches `touched`, overwrites or deletes.
fn end(tracked: &mut [Tracked<'_>], index: usize, touched: &Touched, below: &Symlinks, work: &mut Work) {
    // A layer that touches nothing has not been read, or is empty.
    if touched.is_empty() {
        return;
    }
    let mut changes = Changes::new(touched, below);
    let mut last: Option<(Rc<RealPath>, Option<Ending>)> = None;
    for earlier in tracked.iter_mut().filter(|earlier| earlier.state == State::Present) {
        let known = last.take().filter(|(real, _)| Rc::ptr_eq(real, &earlier.real));
        let (real, ended) = known.unwrap_or_else(|| {
            let real = Rc::clone(&earlier.real);
            let ended = changes.ended(&earlier.finding.place.path, &real, work);
            (real, ended)
        });
        if let Some((state, through)) = ended.clone() {
            earlier.state = state;
            earlier.ended_by = Some(index);
            earlier.through = through;
        }
        last = Some((real, ended));
    }
}

/// The findings of lower layers that hard links of this layer add under new paths.
fn link_on<'r>(
    all: &mut Lifetimes<'r>,
    files: &mut FilesFound,
    (index, report): (usize, &LayerReport),
    [before, symlinks]: [&Symlinks; 2],
    room: u64,
    work: &mut Work,
) -> Vec<Tracked<'r>> {
    let mut linked = Vec::new();
    let wanted = report.hard_links.iter().any(|link| matches!(link.origin, Origin::Below(_)));
    if !wanted {
        return linked;
    }
    files.add(&all.tracked);
    let own_by_name = by_name(report);
    let has_links = !before.is_empty() || !symlinks.is_empty();
    for link in &report.hard_links {
        let Origin::Below(target) = &link.origin else { continue };
        let depth = if has_links { target.depth() as u64 } else { 1 };
        if !work.take(2 * depth) {
            break;
        }
        // The link may have been made before or after the layer changed the links on the way to its target.
        let paths = [before.resolve(target), symlinks.resolve(target)];
        let same_name = own_by_name.get(target.name()).filter(|_| paths[0] != *target);
        let own = same_name.map(|found| own_findings(found, &paths[0], link.entry, before, work)).unwrap_or_default();
        let own: Vec<(usize, &LayerFinding)> = own.into_iter().map(|finding| (index, finding)).collect();
        let mut below = || paths.iter().find_map(|path| files.present(path.key(), &all.tracked, work));
        let originals = if own.is_empty() { below().unwrap_or_default() } else { own };
        for (number, (layer, original)) in originals.iter().enumerate() {
            // Nothing fits any more.
            if all.linked >= MAX_LINKED || all.linked_bytes >= room {
                all.dropped += (originals.len() - number) as u64;
                break;
            }
            let new = linked_from(*layer, original, link, index);
            let bytes = new.footprint();
            if all.linked_bytes + bytes > room {
                all.dropped += 1;
                continue;
            }
            all.linked += 1;
            all.linked_bytes += bytes;
            linked.push(begin_one(Cow::Owned(new), index, None, symlinks, work));
        }
    }
    linked
}

/// A finding of layer `of`, at the path of a hard link of layer `index`. Its attributes are those of the file.
fn linked_from(of: usize, original: &LayerFinding, link: &HardLink, index: usize) -> LayerFinding {
    let mut linked = original.linked(link);
    if let Some(attributes) = linked.attributes.as_mut().filter(|attributes| of != index && attributes.layer.is_none())
    {
        Arc::make_mut(attributes).layer = Some(of);
    }
    linked
}

/// The findings of all layers so far, by the files that they are in, for hard links to these. A layer adds what is new.
#[derive(Default)]
struct FilesFound {
    by_path: HashMap<PathKey, Vec<usize>>,
    /// How many of the findings were added.
    count: usize,
}

impl FilesFound {
    fn add(&mut self, tracked: &[Tracked<'_>]) {
        for (index, one) in tracked.iter().enumerate().skip(self.count) {
            self.by_path.entry(one.real.key()).or_default().push(index);
        }
        self.count = tracked.len();
    }

    /// The findings in the file at a resolved path that are present, with their layers, if there are any.
    fn present<'t>(
        &self,
        path: PathKey,
        tracked: &'t [Tracked<'_>],
        work: &mut Work,
    ) -> Option<Vec<(usize, &'t LayerFinding)>> {
        let all = self.by_path.get(&path)?;
        if !work.take(all.len() as u64 / FINDINGS_PER_LOOK) {
            return None;
        }
        let present = all.iter().filter_map(|index| tracked.get(*index));
        let present = present.filter(|one| one.state == State::Present).map(|one| (one.layer, &*one.finding));
        Some(present.collect()).filter(|found: &Vec<_>| !found.is_empty())
    }
}

/// The findings of a layer by the names of their files.
fn by_name(report: &LayerReport) -> HashMap<&[u8], Vec<&LayerFinding>> {
    let mut all: HashMap<&[u8], Vec<&LayerFinding>> = HashMap::new();
    for finding in &report.findings {
        all.entry(finding.place.path.name()).or_default().push(finding);
    }
    all
}

/// Of `found`, the findings in the file that the layer itself has at the resolved path `target` before entry `number`.
/// The layer knew it by another path, because the link that leads there is in a lower layer.
fn own_findings<'r>(
    found: &[&'r LayerFinding],
    target: &ImagePath,
    number: u32,
    symlinks: &Symlinks,
    work: &mut Work,
) -> Vec<&'r LayerFinding> {
    if !work.take(found.len() as u64) {
        return Vec::new();
    }
    let at_target: Vec<&LayerFinding> = found
        .iter()
        .copied()
        .filter(|finding| finding.entry < number && symlinks.resolve(&finding.place.path) == *target)
        .collect();
    let last = at_target.iter().map(|finding| finding.entry).max();
    at_target.into_iter().filter(|finding| Some(finding.entry) == last).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compiled_rules::CompiledRules;
    use layersift_model::Place;

    #[test]
    fn a_finding_is_put_into_the_index_of_files_once() {
        let rule = CompiledRules::built_in().file_info(0);
        let path = ImagePath::normalize(b"t");
        let finding = LayerFinding {
            severity: rule.severity,
            rule,
            place: Place { path: path.clone(), ..Place::default() },
            entry: 0,
            superseded: None,
            secret: None,
            note: None,
            checksums: None,
            attributes: None,
        };
        let mut work = Work::default();
        let mut tracked = begin([&finding; 100].into_iter(), 0, &Symlinks::default(), &mut work);
        let mut files = FilesFound::default();
        for _ in 0..500 {
            files.add(&tracked);
        }
        assert_eq!(files.by_path.values().map(Vec::len).sum::<usize>(), 100);
        tracked.iter_mut().skip(10).for_each(|one| one.state = State::Deleted);
        let before = work.taken();
        assert_eq!(files.present(path.key(), &tracked, &mut work).unwrap().len(), 10);
        assert_eq!(work.taken() - before, 100 / FINDINGS_PER_LOOK);
        assert!(files.present(ImagePath::normalize(b"u").key(), &tracked, &mut work).is_none());
    }
}
