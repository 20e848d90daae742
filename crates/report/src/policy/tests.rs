//! Tests of verdicts, exceptions and baselines.

use std::sync::Arc;

use super::*;
use layersift_model::{
    BuildEvidence, Confidence, FileLocation, Finding, Gap, GapReason, ImageBase, ImageGap, LayerOrigin, LayerRef,
    Location, Package, ReportedSecret, RuleInfo, State, to_json,
};

const BLOB: &str = "sha256:1111111111111111111111111111111111111111111111111111111111111111";
const DIFF: &str = "sha256:2222222222222222222222222222222222222222222222222222222222222222";

fn gap() -> ImageGap {
    ImageGap { gap: Gap::new(GapReason::MissingBlob, "x"), layer: None }
}

fn rule(id: &str) -> Arc<RuleInfo> {
    Arc::new(RuleInfo {
        id: id.into(),
        title: String::new(),
        severity: Severity::High,
        confidence: Confidence::High,
        what: String::new(),
        risk: String::new(),
        fix: String::new(),
        references: Vec::new(),
    })
}

fn finding(id: &str, rule_id: &str, fingerprint: Option<&str>, location: Location) -> Finding {
    let secret = |fingerprint: &str| ReportedSecret {
        masked: "****".into(),
        fingerprint: fingerprint.into(),
        length: 40,
        value: None,
    };
    Finding {
        id: id.into(),
        rule: rule(rule_id),
        severity: Severity::High,
        location,
        secret: fingerprint.map(secret),
        note: None,
        related: Vec::new(),
        allowed: None,
        baseline: false,
        origin: None,
        step: None,
    }
}

/// A token in an archive member of a package's file.
fn token() -> Finding {
    token_at("01", "github.token", "f00d", "app/lib/fixtures.zip", "etc/app.env")
}

fn token_at(id: &str, rule: &str, fingerprint: &str, path: &str, member: &str) -> Finding {
    let file = FileLocation {
        path: path.into(),
        inside: vec!["inner.tar".into(), member.into()],
        views: Vec::new(),
        offset: Some(0),
        line: None,
        column: None,
        binary: None,
        layer: LayerRef { index: 1, digest: BLOB.parse().ok(), diff_id: DIFF.parse().ok(), created_by: None },
        state: State::Present,
        ended_by: None,
        package: Some(Package { ecosystem: "npm".into(), name: "@acme/seal".into(), version: None }),
        as_shipped: false,
        attributes: None,
    };
    finding(id, rule, Some(fingerprint), Location::File(Box::new(file)))
}

fn port() -> Finding {
    finding("02", "config.port.https", None, Location::Config("ExposedPorts.8443/tcp".into()))
}

fn chain() -> Finding {
    let related = vec!["01".into(), "02".into()];
    Finding { related, ..finding("03", "chain.key-and-port", None, Location::Image) }
}

fn day(text: &str) -> Date {
    text.parse().unwrap()
}

fn parse(text: &str) -> Result<Policy, PolicyError> {
    Policy::parse(Path::new("p.toml"), text, day("2026-06-15"))
}

fn error(text: &str) -> String {
    let error = parse(text).unwrap_err();
    let source = std::error::Error::source(&error).map(|source| format!(": {source}")).unwrap_or_default();
    format!("{error}{source}")
}

/// Whether an entry with `fields` allows `finding`.
fn allows(fields: &str, finding: &Finding) -> bool {
    with_entry(fields).allow.find(finding, None).is_some()
}

/// A policy with one entry that has `fields`.
fn with_entry(fields: &str) -> Policy {
    parse(&format!("[[allow]]\nreason = 'r'\nexpires = 2026-12-31\n{fields}\n")).unwrap()
}

fn report(findings: Vec<Finding>) -> ImageReport {
    ImageReport { findings, ..ImageReport::default() }
}

fn verdict(policy: &Policy, report: &ImageReport) -> Verdict {
    let mut judged = report.clone();
    policy.judge(&mut judged);
    judged.verdict()
}

#[test]
fn gaps_never_pass_and_findings_are_worse_than_gaps() {
    let mut report = ImageReport::default();
    assert_eq!(verdict(&Policy::default(), &report), Verdict::Pass);
    report.gaps.push(gap());
    assert_eq!(verdict(&Policy::default(), &report), Verdict::Incomplete);
    assert_eq!(verdict(&Policy::failing_on(None), &report), Verdict::Incomplete);
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
    for (today, expected) in [("2026-06-15", Verdict::Pass), ("2026-06-16", Verdict::Fail)] {
        let policy = Policy::parse(Path::new("p.toml"), text, day(today)).unwrap();
        assert_eq!(verdict(&policy, &report(vec![token()])), expected, "{today}");
        assert_eq!(policy.allow.expired().count(), usize::from(expected == Verdict::Fail));
    }
}

#[test]
fn what_is_allowed_does_not_fail_and_gaps_still_do_not_pass() {
    let policy = parse("[[allow]]\nrule = 'github.'\nreason = 'r'\nexpires = 2026-12-31\n").unwrap();
    let mut report = report(vec![token()]);
    assert_eq!(verdict(&policy, &report), Verdict::Pass);
    report.gaps.push(gap());
    assert_eq!(verdict(&policy, &report), Verdict::Incomplete);
    report.findings.push(port());
    assert_eq!(verdict(&policy, &report), Verdict::Fail);
}

#[test]
fn a_mistake_is_named_with_file_and_line() {
    let entry = "fail-on = 'low'\n\n[[allow]]\nrule = 'a.b'\nreason = 'r'\nexpires = 2026-12-31\n";
    assert_eq!(parse(entry).unwrap().fail_on, Some(Severity::Low));
    assert_eq!(parse("fail-on = 'none'").unwrap().fail_on, None);
    assert_eq!(parse("").unwrap().fail_on, Some(Severity::High));
    for (old, new, line, reason) in [
        ("'low'", "'grave'", 1, "invalid severity"),
        ("fail-on", "allow-incomplete", 1, "unknown field `allow-incomplete`"),
        ("rule =", "rules =", 4, "unknown field"),
        ("'a.b'", "' '", 4, "must not be blank"),
        ("rule = 'a.b'", "layer = 'sha256:12'", 4, "invalid digest"),
        ("rule = 'a.b'", "path = 'a{b'", 4, "error parsing glob"),
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
        let place = error.starts_with("invalid policy p.toml: ") && error.contains(&format!("line {line}"));
        assert!(place && error.contains(reason), "{new}: {error}");
    }
}

#[test]
fn no_part_of_a_file_panics() {
    let text = "fail-on = 'low'\n[[allow]]\npath = 'a/{b,c}/**/[x-z]?'\nreason = 'r'\nexpires = 2026-12-31\n";
    let json = to_json(&[report(vec![token()])], false).unwrap();
    assert!(parse(text).is_ok() && Baseline::parse(&json).is_ok());
    (0..text.len()).for_each(|end| drop(parse(&text[..end])));
    for end in 0..json.len() {
        assert!(Baseline::parse(&json[..end]).is_err(), "{end}");
    }
}

fn baseline(findings: Vec<Finding>) -> Baseline {
    Baseline::parse(&to_json(&[report(findings)], false).unwrap()).unwrap()
}

#[test]
fn a_baseline_knows_findings_by_id_and_by_what_a_new_build_keeps() {
    let known = |finding| baseline(vec![finding]).known(&[token()]) == [true];
    assert!(known(finding("01", "github.token", None, Location::Image)));
    assert!(known(token_at("99", "github.token", "f00d", "app/lib/fixtures.zip", "etc/app.env")));
    assert!(!known(token_at("99", "gitlab.token", "f00d", "app/lib/fixtures.zip", "etc/app.env")));
    assert!(!known(token_at("99", "github.token", "beef", "app/lib/fixtures.zip", "etc/app.env")));
    assert!(!known(token_at("99", "github.token", "f00d", "app/lib/other.zip", "etc/app.env")));
    assert!(!known(token_at("99", "github.token", "f00d", "app/lib/fixtures.zip", "etc/other.env")));
    assert!(!known(finding("99", "github.token", None, Location::Image)));
    assert_eq!(baseline(Vec::new()).known(&[token()]), [false]);
}

#[test]
fn a_chain_is_known_where_its_parts_are() {
    let rebuilt = Finding { id: "98".into(), related: vec!["96".into(), "97".into()], ..chain() };
    let findings = [token(), port(), chain()];
    assert_eq!(baseline(vec![token(), port(), rebuilt.clone()]).known(&findings), [true, true, true]);
    assert_eq!(baseline(vec![token(), port()]).known(&findings), [true, true, false]);
    assert_eq!(baseline(vec![token(), rebuilt]).known(&findings), [true, false, false]);
}

#[test]
fn a_baseline_is_a_report() {
    for (text, reason) in [
        ("", "EOF"),
        ("[]", "invalid"),
        ("{}", "missing field `schema`"),
        (r#"{"schema": 2, "findings": []}"#, "unknown schema 2"),
        (r#"{"schema": 1, "images": []}"#, "missing field"),
        (r#"{"schema": 1, "reports": [{}]}"#, "missing field"),
    ] {
        let error = Baseline::parse(text).unwrap_err().to_string();
        assert!(error.contains(reason), "{text}: {error}");
    }
    let many = to_json(&[report(Vec::new()), report(vec![port()])], false).unwrap();
    assert_eq!(Baseline::parse(&many).unwrap().known(&[token(), port()]), [false, true]);
}

#[test]
fn a_judgement_names_its_policy_and_marks_what_it_allows() {
    let text = "[[allow]]\nrule = 'github.'\nreason = 'r'\nexpires = 2026-12-31\n\
                [[allow]]\nrule = 'config.'\nreason = 'old'\nexpires = 2026-01-31\n";
    let mut report = report(vec![token(), port()]);
    let policy = Policy { baseline: Some(baseline(vec![port()])), ..parse(text).unwrap() };
    policy.judge(&mut report);
    let judgement = report.judgement.clone().unwrap();
    assert_eq!(judgement.verdict, Verdict::Pass);
    assert_eq!(judgement.policy.digest, Some(Digest::of(text.as_bytes())));
    assert_eq!(judgement.policy.baseline.as_ref(), policy.baseline.as_ref().map(Baseline::digest));
    assert_eq!(judgement.expired[0].entry, 2);
    assert_eq!(report.findings[0].allowed.as_ref().unwrap().reason, "r");
    assert!(report.findings[1].baseline);
    // Another policy leaves nothing of the first one.
    Policy::default().judge(&mut report);
    assert!(report.findings.iter().all(Finding::counts));
    assert_eq!(report.verdict(), Verdict::Fail);
}

#[test]
fn a_base_image_allows_only_what_is_in_its_layers_and_proven() {
    const BASE: &str = "sha256:3333333333333333333333333333333333333333333333333333333333333333";
    let base = |is_proven| ImageBase {
        reference: Some("docker://r.example/base:1".into()),
        digest: BASE.parse().ok(),
        layers: Some(1),
        evidence: BuildEvidence::Store,
        is_proven,
    };
    let of = |origin| Finding { origin, ..token() };
    let config = Finding { origin: Some(LayerOrigin::Base), location: Location::Config("Env[0]".into()), ..token() };
    for wanted in [BASE, "r.example/base:1", "docker://r.example/base:1"] {
        let policy = with_entry(&format!("base = \"{wanted}\""));
        let allows = |finding: &Finding, base: &ImageBase| policy.allow.find(finding, Some(base)).is_some();
        assert!(allows(&of(Some(LayerOrigin::Base)), &base(true)), "{wanted}");
        assert!(!allows(&of(Some(LayerOrigin::Base)), &base(false)), "a claim is not enough");
        assert!(!allows(&of(Some(LayerOrigin::Own)), &base(true)));
        assert!(!allows(&of(None), &base(true)));
        assert!(!allows(&config, &base(true)), "no layer proves where a field comes from");
    }
    let other = with_entry("base = \"r.example/other:1\"");
    assert!(other.allow.find(&of(Some(LayerOrigin::Base)), Some(&base(true))).is_none());
}
