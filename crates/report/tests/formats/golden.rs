//! Every format as it is written, for a report that has one of everything.

use layersift_report::FORMATS;

use crate::rendered;
use crate::sample::{clean, incident, judged, with_own_key};

#[test]
fn the_incident_in_every_format() {
    for format in FORMATS.iter().filter(|format| !format.shows_secrets) {
        insta::assert_snapshot!(format.name, rendered(format.name, &[judged(incident())], false));
    }
}

#[test]
fn an_image_that_passes_in_every_format() {
    for format in FORMATS.iter().filter(|format| !format.shows_secrets) {
        insta::assert_snapshot!(format!("pass_{}", format.name), rendered(format.name, &[clean()], false));
    }
}

#[test]
fn the_same_report_gives_the_same_bytes() {
    for format in FORMATS {
        let reports = [judged(incident()), clean()];
        assert_eq!(rendered(format.name, &reports, false), rendered(format.name, &reports, false), "{}", format.name);
    }
}

#[test]
fn an_incomplete_scan_looks_clean_in_no_format() {
    let mut unread = clean();
    unread.gaps = incident().gaps;
    layersift_report::Policy::default().judge(&mut unread);
    for format in FORMATS {
        let text = rendered(format.name, &[unread.clone()], false);
        assert!(text.to_lowercase().contains("incomplete"), "{}: {text}", format.name);
        for gap in ["missing-blob", "encrypted-member", "srv/backup.zip"] {
            assert!(text.contains(gap), "{}: {text}", format.name);
        }
    }
    let sarif: serde_json::Value = serde_json::from_str(&rendered("sarif", &[unread.clone()], false)).unwrap();
    assert_eq!(sarif["runs"][0]["invocations"][0]["executionSuccessful"], false);
    assert_eq!(sarif["runs"][0]["results"].as_array().unwrap().len(), 2);
    let gitlab: serde_json::Value = serde_json::from_str(&rendered("gitlab", &[unread.clone()], false)).unwrap();
    assert_eq!(
        (&gitlab["scan"]["status"], gitlab["vulnerabilities"].as_array().unwrap().len()),
        (&"failure".into(), 1)
    );
    assert!(rendered("junit", &[unread], false).contains("errors=\"1\""));
}

#[test]
fn fingerprints_are_passed_on_only_where_their_key_is_not_public() {
    let report = judged(incident());
    let secrets = || report.findings.iter().filter(|finding| finding.secret.is_some());
    for format in FORMATS.iter().filter(|format| !format.shows_secrets) {
        let mut unknown = report.clone();
        unknown.tool.fingerprint_key = None;
        for report in [&report, &unknown] {
            let public = rendered(format.name, std::slice::from_ref(report), false);
            for finding in secrets() {
                // The id is made of the fingerprint.
                for text in [finding.fingerprint().unwrap(), &finding.id] {
                    assert!(!public.contains(text), "{}: {public}", format.name);
                }
            }
            assert!(public.contains("left out: the scan used the built-in fingerprint key"), "{}", format.name);
        }
        let own = rendered(format.name, &[with_own_key(report.clone())], false);
        assert!(!own.contains("left out: the scan used"), "{}", format.name);
        let npm = report.findings[1].fingerprint().unwrap();
        assert_eq!(own.contains(npm), format.name != "bodyfile", "{}: {own}", format.name);
    }
    let json = rendered("json", std::slice::from_ref(&report), false);
    assert!(secrets().all(|finding| json.contains(finding.fingerprint().unwrap())), "{json}");
    assert!(json.contains(report.tool.fingerprint_key.as_deref().unwrap()), "{json}");
}

#[test]
fn code_scanning_knows_each_finding_again() {
    let keys = |report| {
        let sarif: serde_json::Value = serde_json::from_str(&rendered("sarif", &[report], false)).unwrap();
        let results = sarif["runs"][0]["results"].as_array().unwrap().clone();
        let key = |result: &serde_json::Value| {
            result["partialFingerprints"]["primaryLocationLineHash"].as_str().unwrap().to_string()
        };
        results.iter().map(key).collect::<Vec<_>>()
    };
    let mut report = judged(incident());
    report.findings.push(report.findings[1].clone());
    let first = keys(report.clone());
    let distinct: std::collections::BTreeSet<&String> = first.iter().collect();
    assert_eq!(distinct.len(), first.len(), "{first:?}");
    // A rebuild changes the digests of layers, and another secret its fingerprint.
    for finding in &mut report.findings {
        if let Some(secret) = &mut finding.secret {
            secret.fingerprint = "f".repeat(32);
        }
        if let layersift_model::Location::File(file) = &mut finding.location {
            file.layer.digest = None;
        }
    }
    assert_eq!(keys(report), first);
}
