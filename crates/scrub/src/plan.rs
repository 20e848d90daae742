//! Decides what is changed in each layer, or that a place cannot be done.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;

use layersift_format::symlinks::Symlinks;
use layersift_format::tar::Kind;
use layersift_model::{Digest, ImagePath, Symlink};

use crate::changes::{Action, Place};
use crate::edit::{self, Edit};
use crate::error::ScrubError;
use crate::filler::{LONG, filler};
use crate::request::{FoundInFile, Request};
use crate::staging::Staging;
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
pub(crate) fn plan(
    surveys: &[Survey],
    images: &[Vec<usize>],
    request: &Request,
    staging: &Staging,
) -> Result<Plan, ScrubError> {
    let surveys: Vec<&Survey> = surveys.iter().collect();
    let planner = Planner { surveys: &surveys, images, request, staging };
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
pub(crate) fn layers_with_files(
    surveys: &[&Survey],
    image: Vec<usize>,
    request: &Request,
    staging: &Staging,
) -> Result<BTreeSet<usize>, ScrubError> {
    let planner = Planner { surveys, images: &[image], request, staging };
    let (groups, places) = planner.groups()?;
    let wanted = planner.wanted_files(&places).into_values().flatten();
    let wanted: BTreeSet<EntryId> = wanted.map(|id| groups.root(id)).collect();
    let is_wanted = |id: &EntryId| wanted.contains(&groups.root(*id)) && planner.entry(*id).is_file();
    Ok(planner.ids().filter(is_wanted).map(|(layer, _)| layer).collect())
}

struct Planner<'p> {
    surveys: &'p [&'p Survey],
    images: &'p [Vec<usize>],
    request: &'p Request,
    staging: &'p Staging,
}

/// The entries of one layer at a path that entries are removed at, by their numbers.
#[derive(Default)]
struct AtPath {
    first_kept: Option<usize>,
    last_kept: Option<usize>,
    last_removed: Option<usize>,
}

impl<'p> Planner<'p> {
    /// The entries that are removed, and the path that each of them was removed for: files at the wanted paths, and
    /// every other name of the same files.
    fn removed(&self) -> Result<BTreeMap<EntryId, ImagePath>, ScrubError> {
        let (groups, places) = self.groups()?;
        let mut wanted: HashMap<EntryId, ImagePath> = HashMap::new();
        let mut seeds = self.wanted_files(&places);
        for path in &self.request.paths {
            for seed in seeds.remove(path).ok_or_else(|| self.no_file(path))? {
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

    /// The files at the wanted paths, in any layer.
    fn wanted_files(&self, places: &RealPlaces) -> HashMap<&'p ImagePath, Vec<EntryId>> {
        let mut found: HashMap<&ImagePath, Vec<EntryId>> = HashMap::new();
        for id in self.ids().filter(|id| self.entry(*id).is_file()) {
            let paths: BTreeSet<&ImagePath> = std::iter::once(&self.entry(id).path).chain(places.of(id)).collect();
            for path in paths.into_iter().filter_map(|path| self.request.paths.get(path)) {
                found.entry(path).or_default().push(id);
            }
        }
        found
    }

    /// The names of the same file, which are hard links with what they lead to, and where entries are whose directories
    /// are symbolic links.
    fn groups(&self) -> Result<(Groups, RealPlaces), ScrubError> {
        let (mut groups, mut places) = (Groups::default(), RealPlaces::default());
        for image in self.images {
            let mut files = Files::default();
            for &layer in image {
                self.staging.check()?;
                for (number, entry) in self.entries(layer).iter().enumerate() {
                    let id = (layer, number);
                    let real = files.links.resolve(&entry.path);
                    if let Some(origin) = files.extract(id, entry, &real) {
                        groups.join(origin, id);
                    }
                    if self.request.paths.contains(&real) {
                        places.add(id, entry, real);
                    }
                }
            }
        }
        Ok((groups, places))
    }

    /// The removed entries that need a whiteout in their place, because lower layers have something there.
    fn whiteouts(&self, removed: &BTreeMap<EntryId, ImagePath>) -> Result<BTreeSet<EntryId>, ScrubError> {
        let mut at_paths: HashMap<(usize, &ImagePath), AtPath> = HashMap::new();
        for &id in removed.keys() {
            at_paths.entry((id.0, &self.entry(id).path)).or_default().last_removed = Some(id.1);
        }
        let mut hidden: BTreeSet<(usize, ImagePath)> = BTreeSet::new();
        for id in self.ids() {
            let path = &self.entry(id).path;
            if let Some(at_path) = at_paths.get_mut(&(id.0, path)).filter(|_| !removed.contains_key(&id)) {
                at_path.first_kept.get_or_insert(id.1);
                at_path.last_kept = Some(id.1);
            }
            hidden.extend(whiteout::hidden(path).map(|path| (id.0, path)));
        }
        let above = self.above_others(removed)?;
        let mut whiteouts = BTreeSet::new();
        for &(layer, number) in removed.keys() {
            let path = &self.entry((layer, number)).path;
            let Some(at_path) = at_paths.get(&(layer, path)) else { continue };
            if at_path.last_kept.is_some_and(|last| last > number) {
                continue;
            }
            if at_path.first_kept.is_some_and(|first| first < number) {
                let place = format!("{path} in layer {}", self.surveys[layer].digest);
                let why = "the layer has several entries at this path, and an earlier one would be seen again";
                return Err(ScrubError::place(place, why));
            }
            // The last of several is enough.
            let is_final = at_path.last_removed == Some(number);
            if is_final && above.contains(&(layer, number)) && !hidden.contains(&(layer, path.clone())) {
                whiteouts.insert((layer, number));
            }
        }
        Ok(whiteouts)
    }

    /// The removed entries at or below whose paths a layer below theirs, in any image, has something that stays.
    fn above_others(&self, removed: &BTreeMap<EntryId, ImagePath>) -> Result<BTreeSet<EntryId>, ScrubError> {
        let mut above = BTreeSet::new();
        for image in self.images {
            let mut below: BTreeSet<&[u8]> = BTreeSet::new();
            for &layer in image {
                self.staging.check()?;
                let of_layer = removed.range((layer, 0)..(layer + 1, 0)).map(|(id, _)| *id);
                above.extend(of_layer.filter(|id| has_at_or_below(&below, self.entry(*id).path.as_bytes())));
                let entries = self.entries(layer).iter().enumerate();
                let stay = entries.filter(|(number, entry)| {
                    !removed.contains_key(&(layer, *number)) && !whiteout::is_whiteout(&entry.path)
                });
                below.extend(stay.map(|(_, entry)| entry.path.as_bytes()));
            }
        }
        Ok(above)
    }

    /// Blanks the wanted secrets in the files that stay.
    fn blank(&self, removed: &BTreeMap<EntryId, ImagePath>, plan: &mut Plan) -> Result<(), ScrubError> {
        let mut wanted: BTreeMap<(EntryId, u64, usize), Option<&FoundInFile>> = BTreeMap::new();
        let layers = self.layers_by_digest();
        for found in &self.request.in_files {
            let [digest, diff_id] = &found.layer;
            let mut digests = digest.iter().chain(diff_id);
            let Some(layer) = digests.find_map(|digest| layers.get(digest).copied()) else {
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
            if entry.is_none_or(|entry| entry.hits.binary_search(&(found.secret, offset)).is_err()) {
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

    /// The layers by the digests of their uncompressed bytes, and by those of their blobs, which come first.
    fn layers_by_digest(&self) -> HashMap<&'p Digest, usize> {
        let surveys = || self.surveys.iter().enumerate().rev();
        let by_diff_id = surveys().map(|(layer, survey)| (&survey.diff_id, layer));
        by_diff_id.chain(surveys().map(|(layer, survey)| (&survey.digest, layer))).collect()
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

/// Where entries are whose paths lead through symbolic links, as far as that is a wanted path.
#[derive(Default)]
struct RealPlaces(HashMap<EntryId, BTreeSet<ImagePath>>);

impl RealPlaces {
    fn add(&mut self, id: EntryId, entry: &Surveyed, real: ImagePath) {
        if real != entry.path {
            self.0.entry(id).or_default().insert(real);
        }
    }

    fn of(&self, id: EntryId) -> impl Iterator<Item = &ImagePath> {
        self.0.get(&id).into_iter().flatten()
    }
}

/// Entries that are joined into groups.
#[derive(Default)]
struct Groups {
    parents: HashMap<EntryId, EntryId>,
    /// The entries of a group besides its root.
    sizes: HashMap<EntryId, usize>,
}

impl Groups {
    fn root(&self, mut id: EntryId) -> EntryId {
        while let Some(&parent) = self.parents.get(&id) {
            id = parent;
        }
        id
    }

    fn join(&mut self, a: EntryId, b: EntryId) {
        let size = |groups: &Groups, root| groups.sizes.get(&root).copied().unwrap_or(0);
        let (a, b) = (self.root(a), self.root(b));
        if a != b {
            // The smaller group goes below the larger, so that no root is far.
            let (root, below) = if size(self, a) < size(self, b) { (b, a) } else { (a, b) };
            *self.sizes.entry(root).or_default() = size(self, a) + size(self, b) + 1;
            self.parents.insert(below, root);
        }
    }
}

/// Whether one of the paths `all` is `path` or below it.
fn has_at_or_below(all: &BTreeSet<&[u8]>, path: &[u8]) -> bool {
    let first = [path, b"/"].concat();
    let mut below = all.range::<[u8], _>((Bound::Included(&first[..]), Bound::Unbounded));
    all.contains(path) || below.next().is_some_and(|next| next.starts_with(&first))
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
