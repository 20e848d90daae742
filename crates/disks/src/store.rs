//! What the reader of an engine's records finds in a store: images, the files of containers and volumes, and how the
//! files of each layer are read.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use layersift_format::manifest::ImageKind;
use layersift_format::{Location, Standing};
use layersift_model::{Digest, Gap, GapReason};

use crate::directory_tar::{Part, Tree};
use crate::records::Records;
use crate::root::Root;

/// The most bytes of a listing or a record of an engine that is read whole.
pub(crate) const LISTING: u64 = 256 << 20;

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
    pub(crate) contents: Vec<PathBuf>,
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
        }
    }

    /// Notes what could not be read at `path`.
    pub(crate) fn problem(&mut self, path: &str, detail: impl ToString) {
        self.problems.push(Gap::new(GapReason::DamagedDocument, detail.to_string()).at(path));
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
        let parsed = serde_json::from_slice(&bytes).map(Some);
        self.or_problem(path, parsed)
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

    /// Reads the databases below `directory` that nothing covers.
    pub(crate) fn find_databases(&mut self, directory: &str, depth: usize) {
        const DEEPEST: usize = 8;
        for name in self.names(if directory.is_empty() { "." } else { directory }) {
            let path = if directory.is_empty() { name } else { format!("{directory}/{name}") };
            let Some((found, metadata)) = self.root.find(&path).filter(|(found, _)| !self.covered.contains(found))
            else {
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
        let location = Location(name.into());
        self.covered.insert(covers.into());
        self.plans.insert(location.clone(), plan);
        self.candidates.push(Candidate { location: location.clone(), notes, is_copy: false });
        location
    }

    /// Files of the engine below `path`, as part of a set; they are covered.
    pub(crate) fn take(&mut self, path: &str) -> Option<Part> {
        let found = self.root.directory(path)?;
        self.covered.insert(found.clone());
        Some(Part::Tree(Tree::named(&found, path)))
    }

    /// Adds a set of files. Two of the same name are told apart.
    pub(crate) fn set(&mut self, mut set: Set) {
        let name = set.name.clone();
        let mut number = 1;
        while self.sets.iter().any(|other| other.kind == set.kind && other.name == set.name) {
            number += 1;
            set.name = format!("{name}-{number}");
        }
        self.sets.push(set);
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
