//! What the reader of an engine's records finds in a store: images, the files of containers and volumes, and how the
//! files of each layer are read.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::{self, Metadata};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use layersift_format::manifest::ImageKind;
use layersift_format::{Cancellation, Location, Standing};
use layersift_model::{Digest, Gap, GapReason, parse};

use crate::directory_tar::{Part, Tree};
use crate::kept::{self, Kept};
use crate::records::Records;
use crate::root::{self, Root};
use crate::unique::unique;

/// The most bytes of a listing or a record of an engine that is read whole.
pub(crate) const LISTING: u64 = 32 << 20;

/// The most bytes of a manifest or a configuration.
pub(crate) const DOCUMENT: u64 = 8 << 20;

/// The most values of a listing or a document.
const VALUES: usize = 500_000;

/// What a container, a volume or a layer takes in memory beside its texts, with its report.
const SET: usize = 2 << 10;

/// What a problem takes in memory beside its texts.
const PROBLEM: usize = 256;

/// What a layer of an image takes in memory beside its location.
const LAYER: usize = 64;

/// What is in the store of an engine.
pub(crate) struct Store {
    /// The directory of the engine.
    pub(crate) root: Root,
    /// Its images.
    pub(crate) images: Vec<StoredImage>,
    /// Its containers, its volumes, and sets of files that belong to neither.
    pub(crate) sets: Vec<Set>,
    /// The layers that may belong to an image; those that are read with none are sets as well.
    pub(crate) candidates: Vec<Candidate>,
    /// How the bytes of a location are read.
    pub(crate) plans: BTreeMap<Location, Plan>,
    /// The directories with blobs by digest.
    pub(crate) contents: Vec<Content>,
    /// Blobs that are somewhere else.
    pub(crate) blobs: HashMap<Digest, PathBuf>,
    /// The layers whose blob the engine may not have kept, and where their files are.
    pub(crate) unpacked: HashMap<Digest, Location>,
    /// The blobs that leases hold.
    pub(crate) leases: Vec<Lease>,
    /// The databases.
    pub(crate) records: Vec<Records>,
    /// The indexes of those that were read, by their names.
    databases: HashMap<String, usize>,
    /// What they keep in memory.
    kept: Kept,
    /// What containers, volumes and layers keep in memory, and how many there was no more for.
    kept_sets: Kept,
    left_out: u64,
    not_noted: u64,
    /// Ends the reading.
    pub(crate) cancellation: Cancellation,
    /// The whole disk, if the target is that and not the directory of the engine alone.
    pub(crate) disk: Option<Root>,
    /// Paths that are read as something, and not as the rest.
    pub(crate) covered: HashSet<PathBuf>,
    /// What could not be read of the records.
    pub(crate) problems: Vec<Gap>,
    /// The paths and details of `problems`: what is looked at twice is noted once.
    noted: HashSet<(String, String)>,
    /// The names of sets, after their kinds, and the numbers of those that are equal.
    set_names: HashSet<String>,
    next_set: HashMap<String, u64>,
    /// The candidates by their directories, and the numbers of those of one name.
    by_directory: HashMap<PathBuf, usize>,
    next_candidate: HashMap<String, u64>,
    /// Candidates that belong to a container, and which.
    taken: HashMap<Location, String>,
}

/// An image in a store.
pub(crate) struct StoredImage {
    /// Its names; the first is that of its report.
    pub(crate) names: Vec<String>,
    /// The id by which the engine calls it: the digest of its manifest or its configuration.
    pub(crate) id: Digest,
    /// Where it is.
    pub(crate) form: ImageForm,
}

/// What an engine keeps of an image.
pub(crate) enum ImageForm {
    /// Its manifest or index.
    Manifest,
    /// Its configuration and its layers, base first.
    Layers { config: Location, layers: Vec<Location> },
}

/// How the bytes of a layer or a blob are read.
#[derive(Clone, Debug)]
pub(crate) enum Plan {
    /// A file as it is.
    File(PathBuf),
    /// An archive made of these parts.
    Parts(Vec<Part>),
    /// The archive with a record of its headers, or an archive of `files` if the record does not match.
    Split { record: PathBuf, directory: PathBuf, files: Vec<Part> },
    /// The files of a layer that its record does not have.
    Unrecorded { record: PathBuf, directory: PathBuf, files: Tree },
}

/// Files that belong to no image.
pub(crate) struct Set {
    pub(crate) kind: ImageKind,
    pub(crate) name: String,
    /// The layers, base first, each with what it is.
    pub(crate) layers: Vec<(Plan, String)>,
    pub(crate) notes: Vec<String>,
    pub(crate) standing: Standing,
}

/// A layer that may belong to an image.
pub(crate) struct Candidate {
    pub(crate) location: Location,
    /// What it is, if it belongs to none.
    pub(crate) notes: Vec<String>,
    /// Whether a blob has the same files.
    pub(crate) is_copy: bool,
    /// How many other records name the same directory.
    pub(crate) others: u64,
}

/// A directory with blobs by digest.
#[derive(Clone, Debug)]
pub(crate) struct Content {
    /// Its path below the root.
    pub(crate) name: String,
    /// Its path.
    pub(crate) path: PathBuf,
    /// The files in it, with the locations of blobs. A name that is not UTF-8 may look like that of another.
    pub(crate) blobs: Vec<(Location, PathBuf)>,
}

impl Content {
    /// The path of a blob below the root.
    pub(crate) fn blob(&self, algorithm: &str, hex: &str) -> String {
        format!("{}/{algorithm}/{hex}", self.name)
    }
}

/// A lease.
pub(crate) struct Lease {
    pub(crate) name: String,
    pub(crate) notes: Vec<String>,
    pub(crate) blobs: Vec<Digest>,
}

impl Store {
    pub(crate) fn new(root: Root) -> Store {
        Store {
            root,
            images: Vec::new(),
            sets: Vec::new(),
            candidates: Vec::new(),
            plans: BTreeMap::new(),
            contents: Vec::new(),
            blobs: HashMap::new(),
            unpacked: HashMap::new(),
            leases: Vec::new(),
            records: Vec::new(),
            databases: HashMap::new(),
            kept: Kept::new(kept::RECORDS),
            kept_sets: Kept::new(kept::SETS),
            left_out: 0,
            not_noted: 0,
            cancellation: Cancellation::never(),
            disk: None,
            covered: HashSet::new(),
            problems: Vec::new(),
            noted: HashSet::new(),
            set_names: HashSet::new(),
            next_set: HashMap::new(),
            by_directory: HashMap::new(),
            next_candidate: HashMap::new(),
            taken: HashMap::new(),
        }
    }

    /// The store in `root`, which is in its place on `disk`.
    pub(crate) fn on_disk(root: Root, disk: Root) -> Store {
        let mut store = Store::new(root);
        store.disk = Some(disk);
        store
    }

    /// Notes what could not be read at `path`.
    pub(crate) fn problem(&mut self, path: &str, detail: impl ToString) {
        let (path, detail) = (path.to_string(), detail.to_string());
        let noted = (path.clone(), detail.clone());
        if self.noted.contains(&noted) {
            return;
        }
        if self.kept_sets.keep(PROBLEM + 2 * (path.len() + detail.len())).is_err() {
            self.not_noted += 1;
            return;
        }
        self.noted.insert(noted);
        self.problems.push(Gap::new(GapReason::DamagedDocument, detail).at(path));
    }

    /// Notes what is at `path` in a form that is not read.
    pub(crate) fn unsupported(&mut self, path: &str, detail: impl ToString) {
        self.problems.push(Gap::new(GapReason::Unreadable, detail.to_string()).at(path));
    }

    /// The value, or the default if it could not be read, which is noted.
    pub(crate) fn or_problem<T: Default, E: ToString>(&mut self, path: &str, outcome: Result<T, E>) -> T {
        outcome.unwrap_or_else(|error| {
            self.problem(path, error);
            T::default()
        })
    }

    /// Whether nothing more is to be read. What asks for a path is then told that nothing is there, so that all loops
    /// over records end, and the store is not used.
    fn is_cancelled(&self) -> bool {
        self.cancellation.is_cancelled()
    }

    /// The path of what is at `path` below the root, with what it is.
    pub(crate) fn find(&mut self, path: &str) -> Option<(PathBuf, Metadata)> {
        let found = if self.is_cancelled() { Ok(None) } else { self.root.find(path) };
        self.or_problem(path, found)
    }

    /// The path of the directory at `path` below the root.
    pub(crate) fn directory(&mut self, path: &str) -> Option<PathBuf> {
        self.find(path).and_then(|(path, metadata)| metadata.is_dir().then_some(path))
    }

    /// The path of the regular file at `path` below the root.
    pub(crate) fn file(&mut self, path: &str) -> Option<PathBuf> {
        self.find(path).and_then(|(path, metadata)| metadata.is_file().then_some(path))
    }

    /// The names in a directory of the engine.
    pub(crate) fn names(&mut self, path: &str) -> Vec<String> {
        let names = if self.is_cancelled() { Ok(Vec::new()) } else { self.root.names(path) };
        self.or_problem(path, names)
    }

    /// The text of a small file of the engine; `None` if it is missing or empty.
    pub(crate) fn text(&mut self, path: &str) -> Option<String> {
        let text = if self.is_cancelled() { Ok(None) } else { self.root.text(path) };
        self.or_problem(path, text).filter(|text| !text.is_empty())
    }

    /// The content of a file of the engine of `limit` bytes at most; `None` if it is missing.
    pub(crate) fn bytes(&mut self, path: &str, limit: u64) -> Option<Vec<u8>> {
        let bytes = if self.is_cancelled() { Ok(None) } else { self.root.read(path, limit) };
        self.or_problem(path, bytes)
    }

    /// The JSON in a file of the engine; `None` if it is missing or damaged.
    pub(crate) fn json<T: serde::de::DeserializeOwned>(&mut self, path: &str) -> Option<T> {
        let bytes = self.bytes(path, LISTING)?;
        if !has_few_values(&bytes) {
            self.problem(path, format!("it has more than {VALUES} values"));
            return None;
        }
        let parsed = parse::json(&bytes).map(Some);
        self.or_problem(path, parsed)
    }

    /// Lists the blobs in the directory at `name`. The directories that can be listed are covered.
    pub(crate) fn content(&mut self, name: String) {
        let Some(path) = self.directory(&name) else { return };
        let algorithms = self.names(&name);
        let mut content = Content { name, path, blobs: Vec::new() };
        for algorithm in algorithms {
            let below = format!("{}/{algorithm}", content.name);
            let Some(directory) = self.directory(&below) else { continue };
            let names = root::children(&directory).map(Some);
            let Some(names) = self.or_problem(&below, names) else { continue };
            content.blobs.extend(names.into_iter().map(|name| {
                let location = Location(format!("blobs/{algorithm}/{}", name.to_string_lossy()));
                (location, directory.join(name))
            }));
            self.covered.insert(directory);
        }
        self.contents.push(content);
    }

    /// Reads the database at `path`, if there is one. Returns its index in [`Store::records`].
    pub(crate) fn database(&mut self, path: &str) -> Option<usize> {
        if let Some(known) = self.databases.get(path) {
            return Some(*known);
        }
        let records = Records::read(&self.root, path, &mut self.kept, &self.cancellation);
        let records = self.or_problem(path, records)?;
        self.databases.insert(path.into(), self.records.len());
        self.records.push(records);
        Some(self.records.len() - 1)
    }

    /// Notes the databases that were cut off while their records were read.
    pub(crate) fn check_databases(&mut self) {
        let cut: Vec<_> = self.records.iter().map(|records| (records.name.clone(), records.check_whole())).collect();
        cut.into_iter().for_each(|(name, outcome)| self.or_problem(&name, outcome));
        self.records.iter_mut().for_each(Records::forget_buckets);
    }

    /// Reads the databases below `directory` that nothing covers.
    pub(crate) fn find_databases(&mut self, directory: &str, depth: usize) {
        const DEEPEST: usize = 8;
        for name in self.names(if directory.is_empty() { "." } else { directory }) {
            let path = if directory.is_empty() { name } else { format!("{directory}/{name}") };
            let found = self.root.path().join(&path);
            // What leads here is no link, so only what is here may be one.
            let metadata = fs::symlink_metadata(&found).map(Some);
            let Some(metadata) = self.or_problem(&path, metadata).filter(|_| !self.covered.contains(&found)) else {
                continue;
            };
            let extension = found.extension().and_then(|extension| extension.to_str());
            if metadata.is_dir() && depth < DEEPEST {
                self.find_databases(&path, depth + 1);
            } else if metadata.is_file() && matches!(extension, Some("db" | "sql" | "sqlite")) {
                self.database(&path);
            }
        }
    }

    /// Adds a layer that may belong to an image, and the path that it covers. Whatever number of records names a
    /// directory, it is one layer, and read once: as the first of them says.
    pub(crate) fn candidate(&mut self, name: &str, plan: Plan, covers: &Path, notes: Vec<String>) -> Location {
        let known = self.by_directory.get(covers).and_then(|index| self.candidates.get_mut(*index));
        if let Some(known) = known {
            known.others += 1;
            return known.location.clone();
        }
        // Records may call two layers by one name, and neither may stand for the other.
        let plans = &self.plans;
        let location =
            unique(&mut self.next_candidate, name.into(), '+', |name| plans.contains_key(&Location(name.into())));
        let location = Location(location);
        self.covered.insert(covers.into());
        self.plans.insert(location.clone(), plan);
        self.by_directory.insert(covers.into(), self.candidates.len());
        self.candidates.push(Candidate { location: location.clone(), notes, is_copy: false, others: 0 });
        location
    }

    /// Covers a directory that is read as something. Returns false if it is read already, as it is if several records
    /// name it.
    pub(crate) fn cover(&mut self, directory: PathBuf) -> bool {
        self.covered.insert(directory)
    }

    /// Files of the engine below `path`, as part of a set; they are covered. `None` if they are part of one already.
    pub(crate) fn take(&mut self, path: &str) -> Option<Part> {
        let found = self.directory(path)?;
        let tree = Tree::named(&found, path);
        self.cover(found).then_some(Part::Tree(tree))
    }

    /// Adds a set of files. Two of the same name are told apart.
    pub(crate) fn set(&mut self, mut set: Set) {
        let texts = set.layers.iter().map(|(_, what)| what).chain(&set.notes).map(|text| text.len() + LAYER);
        let bytes = SET + set.name.len() + texts.sum::<usize>();
        if self.kept_sets.keep(bytes).is_err() {
            self.left_out += 1;
            return;
        }
        let kind = format!("{:?}/", set.kind);
        let names = &self.set_names;
        let name = unique(&mut self.next_set, format!("{kind}{}", set.name), '-', |name| names.contains(name));
        set.name = name.strip_prefix(&kind).unwrap_or(&name).into();
        self.set_names.insert(name);
        self.sets.push(set);
    }

    /// Adds an image whose layers the engine lists, unless it has more of them than fit into memory.
    pub(crate) fn image(&mut self, path: &str, image: StoredImage) {
        let layers = match &image.form {
            ImageForm::Manifest => 0,
            ImageForm::Layers { layers, .. } => layers.iter().map(|layer| LAYER + layer.0.len()).sum(),
        };
        match self.kept_sets.keep(layers) {
            Ok(()) => self.images.push(image),
            Err(error) => self.problem(path, error),
        }
    }

    /// Notes how many containers, volumes and problems were left out.
    pub(crate) fn note_left_out(&mut self) {
        let gap = |detail| Gap::new(GapReason::DamagedDocument, detail);
        if self.left_out > 0 {
            let detail = format!("the store has too many containers and volumes; {} are not read", self.left_out);
            self.problems.push(gap(detail));
        }
        if self.not_noted > 0 {
            self.problems.push(Gap::unlisted(GapReason::DamagedDocument, self.not_noted));
        }
    }

    /// The plan of a layer that belongs to the container `owner`, and so is no set of its own. If it belongs to another
    /// one already, a note says to which.
    pub(crate) fn take_layer(&mut self, location: &Location, owner: &str, notes: &mut Vec<String>) -> Option<Plan> {
        if let Some(first) = self.taken.get(location) {
            notes.push(format!("its files are those of the container {first}, and are reported with it"));
            return None;
        }
        let plan = self.plans.get(location)?.clone();
        self.taken.insert(location.clone(), owner.into());
        Some(plan)
    }

    /// Leaves out the layers that were taken.
    pub(crate) fn drop_taken(&mut self) {
        self.candidates.retain(|candidate| !self.taken.contains_key(&candidate.location));
    }

    /// The paths that are covered, to be left out of others.
    pub(crate) fn covered(&self) -> Arc<HashSet<PathBuf>> {
        Arc::new(self.covered.clone())
    }
}

/// Whether a document has no more values than are read: each but the first comes after a comma.
pub(crate) fn has_few_values(bytes: &[u8]) -> bool {
    bytes.iter().filter(|byte| **byte == b',').count() < VALUES
}

/// The chain ids of layers by their diff_ids: OCI image-spec v1.1, `config.md`, "Layer ChainID".
pub(crate) fn chain_ids(diff_ids: &[Digest]) -> Vec<Digest> {
    let mut chain: Vec<Digest> = Vec::with_capacity(diff_ids.len());
    for diff_id in diff_ids {
        let next = match chain.last() {
            None => diff_id.clone(),
            Some(parent) => Digest::of(format!("{parent} {diff_id}").as_bytes()),
        };
        chain.push(next);
    }
    chain
}

#[cfg(test)]
mod tests {
    use layersift_format::CancelReason;

    use super::*;
    use crate::{Engine, Wanted};

    fn store(disk: &Path) -> Store {
        Store::new(Root::new(disk))
    }

    fn container(name: &str) -> Set {
        let (layers, notes) = (Vec::new(), Vec::new());
        Set { kind: ImageKind::Container, name: name.into(), layers, notes, standing: Standing::Own }
    }

    #[test]
    fn a_directory_is_one_layer_whatever_number_of_records_names_it() {
        let disk = tempfile::tempdir().unwrap();
        let mut store = store(disk.path());
        let mut add = |name: &str, directory: &str| {
            let directory = disk.path().join(directory);
            store.candidate(name, Plan::Parts(vec![Part::Tree(Tree::new(&directory))]), &directory, Vec::new()).0
        };
        for _ in 0..20_000 {
            assert_eq!(add("overlay2/x", "one"), "overlay2/x");
        }
        // Two directories of one name are two layers.
        assert_eq!((add("overlay2/x", "two"), add("y", "one")), ("overlay2/x+2".into(), "overlay2/x".into()));
        assert_eq!((store.plans.len(), store.candidates.len(), store.candidates[0].others), (2, 2, 20_000));
    }

    #[test]
    fn a_layer_belongs_to_one_container() {
        let disk = tempfile::tempdir().unwrap();
        fs::create_dir_all(disk.path().join("a/b")).unwrap();
        let mut store = store(disk.path());
        let location = store.candidate("a", Plan::Parts(Vec::new()), disk.path(), Vec::new());
        let mut notes = Vec::new();
        assert!(store.take_layer(&location, "web", &mut notes).is_some() && notes.is_empty());
        assert!(store.take_layer(&location, "db", &mut notes).is_none());
        assert_eq!(notes, ["its files are those of the container web, and are reported with it"]);
        assert!(store.take("a/b").is_some() && store.take("a/b").is_none());
    }

    #[test]
    fn what_is_kept_of_records_has_a_limit() {
        let disk = tempfile::tempdir().unwrap();
        let mut store = store(disk.path());
        store.kept_sets = Kept::new(10 * (SET + 1));
        (0..15).for_each(|_| store.set(container("c")));
        store.problem("path", "detail");
        store.note_left_out();
        let details: Vec<&str> = store.problems.iter().map(|gap| &gap.detail[..]).collect();
        assert_eq!(store.sets.len(), 10);
        assert_eq!(details.len(), 2, "{details:?}");
        assert!(details[0].contains("5 are not read") && details[1].contains("1 more gap"), "{details:?}");
        let many = format!("[{}0]", "0,".repeat(VALUES));
        assert!(has_few_values(&many.as_bytes()[3..]) && !has_few_values(many.as_bytes()));
    }

    #[test]
    fn nothing_is_read_after_the_end_of_the_time() {
        let disk = tempfile::tempdir().unwrap();
        for mark in ["image", "io.containerd.metadata.v1.bolt", "overlay-layers"] {
            fs::create_dir_all(disk.path().join(mark)).unwrap();
        }
        let cancelled = Cancellation::new();
        cancelled.cancel();
        for engine in [Engine::Docker, Engine::Containerd, Engine::Podman] {
            assert!(engine.open(disk.path(), Wanted::All, &Cancellation::never()).is_ok());
            let error = engine.open(disk.path(), Wanted::All, &cancelled).map(drop).unwrap_err();
            assert_eq!(CancelReason::of(&error), Some(CancelReason::Cancelled));
        }
        let mut store = store(disk.path());
        store.cancellation = cancelled;
        assert_eq!((store.names("."), store.find("image").is_some()), (Vec::new(), false));
    }
}
