//! Made-up registries: one with the image `app:v1`, and one with any artifacts, whose answers a test may alter.

use std::collections::BTreeMap;

use serde_json::json;

use super::artifacts::Artifact;
use super::image::{Layer, MANIFEST, bytes, config, digest, manifest};
use super::server::{Answer, Request, Server};
use super::tar::Tar;

/// A layer in which nothing is found.
pub fn clean_layer() -> Layer {
    Layer::plain(Tar::new().file("etc/motd", "welcome\n".repeat(100)).finish())
}

/// Serves the image of `layers` over plain HTTP to anyone. `alter` is given each answer, and how many requests came
/// before for the same path.
pub fn serve(layers: &[Layer], alter: impl Fn(&Request, usize, Answer) -> Answer + Send + Sync + 'static) -> Server {
    let config = bytes(&config(layers));
    let manifest = bytes(&manifest(&config, layers));
    let mut blobs: Vec<Vec<u8>> = layers.iter().map(|layer| layer.blob.clone()).collect();
    blobs.push(config);
    let found = move |path: &str| -> Answer {
        if path.starts_with("/v2/_catalog") {
            return Answer::new(200, json!({ "repositories": ["app"] }).to_string());
        }
        if path.starts_with("/v2/app/tags/list") {
            return Answer::new(200, json!({ "name": "app", "tags": ["v1"] }).to_string());
        }
        if path == "/v2/app/manifests/v1" || path == format!("/v2/app/manifests/{}", digest(&manifest)) {
            let answer = Answer::new(200, manifest.clone()).with("Content-Type", MANIFEST);
            return answer.with("Docker-Content-Digest", &digest(&manifest));
        }
        let wanted = path.strip_prefix("/v2/app/blobs/").unwrap_or_default();
        match blobs.iter().find(|blob| digest(blob) == wanted) {
            Some(blob) => Answer::new(200, blob.clone()).with("Content-Type", "application/octet-stream"),
            None => Answer::new(404, json!({ "errors": [{ "code": "BLOB_UNKNOWN" }] }).to_string()),
        }
    };
    Server::answering(move |request, before| alter(request, before, found(&request.path)))
}

/// Serves each of `artifacts` as `team/NAME:v1` over plain HTTP to anyone. `alter` is as for [`serve`].
pub fn serve_artifacts(
    artifacts: &[Artifact],
    alter: impl Fn(&Request, usize, Answer) -> Answer + Send + Sync + 'static,
) -> Server {
    let names: Vec<String> = artifacts.iter().map(|artifact| format!("team/{}", artifact.name)).collect();
    let mut found: BTreeMap<String, Answer> = BTreeMap::new();
    for (name, artifact) in names.iter().zip(artifacts) {
        let tags = json!({ "name": name, "tags": ["v1"] }).to_string();
        found.insert(format!("/v2/{name}/tags/list"), Answer::new(200, tags));
        for (media_type, manifest) in &artifact.manifests {
            let answer = Answer::new(200, manifest.clone()).with("Content-Type", media_type);
            let answer = answer.with("Docker-Content-Digest", &digest(manifest));
            found.insert(format!("/v2/{name}/manifests/v1"), answer.clone());
            found.insert(format!("/v2/{name}/manifests/{}", digest(manifest)), answer);
        }
        for blob in &artifact.blobs {
            let answer = Answer::new(200, blob.clone()).with("Content-Type", "application/octet-stream");
            found.insert(format!("/v2/{name}/blobs/{}", digest(blob)), answer);
        }
    }
    found.insert("/v2/_catalog".into(), Answer::new(200, json!({ "repositories": names }).to_string()));
    Server::answering(move |request, before| {
        let path = request.path.split('?').next().unwrap_or_default();
        let missing = || Answer::new(404, json!({ "errors": [{ "code": "MANIFEST_UNKNOWN" }] }).to_string());
        alter(request, before, found.get(path).cloned().unwrap_or_else(missing))
    })
}
