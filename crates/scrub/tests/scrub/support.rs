//! Images in memory, requests about them, and what was made of them.

use std::collections::BTreeMap;
use std::io::{Cursor, Read};
use std::sync::Arc;

use layersift_format::tar::{Entries, PlacedEntry};
use layersift_format::{Blob, Fetched, ImageSource, Listed, Location, SourceError};
use layersift_model::{
    Confidence, Digest, FileAttributes, FileLocation, Finding, ImageReport, LayerRef, ReportedSecret, RuleInfo, Secret,
    Severity, State,
};
use layersift_scrub::{Request, ScrubError, Scrubbed, Staging, scrub};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A made-up secret.
pub(crate) const SECRET: &str = "made-up-0123456789-abcdef";

pub(crate) const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// A tar archive that grows.
pub(crate) struct Tar(tar::Builder<Vec<u8>>);

impl Tar {
    pub(crate) fn new() -> Tar {
        Tar(tar::Builder::new(Vec::new()))
    }

    pub(crate) fn file(mut self, path: &str, bytes: impl AsRef<[u8]>) -> Tar {
        let bytes = bytes.as_ref();
        let mut header = header(tar::EntryType::Regular, bytes.len());
        self.0.append_data(&mut header, path, bytes).unwrap();
        self
    }

    fn link(mut self, kind: tar::EntryType, path: &str, target: &str) -> Tar {
        self.0.append_link(&mut header(kind, 0), path, target).unwrap();
        self
    }

    pub(crate) fn hard_link(self, path: &str, target: &str) -> Tar {
        self.link(tar::EntryType::Link, path, target)
    }

    pub(crate) fn symlink(self, path: &str, target: &str) -> Tar {
        self.link(tar::EntryType::Symlink, path, target)
    }

    pub(crate) fn directory(mut self, path: &str) -> Tar {
        self.0.append_data(&mut header(tar::EntryType::Directory, 0), path, &b""[..]).unwrap();
        self
    }

    /// An extended header, for the next entry (`x`) or for all that follow (`g`).
    pub(crate) fn pax(mut self, kind: tar::EntryType, records: &[(&str, &str)]) -> Tar {
        let records: String = records.iter().map(|(key, value)| record(key, value)).collect();
        let mut header = header(kind, records.len());
        self.0.append_data(&mut header, "pax", records.as_bytes()).unwrap();
        self
    }

    pub(crate) fn raw(mut self, mut header: tar::Header, data: &[u8]) -> Tar {
        header.set_cksum();
        self.0.append(&header, data).unwrap();
        self
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

/// A record, which begins with its own length.
fn record(key: &str, value: &str) -> String {
    let line = |length: usize| format!("{length} {key}={value}\n");
    let length = (1..).find(|&length| line(length).len() == length).unwrap();
    line(length)
}

pub(crate) fn header(kind: tar::EntryType, size: usize) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_mtime(7);
    header.set_size(size as u64);
    header
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::read::GzEncoder::new(bytes, flate2::Compression::fast());
    let mut stored = Vec::new();
    encoder.read_to_end(&mut stored).unwrap();
    stored
}

/// An image source in memory.
#[derive(Clone, Default)]
pub(crate) struct Memory {
    pub(crate) blobs: BTreeMap<Digest, Vec<u8>>,
    pub(crate) root: Option<Digest>,
}

impl Memory {
    pub(crate) fn add(&mut self, bytes: &[u8]) -> Digest {
        let digest = Digest::of(bytes);
        self.blobs.insert(digest.clone(), bytes.to_vec());
        digest
    }

    pub(crate) fn descriptor(&mut self, media_type: &str, bytes: &[u8]) -> Value {
        let digest = self.add(bytes);
        json!({ "mediaType": media_type, "digest": digest.to_string(), "size": bytes.len() })
    }

    /// Adds the manifest of an image of `layers`, each as it is and as it is stored; gives its descriptor.
    pub(crate) fn image(&mut self, layers: &[(Vec<u8>, Vec<u8>, &str)], config: Value) -> Value {
        let diff_ids: Vec<String> = layers.iter().map(|(tar, ..)| Digest::of(tar).to_string()).collect();
        let mut config = config;
        config["rootfs"] = json!({ "type": "layers", "diff_ids": diff_ids });
        let config = self.descriptor("application/vnd.oci.image.config.v1+json", config.to_string().as_bytes());
        let layers: Vec<Value> =
            layers.iter().map(|(_, blob, suffix)| self.descriptor(&format!("{LAYER}{suffix}"), blob)).collect();
        let manifest = json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers });
        self.descriptor(MANIFEST, manifest.to_string().as_bytes())
    }

    /// The same, of layers that are not compressed, as the image of the source.
    pub(crate) fn of(layers: Vec<Tar>) -> Memory {
        Memory::with_config(layers, json!({ "architecture": "amd64", "os": "linux" }))
    }

    pub(crate) fn with_config(layers: Vec<Tar>, config: Value) -> Memory {
        let mut memory = Memory::default();
        let layers: Vec<_> = layers.into_iter().map(Tar::finish).map(|tar| (tar.clone(), tar, "")).collect();
        let root = memory.image(&layers, config);
        memory.rooted(&root)
    }

    pub(crate) fn rooted(mut self, descriptor: &Value) -> Memory {
        self.root = Some(digest_of(descriptor));
        self
    }

    pub(crate) fn json(&self, digest: &Digest) -> Value {
        serde_json::from_slice(&self.blobs[digest]).unwrap()
    }

    /// The manifest, if the root is one, or the first one of the index.
    pub(crate) fn manifest(&self) -> Value {
        let root = self.json(self.root.as_ref().unwrap());
        if root.get("manifests").is_some() { self.json(&digest_of(&root["manifests"][0])) } else { root }
    }

    pub(crate) fn config(&self) -> Value {
        self.json(&digest_of(&self.manifest()["config"]))
    }

    pub(crate) fn layer(&self, index: usize) -> &Vec<u8> {
        &self.blobs[&digest_of(&self.manifest()["layers"][index])]
    }
}

pub(crate) fn digest_of(descriptor: &Value) -> Digest {
    descriptor["digest"].as_str().unwrap().parse().unwrap()
}

impl ImageSource for Memory {
    fn list(&self) -> Result<Vec<Listed>, SourceError> {
        let digest = self.root.clone().unwrap();
        let location = self.locate(&digest);
        Ok(vec![Listed::Manifest { reference: None, location, digest: Some(digest), listing: Vec::new() }])
    }

    fn locate(&self, digest: &Digest) -> Location {
        Location(digest.to_string())
    }

    fn open(&self, location: &Location) -> Result<Fetched<'_>, SourceError> {
        let blob = self.blobs.get(&location.0.parse::<Digest>().unwrap());
        Ok(blob.map_or(Fetched::Missing, |blob| Fetched::Blob(Blob::Stream(Box::new(Cursor::new(blob.clone()))))))
    }
}

/// What was made of an image.
pub(crate) struct Outcome {
    pub(crate) image: Memory,
    pub(crate) scrubbed: Scrubbed,
    pub(crate) staging: Staging,
    pub(crate) folder: TempDir,
}

/// Scrubs, and reads all that is staged. Every blob has to have its digest, and nothing but what is named to be there.
pub(crate) fn scrubbed(image: &Memory, request: &Request) -> Result<Outcome, ScrubError> {
    let folder = tempfile::tempdir().unwrap();
    let staging = Staging::create(folder.path())?;
    let scrubbed = scrub(image, "image", request, None, &staging)?;
    let mut result = Memory { root: Some(scrubbed.digest.clone()), ..Memory::default() };
    for entry in std::fs::read_dir(staging.path().join("blobs/sha256")).unwrap() {
        let entry = entry.unwrap();
        let digest = result.add(&std::fs::read(entry.path()).unwrap());
        assert_eq!(digest.hex(), entry.file_name().to_str().unwrap());
    }
    let manifests = scrubbed.manifests.iter().map(|(digest, _)| digest);
    let mut named: Vec<&Digest> = manifests.chain(&scrubbed.blobs).chain([&scrubbed.digest]).collect();
    named.sort();
    named.dedup();
    assert_eq!(result.blobs.keys().collect::<Vec<_>>(), named);
    Ok(Outcome { image: result, scrubbed, staging, folder })
}

/// Removes the files `paths`.
pub(crate) fn without(image: &Memory, paths: &[&str]) -> Result<Outcome, ScrubError> {
    let paths: Vec<Vec<u8>> = paths.iter().map(|path| path.as_bytes().to_vec()).collect();
    scrubbed(image, &Request::new(&[], &[], &paths).unwrap())
}

/// A finding of [`SECRET`] in a file.
pub(crate) fn found(image: &Memory, layer: usize, path: &str, entry: u32, offset: u64) -> Finding {
    found_value(SECRET, image, layer, path, entry, offset)
}

pub(crate) fn found_value(value: &str, image: &Memory, layer: usize, path: &str, entry: u32, offset: u64) -> Finding {
    let digest = digest_of(&image.manifest()["layers"][layer]);
    let location = FileLocation {
        path: path.into(),
        inside: Vec::new(),
        views: Vec::new(),
        offset: Some(offset),
        line: None,
        column: None,
        binary: None,
        layer: LayerRef { index: layer, digest: Some(digest), diff_id: None, created_by: None },
        state: State::Present,
        ended_by: None,
        package: None,
        as_shipped: false,
        attributes: Some(Arc::new(FileAttributes { entry, ..FileAttributes::default() })),
    };
    finding(value, layersift_model::Location::File(Box::new(location)))
}

pub(crate) fn finding(value: &str, location: layersift_model::Location) -> Finding {
    let rule = RuleInfo {
        id: "test".into(),
        title: String::new(),
        severity: Severity::High,
        confidence: Confidence::High,
        what: String::new(),
        risk: String::new(),
        fix: String::new(),
        references: Vec::new(),
    };
    let value = Secret::new(value.as_bytes());
    let fingerprint = format!("fingerprint of {}", value.len());
    let secret = ReportedSecret { masked: value.masked(), fingerprint, length: value.len(), value: Some(value) };
    Finding {
        id: "1".into(),
        rule: Arc::new(rule),
        severity: Severity::High,
        location,
        secret: Some(secret),
        note: None,
        related: Vec::new(),
        allowed: None,
        baseline: false,
        origin: None,
        step: None,
    }
}

/// Scrubs the secret of `findings`, and removes `paths`.
pub(crate) fn without_secret(image: &Memory, findings: Vec<Finding>, paths: &[&str]) -> Result<Outcome, ScrubError> {
    let report = ImageReport { findings, ..ImageReport::default() };
    let paths: Vec<Vec<u8>> = paths.iter().map(|path| path.as_bytes().to_vec()).collect();
    scrubbed(image, &Request::new(&[report], &["1".into()], &paths)?)
}

/// The entries of an archive with the bytes that each of them takes, and those after the last.
pub(crate) fn pieces(archive: &[u8]) -> (Vec<(String, Vec<u8>)>, Vec<u8>) {
    let mut entries = Entries::new(archive, 1 << 20);
    let mut placed: Vec<PlacedEntry> = Vec::new();
    while let Some(entry) = entries.next_entry().unwrap() {
        placed.push(entry);
    }
    let end = |entry: &PlacedEntry| (entry.data + entry.entry.padded()) as usize;
    let pieces = placed.iter().map(|entry| {
        let name = String::from_utf8_lossy(&entry.entry.path).into_owned();
        (name, archive[entry.start as usize..end(entry)].to_vec())
    });
    (pieces.collect(), archive[placed.last().map_or(0, end)..].to_vec())
}

pub(crate) fn names(archive: &[u8]) -> Vec<String> {
    pieces(archive).0.into_iter().map(|(name, _)| name).collect()
}

pub(crate) fn has(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

/// The message of a refusal.
pub(crate) fn refusal(result: Result<Outcome, ScrubError>) -> String {
    result.err().map(|error| error.to_string()).expect("it is refused")
}
