//! Referrers of made-up sources: circles, limits, lists that are wrong, and what is gone.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::*;
use crate::blob::Blob;
use crate::image_source::{Fetched, Listed, Location, Referrers};
use crate::manifest::images;
use crate::platform::Choice;
use crate::source_error::SourceError;

/// A source of one image, whose referrers a test makes up.
#[derive(Default)]
struct MadeUp {
    blobs: BTreeMap<Digest, Vec<u8>>,
    image: Option<Digest>,
    lists: BTreeMap<Digest, Vec<ReferrerList>>,
    named: BTreeMap<Digest, Vec<Digest>>,
    /// How often it was asked for referrers.
    lookups: std::sync::Mutex<Cell<usize>>,
}

impl MadeUp {
    fn new() -> MadeUp {
        let mut source = MadeUp::default();
        let config = source.put(&json!({ "architecture": "amd64", "os": "linux", "rootfs": { "diff_ids": [] } }));
        let manifest = json!({
            "config": { "mediaType": "application/vnd.oci.image.config.v1+json", "digest": config }, "layers": [],
        });
        source.image = Some(source.put(&manifest));
        source
    }

    fn image(&self) -> Digest {
        self.image.clone().unwrap()
    }

    fn put(&mut self, document: &Value) -> Digest {
        let bytes = document.to_string().into_bytes();
        let digest = Digest::of(&bytes);
        self.blobs.insert(digest.clone(), bytes);
        digest
    }

    /// A referrer of `of` with these blobs, called `name`.
    fn referrer(&mut self, of: &Digest, name: &str, blobs: &[&str]) -> Digest {
        let layers: Vec<Value> = blobs.iter().map(|text| json!({ "digest": self.put(&json!(text)) })).collect();
        let manifest = json!({
            "config": { "digest": Digest::of(b"{}") }, "layers": layers, "subject": { "digest": of },
            "annotations": { "name": name },
        });
        self.put(&manifest)
    }

    fn add_list(&mut self, of: &Digest, entries: &[Digest]) {
        let entries: Vec<Value> = entries.iter().map(|digest| json!({ "digest": digest })).collect();
        let bytes = json!({ "manifests": entries }).to_string().into_bytes();
        self.lists.entry(of.clone()).or_default().push(ReferrerList { bytes, digest: None });
    }

    fn read(&self) -> Image {
        self.read_with(&Limits::default())
    }

    fn read_with(&self, limits: &Limits) -> Image {
        let mut images = images(self, &Choice::All, limits).unwrap();
        add_referrers(self, limits, &mut images);
        images.remove(0)
    }
}

impl ImageSource for MadeUp {
    fn list(&self) -> Result<Vec<Listed>, SourceError> {
        let (location, digest) = (self.locate(&self.image()), self.image.clone());
        Ok(vec![Listed::Manifest { reference: None, location, digest, listing: Vec::new() }])
    }

    fn locate(&self, digest: &Digest) -> Location {
        Location(digest.to_string())
    }

    fn referrers(&self, digest: &Digest) -> Referrers {
        let lookups = self.lookups.lock().unwrap();
        lookups.set(lookups.get() + 1);
        let lists = self.lists.get(digest).cloned().unwrap_or_default();
        let manifests = self.named.get(digest).cloned().unwrap_or_default();
        Referrers { lists, manifests, ..Referrers::default() }
    }

    fn open(&self, location: &Location) -> Result<Fetched<'_>, SourceError> {
        let found = self.blobs.get(&location.0.parse().unwrap());
        Ok(found.map_or(Fetched::Missing, |bytes| Fetched::Blob(Blob::Stream(Box::new(&bytes[..])))))
    }
}

/// The digests of the documents of one kind.
fn digests(image: &Image, kind: DocumentKind) -> Vec<Digest> {
    let documents = image.documents.iter().filter(|document| document.kind == kind);
    documents.filter_map(|document| document.digest.clone()).collect()
}

fn reasons(image: &Image) -> Vec<GapReason> {
    image.referrer_gaps.iter().map(|gap| gap.reason).collect()
}

#[test]
fn referrers_and_what_refers_to_them_are_documents_of_the_image() {
    let mut source = MadeUp::new();
    let image = source.image();
    let bill = source.referrer(&image, "bill", &["packages"]);
    let signature = source.referrer(&bill, "signature", &["signed"]);
    source.add_list(&image, std::slice::from_ref(&bill));
    source.named.insert(bill.clone(), vec![signature.clone()]);
    let read = source.read();
    assert_eq!(digests(&read, DocumentKind::Referrer), [bill.clone(), signature]);
    let blobs: Vec<&Document> = read.documents.iter().filter(|document| document.kind == DocumentKind::Blob).collect();
    assert_eq!(blobs.len(), 2);
    assert_eq!((&blobs[0].referrer, &blobs[0].attached_to), (&Some(bill), &Some(image)));
    assert_eq!((reasons(&read).len(), read.notes.len()), (0, 0), "{read:?}");
}

/// Any graph of referrers ends, and has each manifest that leads to the image once.
#[test]
fn circles_end() {
    // A linear congruential generator (Knuth's MMIX).
    let mut state = 7u64;
    let mut below = |most: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap() % most
    };
    for _ in 0..200 {
        let mut source = MadeUp::new();
        let image = source.image();
        let mut all = vec![image.clone()];
        all.extend((0..1 + below(7)).map(|number| source.referrer(&image, &number.to_string(), &["blob"])));
        for _ in 0..1 + below(19) {
            let (of, entry) = (all[below(all.len())].clone(), all[below(all.len())].clone());
            if below(2) == 0 { source.add_list(&of, &[entry]) } else { source.named.entry(of).or_default().push(entry) }
        }
        let limits = Limits { referrer_depth: 100, ..Limits::default() };
        let read = source.read_with(&limits);
        let mut expected: BTreeSet<Digest> = BTreeSet::new();
        let mut next = vec![image.clone()];
        while let Some(one) = next.pop() {
            let listed = source.lists.get(&one).into_iter().flatten().flat_map(|list| {
                let list: Value = serde_json::from_slice(&list.bytes).unwrap();
                let entries = list["manifests"].as_array().unwrap().iter();
                entries.map(|entry| entry["digest"].as_str().unwrap().parse().unwrap()).collect::<Vec<Digest>>()
            });
            let found: Vec<Digest> = listed.chain(source.named.get(&one).into_iter().flatten().cloned()).collect();
            next.extend(found.into_iter().filter(|digest| *digest != image && expected.insert(digest.clone())));
        }
        let read_once = digests(&read, DocumentKind::Referrer);
        assert_eq!(read_once.iter().cloned().collect::<BTreeSet<_>>(), expected);
        assert_eq!(read_once.len(), expected.len());
        assert_eq!(digests(&read, DocumentKind::Blob).len(), usize::from(!expected.is_empty()), "the same blob once");
        assert_eq!(reasons(&read), []);
    }
}

#[test]
fn what_is_beyond_a_limit_is_a_gap_with_its_number() {
    let mut source = MadeUp::new();
    let image = source.image();
    let all: Vec<Digest> = (0..7).map(|number| source.referrer(&image, &number.to_string(), &[])).collect();
    source.add_list(&image, &all);
    let read = source.read_with(&Limits { referrers: 4, ..Limits::default() });
    assert_eq!((digests(&read, DocumentKind::Referrer).len(), reasons(&read)), (4, vec![GapReason::TooManyReferrers]));
    assert!(read.referrer_gaps[0].detail.starts_with("3 manifests"), "{:?}", read.referrer_gaps);

    let mut source = MadeUp::new();
    let mut last = source.image();
    for number in 0..6 {
        let next = source.referrer(&last, &number.to_string(), &[]);
        source.named.insert(last, vec![next.clone()]);
        last = next;
    }
    let read = source.read_with(&Limits { referrer_depth: 4, ..Limits::default() });
    assert_eq!((digests(&read, DocumentKind::Referrer).len(), reasons(&read)), (4, vec![GapReason::TooManyReferrers]));
    assert_eq!(source.lookups.lock().unwrap().get(), 5, "what is not read is not asked about");

    let mut source = MadeUp::new();
    let image = source.image();
    let texts: Vec<String> = (0..MAX_BLOBS + 2).map(|number| number.to_string()).collect();
    let referrer = source.referrer(&image, "many", &texts.iter().map(|text| &text[..]).collect::<Vec<_>>());
    source.add_list(&image, &[referrer]);
    let read = source.read();
    assert_eq!((digests(&read, DocumentKind::Blob).len(), reasons(&read).len()), (MAX_BLOBS - 1, 1));
    assert!(read.referrer_gaps[0].detail.starts_with("3 blobs"), "{:?}", read.referrer_gaps);
}

#[test]
fn a_referrer_of_another_image_is_read_and_said() {
    let mut source = MadeUp::new();
    let image = source.image();
    let other = Digest::of(b"another image");
    let of_other = source.referrer(&other, "other", &["blob"]);
    let of_nothing = source.put(&json!({ "config": { "digest": Digest::of(b"{}") }, "layers": [] }));
    source.add_list(&image, &[of_other.clone(), of_nothing.clone()]);
    let read = source.read();
    assert_eq!(digests(&read, DocumentKind::Referrer), [of_other.clone(), of_nothing.clone()]);
    let [note] = &read.notes[..] else { panic!("{:?}", read.notes) };
    assert!(note.contains(&of_other.to_string()) && note.contains(&of_nothing.to_string()), "{note}");
    let blob = read.documents.iter().find(|document| document.kind == DocumentKind::Blob).unwrap();
    assert_eq!(blob.attached_to, Some(other), "it is no claim about this image");
    // cosign's signatures, which are found by their tags, have no subject.
    source.lists.clear();
    source.named.insert(image, vec![of_nothing]);
    assert_eq!(source.read().notes, [""; 0]);
}

#[test]
fn what_a_list_names_may_be_gone_or_damaged() {
    let mut source = MadeUp::new();
    let image = source.image();
    let gone = Digest::of(b"gone");
    source.add_list(&image, std::slice::from_ref(&gone));
    let read = source.read();
    assert_eq!(reasons(&read), []);
    assert!(read.notes[0].contains(&gone.to_string()), "{:?}", read.notes);
    for (document, documents) in [
        (json!({ "schemaVersion": 2 }), 1),
        (json!({ "layers": [{ "digest": "sha256:short" }], "config": { "digest": Digest::of(b"{}") } }), 1),
        (json!({ "manifests": [{ "digest": "sha256:short" }] }), 1),
        (json!({ "manifests": [], "layers": [] }), 1),
        (json!([]), 1),
    ] {
        let mut source = MadeUp::new();
        let damaged = source.put(&document);
        source.named.insert(source.image(), vec![damaged]);
        let read = source.read();
        assert_eq!(digests(&read, DocumentKind::Referrer).len(), documents, "{document}");
        assert_eq!(reasons(&read), [GapReason::DamagedDocument], "{document}");
    }
    for bytes in ["", "[1", r#"{"manifests":7}"#, r#"{"manifests":[{"digest":"x"}]}"#] {
        let mut source = MadeUp::new();
        let list = ReferrerList { bytes: bytes.into(), digest: None };
        source.lists.insert(source.image(), vec![list]);
        assert_eq!(reasons(&source.read()), [GapReason::DamagedDocument], "{bytes}");
    }
}

#[test]
fn the_image_is_not_its_own_referrer() {
    let mut source = MadeUp::new();
    let image = source.image();
    source.add_list(&image, std::slice::from_ref(&image));
    source.named.insert(image, vec![source.image()]);
    let read = source.read();
    assert_eq!((digests(&read, DocumentKind::Referrer).len(), read.notes.len()), (0, 0), "{read:?}");
}

#[test]
fn an_index_that_refers_to_the_image_leads_to_its_manifests() {
    let mut source = MadeUp::new();
    let image = source.image();
    let part = source.referrer(&Digest::of(b"nothing"), "part", &["blob"]);
    let index = source.put(&json!({ "manifests": [{ "digest": part }], "subject": { "digest": image } }));
    source.add_list(&image, std::slice::from_ref(&index));
    let read = source.read();
    assert_eq!(digests(&read, DocumentKind::Referrer), [index, part]);
    assert_eq!((digests(&read, DocumentKind::Blob).len(), read.notes.len()), (1, 0));
}

#[test]
fn what_a_list_repeats_of_a_manifest_is_found_there() {
    let mut source = MadeUp::new();
    let image = source.image();
    let referrer = source.referrer(&image, "repeated", &[]);
    let list = json!({
        "manifests": [{ "digest": referrer, "annotations": { "name": "repeated", "other": "own" } }],
    });
    let list = ReferrerList { bytes: list.to_string().into_bytes(), digest: None };
    source.lists.insert(image, vec![list]);
    let read = source.read();
    let list = read.documents.iter().find(|document| document.kind == DocumentKind::Referrers).unwrap();
    let DocumentContent::Strings(strings) = &list.content else { panic!("{list:?}") };
    let texts: Vec<&str> = strings.iter().map(|string| &string.text[..]).collect();
    assert!(texts.contains(&"own") && !texts.contains(&"repeated"), "{texts:?}");
}

#[test]
fn the_kind_of_a_blob() {
    let blob = |media_type: &str, annotation: Option<(&str, &str)>| -> Descriptor {
        let annotations: BTreeMap<&str, &str> = annotation.into_iter().collect();
        serde_json::from_value(json!({ "mediaType": media_type, "annotations": annotations })).unwrap()
    };
    let slsa = "https://slsa.dev/provenance/v1";
    for (media_type, annotation, artifact, predicate, expected) in [
        ("application/vnd.dsse.envelope.v1+json", None, "", None, DocumentKind::Attestation),
        ("application/vnd.dsse.envelope.v1+json", Some(("predicateType", slsa)), "", None, DocumentKind::Provenance),
        ("application/vnd.in-toto+json", Some(("in-toto.io/predicate-type", slsa)), "", None, DocumentKind::Provenance),
        ("application/vnd.dev.sigstore.bundle.v0.3+json", None, "", Some(slsa), DocumentKind::Provenance),
        ("application/vnd.dev.sigstore.bundle.v0.3+json", None, "", None, DocumentKind::Attestation),
        ("application/vnd.dev.cosign.simplesigning.v1+json", None, "", None, DocumentKind::Signature),
        ("application/jose+json", None, "application/vnd.cncf.notary.signature", None, DocumentKind::Signature),
        ("text/spdx+json", None, "", None, DocumentKind::Sbom),
        ("application/vnd.cyclonedx+xml", None, "", None, DocumentKind::Sbom),
        ("application/octet-stream", None, "application/vnd.example", None, DocumentKind::Blob),
    ] {
        assert_eq!(kind(&blob(media_type, annotation), artifact, predicate), expected, "{media_type}");
    }
}

#[test]
fn an_index_is_told_by_its_list() {
    for (text, expected) in [
        (r#"{"manifests":[]}"#, true),
        (r#"{"manifests":null}"#, true),
        (r#"{"manifests":[],"layers":[]}"#, false),
        (r#"{"config":{},"layers":[]}"#, false),
        ("{}", false),
        ("<html>", false),
    ] {
        assert_eq!(is_index(text.as_bytes()), expected, "{text}");
    }
}

#[test]
fn a_list_that_is_too_large_to_be_read_is_not_taken_for_something_else() {
    let list = |count: usize| format!(r#"{{"manifests":[{}{{}}]}}"#, "{},".repeat(count));
    assert!(is_index(list(10).as_bytes()) && listed_referrers(list(10).as_bytes()).is_some());
    assert!(is_index(list(MAX_LISTED_VALUES).as_bytes()));
    assert!(listed_referrers(list(MAX_LISTED_VALUES).as_bytes()).is_none());
    assert!(!is_index(br#"{"layers":[]}"#) && !is_index(b"no JSON"));
}
