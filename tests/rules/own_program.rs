//! An image that contains the program passes a scan: neither the rules in it nor their examples, known keys and
//! compiled keywords are found.

use std::path::Path;

use crate::support::{findings, layersift, text};

#[test]
fn the_program_passes_its_own_scan() {
    let root = tempfile::tempdir().unwrap();
    let program = Path::new(env!("CARGO_BIN_EXE_layersift"));
    let file = root.path().join("layersift");
    if std::fs::hard_link(program, &file).is_err() {
        std::fs::copy(program, &file).unwrap();
    }
    let target = format!("rootfs:{}", text(root.path()));
    let run = layersift(&["scan", &target, "--format", "json", "--quiet"]);
    let report = run.json();
    assert_eq!(report["gaps"].as_array().map(Vec::len), Some(0));
    let found: Vec<_> = findings(&report).iter().filter(|one| one["severity"] != "info").collect();
    assert!(found.is_empty(), "{} findings, first {:#}", found.len(), found[0]);
}
