//! The documents of an image: its configuration, its manifest, and what leads to them.

use serde_json::json;

use super::document_mutations::{Document, finish, mutate};
use super::draft::{Draft, Part};
use super::json::Json;
use super::layer;
use crate::support::image::{self, CONFIG, INDEX, Layer, MANIFEST, blob_path, bytes, descriptor, digest};

/// How many mutations each document gets.
#[derive(Clone, Copy, Default)]
pub struct Amount {
    pub config: usize,
    pub manifest: usize,
    pub list: usize,
}

/// An image and a decoy without tokens, which mutated documents lead to instead.
pub struct Documents {
    pub layers: Vec<Layer>,
    pub config: Vec<u8>,
    pub manifest: Vec<u8>,
    pub decoy: Layer,
    pub decoy_config: Vec<u8>,
    pub decoy_manifest: Vec<u8>,
    /// Other blobs.
    pub more: Vec<Vec<u8>>,
    /// The media type that an index gives for the manifest.
    pub media_type: String,
}

pub fn documents(draft: &mut Draft, layers: Vec<Layer>, amount: Amount) -> Documents {
    let decoy = layer::decoy();
    let decoy_layers = [decoy.clone()];
    let decoy_config = image::config(&decoy_layers);
    let mut config = Json::from(&image::config(&layers));
    draft.begin(Part::Config);
    if draft.chance(if amount.config > 0 { 60 } else { 25 }) {
        plant(draft, &mut config);
    }
    // With the decoy's diff_ids, layersift has a gap whatever else is in the configuration.
    let other = if draft.chance(60) { Json::from(&image::config(&layers)) } else { Json::from(&decoy_config) };
    (0..amount.config).for_each(|_| mutate(draft, Document::Config, &mut config, &other));
    let config = finish(draft, "configuration", &config, amount.config);
    let decoy_config = bytes(&decoy_config);
    let decoy_manifest = image::manifest(&decoy_config, &decoy_layers);
    let mut manifest = Json::from(&image::manifest(&config, &layers));
    let other = Json::from(&decoy_manifest);
    draft.begin(Part::Manifest);
    let docker = "application/vnd.docker.distribution.manifest.v2+json";
    let mut media_type = MANIFEST.to_string();
    if draft.chance(25) {
        media_type = docker.to_string();
        *manifest.at(&["mediaType"]).unwrap() = Json::string(docker);
        *manifest.at(&["config", "mediaType"]).unwrap() =
            Json::string("application/vnd.docker.container.image.v1+json");
    }
    if amount.manifest > 0 && draft.chance(15) {
        // Descriptors say which of both it is, or the document itself does, or neither (CVE-2021-41190).
        let manifests = Json::from(&json!([descriptor(MANIFEST, &bytes(&decoy_manifest))]));
        add_kind(draft, "a manifest that is also an index", &mut manifest, &[("manifests", manifests)]);
    }
    (0..amount.manifest).for_each(|_| mutate(draft, Document::Manifest, &mut manifest, &other));
    let manifest = finish(draft, "manifest", &manifest, amount.manifest);
    let decoy_manifest = bytes(&decoy_manifest);
    Documents { layers, config, manifest, decoy, decoy_config, decoy_manifest, more: Vec::new(), media_type }
}

impl Documents {
    /// All blobs, with those of the decoy.
    pub fn blobs(&self) -> Vec<Vec<u8>> {
        let mut blobs: Vec<Vec<u8>> = self.layers.iter().map(|layer| layer.blob.clone()).collect();
        blobs.extend([self.config.clone(), self.manifest.clone(), self.decoy.blob.clone()]);
        blobs.extend([self.decoy_config.clone(), self.decoy_manifest.clone()]);
        blobs.extend(self.more.iter().cloned());
        blobs.sort();
        blobs.dedup();
        blobs
    }

    /// `index.json`, and the reference of the image if it has several.
    pub fn index(&mut self, draft: &mut Draft, mutations: usize) -> (Vec<u8>, Option<String>) {
        let mut reference = None;
        let mut descriptors = vec![named(self.descriptor(), "latest")];
        if mutations > 0 {
            match *draft.mutate("index", &[("one image", 0), ("two images", 1), ("an index", 2), ("an index twice", 3)])
            {
                0 => {}
                1 => {
                    descriptors = self.both(draft);
                    name(&mut descriptors);
                    reference = Some("latest".to_string());
                }
                depth => {
                    let mut index = self.inner_index(draft);
                    for _ in 2..depth {
                        self.more.push(index.clone());
                        index = bytes(&image::index(&[descriptor(INDEX, &index)]));
                    }
                    descriptors = vec![named(descriptor(INDEX, &index), "latest")];
                    self.more.push(index);
                }
            }
        }
        if mutations > 0 && draft.chance(20) {
            let types = [("right", None), ("a manifest", Some(MANIFEST)), ("an index", Some(INDEX))];
            if let Some(other) = *draft.mutate("a descriptor says that it is", &types) {
                descriptors[0]["mediaType"] = other.into();
            }
        }
        let mut index = Json::from(&image::index(&descriptors));
        let other = Json::from(&image::index(&[named(descriptor(MANIFEST, &self.decoy_manifest), "latest")]));
        (0..mutations).for_each(|_| mutate(draft, Document::Index, &mut index, &other));
        (finish(draft, "index", &index, mutations), reference)
    }

    /// An index of the image and the decoy, by platforms.
    pub fn inner_index(&mut self, draft: &mut Draft) -> Vec<u8> {
        let both = self.both(draft);
        let mut index = Json::from(&image::index(&both));
        let other = Json::from(&image::index(&[descriptor(MANIFEST, &self.decoy_manifest)]));
        if draft.chance(20) {
            let decoy = image::manifest(&self.decoy_config, std::slice::from_ref(&self.decoy));
            let members = ["layers", "config"].map(|key| (key, Json::from(&decoy[key])));
            add_kind(draft, "an index that is also a manifest", &mut index, &members);
        }
        if draft.chance(50) {
            mutate(draft, Document::Index, &mut index, &other);
        }
        finish(draft, "inner index", &index, 1)
    }

    /// `manifest.json` of `docker save`, where `path` names the file of a blob.
    pub fn docker_list(&self, draft: &mut Draft, path: impl Fn(&[u8]) -> String, mutations: usize) -> Vec<u8> {
        let item = |config: &[u8], layers: &[Layer]| {
            let layers: Vec<String> = layers.iter().map(|layer| path(&layer.blob)).collect();
            json!([{ "Config": path(config), "RepoTags": ["app:1.0"], "Layers": layers }])
        };
        let mut list = Json::from(&item(&self.config, &self.layers));
        let decoy = Json::from(&item(&self.decoy_config, std::slice::from_ref(&self.decoy)));
        (0..mutations).for_each(|_| mutate(draft, Document::DockerList, &mut list, &decoy));
        finish(draft, "manifest.json", &list, mutations)
    }

    fn descriptor(&self) -> serde_json::Value {
        descriptor(&self.media_type, &self.manifest)
    }

    /// Descriptors of the image and of the decoy, with platforms.
    fn both(&self, draft: &mut Draft) -> Vec<serde_json::Value> {
        let platform = |architecture: &str, os: &str| json!({ "architecture": architecture, "os": os });
        let (here, there) = (platform("amd64", "linux"), platform("arm64", "linux"));
        let options = [
            ("this, other", (Some(here.clone()), Some(there.clone()))),
            ("other, this", (Some(there.clone()), Some(here.clone()))),
            ("this, this", (Some(here.clone()), Some(here.clone()))),
            ("none, this", (None, Some(here.clone()))),
            ("this, none", (Some(here.clone()), None)),
            ("unknown, other", (Some(platform("unknown", "unknown")), Some(there))),
            ("unknown, this", (Some(platform("unknown", "unknown")), Some(here.clone()))),
            ("upper case, this", (Some(platform("AMD64", "Linux")), Some(here.clone()))),
            ("other name, this", (Some(platform("x86_64", "linux")), Some(here.clone()))),
            ("variant, this", {
                (Some(json!({ "architecture": "amd64", "os": "linux", "variant": "v2" })), Some(here.clone()))
            }),
            ("empty, this", (Some(platform("", "")), Some(here))),
            ("null, null", (Some(serde_json::Value::Null), Some(serde_json::Value::Null))),
        ];
        let (real, decoy) = draft.mutate("platforms", &options).clone();
        let mut descriptors = vec![self.descriptor(), descriptor(MANIFEST, &self.decoy_manifest)];
        for (descriptor, platform) in descriptors.iter_mut().zip([real, decoy]) {
            if let Some(platform) = platform {
                descriptor["platform"] = platform;
            }
        }
        if draft.chance(30) {
            draft.note("the decoy first");
            descriptors.reverse();
        }
        if draft.chance(15) {
            draft.note("attestation");
            for descriptor in &mut descriptors {
                let is_real = descriptor["digest"] == digest(&self.manifest);
                if is_real {
                    descriptor["annotations"] = json!({ "vnd.docker.reference.type": "attestation-manifest" });
                }
            }
        }
        descriptors
    }
}

/// Makes a document one of another kind as well.
fn add_kind(draft: &mut Draft, what: &str, document: &mut Json, members: &[(&str, Json)]) {
    draft.note(what);
    let spell: fn(&str) -> String = match *draft.mutate(what, &[("as usual", 0), ("in another case", 1)]) {
        0 => str::to_string,
        _ => |key| key[..1].to_uppercase() + &key[1..],
    };
    for (key, value) in members {
        document.push(&spell(key), value.clone());
    }
    let types = [("right", None), ("none", Some("")), ("of a manifest", Some(MANIFEST)), ("of an index", Some(INDEX))];
    match *draft.mutate("media type of a document of two kinds", &types) {
        None => {}
        Some("") => document.members().into_iter().for_each(|members| members.retain(|(key, _)| key != "mediaType")),
        Some(other) => document.at(&["mediaType"]).into_iter().for_each(|kind| *kind = Json::string(other)),
    }
}

/// The file of a blob in an OCI layout.
pub fn oci_path(blob: &[u8]) -> String {
    blob_path(blob)
}

/// Puts a token where a configuration has text.
fn plant(draft: &mut Draft, config: &mut Json) {
    let token = draft.token("configuration");
    let text = Json::string(&format!("GITHUB_TOKEN={token}"));
    let key = |value: &str| Json::Object(vec![(token.clone(), Json::raw(value))]);
    let inner = |config: &mut Json, name: &str, value: Json| config.at(&["config"]).unwrap().push(name, value);
    let places = ["environment", "label", "label name", "volume", "command", "created by", "comment", "author"];
    let more =
        ["unknown", "unknown name", "deep", "on build", "architecture", "port", "working directory", "config name"];
    let all: Vec<(&str, &str)> = places.into_iter().chain(more).map(|place| (place, place)).collect();
    let place = *draft.pick(&all);
    draft.note(format!("token in the configuration: {}", place.0));
    draft.tokens.last_mut().unwrap().place = format!("configuration: {}", place.0);
    match place.1 {
        "environment" => inner(config, "Env", Json::Array(vec![text])),
        "label" => inner(config, "Labels", Json::Object(vec![("a".into(), text)])),
        "label name" => inner(config, "Labels", key("\"x\"")),
        "volume" => inner(config, "Volumes", key("{}")),
        "command" => inner(config, "Cmd", Json::Array(vec![text])),
        "created by" => {
            config.push("history", Json::Array(vec![Json::Object(vec![("created_by".into(), text)])]));
        }
        "comment" => config.push("comment", text),
        "author" => config.push("author", text),
        "unknown" => config.push("x-unknown", text),
        "unknown name" => config.push("x-unknown", key("1")),
        "deep" => config.push("x", Json::Array(vec![Json::Array(vec![Json::Object(vec![("y".into(), text)])])])),
        "on build" => inner(config, "OnBuild", Json::Array(vec![text])),
        "architecture" => config.push("variant", text),
        "port" => inner(config, "ExposedPorts", key("{}")),
        "working directory" => inner(config, "WorkingDir", text),
        _ => config.push(&token, Json::raw("null")),
    }
}

/// Names the descriptors: the first one of the image `latest`, and the others.
fn name(descriptors: &mut [serde_json::Value]) {
    for (number, descriptor) in descriptors.iter_mut().enumerate() {
        let name = if number == 0 { "latest".to_string() } else { format!("other{number}") };
        descriptor["annotations"]["org.opencontainers.image.ref.name"] = name.into();
    }
}

fn named(mut descriptor: serde_json::Value, name: &str) -> serde_json::Value {
    descriptor["annotations"] = json!({ "org.opencontainers.image.ref.name": name });
    descriptor
}

/// The media type of a configuration, for mutations that write another.
pub const CONFIG_TYPES: [(&str, &str); 6] = [
    ("OCI", CONFIG),
    ("Docker", "application/vnd.docker.container.image.v1+json"),
    ("empty", ""),
    ("OCI empty", "application/vnd.oci.empty.v1+json"),
    ("Helm", "application/vnd.cncf.helm.config.v1+json"),
    ("octets", "application/octet-stream"),
];
