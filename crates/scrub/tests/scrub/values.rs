//! What is secret in a value goes with it, and is found in every form: in the new image, and in what else can be pulled
//! by way of the old one.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use layersift_model::{Digest, Finding, ImageReport};
use layersift_scrub::{Changes, HeldKind, Request, Staging, scrub};
use serde_json::{Value, json};

use crate::support::{INDEX, Memory, SECRET, Tar, digest_of, found, found_value, gzip, has, refusal, without_secret};

/// A made-up password that may be another word, and one that is too short to be looked for.
const SHORT: &str = "Zq8vN2mK7wR4";
const TINY: &str = "hunter2";

fn url() -> String {
    format!("postgres://svc:{SECRET}@db.example.org:5432/app")
}

/// Forms of the secret that the bytes of an archive do not show.
fn hidden_forms() -> Vec<(&'static str, Vec<u8>)> {
    let text = format!("some words and {SECRET} and others after it, more of them than before\n");
    let wide: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let digits = STANDARD.encode(&text);
    let lines: Vec<&[u8]> = digits.as_bytes().chunks(28).collect();
    vec![
        ("compressed", gzip(text.as_bytes())),
        ("archive", gzip(&Tar::new().file("notes", &text).finish())),
        ("twice", STANDARD.encode(&digits).into_bytes()),
        ("wide", STANDARD.encode(wide).into_bytes()),
        ("lines", lines.join(&b'\n')),
    ]
}

#[test]
fn the_password_of_a_url_goes_with_it() {
    let image = Memory::of(vec![
        Tar::new().file("app/.env", format!("URL={}\n", url())),
        Tar::new().file("notes", format!("we use {SECRET} here\n")),
    ]);
    let finding = found_value(&url(), &image, 0, "app/.env", 0, 4);
    let result = without_secret(&image, vec![finding], &[]).unwrap();
    assert!(result.image.blobs.values().all(|blob| !has(blob, SECRET)));
    assert_eq!(result.scrubbed.changes.fingerprints.len(), 1);
    // Where it cannot be blanked, nothing is written.
    let encoded = STANDARD.encode(format!("svc:{SECRET}"));
    let image = Memory::of(vec![
        Tar::new().file("app/.env", format!("auth={encoded}\n")),
        Tar::new().file("notes.gz", gzip(format!("we use {SECRET} here\n").as_bytes())),
    ]);
    let finding = found_value(&encoded, &image, 0, "app/.env", 0, 5);
    assert!(refusal(without_secret(&image, vec![finding], &[])).contains("notes.gz"));
}

#[test]
fn what_a_scan_reads_is_searched_in_the_new_image() {
    for (name, bytes) in hidden_forms() {
        let image = Memory::of(vec![
            Tar::new().file("app/.env", format!("K={SECRET}\n")),
            Tar::new().file("etc/os", "x").file(name, bytes),
        ]);
        let message = refusal(without_secret(&image, vec![found(&image, 0, "app/.env", 0, 2)], &[]));
        assert!(message.contains("still in the new image") && message.contains(name), "{name}: {message}");
        assert!(!message.contains(SECRET));
    }
}

#[test]
fn short_values_that_stay_are_said() {
    let image = Memory::of(vec![
        Tar::new().file("app/.env", format!("K={SHORT}\n")),
        Tar::new().file("notes", STANDARD.encode(format!("the password is {SHORT} now"))),
    ]);
    let result = without_secret(&image, vec![found_value(SHORT, &image, 0, "app/.env", 0, 2)], &[]).unwrap();
    assert_eq!((result.scrubbed.short.len(), result.scrubbed.unsearched), (1, 0));
    assert!(result.scrubbed.short[0].contains("notes") && !result.scrubbed.short[0].contains(SHORT));
    let image = Memory::of(vec![Tar::new().file("app/.env", format!("K={TINY}\n"))]);
    let result = without_secret(&image, vec![found_value(TINY, &image, 0, "app/.env", 0, 2)], &[]).unwrap();
    assert_eq!((result.scrubbed.short.len(), result.scrubbed.unsearched), (0, 1));
}

/// An index of an image and of one for another platform.
fn two_platforms(first: Vec<Tar>, other: Vec<Tar>) -> (Memory, Value, Value) {
    let mut memory = Memory::default();
    let mut add = |tars: Vec<Tar>, architecture: &str| {
        let layers: Vec<_> = tars.into_iter().map(Tar::finish).map(|tar| (tar.clone(), tar, "")).collect();
        let mut entry = memory.image(&layers, json!({ "os": "linux", "architecture": architecture }));
        entry["platform"] = json!({ "os": "linux", "architecture": architecture });
        entry
    };
    let (first, other) = (add(first, "amd64"), add(other, "arm64"));
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [first, other] });
    let root = memory.descriptor(INDEX, index.to_string().as_bytes());
    (memory.rooted(&root), first, other)
}

/// The list of changes of the image for the first platform alone.
fn changes_of_one(image: &Memory, first: &Value, findings: Vec<Finding>, paths: &[&str]) -> Changes {
    let folder = tempfile::tempdir().unwrap();
    let staging = Staging::create(folder.path()).unwrap();
    let ids: Vec<String> = findings.iter().map(|finding| finding.id.clone()).collect();
    let paths: Vec<Vec<u8>> = paths.iter().map(|path| path.as_bytes().to_vec()).collect();
    let report = ImageReport { findings, ..ImageReport::default() };
    let request = Request::new(&[report], &ids, &paths).unwrap();
    scrub(image, "image", &request, Some(&digest_of(first)), &staging).unwrap().changes
}

fn layers_of(image: &Memory, entry: &Value) -> Vec<Digest> {
    let manifest = image.json(&digest_of(entry));
    manifest["layers"].as_array().unwrap().iter().map(digest_of).collect()
}

fn held(changes: &Changes, kind: HeldKind) -> Vec<Digest> {
    changes.held.iter().filter(|held| held.kind == kind).map(|held| held.digest.clone()).collect()
}

#[test]
fn another_platform_that_holds_the_value_in_any_form_is_listed() {
    for (name, bytes) in hidden_forms() {
        let env = Tar::new().file("app/.env", format!("K={SECRET}\n"));
        let (image, first, other) = two_platforms(vec![env], vec![Tar::new().file(name, bytes)]);
        let changes = changes_of_one(&image, &first, vec![found(&image, 0, "app/.env", 0, 2)], &[]);
        assert_eq!(held(&changes, HeldKind::Blob), layers_of(&image, &other), "{name}");
        assert!(held(&changes, HeldKind::Manifest).contains(&digest_of(&other)), "{name}");
    }
    let env = Tar::new().file("app/.env", format!("K={SECRET}\n"));
    let (image, first, _) = two_platforms(vec![env], vec![Tar::new().file("a", "a")]);
    let changes = changes_of_one(&image, &first, vec![found(&image, 0, "app/.env", 0, 2)], &[]);
    assert_eq!((held(&changes, HeldKind::Blob), changes.unread), (vec![], vec![]));
}

#[test]
fn a_short_value_on_another_platform_is_listed_or_not_read() {
    let two = |value: &str| {
        let env = || Tar::new().file("app/.env", format!("K={value}\n"));
        two_platforms(vec![env()], vec![env().file("etc/os", "x")])
    };
    let (image, first, other) = two(SHORT);
    let changes = changes_of_one(&image, &first, vec![found_value(SHORT, &image, 0, "app/.env", 0, 2)], &[]);
    assert_eq!(held(&changes, HeldKind::Blob), layers_of(&image, &other));
    let (image, first, other) = two(TINY);
    let changes = changes_of_one(&image, &first, vec![found_value(TINY, &image, 0, "app/.env", 0, 2)], &[]);
    let layer = layers_of(&image, &other)[0].to_string();
    assert!(changes.unread.iter().any(|unread| unread.starts_with(&layer)), "{:?}", changes.unread);
}

#[test]
fn a_removed_file_on_another_platform_is_found_by_its_other_names() {
    let key = "the contents of a file";
    let first = || vec![Tar::new().file("app/key", key)];
    let links = Tar::new().directory("app").symlink("srv", "app");
    let through = vec![links, Tar::new().file("srv/key", key).file("etc/os", "x")];
    let (image, amd, arm) = two_platforms(first(), through);
    let changes = changes_of_one(&image, &amd, Vec::new(), &["app/key"]);
    assert_eq!(held(&changes, HeldKind::Blob), layers_of(&image, &arm)[1..]);
    let linked = vec![Tar::new().file("opt/key", key), Tar::new().hard_link("app/key", "opt/key")];
    let (image, amd, arm) = two_platforms(first(), linked);
    let changes = changes_of_one(&image, &amd, Vec::new(), &["app/key"]);
    let mut expected = layers_of(&image, &arm);
    expected.sort();
    assert_eq!(held(&changes, HeldKind::Blob), expected);
    assert!(held(&changes, HeldKind::Manifest).contains(&digest_of(&arm)));
    let (image, amd, _) = two_platforms(first(), vec![Tar::new().file("opt/key", key)]);
    assert!(held(&changes_of_one(&image, &amd, Vec::new(), &["app/key"]), HeldKind::Blob).is_empty());
}
