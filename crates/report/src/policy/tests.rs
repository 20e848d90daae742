//! Tests of verdicts, exceptions and baselines.

use std::sync::Arc;

use super::*;
use layersift_model::{
    Confidence, FileLocation, Gap, GapReason, ImageGap, ImagePath, LayerRef, Location, Package, Place, RuleInfo, State,
};

const BLOB: &str = "sha256:1111111111111111111111111111111111111111111111111111111111111111";
const DIFF: &str = "sha256:2222222222222222222222222222222222222222222222222222222222222222";

fn gap() -> ImageGap {
    ImageGap { gap: Gap::new(GapReason::MissingBlob, "x"), layer: None }
}

fn rule(id: &str) -> Arc<RuleInfo> {
    let text = String::new;
    let (severity, confidence) = (Severity::High, Confidence::High);
    Arc::new(RuleInfo { id: id.into(), title: text(), severity, confidence, what: text(), risk: text(), fix: text() })
}

fn finding(id: &str, rule_id: &str, fingerprint: Option<&str>, location: Location) -> Finding {
    let fingerprint = fingerprint.map(String::from);
    Finding { id: id.into(), rule: rule(rule_id), location, secret: None, fingerprint, note: None, related: vec![] }
}

/// A token in an archive member of a package's file.
fn token() -> Finding {
    let inside = vec!["inner.tar".to_string(), "etc/app.env".into()];
    let place = Place { path: ImagePath::normalize(b"app/lib/fixtures.zip"), inside, ..Place::default() };
    let (digest, diff_id) = (BLOB.parse().ok(), DIFF.parse().ok());
    let layer = LayerRef { index: 1, digest, diff_id, created_by: None };
    let package = Some(Package { ecosystem: "npm".into(), name: "@acme/seal".into(), version: None });
    let file = FileLocation { place, layer, state: State::Present, ended_by: None, package, as_shipped: false };
    finding("01", "github.token", Some("f00d"), Location::File(Box::new(file)))
}

fn port() -> Finding {
    finding("02", "config.port.https", None, Location::Config("ExposedPorts.8443/tcp".into()))
}

fn chain() -> Finding {
    let related = vec!["01".into(), "02".into()];
    Finding { related, ..finding("03", "chain.key-and-port", None, Location::Image) }
}

fn day(text: &str) -> Date {
    Date::parse(text).unwrap()
}

fn parse(text: &str) -> Result<Policy, PolicyError> {
    Policy::parse("p.toml", text, day("2026-06-15"))
}

fn error(text: &str) -> String {
    parse(text).unwrap_err().to_string()
}

/// Whether an entry with `fields` allows `finding`.
fn allows(fields: &str, finding: &Finding) -> bool {
    let policy = parse(&format!("[[allow]]\nreason = 'r'\nexpires = 2026-12-31\n{fields}\n")).unwrap();
    policy.allow.find(finding).is_some()
}

fn report(findings: Vec<Finding>) -> ImageReport {
    ImageReport { findings, ..ImageReport::default() }
}

#[test]
fn gaps_never_pass_and_findings_are_worse_than_gaps() {
    let mut report = ImageReport::default();
    assert_eq!(Policy::default().verdict(&report), Verdict::Pass);
    report.gaps.push(gap());
    assert_eq!(Policy::default().verdict(&report), Verdict::Incomplete);
    assert_eq!(Policy::failing_on(None).verdict(&report), Verdict::Incomplete);
    assert!(Verdict::Fail > Verdict::Incomplete && Verdict::Incomplete > Verdict::Pass);
    assert_eq!([Verdict::Pass, Verdict::Fail, Verdict::Incomplete].map(Verdict::exit_code), [0, 1, 3]);
}

#[test]
fn each_field_of_an_entry_selects() {
    for (fields, is_allowed) in [
        ("fingerprint = 'f00d'", true),
        ("fingerprint = 'f00'", false),
        ("rule = 'github.token'", true),
        ("rule = 'github.'", true),
        ("rule = 'github'", false),
        ("rule = 'gitlab.'", false),
        ("path = 'app/**'", true),
        ("path = '/app/**/etc/*.env'", true),
        ("path = 'app/lib/fixtures.zip/inner.tar/etc/app.env'", true),
        ("path = 'app/*'", false),
        ("path = 'lib/**'", false),
        (&format!("layer = '{BLOB}'"), true),
        (&format!("layer = '{DIFF}'"), true),
        (&format!("layer = '{}'", BLOB.replace('1', "3")), false),
        ("package = '@acme/seal'", true),
        ("package = 'npm:@acme/seal'", true),
        ("package = 'deb:@acme/seal'", false),
        ("package = 'seal'", false),
        ("fingerprint = 'f00d'\nrule = 'github.'\npath = '**/app.env'", true),
        ("fingerprint = 'f00d'\nrule = 'gitlab.'", false),
    ] {
        assert_eq!(allows(fields, &token()), is_allowed, "{fields}");
    }
    assert!(allows("rule = 'config.port.'", &port()));
    for fields in ["path = '**'", &format!("layer = '{BLOB}'"), "package = 'x'", "fingerprint = 'f00d'"] {
        assert!(!allows(fields, &port()) && !allows(fields, &chain()), "{fields}");
    }
}

#[test]
fn an_entry_holds_through_its_last_day() {
    let text = "[[allow]]\nrule = 'github.'\nreason = 'r'\nexpires = '2026-06-15'\n";
    for (today, verdict) in [("2026-06-15", Verdict::Pass), ("2026-06-16", Verdict::Fail)] {
        let policy = Policy::parse("p.toml", text, day(today)).unwrap();
        assert_eq!(policy.verdict(&report(vec![token()])), verdict, "{today}");
        assert_eq!(policy.allow.expired().count(), usize::from(verdict == Verdict::Fail));
    }
}

#[test]
fn what_is_allowed_does_not_fail_and_gaps_still_do_not_pass() {
    let policy = parse("[[allow]]\nrule = 'github.'\nreason = 'r'\nexpires = 2026-12-31\n").unwrap();
    let mut report = report(vec![token()]);
    assert_eq!(policy.verdict(&report), Verdict::Pass);
    report.gaps.push(gap());
    assert_eq!(policy.verdict(&report), Verdict::Incomplete);
    report.findings.push(port());
    assert_eq!(policy.verdict(&report), Verdict::Fail);
}

#[test]
fn a_mistake_is_named_with_file_and_line() {
    let entry = "fail-on = 'low'\n\n[[allow]]\nrule = 'a.b'\nreason = 'r'\nexpires = 2026-12-31\n";
    assert_eq!(parse(entry).unwrap().fail_on, Some(Severity::Low));
    assert_eq!(parse("fail-on = 'none'").unwrap().fail_on, None);
    assert_eq!(parse("").unwrap().fail_on, Some(Severity::High));
    for (old, new, line, reason) in [
        ("'low'", "'grave'", 1, "is no severity"),
        ("fail-on", "allow-incomplete", 1, "unknown field"),
        ("rule =", "rules =", 4, "unknown field"),
        ("'a.b'", "' '", 4, "must not be blank"),
        ("rule = 'a.b'", "layer = 'sha256:12'", 4, "is no digest"),
        ("rule = 'a.b'", "path = 'a{b'", 4, "alternat"),
        ("rule = 'a.b'", "path = ''", 4, "must not be blank"),
        ("'r'", "'\t'", 5, "must not be blank"),
        ("2026-12-31", "'2026-02-30'", 6, "YYYY-MM-DD"),
        ("2026-12-31", "2026-12-31T10:00:00Z", 6, "YYYY-MM-DD"),
        ("2026-12-31", "20261231", 6, "YYYY-MM-DD"),
        ("reason = 'r'\n", "", 3, "missing field `reason`"),
        ("expires = 2026-12-31\n", "", 3, "missing field `expires`"),
        ("rule = 'a.b'\n", "", 3, "allow entry 1 does not say what it allows"),
    ] {
        let error = error(&entry.replace(old, new));
        let place = error.starts_with("p.toml: ") && error.contains(&format!("line {line}"));
        assert!(place && error.contains(reason), "{new}: {error}");
    }
}

#[test]
fn no_part_of_a_file_panics() {
    let text = "fail-on = 'low'\n[[allow]]\npath = 'a/{b,c}/**/[x-z]?'\nreason = 'r'\nexpires = 2026-12-31\n";
    let json = r#"{"schema": 1, "findings": [{"id": "1", "rule": "a.b", "secret": {"fingerprint": "f"}}]}"#;
    assert!(parse(text).is_ok() && Baseline::parse(json).is_ok());
    (0..text.len()).for_each(|end| drop(parse(&text[..end])));
    for end in 0..json.len() {
        assert!(Baseline::parse(&json[..end]).is_err(), "{end}");
    }
}

fn baseline(findings: &str) -> Baseline {
    Baseline::parse(&format!(r#"{{"schema": 1, "findings": [{findings}]}}"#)).unwrap()
}

#[test]
fn a_baseline_knows_findings_by_id_and_by_what_a_new_build_keeps() {
    let known = |findings: &str| baseline(findings).known(&[token()]) == [true];
    let line = |rule: &str, fingerprint: &str, path: &str, member: &str| {
        format!(
            r#"{{"id": "99", "rule": "{rule}", "path": "{path}", "inside": ["inner.tar", "{member}"],
                "secret": {{"fingerprint": "{fingerprint}"}}}}"#
        )
    };
    assert!(known(r#"{"id": "01", "rule": "github.token"}"#));
    assert!(known(&line("github.token", "f00d", "app/lib/fixtures.zip", "etc/app.env")));
    assert!(!known(&line("gitlab.token", "f00d", "app/lib/fixtures.zip", "etc/app.env")));
    assert!(!known(&line("github.token", "beef", "app/lib/fixtures.zip", "etc/app.env")));
    assert!(!known(&line("github.token", "f00d", "app/lib/other.zip", "etc/app.env")));
    assert!(!known(&line("github.token", "f00d", "app/lib/fixtures.zip", "etc/other.env")));
    assert!(!known(r#"{"id": "99", "rule": "github.token"}"#) && !known(""));
}

#[test]
fn a_chain_is_known_where_its_parts_are() {
    let parts = r#"{"id": "01", "rule": "github.token"}, {"id": "02", "rule": "config.port.https"}"#;
    let chained = r#"{"id": "98", "rule": "chain.key-and-port", "related": ["96", "97"]}"#;
    let findings = [token(), port(), chain()];
    assert_eq!(baseline(&format!("{parts}, {chained}")).known(&findings), [true, true, true]);
    assert_eq!(baseline(parts).known(&findings), [true, true, false]);
    let other = r#"{"id": "01", "rule": "github.token"}"#;
    assert_eq!(baseline(&format!("{other}, {chained}")).known(&findings), [true, false, false]);
}

#[test]
fn what_is_no_report_is_no_baseline() {
    for (text, reason) in [
        ("", "EOF"),
        ("[]", "invalid"),
        ("{}", "no `schema`"),
        (r#"{"schema": 2, "findings": []}"#, "schema 2 is not known"),
        (r#"{"schema": 1, "images": []}"#, "expected either"),
        (r#"{"schema": 1, "findings": [], "reports": []}"#, "expected either"),
        (r#"{"schema": 1, "findings": [{"rule": "a.b"}]}"#, "missing field `id`"),
        (r#"{"schema": 1, "reports": [{}]}"#, "missing field `findings`"),
    ] {
        let error = Baseline::parse(text).unwrap_err();
        assert!(error.contains(reason), "{text}: {error}");
    }
    let many = r#"{"schema": 1, "reports": [{"findings": []}, {"findings": [{"id": "02", "rule": "x.y"}]}]}"#;
    assert_eq!(Baseline::parse(many).unwrap().known(&[token(), port()]), [false, true]);
}
