//! A made-up registry with one image, `app:v1`, whose answers a test may alter.

use serde_json::json;

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
