//! Archives whose many images have the same layers: what their reports take together is bounded, and none passes.

use super::hostile_sizes::token;
use crate::support::image::{Files, Layer, archive, bytes, config, digest};
use crate::support::tar::{Tar, gzip};
use crate::support::{Run, findings, gap_reasons, layersift, text};
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

/// Runs `command` on an archive.
fn run(command: &[&str], archive: &[u8]) -> Run {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), archive).unwrap();
    let target = format!("docker-archive:{}", text(file.path()));
    let run = layersift(&[command, &[&target]].concat());
    assert!(run.peak_kib < MEMORY, "{} MiB of memory", run.peak_kib >> 10);
    run
}

/// The reports of the images of an archive, in JSON.
fn reports(archive: &[u8]) -> Vec<Value> {
    run(&["scan", "--format", "json"], archive).json()["reports"].as_array().unwrap().clone()
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

#[test]
fn findings_in_hard_links_are_bounded_for_all_layers_of_an_image() {
    let secrets: String = (0..50).map(|n| token(n) + "\n").collect();
    let mut layers = vec![Layer::plain(Tar::new().file("f", secrets).finish())];
    let links = |layer: usize| (0..500).fold(Tar::new(), |tar, n| tar.hard_link(&format!("{layer}/{n}"), "f"));
    layers.extend((0..20).map(|layer| Layer::plain(links(layer).finish())));
    let report = run(&["scan", "--format", "json"], &archive_of(1, &layers)).json();
    let (kept, all) = (findings(&report).len(), 50 + 20 * 500 * 50);
    assert!((5_000..11_000).contains(&kept), "{kept}");
    // One is about the configuration.
    let in_files = findings(&report).iter().filter(|finding| !finding["path"].is_null()).count();
    let dropped = format!("{} were dropped", all - in_files);
    assert!(report["gaps"].to_string().contains(&dropped), "{dropped}: {}", report["gaps"]);
}

#[test]
fn a_target_whose_images_name_too_many_layers_is_refused() {
    let layers = vec![Layer::plain(Tar::new().file("f", "x").finish()); 300];
    for command in ["scan", "sbom"] {
        assert_eq!(reports(&archive_of(100, &layers)).len(), 100);
        let run = run(&[command, "--platform", "all"], &archive_of(101, &layers)).expect(2);
        assert!(run.stderr.contains("its images name more than 30000 layers in all"), "{}", run.stderr);
    }
}

#[test]
fn gaps_of_layers_are_work_of_all_images() {
    let damaged = &gzip(b"x".repeat(100).as_slice())[..20];
    let layer = Layer::plain((0..1_000).fold(Tar::new(), |tar, n| tar.file(&format!("{n}.gz"), damaged)).finish());
    let archive = archive_of(140, &vec![layer; 50]);
    let reports = reports(&archive);
    assert!(gap_reasons(&reports[0]).contains(&"damaged-compression"));
    let last = &reports[139]["gaps"];
    assert!(last.to_string().contains("those of this image are not known"), "{last}");
    assert!(reports.iter().all(|report| report["verdict"] != "pass"));
    run(&["sbom", "--platform", "all"], &archive).expect(3);
}

#[test]
fn packages_of_all_images_are_bounded() {
    let records: String = (0..20_000).map(|n| format!("P:a{n}\nV:1\n\n")).collect();
    let layer = Layer::plain(Tar::new().file("lib/apk/db/installed", records).finish());
    let archive = archive_of(40, std::slice::from_ref(&layer));
    let run = run(&["sbom", "--platform", "all"], &archive).expect(3);
    // 25 images have all of theirs.
    let left_out = "the images of this target have too many packages; 20000 were left out";
    assert_eq!(run.stdout.matches(left_out).count(), 15, "{}", run.stderr);
}
