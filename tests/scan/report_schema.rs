//! The JSON Schema of reports: it is what the types say, and what the program writes is valid by it. Every other test
//! that reads a report holds it against the schema, too; see `support`.

use std::path::PathBuf;

use layersift_model::report_schema;
use serde_json::json;

use crate::support::{check_report, layersift, testdata, text};

#[test]
fn the_schema_is_what_the_types_say() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/report.schema.json");
    let made = serde_json::to_string_pretty(&report_schema()).unwrap() + "\n";
    if std::env::var_os("LAYERSIFT_UPDATE").is_some() {
        std::fs::write(&path, &made).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(written == made, "run: LAYERSIFT_UPDATE=1 cargo test --test scan report_schema");
}

#[test]
fn the_program_writes_what_the_schema_says() {
    let image = testdata("incident.tar");
    for flags in [&[][..], &["--reproducible"], &["--show-secrets"], &["--fail-on", "none"]] {
        let run = layersift(&[&["scan", "--format", "json", text(&image)], flags].concat());
        check_report(&serde_json::from_str(&run.stdout).unwrap());
    }
}

#[test]
#[should_panic(expected = "invalid report")]
fn what_the_schema_does_not_allow_is_seen() {
    let run = layersift(&["scan", "--format", "json", text(&testdata("incident.tar"))]);
    let mut report: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    report["findings"][0]["severity"] = json!("grave");
    check_report(&report);
}
