//! Joins the packages of an image's layers: the layer that brought each, and the one that removed it.
//!
//! A package lasts as long as the files at its path record it. A database that a later layer writes again still records
//! most packages: those were brought by the layer that recorded them first, and those that it lacks were removed.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use layersift_format::manifest::ImageKind;
use layersift_model::{AiMark, Distribution, ImagePath, InstalledPackage, LayerReport, Origin, State};

use super::layer::{LayerPackages, PackageFile, Record, RecordIdentity};
use crate::assemble::changes::{Changes, RealPath};
use crate::assemble::work::{LINK, Work};
use layersift_format::symlinks::{RelevantLinks, Symlinks};

/// The most records that hard links repeat from lower layers. No image has as many.
const MAX_LINKED: usize = 100_000;

/// The looks at a directory that take as long as comparing this many records.
const RECORDS_PER_LOOK: usize = 4;

/// The packages and the marks of AI of all layers.
pub(crate) struct Joined {
    pub(crate) packages: Vec<InstalledPackage>,
    pub(crate) ai: Vec<AiMark>,
    pub(crate) distribution: Option<Distribution>,
    /// The work that was done. If it is exceeded, packages that are listed as visible may be hidden.
    pub(crate) work: Work,
    /// The records for which there was no room.
    pub(crate) left_out: u64,
    /// The records that were dropped because hard links repeat too many.
    pub(crate) dropped: u64,
}

/// Joins `layers`, base first, with the given `work`. Unread layers have no effect. There is room for so many records.
pub(crate) fn join(layers: &[Option<Arc<LayerPackages>>], kind: ImageKind, room: usize, work: Work) -> Joined {
    let mut joining = Joining { relevant: relevant_links(layers), room, work, ..Joining::default() };
    for (index, layer) in layers.iter().enumerate() {
        let Some(layer) = layer.as_deref() else { continue };
        match kind {
            ImageKind::Image | ImageKind::Container | ImageKind::Volume | ImageKind::Orphan => {
                joining.layer(index, layer)
            }
            // Blobs that do not lie on top of each other end nothing.
            ImageKind::Artifact | ImageKind::Cache => joining.add_files(index, layer, &mut HashMap::new()),
        }
    }
    joining.conclude()
}

/// The symbolic links that may lead to a file with records.
fn relevant_links(layers: &[Option<Arc<LayerPackages>>]) -> RelevantLinks<'_> {
    let layers = layers.iter().flatten();
    let files = layers.clone().flat_map(|layer| &layer.files).map(|file| &*file.path);
    if files.clone().next().is_none() {
        return RelevantLinks::default();
    }
    RelevantLinks::new(layers.flat_map(|layer| &layer.report.symlinks), files)
}

/// A file that is visible so far.
struct OpenFile {
    path: Arc<ImagePath>,
    /// The indexes of its packages.
    packages: Vec<usize>,
    distribution: Option<Distribution>,
}

/// The packages of a file that a layer ended.
struct Ended {
    state: State,
    packages: Vec<usize>,
}

/// What a layer ended, by the resolved path.
type EndedFiles = HashMap<ImagePath, Ended>;

/// A record of a file, and what became of it.
struct Item {
    record: Record,
    path: Arc<ImagePath>,
    layer: usize,
    state: State,
    ended_by: Option<usize>,
}

#[derive(Default)]
struct Joining<'l> {
    relevant: RelevantLinks<'l>,
    symlinks: Symlinks,
    /// By the resolved path.
    open: BTreeMap<ImagePath, OpenFile>,
    items: Vec<Item>,
    /// The most items, and how many records are left out.
    room: usize,
    left_out: u64,
    work: Work,
    /// The records that hard links repeat, and those that were dropped.
    linked: usize,
    dropped: u64,
}

impl Joining<'_> {
    fn layer(&mut self, index: usize, layer: &LayerPackages) {
        if self.work.is_exceeded() && self.items.len() >= self.room {
            self.left_out += layer.records;
            return;
        }
        let touched = &layer.report.touched;
        self.work.take(LINK * self.symlinks.len() as u64);
        let before = self.symlinks.clone();
        // A link that the layer replaces is not followed in this layer.
        let mut changes = Changes::new(touched, &before);
        let work = &mut self.work;
        self.symlinks.retain(|link| !changes.replace(link, work));
        let below = self.symlinks.clone();
        self.symlinks.add(layer.report.symlinks.iter().filter(|link| self.relevant.has(link)));
        let linked = self.linked(&layer.report, &before);
        let mut ended = EndedFiles::new();
        let mut changes = Changes::new(touched, &below);
        let work = &mut self.work;
        self.open.retain(|real, file| {
            let state = changes.ended(&file.path, &RealPath::new(real.clone()), work);
            let Some((state, _)) = state else { return true };
            ended.insert(real.clone(), Ended { state, packages: std::mem::take(&mut file.packages) });
            false
        });
        self.add_files(index, layer, &mut ended);
        for file in &linked {
            self.add(index, file, &mut ended);
        }
        for Ended { state, packages } in ended.into_values() {
            for package in packages {
                self.items[package].state = state;
                self.items[package].ended_by = Some(index);
            }
        }
        self.add_superseded(index, layer);
    }

    fn add_files(&mut self, index: usize, layer: &LayerPackages, ended: &mut EndedFiles) {
        for file in layer.files.iter().filter(|file| file.superseded.is_none()) {
            self.add(index, file, ended);
        }
    }

    /// Adds a file that stays visible in its layer. Packages that the file in its place recorded as well go on.
    fn add(&mut self, index: usize, file: &PackageFile, ended: &mut EndedFiles) {
        let real = self.symlinks.resolve(&file.path);
        let mut known = ended.remove(&real);
        let looks = (known.as_ref().map_or(0, |ended| ended.packages.len()) + file.records.len()) / RECORDS_PER_LOOK;
        let is_permitted = self.work.take(looks as u64);
        let continued = match &known {
            Some(ended) if is_permitted => self.continued(ended, &file.records),
            _ => vec![None; file.records.len()],
        };
        if let Some(ended_file) = &mut known {
            let kept: HashSet<usize> = continued.iter().flatten().copied().collect();
            ended_file.packages.retain(|package| !kept.contains(package));
        }
        let mut packages = Vec::with_capacity(file.records.len());
        for (record, known) in file.records.iter().zip(continued) {
            packages.extend(known.or_else(|| self.new_item(item(record, &file.path, index, None))));
        }
        if let Some(rest) = known {
            ended.insert(real.clone(), rest);
        }
        let open = OpenFile { path: Arc::clone(&file.path), packages, distribution: file.distribution.clone() };
        self.open.insert(real, open);
    }

    /// Adds a package, if there is room for it, and returns its index.
    fn new_item(&mut self, item: Item) -> Option<usize> {
        if self.items.len() >= self.room {
            self.left_out += 1;
            return None;
        }
        self.items.push(item);
        Some(self.items.len() - 1)
    }

    /// For each of `records`, the package of the ended file that is the same.
    fn continued(&self, ended: &Ended, records: &[Record]) -> Vec<Option<usize>> {
        let known: HashMap<RecordIdentity<'_>, usize> =
            ended.packages.iter().map(|package| (self.items[*package].record.identity(), *package)).collect();
        records.iter().map(|record| known.get(&record.identity()).copied()).collect()
    }

    /// Adds the packages of files that a later entry of the same layer overwrote or deleted, and that the file in their
    /// place does not record.
    fn add_superseded(&mut self, index: usize, layer: &LayerPackages) {
        let mut gone: Vec<Item> = Vec::new();
        // What the files in their place record, by the path: there may be many files at one.
        let mut still: HashMap<ImagePath, HashSet<RecordIdentity<'_>>> = HashMap::new();
        for file in &layer.files {
            let Some(state) = file.superseded else { continue };
            let still = still.entry(self.symlinks.resolve(&file.path)).or_insert_with_key(|real| {
                let packages = self.open.get(real).into_iter().flat_map(|open| &open.packages);
                packages.map(|package| self.items[*package].record.identity()).collect()
            });
            let records = file.records.iter().filter(|record| !still.contains(&record.identity()));
            gone.extend(records.map(|record| item(record, &file.path, index, Some(state))));
        }
        drop(still);
        for item in gone {
            self.new_item(item);
        }
    }

    /// The files of lower layers that hard links of this layer add under new paths.
    fn linked(&mut self, report: &LayerReport, before: &Symlinks) -> Vec<PackageFile> {
        let mut linked = Vec::new();
        for link in report.hard_links.iter().filter(|link| link.superseded.is_none()) {
            let Origin::Below(target) = &link.origin else { continue };
            let Some(open) = self.open.get(&before.resolve(target)) else { continue };
            if self.linked + open.packages.len() > MAX_LINKED {
                self.dropped += open.packages.len() as u64;
                continue;
            }
            self.linked += open.packages.len();
            let records = open.packages.iter().map(|package| self.items[*package].record.clone()).collect();
            linked.push(PackageFile::linked(link, records, open.distribution.clone()));
        }
        linked
    }

    fn conclude(mut self) -> Joined {
        if self.symlinks.is_exhausted() {
            self.work.exhaust();
        }
        let named = |path: &str| self.open.get(&ImagePath::normalize(path.as_bytes()))?.distribution.clone();
        let distribution = named("etc/os-release").or_else(|| named("usr/lib/os-release"));
        let (mut packages, mut ai) = (Vec::new(), Vec::new());
        for Item { record, path, layer, state, ended_by } in self.items {
            match record {
                Record::Package(record) => packages.push(InstalledPackage { record, path, layer, state, ended_by }),
                Record::Ai(record) => ai.push(AiMark { record, path, layer, state, ended_by }),
            }
        }
        packages.sort_by(|a, b| {
            let key = |one: &InstalledPackage| (!one.is_visible(), one.record.ecosystem);
            key(a)
                .cmp(&key(b))
                .then_with(|| a.record.cmp(&b.record))
                .then_with(|| a.path.cmp(&b.path))
                .then_with(|| (a.layer, a.state, a.ended_by).cmp(&(b.layer, b.state, b.ended_by)))
        });
        packages.dedup();
        ai.sort_by(|a, b| {
            let kinds = (!a.is_visible(), a.record.kind).cmp(&(!b.is_visible(), b.record.kind));
            let paths = kinds.then_with(|| a.path.cmp(&b.path));
            let layers = paths.then_with(|| (a.layer, a.ended_by).cmp(&(b.layer, b.ended_by)));
            layers.then_with(|| a.record.cmp(&b.record))
        });
        Joined { packages, ai, distribution, work: self.work, left_out: self.left_out, dropped: self.dropped }
    }
}

fn item(record: &Record, path: &Arc<ImagePath>, layer: usize, superseded: Option<State>) -> Item {
    Item {
        record: record.clone(),
        path: Arc::clone(path),
        layer,
        state: superseded.unwrap_or(State::Present),
        ended_by: superseded.map(|_| layer),
    }
}
