//! The store of Podman, Buildah, CRI-O and skopeo (containers-storage) with the drivers overlay and vfs, and what
//! Podman keeps beside it: containers, volumes, secrets, and its databases.
//!
//! Source: `images.go`, `layers.go` and `containers.go` of github.com/containers/storage, and stores that Podman wrote.
//! A store keeps manifests and configurations, in files that are called by the base64 of their names, and the record
//! of the archive that a layer came from.

use std::collections::{HashMap, HashSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use layersift_format::Location;
use layersift_format::Standing;
use layersift_format::manifest::ImageKind;
use layersift_model::Digest;
use serde::Deserialize;

use crate::bases::Bases;
use crate::directory_tar::Part;
use crate::store::{ImageForm, LISTING, Plan, Set, Store, StoredImage};

/// The databases of Podman: until 5.0, since 4.8, and since 4.8 in its place.
const DATABASES: [&str; 3] = ["libpod/bolt_state.db", "db.sql", "libpod/db.sql"];

/// The driver that keeps a copy of all files for each layer.
const COPYING: &str = "vfs";

const DRIVERS: [&str; 2] = ["overlay", COPYING];

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct Layer {
    id: String,
    parent: String,
    compressed_diff_digest: String,
    diff_digest: String,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct Image {
    id: String,
    digest: String,
    names: Option<Vec<String>>,
    layer: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Container {
    id: String,
    names: Option<Vec<String>>,
    image: String,
    layer: String,
}

/// Adds what is in a store.
pub(crate) fn read(store: &mut Store) {
    let databases: Vec<usize> = DATABASES.iter().filter_map(|path| store.database(path)).collect();
    for driver in DRIVERS {
        let layers = Layers::read(store, driver);
        let image_names = images(store, driver, &layers);
        containers(store, driver, &layers, &image_names, &databases);
        layers.leftovers(store);
    }
    volumes(store, &databases);
    for name in store.names(".") {
        let driver = name.strip_suffix("-layers").filter(|driver| !DRIVERS.contains(driver));
        if let Some(driver) = driver.filter(|_| !store.names(&name).is_empty()) {
            let detail = format!("the driver {driver} is not supported: its layers and containers are not read");
            store.unsupported(&name, detail);
        }
    }
    if let Some(part) = store.take("secrets") {
        let layers = vec![(Plan::Parts(vec![part]), "secrets of Podman".into())];
        let notes = vec!["secrets that Podman keeps for containers, in base64".into()];
        store.set(Set { kind: ImageKind::Orphan, name: "secrets".into(), layers, notes, standing: Standing::Origin });
    }
}

/// The layers of a driver.
struct Layers {
    driver: &'static str,
    by_id: HashMap<String, Layer>,
    locations: HashMap<String, Location>,
    bases: Bases,
}

impl Layers {
    fn read(store: &mut Store, driver: &'static str) -> Layers {
        let mut by_id = HashMap::new();
        // Those of containers may be on another file system, and then are gone with it.
        for name in ["layers.json", "volatile-layers.json"] {
            let layers: Vec<Layer> = store.json(&format!("{driver}-layers/{name}")).unwrap_or_default();
            by_id.extend(layers.into_iter().map(|layer| (layer.id.clone(), layer)));
        }
        let with_parent = by_id.values().filter(|layer: &&Layer| !layer.parent.is_empty());
        let bases = Bases::of(with_parent.map(|layer| (layer.id.clone(), layer.parent.clone())));
        let mut layers = Layers { driver, by_id, locations: HashMap::new(), bases };
        let mut ids: Vec<String> = layers.by_id.keys().cloned().collect();
        ids.sort();
        for id in ids {
            layers.add(store, &id, "a layer that neither an image that was read nor a container has");
        }
        layers
    }

    /// The directory of a layer, and that of its files.
    fn places(&self, id: &str) -> (String, String) {
        match self.driver {
            COPYING => (format!("vfs/dir/{id}"), format!("vfs/dir/{id}")),
            driver => (format!("{driver}/{id}"), format!("{driver}/{id}/diff")),
        }
    }

    fn add(&mut self, store: &mut Store, id: &str, note: &str) {
        let (name, files) = self.places(id);
        let Some(directory) = store.directory(&files) else { return };
        let parent = self.by_id.get(id).map(|layer| layer.parent.clone());
        let parent = parent.filter(|parent| self.driver == COPYING && !parent.is_empty());
        let parent = parent.and_then(|parent| store.directory(&self.places(&parent).1));
        let files = vec![Part::Tree(self.bases.files(store, id, &directory, parent))];
        let covered = directory.clone();
        let plan = match store.file(&format!("{}-layers/{id}.tar-split.gz", self.driver)) {
            Some(record) => Plan::Split { record, directory, files },
            None => Plan::Parts(files),
        };
        let location = store.candidate(&name, plan, &covered, vec![note.into()]);
        self.locations.insert(id.into(), location);
    }

    /// The layers from the base to `top`.
    fn chain(&self, top: &str) -> Vec<&Layer> {
        let mut chain = Vec::new();
        let mut seen = HashSet::new();
        let mut next = self.by_id.get(top);
        while let Some(layer) = next.filter(|layer| seen.insert(&layer.id)) {
            chain.push(layer);
            next = self.by_id.get(&layer.parent);
        }
        chain.reverse();
        chain
    }

    /// Adds the directories that no record has.
    fn leftovers(mut self, store: &mut Store) {
        let parent = if self.driver == COPYING { "vfs/dir" } else { self.driver };
        for id in store.names(parent) {
            if id != "l" && !self.by_id.contains_key(&id) {
                self.add(store, &id, "a layer that no record of the store has");
            }
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Manifest {
    layers: Vec<Descriptor>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Descriptor {
    digest: String,
}

/// Adds the images of a driver. Returns their first names by their ids.
fn images(store: &mut Store, driver: &str, layers: &Layers) -> HashMap<String, String> {
    let mut image_names = HashMap::new();
    let images: Vec<Image> = store.json(&format!("{driver}-images/images.json")).unwrap_or_default();
    for image in images {
        let base = format!("{driver}-images/{}", image.id);
        let chain = layers.chain(&image.layer);
        for file in store.names(&base) {
            let path = format!("{base}/{file}");
            let Some((digest, found)) = blob(store, &path, &file) else { continue };
            let manifest: Option<Manifest> = match found {
                true => store.json(&path),
                false => None,
            };
            for (layer, descriptor) in locate(&chain, manifest.unwrap_or_default().layers) {
                if let (Ok(digest), Some(location)) = (descriptor.digest.parse(), layers.locations.get(&layer.id)) {
                    store.unpacked.entry(digest).or_insert_with(|| location.clone());
                }
            }
            if let Some(file) = store.file(&path) {
                store.blobs.entry(digest).or_insert(file);
            }
        }
        if let Some(name) = image.names.as_ref().and_then(|names| names.first()) {
            image_names.insert(image.id.clone(), name.clone());
        }
        // What was built here may have no digest of its own.
        let Ok(id) = image.digest.parse::<Digest>() else {
            store.problem(&base, "the record of the image has no digest of its manifest");
            continue;
        };
        store.images.push(StoredImage { names: image.names.unwrap_or_default(), id, form: ImageForm::Manifest });
    }
    image_names
}

/// The layers of the store that the layers of a manifest are.
fn locate<'l>(chain: &[&'l Layer], layers: Vec<Descriptor>) -> Vec<(&'l Layer, Descriptor)> {
    if chain.len() == layers.len() {
        return chain.iter().copied().zip(layers).collect();
    }
    let mut by_digest: HashMap<&str, &Layer> = HashMap::new();
    for layer in chain {
        for digest in [&layer.compressed_diff_digest, &layer.diff_digest] {
            by_digest.entry(digest).or_insert(layer);
        }
    }
    layers.into_iter().filter_map(|one| Some((*by_digest.get(&one.digest[..])?, one))).collect()
}

/// The digest of the document in the file called `file`, and whether it is a manifest or an index.
fn blob(store: &mut Store, path: &str, file: &str) -> Option<(Digest, bool)> {
    let key = match file.strip_prefix('=') {
        Some(encoded) => String::from_utf8(STANDARD.decode(encoded).ok()?).ok()?,
        None => file.to_string(),
    };
    if key == "manifest" {
        let bytes = store.root.read(path, LISTING);
        return Some((Digest::of(&store.or_problem(path, bytes)?), true));
    }
    match key.strip_prefix("manifest-") {
        Some(digest) => Some((digest.parse().ok()?, true)),
        None => Some((key.parse().ok()?, false)),
    }
}

/// Adds the containers of a driver, and working containers of Buildah.
fn containers(
    store: &mut Store,
    driver: &str,
    layers: &Layers,
    image_names: &HashMap<String, String>,
    databases: &[usize],
) {
    let mut containers: Vec<Container> = Vec::new();
    for name in ["containers.json", "volatile-containers.json"] {
        containers.extend(store.json::<Vec<Container>>(&format!("{driver}-containers/{name}")).unwrap_or_default());
    }
    for Container { id, names, image, layer } in containers {
        let mut about: Vec<Part> = store.take(&format!("{driver}-containers/{id}")).into_iter().collect();
        about.extend(claimed(store, databases, &["ctr", "ContainerConfig", "ContainerState"], &id));
        let mut notes = Vec::new();
        let name = image_names.get(&image).cloned();
        if !image.is_empty() {
            notes.push(format!("a container of the image {}", name.unwrap_or(image)));
        }
        let mut found = Vec::new();
        if let Some(location) = layers.locations.get(&layer)
            && let Some(plan) = store.take_layer(location)
        {
            found.push((plan, format!("files that the container wrote: {}", location.0)));
        }
        found.push((Plan::Parts(about), "records and logs of the container".into()));
        let name = names.and_then(|names| names.into_iter().next()).unwrap_or(id);
        store.set(Set { kind: ImageKind::Container, name, layers: found, notes, standing: Standing::Own });
    }
}

/// Adds the volumes.
fn volumes(store: &mut Store, databases: &[usize]) {
    for name in store.names("volumes") {
        // Only directories are taken: `backingFsBlockDev` is the device of the host's disk.
        let Some(part) = store.take(&format!("volumes/{name}")) else { continue };
        let mut parts = vec![part];
        parts.extend(claimed(store, databases, &["vol", "VolumeConfig", "VolumeState"], &name));
        let layers = vec![(Plan::Parts(parts), "files of the volume".into())];
        store.set(Set { kind: ImageKind::Volume, name, layers, notes: Vec::new(), standing: Standing::Own });
    }
}

/// The records of the databases that are below `id` in one of `tables`.
fn claimed(store: &mut Store, databases: &[usize], tables: &[&str], id: &str) -> Vec<Part> {
    let mut parts = Vec::new();
    for database in databases {
        let Some(records) = store.records.get_mut(*database) else { continue };
        parts.extend(tables.iter().flat_map(|table| records.claim(&format!("{table}/{id}"))));
    }
    parts
}
