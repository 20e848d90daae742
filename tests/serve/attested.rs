//! Images with attestations, in a made-up registry, and a service that takes them.

// Each test uses some of it.
#![allow(dead_code)]

use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use layersift_attest::keys::{PrivateKey, Signer};
use layersift_attest::predicate::{Counts, PASSED, PolicyResult, ScanResult, Scanner};
use layersift_attest::{BUNDLE, Bundle, Descriptor, Document, Envelope, Layer as Attestation, Statement};
use layersift_model::{Digest, Severity, Verdict};
use layersift_rules::Ruleset;
use serde_json::{Value, json};

use crate::running::{Running, Site, pulling_from};
use crate::support::image::{INDEX, Layer, MANIFEST, bytes, config, descriptor, index, manifest};
use crate::support::referred::Repository;

/// A repository whose images are attested.
pub struct Attested {
    pub repository: Repository,
    pub key: PrivateKey,
}

impl Attested {
    pub fn new(has_api: bool) -> Attested {
        let layers = [crate::images::layer("etc/motd", "v1")];
        Attested { repository: Repository::new(&layers, has_api), key: PrivateKey::generate_p256().unwrap() }
    }

    /// Puts an image with one file as `tag`, and gives its digest.
    pub fn put_image(&mut self, tag: &str) -> String {
        self.put_image_of(tag, &[crate::images::layer("etc/motd", tag)])
    }

    pub fn put_image_of(&mut self, tag: &str, layers: &[Layer]) -> String {
        let mut config = config(layers);
        config["config"] = json!({ "User": "1000" });
        let config = bytes(&config);
        layers.iter().for_each(|layer| drop(self.repository.put_blob(&layer.blob)));
        self.repository.put_blob(&config);
        self.repository.put(MANIFEST, &bytes(&manifest(&config, layers)), Some(tag))
    }

    /// Puts an index of images that are there, each for an architecture, as `tag`.
    pub fn put_index(&mut self, tag: &str, images: &[(&str, &str)]) -> String {
        let entry = |(architecture, digest): &(&str, &str)| {
            let mut entry = descriptor(MANIFEST, &self.repository.document(digest));
            entry["platform"] = json!({ "os": "linux", "architecture": architecture });
            entry
        };
        let entries: Vec<Value> = images.iter().map(entry).collect();
        self.repository.put(INDEX, &bytes(&index(&entries)), Some(tag))
    }

    /// Puts an index of two images, the second of which is said to be an attestation of the first.
    pub fn put_hiding_index(&mut self, tag: &str, images: &[String; 2]) -> String {
        let mut entries = images.clone().map(|digest| descriptor(MANIFEST, &self.repository.document(&digest)));
        entries[0]["platform"] = json!({ "os": "linux", "architecture": "amd64" });
        entries[1]["platform"] = json!({ "os": "linux", "architecture": "arm64" });
        let (kind, of) = ("vnd.docker.reference.type", "vnd.docker.reference.digest");
        entries[1]["annotations"] = json!({ kind: "attestation-manifest", of: images[0] });
        self.repository.put(INDEX, &bytes(&index(&entries)), Some(tag))
    }

    /// Attaches what the key says about an image, as a bundle.
    pub fn attest(&mut self, digest: &str, result: &ScanResult) {
        self.attest_as(digest, result.predicate_type(), result);
    }

    /// The same, of any type.
    pub fn attest_as<P: serde::Serialize>(&mut self, digest: &str, predicate_type: &str, predicate: &P) {
        let envelope = self.envelope(digest, predicate_type, predicate);
        self.attach(digest, envelope, predicate_type);
    }

    pub fn envelope<P: serde::Serialize>(&self, digest: &str, predicate_type: &str, predicate: &P) -> Envelope {
        let statement = Statement::new(None, &parsed(digest), predicate_type, predicate).unwrap();
        Envelope::sign(&statement, &self.key).unwrap()
    }

    /// Attaches an envelope as a bundle, whatever it is about.
    pub fn attach(&mut self, digest: &str, envelope: Envelope, predicate_type: &str) {
        let subject = Descriptor { digest: parsed(digest), ..Descriptor::of(MANIFEST, b"") };
        let bundle = Bundle::new(envelope, self.key.public_key());
        let artifact = bundle.artifact(predicate_type, &subject, now()).unwrap();
        self.put(&artifact.blobs, &artifact.manifest, None);
    }

    /// Attaches a bundle whose text is altered.
    pub fn attach_altered(&mut self, digest: &str, envelope: &Envelope, alter: impl Fn(String) -> String) {
        let text = Bundle::new(envelope.clone(), self.key.public_key()).to_json().unwrap();
        let altered = alter(text.clone());
        assert_ne!(altered, text);
        self.repository.put_referrer(Some(digest), None, &[(BUNDLE, altered.as_bytes())]);
    }

    /// Attaches what the key says about an image as a layer of `.att`.
    pub fn attest_as_layer(&mut self, digest: &str, result: &ScanResult) {
        let envelope = self.envelope(digest, PASSED, result);
        let layer = Attestation { envelope, timestamp: None }.to_append(PASSED).unwrap();
        let (blobs, manifest) = layer.artifact().unwrap();
        self.put(&blobs, &manifest, Some(&format!("{}.att", digest.replace(':', "-"))));
    }

    fn put(&mut self, blobs: &[Document], manifest: &Document, tag: Option<&str>) {
        blobs.iter().for_each(|blob| drop(self.repository.put_blob(&blob.bytes)));
        self.repository.put(&manifest.media_type, &manifest.bytes, tag);
    }
}

pub fn parsed(digest: &str) -> Digest {
    digest.parse().unwrap()
}

pub fn now() -> Timestamp {
    Timestamp::now()
}

/// A pass by the rules of the service, a minute old.
pub fn passed() -> ScanResult {
    let then = now() - SignedDuration::from_mins(1);
    let ruleset = Ruleset::with_files(&[]).unwrap().digest();
    ScanResult {
        verdict: Verdict::Pass,
        scanned_at: then,
        attested_at: then,
        scanner: Scanner { version: "0.1.0".into(), ruleset, reader_revision: Some(8) },
        policy: PolicyResult { fail_on: Some(Severity::High), digest: None, baseline: None },
        findings: Counts::default(),
        allowed: Counts::default(),
        gaps: 0,
        layers: 1,
    }
}

/// Settings of a service that takes attestations of the keys in `file`, and scans nothing.
pub fn settings(file: &Path, host: &str) -> String {
    format!("{}[scans]\nat-once = 0\npulls = 0\n", scanning_settings(file, host, "attestations = 'accept'"))
}

/// The same of one that scans, with more rules of admission.
pub fn scanning_settings(file: &Path, host: &str, admission: &str) -> String {
    let keys = file.display();
    format!("[attestations]\nkeys = ['{keys}']\n[admission]\n{admission}\n{}", pulling_from(host))
}

/// The decision about an image that nobody waits for.
pub fn decide(running: &Running, site: &Site, image: &str) -> Value {
    decide_all(running, site, &[image.into()]).remove(0)
}

pub fn decide_all(running: &Running, site: &Site, images: &[String]) -> Vec<Value> {
    let client = running.client(&site.token(&["admit"]));
    let answer = client.post("/admit/v1/images", &json!({ "images": images })).expect(200).json();
    answer["decisions"].as_array().unwrap().clone()
}

/// Why the attestations of an image do not count.
pub fn why_not(decision: &Value) -> String {
    let reasons = decision["reasons"].as_array().unwrap();
    let reason = reasons.iter().find(|reason| reason["rule"] == "attestation");
    reason.map_or_else(String::new, |reason| reason["title"].as_str().unwrap().into())
}
