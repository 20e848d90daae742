//! Reports of a second scanner as Trivy's adapter writes them, and others.

use super::*;
use crate::harbor::document::{Level, ReportLimits};
use crate::harbor::report::tests::{file, finding, secret};
use crate::harbor::report::{MappingOptions, report};
use crate::harbor::scan_request::Artifact;
use layersift_model::ImageReport;
use proptest::prelude::*;
use serde_json::json;

fn ours() -> Report {
    let found = finding("a.b", file("app/.env"), Some(secret("ghp_0123456789abcdefghijklmnopqrstuv")));
    let image = ImageReport { findings: vec![found], ..ImageReport::default() };
    report(&[image], &Artifact::default(), "1", &MappingOptions::default())
}

fn trivy(vulnerabilities: Value) -> Vec<u8> {
    json!({
        "generated_at": "2026-11-28T20:00:00Z",
        "artifact": {"repository": "lab/one", "digest": Artifact::default().digest},
        "scanner": {"name": "Trivy", "vendor": "Aqua Security", "version": "v0.68.1"},
        "severity": "Critical",
        "vulnerabilities": vulnerabilities,
    })
    .to_string()
    .into_bytes()
}

fn cve(id: &str, severity: &str) -> Value {
    json!({
        "id": id,
        "package": "openssl",
        "version": "3.0.11-1",
        "fix_version": "3.0.13-1",
        "severity": severity,
        "status": "fixed",
        "description": "a flaw",
        "links": ["https://avd.aquasec.com/nvd/x", "https://a|b"],
        "layer": {"digest": "sha256:1", "diff_id": "sha256:2"},
        "preferred_cvss": {"score_v3": 9.8, "score_v2": null, "vector_v3": "CVSS:3.1/AV:N", "vector_v2": ""},
        "cwe_ids": ["CWE-79"],
        "vendor_attributes": {"CVSS": {"nvd": {"V3Score": 9.8, "V2Score": 7.5}}},
    })
}

fn second(bytes: &[u8]) -> Second {
    read(bytes, &Artifact::default().digest).map_or(Second::Missing(Missing::Unreadable), Second::Report)
}

fn merged(second: Second) -> Value {
    written(&merge(ours(), second, Severity::High))
}

fn written(report: &Report) -> Value {
    serde_json::from_slice(&report.to_json(&ReportLimits::default())).unwrap()
}

#[test]
fn a_project_keeps_its_vulnerabilities() {
    let theirs = trivy(json!([cve("CVE-2026-1", "Low"), cve("CVE-2026-2", "Critical")]));
    let value = merged(second(&theirs));
    let list = value["vulnerabilities"].as_array().unwrap();
    let ids: Vec<&str> = list.iter().map(|one| one["id"].as_str().unwrap()).collect();
    assert!(ids[1].starts_with("SECRET-a.b-"), "{ids:?}");
    assert_eq!((ids[0], ids[2]), ("CVE-2026-2", "CVE-2026-1"), "the worst first");
    assert_eq!((&value["severity"], &value["scanner"]["name"]), (&json!("Critical"), &json!("Layersift")));
    let mut same = cve("CVE-2026-2", "Critical");
    // Harbor does not read the layer, and an absent score is one that is null.
    same.as_object_mut().unwrap().remove("layer");
    same["preferred_cvss"].as_object_mut().unwrap().remove("score_v2");
    assert_eq!(list[0], same);
}

#[test]
fn of_equal_keys_the_worse_severity_wins() {
    let key = ours().vulnerabilities.remove(0);
    let Vulnerability { id, package, version, .. } = &key;
    let mut other = json!({"id": id, "package": package, "version": version, "description": "x"});
    let mut same = |severity: &str| {
        other["severity"] = json!(severity);
        other.clone()
    };
    for (severity, expected) in [("critical", "critical"), ("Low", "High"), ("odd", "High")] {
        let value = merged(second(&trivy(json!([same(severity)]))));
        let list = value["vulnerabilities"].as_array().unwrap();
        assert_eq!((list.len(), &list[0]["severity"]), (1, &json!(expected)));
        assert_eq!(list[0]["description"], key.description);
    }
    let twice = trivy(json!([cve("CVE-1", "Low"), cve("CVE-1", "High")]));
    assert_eq!(merged(second(&twice))["vulnerabilities"][1]["severity"], "High");
}

#[test]
fn nothing_found_is_told_from_nothing_there() {
    for none in [json!([]), json!(null)] {
        assert_eq!(merged(second(&trivy(none)))["vulnerabilities"].as_array().unwrap().len(), 1);
    }
    let no_list = json!({"scanner": {"name": "Trivy"}}).to_string();
    let no_scanner = json!({"vulnerabilities": []}).to_string();
    let bad = String::from_utf8(trivy(json!([{"id": "CVE-1", "vendor_attributes": "text"}]))).unwrap();
    let bom = format!("\u{feff}{}", String::from_utf8(trivy(json!([]))).unwrap());
    let long = " ".repeat(MOST_BYTES + 1);
    let many = json!({"scanner": {"name": "Trivy"}, "vulnerabilities": vec![json!({"id": ""}); MOST_FINDINGS + 1]});
    let of_another = json!({
        "scanner": {"name": "Trivy"}, "vulnerabilities": [], "artifact": {"digest": Digest::of(b"another")},
    });
    let (many, of_another) = (many.to_string(), of_another.to_string());
    for unreadable in ["", "{}", "null", "[]", &no_list, &no_scanner, &bad, &bom, &long, &many, &of_another] {
        let value = merged(second(unreadable.as_bytes()));
        assert_eq!(value["vulnerabilities"][0]["id"], "GAP-second-scanner-unreadable");
    }
}

#[test]
fn a_second_scanner_that_is_missing_is_told_as_gravely_as_the_options_say() {
    for why in Missing::ALL {
        let value = merged(Second::Missing(why));
        let gap = &value["vulnerabilities"][0];
        assert_eq!(gap["id"], format!("GAP-second-scanner-{}", why.name()));
        assert_eq!((&gap["severity"], value["vulnerabilities"].as_array().unwrap().len()), (&json!("High"), 2));
        let alone = Report { vulnerabilities: Vec::new(), ..ours() };
        let low = written(&merge(alone, Second::Missing(why), Severity::Low));
        assert_eq!(low["severity"], "Low");
    }
}

#[test]
fn the_worst_are_the_last_to_be_cut_and_of_equal_ones_ours() {
    for (severity, is_ours_kept) in [("High", true), ("Critical", false)] {
        let many: Vec<Value> = (0..50).map(|number| cve(&format!("CVE-{number}"), severity)).collect();
        let both = merge(ours(), second(&trivy(json!(many))), Severity::High);
        let cut: Value = serde_json::from_slice(&both.to_json(&ReportLimits { findings: 3, bytes: 1 << 20 })).unwrap();
        let list = cut["vulnerabilities"].as_array().unwrap();
        assert_eq!(list[0]["id"].as_str().unwrap().starts_with("SECRET-"), is_ours_kept);
        assert_eq!((list.len(), &list[2]["version"]), (3, &json!("49-more")));
    }
}

#[test]
fn what_harbor_would_lose_the_report_for_is_taken_out() {
    let mut one = cve("CVE-\u{0}", "High");
    one["package"] = json!("p".repeat(10_000));
    one["version"] = json!("v".repeat(10_000));
    one["vendor_attributes"] = json!({"a": [{"b": "\u{0}"}]});
    let both = merge(ours(), second(&trivy(json!([one]))), Severity::High);
    let Vulnerability { id, package, version, .. } = &both.vulnerabilities[1];
    assert!(id.len() + package.len() + version.len() < 2_500);
    assert!(!String::from_utf8(both.to_json(&ReportLimits::default())).unwrap().contains("\\u0000"));
}

#[test]
fn reasons_are_no_beginnings_of_each_other() {
    for one in Missing::ALL {
        assert!(Missing::ALL.iter().all(|other| !other.name().starts_with(&format!("{}-", one.name()))));
    }
}

proptest! {
    #[test]
    fn any_bytes_leave_ours_as_it_is(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let both = merge(ours(), second(&bytes), Severity::High);
        prop_assert!(both.vulnerabilities.ends_with(&ours().vulnerabilities));
        prop_assert!(both.vulnerabilities.iter().any(|one| one.level() >= Level::High));
    }

    #[test]
    fn nothing_of_either_is_lost(
        severities in prop::collection::vec(("[a-c]", "(low|HIGH|Critical|x|)"), 0..30),
    ) {
        let theirs: Vec<Value> = severities.iter().map(|(id, severity)| cve(id, severity)).collect();
        let both = merge(ours(), second(&trivy(json!(theirs))), Severity::High);
        for (id, severity) in &severities {
            let kept = both.vulnerabilities.iter().find(|one| &one.id == id).unwrap();
            prop_assert!(kept.level() >= Level::of(severity));
        }
        prop_assert!(both.vulnerabilities.contains(&ours().vulnerabilities[0]));
        prop_assert!(both.vulnerabilities.is_sorted_by_key(|one| std::cmp::Reverse(one.level())));
        let keys: std::collections::HashSet<&String> = both.vulnerabilities.iter().map(|one| &one.id).collect();
        prop_assert_eq!(keys.len(), both.vulnerabilities.len());
    }
}
