//! A made-up registry with the image `app:v1` and what refers to it, with the referrers API of OCI 1.1 or without.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::artifacts::Artifact;
use super::image::{INDEX, Layer, MANIFEST, bytes, config, digest, index, manifest};
use super::server::{Answer, Request, Server};

/// The media type of empty configurations.
pub const EMPTY: &str = "application/vnd.oci.empty.v1+json";

/// A repository before it is served.
pub struct Repository {
    /// By tag and by digest.
    manifests: BTreeMap<String, (String, Vec<u8>)>,
    blobs: BTreeMap<String, Vec<u8>>,
    /// Descriptors of what refers to a manifest.
    referrers: BTreeMap<String, Vec<Value>>,
    has_api: bool,
    /// Entries of one page of referrers.
    page: usize,
}

impl Repository {
    /// The image `v1` of `layers`. Without the API, lists of referrers are tags.
    pub fn new(layers: &[Layer], has_api: bool) -> Repository {
        let (manifests, blobs, referrers) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let mut repository = Repository { manifests, blobs, referrers, has_api, page: 100 };
        layers.iter().for_each(|layer| drop(repository.put_blob(&layer.blob)));
        let config = bytes(&config(layers));
        repository.put_blob(&config);
        repository.put(MANIFEST, &bytes(&manifest(&config, layers)), Some("v1"));
        repository
    }

    pub fn with_pages_of(self, page: usize) -> Repository {
        Repository { page, ..self }
    }

    /// The digest that a tag names.
    pub fn named(&self, tag: &str) -> String {
        digest(&self.manifests[tag].1)
    }

    /// The manifest with this digest.
    pub fn document(&self, digest: &str) -> Vec<u8> {
        self.manifests[digest].1.clone()
    }

    pub fn put_blob(&mut self, blob: &[u8]) -> String {
        self.blobs.insert(digest(blob), blob.to_vec());
        digest(blob)
    }

    /// Puts a manifest or an index, and lists it as a referrer of its subject.
    pub fn put(&mut self, media_type: &str, document: &[u8], tag: Option<&str>) -> String {
        let digest = digest(document);
        for name in [Some(&digest[..]), tag].into_iter().flatten() {
            self.manifests.insert(name.into(), (media_type.into(), document.to_vec()));
        }
        let parsed: Value = serde_json::from_slice(document).unwrap();
        if let Some(subject) = parsed["subject"]["digest"].as_str() {
            let mut entry = json!({ "mediaType": media_type, "digest": digest, "size": document.len() });
            if parsed["annotations"].is_object() {
                entry["annotations"] = parsed["annotations"].clone();
            }
            self.list(subject, entry);
        }
        digest
    }

    /// Lists `entry` as a referrer of `subject`, whatever it is.
    pub fn list(&mut self, subject: &str, entry: Value) {
        let entries = self.referrers.entry(subject.into()).or_default();
        entries.push(entry);
        if !self.has_api {
            let list = bytes(&index(entries));
            self.manifests.insert(subject.replace(':', "-"), (INDEX.into(), list));
        }
    }

    /// Puts a manifest of `blobs`, each with its media type, that refers to `subject` if there is one.
    pub fn put_referrer(&mut self, subject: Option<&str>, tag: Option<&str>, blobs: &[(&str, &[u8])]) -> String {
        let document = self.referrer(subject, blobs);
        self.put(MANIFEST, &bytes(&document), tag)
    }

    /// Such a manifest, whose blobs are put.
    pub fn referrer(&mut self, subject: Option<&str>, blobs: &[(&str, &[u8])]) -> Value {
        let layer = |(media_type, blob): &(&str, &[u8])| super::image::descriptor(media_type, blob);
        let layers: Vec<Value> = blobs.iter().map(layer).collect();
        blobs.iter().for_each(|(_, blob)| drop(self.put_blob(blob)));
        self.put_blob(b"{}");
        let empty = json!({ "mediaType": EMPTY, "digest": digest(b"{}"), "size": 2 });
        let mut document = json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": empty, "layers": layers });
        if let Some(subject) = subject {
            document["subject"] = json!({ "mediaType": MANIFEST, "digest": subject, "size": 7 });
        }
        document
    }

    /// Puts an artifact as a referrer of `subject`, or under `tag`.
    pub fn attach(&mut self, artifact: &Artifact, subject: &str, tag: Option<&str>) {
        artifact.blobs.iter().for_each(|blob| drop(self.put_blob(blob)));
        let (last, others) = artifact.manifests.split_last().unwrap();
        others.iter().for_each(|(media_type, manifest)| drop(self.put(media_type, manifest, None)));
        let mut root: Value = serde_json::from_slice(&last.1).unwrap();
        if tag.is_none() {
            root["subject"] = json!({ "mediaType": MANIFEST, "digest": subject, "size": 7 });
        }
        self.put(&last.0, &bytes(&root), tag);
    }

    pub fn serve(self) -> Server {
        self.serve_with(|_, _, answer| answer)
    }

    /// Serves it over plain HTTP to anyone. `alter` is given each answer, and how many requests came before for the
    /// same path.
    pub fn serve_with(self, alter: impl Fn(&Request, usize, Answer) -> Answer + Send + Sync + 'static) -> Server {
        Server::answering(move |request, before| alter(request, before, self.answer(&request.path)))
    }

    fn answer(&self, path: &str) -> Answer {
        let path = path.strip_prefix("/v2/app/").unwrap_or_default();
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        if path == "tags/list" {
            let tags: BTreeSet<&String> = self.manifests.keys().filter(|name| !name.contains(':')).collect();
            return Answer::new(200, json!({ "name": "app", "tags": tags }).to_string());
        }
        if let Some((media_type, manifest)) = path.strip_prefix("manifests/").and_then(|name| self.manifests.get(name))
        {
            let answer = Answer::new(200, manifest.clone()).with("Content-Type", media_type);
            return answer.with("Docker-Content-Digest", &digest(manifest));
        }
        if let Some(blob) = path.strip_prefix("blobs/").and_then(|name| self.blobs.get(name)) {
            return Answer::new(200, blob.clone()).with("Content-Type", "application/octet-stream");
        }
        match path.strip_prefix("referrers/").filter(|_| self.has_api) {
            Some(subject) => self.page_of(subject, query),
            None => Answer::new(404, json!({ "errors": [{ "code": "MANIFEST_UNKNOWN" }] }).to_string()),
        }
    }

    fn page_of(&self, subject: &str, query: &str) -> Answer {
        let from: usize = query.strip_prefix("from=").map_or(0, |from| from.parse().unwrap());
        let all = self.referrers.get(subject).map(Vec::as_slice).unwrap_or_default();
        let page = &all[from..all.len().min(from + self.page)];
        let answer = Answer::new(200, bytes(&index(page))).with("Content-Type", INDEX);
        match from + page.len() < all.len() {
            true => {
                let next = format!("</v2/app/referrers/{subject}?from={}>; rel=\"next\"", from + page.len());
                answer.with("Link", &next)
            }
            false => answer,
        }
    }
}
