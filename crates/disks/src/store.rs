//! What the reader of an engine's records finds in a store: images, the files of containers and volumes, and how the
//! files of each layer are read.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::{self, Metadata};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use layersift_format::manifest::ImageKind;
use layersift_format::{Location, Standing};
use layersift_model::{Digest, Gap, GapReason, parse};

use crate::directory_tar::{Part, Tree};
use crate::records::Records;
use crate::root::{self, Root};

/// The most bytes of a listing or a record of an engine that is read whole.
pub(crate) const LISTING: u64 = 32 << 20;

/// The most bytes of a manifest or a configuration.
pub(crate) const DOCUMENT: u64 = 8 << 20;

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
    /// The whole disk, if the target is that and not the directory of the engine alone.
    pub(crate) disk: Option<Root>,
    /// Paths that are read as something, and not as the rest.
    pub(crate) covered: HashSet<PathBuf>,
    /// What could not be read of the records.
    pub(crate) problems: Vec<Gap>,
    /// The paths and details of `problems`: what is looked at twice is noted once.
    noted: HashSet<(String, String)>,
    /// The names of sets, each with the number that the next set of that name gets.
    set_names: HashMap<String, u64>,
    /// Candidates that belong to a set.
    taken: HashSet<Location>,
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
            disk: None,
            covered: HashSet::new(),
            problems: Vec::new(),
            noted: HashSet::new(),
            set_names: HashMap::new(),
            taken: HashSet::new(),
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
        let detail = detail.to_string();
        if self.noted.insert((path.into(), detail.clone())) {
            self.problems.push(Gap::new(GapReason::DamagedDocument, detail).at(path));
        }
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

    /// The path of what is at `path` below the root, with what it is.
    pub(crate) fn find(&mut self, path: &str) -> Option<(PathBuf, Metadata)> {
        let found = self.root.find(path);
        self.or_problem(path, found)
    }

    /// The path of the directory at `path` below the root.
    pub(crate) fn directory(&mut self, path: &str) -> Option<PathBuf> {
        let found = self.root.directory(path);
        self.or_problem(path, found)
    }

    /// The path of the regular file at `path` below the root.
    pub(crate) fn file(&mut self, path: &str) -> Option<PathBuf> {
        let found = self.root.file(path);
        self.or_problem(path, found)
    }

    /// The names in a directory of the engine.
    pub(crate) fn names(&mut self, path: &str) -> Vec<String> {
        let names = self.root.names(path);
        self.or_problem(path, names)
    }

    /// The text of a small file of the engine; `None` if it is missing or empty.
    pub(crate) fn text(&mut self, path: &str) -> Option<String> {
        let text = self.root.text(path);
        self.or_problem(path, text).filter(|text| !text.is_empty())
    }

    /// The JSON in a file of the engine; `None` if it is missing or damaged.
    pub(crate) fn json<T: serde::de::DeserializeOwned>(&mut self, path: &str) -> Option<T> {
        let bytes = self.root.read(path, LISTING);
        let bytes = self.or_problem(path, bytes)?;
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
        if let Some(known) = self.records.iter().position(|records| records.name == path) {
            return Some(known);
        }
        let records = Records::read(&self.root, path);
        let records = self.or_problem(path, records)?;
        self.records.push(records);
        Some(self.records.len() - 1)
    }

    /// Notes the databases that were cut off while their records were read.
    pub(crate) fn check_databases(&mut self) {
        let cut: Vec<_> = self.records.iter().map(|records| (records.name.clone(), records.check_whole())).collect();
        cut.into_iter().for_each(|(name, outcome)| self.or_problem(&name, outcome));
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

    /// Adds a layer that may belong to an image, and the path that it covers.
    pub(crate) fn candidate(&mut self, name: &str, plan: Plan, covers: &Path, notes: Vec<String>) -> Location {
        let mut location = Location(name.into());
        // Records may call two layers by one name, and neither may stand for the other.
        while self.plans.contains_key(&location) {
            location.0.push('+');
        }
        self.covered.insert(covers.into());
        self.plans.insert(location.clone(), plan);
        self.candidates.push(Candidate { location: location.clone(), notes, is_copy: false });
        location
    }

    /// Files of the engine below `path`, as part of a set; they are covered.
    pub(crate) fn take(&mut self, path: &str) -> Option<Part> {
        let found = self.directory(path)?;
        self.covered.insert(found.clone());
        Some(Part::Tree(Tree::named(&found, path)))
    }

    /// Adds a set of files. Two of the same name are told apart.
    pub(crate) fn set(&mut self, mut set: Set) {
        let first = set.name.clone();
        let key = |name: &str| format!("{:?}/{name}", set.kind);
        while self.set_names.contains_key(&key(&set.name)) {
            let next = self.set_names.entry(key(&first)).or_insert(1);
            *next += 1;
            set.name = format!("{first}-{next}");
        }
        self.set_names.insert(key(&set.name), 1);
        self.sets.push(set);
    }

    /// The plan of a layer that belongs to a set, and so is none of its own.
    pub(crate) fn take_layer(&mut self, location: &Location) -> Option<Plan> {
        let plan = self.plans.get(location)?.clone();
        self.taken.insert(location.clone());
        Some(plan)
    }

    /// Leaves out the layers that were taken.
    pub(crate) fn drop_taken(&mut self) {
        self.candidates.retain(|candidate| !self.taken.contains(&candidate.location));
    }

    /// The paths that are covered, to be left out of others.
    pub(crate) fn covered(&self) -> Arc<HashSet<PathBuf>> {
        Arc::new(self.covered.clone())
    }
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
