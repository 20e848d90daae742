//! The data root of Docker: images and layers of the graph drivers overlay2 and vfs, or of the containerd image store
//! below it; containers with their logs, and volumes.
//!
//! Source: `image/store.go`, `layer/filestore.go` and `container/container.go` of github.com/moby/moby, and stores that
//! it wrote. A graph driver keeps no compressed layers: `layerdb` has, by chain id, the directory of the files and the
//! record of the archive that they came from.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use layersift_format::Location;
use layersift_format::Standing;
use layersift_format::config::ImageConfig;
use layersift_format::manifest::ImageKind;
use layersift_model::{Digest, parse};
use serde::Deserialize;

use crate::bases::Bases;
use crate::containerd::{self, Snapshots};
use crate::directory_tar::{Part, Tree};
use crate::root::is_name;
use crate::store::{DOCUMENT, ImageForm, Plan, Set, Store, StoredImage, chain_ids};

/// The namespace of Docker in containerd.
const NAMESPACE: &str = "moby";

/// The driver that keeps a copy of all files for each layer.
const COPYING: &str = "vfs";

/// The databases in which BuildKit says what it keeps a layer for.
const BUILDKIT: [&str; 2] = ["buildkit/metadata_v2.db", "buildkit/containerd-overlayfs/metadata_v2.db"];

/// The graph drivers whose layers are read.
const DRIVERS: [&str; 3] = ["overlay2", "fuse-overlayfs", "vfs"];

/// Other drivers. Some keep subvolumes or devices, which are not files below the root.
const OTHER_DRIVERS: [&str; 6] = ["btrfs", "zfs", "devicemapper", "aufs", "overlay", "windowsfilter"];

/// Whether a directory is the data root of a daemon with `userns-remap`, such as `100000.100000`: the first subordinate
/// user and group.
pub(crate) fn is_remapped(name: &str) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    name.split_once('.').is_some_and(|(user, group)| is_number(user) && is_number(group))
}

/// Adds what is in a data root.
pub(crate) fn read(store: &mut Store) {
    let snapshots = containerd::read(store, "containerd/daemon/");
    let mut layers = GraphLayers::default();
    for driver in store.names("image") {
        layers.read(store, &driver);
        images(store, &driver, &layers);
    }
    containers(store, &layers, &snapshots);
    for driver in DRIVERS {
        layers.leftovers(store, driver);
    }
    volumes(store);
    explain(store);
    unsupported(store);
}

/// Names what is there and not read as what it is. Files in it are still read as the rest.
fn unsupported(store: &mut Store) {
    let mut drivers = store.names("image");
    let directories = store.names(".");
    drivers.extend(OTHER_DRIVERS.iter().map(ToString::to_string));
    drivers.sort();
    drivers.dedup();
    // Engines also make directories for drivers that they do not use.
    drivers.retain(|driver| {
        let mut has = |path: &str| !store.names(path).is_empty();
        !DRIVERS.contains(&&driver[..]) && (has(driver) || has(&format!("image/{driver}/layerdb/sha256")))
    });
    for driver in drivers {
        let detail = format!("the graph driver {driver} is not supported: its layers and containers are not read");
        store.unsupported(&driver, detail);
    }
    for name in directories.iter().filter(|name| is_remapped(name)) {
        let detail = format!(
            "another data root, of a daemon with userns-remap: scan docker-root:{} as well",
            store.root.path().join(name).display()
        );
        store.unsupported(name, detail);
    }
}

/// The layers of the graph drivers.
#[derive(Default)]
struct GraphLayers {
    /// By driver and chain id.
    by_chain: HashMap<(String, String), Location>,
    /// The directories that are known, by driver and name.
    known: HashMap<(String, String), Location>,
    /// The chain ids of parents.
    parents: HashMap<(String, String), String>,
    cache_ids: HashMap<(String, String), String>,
    /// The bases of the driver vfs, which copies the files of the layer below.
    bases: Bases,
}

/// The directory of the layer `id` of a driver, and that of its files, below the root.
fn places(driver: &str, id: &str) -> (String, String) {
    match driver {
        COPYING => (format!("vfs/dir/{id}"), format!("vfs/dir/{id}")),
        driver => (format!("{driver}/{id}"), format!("{driver}/{id}/diff")),
    }
}

impl GraphLayers {
    /// Reads the layers of images of a driver.
    fn read(&mut self, store: &mut Store, driver: &str) {
        let base = format!("image/{driver}/layerdb/sha256");
        let chains = store.names(&base);
        for chain in &chains {
            let key = (driver.to_string(), format!("sha256:{chain}"));
            let path = format!("{base}/{chain}/cache-id");
            if let Some(id) = store.text(&path) {
                if !is_name(&id) {
                    store.problem(&path, "the record names no directory of a layer");
                    continue;
                }
                self.cache_ids.insert(key.clone(), id);
            }
            if let Some(parent) = store.text(&format!("{base}/{chain}/parent")) {
                self.parents.insert(key, parent);
            }
        }
        if driver == COPYING {
            self.bases = self.find_bases(store);
        }
        for chain in chains {
            let key = (driver.to_string(), format!("sha256:{chain}"));
            let Some(id) = self.cache_ids.get(&key).cloned() else { continue };
            let parent = self.parents.get(&key).cloned();
            let parent = parent.and_then(|parent| self.cache_ids.get(&(driver.to_string(), parent)).cloned());
            let Some((directory, tree)) = self.files(store, driver, &id, parent.as_deref()) else { continue };
            let files = vec![Part::Tree(tree)];
            let plan = match store.file(&format!("{base}/{chain}/tar-split.json.gz")) {
                Some(record) => Plan::Split { record, directory, files },
                None => Plan::Parts(files),
            };
            let notes = vec![format!("a layer that no image which was read has: chain {}", key.1)];
            self.add(store, driver, &id, plan, notes);
            if let Some(location) = self.known.get(&(driver.to_string(), id)) {
                self.by_chain.insert(key, location.clone());
            }
        }
    }

    /// The bases of the layers of images and of containers.
    fn find_bases(&self, store: &mut Store) -> Bases {
        let of_driver = |chain: &str| self.cache_ids.get(&(COPYING.to_string(), chain.to_string())).cloned();
        let mut pairs = Vec::new();
        for ((driver, chain), parent) in &self.parents {
            if driver == COPYING {
                pairs.extend(of_driver(chain).zip(of_driver(parent)));
            }
        }
        let mounts = format!("image/{COPYING}/layerdb/mounts");
        for id in store.names(&mounts) {
            let mut below = store.text(&format!("{mounts}/{id}/parent")).and_then(|chain| of_driver(&chain));
            for record in ["init-id", "mount-id"] {
                if let Some(layer) = store.text(&format!("{mounts}/{id}/{record}")) {
                    pairs.extend(below.map(|below| (layer.clone(), below)));
                    below = Some(layer);
                }
            }
        }
        Bases::of(pairs)
    }

    /// The directory of the files of a layer, and the archive of them.
    fn files(&self, store: &mut Store, driver: &str, id: &str, parent: Option<&str>) -> Option<(PathBuf, Tree)> {
        let directory = store.directory(&places(driver, id).1)?;
        let parent = parent.filter(|_| driver == COPYING);
        let parent = parent.and_then(|parent| store.directory(&places(driver, parent).1));
        let tree = self.bases.files(store, id, &directory, parent);
        Some((directory, tree))
    }

    fn add(&mut self, store: &mut Store, driver: &str, id: &str, plan: Plan, notes: Vec<String>) {
        let (name, files) = places(driver, id);
        let Some(covered) = store.directory(&files) else { return };
        let location = store.candidate(&name, plan, &covered, notes);
        self.known.insert((driver.into(), id.into()), location);
    }

    /// Adds the layers of a driver that neither images nor containers have.
    fn leftovers(&mut self, store: &mut Store, driver: &str) {
        let (parent, _) = places(driver, "");
        for id in store.names(parent.trim_end_matches('/')) {
            // overlay2/l has links with short names to the layers.
            if id == "l" {
                continue;
            }
            let found = self.files(store, driver, &id, None);
            if let Some((_, tree)) = found.filter(|(directory, _)| !store.covered.contains(directory)) {
                let notes = vec!["a layer that neither an image nor a container has".into()];
                self.add(store, driver, &id, Plan::Parts(vec![Part::Tree(tree)]), notes);
            }
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Repositories {
    repositories: BTreeMap<String, BTreeMap<String, String>>,
}

/// Adds the images of a graph driver.
fn images(store: &mut Store, driver: &str, layers: &GraphLayers) {
    let base = format!("image/{driver}");
    let Repositories { repositories } = store.json(&format!("{base}/repositories.json")).unwrap_or_default();
    let mut names_by_id: HashMap<String, Vec<String>> = HashMap::new();
    for (name, id) in repositories.into_values().flatten() {
        names_by_id.entry(id).or_default().push(name);
    }
    let content = format!("{base}/imagedb/content/sha256");
    for hex in store.names(&content) {
        let path = format!("{content}/{hex}");
        let Ok(id) = format!("sha256:{hex}").parse::<Digest>() else { continue };
        let Some(bytes) = store.bytes(&path, DOCUMENT) else { continue };
        let config = ImageConfig::parse(&bytes);
        let config = store.or_problem(&path, config);
        let chain = chain_ids(&config.rootfs.diff_ids);
        let location = |chain: &Digest| {
            let known = layers.by_chain.get(&(driver.to_string(), chain.to_string()));
            known
                .cloned()
                .unwrap_or_else(|| Location(format!("image/{driver}/layerdb/{}", chain.to_string().replace(':', "/"))))
        };
        let form = ImageForm::Layers { config: Location(path.clone()), layers: chain.iter().map(location).collect() };
        if let Some(found) = store.file(&path) {
            store.covered.insert(found.clone());
            store.plans.insert(Location(path.clone()), Plan::File(found));
        }
        let mut names = names_by_id.remove(&id.to_string()).unwrap_or_default();
        names.sort_by_key(|name| (name.contains('@'), name.clone()));
        store.image(&path, StoredImage { names, id, form });
    }
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Container {
    name: String,
    driver: String,
    config: ContainerConfig,
    mount_points: BTreeMap<String, Mount>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct ContainerConfig {
    image: String,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Mount {
    name: String,
    source: String,
    destination: String,
}

/// Adds the containers.
fn containers(store: &mut Store, layers: &GraphLayers, snapshots: &Snapshots) {
    for id in store.names("containers") {
        let path = format!("containers/{id}");
        let container: Container = store.json(&format!("{path}/config.v2.json")).unwrap_or_default();
        let Some(about) = store.take(&path) else { continue };
        let mut about = vec![about];
        let mut notes = vec![format!("a container of the image {}", container.config.image)];
        let name = container.name.trim_start_matches('/');
        let name = if name.is_empty() { id.clone() } else { name.to_string() };
        let mut found = of_snapshots(store, snapshots, &id, (&name, &mut notes));
        found.extend(of_mount(store, layers, &container.driver, &id, (&mut about, &mut notes)));
        found.push((Plan::Parts(about), "configuration and logs of the container".into()));
        notes.extend(container.mount_points.values().map(|mount| {
            let what = if mount.name.is_empty() { &mount.source } else { &mount.name };
            format!("the container mounts {what} at {}", mount.destination)
        }));
        store.set(Set { kind: ImageKind::Container, name, layers: found, notes, standing: Standing::Own });
    }
}

/// The layers of the container called `name` in the containerd image store.
fn of_snapshots(
    store: &mut Store,
    snapshots: &Snapshots,
    id: &str,
    (name, notes): (&str, &mut Vec<String>),
) -> Vec<(Plan, String)> {
    let (init, own) = (format!("{id}-init"), id.to_string());
    let mut locations: Vec<(&str, usize, &Location)> = Vec::new();
    for (order, key) in [&init, &own].into_iter().enumerate() {
        let found = snapshots.named(key).iter().filter(|found| found.namespace == NAMESPACE);
        locations.extend(found.map(|found| (&found.snapshotter[..], order, &found.location)));
    }
    locations.sort();
    let mut found = Vec::new();
    for (_, order, location) in locations {
        let what = if order == 0 { "mount points" } else { "files that the container wrote" };
        let Some(plan) = store.take_layer(location, name, notes) else { continue };
        found.push((plan, format!("{what}: snapshot {}", location.0)));
    }
    found
}

/// The layers of a container of a graph driver. The records of its mount are added to `about`.
fn of_mount(
    store: &mut Store,
    layers: &GraphLayers,
    driver: &str,
    id: &str,
    (about, notes): (&mut Vec<Part>, &mut Vec<String>),
) -> Vec<(Plan, String)> {
    let base = format!("image/{driver}/layerdb/mounts/{id}");
    let mut found = Vec::new();
    let mut below = store.text(&format!("{base}/parent"));
    below = below.and_then(|chain| layers.cache_ids.get(&(driver.to_string(), chain)).cloned());
    for (record, what) in [("init-id", "mount points"), ("mount-id", "files that the container wrote")] {
        let Some(layer) = store.text(&format!("{base}/{record}")).filter(|layer| is_name(layer)) else { continue };
        let Some((directory, tree)) = layers.files(store, driver, &layer, below.as_deref()) else { continue };
        let (name, _) = places(driver, &layer);
        if store.cover(directory) {
            found.push((Plan::Parts(vec![Part::Tree(tree)]), format!("{what}: {name}")));
        } else {
            notes.push(format!("{name} is a layer of something else as well, and is reported with that"));
        }
        below = Some(layer);
    }
    about.extend(store.take(&base));
    found
}

/// Adds the volumes.
fn volumes(store: &mut Store) {
    for name in store.names("volumes") {
        // Only directories are taken: `backingFsBlockDev` is the device of the host's disk.
        let Some(part) = store.take(&format!("volumes/{name}")) else { continue };
        let layers = vec![(Plan::Parts(vec![part]), "files of the volume".into())];
        store.set(Set { kind: ImageKind::Volume, name, layers, notes: Vec::new(), standing: Standing::Own });
    }
}

#[derive(Deserialize)]
struct Value {
    value: String,
}

/// Says of the layers that BuildKit keeps what it keeps them for.
fn explain(store: &mut Store) {
    let mut descriptions: HashMap<String, String> = HashMap::new();
    for path in BUILDKIT {
        let Some(records) = store.database(path).and_then(|index| store.records.get(index)) else { continue };
        let Some((entries, bytes)) = records.bucket(&["_main"]) else { continue };
        for (id, entry) in entries.buckets() {
            let description = entry.value(bytes, "cache.description");
            let description = description.and_then(|json| parse::json::<Value>(json).ok());
            descriptions.insert(id.into(), description.map(|it| it.value).unwrap_or_else(|| "no description".into()));
        }
    }
    for candidate in &mut store.candidates {
        let id = Path::new(&candidate.location.0).file_name().map(|name| name.to_string_lossy().into_owned());
        let called = |note: &String| descriptions.get(note.split_once(" called ")?.1.split_once(',')?.0);
        let by_id = id.and_then(|id| descriptions.get(&id));
        let found = by_id.or_else(|| candidate.notes.iter().find_map(called));
        if let Some(description) = found {
            candidate.notes.push(format!("BuildKit keeps it: {description}"));
        }
    }
}
