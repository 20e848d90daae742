//! Fixtures, and a repository in memory.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Mutex;
use std::time::Duration;

use layersift_attest::keys::{PrivateKey, PublicKey};
use layersift_attest::registry::{Put, Registry};
use layersift_attest::{Descriptor, Document, MANIFEST};
use layersift_model::Digest;
use serde_json::Value;

/// The image that all recordings are about.
pub(crate) const SUBJECT: &str = "sha256:c4fa4b81870ac5d9d36300085667fa10061930a56dcdd4c2da30320cfe612d08";
/// The predicate type that most recordings have.
pub(crate) const TYPE: &str = "https://layersift.example/report/v1";

pub(crate) fn subject() -> Digest {
    SUBJECT.parse().unwrap()
}

pub(crate) fn fixture(name: &str) -> Value {
    let path = format!("{}/tests/data/{name}", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

pub(crate) fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

/// The test key of the hand-made attestations.
pub(crate) fn handmade_key() -> PrivateKey {
    PrivateKey::from_pem(text(&fixture("keys.json")["handmade-p256.pem"]), None).unwrap()
}

pub(crate) fn public_key(name: &str) -> PublicKey {
    PublicKey::from_pem(text(&fixture("keys.json")[name])).unwrap()
}

/// A repository in memory, with or without the referrers API.
#[derive(Default)]
pub(crate) struct Repository {
    pub(crate) manifests: Mutex<BTreeMap<String, Document>>,
    pub(crate) blobs: Mutex<BTreeMap<String, Vec<u8>>>,
    pub(crate) has_referrers: bool,
}

impl Repository {
    pub(crate) fn new(has_referrers: bool) -> Repository {
        Repository { has_referrers, ..Repository::default() }
    }

    /// A repository as it was recorded.
    pub(crate) fn recorded(dump: &Value) -> Repository {
        let repository = Repository::new(dump["referrers"].get(SUBJECT).is_some());
        for (reference, document) in dump["manifests"].as_object().unwrap() {
            let bytes = text(&document[1]).as_bytes().to_vec();
            let document = Document { media_type: text(&document[0]).into(), bytes };
            repository.put_manifest(reference, &document).unwrap();
        }
        for bytes in dump["blobs"].as_object().unwrap().values() {
            repository.put(text(bytes).as_bytes());
        }
        repository
    }

    pub(crate) fn put(&self, bytes: &[u8]) {
        self.blobs.lock().unwrap().insert(Digest::of(bytes).to_string(), bytes.to_vec());
    }
}

impl Registry for Repository {
    type Error = Infallible;

    fn manifest(&self, reference: &str) -> Result<Option<Document>, Infallible> {
        Ok(self.manifests.lock().unwrap().get(reference).cloned())
    }

    fn put_manifest(&self, reference: &str, manifest: &Document) -> Result<Put, Infallible> {
        let digest = Digest::of(&manifest.bytes).to_string();
        let mut manifests = self.manifests.lock().unwrap();
        manifests.insert(reference.into(), manifest.clone());
        manifests.insert(digest, manifest.clone());
        Ok(Put::Stored)
    }

    fn blob(&self, digest: &Digest, most: u64) -> Result<Option<Vec<u8>>, Infallible> {
        let blob = self.blobs.lock().unwrap().get(&digest.to_string()).cloned();
        Ok(blob.filter(|blob| blob.len() as u64 <= most))
    }

    fn put_blob(&self, blob: &Document) -> Result<(), Infallible> {
        self.put(&blob.bytes);
        Ok(())
    }

    fn referrers(&self, subject: &Digest) -> Result<Option<Vec<Descriptor>>, Infallible> {
        if !self.has_referrers {
            return Ok(None);
        }
        let mut found = BTreeMap::new();
        for document in self.manifests.lock().unwrap().values().filter(|document| document.media_type == MANIFEST) {
            let manifest: Value = serde_json::from_slice(&document.bytes).unwrap_or_default();
            if manifest["subject"]["digest"] == subject.to_string() {
                let descriptor = document.descriptor();
                found.insert(descriptor.digest.to_string(), descriptor);
            }
        }
        Ok(Some(found.into_values().collect()))
    }

    fn pause(&self, _: Duration) -> Result<(), Infallible> {
        Ok(())
    }
}
