//! What is left in places that no report names is found before anything is published.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use layersift_format::compression::Codec;
use layersift_model::Location;
use serde_json::{Value, json};

use crate::support::{
    INDEX, MANIFEST, Memory, SECRET, Tar, finding, found, gzip, has, header, refusal, without, without_secret,
};

/// An image with the secret in a file, and the layer `more` above it.
fn image(more: Vec<u8>) -> Memory {
    let mut memory = Memory::default();
    let first = Tar::new().file("app/.env", format!("K={SECRET}\n")).finish();
    let stored = gzip(&more);
    let layers = [(first.clone(), first, ""), (more, stored, "+gzip")];
    let root = memory.image(&layers, json!({ "architecture": "amd64", "os": "linux" }));
    memory.rooted(&root)
}

fn scrubbed(image: &Memory) -> String {
    refusal(without_secret(image, vec![found(image, 0, "app/.env", 0, 2)], &[]))
}

#[test]
fn bytes_of_a_layer_outside_of_files_are_searched() {
    use tar::EntryType::{Regular, XGlobalHeader, XHeader};
    let mut named = header(Regular, 0);
    named.as_gnu_mut().unwrap().uname[..SECRET.len()].copy_from_slice(SECRET.as_bytes());
    let mut padded = Tar::new().file("a", "a").finish();
    padded[513..513 + SECRET.len()].copy_from_slice(SECRET.as_bytes());
    let after_the_end = [Tar::new().file("a", "a").finish(), SECRET.as_bytes().to_vec()].concat();
    let layers = [
        Tar::new().pax(XGlobalHeader, &[("comment", SECRET)]).file("a", "a").finish(),
        Tar::new().pax(XHeader, &[("SCHILY.xattr.user.token", SECRET)]).file("a", "a").finish(),
        Tar::new().file(&format!("srv/{SECRET}"), "a").finish(),
        Tar::new().symlink("link", &format!("/run/{SECRET}")).finish(),
        {
            named.set_path("a").unwrap();
            Tar::new().raw(named, b"").finish()
        },
        padded,
        after_the_end,
    ];
    for (number, layer) in layers.into_iter().enumerate() {
        let message = scrubbed(&image(layer));
        assert!(message.contains("still in the new image") && !message.contains(SECRET), "{number}: {message}");
        assert!(message.contains("in no file"), "{number}: {message}");
    }
}

#[test]
fn other_forms_of_the_value_in_files_are_searched() {
    let base64 = |lead: &str| STANDARD.encode(format!("{lead}{SECRET}!"));
    let hex: String = SECRET.bytes().map(|byte| format!("{byte:02X}")).collect();
    let escaped: String = SECRET.chars().map(|c| format!("\\u{:04x}", u32::from(c))).collect();
    let wide: Vec<u8> = SECRET.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let texts = [base64(""), base64("x"), base64("xy"), base64("xyz"), hex, escaped];
    for text in texts.iter().map(String::as_bytes).chain([&wide[..]]) {
        let layer = Tar::new().file("srv/other", [b"data ", text, b"\n"].concat()).finish();
        let message = scrubbed(&image(layer));
        assert!(message.contains("in the file srv/other"), "{message}");
    }
    let other = Tar::new().file("srv/other", STANDARD.encode("something else that is as long")).finish();
    let image = image(other);
    without_secret(&image, vec![found(&image, 0, "app/.env", 0, 2)], &[]).unwrap();
}

#[test]
fn what_compression_leaves_aside_is_searched() {
    let plain = Tar::new().file("a", "a").finish();
    let mut commented = flate2::GzBuilder::new().comment(SECRET).read(&plain[..], flate2::Compression::fast());
    let mut stored = Vec::new();
    std::io::Read::read_to_end(&mut commented, &mut stored).unwrap();
    assert_eq!(Codec::detect(&stored), Codec::Gzip);
    let mut memory = Memory::default();
    let first = Tar::new().file("app/.env", format!("K={SECRET}\n")).finish();
    let layers = [(first.clone(), first, ""), (plain, stored, "+gzip")];
    let root = memory.image(&layers, json!({ "architecture": "amd64", "os": "linux" }));
    assert!(scrubbed(&memory.rooted(&root)).contains("of the compressed bytes"));
}

#[test]
fn the_value_of_a_removed_file_is_searched_as_well() {
    let image = image(Tar::new().symlink("link", SECRET).finish());
    let report = layersift_model::ImageReport {
        findings: vec![found(&image, 0, "app/.env", 0, 2)],
        ..layersift_model::ImageReport::default()
    };
    let request = layersift_scrub::Request::new(&[report], &[], &[b"app/.env".to_vec()]).unwrap();
    let message = refusal(crate::support::scrubbed(&image, &request));
    assert!(message.contains("in no file"), "{message}");
    // Without a finding nobody knows what the value is.
    without(&image, &["app/.env"]).unwrap();
}

#[test]
fn labels_and_annotations_of_any_name_are_masked() {
    let labels = json!({ "created": SECRET, "size": SECRET, "digest": SECRET, "os": SECRET, "rootfs": SECRET });
    let config = json!({ "os": "linux", "config": { "Labels": labels, "Env": [format!("K={SECRET}")] } });
    let image = Memory::with_config(vec![Tar::new().file("a", "a")], config);
    let findings = vec![finding(SECRET, Location::Config("Env[0]".into()))];
    let result = without_secret(&image, findings.clone(), &[]).unwrap();
    assert!(result.image.blobs.values().all(|blob| !has(blob, SECRET)));
    // A value where the form of the document has none stays, and so nothing is written.
    let odd = json!({ "os": "linux", "created": SECRET, "config": { "Env": [format!("K={SECRET}")] } });
    let image = Memory::with_config(vec![Tar::new().file("a", "a")], odd);
    assert!(refusal(without_secret(&image, findings, &[])).contains("still in the new image"));
}

/// An index of an image with the secret, of one without it, and of what `add` adds.
fn index(add: impl FnOnce(&mut Memory, &Value) -> Value) -> Memory {
    let mut memory = Memory::default();
    let mut member = |tar: Tar, architecture: &str| {
        let tar = tar.finish();
        let mut entry = memory.image(&[(tar.clone(), tar, "")], json!({ "os": "linux", "architecture": architecture }));
        entry["platform"] = json!({ "os": "linux", "architecture": architecture });
        entry
    };
    let first = member(Tar::new().file("app/.env", format!("K={SECRET}\n")), "amd64");
    let other = member(Tar::new().file("a", "a"), "arm64");
    let added = add(&mut memory, &other);
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [first, other, added] });
    let root = memory.descriptor(INDEX, index.to_string().as_bytes());
    memory.rooted(&root)
}

fn artifact(memory: &mut Memory, media_type: &str, blob: &[u8]) -> Value {
    let config = memory.descriptor("application/vnd.oci.empty.v1+json", b"{}");
    let layer = memory.descriptor(media_type, blob);
    let manifest = json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer] });
    memory.descriptor(MANIFEST, manifest.to_string().as_bytes())
}

#[test]
fn artifacts_and_odd_images_of_an_index_are_searched() {
    let notes = index(|memory, _| artifact(memory, "text/plain", format!("notes {SECRET}\n").as_bytes()));
    assert!(scrubbed(&notes).contains("still in the new image"));
    // Its configuration names fewer layers than it has, so that it is not read as an image.
    let odd = index(|memory, _| {
        let tar = Tar::new().file("app/.env", format!("K={SECRET}\n")).finish();
        let config = json!({ "os": "linux", "architecture": "s390x", "rootfs": { "type": "layers", "diff_ids": [] } });
        let config = memory.descriptor("application/vnd.oci.image.config.v1+json", config.to_string().as_bytes());
        let layer = memory.descriptor("application/vnd.oci.image.layer.v1.tar+gzip", &gzip(&tar));
        let manifest = json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer] });
        memory.descriptor(MANIFEST, manifest.to_string().as_bytes())
    });
    assert!(scrubbed(&odd).contains("in the file app/.env"));
}

#[test]
fn an_attestation_with_the_value_in_base64_is_dropped() {
    let dockerfile = STANDARD.encode(format!("FROM x\nRUN echo {SECRET}\n"));
    let statement = json!({ "predicate": { "source": { "data": dockerfile } } }).to_string();
    let envelope = json!({ "payload": STANDARD.encode(&statement), "payloadType": "application/vnd.in-toto+json" });
    for blob in [statement, envelope.to_string()] {
        let image = index(|memory, other| {
            let mut entry = artifact(memory, "application/vnd.in-toto+json", blob.as_bytes());
            entry["platform"] = json!({ "os": "unknown", "architecture": "unknown" });
            entry["annotations"] = json!({
                "vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": other["digest"] });
            entry
        });
        let findings = vec![found(&image, 0, "app/.env", 0, 2)];
        let result = without_secret(&image, findings, &[]).unwrap();
        assert_eq!(result.scrubbed.changes.dropped.len(), 1);
        assert!(result.scrubbed.changes.dropped[0].why.contains("holds a secret"));
    }
}
