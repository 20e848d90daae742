//! The laws of the mapping, and the report of the incident as Harbor gets it.

use super::*;
use layersift_model::{
    Confidence, Digest, DocumentLocation, DocumentRef, FileLocation, Gap, ImageGap, LayerRef, LayerSummary, Location,
    ReportSet, ReportedSecret, RuleInfo, Secret, State,
};
use proptest::prelude::*;
use serde_json::Value;
use std::collections::HashMap;
use std::sync::Arc;

/// Of what Harbor's index holds.
const MOST_KEY: usize = 2_100;

pub(in crate::harbor) fn secret(text: &str) -> ReportedSecret {
    let (value, key) = (Secret::new(text.as_bytes()), Default::default());
    ReportedSecret { masked: value.masked(), fingerprint: value.fingerprint(&key), length: value.len(), value: None }
}

fn layer(index: usize) -> LayerRef {
    let digest = Digest::of(&[index as u8]);
    LayerRef { index, digest: Some(digest), diff_id: None, created_by: Some(format!("RUN {index}")) }
}

pub(in crate::harbor) fn file(path: &str) -> Location {
    Location::File(Box::new(FileLocation {
        path: path.into(),
        inside: Vec::new(),
        views: Vec::new(),
        offset: None,
        line: None,
        column: None,
        binary: None,
        layer: layer(3),
        state: State::Deleted,
        ended_by: None,
        package: None,
        as_shipped: false,
        attributes: None,
    }))
}

pub(in crate::harbor) fn finding(rule: &str, location: Location, secret: Option<ReportedSecret>) -> Finding {
    Finding {
        id: String::new(),
        rule: Arc::new(RuleInfo {
            id: rule.into(),
            title: format!("Title of {rule}"),
            severity: Severity::High,
            confidence: Confidence::High,
            what: "What it is.".into(),
            risk: "What can happen.".into(),
            fix: "What to do.".into(),
            references: Vec::new(),
        }),
        severity: Severity::High,
        location,
        secret,
        note: None,
        related: Vec::new(),
        allowed: None,
        baseline: false,
        origin: None,
        step: None,
    }
}

fn image(findings: Vec<Finding>) -> ImageReport {
    ImageReport { findings, config_digest: Some(Digest::of(b"config")), ..ImageReport::default() }
}

fn mapped(reports: &[ImageReport]) -> Vec<Vulnerability> {
    report(reports, &Artifact::default(), "1", &MappingOptions::default()).vulnerabilities
}

fn keys(reports: &[ImageReport]) -> Vec<[String; 3]> {
    mapped(reports).into_iter().map(|one| [one.id, one.package, one.version]).collect()
}

#[test]
fn keys_are_those_of_the_table() {
    let token = secret("ghp_0123456789abcdefghijklmnopqrstuv");
    let digits = token.fingerprint[..8].to_owned();
    let config = Digest::of(b"config").short().to_owned();
    let layer = Digest::of(&[3]).short().to_owned();
    let of = |finding| keys(&[image(vec![finding])]).remove(0);
    let key = |parts: [&str; 3]| parts.map(String::from);
    let id = format!("SECRET-a.b-{digits}");
    assert_eq!(
        of(finding("a.b", file("app/.env"), Some(token.clone()))),
        key([&id, "app/.env", &format!("L3-{layer}-deleted")])
    );
    let lower = Finding { severity: Severity::Low, ..finding("a.b", file("app/.env"), Some(token.clone())) };
    assert_eq!(of(lower)[2], format!("L3-{layer}-deleted-low"));
    let field = Location::Config("Env[1]".into());
    assert_eq!(of(finding("a.b", field.clone(), Some(token.clone()))), key([&id, "Env[1]", &config]));
    assert_eq!(of(finding("a.b", field, None)), key(["EXPOSURE-a.b-Env[1]", "Env[1]", &config]));
    let digest = Digest::of(b"attestation");
    let document = Location::Document(Box::new(DocumentLocation {
        document: DocumentRef {
            kind: "provenance".into(),
            digest: Some(digest.clone()),
            referrer: None,
            media_type: None,
            json_path: Some("a.b".into()),
        },
        inside: Vec::new(),
        views: Vec::new(),
        line: None,
        column: None,
    }));
    assert_eq!(of(finding("a.b", document, Some(token))), key([&id, "provenance:a.b", digest.short()]));
    let path_digits = Digest::of(b"app/.git").hex()[..8].to_owned();
    assert_eq!(of(finding("a.b", file("app/.git"), None))[0], format!("FINDING-a.b-{path_digits}"));
    assert_eq!(of(finding("a.b", Location::Image, None))[1..], [String::from("image"), config]);
}

#[test]
fn gaps_are_findings_whatever_the_options_say() {
    let gap = |layer, path: Option<&str>| {
        let gap = Gap { path: path.map(String::from), ..Gap::new(GapReason::MissingBlob, "some detail") };
        ImageGap { gap, layer }
    };
    let layers = vec![LayerSummary { index: 2, digest: Some(Digest::of(b"2")), ..LayerSummary::default() }];
    let gaps = vec![gap(Some(2), None), gap(Some(2), Some("a.zip")), gap(None, None), gap(Some(9), None)];
    let incomplete = ImageReport { layers, gaps, ..image(Vec::new()) };
    let two = Digest::of(b"2").short().to_owned();
    let mut found = keys(std::slice::from_ref(&incomplete));
    found.sort();
    let expected = [
        ["a.zip".into(), format!("L2-{two}-unread")],
        ["image".into(), Digest::of(b"config").short().into()],
        ["layer".into(), format!("L2-{two}-unread")],
        ["layer".into(), "L9-unknown-unread".into()],
    ];
    assert!(found.iter().all(|key| key[0] == "GAP-missing-blob"));
    assert_eq!(found.iter().map(|key| [key[1].clone(), key[2].clone()]).collect::<Vec<_>>(), expected);
    for (severity, word) in [(Severity::High, "High"), (Severity::Low, "Low"), (Severity::Info, "Negligible")] {
        let options = MappingOptions { gap_severity: severity, ..MappingOptions::default() };
        let written = of(std::slice::from_ref(&incomplete), &Artifact::default(), "1", &options);
        let value: Value = serde_json::from_slice(&written).unwrap();
        assert_eq!((&value["severity"], value["vulnerabilities"].as_array().unwrap().len()), (&word.into(), 4));
    }
    assert_eq!(mapped(&[])[0].id, "GAP-no-report");
    assert_eq!(mapped(&[])[0].level(), Level::High);
}

#[test]
fn what_does_not_count_is_not_written() {
    let one = || finding("a.b", file("a"), None);
    let baseline = Finding { baseline: true, ..one() };
    let info = Finding { severity: Severity::Info, ..one() };
    assert_eq!(mapped(&[image(vec![baseline, info.clone()])]), []);
    let options = MappingOptions { with_info: true, ..MappingOptions::default() };
    let with_info = report(&[image(vec![info])], &Artifact::default(), "1", &options);
    assert_eq!(with_info.vulnerabilities[0].severity, "Negligible");
}

#[test]
fn the_worst_is_kept() {
    let of = |number: usize| {
        let severity = if number == 7 { Severity::Critical } else { Severity::Medium };
        Finding { severity, ..finding("a.b", file(&format!("f{number}")), None) }
    };
    let gap = ImageGap { gap: Gap::new(GapReason::NotATar, ""), layer: None };
    let many = ImageReport { gaps: vec![gap], ..image((0..100).map(of).collect()) };
    let limits = ReportLimits { findings: 3, bytes: 1 << 20 };
    let options = MappingOptions { limits, ..MappingOptions::default() };
    let value: Value = serde_json::from_slice(&super::of(&[many], &Artifact::default(), "1", &options)).unwrap();
    let list = value["vulnerabilities"].as_array().unwrap();
    let ids: Vec<&str> = list.iter().map(|one| one["id"].as_str().unwrap()).collect();
    assert!(ids[0].starts_with("FINDING-") && list[0]["package"] == "f7", "{ids:?}");
    assert_eq!(ids[1..], ["GAP-not-a-tar", "GAP-too-many-findings"]);
    assert_eq!(list[2]["version"], "99-more");
}

/// The report of the incident is that of the snapshot of `scan --format json`.
#[test]
fn the_report_of_the_incident() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let snapshot = root.join("tests/scan/snapshots/scan__snapshots__scan_json.snap");
    let text = std::fs::read_to_string(snapshot).unwrap();
    let (_, scanned) = text.split_once("\n---\n").unwrap();
    let reports = ReportSet::from_json(scanned.as_bytes()).unwrap().reports;
    let artifact = Artifact {
        repository: "payments/seal-service".into(),
        digest: reports[0].manifest_digest.clone().unwrap(),
        tag: "1.4.2".into(),
        mime_type: crate::harbor::MANIFESTS[0].into(),
        size: 848,
    };
    let written: Value = serde_json::from_slice(&of(&reports, &artifact, "0", &MappingOptions::default())).unwrap();
    let made = serde_json::to_string_pretty(&written).unwrap() + "\n";
    let path = root.join("testdata/harbor/incident.json");
    if std::env::var_os("LAYERSIFT_UPDATE").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &made).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(kept == made, "run: LAYERSIFT_UPDATE=1 cargo test -p layersift-server the_report_of_the_incident");
}

/// A rule of one set of rules: its texts are a function of its id.
fn rule_of(id: String, hostile: &str) -> Arc<RuleInfo> {
    let sum = id.bytes().fold(0usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
    let texts = |name: &str| format!("{name} {id}{hostile}");
    Arc::new(RuleInfo {
        title: texts("title"),
        severity: Severity::ALL[sum % 5],
        confidence: Confidence::High,
        what: texts("what"),
        risk: texts("risk"),
        fix: texts("fix"),
        references: [format!("https://x.example/{id}|{hostile}"), hostile.into()][..sum % 3].into(),
        id,
    })
}

/// Texts that are often the same, and often hard to tell apart once they are joined.
fn small() -> BoxedStrategy<String> {
    prop_oneof![
        3 => "(a|b|-|%|deadbeef|1|L0|/| |\\.){1,6}",
        1 => Just("unknown".into()),
        1 => Just("0123456789ab-present-low".into()),
    ]
    .boxed()
}

/// Texts that hurt.
fn hostile() -> BoxedStrategy<String> {
    let any = prop::collection::vec(any::<char>(), 0..40).prop_map(String::from_iter);
    let evil = prop::sample::select(vec!['\0', '\n', '\u{202e}', '\u{feff}', '|', ',', '"', '\u{1f511}', '\u{7f}']);
    (any, evil, prop_oneof![4 => 0..20usize, 1 => 2_000..10_000usize])
        .prop_map(|(text, c, times)| text + &c.to_string().repeat(times))
        .boxed()
}

fn states() -> impl Strategy<Value = State> {
    prop::sample::select(State::ALL.to_vec())
}

/// Findings that differ in everything that may differ from image to image.
fn findings(texts: BoxedStrategy<String>) -> impl Strategy<Value = Finding> {
    let place = (texts.clone(), prop::option::of(texts.clone()), 0..3usize, states(), 0..6u8);
    let details = (prop::option::of(0..3usize), 0..5usize, prop::option::of("[a-z]{1,4}"), 0..9u64);
    (texts, place, details).prop_map(|(rule, (path, member, index, state, kind), (token, severity, note, line))| {
        let token = token.map(|number| secret(&format!("tok{number}_0123456789abcdefghijklmnop{number}")));
        let Location::File(mut at) = file(&path) else { return finding("x.y", Location::Image, None) };
        at.inside.extend(member);
        (at.layer, at.state, at.line) = (layer(index), state, Some(line));
        at.layer.created_by.clone_from(&note);
        at.as_shipped = line % 2 == 0;
        let document = DocumentLocation {
            document: DocumentRef {
                kind: "manifest".into(),
                digest: Some(Digest::of(&[line as u8 % 2])),
                referrer: None,
                media_type: note.clone(),
                json_path: Some(path.clone()),
            },
            inside: at.inside.clone(),
            views: Vec::new(),
            line: Some(line),
            column: None,
        };
        let location = match kind {
            0 => Location::Image,
            1 => Location::Config(path),
            2 => Location::Document(Box::new(document)),
            _ => Location::File(at),
        };
        let rule = rule_of(rule, "");
        // A rule's own severity is the most common.
        let severity = if severity == 4 { rule.severity } else { Severity::ALL[severity] };
        Finding { rule, severity, note, ..finding("x.y", location, token) }
    })
}

fn images(findings: impl Strategy<Value = Finding>) -> impl Strategy<Value = ImageReport> {
    let reasons = vec![GapReason::TooManyFindings, GapReason::NotATar, GapReason::Cancelled];
    let gaps = (prop::sample::select(reasons), prop::option::of(small()), prop::option::of(0..3usize), "[a-z]{0,3}");
    let gaps = gaps
        .prop_map(|(reason, path, layer, detail)| ImageGap { gap: Gap { path, ..Gap::new(reason, detail) }, layer });
    let parts = (prop::collection::vec(findings, 0..12), prop::collection::vec(gaps, 0..3), 0..3u8);
    parts.prop_map(|(findings, gaps, config)| ImageReport {
        layers: (0..2).map(|index| LayerSummary { index, digest: layer(index).digest, ..Default::default() }).collect(),
        gaps,
        config_digest: (config < 2).then(|| Digest::of(&[config])),
        ..image(findings)
    })
}

fn all(reports: &[ImageReport]) -> Report {
    let options = MappingOptions { with_info: true, ..MappingOptions::default() };
    report(reports, &Artifact::default(), "1", &options)
}

proptest! {
    #[test]
    fn every_field_is_a_function_of_the_key(scans in prop::collection::vec(images(findings(small())), 1..8)) {
        let mut stored: HashMap<[String; 3], Vulnerability> = HashMap::new();
        for scan in &scans {
            for one in all(std::slice::from_ref(scan)).vulnerabilities {
                let key = [one.id.clone(), one.package.clone(), one.version.clone()];
                let first = stored.entry(key).or_insert_with(|| one.clone());
                prop_assert_eq!(first, &one);
            }
        }
        let mut joined: HashMap<String, &[String; 3]> = HashMap::new();
        for key in stored.keys() {
            let other = *joined.entry(key.join("-")).or_insert(key);
            prop_assert_eq!(other, key);
        }
    }

    #[test]
    fn the_order_of_anything_does_not_matter(scans in prop::collection::vec(images(findings(small())), 1..4)) {
        let mut turned: Vec<ImageReport> = scans.iter().rev().cloned().collect();
        for scan in &mut turned {
            scan.findings.reverse();
            scan.gaps.reverse();
        }
        let limits = ReportLimits::default();
        prop_assert_eq!(all(&scans).to_json(&limits), all(&turned).to_json(&limits));
    }

    #[test]
    fn a_gap_is_never_clean_and_a_finding_is_never_better_than_it_is(scan in images(findings(small()))) {
        let levels: Vec<Level> = mapped(std::slice::from_ref(&scan)).iter().map(Vulnerability::level).collect();
        if !scan.gaps.is_empty() {
            prop_assert!(levels.iter().any(|level| *level >= Level::High));
        }
        let worst = scan.findings.iter().map(|one| one.severity).filter(|one| *one > Severity::Info).max();
        prop_assert!(worst.is_none_or(|worst| levels.iter().max() >= Some(&level(worst))));
    }

    #[test]
    fn bounds_hold_for_anything(
        scans in prop::collection::vec(images(findings(hostile())), 1..3),
        text in hostile(),
        findings in 1..20usize,
        bytes in 8_000..40_000usize,
    ) {
        let mut scans = scans;
        for one in scans.iter_mut().flat_map(|scan| &mut scan.findings) {
            one.rule = rule_of(one.rule.id.clone(), &text);
        }
        scans[0].gaps.push(ImageGap { gap: Gap::new(GapReason::NotATar, &*text).at(&*text), layer: None });
        let whole = all(&scans);
        for one in &whole.vulnerabilities {
            prop_assert!(one.id.len() + one.package.len() + one.version.len() <= MOST_KEY);
            prop_assert!(!one.id.is_empty() && !one.package.is_empty() && !one.version.is_empty());
            prop_assert!(!one.links.is_empty() && !one.cwe_ids.is_empty());
            let texts = [&one.id, &one.package, &one.version, &one.description];
            for text in texts.into_iter().chain(&one.links).chain(&one.cwe_ids) {
                prop_assert!(!text.chars().any(|c| c.is_control() || c == '\u{202e}'), "{:?}", text);
            }
            prop_assert!(one.links.iter().all(|link| link.starts_with("http") && !link.contains('|')));
            prop_assert!(one.cwe_ids.iter().all(|weakness| !weakness.contains(',')));
            prop_assert!(one.description.len() <= 6_000);
        }
        let json = whole.to_json(&ReportLimits { findings, bytes });
        prop_assert!(json.len() <= bytes);
        let value: Value = serde_json::from_slice(&json).unwrap();
        let list: Vec<Vulnerability> = serde_json::from_value(value["vulnerabilities"].clone()).unwrap();
        prop_assert!((1..=findings).contains(&list.len()));
        let kept = list.iter().filter(|one| one.package != "report").count();
        prop_assert_eq!(&list[..kept], &whole.vulnerabilities[..kept]);
    }

    #[test]
    fn a_secret_is_never_written(number in 0..1_000usize, paths in prop::collection::vec("[a-z/]{0,9}", 1..5)) {
        let token = format!("tok_{number:030}zz");
        let named = |path: &String| file(&format!("{path}{token}/x"));
        let mut findings: Vec<Finding> =
            paths.iter().map(|path| finding("a.b", named(path), Some(secret(&token)))).collect();
        findings.push(finding("a.c", file(&format!("{}{token}/other", paths[0])), None));
        findings[0].secret = findings[0].secret.clone().map(|one| ReportedSecret {
            value: Some(Secret::new(token.as_bytes())), ..one
        });
        let written = of(&[image(findings)], &Artifact::default(), "1", &MappingOptions::default());
        prop_assert!(!String::from_utf8(written).unwrap().contains(&token));
    }
}
