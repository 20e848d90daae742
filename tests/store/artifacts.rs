//! Sweeps and scans of what registries hold besides images: charts, signatures, attestations, caches, models.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::artifacts::{self, Artifact};
use crate::support::registry::Setup;
use crate::support::served::serve_artifacts;
use crate::support::server::Answer;
use crate::support::{Run, findings, layersift, layersift_with_input};
use serde_json::{Value, json};

/// A made-up token with the right checksum.
const TOKEN: &str = "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";

fn sweep(host: &str, store: &Path) -> Run {
    let store = store.to_str().unwrap();
    layersift(&["sweep", "registry", host, "--store", store, "--plain-http", "--anonymous", "--format", "json"])
}

fn scan(host: &str, name: &str) -> Run {
    let target = format!("docker://{host}/team/{name}:v1");
    layersift(&["scan", &target, "--plain-http", "--anonymous", "--format", "json"])
}

/// The reports of a scan: one, or one for each image.
fn reports(report: &Value) -> Vec<&Value> {
    report["reports"].as_array().map_or_else(|| vec![report], |all| all.iter().collect())
}

/// Sweeps and scans clean artifacts, each of which passes, and those with a secret, each of which fails.
fn sweep_and_scan(host: &str, artifacts: &[Artifact], is_clean: bool) {
    let directory = tempfile::tempdir().unwrap();
    let store = directory.path().join("store.db");
    let code = if is_clean { 0 } else { 1 };
    for again in [false, true] {
        let run = sweep(host, &store);
        let report = run.json();
        assert_eq!((&report["not_looked_at"], &report["incomplete_images"]), (&json!([]), &json!([])), "{report}");
        let report = run.expect(code).json();
        assert_eq!(report["layers_read"] == json!(0), again, "{report}");
    }
    for artifact in artifacts {
        let report = scan(host, artifact.name).expect(code).json();
        let found: Vec<&Value> = reports(&report).into_iter().flat_map(findings).collect();
        let of_token = found.iter().filter(|finding| finding["rule"] == "github.personal-access-token").count();
        assert_eq!(of_token > 0, !is_clean, "{}: {report}", artifact.name);
        for report in reports(&report) {
            let is_image = artifact.name == "kaniko-cache";
            let kind = if artifact.name.starts_with("buildkit") { json!("cache") } else { json!("artifact") };
            let kind = if is_image { Value::Null } else { kind };
            assert_eq!((&report["image"]["kind"], &report["gaps"]), (&kind, &json!([])), "{}", artifact.name);
        }
    }
    let trace = ["trace", "-", "--store", store.to_str().unwrap()];
    let traced = layersift_with_input(&trace, format!("{TOKEN}\n").into_bytes()).expect(i32::from(is_clean)).stdout;
    for artifact in artifacts.iter().filter(|_| !is_clean) {
        assert!(traced.contains(&format!("team/{}:v1", artifact.name)), "{}: {traced}", artifact.name);
    }
}

#[test]
fn every_kind_of_artifact_is_read() {
    for (text, is_clean) in [("nothing of note", true), (TOKEN, false)] {
        let artifacts = artifacts::all(text);
        let server = serve_artifacts(&artifacts, |_, _, answer| answer);
        sweep_and_scan(&server.host(), &artifacts, is_clean);
    }
}

#[test]
fn a_real_registry_with_artifacts_is_no_different() {
    for (text, is_clean) in [("nothing of note", true), (TOKEN, false)] {
        let mut artifacts = artifacts::all(text);
        artifacts.retain(|artifact| artifact.is_old);
        let server = Setup::default().start();
        artifacts.iter().for_each(|artifact| server.put_artifact(&format!("team/{}", artifact.name), artifact));
        sweep_and_scan(&server.host(), &artifacts, is_clean);
    }
}

#[test]
fn an_index_of_artifacts_is_read_whatever_the_platform() {
    let artifacts = artifacts::all(TOKEN);
    let server = serve_artifacts(&artifacts, |_, _, answer| answer);
    for name in ["referrers", "chart", "wasm", "attestation"] {
        for platform in ["linux/arm64", "all"] {
            let target = format!("docker://{}/team/{name}:v1", server.host());
            let scan = ["scan", &target, "--plain-http", "--anonymous", "--format", "json", "--platform", platform];
            let report = layersift(&scan).expect(1).json();
            assert_eq!(reports(&report).len(), if name == "referrers" { 8 } else { 1 }, "{name} {platform}: {report}");
        }
    }
}

/// Tools do not push what everyone knows.
#[test]
fn the_empty_configuration_need_not_be_there() {
    let artifacts = artifacts::all("nothing of note");
    let empty = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";
    let server = serve_artifacts(&artifacts, move |request, _, answer| match request.path.ends_with(empty) {
        true => Answer::new(404, "{}"),
        false => answer,
    });
    for name in ["oras-files", "oras-annotations", "signature-with-empty-config"] {
        scan(&server.host(), name).expect(0);
    }
}

/// What could not be read once is not a gap for ever.
#[test]
fn a_document_that_was_out_of_reach_is_read_by_the_next_sweep() {
    let artifacts: Vec<Artifact> =
        artifacts::all(TOKEN).into_iter().filter(|artifact| artifact.name == "signature").collect();
    let payload = crate::support::image::digest(&artifacts[0].blobs[0]);
    for status in [404, 500] {
        let (gone, path) = (Arc::new(AtomicBool::new(true)), payload.clone());
        let is_gone = Arc::clone(&gone);
        let server = serve_artifacts(&artifacts, move |request, _, answer| {
            let is_hidden = request.path.ends_with(&path) && is_gone.load(Ordering::Relaxed);
            if is_hidden { Answer::new(status, "{}") } else { answer }
        });
        let directory = tempfile::tempdir().unwrap();
        let store = directory.path().join("store.db");
        let report = sweep(&server.host(), &store).expect(3).json();
        assert_eq!(report["not_looked_at"].as_array().map(Vec::len), Some(1), "{report}");
        gone.store(false, Ordering::Relaxed);
        sweep(&server.host(), &store).expect(1);
    }
}

/// What cannot be read is named, and found out from the store the next time.
#[test]
fn an_artifact_that_is_not_understood_is_a_gap() {
    let archive = [&b"7z\xbc\xaf\x27\x1c\0\x04"[..], &[9; 200]].concat();
    let artifacts = [artifacts::file("archive", "application/x-7z-compressed", &archive)];
    let server = serve_artifacts(&artifacts, |_, _, answer| answer);
    let directory = tempfile::tempdir().unwrap();
    let store = directory.path().join("store.db");
    for layers_read in [1, 0] {
        let report = sweep(&server.host(), &store).expect(3).json();
        let image = &report["incomplete_images"][0];
        assert_eq!((&report["layers_read"], &report["not_looked_at"]), (&json!(layers_read), &json!([])), "{report}");
        assert_eq!(image["gaps"][0]["reason"], "unsupported-archive");
        assert!(image["image"].as_str().is_some_and(|name| name.ends_with("team/archive:v1")), "{image}");
    }
}
