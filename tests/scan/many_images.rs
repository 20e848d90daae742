//! Archives whose many images have the same layers: what their reports take together is bounded, and none passes.

use super::hostile_sizes::token;
use crate::support::image::{Files, Layer, archive, bytes, config, digest};
use crate::support::tar::{Tar, gzip};
use crate::support::{gap_reasons, layersift, text};
use serde_json::{Value, json};

/// What any scan here may take of memory, in KiB: the budget of 256 MiB.
const MEMORY: u64 = 256 << 10;

/// An archive of `images` images with these layers, each of which has a configuration of its own.
fn archive_of(images: usize, layers: &[Layer]) -> Vec<u8> {
    let mut files = Files::new();
    let mut names = Vec::new();
    for (number, layer) in layers.iter().enumerate() {
        files.insert(format!("{number}.tar"), layer.blob.clone());
        names.push(format!("{number}.tar"));
    }
    let mut list = Vec::new();
    for number in 0..images {
        let mut config = config(layers);
        config["config"]["Labels"] = json!({ "number": number.to_string() });
        let config = bytes(&config);
        let name = format!("{}.json", digest(&config).trim_start_matches("sha256:"));
        list.push(json!({ "Config": name, "RepoTags": [format!("app:{number}")], "Layers": names }));
        files.insert(name, config);
    }
    files.insert("manifest.json".into(), bytes(&json!(list)));
    gzip(&archive(&files))
}

/// The reports of the images of an archive, in JSON.
fn reports(archive: &[u8]) -> Vec<Value> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), archive).unwrap();
    let target = format!("docker-archive:{}", text(file.path()));
    let run = layersift(&["scan", "--format", "json", &target]);
    assert!(run.peak_kib < MEMORY, "{} MiB of memory", run.peak_kib >> 10);
    run.json()["reports"].as_array().unwrap().clone()
}

#[test]
fn findings_of_all_images_are_bounded_and_each_image_keeps_the_gravest() {
    let tar = (0..4_000).fold(Tar::new(), |tar, n| tar.file(&format!("{n}"), token(n))).finish();
    let reports = reports(&archive_of(60, &[Layer::plain(tar)]));
    assert_eq!(reports.len(), 60);
    let found = |report: &Value| report["findings"].as_array().unwrap().len();
    assert_eq!(found(&reports[0]), 4_000);
    assert!(gap_reasons(&reports[0]).is_empty());
    let last = &reports[59];
    assert!((1..200).contains(&found(last)), "{}", found(last));
    let dropped = 4_000 - found(last);
    let detail = last["gaps"][0]["detail"].as_str().unwrap();
    assert!(detail.contains(&format!("{dropped} were dropped")), "{detail}");
    assert!(reports.iter().all(|report| report["verdict"] == "fail"), "the verdict does not depend on the place");
}

#[test]
fn images_that_fit_together_are_complete() {
    let tar = (0..50).fold(Tar::new(), |tar, n| tar.file(&format!("{n}"), token(n))).finish();
    let reports = reports(&archive_of(40, &[Layer::plain(tar)]));
    for report in &reports {
        assert_eq!(report["findings"].as_array().unwrap().len(), 50);
        assert!(gap_reasons(report).is_empty(), "{}", report["gaps"]);
    }
}

#[test]
fn the_work_of_joining_is_that_of_all_images() {
    let deep = "d/".repeat(40);
    let secrets = (0..1_000).fold(Tar::new(), |tar, n| tar.file(&format!("{deep}{n}"), token(n))).finish();
    let mut layers = vec![Layer::plain(secrets)];
    layers.extend((0..60).map(|n| Layer::plain(Tar::new().file(&format!("{deep}x{n}"), "").finish())));
    let reports = reports(&archive_of(200, &layers));
    assert!(gap_reasons(&reports[0]).is_empty(), "{}", reports[0]["gaps"]);
    assert_eq!(gap_reasons(&reports[199]).first(), Some(&"too-many-findings"));
    assert!(reports.iter().all(|report| report["verdict"] != "pass"));
}
