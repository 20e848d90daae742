//! Tests of the comparison: what became of secrets, exposures, layers and packages.

use std::sync::Arc;

use layersift_model::{
    Confidence, Digest, Ecosystem, FileLocation, FingerprintKey, Gap, GapReason, ImageGap, ImagePath, InstalledPackage,
    LayerRef, LayerSummary, Location, PackageRecord, ReportedSecret, RuleInfo, State,
};

use super::*;
use crate::Policy;

fn rule(id: &str) -> Arc<RuleInfo> {
    Arc::new(RuleInfo {
        id: id.into(),
        title: format!("Title of {id}"),
        severity: Severity::High,
        confidence: Confidence::High,
        what: String::new(),
        risk: String::new(),
        fix: String::new(),
        references: Vec::new(),
    })
}

/// A secret whose value is told by `value`, in a file.
fn secret(id: &str, value: &str, path: &str, state: State) -> Finding {
    let secret = ReportedSecret { masked: "****".into(), fingerprint: value.repeat(32), length: 20, value: None };
    Finding { secret: Some(secret), ..plain(id, path, state) }
}

fn plain(id: &str, path: &str, state: State) -> Finding {
    let layer = LayerRef { index: 0, digest: None, diff_id: None, created_by: Some("COPY . .".into()) };
    let location = FileLocation {
        path: path.into(),
        inside: Vec::new(),
        views: Vec::new(),
        offset: None,
        line: Some(3),
        column: None,
        binary: None,
        layer,
        state,
        ended_by: None,
        package: None,
        as_shipped: false,
        attributes: None,
    };
    at(id, Location::File(Box::new(location)))
}

fn at(id: &str, location: Location) -> Finding {
    Finding {
        id: String::new(),
        rule: rule(id),
        severity: Severity::High,
        location,
        secret: None,
        note: None,
        related: Vec::new(),
        allowed: None,
        baseline: false,
        origin: None,
        step: None,
    }
}

fn layer(index: usize, name: &str) -> LayerSummary {
    LayerSummary { index, diff_id: Some(Digest::of(name.as_bytes())), is_read: true, ..LayerSummary::default() }
}

fn report(findings: Vec<Finding>) -> ImageReport {
    let mut report = ImageReport {
        target: "app.tar".into(),
        layers: vec![layer(0, "base"), layer(1, "app")],
        findings,
        ..ImageReport::default()
    };
    report.tool.fingerprint_key = Some(FingerprintKey::default().id());
    Policy::failing_on(Some(Severity::High)).judge(&mut report);
    report
}

/// The fate of the secret with the value "a" of the image before.
fn fate(before: Vec<Finding>, after: &ImageReport) -> (Fate, Verdict) {
    let before = report(before);
    let comparison = Comparison::new(&before, after).unwrap();
    let secret = comparison.secrets.iter().find(|secret| secret.fingerprint.starts_with('a')).unwrap();
    (secret.fate(), comparison.verdict())
}

#[test]
fn another_value_in_its_place_means_rotated() {
    let old = || vec![secret("token", "a", "app/.env", State::Present)];
    let rotated = report(vec![secret("token", "b", "app/.env", State::Present)]);
    assert_eq!(fate(old(), &rotated), (Fate::GoneAndRotated, Verdict::Fail), "the new value leaks as well");
    assert_eq!(fate(old(), &report(Vec::new())), (Fate::Gone, Verdict::Pass));
    let elsewhere = report(vec![secret("token", "b", "srv/.env", State::Present)]);
    assert_eq!(fate(old(), &elsewhere).0, Fate::Gone, "a value elsewhere is another secret");
    let other_rule = report(vec![secret("key", "b", "app/.env", State::Present)]);
    assert_eq!(fate(old(), &other_rule).0, Fate::Gone);
}

#[test]
fn the_same_value_anywhere_is_not_gone() {
    let old = || vec![secret("token", "a", "app/.env", State::Deleted)];
    for (path, state, expected) in [
        ("app/.env", State::Present, Fate::StillThere),
        ("app/.env", State::Deleted, Fate::StillInLayer),
        ("srv/moved", State::Overwritten, Fate::StillInLayer),
        ("srv/came-back", State::Present, Fate::StillThere),
    ] {
        let after = report(vec![secret("token", "a", path, state), secret("token", "b", "app/.env", State::Present)]);
        let found = fate(old(), &after).0;
        assert_eq!(found, expected, "{path}");
    }
    let before = report(old());
    let after = report(vec![secret("token", "a", "srv/moved", State::Present)]);
    let comparison = Comparison::new(&before, &after).unwrap();
    assert!(comparison.secrets[0].moved());
    assert_eq!(comparison.verdict(), Verdict::Pass, "nothing came");
    assert_eq!(comparison.requiring_gone(true).verdict(), Verdict::Fail);
}

#[test]
fn nothing_is_gone_from_an_image_that_was_not_read() {
    let mut after = report(vec![secret("token", "b", "app/.env", State::Present)]);
    after.findings[0].severity = Severity::Low;
    after.gaps.push(ImageGap { gap: Gap::new(GapReason::MissingBlob, "missing"), layer: Some(1) });
    let (fate, verdict) = fate(vec![secret("token", "a", "app/.env", State::Present)], &after);
    assert_eq!((fate, verdict), (Fate::NotFound, Verdict::Incomplete));
}

#[test]
fn nothing_is_gone_by_other_rules_another_reader_or_for_another_platform() {
    type Change = fn(&mut ImageReport);
    let changes: [Change; 3] = [
        |after| after.tool.ruleset = "other".into(),
        |after| after.tool.reader_revision = Some(1),
        |after| after.platform = Some("linux/arm64".into()),
    ];
    for change in changes {
        let mut after = report(Vec::new());
        change(&mut after);
        let (fate, verdict) = fate(vec![secret("token", "a", "app/.env", State::Present)], &after);
        assert_eq!((fate, verdict), (Fate::NotFound, Verdict::Incomplete));
    }
}

#[test]
fn a_value_that_is_found_without_a_finding_is_still_there() {
    let before = report(vec![secret("token", "a", "app/.env", State::Present)]);
    let after = report(Vec::new());
    for (is_present, expected) in [(true, Fate::StillThere), (false, Fate::StillInLayer)] {
        let trace = Trace { fingerprint: "a".repeat(32), place: "notes.txt".into(), is_present };
        let comparison =
            Comparison::new(&before, &after).unwrap().requiring_gone(true).with_traces(&[trace], &BTreeMap::new());
        assert_eq!((comparison.secrets[0].fate(), comparison.verdict()), (expected, Verdict::Fail));
        assert_eq!(comparison.gone().count(), 0);
    }
}

#[test]
fn what_was_not_searched_for_is_not_gone() {
    let before = report(vec![secret("token", "a", "app/.env", State::Present)]);
    let mut after = report(vec![secret("token", "b", "app/.env", State::Present)]);
    after.findings[0].severity = Severity::Low;
    let unsearched = BTreeMap::from([("a".repeat(32), "its value is not known")]);
    let comparison = Comparison::new(&before, &after).unwrap().with_traces(&[], &unsearched);
    assert_eq!((comparison.secrets[0].fate(), comparison.verdict()), (Fate::NotFound, Verdict::Pass));
    assert!(comparison.notes[0].ends_with("of 1 secret: its value is not known"), "{:?}", comparison.notes);
    assert_eq!(comparison.requiring_gone(true).verdict(), Verdict::Incomplete);
}

#[test]
fn what_is_still_there_below_the_limit_is_said() {
    let mut before = report(vec![secret("token", "a", "app/.env", State::Present)]);
    let mut after = report(vec![secret("token", "a", "app/.env", State::Present)]);
    before.findings[0].severity = Severity::Medium;
    after.findings[0].severity = Severity::Medium;
    let comparison = Comparison::new(&before, &after).unwrap().requiring_gone(true);
    let comparison = comparison.with_traces(&[], &BTreeMap::new());
    assert_eq!(comparison.verdict(), Verdict::Pass);
    assert!(comparison.notes[0].contains("below --fail-on high"), "{:?}", comparison.notes);
}

#[test]
fn each_value_follows_one_other() {
    let before = report(vec![
        secret("token", "a", "app/.env", State::Present),
        secret("token", "c", "app/.env", State::Present),
    ]);
    let after = report(vec![secret("token", "b", "app/.env", State::Present)]);
    let comparison = Comparison::new(&before, &after).unwrap();
    let fates = |wanted| comparison.secrets.iter().filter(|secret| secret.fate() == wanted).count();
    assert_eq!([Fate::New, Fate::GoneAndRotated, Fate::Gone].map(fates), [1, 1, 1]);
    let new = comparison.secrets.iter().find(|secret| secret.fate() == Fate::New).unwrap();
    assert!(new.replaces.is_some());
}

#[test]
fn what_the_policy_allows_may_come() {
    let (before, mut after) = (report(Vec::new()), report(vec![secret("token", "a", "app/.env", State::Present)]));
    assert_eq!(Comparison::new(&before, &after).unwrap().verdict(), Verdict::Fail);
    after.findings[0].baseline = true;
    assert_eq!(Comparison::new(&before, &after).unwrap().verdict(), Verdict::Pass);
    after.findings[0].baseline = false;
    Policy::failing_on(None).judge(&mut after);
    assert_eq!(Comparison::new(&before, &after).unwrap().verdict(), Verdict::Pass);
}

#[test]
fn exposures_are_told_by_rule_and_field() {
    let port = |number: &str| at("exposed-port", Location::Config(format!("ExposedPorts.{number}/tcp")));
    let root = || at("root", Location::Config("User".into()));
    let (before, after) = (report(vec![port("9229"), root()]), report(vec![port("8080"), root()]));
    let comparison = Comparison::new(&before, &after).unwrap();
    let changes: Vec<_> = comparison.exposures.iter().map(|one| (&one.rule.id[..], one.change)).collect();
    assert_eq!(changes, [("exposed-port", Change::Came), ("root", Change::Stayed), ("exposed-port", Change::Went)]);
}

#[test]
fn layers_are_the_same_however_they_are_compressed() {
    let (before, mut after) = (report(Vec::new()), report(Vec::new()));
    after.layers = vec![layer(0, "base"), layer(1, "new"), layer(2, "app")];
    after.layers[0].digest = Some(Digest::of(b"zstd"));
    let comparison = Comparison::new(&before, &after).unwrap();
    let LayerChanges { shared_first, stayed, came, went } = &comparison.layers;
    assert_eq!((*shared_first, stayed.len(), came.len(), went.len()), (1, 2, 1, 0));
    assert_eq!(came[0].index, 1);
}

#[test]
fn fingerprints_of_other_keys_are_refused() {
    let (before, mut after) = (report(Vec::new()), report(Vec::new()));
    after.tool.fingerprint_key = Some("0123456789abcdef".into());
    let error = Comparison::new(&before, &after).unwrap_err();
    assert!(matches!(&error, CompareError::FingerprintKeys { after, .. } if after == "0123456789abcdef"), "{error}");
    after.tool.fingerprint_key = None;
    assert_eq!(Comparison::new(&before, &after).unwrap_err(), CompareError::UnknownKey);
}

fn package(name: &str, version: &str, state: State) -> InstalledPackage {
    InstalledPackage {
        record: PackageRecord::new(Ecosystem::Deb, name, version).into(),
        path: ImagePath::normalize(b"var/lib/dpkg/status").into(),
        layer: 0,
        state,
        ended_by: None,
    }
}

#[test]
fn packages_by_version_and_what_a_layer_still_has() {
    let inventory = |packages| Inventory { packages, ..Inventory::default() };
    let before = inventory(vec![
        package("curl", "7.0", State::Present),
        package("bash", "5.2", State::Present),
        package("vim", "9.0", State::Present),
    ]);
    let after = inventory(vec![
        package("bash", "5.2", State::Present),
        package("curl", "8.0", State::Present),
        package("curl", "7.0", State::Overwritten),
        package("git", "2.4", State::Present),
    ]);
    let changes = PackageChanges::new(&before, &after);
    let names: Vec<_> = changes.changed.iter().map(|one| (&one.name[..], one.change, one.hidden.len())).collect();
    assert_eq!(names, [("curl", Change::Stayed, 1), ("git", Change::Came, 0), ("vim", Change::Went, 0)]);
    assert_eq!(changes.stayed, 1);
}

/// Every form, for two images with something of everything.
fn forms(with_own_key: bool) -> [String; 3] {
    let port = at("exposed-port", Location::Config("ExposedPorts.9229/tcp".into()));
    let mut before = report(vec![
        secret("token", "a", "app/.env", State::Present),
        secret("key", "c", "srv/key.pem", State::Deleted),
        secret("password", "e", "etc/gone", State::Present),
        port,
    ]);
    let mut after = report(vec![
        secret("token", "b", "app/.env", State::Present),
        secret("key", "c", "srv/key.pem", State::Deleted),
        plain("source-map", "app/a.js.map", State::Present),
    ]);
    after.layers.push(layer(2, "more"));
    if with_own_key {
        for report in [&mut before, &mut after] {
            report.tool.fingerprint_key = Some("0123456789abcdef".into());
        }
    }
    let (old, new) = (
        Inventory::default(),
        Inventory { packages: vec![package("git", "2", State::Present)], ..Inventory::default() },
    );
    let comparison = [Comparison::new(&before, &after).unwrap().with_packages(&old, &new)];
    let mut written: [Vec<u8>; 3] = Default::default();
    text(&comparison, Severity::Medium, 100, &mut written[0]).unwrap();
    json(&comparison, &mut written[1]).unwrap();
    markdown(&comparison, &mut written[2]).unwrap();
    written.map(|bytes| String::from_utf8(bytes).unwrap())
}

#[test]
fn packages_that_were_not_read_make_a_comparison_incomplete() {
    let image = report(Vec::new());
    let gap = ImageGap { gap: Gap::new(GapReason::DamagedDocument, "a lock file is damaged"), layer: Some(0) };
    let (read, cut) = (Inventory::default(), Inventory { gaps: vec![gap], ..Inventory::default() });
    let verdict = |old, new| Comparison::new(&image, &image).unwrap().with_packages(old, new).verdict();
    assert_eq!(verdict(&read, &read), Verdict::Pass);
    assert_eq!((verdict(&cut, &read), verdict(&read, &cut)), (Verdict::Incomplete, Verdict::Incomplete));
}

#[test]
fn every_form_as_people_read_it() {
    let [text, json, markdown] = forms(false);
    insta::assert_snapshot!("text", crate::terminal::without_colours(&text));
    insta::assert_snapshot!("json", json);
    insta::assert_snapshot!("markdown", markdown);
}

#[test]
fn what_is_passed_on_has_fingerprints_only_under_a_key_of_ones_own() {
    let fingerprint = "b".repeat(32);
    assert!(!forms(false)[2].contains(&fingerprint));
    assert!(forms(true)[2].contains(&fingerprint));
}
