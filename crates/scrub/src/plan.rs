//! Decides what is changed in each layer, or that a place cannot be done.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use layersift_format::symlinks::Symlinks;
use layersift_format::tar::Kind;
use layersift_model::{ImagePath, Symlink};

use crate::changes::{Action, Place};
use crate::edit::{self, Edit};
use crate::error::ScrubError;
use crate::filler::{LONG, filler};
use crate::request::{FoundInFile, Request};
use crate::survey::{Survey, Surveyed};
use crate::whiteout;

/// An entry: the index of its layer among the surveys, and its number there.
type EntryId = (usize, usize);

/// What is changed in the layers.
pub(crate) struct Plan {
    /// For each survey, the changes of its uncompressed bytes, in order.
    pub(crate) edits: Vec<Vec<Edit>>,
    pub(crate) places: Vec<Place>,
}

/// Decides about the layers `surveys`. Each of `images` has the indexes of its layers there, base first.
pub(crate) fn plan(surveys: &[Survey], images: &[Vec<usize>], request: &Request) -> Result<Plan, ScrubError> {
    let surveys: Vec<&Survey> = surveys.iter().collect();
    let planner = Planner { surveys: &surveys, images, request };
    let removed = planner.removed()?;
    let whiteouts = planner.whiteouts(&removed)?;
    let mut plan = Plan { edits: vec![Vec::new(); surveys.len()], places: Vec::new() };
    for (&(layer, number), origin) in &removed {
        let entry = planner.entry((layer, number));
        let is_whiteout = whiteouts.contains(&(layer, number));
        let mut bytes = if is_whiteout { planner.whiteout(layer, entry)? } else { Vec::new() };
        for &(from, to) in &entry.own {
            plan.edits[layer].push(Edit { from, to, bytes: std::mem::take(&mut bytes) });
        }
        let action = if is_whiteout { Action::RemovedWithWhiteout } else { Action::Removed };
        let note = (*origin != entry.path).then(|| format!("another name of {origin}: a hard link"));
        plan.places.push(Place { note, ..planner.place(action, layer, number) });
    }
    planner.blank(&removed, &mut plan)?;
    for edits in &mut plan.edits {
        *edits = edit::in_order(std::mem::take(edits));
    }
    Ok(plan)
}

/// The indexes of the layers among `surveys` that have one of the wanted files in `image`, under any of its names.
pub(crate) fn layers_with_files(surveys: &[&Survey], image: Vec<usize>, request: &Request) -> BTreeSet<usize> {
    let planner = Planner { surveys, images: &[image], request };
    let (groups, places) = planner.groups();
    let wanted = request.paths.iter().flat_map(|path| planner.at(path, &places));
    let wanted: BTreeSet<EntryId> = wanted.map(|id| groups.root(id)).collect();
    let is_wanted = |id: &EntryId| wanted.contains(&groups.root(*id)) && planner.entry(*id).is_file();
    planner.ids().filter(is_wanted).map(|(layer, _)| layer).collect()
}

struct Planner<'p> {
    surveys: &'p [&'p Survey],
    images: &'p [Vec<usize>],
    request: &'p Request,
}

impl<'p> Planner<'p> {
    /// The entries that are removed, and the path that each of them was removed for: files at the wanted paths, and
    /// every other name of the same files.
    fn removed(&self) -> Result<BTreeMap<EntryId, ImagePath>, ScrubError> {
        let (groups, places) = self.groups();
        let mut wanted: HashMap<EntryId, ImagePath> = HashMap::new();
        for path in &self.request.paths {
            let seeds = self.at(path, &places);
            if seeds.is_empty() {
                return Err(self.no_file(path));
            }
            for seed in seeds {
                wanted.entry(groups.root(seed)).or_insert_with(|| path.clone());
            }
        }
        let in_group = |id: EntryId| {
            let entry = self.entry(id);
            let origin = wanted.get(&groups.root(id)).filter(|_| entry.is_file())?;
            let is_asked_for = self.request.paths.contains(&entry.path);
            Some((id, if is_asked_for { entry.path.clone() } else { origin.clone() }))
        };
        Ok(self.ids().filter_map(in_group).collect())
    }

    /// The files at `path`, in any layer.
    fn at(&self, path: &ImagePath, places: &RealPlaces) -> Vec<EntryId> {
        let is_there =
            |id: &EntryId| self.is_file_at(*id, path) || places.is_at(*id, path) && self.entry(*id).is_file();
        self.ids().filter(is_there).collect()
    }

    /// The names of the same file, which are hard links with what they lead to, and where entries are whose directories
    /// are symbolic links.
    fn groups(&self) -> (Groups, RealPlaces) {
        let (mut groups, mut places) = (Groups::default(), RealPlaces::default());
        for image in self.images {
            let mut files = Files::default();
            for &layer in image {
                for (number, entry) in self.entries(layer).iter().enumerate() {
                    let id = (layer, number);
                    let real = files.links.resolve(&entry.path);
                    if let Some(origin) = files.extract(id, entry, &real) {
                        groups.join(origin, id);
                    }
                    places.add(id, entry, real);
                }
            }
        }
        (groups, places)
    }

    /// The removed entries that need a whiteout in their place, because lower layers have something there.
    fn whiteouts(&self, removed: &BTreeMap<EntryId, ImagePath>) -> Result<BTreeSet<EntryId>, ScrubError> {
        let mut whiteouts = BTreeSet::new();
        for &(layer, number) in removed.keys() {
            let path = &self.entry((layer, number)).path;
            let at_path = |at: usize, other: &Surveyed| other.path == *path && !removed.contains_key(&(layer, at));
            let mut others = self.entries(layer).iter().enumerate().filter(|(at, other)| at_path(*at, other));
            let is_last = (number + 1..self.entries(layer).len())
                .all(|at| self.entries(layer)[at].path != *path || removed.contains_key(&(layer, at)));
            if !is_last {
                continue;
            }
            if others.any(|(at, _)| at < number) {
                let place = format!("{path} in layer {}", self.surveys[layer].digest);
                let why = "the layer has several entries at this path, and an earlier one would be seen again";
                return Err(ScrubError::place(place, why));
            }
            let hides = self.entries(layer).iter().any(|other| other.path == whiteout::of(path));
            if !hides && self.has_below(layer, path, removed) {
                // The last of several is enough.
                let is_final =
                    !removed.range((layer, number + 1)..(layer + 1, 0)).any(|(id, _)| self.entry(*id).path == *path);
                if is_final {
                    whiteouts.insert((layer, number));
                }
            }
        }
        Ok(whiteouts)
    }

    /// Whether a layer below `layer`, in any image, has something at or below `path` that stays.
    fn has_below(&self, layer: usize, path: &ImagePath, removed: &BTreeMap<EntryId, ImagePath>) -> bool {
        let is_at = |entry: &Surveyed| {
            let rest = entry.path.as_bytes().strip_prefix(path.as_bytes());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/")) && !whiteout::is_whiteout(&entry.path)
        };
        let stays = |below: usize| {
            let mut entries = self.entries(below).iter().enumerate();
            entries.any(|(number, entry)| is_at(entry) && !removed.contains_key(&(below, number)))
        };
        self.images.iter().any(|image| {
            let last = image.iter().rposition(|&at| at == layer).unwrap_or(0);
            image[..last].iter().any(|&below| stays(below))
        })
    }

    /// Blanks the wanted secrets in the files that stay.
    fn blank(&self, removed: &BTreeMap<EntryId, ImagePath>, plan: &mut Plan) -> Result<(), ScrubError> {
        let mut wanted: BTreeMap<(EntryId, u64, usize), Option<&FoundInFile>> = BTreeMap::new();
        for found in &self.request.in_files {
            let Some(layer) = self.layer_of(found) else {
                return Err(refused(found, "the layer is not one of the image"));
            };
            let Some(number) = found.entry.map(|number| number as usize) else {
                let place = format!("layer {}", found.index);
                let why = "the value is in bytes that belong to no file, and cannot be blanked; build the image again";
                return Err(ScrubError::place(place, why));
            };
            if removed.contains_key(&(layer, number)) {
                continue;
            }
            if let Some(hidden) = &found.hidden {
                return Err(refused(found, hidden));
            }
            let offset = found.offset.unwrap_or(0);
            let entry = self.entries(layer).get(number);
            if !entry.is_some_and(|entry| entry.hits.contains(&(found.secret, offset))) {
                return Err(refused(found, "the file does not hold the value itself at that place"));
            }
            wanted.insert(((layer, number), offset, found.secret), Some(found));
        }
        // The value may be in files where no rule saw it.
        for id in self.ids().filter(|id| !removed.contains_key(id)) {
            for &(secret, offset) in &self.entry(id).hits {
                if self.value(secret).len() >= LONG {
                    wanted.entry((id, offset, secret)).or_insert(None);
                }
            }
        }
        for (((layer, number), offset, secret), found) in wanted {
            let entry = self.entry((layer, number));
            let place = self.place(Action::Blanked, layer, number);
            if let Some(why) = entry.not_plain {
                return Err(cannot(&entry.path.to_string(), &self.surveys[layer].digest.to_string(), why));
            }
            let bytes = filler(self.value(secret));
            let (from, length) = (entry.data + offset, bytes.len() as u64);
            plan.edits[layer].push(Edit { from, to: from + length, bytes });
            let package = found.and_then(|found| found.package.as_ref());
            plan.places.push(Place {
                offset: Some(offset),
                length: Some(length),
                fingerprint: Some(self.request.secrets[secret].fingerprint.clone()),
                note: package
                    .map(|package| format!("package {package} may record a checksum, which no longer matches")),
                ..place
            });
        }
        Ok(())
    }

    fn no_file(&self, path: &ImagePath) -> ScrubError {
        let mut at_path = self.ids().map(|id| self.entry(id)).filter(|entry| entry.path == *path);
        let why = match at_path.next() {
            Some(entry) if entry.kind == Kind::Symlink => {
                let target = ImagePath::normalize(&entry.link);
                format!("it is a symbolic link to {target}; name the file")
            }
            Some(entry) if entry.kind == Kind::Directory => "it is a directory; name the files in it".into(),
            Some(_) => "it is not a file".into(),
            None => "no layer has a file at this path".into(),
        };
        ScrubError::NoFile { path: path.to_string(), why }
    }

    fn layer_of(&self, found: &FoundInFile) -> Option<usize> {
        let [digest, diff_id] = &found.layer;
        let by_digest = |survey: &&Survey| digest.as_ref() == Some(&survey.digest);
        let by_diff_id = |survey: &&Survey| diff_id.as_ref() == Some(&survey.diff_id);
        self.surveys.iter().position(by_digest).or_else(|| self.surveys.iter().position(by_diff_id))
    }

    fn whiteout(&self, layer: usize, entry: &Surveyed) -> Result<Vec<u8>, ScrubError> {
        let layer = self.surveys[layer].digest.to_string();
        whiteout::blocks(entry).map_err(|source| ScrubError::Blob { layer, source })
    }

    fn place(&self, action: Action, layer: usize, number: usize) -> Place {
        Place {
            action,
            blob: Some(self.surveys[layer].digest.clone()),
            path: self.entry((layer, number)).path.to_string(),
            entry: u32::try_from(number).ok(),
            offset: None,
            length: None,
            fingerprint: None,
            note: None,
        }
    }

    fn value(&self, secret: usize) -> &[u8] {
        self.request.secrets[secret].value.reveal()
    }

    fn entries(&self, layer: usize) -> &'p [Surveyed] {
        self.surveys[layer].entries.as_deref().unwrap_or_default()
    }

    fn entry(&self, (layer, number): EntryId) -> &'p Surveyed {
        &self.entries(layer)[number]
    }

    fn ids(&self) -> impl Iterator<Item = EntryId> {
        (0..self.surveys.len()).flat_map(|layer| (0..self.entries(layer).len()).map(move |number| (layer, number)))
    }

    fn is_file_at(&self, id: EntryId, path: &ImagePath) -> bool {
        let entry = self.entry(id);
        entry.is_file() && entry.path == *path
    }
}

/// The files of an image while its layers are extracted, as far as links need them.
#[derive(Default)]
struct Files {
    visible: HashMap<ImagePath, EntryId>,
    links: Symlinks,
}

impl Files {
    /// Extracts an entry, which is at `real`; returns the entry that it is another name of, if it is a hard link.
    fn extract(&mut self, id: EntryId, entry: &Surveyed, real: &ImagePath) -> Option<EntryId> {
        if let Some(hidden) = whiteout::hidden(real) {
            self.links.remove(&hidden);
            return None;
        }
        // A link leads from its own place, and anything else takes the place of one.
        self.links.remove(real);
        let mut origin = None;
        match entry.kind {
            Kind::File => drop(self.visible.insert(real.clone(), id)),
            Kind::HardLink => {
                let target = self.links.resolve(&ImagePath::normalize(&entry.link));
                origin = self.visible.get(&target).copied();
                self.visible.insert(real.clone(), id);
            }
            Kind::Symlink => {
                self.visible.remove(real);
                self.links.make(&Symlink { path: real.clone(), target: entry.link.clone() });
            }
            Kind::Special => drop(self.visible.remove(real)),
            Kind::Directory => {}
        }
        origin
    }
}

/// Where entries are whose paths lead through symbolic links.
#[derive(Default)]
struct RealPlaces(HashMap<EntryId, Vec<ImagePath>>);

impl RealPlaces {
    fn add(&mut self, id: EntryId, entry: &Surveyed, real: ImagePath) {
        if real != entry.path {
            self.0.entry(id).or_default().push(real);
        }
    }

    fn is_at(&self, id: EntryId, path: &ImagePath) -> bool {
        self.0.get(&id).is_some_and(|places| places.contains(path))
    }
}

/// Entries that are joined into groups.
#[derive(Default)]
struct Groups {
    parents: HashMap<EntryId, EntryId>,
}

impl Groups {
    fn root(&self, mut id: EntryId) -> EntryId {
        while let Some(&parent) = self.parents.get(&id) {
            id = parent;
        }
        id
    }

    fn join(&mut self, a: EntryId, b: EntryId) {
        let (a, b) = (self.root(a), self.root(b));
        if a != b {
            self.parents.insert(b, a);
        }
    }
}

fn refused(found: &FoundInFile, why: &str) -> ScrubError {
    cannot(&found.path, &found.index.to_string(), why)
}

/// The error for a file whose value cannot be blanked.
fn cannot(path: &str, layer: &str, why: &str) -> ScrubError {
    ScrubError::place(
        format!("{path} in layer {layer}"),
        format!("the value cannot be blanked, because {why}; remove the file with --path {path}"),
    )
}
