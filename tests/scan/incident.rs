//! The incident: everything that was planted in `testdata/incident.tar` is found where it is, with the layer it came
//! with and the layer it went with; nothing else is grave; and no value leaves the program unasked.

use crate::support::image::{hex, sha256};
use crate::support::{Run, findings, layersift, revealed, testdata, text};
use base64::Engine as _;
use serde_json::Value;

/// What `testdata/incident/expected.json` says must be found.
fn expected() -> Vec<Value> {
    let file = std::fs::read(testdata("incident/expected.json")).unwrap();
    serde_json::from_slice(&file).unwrap()
}

fn scan(flags: &[&str]) -> Run {
    let image = testdata("incident.tar");
    layersift(&[&["scan", text(&image)], flags].concat())
}

fn report(flags: &[&str]) -> Value {
    scan(&[&["--format", "json"], flags].concat()).expect(1).json()
}

/// The finding of `report` that a row of the list describes.
fn matching<'r>(report: &'r Value, row: &Value) -> &'r Value {
    let layer = |finding: &Value| finding["layer"]["index"].clone();
    let fits = |finding: &&Value| {
        ["rule", "path", "config"].iter().all(|key| finding[key] == row[key]) && layer(finding) == row["layer"]
    };
    let found: Vec<&Value> = findings(report).iter().filter(fits).collect();
    assert_eq!(found.len(), 1, "{row}\nis in the report {} times", found.len());
    found[0]
}

/// Whether a report shows a finding's secret in a form of its own: keys are written anew, so that one key has one
/// fingerprint wherever it stands.
fn is_rewritten(finding: &Value) -> bool {
    finding["rule"].as_str().unwrap().starts_with("private-key.")
}

#[test]
fn everything_planted_is_found_where_it_is() {
    let report = report(&["--show-secrets"]);
    for row in expected() {
        let finding = matching(&report, &row);
        for key in ["state", "severity"] {
            assert_eq!(finding[key], row[key], "{key} of {row}");
        }
        assert_eq!(finding["ended_by"]["index"], row["ended_by"], "{row}");
        for key in ["binary", "package"].into_iter().filter(|key| row[key].is_object()) {
            assert_eq!(finding[key], row[key], "{key} of {row}");
        }
        let evidence = &row["evidence"];
        assert_eq!(finding["offset"], evidence["offset"], "{row}");
        assert_eq!(finding["secret"].is_object(), evidence.is_object(), "{row}");
        if evidence.is_object() && !is_rewritten(finding) {
            let value = revealed(finding);
            assert_eq!(value.len() as u64, evidence["length"], "{row}");
            assert_eq!(finding["secret"]["length"], evidence["length"], "{row}");
            assert_eq!(sha256(&value), evidence["sha256"], "{row}");
        }
    }
}

#[test]
fn nothing_else_is_of_high_or_critical_severity() {
    let grave = |finding: &&Value| ["high", "critical"].contains(&finding["severity"].as_str().unwrap());
    let rows = expected();
    let listed = rows.iter().filter(grave).count();
    let report = report(&[]);
    let found: Vec<&Value> = findings(&report).iter().filter(grave).collect();
    assert_eq!(found.len(), listed, "{found:#?}");
}

#[test]
fn every_secret_is_in_the_bytes_that_its_offset_names() {
    let report = report(&["--show-secrets"]);
    let layers = layers_of_the_archive(&report);
    for row in expected().iter().filter(|row| row["path"].is_string()) {
        let finding = matching(&report, row);
        let layer = &layers[row["layer"].as_u64().unwrap() as usize];
        let file = file_of(layer, row["path"].as_str().unwrap());
        let [offset, length] = ["offset", "length"].map(|key| row["evidence"][key].as_u64().unwrap() as usize);
        let bytes = &file[offset..offset + length];
        assert_eq!(sha256(bytes), row["evidence"]["sha256"]);
        if is_rewritten(finding) {
            // The private number of a P-256 key ends both: PKCS#8 without the public key is the shorter.
            let shown = revealed(finding);
            let number = &shown[shown.len() - 32..];
            assert!(shown.len() < decoded(bytes).len());
            assert!(decoded(bytes).windows(32).any(|window| window == number));
        } else {
            assert_eq!(bytes, revealed(finding));
        }
        if let Some(line) = finding["line"].as_u64() {
            let before = &file[..offset];
            let start = before.iter().rposition(|&byte| byte == b'\n').map_or(0, |newline| newline + 1);
            assert_eq!(line as usize, 1 + before.iter().filter(|&&byte| byte == b'\n').count());
            assert_eq!(finding["column"].as_u64().unwrap() as usize, offset - start + 1);
        }
    }
}

/// The bytes of a file in a layer, read without the program.
fn file_of(layer: &[u8], path: &str) -> Vec<u8> {
    let mut archive = tar::Archive::new(layer);
    let mut entries = archive.entries().unwrap().map(Result::unwrap);
    let mut entry = entries.find(|entry| *entry.path_bytes() == *path.as_bytes()).unwrap();
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut entry, &mut bytes).unwrap();
    bytes
}

/// What stands between the labels of a PEM document.
fn decoded(pem: &[u8]) -> Vec<u8> {
    let text = std::str::from_utf8(pem).unwrap();
    let body: String = text.lines().filter(|line| !line.starts_with("-----")).collect();
    base64::engine::general_purpose::STANDARD.decode(body).unwrap()
}

/// The uncompressed layers, read without the program.
fn layers_of_the_archive(report: &Value) -> Vec<Vec<u8>> {
    let bytes = std::fs::read(testdata("incident.tar")).unwrap();
    let mut blobs = std::collections::HashMap::new();
    for entry in tar::Archive::new(&bytes[..]).entries().unwrap() {
        let mut blob = Vec::new();
        std::io::Read::read_to_end(&mut entry.unwrap(), &mut blob).unwrap();
        blobs.insert(format!("sha256:{}", sha256(&blob)), blob);
    }
    let digests = report["layers"].as_array().unwrap().iter().map(|layer| layer["diff_id"].as_str().unwrap());
    digests.map(|digest| blobs[digest].clone()).collect()
}

#[test]
fn no_value_leaves_the_program_unasked() {
    let image = testdata("incident.tar");
    let mut outputs: Vec<String> = Vec::new();
    for command in ["scan", "layers"] {
        for format in ["text", "json"] {
            let run = layersift(&[command, "--format", format, text(&image)]);
            outputs.extend([run.stdout, run.stderr]);
        }
    }
    let report = report(&["--show-secrets"]);
    let rows = expected();
    let shown = rows.iter().filter(|row| row["evidence"].is_object()).map(|row| revealed(matching(&report, row)));
    let module = file_of(&layers_of_the_archive(&report)[6], MODULE);
    for secret in shown.chain([module[8352..8352 + 240].to_vec()]) {
        for hidden in forms(&secret) {
            for output in &outputs {
                assert!(!output.contains(&hidden), "of a secret of {} bytes {hidden} is shown", secret.len());
            }
        }
    }
}

/// The file that holds a private key in PEM, at bytes 8352 to 8592.
const MODULE: &str = "app/node_modules/@acme/seal/build/Release/seal.node";

/// How a secret, or a part of it that nobody may see, would look in a report.
fn forms(secret: &[u8]) -> Vec<String> {
    let encoded = [hex(secret), base64::engine::general_purpose::STANDARD.encode(secret)];
    let lines = std::str::from_utf8(secret).unwrap_or_default().lines().filter(|line| !line.starts_with("-----"));
    let parts = lines.flat_map(|line| {
        // Of an address only the password is secret.
        let hidden = line.split_once("://").map_or(line, |(_, rest)| rest.split([':', '@']).nth(1).unwrap());
        // A masked secret shows its first four characters and its last two.
        let all: Vec<char> = hidden.chars().collect();
        let middle = all.get(4..all.len().saturating_sub(2)).unwrap_or_default();
        middle.windows(10).map(String::from_iter).collect::<Vec<_>>()
    });
    encoded.into_iter().chain(parts).collect()
}

#[test]
fn values_are_shown_when_asked_for() {
    let text = scan(&["--show-secrets"]).expect(1).stdout;
    let report = report(&["--show-secrets"]);
    for finding in findings(&report).iter().filter(|finding| finding["secret"].is_object()) {
        let value = revealed(finding);
        let shown = String::from_utf8(value.clone()).unwrap_or_else(|_| hex(&value));
        assert!(text.contains(&shown), "{} is not shown", finding["rule"]);
    }
}

#[test]
fn the_exit_status_follows_the_severity_that_fails() {
    for (severity, code) in [("critical", 1), ("high", 1), ("info", 1), ("none", 0), ("grave", 2)] {
        scan(&["--fail-on", severity]).expect(code);
    }
    scan(&[]).expect(1);
    assert_eq!(report(&[])["verdict"], "fail");
    let passed = scan(&["--fail-on", "none", "--format", "json"]).expect(0).json();
    assert_eq!(passed["verdict"], "pass");
    assert!(passed["gaps"].as_array().unwrap().is_empty());
}

#[test]
fn fingerprints_name_a_secret_and_depend_on_the_key() {
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key");
    std::fs::write(&key, "the operator's own key").unwrap();
    let prints = |flags: &[&str]| -> Vec<String> {
        let report = report(flags);
        let secrets = findings(&report).iter().map(|finding| &finding["secret"]["fingerprint"]);
        secrets.filter_map(Value::as_str).map(String::from).collect()
    };
    let (ours, again, theirs) = (prints(&[]), prints(&[]), prints(&["--fingerprint-key", text(&key)]));
    assert_eq!(ours, again);
    assert_eq!(ours.len(), theirs.len());
    assert!(ours.iter().all(|print| print.len() == 32 && !theirs.contains(print)));
}

#[test]
fn a_report_in_a_file_is_the_report_on_standard_output() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.json");
    let flags = ["--format", "json", "--reproducible"];
    let shown = scan(&flags).expect(1).stdout;
    let silent = scan(&[&flags[..], &["-o", text(&file)]].concat()).expect(1);
    assert_eq!(silent.stdout, "");
    assert_eq!(std::fs::read_to_string(file).unwrap(), shown);
}

#[test]
fn the_library_says_what_the_program_says() {
    use layersift_rules::Ruleset;
    use layersift_scan::{Analyzer, Options};

    let scanner = Analyzer::new(Ruleset::built_in().unwrap(), Options::default()).unwrap();
    let library = crate::support::report_of(&scanner, text(&testdata("incident.tar")));
    assert_eq!(library, report(&["--reproducible", "--show-secrets"]));
}
