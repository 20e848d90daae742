//! The containers of containerd: their records, which have the specification with arguments and environment, their
//! writable snapshots, and what the CRI plugin keeps of them.

use layersift_format::Standing;
use layersift_format::manifest::ImageKind;

use super::{Snapshots, each};
use crate::directory_tar::{Part, Tree};
use crate::root::is_name;
use crate::store::{Plan, Set, Store};

/// The directory of the CRI plugin, in containerd 1 and 2.
const CRI: [&str; 2] = ["io.containerd.grpc.v1.cri", "io.containerd.cri.v1.runtime"];

/// Where the kubelet has the CRI plugin write the logs of containers.
const PODS: &str = "/var/log/pods/";

struct Container {
    namespace: String,
    id: String,
    image: String,
    snapshotter: String,
    key: String,
    /// The records of the CRI plugin, which are JSON after a name.
    extensions: String,
}

/// Adds the containers of all namespaces.
pub(super) fn read(store: &mut Store, meta: Option<usize>, base: &str, namespaces: &[String], snapshots: &Snapshots) {
    let mut containers = Vec::new();
    each(store, meta, namespaces, "containers", &mut |namespace, id, container, bytes| {
        let text = |key: &str| container.text(bytes, key).unwrap_or_default();
        let extensions = container.bucket(&["extensions"]).map(|extensions| {
            let values = extensions.nodes().filter_map(|(key, _)| std::str::from_utf8(key).ok());
            values.filter_map(|key| extensions.text(bytes, key)).collect::<Vec<_>>().join("\n")
        });
        containers.push(Container {
            namespace: namespace.into(),
            id: id.into(),
            image: text("image"),
            snapshotter: text("snapshotter"),
            key: text("snapshotKey"),
            extensions: extensions.unwrap_or_default(),
        });
    });
    for container in containers {
        add(store, meta, base, snapshots, &container);
    }
    logs(store);
}

fn add(store: &mut Store, meta: Option<usize>, base: &str, snapshots: &Snapshots, container: &Container) {
    let Container { namespace, id, image, snapshotter, key, extensions } = container;
    let path = format!("v1/{namespace}/containers/{id}");
    let records = meta.and_then(|meta| store.records.get_mut(meta)).and_then(|meta| meta.claim(&path));
    let mut about: Vec<Part> = records.into_iter().collect();
    for cri in CRI.iter().filter(|_| is_name(id)) {
        for kind in ["containers", "sandboxes"] {
            about.extend(store.take(&format!("{base}{cri}/{kind}/{id}")));
        }
    }
    about.extend(log(store, extensions));
    let mut notes = vec![format!("a container of the namespace {namespace}, of the image {image}")];
    notes.extend(field(extensions, "Name").map(|name| format!("the CRI plugin calls it {name}")));
    let mut layers = Vec::new();
    let name = format!("{namespace}/{id}");
    if let Some(location) = snapshots.location(namespace, snapshotter, key)
        && let Some(plan) = store.take_layer(&location, &name, &mut notes)
    {
        layers.push((plan, format!("files that the container wrote: snapshot {}", location.0)));
    }
    layers.push((Plan::Parts(about), "records and logs of the container".into()));
    store.set(Set { kind: ImageKind::Container, name, layers, notes, standing: Standing::Own });
}

/// The log of a container, if the whole disk is there and not the directory of containerd alone.
fn log(store: &mut Store, extensions: &str) -> Option<Part> {
    // Pod, container and file, as the kubelet has it. Other directories may be in each other.
    let is_usual = |path: &String| {
        path.strip_prefix(PODS).is_some_and(|rest| rest.split('/').count() == 3 && rest.split('/').all(is_name))
    };
    let path = field(extensions, "LogPath").filter(is_usual)?;
    let found = store.disk.as_ref()?.file(path.trim_start_matches('/'));
    let found = store.or_problem(&path, found)?;
    // The directory has the logs of earlier runs of the container as well.
    let directory = found.parent()?.to_path_buf();
    let name = path.trim_start_matches('/').rsplit_once('/').map(|(name, _)| name.to_string())?;
    let tree = Tree::named(&directory, &name);
    store.cover(directory).then_some(Part::Tree(tree))
}

/// Adds the logs that no container has.
fn logs(store: &mut Store) {
    let Some(disk) = &store.disk else { return };
    let found = disk.directory(PODS.trim_matches('/'));
    let Some(path) = store.or_problem(PODS, found) else { return };
    let tree = Tree::named(&path, PODS.trim_matches('/')).without(store.covered());
    let layers = vec![(Plan::Parts(vec![Part::Tree(tree)]), "logs".to_string())];
    let notes = vec!["logs of containers that have no record any more".to_string()];
    store.set(Set { kind: ImageKind::Orphan, name: "log/pods".into(), layers, notes, standing: Standing::Own });
}

/// The value of the first member called `name` in JSON.
fn field(json: &str, name: &str) -> Option<String> {
    let (_, rest) = json.split_once(&format!("\"{name}\":"))?;
    serde_json::Deserializer::from_str(rest).into_iter::<String>().next()?.ok()
}
