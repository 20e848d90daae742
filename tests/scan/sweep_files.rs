//! `sweep files`: the report of a folder of archives.

use std::process::Command;

use serde_json::Value;

use crate::hostile_sizes::token;
use crate::support::image::{Layer, archive, docker_save};
use crate::support::tar::Tar;
use crate::support::tools::say;
use crate::support::{layersift, testdata, text};

#[test]
fn a_folder_of_archives_is_swept() {
    let folder = tempfile::tempdir().unwrap();
    let archives = folder.path().join("archives");
    std::fs::create_dir_all(archives.join("more")).unwrap();
    std::fs::copy(testdata("incident.tar"), archives.join("more/incident.tar")).unwrap();
    std::fs::write(archives.join("broken.tar"), "nothing").unwrap();
    std::fs::write(archives.join("README"), "not an archive").unwrap();
    let (reports, store) = (folder.path().join("reports.json"), folder.path().join("scans.db"));
    let sweep = |flags: &[&str]| {
        layersift(&[&["sweep", "files", "-q", "--format", "json", text(&archives)], flags].concat()).expect(1)
    };
    let run = sweep(&["--reports", text(&reports)]);
    let report = run.json();
    assert_eq!((&report["images"], &report["failing"], &report["verdict"]), (&1.into(), &1.into(), &"fail".into()));
    assert!(report["not_looked_at"][0].as_str().unwrap().contains("broken.tar"), "{report}");
    assert!(report["layers_read"].as_u64() > Some(0) && report["new_is_complete"] == true, "{report}");
    assert!(!report["new"].as_array().unwrap().is_empty(), "{report}");
    assert!(run.stderr.contains("README"), "{run:?}");
    let written: Value = serde_json::from_str(&std::fs::read_to_string(&reports).unwrap()).unwrap();
    assert_eq!(written["reports"].as_array().unwrap().len(), 2, "the broken archive has a report with a gap");
    let rendered = layersift(&["render", "--format", "markdown", text(&reports)]).expect(1);
    for image in ["seal-service", "broken.tar"] {
        assert!(rendered.stdout.contains(image), "{image}: {rendered:?}");
    }
    let text_report = layersift(&["sweep", "files", "-q", text(&archives)]).expect(1);
    for part in ["NEW SINCE THE LAST SWEEP", "NOT SCANNED", "broken.tar", "1 image fails"] {
        assert!(text_report.stdout.contains(part), "{part}: {}", text_report.stdout);
    }

    // With a store, layers are read once, and what an image in a layout has is new once.
    let layout = archives.join("layout");
    let copied = Command::new("skopeo")
        .args(["copy", "-q", &format!("docker-archive:{}", text(&testdata("incident.tar")))])
        .arg(format!("oci:{}", text(&layout)))
        .status();
    if !copied.is_ok_and(|status| status.success()) {
        return say("SKIPPED: skopeo is not installed");
    }
    std::fs::remove_file(archives.join("more/incident.tar")).unwrap();
    let first = sweep(&["--store", text(&store)]).json();
    let second = sweep(&["--store", text(&store)]).json();
    assert!(first["layers_read"].as_u64() > Some(0) && !first["new"].as_array().unwrap().is_empty(), "{first}");
    assert_eq!((&second["layers_read"], &second["new"]), (&0.into(), &Value::Array(Vec::new())), "{second}");
    assert_eq!(second["layers_known"], first["layers_read"]);
}

#[test]
fn more_findings_than_a_report_lists_are_not_kept() {
    let env = |file: usize| (0..900).map(|n| format!("KEY_{n}={}\n", token(file * 1_000 + n))).collect::<String>();
    let tar = (0..12).fold(Tar::new(), |tar, file| tar.file(&format!("{file}/.env"), env(file))).finish();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("image.tar"), archive(&docker_save(&[Layer::plain(tar)]))).unwrap();
    let report = layersift(&["sweep", "files", "-q", "--format", "json", text(folder.path())]).expect(1).json();
    assert_eq!((report["new"].as_array().unwrap().len(), &report["new_is_complete"]), (10_000, &Value::Bool(false)));
}
