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
use crate::root::is_name;
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
    /// The ids by the digests of their archives, compressed or not.
    by_digest: HashMap<String, String>,
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
        let mut ids: Vec<String> = by_id.keys().cloned().collect();
        ids.sort();
        let mut by_digest: HashMap<String, String> = HashMap::new();
        for layer in ids.iter().filter_map(|id| by_id.get(id)) {
            for digest in [&layer.compressed_diff_digest, &layer.diff_digest] {
                by_digest.entry(digest.clone()).or_insert_with(|| layer.id.clone());
            }
        }
        let mut layers = Layers { driver, by_id, locations: HashMap::new(), by_digest, bases };
        for id in ids {
            if !is_name(&id) {
                store.problem(&format!("{driver}-layers"), "a record names no directory of a layer");
                continue;
            }
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

    /// The ids of the `count` layers from the base to `top`; `None` if that has another number of layers.
    fn chain(&self, top: &str, count: usize) -> Option<Vec<&str>> {
        let mut chain = Vec::new();
        let mut next = self.by_id.get(top);
        // More are not followed: records may lead on without an end.
        while let Some(layer) = next.filter(|_| chain.len() <= count) {
            chain.push(&layer.id[..]);
            next = self.by_id.get(&layer.parent);
        }
        chain.reverse();
        (chain.len() == count).then_some(chain)
    }

    /// The locations of the layers of a manifest, of an image whose uppermost layer is `top`, with their digests.
    fn locate(&self, top: &str, layers: Vec<Descriptor>) -> Vec<(Digest, Location)> {
        let chain = self.chain(top, layers.len());
        let known = layers.into_iter().enumerate().filter_map(|(index, Descriptor { digest })| {
            let id = match &chain {
                Some(chain) => chain.get(index).copied(),
                None => self.by_digest.get(&digest).map(String::as_str),
            };
            Some((digest.parse().ok()?, self.locations.get(id?)?.clone()))
        });
        known.collect()
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
    let mut read: HashSet<String> = HashSet::new();
    let mut by_digest: HashMap<Digest, usize> = HashMap::new();
    for Image { id, digest, names, layer } in images {
        let base = format!("{driver}-images/{id}");
        if !is_name(&id) {
            store.problem(&base, "the record of the image has no id that is a name");
            continue;
        }
        // The directory of an image is read once, whatever number of records names it.
        if read.insert(id.clone()) {
            documents(store, &base, &layer, layers);
        }
        let names = names.unwrap_or_default();
        if let Some(name) = names.first() {
            image_names.insert(id, name.clone());
        }
        // What was built here may have no digest of its own.
        let Ok(id) = digest.parse::<Digest>() else {
            store.problem(&base, "the record of the image has no digest of its manifest");
            continue;
        };
        match by_digest.get(&id).and_then(|index| store.images.get_mut(*index)) {
            Some(known) => known.names.extend(names),
            None => {
                by_digest.insert(id.clone(), store.images.len());
                store.images.push(StoredImage { names, id, form: ImageForm::Manifest });
            }
        }
    }
    image_names
}

/// Adds the documents of the image in the directory `base`, and finds the layers that its manifests name.
fn documents(store: &mut Store, base: &str, top: &str, layers: &Layers) {
    for file in store.names(base) {
        let path = format!("{base}/{file}");
        let Some((digest, is_manifest)) = blob(store, &path, &file) else { continue };
        let manifest: Manifest = is_manifest.then(|| store.json(&path)).flatten().unwrap_or_default();
        for (digest, location) in layers.locate(top, manifest.layers) {
            store.unpacked.entry(digest).or_insert(location);
        }
        if let Some(file) = store.file(&path) {
            store.blobs.entry(digest).or_insert(file);
        }
    }
}

/// The digest of the document in the file called `file`, and whether it is a manifest or an index.
fn blob(store: &mut Store, path: &str, file: &str) -> Option<(Digest, bool)> {
    let key = match file.strip_prefix('=') {
        Some(encoded) => String::from_utf8(STANDARD.decode(encoded).ok()?).ok()?,
        None => file.to_string(),
    };
    if key == "manifest" {
        return Some((Digest::of(&store.bytes(path, LISTING)?), true));
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
        // What is no name may be the directory of another container, or of all.
        let own = is_name(&id).then(|| store.take(&format!("{driver}-containers/{id}")));
        let mut about: Vec<Part> = own.flatten().into_iter().collect();
        about.extend(claimed(store, databases, &["ctr", "ContainerConfig", "ContainerState"], &id));
        let mut notes = Vec::new();
        if !image.is_empty() {
            let image = image_names.get(&image).cloned().unwrap_or(image);
            notes.push(format!("a container of the image {image}"));
        }
        let mut found = Vec::new();
        let name = names.and_then(|names| names.into_iter().next()).unwrap_or(id);
        if let Some(location) = layers.locations.get(&layer)
            && let Some(plan) = store.take_layer(location, &name, &mut notes)
        {
            found.push((plan, format!("files that the container wrote: {}", location.0)));
        }
        found.push((Plan::Parts(about), "records and logs of the container".into()));
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

#[cfg(test)]
mod tests {
    use super::*;

    fn layers(chain: usize) -> Layers {
        let layer = |number: usize| Layer {
            id: number.to_string(),
            parent: number.checked_sub(1).map(|parent| parent.to_string()).unwrap_or_default(),
            diff_digest: Digest::of(number.to_string().as_bytes()).to_string(),
            ..Layer::default()
        };
        let by_id: HashMap<String, Layer> = (0..chain).map(|number| (number.to_string(), layer(number))).collect();
        let by_digest = by_id.values().map(|layer| (layer.diff_digest.clone(), layer.id.clone())).collect();
        let locations = by_id.keys().map(|id| (id.clone(), Location(id.clone()))).collect();
        Layers { driver: "overlay", by_id, locations, by_digest, bases: Bases::default() }
    }

    #[test]
    fn layers_are_found_by_their_place_or_their_digest() {
        let layers = layers(3);
        let descriptors = |digests: &[&str]| {
            digests.iter().map(|text| Descriptor { digest: Digest::of(text.as_bytes()).to_string() }).collect()
        };
        let found = |digests: &[&str]| -> Vec<String> {
            layers.locate("2", descriptors(digests)).into_iter().map(|(_, location)| location.0).collect()
        };
        assert_eq!(found(&["a", "b", "c"]), ["0", "1", "2"]);
        assert_eq!(found(&["2", "x"]), ["2"]);
        assert_eq!(layers.chain("2", 2), None);
        assert_eq!(layers.chain("x", 0), Some(Vec::new()));
    }

    #[test]
    fn records_that_lead_in_a_circle_have_no_chain() {
        let mut layers = layers(3);
        layers.by_id.get_mut("0").unwrap().parent = "2".into();
        for count in 0..10 {
            assert_eq!(layers.chain("2", count), None);
        }
    }
}
