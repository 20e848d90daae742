//! A report that was written and read again is the same report.

use std::sync::Arc;

use jiff::Timestamp;
use jiff::civil::Date;
use proptest::prelude::*;

use super::*;
use crate::build::{BuildEvidence, BuildStep, FixPatch, ImageBase, LayerOrigin};
use crate::{
    Allowed, AppliedPolicy, BinaryPlace, Confidence, Digest, DocumentLocation, DocumentRef, ExpiredException,
    FileAttributes, FileLocation, Finding, Gap, GapReason, ImageGap, Judgement, LayerRef, LayerSummary, Location,
    Package, ReportKind, ReportedSecret, RuleInfo, Secret, Severity, State, Tool, Verdict,
};

fn text() -> impl Strategy<Value = String> {
    "\\PC{0,12}"
}

fn digest() -> impl Strategy<Value = Digest> {
    any::<[u8; 4]>().prop_map(|bytes| Digest::of(&bytes))
}

/// Rules of one id are the same rule, as in every report of a scan.
fn rule() -> impl Strategy<Value = Arc<RuleInfo>> {
    (0..4u8).prop_map(|number| {
        Arc::new(RuleInfo {
            id: format!("test.rule-{number}"),
            title: format!("Rule {number}"),
            severity: Severity::ALL[usize::from(number)],
            confidence: Confidence::Medium,
            what: "What.".into(),
            risk: "Risk.".into(),
            fix: "Fix.".into(),
            references: vec!["https://docs.example/rule".into(); usize::from(number)],
        })
    })
}

fn layer_ref() -> impl Strategy<Value = LayerRef> {
    let parts =
        (0..9usize, proptest::option::of(digest()), proptest::option::of(digest()), proptest::option::of(text()));
    parts.prop_map(|(index, digest, diff_id, created_by)| LayerRef { index, digest, diff_id, created_by })
}

fn document() -> impl Strategy<Value = DocumentLocation> {
    let place = (proptest::collection::vec(text(), 0..2), proptest::collection::vec(text(), 0..2));
    let numbers = any::<(Option<u64>, Option<u64>)>();
    let reference = (proptest::option::of(digest()), proptest::option::of(text()), proptest::option::of(text()));
    (reference, place, numbers).prop_map(|((digest, media_type, json_path), (inside, views), (line, column))| {
        let document = DocumentRef { kind: "provenance".into(), digest, referrer: None, media_type, json_path };
        let views = views.into_iter().map(Into::into).collect();
        DocumentLocation { document, inside, views, line, column }
    })
}

fn file() -> impl Strategy<Value = FileLocation> {
    let place = (text(), proptest::collection::vec(text(), 0..3), proptest::collection::vec(text(), 0..2));
    let numbers = any::<(Option<u64>, Option<u64>, Option<u64>)>();
    let package = (text(), proptest::option::of(text())).prop_map(|(name, version)| Package {
        ecosystem: "npm".into(),
        name,
        version,
    });
    let binary = (proptest::option::of(text()), any::<bool>()).prop_map(|(section, node_addon)| BinaryPlace {
        format: "elf".into(),
        symbol: section.clone(),
        section,
        node_addon,
    });
    let attributes = any::<(u32, u64, u32, Option<u64>, Option<u64>, Option<i32>, Option<usize>)>().prop_map(
        |(entry, size, mode, uid, gid, at, layer)| {
            let modified_at = at.map(|seconds| Timestamp::from_second(seconds.into()).unwrap());
            FileAttributes { entry, size, mode, uid, gid, modified_at, layer }
        },
    );
    let described = (proptest::option::of(binary), proptest::option::of(attributes));
    let life = (layer_ref(), 0..3usize, proptest::option::of(layer_ref()), any::<bool>());
    (place, numbers, proptest::option::of(package), described, life).prop_map(
        |(
            (path, inside, views),
            (offset, line, column),
            package,
            (binary, attributes),
            (layer, state, ended_by, as_shipped),
        )| {
            FileLocation {
                path,
                inside,
                views: views.into_iter().map(Into::into).collect(),
                offset,
                line,
                column,
                binary,
                layer,
                state: State::ALL[state],
                ended_by,
                package,
                as_shipped,
                attributes: attributes.map(Arc::new),
            }
        },
    )
}

fn location() -> impl Strategy<Value = Location> {
    prop_oneof![
        file().prop_map(|file| Location::File(Box::new(file))),
        text().prop_map(Location::Config),
        document().prop_map(|document| Location::Document(Box::new(document))),
        Just(Location::Image),
    ]
}

fn finding() -> impl Strategy<Value = Finding> {
    let secret = (text(), text(), 0..999usize).prop_map(|(masked, fingerprint, length)| ReportedSecret {
        masked,
        fingerprint,
        length,
        value: None,
    });
    let allowed = text().prop_map(|reason| Allowed { reason, expires: Date::constant(2031, 2, 3) });
    let said = (proptest::option::of(text()), proptest::collection::vec(text(), 0..3));
    let standing = (proptest::option::of(allowed), any::<bool>());
    (text(), rule(), location(), proptest::option::of(secret), said, standing, built()).prop_map(
        |(id, rule, location, secret, (note, related), (allowed, baseline), (origin, step))| Finding {
            id,
            severity: rule.severity.min(Severity::Low),
            rule,
            location,
            secret,
            note,
            related,
            allowed,
            baseline,
            origin,
            step,
        },
    )
}

fn built() -> impl Strategy<Value = (Option<LayerOrigin>, Option<BuildStep>)> {
    let origin = prop_oneof![Just(LayerOrigin::Base), Just(LayerOrigin::Own)];
    let step = (text(), 1..99u64, proptest::option::of(text())).prop_map(|(file, line, stage)| BuildStep {
        file,
        line,
        end_line: line + 1,
        base: stage.clone(),
        stage,
        evidence: BuildEvidence::Provenance,
    });
    (proptest::option::of(origin), proptest::option::of(step))
}

fn base() -> impl Strategy<Value = ImageBase> {
    let names = (proptest::option::of(text()), proptest::option::of(digest()), proptest::option::of(0..9usize));
    (names, any::<bool>()).prop_map(|((reference, digest, layers), is_proven)| ImageBase {
        reference,
        digest,
        layers,
        evidence: if is_proven { BuildEvidence::Store } else { BuildEvidence::Annotation },
        is_proven,
    })
}

fn report() -> impl Strategy<Value = ImageReport> {
    let names = (text(), proptest::option::of(text()), proptest::option::of(digest()), proptest::option::of(text()));
    let times = (proptest::option::of(0..4_000_000_000i64), proptest::option::of(0..100_000_000u64));
    let layer = (layer_ref(), any::<bool>(), 0..99u64, text(), built()).prop_map(
        |(layer, is_read, number, whiteout, built)| LayerSummary {
            origin: built.0,
            step: built.1,
            bytes_after_end: number,
            index: layer.index,
            digest: layer.digest,
            diff_id: layer.diff_id,
            media_type: None,
            created_by: layer.created_by,
            created_at: is_read.then(|| Timestamp::constant(1_700_000_000, 500_000_000)),
            is_read,
            entries: number,
            files: number,
            bytes: number,
            stored_bytes: number,
            whiteouts: vec![whiteout],
        },
    );
    let gap = (text(), any::<(Option<u64>, Option<usize>)>()).prop_map(|(detail, (bytes, layer))| ImageGap {
        gap: Gap { reason: GapReason::DamagedTar, path: Some(detail.clone()), bytes, detail, count: 1 },
        layer,
    });
    let expired = text().prop_map(|reason| ExpiredException { entry: 3, reason, expires: Date::constant(2020, 1, 31) });
    let judgement =
        (proptest::option::of(digest()), proptest::collection::vec(expired, 0..2)).prop_map(|(digest, expired)| {
            Judgement {
                verdict: Verdict::Fail,
                policy: AppliedPolicy { fail_on: digest.is_some().then_some(Severity::High), digest, baseline: None },
                expired,
            }
        });
    let lists = (
        proptest::collection::vec(layer, 0..3),
        proptest::collection::vec(finding(), 0..5),
        proptest::collection::vec(gap, 0..3),
    );
    (names, times, lists, proptest::option::of(judgement), proptest::option::of(base())).prop_map(
        |(
            (target, reference, manifest_digest, platform),
            (second, milliseconds),
            (layers, findings, gaps),
            judgement,
            base,
        )| {
            let patch = |name: &String| FixPatch { findings: vec![name.clone()], diff: name.clone() };
            let platform_patch = platform.iter().map(patch).collect();
            ImageReport {
                without_referrers: platform.is_some(),
                tool: Tool { version: target.clone(), reader_revision: Some(2), ..Tool::default() },
                target,
                reference,
                config_digest: manifest_digest.clone(),
                manifest_digest,
                other_platforms: platform.iter().cloned().collect(),
                notes: platform.iter().cloned().collect(),
                base,
                kind: if platform.is_some() { ReportKind::Artifact } else { ReportKind::Image },
                platform,
                scanned_at: second.and_then(|second| Timestamp::from_second(second).ok()),
                milliseconds,
                layers,
                findings,
                gaps,
                patches: platform_patch,
                judgement,
            }
        },
    )
}

proptest! {
    #[test]
    fn a_report_survives_being_written(report in report()) {
        let text = serde_json::to_string(&report).unwrap();
        prop_assert_eq!(serde_json::from_str::<ImageReport>(&text).unwrap(), report.clone());
        let set = ReportSet::from_json(to_json(std::slice::from_ref(&report), false).unwrap().as_bytes()).unwrap();
        prop_assert_eq!(set.reports, [report]);
    }

    #[test]
    fn several_reports_survive_being_written(first in report(), mut second in report()) {
        // One policy judges all images of a scan.
        second.judgement.clone_from(&first.judgement);
        let written = to_json(&[first.clone(), second.clone()], false).unwrap();
        let set = ReportSet::from_json(written.as_bytes()).unwrap();
        prop_assert_eq!(&set.reports, &[first, second]);
        prop_assert_eq!(to_json(&set.reports, false).unwrap(), written);
    }
}

#[test]
fn secrets_are_written_on_request_only() {
    for value in [&b"tok_0123456789abcdefghij"[..], b"\xff\x00binary"] {
        let secret = Secret::new(value);
        let reported = ReportedSecret {
            masked: secret.masked(),
            fingerprint: "f".repeat(32),
            length: secret.len(),
            value: Some(secret),
        };
        let rule = Arc::new(RuleInfo {
            id: "test.rule".into(),
            title: "Rule".into(),
            severity: Severity::High,
            confidence: Confidence::High,
            what: String::new(),
            risk: String::new(),
            fix: String::new(),
            references: Vec::new(),
        });
        let finding = Finding {
            id: "0".repeat(16),
            severity: rule.severity,
            rule,
            location: Location::Config("Env[0]".into()),
            secret: Some(reported),
            note: None,
            related: Vec::new(),
            allowed: None,
            baseline: false,
            origin: None,
            step: None,
        };
        let report = ImageReport { findings: vec![finding], ..ImageReport::default() };
        let masked = to_json(std::slice::from_ref(&report), false).unwrap();
        assert!(!masked.contains("0123456789abcdefghij") && !masked.contains("value"), "{masked}");
        let shown = to_json(std::slice::from_ref(&report), true).unwrap();
        let read = ReportSet::from_json(shown.as_bytes()).unwrap();
        let found = read.reports[0].findings[0].secret.as_ref().unwrap().value.as_ref().unwrap();
        assert_eq!(found.reveal(), value);
        assert_eq!(to_json(&read.reports, true).unwrap(), shown);
    }
}

#[test]
fn what_an_older_program_left_out_is_named() {
    let old = r#"{"schema": 1, "tool": {"name": "layersift", "version": "0.1.0", "ruleset": "r", "engine": "e"},
        "target": "t", "image": {"reference": null, "manifest_digest": null, "config_digest": null, "platform": null},
        "layers": [{"index": 0, "digest": null, "diff_id": null, "media_type": null, "created_by": null,
                    "files": 3, "bytes": 9}],
        "findings": [{"id": "1", "rule": "test.rule", "title": "Rule", "severity": "high", "confidence": "low",
                      "path": null, "config": "Env[0]", "layer": null, "state": "present", "later": "field"}],
        "gaps": [], "verdict": "fail", "stats": {"layers": 1, "files": 3, "bytes": 9, "seconds": 0.25}}"#;
    let set = ReportSet::from_json(old.as_bytes()).unwrap();
    assert_eq!(set.missing.len(), 3, "{:?}", set.missing);
    let report = &set.reports[0];
    assert_eq!(report.findings[0].rule.title, "Rule");
    assert_eq!((report.verdict(), report.milliseconds), (Verdict::Fail, Some(250)));
}

#[test]
fn other_texts_are_refused() {
    for text in ["", "[]", "{}", r#"{"schema": 2}"#, r#"{"schema": 1}"#, r#"{"schema": 1, "reports": 3}"#] {
        assert!(ReportSet::from_json(text.as_bytes()).is_err(), "{text}");
    }
    let error = ReportSet::from_json(br#"{"schema": 2}"#).unwrap_err();
    assert_eq!(error.to_string(), "unknown schema 2; this version reads schema 1");
}
