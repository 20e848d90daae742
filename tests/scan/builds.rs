//! How images were built: lines of Dockerfiles, base images, and what is only claimed of them.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::support::{findings, layersift, text};

fn recorded(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("testdata/recordings/buildkit/images/{name}.oci.tar.xz"))
}

/// The recorded image as an archive that is not compressed.
fn unpacked(folder: &Path, name: &str) -> PathBuf {
    let mut bytes = Vec::new();
    let file = fs::File::open(recorded(name)).unwrap();
    liblzma::read::XzDecoder::new(file).read_to_end(&mut bytes).unwrap();
    let path = folder.join(format!("{name}.tar"));
    fs::write(&path, bytes).unwrap();
    path
}

/// The Dockerfile of a worked example, as a file in `folder`.
fn dockerfile(folder: &Path, example: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/recordings/buildkit").join(example);
    let example: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let lines = example["dockerfile_lines"].as_object().unwrap();
    let text: String =
        (1..=lines.len()).map(|line| lines[&line.to_string()].as_str().unwrap().to_string() + "\n").collect();
    let path = folder.join("Dockerfile");
    fs::write(&path, text).unwrap();
    path
}

fn scan(target: &Path, flags: &[&str]) -> Value {
    layersift(&[&["scan", "--format", "json", text(target)], flags].concat()).expect(1).json()
}

fn lines(report: &Value) -> Vec<Value> {
    let line = |layer: &Value| json!([layer["step"]["line"], layer["step"]["end_line"]]);
    report["layers"].as_array().unwrap().iter().map(line).collect()
}

/// The finding in the file `path`.
fn in_file<'r>(report: &'r Value, path: &str) -> &'r Value {
    findings(report).iter().find(|finding| finding["path"] == path).unwrap_or_else(|| panic!("{report}"))
}

#[test]
fn a_finding_names_the_line_that_the_provenance_claims() {
    let report = scan(&recorded("linemap-provenance-v1-max"), &[]);
    assert_eq!(lines(&report)[3..], [json!([18, 18]), json!([19, 20]), json!([21, 24]), json!([25, 25])]);
    let found = in_file(&report, "srv/npmrc");
    assert_eq!(found["origin"], "own");
    let step = &found["step"];
    assert_eq!((&step["file"], &step["line"], &step["end_line"]), (&json!("Dockerfile"), &json!(19), &json!(20)));
    assert_eq!((&step["evidence"], &step["stage"]), (&json!("provenance"), &json!("2")));
    let base = &report["image"]["base"];
    assert_eq!((&base["layers"], &base["evidence"]), (&json!(1), &json!("provenance")));
    assert_eq!(base.get("is_proven"), None, "a provenance is a claim");
    assert_eq!((&report["layers"][0]["origin"], &report["layers"][1]["origin"]), (&json!("base"), &json!("own")));
    let run = layersift(&["scan", text(&recorded("linemap-provenance-v1-max"))]).expect(1);
    for part in
        ["Dockerfile:19-20 (claimed)", "Based on 127.0.0.1:18300/base:1, the first layer, claimed by the provenance"]
    {
        assert!(run.stdout.contains(part), "{part}: {}", run.stdout);
    }
}

#[test]
fn a_field_of_the_configuration_names_its_line() {
    let report = scan(&recorded("places-provenance-max"), &[]);
    let in_config = |start: &str| {
        let is_it = |finding: &&Value| finding["config"].as_str().is_some_and(|field| field.starts_with(start));
        findings(&report).iter().find(is_it).unwrap_or_else(|| panic!("{start}: {report}"))
    };
    assert_eq!(in_config("Env[")["step"]["line"], 21);
    assert_eq!(in_config("Env[")["origin"], "own");
    assert_eq!(in_config("Labels.org.example.token")["step"]["line"], 22);
    // A secret in the Dockerfile itself, in a stage that was not built.
    let is_unbuilt = |finding: &&Value| finding["document"]["kind"] == "provenance" && finding["line"] == 14;
    let unbuilt = findings(&report).iter().find(is_unbuilt).unwrap();
    assert_eq!((&unbuilt["step"]["line"], &unbuilt["step"]["stage"]), (&json!(14), &json!("unreachable")));
}

#[test]
fn a_dockerfile_gives_lines_without_a_provenance() {
    let folder = tempfile::tempdir().unwrap();
    let file = dockerfile(folder.path(), "line-map-linemap.json");
    let report = scan(&recorded("linemap-no-attestation-plain-manifest"), &["--dockerfile", text(&file)]);
    let own = [[15, 15], [16, 17], [18, 18], [19, 20], [21, 24], [25, 25]];
    assert_eq!(lines(&report)[1..], own.map(|lines| json!(lines)));
    assert_eq!(in_file(&report, "srv/npmrc")["step"]["evidence"], "option");
    assert_eq!(report["image"]["base"]["layers"], 1);
    fs::write(&file, "FROM x\nRUN another thing\n").unwrap();
    let report = scan(&recorded("linemap-no-attestation-plain-manifest"), &["--dockerfile", text(&file)]);
    assert!(report["layers"].as_array().unwrap().iter().all(|layer| layer.get("step").is_none()), "{report}");
    assert!(report["image"]["notes"][0].as_str().unwrap().contains("do not match the history"), "{report}");
}

#[test]
fn a_base_image_that_was_read_can_be_allowed_and_a_claimed_one_cannot() {
    let folder = tempfile::tempdir().unwrap();
    let base = unpacked(folder.path(), "linemap-no-attestation-plain-manifest");
    let image = recorded("onbase-link-heredocs-empty-layers");
    let policy = folder.path().join("policy.toml");
    let digest = scan(&base, &[])["image"]["manifest_digest"].as_str().unwrap().to_string();
    let allow = format!("[[allow]]\nbase = \"{digest}\"\nreason = 'known'\nexpires = 2099-12-31\n");
    fs::write(&policy, allow).unwrap();
    let flags = ["--policy", text(&policy), "--base", text(&base)];
    let report = layersift(&[&["scan", "--format", "json", text(&image)], &flags[..]].concat()).json();
    let found = in_file(&report, "srv/npmrc");
    assert_eq!((&found["origin"], &found["allowed"]["reason"]), (&json!("base"), &json!("known")));
    let known = &report["image"]["base"];
    assert_eq!(
        (&known["is_proven"], &known["layers"], &known["evidence"]),
        (&json!(true), &json!(7), &json!("option"))
    );
    let report = scan(&image, &flags[..2]);
    let found = in_file(&report, "srv/npmrc");
    assert_eq!((&found["origin"], found.get("allowed")), (&json!("base"), None), "the provenance only claims it");
    let report = scan(&image, &["--base", text(&unpacked(folder.path(), "places-provenance-max"))]);
    let notes = report["image"]["notes"].to_string();
    assert!(notes.contains("does not begin with the layers of the base image"), "{notes}");
}

#[test]
fn an_image_of_the_store_is_a_proven_base() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store.db");
    let flags = ["--store", text(&store)];
    let image = recorded("onbase-link-heredocs-empty-layers");
    assert_eq!(scan(&image, &flags)["image"]["base"]["evidence"], "provenance");
    let base = scan(&recorded("linemap-no-attestation-plain-manifest"), &flags);
    let known = scan(&image, &flags)["image"]["base"].clone();
    assert_eq!((&known["evidence"], &known["is_proven"], &known["layers"]), (&json!("store"), &json!(true), &json!(7)));
    assert_eq!(known["digest"], base["image"]["manifest_digest"]);
}

#[test]
fn one_layer_of_buildah_has_no_line() {
    let folder = tempfile::tempdir().unwrap();
    let file = dockerfile(folder.path(), "line-map-places.json");
    let report = scan(&recorded("buildah-places-one-layer"), &["--dockerfile", text(&file)]);
    assert!(report["layers"].as_array().unwrap().iter().all(|layer| layer.get("step").is_none()), "{report}");
    assert!(report["image"]["notes"].to_string().contains("without --layers"), "{}", report["image"]["notes"]);
    let base = &report["image"]["base"];
    assert_eq!((&base["reference"], base.get("is_proven")), (&json!("127.0.0.1:18300/base:b"), None));
}
