//! Configurations, manifests, indexes and attestations.

use layersift_model::{Digest, Location};
use layersift_scrub::{Request, Staging, scrub, write_docker_archive, write_oci_archive, write_oci_layout};
use serde_json::{Value, json};

use crate::support::{
    INDEX, MANIFEST, Memory, SECRET, Tar, digest_of, finding, found, has, refusal, without, without_secret,
};

/// Adds BuildKit's attestation of the image `subject`; gives its descriptor.
fn attestation(memory: &mut Memory, subject: &Value, statement: &str) -> Value {
    let config = json!({ "os": "unknown", "architecture": "unknown",
        "rootfs": { "type": "layers", "diff_ids": [Digest::of(statement.as_bytes()).to_string()] } });
    let config = memory.descriptor("application/vnd.oci.image.config.v1+json", config.to_string().as_bytes());
    let layer = memory.descriptor("application/vnd.in-toto+json", statement.as_bytes());
    let manifest = json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer] });
    let mut descriptor = memory.descriptor(MANIFEST, manifest.to_string().as_bytes());
    descriptor["platform"] = json!({ "os": "unknown", "architecture": "unknown" });
    descriptor["annotations"] = json!({
        "vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": subject["digest"] });
    descriptor
}

fn image(memory: &mut Memory, tar: Tar, architecture: &str) -> Value {
    let tar = tar.finish();
    let config = json!({ "os": "linux", "architecture": architecture });
    let mut descriptor = memory.image(&[(tar.clone(), tar, "")], config);
    descriptor["platform"] = json!({ "os": "linux", "architecture": architecture });
    descriptor
}

fn index(memory: &mut Memory, entries: &[Value]) -> Value {
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": entries });
    memory.descriptor(INDEX, index.to_string().as_bytes())
}

#[test]
fn secrets_in_configuration_and_history_are_masked() {
    let config = json!({
        "os": "linux", "config": { "Env": [format!("KEY={SECRET}"), "A=1"], "Cmd": ["sh"] },
        "history": [{ "created_by": format!("RUN curl -H 'X: {SECRET}' https://a.example") }, { "empty_layer": true }],
    });
    let image = Memory::with_config(vec![Tar::new().file("a", "a")], config.clone());
    let result = without_secret(&image, vec![finding(SECRET, Location::Config("Env[0]".into()))], &[]).unwrap();
    let masked = config.to_string().replace(SECRET, &"x".repeat(SECRET.len()));
    let (expected, mut written) = (serde_json::from_str::<Value>(&masked).unwrap(), result.image.config());
    written.as_object_mut().unwrap().remove("rootfs");
    assert_eq!(written, expected);
    assert_eq!(result.image.manifest()["layers"], image.manifest()["layers"]);
    let paths: Vec<&str> = result.scrubbed.changes.places.iter().map(|place| &place.path[..]).collect();
    assert_eq!(paths, ["config.Env[0]", "history[0].created_by"]);
    assert!(!serde_json::to_string(&result.scrubbed.changes).unwrap().contains(SECRET));
}

#[test]
fn all_platforms_of_an_index_are_done_and_what_did_not_change_stays() {
    let mut memory = Memory::default();
    let dirty = image(&mut memory, Tar::new().file("key", "k").file("b", "b"), "amd64");
    let clean = image(&mut memory, Tar::new().file("c", "c"), "arm64");
    let about_dirty = attestation(&mut memory, &dirty, "{}");
    let about_clean = attestation(&mut memory, &clean, r#"{"a":1}"#);
    let root = index(&mut memory, &[dirty, clean.clone(), about_dirty.clone(), about_clean.clone()]);
    let result = without(&memory.rooted(&root), &["key"]).unwrap();
    let written = result.image.json(&result.scrubbed.digest);
    let entries = written["manifests"].as_array().unwrap();
    assert_eq!(entries.len(), 3);
    assert_eq!(entries[0]["platform"]["architecture"], "amd64");
    assert_eq!(entries[1..], [clean, about_clean]);
    let [dropped] = &result.scrubbed.changes.dropped[..] else { panic!("one attestation is dropped") };
    assert_eq!(dropped.digest, digest_of(&about_dirty));
    assert_eq!(result.scrubbed.changes.manifests.len(), 2);
}

#[test]
fn an_attestation_that_names_the_secret_is_dropped() {
    let mut memory = Memory::default();
    let clean = image(&mut memory, Tar::new().file("c", "c"), "arm64");
    let statement = format!(r#"{{"args":"{SECRET}"}}"#);
    let about = attestation(&mut memory, &clean, &statement);
    let root = index(&mut memory, &[clean, about]);
    let memory = memory.rooted(&root);
    let findings = vec![finding(SECRET, Location::Config("Env[0]".into()))];
    let result = without_secret(&memory, findings, &[]).unwrap();
    assert!(result.image.blobs.values().all(|blob| !has(blob, SECRET)));
    assert!(result.scrubbed.changes.dropped[0].why.contains("secret"));
    assert!(result.scrubbed.changes.old_blobs().contains(&Digest::of(statement.as_bytes())));
}

#[test]
fn annotations_of_the_old_layer_are_removed_and_those_with_the_secret_masked() {
    let tar = Tar::new().file("key", SECRET).finish();
    let mut memory = Memory::default();
    let descriptor = memory.image(&[(tar.clone(), tar, "")], json!({}));
    let mut manifest = memory.json(&digest_of(&descriptor));
    manifest["layers"][0]["annotations"] =
        json!({ "io.github.containers.zstd-chunked.manifest-checksum": "sha256:0", "title": "t" });
    manifest["annotations"] = json!({ "note": SECRET });
    let root = memory.descriptor(MANIFEST, manifest.to_string().as_bytes());
    let memory = memory.rooted(&root);
    let result = without_secret(&memory, vec![found(&memory, 0, "key", 0, 0)], &[]).unwrap();
    let written = result.image.manifest();
    assert_eq!(written["layers"][0]["annotations"], json!({ "title": "t" }));
    assert_eq!(written["annotations"]["note"], "x".repeat(SECRET.len()));
}

#[test]
fn one_platform_alone_is_written_without_its_index() {
    let mut memory = Memory::default();
    let one = image(&mut memory, Tar::new().file("key", "k").file("b", "b"), "amd64");
    let other = image(&mut memory, Tar::new().file("key", "k2"), "arm64");
    let root = index(&mut memory, &[one.clone(), other.clone()]);
    memory.blobs.remove(&digest_of(&other));
    let memory = memory.rooted(&root);
    let message = refusal(without(&memory, &["key"]));
    assert!(message.contains("--platform"), "{message}");
    let folder = tempfile::tempdir().unwrap();
    let staging = Staging::create(folder.path()).unwrap();
    let request = Request::new(&[], &[], &[b"key".to_vec()]).unwrap();
    let scrubbed = scrub(&memory, "image", &request, Some(&digest_of(&one)), &staging).unwrap();
    assert_eq!(scrubbed.media_type, MANIFEST);
    assert!(scrubbed.single.is_some() && scrubbed.manifests.is_empty());
}

#[test]
fn a_damaged_image_is_refused() {
    let mut image = Memory::of(vec![Tar::new().file("key", "k")]);
    let layer = digest_of(&image.manifest()["layers"][0]);
    image.blobs.insert(layer.clone(), Tar::new().file("key", "other").finish());
    assert!(refusal(without(&image, &["key"])).contains("the digest does not match"));
    image.blobs.remove(&layer);
    assert!(refusal(without(&image, &["key"])).contains("does not contain"));
}

#[test]
fn nothing_is_written_over_and_the_staging_directory_goes() {
    let image = Memory::of(vec![Tar::new().file("key", "k").file("b", "b")]);
    let result = without(&image, &["key"]).unwrap();
    let (staging, folder) = (&result.staging, result.folder.path());
    let place = folder.join("there");
    std::fs::write(&place, "mine").unwrap();
    for write in [write_oci_layout, write_oci_archive, write_docker_archive] {
        assert!(write(staging, &result.scrubbed, &place, None).unwrap_err().to_string().contains("exists already"));
    }
    assert_eq!(std::fs::read(&place).unwrap(), b"mine");
    write_oci_archive(staging, &result.scrubbed, &folder.join("a"), Some("x")).unwrap();
    write_docker_archive(staging, &result.scrubbed, &folder.join("b"), Some("x")).unwrap();
    write_oci_layout(staging, &result.scrubbed, &folder.join("c"), Some("x")).unwrap();
    drop(result.staging);
    let mut left: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["a", "b", "c", "there"]);
}
