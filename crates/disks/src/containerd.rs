//! The store of containerd: a content store with blobs by digest, snapshots with the files of layers, and `meta.db`,
//! which has namespaces with images, containers, leases and names of snapshots.
//!
//! Source: `core/metadata/buckets.go` and `core/snapshots/storage/bolt.go` of containerd 2, and stores that it wrote.

mod containers;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{self, Read};
use std::path::Path;

use layersift_format::compression::read_full;
use layersift_format::config::ImageConfig;
use layersift_format::manifest::ImageKind;
use layersift_format::{Location, Standing};
use layersift_model::{Digest, parse};
use serde::Deserialize;

use crate::bases::Bases;
use crate::bbolt::{Bucket, uvarint};
use crate::directory_tar::{Part, Tree};
use crate::root::open_file;
use crate::store::{Content, DOCUMENT, ImageForm, Lease, Plan, Set, Store, StoredImage, chain_ids, has_few_values};

/// The database with the namespaces.
const META: &str = "io.containerd.metadata.v1.bolt/meta.db";
/// The content store.
const CONTENT: &str = "io.containerd.content.v1.content";
/// What the directories of snapshotters begin with.
const SNAPSHOTTER: &str = "io.containerd.snapshotter.v1.";

/// A snapshot, by the key of its snapshotter.
#[derive(Clone, Debug)]
struct Snapshot {
    /// The number of its directory.
    id: u64,
    kind: u64,
    parent: Option<String>,
}

const ACTIVE: u64 = 2;

/// The snapshotters that keep every snapshot as a directory. Others keep subvolumes, devices, or what they fetch when
/// it is read, and some of them elsewhere.
const OF_DIRECTORIES: [&str; 3] = ["overlayfs", "native", "fuse-overlayfs"];

/// The snapshots of the store.
#[derive(Default)]
pub(crate) struct Snapshots {
    /// By snapshotter and its key, such as `default/13/c1`.
    by_key: HashMap<(String, String), Snapshot>,
    /// The keys of snapshotters, by namespace, snapshotter and the key in the namespace, such as `c1` or a chain id.
    names: HashMap<(String, String, String), String>,
    /// The locations of layers, by snapshotter and its key.
    locations: HashMap<(String, String), Location>,
    /// The layers that namespaces call by a key, such as a chain id, in the order of namespaces and snapshotters.
    named: HashMap<String, Vec<Named>>,
}

/// A layer that a namespace has.
pub(crate) struct Named {
    pub(crate) namespace: String,
    pub(crate) snapshotter: String,
    pub(crate) location: Location,
}

/// Adds what is in the store of containerd at `base` below the root, which is empty or ends in `/`.
pub(crate) fn read(store: &mut Store, base: &str) -> Snapshots {
    let meta = store.database(&format!("{base}{META}"));
    let namespaces = namespaces(store, meta);
    let content = format!("{base}{CONTENT}");
    store.content(format!("{content}/blobs"));
    images(store, meta, &namespaces);
    leases(store, meta, &namespaces);
    let mut snapshots = Snapshots::default();
    snapshots.read(store, meta, base, &namespaces);
    ingests(store, &content);
    layers(store, &snapshots);
    containers::read(store, meta, base, &namespaces, &snapshots);
    snapshots
}

fn namespaces(store: &Store, meta: Option<usize>) -> Vec<String> {
    let bucket = meta.and_then(|meta| store.records.get(meta)).and_then(|records| records.bucket(&["v1"]));
    bucket.map(|(bucket, _)| bucket.buckets().map(|(name, _)| name.to_string()).collect()).unwrap_or_default()
}

/// A function that is called with a namespace, the name of a bucket in it, the bucket, and the bytes of the database.
type OnBucket<'f> = dyn FnMut(&str, &str, &Bucket, &[u8]) + 'f;

/// Calls `found` with the namespace and each bucket at `path` in it, and the bytes of the database.
fn each(store: &Store, meta: Option<usize>, namespaces: &[String], path: &str, found: &mut OnBucket<'_>) {
    let Some(records) = meta.and_then(|meta| store.records.get(meta)) else { return };
    for namespace in namespaces {
        let Some((bucket, bytes)) = records.bucket(&["v1", namespace, path]) else { continue };
        bucket.buckets().for_each(|(name, bucket)| found(namespace, name, bucket, bytes));
    }
}

fn images(store: &mut Store, meta: Option<usize>, namespaces: &[String]) {
    let mut images: Vec<StoredImage> = Vec::new();
    let mut by_id: HashMap<Digest, usize> = HashMap::new();
    let mut problems = Vec::new();
    each(store, meta, namespaces, "images", &mut |_, name, image, bytes| {
        let digest = image.bucket(&["target"]).and_then(|target| target.text(bytes, "digest"));
        match digest.as_deref().map(str::parse::<Digest>) {
            Some(Ok(id)) => match by_id.get(&id).and_then(|index| images.get_mut(*index)) {
                Some(known) => known.names.push(name.into()),
                None => {
                    by_id.insert(id.clone(), images.len());
                    images.push(StoredImage { names: vec![name.into()], id, form: ImageForm::Manifest });
                }
            },
            Some(Err(error)) => problems.push((name.to_string(), error.to_string())),
            None => problems.push((name.to_string(), "the record of the image has no target".into())),
        }
    });
    problems.into_iter().for_each(|(name, problem)| store.problem(&name, problem));
    // A name is better than the digest by which the CRI plugin calls an image as well.
    for image in &mut images {
        image.names.sort_by_cached_key(|name| (name.contains("sha256:"), name.clone()));
        image.names.dedup();
    }
    store.images.extend(images);
}

fn leases(store: &mut Store, meta: Option<usize>, namespaces: &[String]) {
    let mut leases = Vec::new();
    each(store, meta, namespaces, "leases", &mut |namespace, name, lease, bytes| {
        let Some(content) = lease.bucket(&["content"]) else { return };
        let blobs: Vec<Digest> =
            content.nodes().filter_map(|(key, _)| std::str::from_utf8(key).ok()?.parse().ok()).collect();
        let expires = lease.bucket(&["labels"]).and_then(|labels| labels.text(bytes, "containerd.io/gc.expire"));
        let mut notes = vec![format!("the lease {name} of the namespace {namespace} holds these blobs")];
        notes.extend(expires.map(|expires| format!("the lease expires at {expires}")));
        leases.push(Lease { name: format!("{namespace}/{name}"), notes, blobs });
    });
    store.leases.extend(leases);
}

/// Adds the pulls that did not end.
fn ingests(store: &mut Store, content: &str) {
    for name in store.names(&format!("{content}/ingest")) {
        let path = format!("{content}/ingest/{name}");
        let reference = store.text(&format!("{path}/ref")).unwrap_or_else(|| "something".into());
        let Some(part) = store.take(&path) else { continue };
        let notes = vec![format!("an interrupted pull: it fetched {reference}")];
        let layers = vec![(Plan::Parts(vec![part]), format!("interrupted pull of {reference}"))];
        store.set(Set {
            kind: ImageKind::Orphan,
            name: format!("ingest/{name}"),
            layers,
            notes,
            standing: Standing::Own,
        });
    }
}

impl Snapshots {
    fn read(&mut self, store: &mut Store, meta: Option<usize>, base: &str, namespaces: &[String]) {
        let bases = if base.is_empty() { "." } else { base };
        let directories = store.names(bases);
        for snapshotter in directories.iter().filter_map(|name| name.strip_prefix(SNAPSHOTTER)) {
            self.snapshotter(store, base, snapshotter);
        }
        each(store, meta, namespaces, "snapshots", &mut |namespace, snapshotter, keys, bytes| {
            for (key, snapshot) in keys.buckets() {
                let name = snapshot.text(bytes, "name").unwrap_or_default();
                self.names.insert((namespace.into(), snapshotter.into(), key.into()), name);
            }
        });
        let mut names: Vec<_> = self.names.iter().collect();
        names.sort();
        for ((namespace, snapshotter, key), name) in names {
            let Some(location) = self.locations.get(&(snapshotter.clone(), name.clone())) else { continue };
            let (namespace, snapshotter, location) = (namespace.clone(), snapshotter.clone(), location.clone());
            self.named.entry(key.clone()).or_default().push(Named { namespace, snapshotter, location });
        }
        self.unsupported(store, base, &directories);
    }

    /// Names the snapshotters whose snapshots are not read, or not all of them.
    fn unsupported(&self, store: &mut Store, base: &str, directories: &[String]) {
        let is_read = |(_, snapshotter, _): &(String, String, String), name: &String| {
            self.locations.contains_key(&(snapshotter.clone(), name.clone()))
        };
        let mut unread: BTreeMap<&str, usize> = BTreeMap::new();
        for (key, name) in &self.names {
            *unread.entry(&key.1).or_default() += usize::from(!is_read(key, name));
        }
        // containerd also makes directories for snapshotters that it does not use.
        for directory in directories.iter().filter(|name| name.starts_with(SNAPSHOTTER)) {
            let mut names = store.names(&format!("{base}{directory}"));
            names.retain(|name| name != "snapshots");
            if !names.is_empty() || !store.names(&format!("{base}{directory}/snapshots")).is_empty() {
                unread.entry(directory.strip_prefix(SNAPSHOTTER).unwrap_or_default()).or_default();
            }
        }
        for (snapshotter, count) in unread.into_iter().filter(|(name, _)| !OF_DIRECTORIES.contains(name)) {
            let detail = format!(
                "the snapshotter {snapshotter} is not supported: {count} of its snapshots are not read, and others \
                 only as plain files"
            );
            store.unsupported(&format!("{base}{SNAPSHOTTER}{snapshotter}"), detail);
        }
    }

    /// Reads the database of a snapshotter, and plans how its snapshots are read.
    fn snapshotter(&mut self, store: &mut Store, base: &str, snapshotter: &str) {
        let path = format!("{base}{SNAPSHOTTER}{snapshotter}");
        let database = store.database(&format!("{path}/metadata.db"));
        let records = database.and_then(|index| store.records.get(index));
        let mut ids: Vec<(u64, String)> = Vec::new();
        if let Some((keys, bytes)) = records.and_then(|records| records.bucket(&["v1", "snapshots"])) {
            for (key, snapshot) in keys.buckets() {
                let number = |name: &str| snapshot.value(bytes, name).and_then(uvarint);
                let (Some(id), kind) = (number("id"), number("kind").unwrap_or_default()) else { continue };
                let parent = snapshot.text(bytes, "parent").filter(|parent| !parent.is_empty());
                self.by_key.insert((snapshotter.into(), key.into()), Snapshot { id, kind, parent });
                ids.push((id, key.into()));
            }
        }
        ids.sort();
        let base = |key: &String| {
            let parent = self.by_key.get(&(snapshotter.to_string(), key.clone())).and_then(|one| one.parent.clone());
            let parent = parent.and_then(|parent| self.by_key.get(&(snapshotter.to_string(), parent)));
            parent.map(|parent| parent.id.to_string())
        };
        let pairs = ids.iter().filter_map(|(id, key)| Some((id.to_string(), base(key)?)));
        let bases = Bases::of(pairs.collect::<Vec<_>>());
        let mut known = HashSet::new();
        for (id, key) in ids {
            known.insert(id.to_string());
            let notes = vec![self.note(snapshotter, &key)];
            let parent = base(&key);
            if let Some(location) = snapshot(store, &path, &id.to_string(), (&bases, parent.as_deref()), notes) {
                self.locations.insert((snapshotter.into(), key), location);
            }
        }
        for name in store.names(&format!("{path}/snapshots")) {
            if !known.contains(&name) {
                snapshot(store, &path, &name, (&bases, None), vec!["no record refers to this snapshot".into()]);
            }
        }
    }

    fn note(&self, snapshotter: &str, key: &str) -> String {
        let kind = self.by_key.get(&(snapshotter.to_string(), key.to_string())).map_or(0, |snapshot| snapshot.kind);
        let name = key.splitn(3, '/').nth(2).unwrap_or(key);
        match name.strip_prefix("extract-") {
            Some(_) => format!("the unpacking of a layer was interrupted: snapshot {name}"),
            None if kind == ACTIVE => format!("a writable snapshot called {name}, which no container has"),
            None => format!("a snapshot called {name}, which no image that was read has"),
        }
    }

    /// The location of the layer that a namespace calls `key`.
    pub(crate) fn location(&self, namespace: &str, snapshotter: &str, key: &str) -> Option<Location> {
        let name = self.names.get(&(namespace.to_string(), snapshotter.to_string(), key.to_string()))?;
        self.locations.get(&(snapshotter.to_string(), name.clone())).cloned()
    }

    /// The layers that namespaces call by `key`.
    pub(crate) fn named(&self, key: &str) -> &[Named] {
        self.named.get(key).map(Vec::as_slice).unwrap_or_default()
    }
}

/// Plans how the snapshot in the directory `name` is read.
fn snapshot(
    store: &mut Store,
    snapshotter: &str,
    name: &str,
    (bases, parent): (&Bases, Option<&str>),
    notes: Vec<String>,
) -> Option<Location> {
    let path = format!("{snapshotter}/snapshots/{name}");
    let directory = store.directory(&path)?;
    let (directory, tree) = match store.directory(&format!("{path}/fs")) {
        Some(files) => (files.clone(), Tree::overlay(&files)),
        // The snapshotter `native` copies the files of the parent.
        None => {
            let parent = parent.and_then(|parent| store.directory(&format!("{snapshotter}/snapshots/{parent}")));
            let tree = bases.files(store, name, &directory, parent);
            (directory, tree)
        }
    };
    let name = path.split_once(SNAPSHOTTER).map_or(path.as_str(), |(_, name)| name);
    Some(store.candidate(name, Plan::Parts(vec![Part::Tree(tree)]), &directory, notes))
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Manifest {
    config: Option<Descriptor>,
    layers: Vec<Descriptor>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Descriptor {
    digest: String,
}

/// Finds the snapshots of the layers that manifests name. A layer whose chain had a snapshot is never downloaded.
fn layers(store: &mut Store, snapshots: &Snapshots) {
    let mut copies: HashSet<&Location> = HashSet::new();
    for content in store.contents.clone() {
        // Many manifests may name one configuration: it is read once for all of them.
        let mut by_config: BTreeMap<Digest, Vec<&str>> = BTreeMap::new();
        for (location, _) in &content.blobs {
            let Some(name) = location.0.strip_prefix("blobs/sha256/") else { continue };
            let Some(manifest) = document::<Manifest>(store, &content, "sha256", name) else { continue };
            if let Some(config) = manifest.config.and_then(|config| config.digest.parse::<Digest>().ok()) {
                by_config.entry(config).or_default().push(name);
            }
        }
        for (config, manifests) in by_config {
            let bytes = start_of(store, &content, config.algorithm().name(), config.hex());
            let Some(config) = bytes.and_then(|bytes| ImageConfig::parse(&bytes).ok()) else { continue };
            let chain = chain_ids(&config.rootfs.diff_ids);
            let found: Vec<&[Named]> = chain.iter().map(|chain| snapshots.named(&chain.to_string())).collect();
            let mut is_copied = vec![false; found.len()];
            for name in manifests {
                let manifest = document::<Manifest>(store, &content, "sha256", name);
                let Some(manifest) = manifest.filter(|manifest| manifest.layers.len() == chain.len()) else { continue };
                for (index, layer) in manifest.layers.iter().enumerate() {
                    let (Some(first), Ok(digest)) = (found[index].first(), layer.digest.parse::<Digest>()) else {
                        continue;
                    };
                    if store.find(&content.blob(digest.algorithm().name(), digest.hex())).is_none() {
                        store.unpacked.entry(digest).or_insert_with(|| first.location.clone());
                    } else if !is_copied[index] {
                        is_copied[index] = true;
                        copies.extend(found[index].iter().map(|named| &named.location));
                    }
                }
            }
        }
    }
    let used: HashSet<&Location> = store.unpacked.values().collect();
    // The same chain in another namespace has a directory of its own.
    for candidate in &mut store.candidates {
        candidate.is_copy |= copies.contains(&candidate.location) && !used.contains(&candidate.location);
    }
}

/// The JSON document in a blob; `None` if it is something else.
fn document<T: serde::de::DeserializeOwned>(
    store: &mut Store,
    content: &Content,
    algorithm: &str,
    hex: &str,
) -> Option<T> {
    let bytes = start_of(store, content, algorithm, hex)?;
    has_few_values(&bytes).then(|| parse::json(&bytes).ok()).flatten()
}

/// The bytes of a blob that may be a document.
fn start_of(store: &mut Store, content: &Content, algorithm: &str, hex: &str) -> Option<Vec<u8>> {
    let path = content.blob(algorithm, hex);
    let found = store.file(&path)?;
    let bytes = read_start(&found);
    store.or_problem(&path, bytes)
}

fn read_start(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let mut file = open_file(path)?;
    let mut bytes = vec![0];
    if file.metadata()?.len() > DOCUMENT || read_full(&mut file, &mut bytes)? == 0 || bytes != b"{" {
        return Ok(None);
    }
    file.take(DOCUMENT).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}
