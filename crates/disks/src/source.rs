//! The store of an engine as a source of images.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use layersift_format::manifest::ImageKind;
use layersift_format::{
    Blob, Cancellation, Fetched, FileSet, ImageSource, LayerForm, Listed, Location, MappedFile, SourceError, Standing,
};
use layersift_model::{Digest, Gap, GapReason, list_names};

use crate::directory_tar::{DirectoryTar, Part, Tree, Unreadable};
use crate::root::{self, Root};
use crate::sqlite;
use crate::store::{ImageForm, Plan, Store, StoredImage};
use crate::tar_split::{self, TarSplit};
use crate::unique::unique;
use crate::{containerd, docker, podman};

/// An engine whose store is on a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// Docker, with a graph driver or with the containerd image store.
    Docker,
    /// containerd, as Kubernetes runs it.
    Containerd,
    /// Podman, Buildah and whatever else uses containers-storage.
    Podman,
}

/// What is read of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// The image of this name, or the only one.
    Image(Option<String>),
    /// Every image and container, and the rest.
    All,
}

impl Engine {
    /// The name of the engine in messages.
    fn name(self) -> &'static str {
        match self {
            Engine::Docker => "Docker",
            Engine::Containerd => "containerd",
            Engine::Podman => "Podman",
        }
    }

    /// Where the engine keeps its store on a disk.
    fn place(self) -> &'static str {
        match self {
            Engine::Docker => "var/lib/docker",
            Engine::Containerd => "var/lib/containerd",
            Engine::Podman => "var/lib/containers/storage",
        }
    }

    /// Names in the directory of the engine, of which it has at least one.
    fn marks(self) -> &'static [&'static str] {
        match self {
            Engine::Docker => &["image", "containers", "volumes", "containerd"],
            Engine::Containerd => &["io.containerd.metadata.v1.bolt", "io.containerd.content.v1.content"],
            Engine::Podman => &[
                "overlay-layers",
                "vfs-layers",
                "overlay-images",
                "vfs-images",
                "libpod",
                "btrfs-layers",
                "zfs-layers",
            ],
        }
    }

    /// Whether the directory is that of a store. What cannot be told of one mark counts only if no other is there.
    fn is_store(self, root: &Root) -> io::Result<bool> {
        let mut outcome = Ok(false);
        for mark in self.marks() {
            match root.directory(mark) {
                Ok(Some(_)) => return Ok(true),
                Ok(None) => {}
                Err(error) => outcome = Err(error),
            }
        }
        outcome
    }

    /// There is no store, or there are several.
    fn none(self, path: &Path, several: &[PathBuf]) -> SourceError {
        if several.is_empty() {
            return SourceError::NotAStore { path: path.into(), engine: self.name(), place: self.place() };
        }
        let several: Vec<String> = several.iter().map(|path| path.display().to_string()).collect();
        let error = io::Error::other(format!("there are several stores; name one of {}", several.join(", ")));
        SourceError::Read { path: path.into(), error }
    }

    /// Reads the records of the store in `path`: the directory of the engine, or a disk with it in its usual place.
    ///
    /// # Errors
    /// If there is no store, or `cancellation` is cancelled meanwhile.
    pub fn open(
        self,
        path: &Path,
        wanted: Wanted,
        cancellation: &Cancellation,
    ) -> Result<Box<dyn ImageSource>, SourceError> {
        // The user may name a link; none is followed below what it leads to.
        let real = path.canonicalize().map_err(|error| SourceError::Read { path: path.into(), error })?;
        let disk = Root::new(&real);
        let failed = |error| SourceError::Read { path: path.into(), error };
        let below = disk.directory(self.place()).map_err(failed)?.map(|path| Root::new(&path));
        let mut store = match below {
            _ if self.is_store(&disk).map_err(failed)? => Store::new(disk),
            Some(root) if self.is_store(&root).map_err(failed)? => Store::on_disk(root, disk),
            root if self == Engine::Docker => {
                let remapped = remapped(root.as_ref().unwrap_or(&disk), &|root| self.is_store(root)).map_err(failed)?;
                let [one] = &remapped[..] else { return Err(self.none(path, &remapped)) };
                Store::new(Root::new(one))
            }
            _ => return Err(self.none(path, &[])),
        };
        store.cancellation = cancellation.clone();
        match self {
            Engine::Docker => docker::read(&mut store),
            Engine::Containerd => drop(containerd::read(&mut store, "")),
            Engine::Podman => podman::read(&mut store),
        }
        store.drop_taken();
        store.find_databases("", 0);
        store.check_databases();
        store.note_left_out();
        cancellation.check().map_err(|reason| failed(reason.into()))?;
        // Images without a name come last, such as those of the steps of a build.
        store.images.sort_by_cached_key(|image| (image.names.is_empty(), image.names.clone(), image.id.to_string()));
        Ok(Box::new(DiskSource {
            target: path.into(),
            store,
            wanted,
            opened: Mutex::default(),
            unreadable: Mutex::default(),
            forms: Mutex::default(),
            sets: Mutex::default(),
            next_set: Mutex::default(),
        }))
    }
}

/// The data roots below that of Docker, of daemons with `userns-remap`.
fn remapped(root: &Root, is_store: &dyn Fn(&Root) -> io::Result<bool>) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for name in root.names(".")?.iter().filter(|name| docker::is_remapped(name)) {
        if let Some(path) = root.directory(name)?
            && is_store(&Root::new(&path))?
        {
            found.push(path);
        }
    }
    Ok(found)
}

struct DiskSource {
    target: PathBuf,
    store: Store,
    wanted: Wanted,
    /// What was opened: the rest is in no image that was read.
    opened: Mutex<HashSet<Location>>,
    unreadable: Mutex<HashMap<Location, Unreadable>>,
    /// Why a layer does not match its record, if it does not.
    forms: Mutex<HashMap<Location, Option<String>>>,
    /// The plans of the layers of sets.
    sets: Mutex<BTreeMap<Location, Plan>>,
    /// The numbers of those of one name.
    next_set: Mutex<HashMap<String, u64>>,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ImageSource for DiskSource {
    fn list(&self) -> Result<Vec<Listed>, SourceError> {
        let images = &self.store.images;
        let known = || {
            let name = |image: &StoredImage| image.names.first().cloned().unwrap_or_else(|| image.id.to_string());
            list_names(images.iter().map(name), "no images")
        };
        let found: Vec<&StoredImage> = match &self.wanted {
            Wanted::All => images.iter().collect(),
            Wanted::Image(Some(wanted)) => images.iter().filter(|image| image.is_called(wanted)).collect(),
            Wanted::Image(None) if images.len() > 1 => return Err(SourceError::SeveralImages { known: known() }),
            Wanted::Image(None) => images.iter().collect(),
        };
        match &self.wanted {
            Wanted::Image(Some(wanted)) if found.is_empty() => {
                Err(SourceError::NoSuchReference { wanted: wanted.clone(), known: known() })
            }
            Wanted::Image(None) if found.is_empty() => Err(SourceError::NoImages(self.target.clone())),
            _ => Ok(found.into_iter().map(|image| self.listed(image)).collect()),
        }
    }

    fn locate(&self, digest: &Digest) -> Location {
        Location(format!("blobs/{}/{}", digest.algorithm().name(), digest.hex()))
    }

    fn open(&self, location: &Location) -> Result<Fetched<'_>, SourceError> {
        let failed = |error| SourceError::Read { path: location.0.clone().into(), error };
        let Some((location, plan)) = self.plan(location).map_err(failed)? else { return Ok(Fetched::Missing) };
        let blob = self.read(&location, plan).map_err(failed)?;
        lock(&self.opened).insert(location);
        Ok(Fetched::Blob(blob))
    }

    fn missing(&self, what: &str) -> String {
        format!("the engine did not keep this {what}, nor its unpacked files")
    }

    fn gaps(&self) -> Vec<Gap> {
        // With all of it, they are gaps of the rest.
        if self.has_rest() { Vec::new() } else { self.store.problems.clone() }
    }

    fn layer_gaps(&self, location: &Location) -> Vec<Gap> {
        // Where the plan is not known, the layer was not opened either, and that is the gap.
        let Ok(Some((location, _))) = self.plan(location) else { return Vec::new() };
        let unreadable = lock(&self.unreadable).get(&location).cloned();
        let mut gaps = unreadable.map(|unreadable| unreadable.gaps()).unwrap_or_default();
        if let Some(Some(why)) = lock(&self.forms).get(&location) {
            let detail =
                format!("the files of the layer do not match the record of its archive: {why}; they were read");
            gaps.push(Gap::new(GapReason::DiffIdMismatch, detail));
        }
        gaps
    }

    fn layer_form(&self, location: &Location) -> LayerForm {
        match self.plan(location) {
            Err(_) | Ok(None | Some((_, Plan::File(_)))) => LayerForm::Blob,
            Ok(Some((location, plan @ Plan::Split { .. }))) => match self.mismatch(&location, &plan) {
                None => LayerForm::Archive,
                Some(_) => LayerForm::Files,
            },
            Ok(Some((_, Plan::Parts(_) | Plan::Unrecorded { .. }))) => LayerForm::Files,
        }
    }

    fn is_store(&self) -> bool {
        true
    }

    fn has_rest(&self) -> bool {
        self.wanted == Wanted::All
    }

    fn rest(&self) -> Option<Result<Vec<FileSet>, SourceError>> {
        self.has_rest().then(|| Ok(self.sets()))
    }
}

impl StoredImage {
    /// Whether the image is called `wanted`, as an engine would complete that name.
    fn is_called(&self, wanted: &str) -> bool {
        const SHORTEST_ID: usize = 12;
        let tagged = |name: &str| match name.rsplit('/').next().unwrap_or(name).contains([':', '@']) {
            true => name.to_string(),
            false => format!("{name}:latest"),
        };
        let wanted = tagged(wanted);
        let domains = ["", "docker.io/library/", "docker.io/", "localhost/"];
        let is_name = |name: &String| domains.iter().any(|domain| tagged(name) == format!("{domain}{wanted}"));
        let id = wanted.strip_suffix(":latest").unwrap_or(&wanted);
        let id = id.strip_prefix("sha256:").unwrap_or(id);
        self.names.iter().any(is_name) || (id.len() >= SHORTEST_ID && self.id.hex().starts_with(id))
    }
}

impl DiskSource {
    fn listed(&self, image: &StoredImage) -> Listed {
        let reference = image.names.first().cloned();
        match &image.form {
            ImageForm::Manifest => Listed::Manifest {
                reference,
                location: self.locate(&image.id),
                digest: Some(image.id.clone()),
                listing: Vec::new(),
            },
            ImageForm::Layers { config, layers } => {
                Listed::DockerArchive { reference, config: config.clone(), layers: layers.clone(), listing: Vec::new() }
            }
        }
    }

    /// How a location is read, and the location of the same bytes under which that is remembered.
    fn plan(&self, location: &Location) -> io::Result<Option<(Location, Plan)>> {
        let known = self.store.plans.get(location).cloned().or_else(|| lock(&self.sets).get(location).cloned());
        if let Some(plan) = known {
            return Ok(Some((location.clone(), plan)));
        }
        let parsed = location.0.strip_prefix("blobs/").and_then(|rest| rest.split_once('/'));
        let Some(Ok(digest)) = parsed.map(|(algorithm, hex)| format!("{algorithm}:{hex}").parse::<Digest>()) else {
            return Ok(None);
        };
        if let Some(path) = self.blob(&digest)? {
            return Ok(Some((location.clone(), Plan::File(path))));
        }
        let Some(location) = self.store.unpacked.get(&digest) else { return Ok(None) };
        Ok(self.store.plans.get(location).map(|plan| (location.clone(), plan.clone())))
    }

    /// The file with the blob of a digest.
    fn blob(&self, digest: &Digest) -> io::Result<Option<PathBuf>> {
        let name = format!("{}/{}", digest.algorithm().name(), digest.hex());
        for content in &self.store.contents {
            if let Some((path, _)) = root::below(&content.path, name.as_ref())? {
                return Ok(Some(path));
            }
        }
        Ok(self.store.blobs.get(digest).cloned())
    }

    fn read(&self, location: &Location, plan: Plan) -> io::Result<Blob<'_>> {
        let archive = |parts| {
            let unreadable = Unreadable::default();
            lock(&self.unreadable).insert(location.clone(), unreadable.clone());
            Blob::Stream(Box::new(DirectoryTar::of(parts, unreadable).until(&self.store.cancellation)))
        };
        Ok(match plan {
            // An empty file cannot be mapped.
            Plan::File(path) if root::open_file(&path)?.metadata()?.len() == 0 => Blob::Stream(Box::new(io::empty())),
            Plan::File(path) => Blob::File(MappedFile::of(&root::open_file(&path)?)?),
            Plan::Parts(parts) => archive(parts),
            Plan::Split { ref record, ref directory, ref files } => match self.mismatch(location, &plan) {
                None => Blob::Stream(Box::new(TarSplit::open(record, directory, &self.store.cancellation)?)),
                Some(_) => archive(files.clone()),
            },
            Plan::Unrecorded { record, directory, files } => {
                let recorded = tar_split::recorded_files(&record, &directory, &self.store.cancellation)?;
                archive(vec![Part::Tree(files.without(Arc::new(recorded)))])
            }
        })
    }

    /// Why the files of a layer do not match the record of its archive; `None` if they do.
    fn mismatch(&self, location: &Location, plan: &Plan) -> Option<String> {
        let Plan::Split { record, directory, .. } = plan else { return None };
        if let Some(known) = lock(&self.forms).get(location) {
            return known.clone();
        }
        let found = tar_split::check(record, directory, &self.store.cancellation).err();
        if let Some(reason) = self.store.cancellation.reason() {
            return Some(reason.to_string());
        }
        lock(&self.forms).insert(location.clone(), found.clone());
        found
    }

    /// What is in no image that was read.
    fn sets(&self) -> Vec<FileSet> {
        let opened = lock(&self.opened).clone();
        lock(&self.sets).clear();
        lock(&self.next_set).clear();
        let mut sets = Vec::new();
        for set in &self.store.sets {
            let files = self.set(set.kind, &set.name, set.layers.clone(), set.notes.clone());
            sets.push(FileSet { standing: set.standing, ..files });
        }
        for candidate in &self.store.candidates {
            let Some(plan) = self.store.plans.get(&candidate.location) else { continue };
            let name = &candidate.location.0;
            if !opened.contains(&candidate.location) {
                let layers = vec![(plan.clone(), format!("files of {name}"))];
                let mut notes = candidate.notes.clone();
                if candidate.others > 0 {
                    notes.push(format!("{} more records name the same directory", candidate.others));
                }
                let set = self.set(ImageKind::Orphan, name, layers, notes);
                let standing = if candidate.is_copy { Standing::Copy } else { Standing::Own };
                sets.push(FileSet { standing, ..set });
            } else if let Plan::Split { record, directory, files } = plan
                && let [Part::Tree(tree)] = files.as_slice()
                && lock(&self.forms).get(&candidate.location) == Some(&None)
            {
                let (record, directory, files) = (record.clone(), directory.clone(), tree.clone());
                let layers = vec![(Plan::Unrecorded { record, directory, files }, format!("files of {name}"))];
                let notes = vec![format!("files in {name} that the archive of the layer did not have")];
                let set = self.set(ImageKind::Orphan, name, layers, notes);
                sets.push(FileSet { standing: Standing::Copy, ..set });
            }
        }
        sets.extend(self.leftover_blobs(&opened));
        sets.push(self.files());
        sets
    }

    fn set(&self, kind: ImageKind, name: &str, layers: Vec<(Plan, String)>, notes: Vec<String>) -> FileSet {
        let mut listed = Vec::new();
        for (index, (plan, what)) in layers.into_iter().enumerate() {
            let mut sets = lock(&self.sets);
            let location = format!("{kind:?}/{name}#{index}");
            let is_taken = |name: &str| sets.contains_key(&Location(name.into()));
            let location = Location(unique(&mut lock(&self.next_set), location, '+', is_taken));
            sets.insert(location.clone(), plan);
            listed.push((location, what));
        }
        FileSet { kind, name: name.into(), layers: listed, notes, gaps: Vec::new(), standing: Standing::Own }
    }

    /// The blobs that belong to no image that was read: those that leases hold, and the others.
    fn leftover_blobs(&self, opened: &HashSet<Location>) -> Vec<FileSet> {
        let mut left: BTreeMap<&Location, Vec<&PathBuf>> = BTreeMap::new();
        for (location, path) in self.store.contents.iter().flat_map(|content| &content.blobs) {
            if !opened.contains(location) {
                left.entry(location).or_default().push(path);
            }
        }
        let parts = |(location, paths): (&Location, Vec<&PathBuf>)| -> Vec<Part> {
            paths.into_iter().map(|path| Part::Tree(Tree::named(path, &location.0))).collect()
        };
        let mut sets = Vec::new();
        for lease in &self.store.leases {
            let held = lease.blobs.iter().filter_map(|digest| left.remove_entry(&self.locate(digest)));
            let parts: Vec<Part> = held.flat_map(parts).collect();
            if !parts.is_empty() {
                let layers = vec![(Plan::Parts(parts), "blobs that a lease holds".into())];
                let name = format!("lease/{}", lease.name);
                sets.push(self.set(ImageKind::Orphan, &name, layers, lease.notes.clone()));
            }
        }
        let parts: Vec<Part> = left.into_iter().flat_map(parts).collect();
        if !parts.is_empty() {
            let layers = vec![(Plan::Parts(parts), "blobs".into())];
            let notes = vec!["blobs that no image which was read and no lease has".into()];
            sets.push(self.set(ImageKind::Orphan, "content", layers, notes));
        }
        sets
    }

    /// Everything else below the directory of the engine: databases first, as they lie on the disk, then their records
    /// and all other files. A layer between them removes the databases: what only they have was deleted from them.
    fn files(&self) -> FileSet {
        let root = &self.store.root;
        let mut skip = self.store.covered.clone();
        let mut gaps = self.store.problems.clone();
        let (mut raw, mut removed, mut live) = (Vec::new(), Vec::new(), Vec::new());
        for records in &self.store.records {
            for name in [records.name.clone(), format!("{}{}", records.name, sqlite::LOG)] {
                let path = match root.find(&name) {
                    Ok(Some((path, _))) => path,
                    Ok(None) => continue,
                    Err(error) => {
                        gaps.push(Gap::new(GapReason::Unreadable, error.to_string()).at(&name));
                        continue;
                    }
                };
                raw.push(Part::Tree(Tree::named(&path, &name)));
                removed.push(Part::Whiteout(name));
                skip.insert(path);
            }
        }
        live.extend(self.store.records.iter().map(|records| records.rest()));
        let rest = Tree { has_attributes: true, ..Tree::new(root.path()) };
        live.push(Part::Tree(rest.without(Arc::new(skip))));
        let layers = vec![
            (Plan::Parts(raw), "databases as they lie on the disk, with what was deleted from them".into()),
            (Plan::Parts(removed), "the end of what was deleted from the databases".into()),
            (Plan::Parts(live), "records of the databases, and other files of the engine".into()),
        ];
        let notes = vec!["files of the engine that belong to no image, container or volume".into()];
        FileSet { gaps, ..self.set(ImageKind::Orphan, "files", layers, notes) }
    }
}
