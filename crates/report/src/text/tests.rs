//! Tests of the text: what is grouped, what is shown, and that it fits.

use std::sync::Arc;

use layersift_model::{
    BinaryPlace, Confidence, Digest, FixPatch, Gap, GapReason, ImageGap, LayerRef, LayerSummary, Location, Package,
    ReportedSecret, RuleInfo, Secret, State, changes_display,
};
use unicode_width::UnicodeWidthStr;

use super::groups::{Place, clusters, sections};
use super::*;
use crate::Policy;
use crate::terminal::without_colours as plain;

const SEVERITIES: [Severity; 5] = Severity::ALL;

fn rule(id: &str, severity: Severity) -> Arc<RuleInfo> {
    Arc::new(RuleInfo {
        id: id.into(),
        title: format!("Title of {id}"),
        severity,
        confidence: Confidence::High,
        what: "What it is.".into(),
        risk: "What a thief does with it, in a sentence that is long enough to be wrapped on a narrow terminal.".into(),
        fix: "What to do.".into(),
        references: Vec::new(),
    })
}

fn layer_ref(index: usize) -> LayerRef {
    let digest = Digest::of(&[u8::try_from(index).unwrap()]);
    LayerRef { index, digest: Some(digest), diff_id: None, created_by: Some(format!("RUN build --step {index}")) }
}

fn file(path: &str, layer: usize) -> layersift_model::FileLocation {
    layersift_model::FileLocation {
        path: path.into(),
        inside: Vec::new(),
        views: Vec::new(),
        offset: None,
        line: None,
        column: None,
        binary: None,
        layer: layer_ref(layer),
        state: State::Present,
        ended_by: None,
        package: None,
        as_shipped: false,
        attributes: None,
    }
}

fn at(rule: &Arc<RuleInfo>, location: Location) -> Finding {
    Finding {
        id: "0".repeat(16),
        rule: Arc::clone(rule),
        severity: rule.severity,
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

/// A finding in the file `path` of layer 1.
fn found(rule: &Arc<RuleInfo>, path: &str) -> Finding {
    at(rule, Location::File(Box::new(file(path, 1))))
}

fn packaged(rule: &Arc<RuleInfo>, path: &str, name: &str) -> Finding {
    let package = Package { ecosystem: "npm".into(), name: name.into(), version: Some("1.2.3".into()) };
    at(rule, Location::File(Box::new(layersift_model::FileLocation { package: Some(package), ..file(path, 1) })))
}

fn secret(rule: &Arc<RuleInfo>, path: &str, fingerprint: u128) -> Finding {
    let secret = ReportedSecret {
        masked: "tok_****9z".into(),
        fingerprint: format!("{fingerprint:032x}"),
        length: 40,
        value: Some(Secret::new(*b"tok_0123456789abcdefghij9z")),
    };
    let location = layersift_model::FileLocation { line: Some(7), column: Some(13), ..file(path, 1) };
    Finding { secret: Some(secret), ..at(rule, Location::File(Box::new(location))) }
}

fn report(findings: Vec<Finding>) -> ImageReport {
    let layer = |index: usize| LayerSummary {
        index,
        digest: layer_ref(index).digest,
        created_by: layer_ref(index).created_by,
        is_read: true,
        files: 1_200,
        bytes: 5 << 20,
        ..LayerSummary::default()
    };
    ImageReport {
        target: "app.tar".into(),
        reference: Some("registry.example.org/team/app:1.0".into()),
        platform: Some("linux/amd64".into()),
        manifest_digest: Some(Digest::of(b"manifest")),
        layers: (0..3).map(layer).collect(),
        findings,
        ..ImageReport::default()
    }
}

/// An ordinary image: a handful of secrets, and thousands of low findings.
fn ordinary() -> ImageReport {
    let map = rule("source.source-map", Severity::Low);
    let token = rule("generic.token", Severity::Medium);
    let test_key = rule("private-key.pem", Severity::Medium);
    let next = "srv/app/node_modules/next/dist";
    let mut findings = Vec::new();
    for index in 0..1_311 {
        findings.push(packaged(&map, &format!("{next}/esm/part{}/file{index}.js.map", index % 9), "next"));
    }
    for index in 0..800 {
        findings.push(packaged(&map, &format!("srv/app/node_modules/lib{index}/index.js.map"), &format!("lib{index}")));
    }
    findings.extend((0..611).map(|index| found(&map, &format!("srv/app/public/{index}.js.map"))));
    findings.extend((0..27).map(|index| secret(&token, &format!("srv/app/config/{}.json", index / 2), index)));
    findings.extend((0..12).map(|index| secret(&test_key, &format!("usr/lib/python3/test/keys/{index}.pem"), 99)));
    findings.push(at(&rule("config.user", Severity::Info), Location::Config("User".into())));
    report(findings)
}

fn judged(mut report: ImageReport, fail_on: Option<Severity>) -> ImageReport {
    Policy::failing_on(fail_on).judge(&mut report);
    report
}

/// The text for `report`, with colours.
fn coloured(report: &ImageReport, options: RenderOptions) -> String {
    let mut out = Vec::new();
    render(std::slice::from_ref(report), &options, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

fn text(report: &ImageReport, show: Severity, width: usize) -> String {
    plain(&coloured(report, RenderOptions { show, width, ..RenderOptions::default() }))
}

fn places<'r>(findings: &'r [Finding]) -> (Vec<(Place<'r>, usize)>, usize) {
    let findings: Vec<&Finding> = findings.iter().collect();
    let (clusters, rest) = clusters(&findings);
    (clusters.into_iter().map(|cluster| (cluster.place, cluster.findings.len())).collect(), rest.len())
}

fn paths(paths: &[(&str, usize)]) -> Vec<Finding> {
    let rule = rule("a.b", Severity::Low);
    paths
        .iter()
        .flat_map(|(pattern, count)| (0..*count).map(|n| found(&rule, &pattern.replace('#', &n.to_string()))))
        .collect()
}

fn directory(path: &str) -> Place<'static> {
    Place::Directory(path.into())
}

#[test]
fn a_few_files_are_listed_one_by_one() {
    assert_eq!(places(&paths(&[("a/b/#", 3)])), (vec![], 3));
    assert_eq!(places(&[]), (vec![], 0));
}

#[test]
fn the_deepest_directory_with_enough_is_named() {
    assert_eq!(places(&paths(&[("a/b/c/#/f", 9)])), (vec![(directory("a/b/c"), 9)], 0));
    // The strays are not enough for a line of their own; `a` would hold all.
    let split = paths(&[("a/b/c/#", 40), ("a/d/#", 30), ("a/e", 1), ("x/y", 1)]);
    assert_eq!(places(&split), (vec![(directory("a/b/c"), 40), (directory("a/d"), 30)], 2));
    let scattered = paths(&[("a#/f", 20), ("b/c/#", 20)]);
    assert_eq!(places(&scattered), (vec![(directory("b/c"), 20), (Place::Elsewhere, 20)], 0));
    let elsewhere = paths(&[("a/b/#/f", 20), ("a/c/#", 20)]);
    assert_eq!(places(&elsewhere), (vec![(directory("a/b"), 20), (directory("a/c"), 20)], 0));
}

#[test]
fn names_that_begin_alike_are_not_one_directory() {
    let findings = paths(&[("lib/#", 4), ("lib-extra/#", 4), ("lib", 4)]);
    let expected = vec![(Place::File("lib".into()), 4), (directory("lib-extra"), 4), (directory("lib"), 4)];
    assert_eq!(places(&findings), (expected, 0));
}

#[test]
fn archives_are_directories() {
    let mut findings = paths(&[("a/app.jar", 8)]);
    for (index, finding) in findings.iter_mut().enumerate() {
        let Location::File(file) = &mut finding.location else { panic!("{finding:?}") };
        file.inside = vec![format!("com/example/{index}.map")];
    }
    assert_eq!(places(&findings), (vec![(directory("a/app.jar ▸ com/example"), 8)], 0));
}

#[test]
fn packages_come_before_directories() {
    let map = rule("a.b", Severity::Low);
    let mut findings: Vec<Finding> =
        (0..10).map(|n| packaged(&map, &format!("n/next/dist/{}/{n}", n % 5), "next")).collect();
    findings.extend((0..10).map(|n| packaged(&map, &format!("n/lib{n}/f"), &format!("lib{n}"))));
    let (found, rest) = places(&findings);
    let [(Place::Package(package, under), 10), (Place::Directory(directory), 10)] = &found[..] else {
        panic!("{found:?}")
    };
    assert_eq!((&package.name[..], &under[..], &directory[..], rest), ("next", "n/next/dist", "n", 0));
}

#[test]
fn grouping_does_not_depend_on_the_order_and_loses_nothing() {
    let findings = paths(&[("a/b/#", 7), ("a/b/c/#/d", 5), ("e#/f", 6), ("g/h", 2), ("a/b/c/x/d", 2)]);
    let expected = places(&findings);
    assert_eq!(expected.0.iter().map(|(_, count)| count).sum::<usize>() + expected.1, findings.len());
    let mut turned = findings.clone();
    for turn in 1..findings.len() {
        turned.rotate_left(turn);
        assert_eq!(places(&turned), expected);
    }
}

#[test]
fn sections_are_ordered_by_severity_and_hold_one_block_for_a_secret() {
    let (high, low) = (rule("a.high", Severity::High), rule("b.low", Severity::Low));
    let shipped = Finding { severity: Severity::Info, ..secret(&high, "x", 1) };
    let findings = [found(&low, "l"), shipped, secret(&high, "y", 2), secret(&high, "z", 1)];
    let sections = sections(findings.iter());
    let shape: Vec<(&str, Severity, Vec<usize>)> = sections
        .iter()
        .map(|section| {
            let places = section.secrets.iter().map(|secret| secret.places.len()).collect();
            (&section.rule.id[..], section.severity, places)
        })
        .collect();
    assert_eq!(shape, [("a.high", Severity::High, vec![2, 1]), ("b.low", Severity::Low, vec![])]);
}

#[test]
fn an_ordinary_image_reads_at_a_glance() {
    insta::assert_snapshot!(text(&judged(ordinary(), Some(Severity::High)), Severity::Medium, 100));
}

#[test]
fn low_findings_on_request() {
    insta::assert_snapshot!(text(&judged(ordinary(), Some(Severity::High)), Severity::Low, 100));
}

#[test]
fn a_narrow_terminal() {
    insta::assert_snapshot!(text(&judged(ordinary(), Some(Severity::Medium)), Severity::Info, 60));
}

#[test]
fn a_pass() {
    insta::assert_snapshot!(text(&judged(report(Vec::new()), Some(Severity::High)), Severity::Medium, 100));
}

#[test]
fn an_incomplete_scan() {
    let mut report = report(vec![found(&rule("source.dotenv", Severity::Low), "app/.env")]);
    let gap = |layer, gap| ImageGap { gap, layer };
    report.gaps.push(gap(None, Gap::new(GapReason::MissingBlob, "the manifest names it, and the archive lacks it")));
    for index in 0..1_204 {
        let path = format!("srv/data/backup/volume-{index}/a-file-with-a-long-name-that-does-not-fit.zip");
        report.gaps.push(gap(Some(2), Gap::new(GapReason::EncryptedMember, "encrypted").at(path).sized(4_096)));
    }
    insta::assert_snapshot!(text(&judged(report, Some(Severity::High)), Severity::Medium, 80));
}

#[test]
fn several_images() {
    let token = rule("generic.token", Severity::High);
    let failing = ImageReport { platform: Some("linux/arm64".into()), ..report(vec![secret(&token, "app/x", 1)]) };
    let reports = [report(Vec::new()), failing].map(|report| judged(report, Some(Severity::High)));
    let mut out = Vec::new();
    render(&reports, &RenderOptions::default(), &mut out).unwrap();
    insta::assert_snapshot!(plain(&String::from_utf8(out).unwrap()));
}

#[test]
fn what_fails_is_listed_whatever_is_asked_for() {
    let report = report(vec![found(&rule("source.dotenv", Severity::Low), "app/.env")]);
    for (fail_on, is_listed) in [(Severity::Low, true), (Severity::Info, true), (Severity::Medium, false)] {
        let text = text(&judged(report.clone(), Some(fail_on)), Severity::Critical, 100);
        assert_eq!(text.contains("app/.env"), is_listed, "{text}");
        assert_eq!(text.contains("Not listed: 1 low  (--show low lists them)"), !is_listed, "{text}");
    }
}

#[test]
fn the_verdict_is_repeated_after_more_than_a_screen() {
    let long = text(&judged(ordinary(), Some(Severity::Medium)), Severity::Medium, 100);
    let verdict = long.lines().next().unwrap();
    assert!(verdict.starts_with("FAIL  39 medium"), "{verdict}");
    assert_eq!(long.lines().next_back(), Some(verdict));
    let short = text(&judged(report(Vec::new()), None), Severity::Medium, 100);
    assert_eq!(short.matches("PASS").count(), 1, "{short}");
}

#[test]
fn fields_that_an_older_program_left_out_print_nothing() {
    let mut bare = RuleInfo::clone(&rule("old.rule", Severity::High));
    [&mut bare.title, &mut bare.what, &mut bare.risk, &mut bare.fix].into_iter().for_each(String::clear);
    let mut report = ImageReport { target: "old".into(), ..report(vec![found(&Arc::new(bare), "etc/x")]) };
    (report.reference, report.platform, report.manifest_digest) = (None, None, None);
    let text = text(&judged(report, Some(Severity::High)), Severity::Medium, 100);
    assert!(text.contains("\nHIGH  old.rule\n  etc/x\n"), "{text}");
    assert!(!text.contains("Risk") && !text.contains("Fix"), "{text}");
    assert!(text.lines().all(|line| !line.ends_with(' ')), "{text}");
}

#[test]
fn secrets_are_shown_on_request_alone() {
    let report = judged(report(vec![secret(&rule("a.b", Severity::High), "x", 1)]), None);
    let value = "tok_0123456789abcdefghij9z";
    assert!(!text(&report, Severity::Info, 100).contains(value));
    let shown = coloured(&report, RenderOptions { show_secrets: true, ..RenderOptions::default() });
    assert_eq!(shown.matches(value).count(), 1, "{shown}");
    // 27 tokens, and one key in many places.
    let shown = coloured(&judged(ordinary(), None), RenderOptions { show_secrets: true, ..RenderOptions::default() });
    assert_eq!(shown.matches(value).count(), 28, "{shown}");
}

#[test]
fn changes_are_shown_as_diffs_and_counted_when_there_are_many() {
    let patch = |number: usize| FixPatch {
        findings: vec!["0".repeat(16)],
        diff: format!(
            "--- a/Dockerfile\n+++ b/Dockerfile\n@@ -{number} +{number} @@\n-ENV A=****\n+# \x1b[31m{number}\n"
        ),
    };
    let patched = |count: usize| ImageReport { patches: (1..=count).map(patch).collect(), ..judged(ordinary(), None) };
    let text = plain(&coloured(&patched(1), RenderOptions::default()));
    let section = text.split("PROPOSED CHANGES\n").nth(1).unwrap();
    assert!(
        section.starts_with("  --- a/Dockerfile\n  +++ b/Dockerfile\n  @@ -1 +1 @@\n  -ENV A=****\n  +# "),
        "{section}"
    );
    assert!(!section.contains('\x1b'), "{section}");
    let text = plain(&coloured(&patched(12), RenderOptions::default()));
    assert!(text.contains("@@ -10 +10 @@") && !text.contains("@@ -11 +11 @@"), "{text}");
    assert!(text.contains("… and 2 more changes (--format json)"), "{text}");
}

/// A report in which an image says in every text what would steer a terminal, at great length.
fn hostile() -> ImageReport {
    let evil = format!("\x1b[31m\u{202e}\r\n{}/目录\u{9b}/{}", "long ".repeat(60), "name".repeat(40));
    let mut hostile = RuleInfo::clone(&rule("hostile.rule", Severity::High));
    for text in [&mut hostile.id, &mut hostile.title, &mut hostile.risk, &mut hostile.fix] {
        text.push_str(&evil);
    }
    let rule = Arc::new(hostile);
    let end = LayerRef { created_by: Some(evil.clone()), ..layer_ref(2) };
    let binary =
        BinaryPlace { format: "elf".into(), section: Some(evil.clone()), symbol: Some(evil.clone()), node_addon: true };
    let package = Package { ecosystem: "npm".into(), name: evil.clone(), version: Some(evil.clone()) };
    let location = layersift_model::FileLocation {
        inside: vec![evil.clone()],
        views: vec![evil.clone().into()],
        layer: LayerRef { created_by: Some(evil.clone()), ..layer_ref(1) },
        state: State::Deleted,
        ended_by: Some(end),
        binary: Some(binary),
        package: Some(package),
        as_shipped: true,
        attributes: None,
        ..file(&evil, 1)
    };
    let in_file = Finding { note: Some(evil.clone()), ..at(&rule, Location::File(Box::new(location))) };
    let mut findings = vec![in_file.clone(), at(&rule, Location::Config(evil.clone())), at(&rule, Location::Image)];
    findings.extend(std::iter::repeat_n(in_file, 9));
    findings.extend((0..9).map(|index| found(&rule, &format!("{index}{evil}"))));
    let mut masked = secret(&rule, &evil, 1);
    masked.secret.as_mut().unwrap().masked = evil.clone();
    findings.push(masked);
    let gap = Gap::new(GapReason::Unreadable, evil.clone()).at(evil.clone());
    let mut report = report(findings);
    (report.reference, report.platform) = (Some(evil.clone()), Some(evil.clone()));
    report.tool.version = evil.clone();
    report.layers[1].created_by = Some(evil);
    report.gaps.push(ImageGap { gap, layer: Some(1) });
    report
}

#[test]
fn nothing_is_wider_than_the_terminal_and_nothing_steers_it() {
    for report in [hostile(), ordinary()] {
        for width in [NARROWEST, 60, 61, 79, 100, 250] {
            for show in SEVERITIES {
                let text = text(&judged(report.clone(), Some(Severity::High)), show, width);
                assert!(!text.chars().any(|c| changes_display(c) && c != '\n'), "{text:?}");
                let digest = report.manifest_digest.as_ref().unwrap().to_string();
                for line in text.lines().filter(|line| *line != digest) {
                    assert!(line.width() <= width, "{width}: {line}");
                }
            }
        }
    }
}
