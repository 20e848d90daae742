//! Whole reports of images, on SQLite and on PostgreSQL: they come back as they were put, without secrets and without
//! what a policy says of them, and an image without a readable report is unknown.

use crate::support::Fresh;
use crate::support::records::*;
use jiff::Timestamp;
use jiff::civil::Date;
use layersift_model::{
    Allowed, BinaryPlace, Confidence, Finding, FingerprintKey, Gap, GapReason, ImageGap, ImageReport, LayerSummary,
    Location, ReportedSecret, RuleInfo, Secret, Severity, State, Tool,
};
use layersift_report::Policy;
use layersift_store::{Query, StoreError, TagSighting};

crate::on_both!(
    a_report_comes_back_whole,
    the_latest_report_under_a_key_counts,
    no_secret_is_stored,
    the_store_does_not_judge,
    a_report_that_cannot_be_decoded_is_unknown,
    a_report_without_digests_is_refused,
    lists_say_whether_they_are_complete,
    the_latest_report_of_a_tag_is_found,
);

const VALUE: &str = "tok_0123456789abcdefghij";

/// A report with every kind of finding, gap and field.
fn everything() -> ImageReport {
    let mut deep = in_package(&secret("base", 0, "opt/app.jar", "one"), "left-pad", "1.0.0");
    let file = file_mut(&mut deep);
    file.inside = vec!["lib/inner.zip".into(), "a\0b/\u{202e}settings".into()];
    file.views = vec!["base64".into(), "utf-16".into()];
    file.as_shipped = true;
    deep.severity = Severity::Low;
    deep.note = Some("issued by a test".into());
    let mut binary = ended(&secret("base", 0, "usr/bin/tool", "two"), State::Overwritten, 1);
    let file = file_mut(&mut binary);
    (file.offset, file.line, file.column) = (Some(4096), None, None);
    let place = BinaryPlace { format: "elf".into(), section: Some(".rodata".into()), symbol: None, node_addon: true };
    file.binary = Some(place);
    let whole = Finding {
        secret: None,
        rule: RuleInfo {
            id: "test.map".into(),
            severity: Severity::Info,
            confidence: Confidence::Low,
            references: Vec::new(),
            ..rule()
        }
        .into(),
        severity: Severity::Info,
        ..ended(&secret("a", 1, "srv/app.js.map", "none"), State::Deleted, 2)
    };
    let combined =
        Finding { location: Location::Image, related: vec![deep.id.clone(), binary.id.clone()], ..whole.clone() };
    let combined = Finding { id: "c0ffee0000000000".into(), secret: None, ..combined };
    let findings = [deep, binary, whole, in_config("Env[1]", "three"), combined];
    let gap =
        |reason, layer| ImageGap { gap: Gap::new(reason, "broke off at byte 7").at("opt/app.jar").sized(7), layer };
    let mut report = unread(image_report("app", &["base", "a", "b"], &findings), 2);
    report.reference = Some("registry.test/team/app:v1".into());
    report.tool = Tool {
        version: "1.2.3".into(),
        ruleset: "sha256:rules".into(),
        engine: "an engine".into(),
        reader_revision: Some(2),
        fingerprint_key: Some("0123".into()),
    };
    report.scanned_at = Some(Timestamp::constant(1_700_000_000, 5_000_000));
    report.milliseconds = Some(77);
    report.gaps.extend([gap(GapReason::DamagedArchive, Some(0)), gap(GapReason::DamagedDocument, None)]);
    let layer = &mut report.layers[0];
    *layer = LayerSummary {
        media_type: Some("application/vnd.oci.image.layer.v1.tar".into()),
        entries: 5,
        files: 4,
        bytes: 3,
        whiteouts: vec!["etc/old".into(), "var/cache/".into()],
        ..layer.clone()
    };
    report
}

fn a_report_comes_back_whole(fresh: &Fresh) {
    let store = fresh.open();
    let report = everything();
    let id = store.images().put_report(&report, &key(), None, 10).unwrap();
    drop(store);
    let store = fresh.open();
    let stored = store.images().report(&digest("app"), &key()).unwrap().unwrap();
    assert_eq!((stored.image, stored.report), (id, report));
    assert_eq!(store.images().report(&digest("app"), &other_key()).unwrap(), None);
    assert_eq!(store.images().report(&digest("b"), &key()).unwrap(), None);
    // The index is of the same report.
    for name in ["one", "two", "three"] {
        assert_eq!(store.trace(&Query::Secret(fingerprint(name)), None, 9).unwrap().total, 1, "{name}");
    }
    assert_eq!(store.images().findings(id, &key()).unwrap().items.len(), 5);
}

fn the_latest_report_under_a_key_counts(fresh: &Fresh) {
    let store = fresh.open();
    let images = store.images();
    let old = image_report("app", &["base"], &[secret("base", 0, "f", "one")]);
    images.put_report(&old, &key(), None, 10).unwrap();
    images.put_report(&old, &other_key(), None, 10).unwrap();
    let new = image_report("app", &["base"], &[secret("base", 0, "f", "two")]);
    images.put_report(&new, &key(), None, 20).unwrap();
    assert_eq!(images.report(&digest("app"), &key()).unwrap().unwrap().report, new);
    assert_eq!(images.report(&digest("app"), &other_key()).unwrap().unwrap().report, old);
    put(&store, "b", &["base"], &[]);
    let many: Vec<_> = (0..3000).map(|n| digest(&n.to_string())).chain([digest("app"), digest("b")]).collect();
    let mut found: Vec<_> = images.reports(&many, &key()).unwrap();
    found.sort_by_key(|stored| stored.image);
    let names: Vec<_> = found.into_iter().map(|stored| stored.report.target).collect();
    assert_eq!(names, ["app", "b"]);
}

fn no_secret_is_stored(fresh: &Fresh) {
    let store = fresh.open();
    let secret_value = Secret::new(VALUE.as_bytes());
    let mut finding = secret("base", 0, "root/.env", "one");
    finding.secret = Some(ReportedSecret {
        masked: secret_value.masked(),
        fingerprint: secret_value.fingerprint(&FingerprintKey::default()),
        length: secret_value.len(),
        value: Some(secret_value),
    });
    let mut report = image_report("app", &["base"], &[finding]);
    store.images().put_report(&report, &key(), None, 10).unwrap();
    let stored = store.images().report(&digest("app"), &key()).unwrap().unwrap().report;
    report.remove_secret_values();
    assert_eq!(stored, report);
    assert_eq!(stored.findings[0].secret.as_ref().unwrap().masked, "tok_****ij");
    drop(store);
    if let Ok(bytes) = std::fs::read(&fresh.text) {
        let has = |text: &[u8]| bytes.windows(text.len()).any(|window| window == text);
        assert!(has(b"tok_****ij") && !has(&VALUE.as_bytes()[4..]));
    }
}

fn the_store_does_not_judge(fresh: &Fresh) {
    let store = fresh.open();
    let unjudged = everything();
    let mut judged = unjudged.clone();
    Policy::default().judge(&mut judged);
    judged.findings[0].allowed = Some(Allowed { reason: "a test".into(), expires: Date::constant(2031, 2, 3) });
    judged.findings[1].baseline = true;
    store.images().put_report(&judged, &key(), None, 10).unwrap();
    assert_eq!(store.images().report(&digest("app"), &key()).unwrap().unwrap().report, unjudged);
}

fn a_report_that_cannot_be_decoded_is_unknown(fresh: &Fresh) {
    let store = fresh.open();
    let report = image_report("app", &["base"], &[]);
    let other = zstd::encode_all(&serde_json::to_vec(&image_report("b", &["base"], &[])).unwrap()[..], 3).unwrap();
    for damaged in [&b"not a report"[..], &zstd::encode_all(&b"{}"[..], 3).unwrap(), &other] {
        store.images().put_report(&report, &key(), None, 10).unwrap();
        fresh.set_bytes("UPDATE image_reports SET report = ", damaged);
        assert_eq!(store.images().report(&digest("app"), &key()).unwrap(), None, "unknown, and not clean");
        assert!(fresh.count("image_reports") == 0, "forgotten");
    }
    store.images().put_report(&report, &key(), None, 20).unwrap();
    assert_eq!(store.images().report(&digest("app"), &key()).unwrap().unwrap().report, report);
}

fn a_report_without_digests_is_refused(fresh: &Fresh) {
    let store = fresh.open();
    let refused = |report: &ImageReport| {
        let error = store.images().put_report(report, &key(), None, 10).unwrap_err();
        assert!(matches!(error, StoreError::Invalid { .. }), "{error:?}");
        error.to_string()
    };
    let nameless = ImageReport { manifest_digest: None, ..image_report("app.tar", &["base"], &[]) };
    assert_eq!(refused(&nameless), "cannot store the report of app.tar: it has no manifest digest");
    let mut layerless = image_report("app", &["base"], &[]);
    layerless.layers[0].digest = None;
    assert_eq!(refused(&layerless), "cannot store the report of app: layer 0 has no digest");
    let elsewhere = image_report("app", &["base"], &[secret("x", 1, "f", "one")]);
    assert!(refused(&elsewhere).ends_with("they are in layer 1, and the image has 1 layers"));
    assert_eq!(store.images().find(&digest("app")).unwrap(), None, "nothing was stored");
}

fn lists_say_whether_they_are_complete(fresh: &Fresh) {
    const MOST: usize = 20_000;
    let store = fresh.open();
    let mut findings: Vec<Finding> =
        (0..MOST).map(|number| secret("base", 0, &format!("f{number:05}"), "one")).collect();
    let id = put(&store, "app", &["base"], &findings);
    let page = store.images().findings(id, &key()).unwrap();
    assert!(page.is_complete && page.items.len() == MOST);
    let found = store.trace(&Query::Secret(fingerprint("one")), None, 10).unwrap();
    assert!(found.places_are_complete && found.images[0].places_total == MOST as u64);

    findings.push(secret("own", 1, "one-more", "one"));
    let id = put(&store, "more", &["base", "own"], &findings);
    let page = store.images().findings(id, &key()).unwrap();
    assert!(!page.is_complete && page.items.len() == MOST);
    let found = store.trace(&Query::Secret(fingerprint("one")), None, 10).unwrap();
    assert!(!found.places_are_complete && found.total == 2);
}

fn the_latest_report_of_a_tag_is_found(fresh: &Fresh) {
    let store = fresh.open();
    let old = image_report("app", &["base"], &[secret("base", 0, "f", "one")]);
    let new = image_report("app", &["base"], &[secret("base", 0, "f", "two")]);
    let id = store.images().put_report(&new, &other_key(), None, 20).unwrap();
    store.images().put_report(&old, &key(), None, 10).unwrap();
    assert_eq!(store.images().latest_report(&digest("app")).unwrap().unwrap().report, new);
    assert_eq!(store.images().latest_report(&digest("b")).unwrap(), None);

    let other = put(&store, "arm", &["base"], &[]);
    let tag = |digest_of: &str, image| TagSighting {
        repository: repository("app"),
        tag: Some("v1".into()),
        digest: digest(digest_of),
        image,
    };
    store.tags().see(&[tag("app", id)], 10).unwrap();
    let named = || store.tags().images("registry.test", "team/app", "v1").unwrap();
    assert_eq!(named(), [digest("app")]);
    store.tags().see(&[tag("index", id), tag("index", other)], 20).unwrap();
    assert_eq!(named(), [digest("app"), digest("arm")]);
    assert!(store.tags().images("registry.test", "app", "v1").unwrap().is_empty());
    fresh.set_bytes("UPDATE image_reports SET report = ", b"not a report");
    assert_eq!(store.images().latest_report(&digest("app")).unwrap(), None);
}
