//! Findings in files that are, byte for byte, what their package ships are marked and count less; a file that was
//! changed afterwards does not.

use crate::support::{findings, report_of_files};
use serde_json::Value;

const TOKEN: &str = "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";

/// The findings of the token in an image with one layer.
fn found(files: &[(&str, &str)]) -> Vec<Value> {
    let report = report_of_files(files);
    let tokens = findings(&report).iter().filter(|one| one["rule"] == "github.personal-access-token");
    tokens.cloned().collect()
}

/// What is said of the token in the file `path`, which holds `text` and which a record says something of.
fn judged(path: &str, text: &str, record: (&str, &str)) -> (Value, Value) {
    let found = found(&[(path, text), record]);
    assert_eq!(found.len(), 1, "{found:#?}");
    (found[0]["severity"].clone(), found[0]["as_shipped"].clone())
}

#[test]
fn what_a_package_ships_is_marked_and_lowered() {
    let file = format!("token = {TOKEN}\n");
    // The MD5, SHA-1 and SHA-256 of the file, as md5sum(1) and its kin say.
    let dpkg = "de93d8c1ca21422e1255a6a18a5f67e4  usr/share/doc/a/example\n";
    let apk = "P:a\nV:1\nF:usr/share/doc/a\nR:example\nZ:Q1V+rG4DQNZq8CBq3PmJCAkXCWbD0=\n\n";
    let wheel = "a/example,sha256=eViUx34lHplVE8ZAhAx3LBGMsWtYrc9eM2eh2im3kvQ,49\n";
    for (path, record, text, severity) in [
        ("usr/share/doc/a/example", "var/lib/dpkg/info/a.md5sums", dpkg, "high"),
        ("usr/share/doc/a/example", "lib/apk/db/installed", apk, "high"),
        // A wheel may be the very application.
        ("opt/lib/a/example", "opt/lib/a-1.0.dist-info/RECORD", wheel, "critical"),
    ] {
        assert_eq!(judged(path, &file, (record, text)), (severity.into(), true.into()), "{record}");
    }
}

#[test]
fn a_wheel_speaks_for_its_own_directory_only() {
    let file = format!("token = {TOKEN}\n");
    let wheel = "../../app/example,sha256=eViUx34lHplVE8ZAhAx3LBGMsWtYrc9eM2eh2im3kvQ,49\n";
    let judged = judged("app/example", &file, ("opt/lib/a-1.0.dist-info/RECORD", wheel));
    assert_eq!(judged, ("critical".into(), Value::Null));
}

#[test]
fn what_was_changed_is_not() {
    let file = format!("token = {TOKEN}\n");
    let dpkg = "00000000000000000000000000000000  usr/share/doc/a/example\n";
    let changed = judged("usr/share/doc/a/example", &file, ("var/lib/dpkg/info/a.md5sums", dpkg));
    assert_eq!(changed, ("critical".into(), Value::Null));
    let elsewhere = judged("srv/example", &file, ("var/lib/dpkg/info/a.md5sums", dpkg));
    assert_eq!(elsewhere, ("critical".into(), Value::Null));
}
