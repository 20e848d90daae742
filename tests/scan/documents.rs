//! Documents of an image other than its configuration: annotations, attestations, artifacts and caches.

use serde_json::{Value, json};

use crate::support::image::{
    CONFIG, Files, INDEX, LAYER, Layer, MANIFEST, archive, blob_path, bytes, config, descriptor, digest, index,
    manifest, oci_with, write_directory,
};
use crate::support::tar::{Tar, zstd};
use crate::support::{Run, findings, gap_reasons, layersift, text};

/// A made-up token with the right checksum.
const TOKEN: &str = "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";

const IN_TOTO: &str = "application/vnd.in-toto+json";

fn layer() -> Layer {
    Layer::plain(Tar::new().file("etc/motd", "nothing to see\n").finish())
}

fn scan(files: &Files, flags: &[&str]) -> Run {
    let folder = tempfile::tempdir().unwrap();
    write_directory(folder.path(), files);
    layersift(&[&["scan", "--format", "json", text(folder.path())], flags].concat())
}

fn add(files: &mut Files, document: &Value) -> Value {
    let document = bytes(document);
    let entry = descriptor(MANIFEST, &document);
    files.insert(blob_path(&document), document);
    entry
}

/// The only finding of the token, in a report without gaps.
#[track_caller]
fn only(run: Run) -> Value {
    let report = run.expect(1).json();
    assert_eq!(gap_reasons(&report), [""; 0], "{}", report["gaps"]);
    let found: Vec<&Value> =
        findings(&report).iter().filter(|finding| finding["rule"] == "github.personal-access-token").collect();
    assert_eq!(found.len(), 1, "{report}");
    found[0].clone()
}

fn image(files: &mut Files, annotations: &Value) -> Value {
    let layer = layer();
    let config = bytes(&config(std::slice::from_ref(&layer)));
    let mut document = manifest(&config, std::slice::from_ref(&layer));
    document["annotations"] = annotations.clone();
    files.extend(oci_with(&bytes(&document), &config, &[layer]));
    let mut entry = descriptor(MANIFEST, &bytes(&document));
    entry["platform"] = json!({ "os": "linux", "architecture": "amd64" });
    entry
}

/// A layout whose only entry is an index of `entries`.
fn with_index(mut files: Files, entries: &[Value], annotations: &Value) -> Files {
    let mut inner = index(entries);
    inner["annotations"] = annotations.clone();
    let inner = bytes(&inner);
    files.insert("index.json".into(), bytes(&index(&[descriptor(INDEX, &inner)])));
    files.insert(blob_path(&inner), inner);
    files
}

#[test]
fn annotations_are_read() {
    let none = json!({});
    let token = json!({ "org.example.note": format!("see {TOKEN}") });
    let mut files = Files::new();
    let entry = image(&mut files, &token);
    let found = only(scan(&with_index(files, &[entry], &none), &[]));
    let document = &found["document"];
    assert_eq!(
        (&document["kind"], &document["json_path"]),
        (&json!("manifest"), &json!("annotations.org.example.note"))
    );
    let mut files = Files::new();
    let entry = image(&mut files, &none);
    let found = only(scan(&with_index(files, &[entry], &token), &[]));
    assert_eq!(found["document"]["kind"], "index");
    let mut files = Files::new();
    let mut entry = image(&mut files, &none);
    entry["annotations"] = token;
    let found = only(scan(&with_index(files, &[entry], &none), &[]));
    assert_eq!(found["document"]["json_path"], "manifests[0].annotations.org.example.note");
}

/// An attestation of the image `of`, with `statement`.
fn attestation(files: &mut Files, of: &Value, statement: &Value, predicate: &str) -> Value {
    let statement = bytes(statement);
    let mut blob = descriptor(IN_TOTO, &statement);
    blob["annotations"] = json!({ "in-toto.io/predicate-type": predicate });
    let config = bytes(&json!({ "architecture": "unknown", "os": "unknown", "config": {} }));
    let document = json!({ "schemaVersion": 2, "config": descriptor(CONFIG, &config), "layers": [blob] });
    files.insert(blob_path(&statement), statement);
    files.insert(blob_path(&config), config);
    let mut entry = add(files, &document);
    entry["platform"] = json!({ "os": "unknown", "architecture": "unknown" });
    entry["annotations"] = json!({
        "vnd.docker.reference.type": "attestation-manifest",
        "vnd.docker.reference.digest": of["digest"],
    });
    entry
}

fn base64(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}

#[test]
fn attestations_are_read_and_a_secret_is_one_finding() {
    let dockerfile = format!("FROM scratch\n# {TOKEN}\nCOPY a /a\n");
    let step = json!({ "env": [format!("TOKEN={TOKEN}")] });
    let statement = json!({
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": { "steps": [step, step, step], "source": { "data": base64(&dockerfile) } },
    });
    let mut files = Files::new();
    let entry = image(&mut files, &json!({}));
    let attested = attestation(&mut files, &entry, &statement, "https://slsa.dev/provenance/v1");
    let asked = attested["digest"].as_str().unwrap().to_string();
    let files = with_index(files, &[entry, attested.clone()], &json!({}));
    for flags in [&[][..], &["--platform", "all"], &["--platform", "linux/amd64"]] {
        let found = only(scan(&files, flags));
        assert_eq!((&found["document"]["kind"], &found["line"]), (&json!("provenance"), &json!(2)), "{found}");
        assert_eq!(found["document"]["json_path"], "predicate.source.data");
    }
    // The attestation alone.
    let mut alone = files;
    alone.insert(
        "index.json".into(),
        bytes(&index(&[json!({
            "mediaType": MANIFEST, "digest": asked, "size": attested["size"],
        })])),
    );
    assert_eq!(only(scan(&alone, &[]))["document"]["media_type"], IN_TOTO);
}

#[test]
fn a_bill_of_materials_is_read() {
    let statement = json!({ "predicate": { "name": TOKEN } });
    let mut files = Files::new();
    let entry = image(&mut files, &json!({}));
    let attested = attestation(&mut files, &entry, &statement, "https://spdx.dev/Document");
    let found = only(scan(&with_index(files, &[entry, attested], &json!({})), &[]));
    assert_eq!(found["document"]["kind"], "sbom");
}

#[test]
fn an_attestation_that_was_not_copied_is_no_gap() {
    let mut files = Files::new();
    let entry = image(&mut files, &json!({}));
    let attested = attestation(&mut files, &entry, &json!({}), "https://slsa.dev/provenance/v1");
    let digest = attested["digest"].as_str().unwrap().replace("sha256:", "blobs/sha256/");
    let mut files = with_index(files, &[entry, attested], &json!({}));
    files.remove(&digest);
    let report = scan(&files, &[]).expect(0).json();
    assert!(report["image"]["notes"][0].as_str().unwrap().contains("attestation"), "{report}");
}

/// The layout of an artifact with these blobs, each with its media type and title.
fn artifact(config: &[u8], config_type: &str, blobs: &[(&str, &str, Vec<u8>)]) -> Files {
    let layer = |(media_type, title, blob): &(&str, &str, Vec<u8>)| {
        let mut layer = descriptor(media_type, blob);
        layer["annotations"] = json!({ "org.opencontainers.image.title": title });
        layer
    };
    let layers: Vec<Value> = blobs.iter().map(layer).collect();
    let document = json!({ "schemaVersion": 2, "config": descriptor(config_type, config), "layers": layers });
    let mut files = oci_with(&bytes(&document), config, &[]);
    files.extend(blobs.iter().map(|(_, _, blob)| (blob_path(blob), blob.clone())));
    files
}

#[test]
fn the_blobs_of_an_artifact_are_files() {
    let secret = format!("TOKEN={TOKEN}\n").into_bytes();
    let chart = Tar::new().file("chart/values.yaml", &secret).finish();
    for (media_type, title, blob, path, inside) in [
        ("application/vnd.example.file", "notes/env.txt", secret, "notes/env.txt", json!([])),
        (
            "application/vnd.cncf.helm.chart.content.v1.tar",
            "chart.tar",
            chart,
            "chart.tar",
            json!(["chart/values.yaml"]),
        ),
    ] {
        let files = artifact(b"{}", "application/vnd.example.config", &[(media_type, title, blob)]);
        let run = scan(&files, &[]);
        let found = only(run);
        assert_eq!((&found["path"], &found["inside"], &found["state"]), (&json!(path), &inside, &json!("present")));
    }
}

#[test]
fn an_artifact_has_no_findings_of_a_configuration() {
    let files = artifact(b"{}", "application/vnd.oci.empty.v1+json", &[("text/plain", "a", b"nothing".to_vec())]);
    let report = scan(&files, &[]).expect(0).json();
    assert_eq!((findings(&report).len(), &report["image"]["kind"]), (0, &json!("artifact")));
    // A bill of materials that ko pushes as an image.
    let config =
        bytes(&json!({ "architecture": "", "os": "", "rootfs": { "type": "layers", "diff_ids": [digest(b"{}")] } }));
    let files = artifact(&config, CONFIG, &[("text/spdx+json", "", b"{}".to_vec())]);
    let report = scan(&files, &[]).expect(0).json();
    assert_eq!((findings(&report).len(), gap_reasons(&report).len()), (0, 0), "{report}");
}

#[test]
fn an_image_is_an_image_whatever_its_media_types_say() {
    let layer = Layer::plain(Tar::new().file("app/env", format!("TOKEN={TOKEN}\n")).finish());
    let config = bytes(&config(std::slice::from_ref(&layer)));
    let mut document = manifest(&config, std::slice::from_ref(&layer));
    document["config"]["mediaType"] = json!("application/vnd.example.config");
    let report = scan(&oci_with(&bytes(&document), &config, &[layer]), &[]).expect(1).json();
    assert_eq!(report["image"]["kind"], Value::Null);
    assert_eq!(report["findings"][0]["path"], "app/env");
}

#[test]
fn a_layer_that_is_no_archive_is_read_and_a_gap() {
    let blob = format!("TOKEN={TOKEN}\n").into_bytes();
    for media_type in
        ["application/vnd.oci.image.layer.nydus.blob.v1", "application/vnd.oci.image.layer.v1.tar+encrypted"]
    {
        let layer = Layer { diff_id: digest(&blob), blob: blob.clone(), media_type: media_type.into() };
        let config = bytes(&config(std::slice::from_ref(&layer)));
        let document = manifest(&config, std::slice::from_ref(&layer));
        let report = scan(&oci_with(&bytes(&document), &config, &[layer]), &[]).expect(1).json();
        assert_eq!(gap_reasons(&report), ["not-a-tar"]);
        assert!(report["gaps"][0]["detail"].as_str().unwrap().contains(media_type));
    }
}

#[test]
fn the_layers_of_a_cache_do_not_lie_on_each_other() {
    let first = Layer::plain(Tar::new().file("app/env", format!("TOKEN={TOKEN}\n")).finish());
    let second = Layer::plain(Tar::new().whiteout("app/env").finish());
    let layers = [&second, &first];
    let tree = json!({ "layers": [
        { "blob": digest(&second.blob), "parent": 1 },
        { "blob": digest(&first.blob), "parent": -1 },
    ] });
    let config = bytes(&tree);
    let of_config = descriptor("application/vnd.buildkit.cacheconfig.v0", &config);
    let of_layers: Vec<Value> = layers.iter().map(|layer| descriptor(LAYER, &layer.blob)).collect();
    let as_manifest = json!({ "schemaVersion": 2, "config": of_config, "layers": of_layers });
    let as_index = index(&[of_layers, vec![of_config]].concat());
    for document in [as_manifest, as_index] {
        let mut files = oci_with(&bytes(&document), &config, &[]);
        files.extend(layers.iter().map(|layer| (blob_path(&layer.blob), layer.blob.clone())));
        let run = scan(&files, &[]);
        let report = run.expect(1).json();
        assert_eq!((gap_reasons(&report).len(), &report["image"]["kind"]), (0, &json!("cache")));
        assert_eq!(report["findings"].as_array().unwrap().len(), 1, "no findings of a configuration");
        assert_eq!(
            (&report["findings"][0]["state"], &report["findings"][0]["layer"]["index"]),
            (&json!("present"), &json!(0))
        );
    }
}

/// An index of two images, whose platforms are those of the index, and `said` in the configuration.
fn two_platforms(said: [&str; 2]) -> Files {
    let mut files = Files::new();
    let mut entries = Vec::new();
    for (platform, said, content) in [("amd64", said[0], "nothing"), ("arm64", said[1], TOKEN)] {
        let layer = Layer::plain(Tar::new().file("app/env", content).finish());
        let mut config = config(std::slice::from_ref(&layer));
        config["architecture"] = json!(said);
        let config = bytes(&config);
        let document = bytes(&manifest(&config, std::slice::from_ref(&layer)));
        files.extend(oci_with(&document, &config, &[layer]));
        let mut entry = descriptor(MANIFEST, &document);
        entry["platform"] = json!({ "os": "linux", "architecture": platform });
        entries.push(entry);
    }
    with_index(files, &entries, &json!({}))
}

#[test]
fn the_index_chooses_the_platform() {
    for said in [["amd64", "arm64"], ["arm64", "amd64"], ["amd64", "amd64"]] {
        let files = two_platforms(said);
        for platform in ["linux/arm64", "arm64", "linux/aarch64", "linux/arm64/v8"] {
            let found = scan(&files, &["--platform", platform]).expect(1).json();
            assert_eq!(found["image"]["platform"], "linux/arm64", "{said:?} {platform}");
            assert_eq!(found["image"]["other_platforms"], json!(["linux/amd64"]));
            assert_eq!(found["image"]["notes"].is_null(), said[1] == "arm64");
        }
        let report = scan(&files, &["--platform", "linux/amd64"]).expect(0).json();
        assert_eq!(report["image"]["other_platforms"], json!(["linux/arm64"]));
    }
    let other = scan(&two_platforms(["amd64", "riscv64"]), &["--platform", "linux/riscv64"]).expect(1).json();
    assert!(other["image"]["notes"][0].as_str().unwrap().contains("linux/riscv64"), "by the configuration, and said");
}

#[test]
fn an_entry_without_a_platform_is_read_where_skopeo_would_take_it() {
    // skopeo knows neither the spelling of the first entry nor the architecture of the second.
    for (platform, said) in [(json!({ "os": "LINUX", "architecture": "amd64" }), "odd"), (Value::Null, "odd")] {
        let mut files = two_platforms(["amd64", said]);
        let name = |entry: &Value| entry["digest"].as_str().unwrap().replace("sha256:", "blobs/sha256/");
        let outer: Value = serde_json::from_slice(&files["index.json"]).unwrap();
        let mut inner: Value = serde_json::from_slice(&files[&name(&outer["manifests"][0])]).unwrap();
        inner["manifests"].as_array_mut().unwrap().reverse();
        for (entry, platform) in inner["manifests"].as_array_mut().unwrap().iter_mut().zip([Value::Null, platform]) {
            entry["platform"] = platform;
        }
        let inner = bytes(&inner);
        files.insert("index.json".into(), bytes(&index(&[descriptor(INDEX, &inner)])));
        files.insert(blob_path(&inner), inner);
        let run = scan(&files, &["--platform", "linux/amd64"]).expect(1).json();
        assert_eq!(run["reports"].as_array().map(Vec::len), Some(2), "{run}");
    }
}

#[test]
fn the_verdict_says_which_platforms_were_not_read() {
    let folder = tempfile::tempdir().unwrap();
    write_directory(folder.path(), &two_platforms(["amd64", "arm64"]));
    let run = layersift(&["scan", "--platform", "linux/amd64", text(folder.path())]).expect(0);
    let first = run.stdout.lines().next().unwrap();
    assert!(first.contains("linux/amd64") && first.contains("1 other platform not read, --platform all"), "{first}");
}

#[test]
fn platforms_that_were_not_exported_are_absent_and_no_gap() {
    let mut files = two_platforms(["amd64", "arm64"]);
    let amd64: Vec<String> = files
        .iter()
        .filter(|(_, bytes)| serde_json::from_slice::<Value>(bytes).is_ok_and(|json| json["layers"].is_array()))
        .map(|(name, _)| name.clone())
        .collect();
    let index: Value = {
        let outer: Value = serde_json::from_slice(&files["index.json"]).unwrap();
        let name = outer["manifests"][0]["digest"].as_str().unwrap().replace("sha256:", "blobs/sha256/");
        serde_json::from_slice(&files[&name]).unwrap()
    };
    let absent = index["manifests"][0]["digest"].as_str().unwrap().replace("sha256:", "blobs/sha256/");
    assert!(amd64.contains(&absent));
    files.remove(&absent);
    let all = scan(&files, &["--platform", "all"]).expect(1).json();
    assert!(all["image"]["notes"][0].as_str().unwrap().contains("linux/amd64"), "{all}");
    assert_eq!(gap_reasons(&scan(&files, &["--platform", "linux/amd64"]).expect(3).json()), ["missing-blob"]);
}

#[test]
fn a_gap_in_a_blob_names_it() {
    let blob = [&b"7z\xbc\xaf\x27\x1c\0\x04"[..], &[9; 200]].concat();
    let files = artifact(b"{}", "application/vnd.oci.empty.v1+json", &[("application/x-7z", "notes.7z", blob)]);
    let report = scan(&files, &[]).expect(3).json();
    assert_eq!((gap_reasons(&report), &report["gaps"][0]["path"]), (vec!["unsupported-archive"], &json!("notes.7z")));
}

#[test]
fn documents_of_a_compressed_archive_permit_work_by_its_bytes() {
    let layers = [layer()];
    let config = bytes(&config(&layers));
    let mut manifest = manifest(&config, &layers);
    manifest["annotations"] = json!({ "a": "key ".repeat(7 << 18), "b": format!("T={TOKEN}") });
    let plain = archive(&oci_with(&bytes(&manifest), &config, &layers));
    let folder = tempfile::tempdir().unwrap();
    let (image, compressed) = (folder.path().join("image.tar"), folder.path().join("image.tar.zst"));
    std::fs::write(&image, &plain).unwrap();
    std::fs::write(&compressed, zstd(&plain)).unwrap();
    only(layersift(&["scan", "--format", "json", text(&image)]));
    let report = layersift(&["scan", "--format", "json", text(&compressed)]).expect(3).json();
    assert_eq!(gap_reasons(&report), ["document-too-large"], "{}", report["gaps"]);
}
