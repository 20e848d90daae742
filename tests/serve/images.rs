//! Images of a made-up registry whose layers can be held back, and questions about them.

// Each test uses some of it.
#![allow(dead_code)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use serde_json::{Value, json};

use crate::support::DEADLINE;
use crate::support::artifacts::Artifact;
use crate::support::image::{INDEX, Layer, MANIFEST, bytes, config, descriptor, digest, manifest};
use crate::support::served::serve_artifacts;
use crate::support::server::{Answer, Server};
use crate::support::tar::Tar;

/// A made-up token that is found by its form.
pub const SECRET: &str = "glpat-Zk7Qm2Xr9Tb4Wn6Ve042";

/// A registry whose layers are held back while it is closed.
pub struct Registry {
    pub server: Server,
    is_open: Arc<AtomicBool>,
}

impl Registry {
    /// An open one.
    pub fn of(artifacts: &[Artifact]) -> Registry {
        Registry::answering(artifacts, |answer| answer)
    }

    /// One whose manifests are altered.
    pub fn answering(artifacts: &[Artifact], alter: impl Fn(Answer) -> Answer + Send + Sync + 'static) -> Registry {
        let is_open = Arc::new(AtomicBool::new(true));
        let gate = Arc::clone(&is_open);
        let server = serve_artifacts(artifacts, move |request, _, answer| {
            let begun = Instant::now();
            while request.path.contains("/blobs/") && !gate.load(Ordering::Relaxed) && begun.elapsed() < DEADLINE {
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
            if request.path.contains("/manifests/") { alter(answer) } else { answer }
        });
        Registry { server, is_open }
    }

    pub fn host(&self) -> String {
        self.server.host()
    }

    /// Holds blobs back.
    pub fn close(&self) {
        self.is_open.store(false, Ordering::Relaxed);
    }

    pub fn open(&self) {
        self.is_open.store(true, Ordering::Relaxed);
    }

    /// `HOST/team/NAME@DIGEST`.
    pub fn by_digest(&self, artifact: &Artifact) -> String {
        format!("{}/team/{}@{}", self.host(), artifact.name, root(artifact))
    }

    /// `HOST/team/NAME:v1`.
    pub fn by_tag(&self, artifact: &Artifact) -> String {
        format!("{}/team/{}:v1", self.host(), artifact.name)
    }
}

/// The digest of an artifact.
pub fn root(artifact: &Artifact) -> String {
    digest(&artifact.manifests.last().unwrap().1)
}

/// A layer with one file.
pub fn layer(path: &str, text: &str) -> Layer {
    Layer::plain(Tar::new().file(path, text).finish())
}

/// A layer with a secret.
pub fn leak() -> Layer {
    layer("app/.env", &format!("GITLAB_TOKEN={SECRET}\n"))
}

/// An image.
pub fn image(name: &'static str, layers: &[Layer]) -> Artifact {
    let (manifest, blobs) = documents(layers, "amd64");
    Artifact { name, manifests: vec![(MANIFEST.into(), manifest)], blobs, is_old: true }
}

/// A clean image of its own.
pub fn clean(name: &'static str) -> Artifact {
    image(name, &[layer("etc/motd", name)])
}

/// An index with an image for each architecture.
pub fn index(name: &'static str, images: &[(&str, &[Layer])]) -> Artifact {
    let (mut manifests, mut blobs, mut listed) = (Vec::new(), Vec::new(), Vec::new());
    for (architecture, layers) in images {
        let (manifest, of_image) = documents(layers, architecture);
        let mut entry = descriptor(MANIFEST, &manifest);
        entry["platform"] = json!({ "os": "linux", "architecture": architecture });
        listed.push(entry);
        manifests.push((MANIFEST.to_string(), manifest));
        blobs.extend(of_image);
    }
    manifests.push((INDEX.into(), bytes(&crate::support::image::index(&listed))));
    Artifact { name, manifests, blobs, is_old: true }
}

fn documents(layers: &[Layer], architecture: &str) -> (Vec<u8>, Vec<Vec<u8>>) {
    let mut config = config(layers);
    config["architecture"] = architecture.into();
    config["config"] = json!({ "User": "1000" });
    let config = bytes(&config);
    let manifest = bytes(&manifest(&config, layers));
    let blobs = layers.iter().map(|layer| layer.blob.clone()).chain([config]).collect();
    (manifest, blobs)
}

/// A review of a pod that is made in `namespace`.
pub fn review(image: &str, namespace: &str) -> Value {
    let pods = json!({ "group": "", "version": "v1", "resource": "pods" });
    let kind = json!({ "group": "", "version": "v1", "kind": "Pod" });
    json!({ "kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": {
        "uid": "2f4cd1a3-made-up", "kind": kind, "resource": pods, "requestKind": kind, "requestResource": pods,
        "name": "app", "namespace": namespace, "operation": "CREATE", "userInfo": { "username": "alice" },
        "object": { "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "app", "namespace": namespace },
            "spec": { "containers": [{ "name": "app", "image": image }] } },
        "oldObject": null, "dryRun": false, "options": { "kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1" },
    } })
}

/// A question in plain JSON that waits.
pub fn question(images: &[String]) -> Value {
    json!({ "images": images, "wait": "30s" })
}
