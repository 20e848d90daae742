//! A made-up registry with many images that share layers, served from memory.

// Each test uses some of it.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;

use super::image::{Layer, MANIFEST, bytes, config, digest, manifest};
use super::server::{Answer, Server};
use super::tar::Tar;

/// How many layers there are; each has one token in it.
pub const LAYERS: usize = 24;

/// How many tokens there are in configurations, each in several.
const SHARED: usize = 3;

/// How many tokens there are.
pub const TOKENS: usize = LAYERS + SHARED;

/// How many images there are.
pub const IMAGES: usize = 20;

/// A made-up token.
pub fn token(number: usize) -> String {
    format!("glpat-Zk7Qm2Xr9Tb4Wn6Ve{number:03}")
}

/// A layer with its token, which deletes the file of another.
fn layer(number: usize) -> Layer {
    let text = format!("token = {}\n{}", token(number), format!("line {number}\n").repeat(400));
    let tar = Tar::new().file(&format!("app/settings-{number}"), text.as_bytes());
    Layer::plain(tar.file(&format!("app/.wh.settings-{}", (number + 1) % LAYERS), b"").finish())
}

/// Serves the images over plain HTTP to anyone, each blob after `delay`.
pub fn serve(delay: Duration) -> Server {
    let layers: Vec<Layer> = (0..LAYERS).map(layer).collect();
    let mut blobs: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let mut manifests: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for image in 0..IMAGES {
        // A base that several have, and layers that every image has in another order.
        let picked = [image % 3, 3 + image, 4 + image, 3 + (image * 7 + 5) % 20];
        let layers: Vec<Layer> = picked.iter().map(|number| layers[number % LAYERS].clone()).collect();
        // What several configurations have in common is in no layer.
        let mut config = config(&layers);
        config["config"]["Env"] = json!([format!("DEPLOY={}", token(LAYERS + image % SHARED))]);
        let config = bytes(&config);
        manifests.insert(format!("team/app{image}"), bytes(&manifest(&config, &layers)));
        blobs.insert(digest(&config), config);
        blobs.extend(layers.into_iter().map(|layer| (digest(&layer.blob), layer.blob)));
    }
    Server::answering(move |request, _| {
        let path = request.path.split('?').next().unwrap_or_default();
        let missing = || Answer::new(404, json!({ "errors": [{ "code": "NAME_UNKNOWN" }] }).to_string());
        if path == "/v2/_catalog" {
            let names: Vec<&String> = manifests.keys().collect();
            return Answer::new(200, json!({ "repositories": names }).to_string());
        }
        let path = path.strip_prefix("/v2/").unwrap_or_default();
        if let Some((name, _)) = path.split_once("/tags/") {
            return Answer::new(200, json!({ "name": name, "tags": ["v1", "v2"] }).to_string());
        }
        if let Some(manifest) = path.split_once("/manifests/").and_then(|(name, _)| manifests.get(name)) {
            let answer = Answer::new(200, manifest.clone()).with("Content-Type", MANIFEST);
            return answer.with("Docker-Content-Digest", &digest(manifest));
        }
        let blob = path.split_once("/blobs/").and_then(|(_, digest)| blobs.get(digest));
        std::thread::sleep(delay);
        blob.map_or_else(missing, |blob| {
            Answer::new(200, blob.clone()).with("Content-Type", "application/octet-stream")
        })
    })
}
