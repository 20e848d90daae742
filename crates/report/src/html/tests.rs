//! Tests of the page: what it shows, that text from an image stays text, and how large it gets.

use std::sync::Arc;

use layersift_model::{
    Allowed, BinaryPlace, BuildEvidence, BuildStep, Confidence, Digest, DocumentLocation, DocumentRef,
    ExpiredException, FileLocation, FingerprintKey, Gap, GapReason, ImageBase, ImageGap, LayerOrigin, LayerRef,
    LayerSummary, Location, Package, ReportedSecret, RuleInfo, Secret, State, Tool,
};
use proptest::prelude::*;

use super::*;
use crate::Policy;

/// A made-up token, which no page may contain.
const TOKEN: &str = "tok_0123456789abcdefghij9z";
const FINGERPRINT: &str = "00112233445566778899aabbccddeeff";

fn rule(id: &str, severity: Severity, text: &str) -> Arc<RuleInfo> {
    Arc::new(RuleInfo {
        id: id.into(),
        title: format!("Title of {text}"),
        severity,
        confidence: Confidence::High,
        what: format!("What {text} is."),
        risk: format!("What somebody does with {text}."),
        fix: format!("Revoke {text}."),
        references: vec!["https://docs.example/keys".into(), text.into()],
    })
}

fn layer_ref(index: usize, text: &str) -> LayerRef {
    let digest = Digest::of(&index.to_le_bytes());
    LayerRef { index, digest: Some(digest), diff_id: None, created_by: Some(format!("RUN {text}")) }
}

fn file(path: &str, layer: usize, ended_by: Option<(usize, State)>, text: &str) -> Location {
    Location::File(Box::new(FileLocation {
        path: path.into(),
        inside: vec![text.into()],
        views: vec!["base64".into()],
        offset: Some(80),
        line: Some(7),
        column: Some(13),
        binary: None,
        layer: layer_ref(layer, text),
        state: ended_by.map_or(State::Present, |(_, state)| state),
        ended_by: ended_by.map(|(layer, _)| layer_ref(layer, text)),
        package: Some(Package { ecosystem: "npm".into(), name: text.into(), version: Some(text.into()) }),
        as_shipped: false,
        attributes: None,
    }))
}

fn finding(rule: &Arc<RuleInfo>, location: Location, fingerprint: Option<&str>) -> Finding {
    Finding {
        id: "0123456789abcdef".into(),
        rule: Arc::clone(rule),
        severity: rule.severity,
        location,
        secret: fingerprint.map(|fingerprint| ReportedSecret {
            masked: "tok_****9z".into(),
            fingerprint: fingerprint.into(),
            length: 26,
            value: Some(Secret::new(TOKEN.as_bytes())),
        }),
        note: None,
        related: Vec::new(),
        allowed: None,
        baseline: false,
        origin: None,
        step: None,
    }
}

fn step(text: &str) -> BuildStep {
    BuildStep {
        file: text.into(),
        line: 3,
        end_line: 5,
        stage: Some(text.into()),
        base: Some(text.into()),
        evidence: BuildEvidence::Provenance,
    }
}

/// A small report with every field that the page shows; `text` is in all that may come from an image.
fn report(text: &str) -> ImageReport {
    let key = rule("acme.key", Severity::Critical, text);
    let other = rule("other.key", Severity::High, text);
    let map = rule("source.map", Severity::Low, text);
    let document = Location::Document(Box::new(DocumentLocation {
        document: DocumentRef {
            kind: "provenance".into(),
            digest: None,
            referrer: None,
            media_type: Some(text.into()),
            json_path: Some(text.into()),
        },
        inside: vec![text.into()],
        views: Vec::new(),
        line: Some(1),
        column: Some(2),
    }));
    let mut in_binary = finding(&other, file(text, 2, Some((2, State::Overwritten)), text), Some("f2"));
    if let Location::File(file) = &mut in_binary.location {
        let (section, symbol) = (Some(text.into()), Some(text.into()));
        file.binary = Some(BinaryPlace { format: "elf".into(), section, symbol, node_addon: true });
        file.line = None;
    }
    let allowed = Allowed { reason: text.into(), expires: jiff::civil::date(2026, 12, 31) };
    let findings = vec![
        finding(&key, file("app/.env", 1, Some((2, State::Deleted)), text), Some(FINGERPRINT)),
        finding(&key, file(text, 2, None, text), Some(FINGERPRINT)),
        Finding { step: Some(step(text)), origin: Some(LayerOrigin::Own), ..in_binary },
        Finding { note: Some(text.into()), ..finding(&other, Location::Config(text.into()), Some("f3")) },
        Finding { allowed: Some(allowed), ..finding(&other, document, Some("f4")) },
        Finding { baseline: true, ..finding(&map, file("app/a.map", 2, None, text), None) },
        Finding { related: vec!["0123456789abcdef".into()], ..finding(&key, Location::Image, None) },
    ];
    let layer = |index: usize| LayerSummary {
        index,
        digest: layer_ref(index, text).digest,
        diff_id: Some(Digest::of(b"diff")),
        created_by: Some(format!("RUN {text}")),
        is_read: true,
        files: 12,
        bytes: 5 << 20,
        stored_bytes: 1 << 20,
        whiteouts: vec![text.into()],
        origin: Some(if index == 0 { LayerOrigin::Base } else { LayerOrigin::Own }),
        step: (index > 0).then(|| step(text)),
        ..LayerSummary::default()
    };
    let mut report = ImageReport {
        target: text.into(),
        reference: Some(format!("registry.example/{text}")),
        manifest_digest: Some(Digest::of(b"manifest")),
        config_digest: Some(Digest::of(b"config")),
        platform: Some(text.into()),
        other_platforms: vec![text.into()],
        notes: vec![text.into()],
        base: Some(ImageBase {
            reference: Some(text.into()),
            digest: Some(Digest::of(b"base")),
            layers: Some(1),
            evidence: BuildEvidence::Annotation,
            is_proven: false,
        }),
        tool: Tool {
            version: "1.2.3".into(),
            ruleset: Digest::of(b"rules").to_string(),
            engine: text.into(),
            reader_revision: Some(4),
            fingerprint_key: Some(FingerprintKey::default().id()),
        },
        layers: (0..3).map(layer).collect(),
        findings,
        gaps: vec![ImageGap { gap: Gap::new(GapReason::DamagedTar, text).at(text).sized(12), layer: Some(1) }],
        ..ImageReport::default()
    };
    let kept: Vec<(Option<Allowed>, bool)> =
        report.findings.iter().map(|finding| (finding.allowed.clone(), finding.baseline)).collect();
    Policy::default().judge(&mut report);
    for (finding, (allowed, baseline)) in report.findings.iter_mut().zip(kept) {
        (finding.allowed, finding.baseline) = (allowed, baseline);
    }
    if let Some(judgement) = &mut report.judgement {
        let expires = jiff::civil::date(2026, 1, 1);
        judgement.expired.push(ExpiredException { entry: 1, reason: text.into(), expires });
    }
    report
}

fn page(reports: &[ImageReport]) -> String {
    let mut out = Vec::new();
    let options = RenderOptions { show_secrets: true, ..RenderOptions::default() };
    render(reports, &options, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

/// The page without its stylesheet and its script, which are constant, and without their hashes.
fn body(page: &str) -> String {
    let (head, rest) = page.split_once("<style>").unwrap();
    let (before, hashes) = head.split_once(" style-src").unwrap();
    let head = format!("{before} …{}", hashes.split_once("base-uri").unwrap().1);
    let (_, rest) = rest.split_once("</style>").unwrap();
    let (content, script) = rest.rsplit_once("<script>").unwrap();
    let (_, end) = script.split_once("</script>").unwrap();
    format!("{head}<style></style>{content}<script></script>{end}")
}

/// The tags of `page` in order, without their attributes, and the text between them. As a browser does, it takes a `<`
/// before a letter, `/`, `!` or `?` for markup wherever it is. A tag or attribute that the page does not use fails.
fn tags(page: &str) -> Vec<String> {
    const ATTRIBUTES: [&str; 36] = [
        "aria-label",
        "aria-labelledby",
        "aria-live",
        "autocomplete",
        "charset",
        "class",
        "content",
        "d",
        "data-entry",
        "data-layer",
        "dir",
        "height",
        "hidden",
        "href",
        "html",
        "http-equiv",
        "id",
        "label",
        "lang",
        "name",
        "open",
        "rel",
        "role",
        "rx",
        "scope",
        "tabindex",
        "type",
        "value",
        "viewBox",
        "width",
        "x",
        "x1",
        "x2",
        "y",
        "y1",
        "y2",
    ];
    let mut tags = Vec::new();
    let mut rest = page;
    while let Some(start) = rest.find('<') {
        let tag = &rest[start + 1..];
        let name: String = tag.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '/' || *c == '!').collect();
        assert!(!name.is_empty(), "an unescaped <: {}", tag.chars().take(60).collect::<String>());
        let mut attributes = tag[name.len()..].trim_start();
        while !attributes.starts_with('>') {
            let end = attributes.find(['=', ' ', '>', '/']).unwrap();
            let name = &attributes[..end];
            assert!(ATTRIBUTES.contains(&name) || name.is_empty(), "unknown attribute {name:?}");
            attributes = attributes[end..].trim_start_matches(['/', ' ']);
            if let Some(value) = attributes.strip_prefix("=\"") {
                attributes = value[value.find('"').unwrap() + 1..].trim_start();
            }
        }
        tags.push(name);
        rest = attributes;
    }
    tags
}

#[test]
fn a_small_report() {
    insta::assert_snapshot!(body(&page(&[report("seal")])));
}

#[test]
fn everything_is_on_the_page_and_no_secret() {
    let page = page(&[report("seal")]);
    for wanted in [
        "FAIL",
        "app/.env",
        "tok_****9z",
        "deleted</b> in layer 2",
        "What seal is.",
        "Revoke seal.",
        "damaged-tar",
        "allowed until 2026-12-31: <bdi>seal",
        "in the baseline",
        "seal:3-5, stage seal",
        "sha256:",
        "layersift scan",
        "href=\"https://docs.example/keys\"",
        "claimed by annotation",
    ] {
        assert!(page.contains(wanted), "{wanted}");
    }
    assert!(!page.contains(TOKEN) && !page.contains(&TOKEN[4..24]));
}

#[test]
fn fingerprints_need_a_key_of_ones_own() {
    let mut report = report("seal");
    let shown = |report: &ImageReport| page(std::slice::from_ref(report));
    let ids = |page: &str| page.contains(FINGERPRINT) || page.contains("0123456789abcdef");
    assert!(!ids(&shown(&report)));
    assert!(shown(&report).contains("the built-in fingerprint key, which is public"));
    report.tool.fingerprint_key = None;
    assert!(!ids(&shown(&report)), "a report that does not name its key");
    report.tool.fingerprint_key = Some(FingerprintKey::new(*b"of the operator").id());
    assert!(shown(&report).contains(FINGERPRINT));
    assert!(!shown(&report).contains("the built-in fingerprint key, which is public"));
}

#[test]
fn the_policy_of_the_content_names_what_is_in_the_page() {
    use base64::Engine as _;
    use sha2::{Digest as _, Sha256};
    let page = page(&[report("seal")]);
    let between = |start: &str, end: &str| {
        let (_, rest) = page.split_once(start).unwrap();
        rest.split_once(end).unwrap().0.to_string()
    };
    let hash = |text: String| base64::engine::general_purpose::STANDARD.encode(Sha256::digest(text.as_bytes()));
    let policy = between("http-equiv=\"Content-Security-Policy\" content=\"", "\"");
    assert!(policy.starts_with("default-src 'none'; "), "{policy}");
    assert!(policy.contains(&format!("style-src 'sha256-{}'", hash(between("<style>", "</style>")))));
    assert!(policy.contains(&format!("script-src 'sha256-{}'", hash(between("<script>", "</script>")))));
    assert_eq!((page.matches("<style").count(), page.matches("<script").count()), (1, 2));
    assert!(!page.contains(" style=") && !page.contains(" onclick="));
    let links = page.split("href=\"").skip(1).map(|rest| rest.split('"').next().unwrap());
    assert!(links.clone().count() > 5);
    assert!(links.into_iter().all(|link| link.starts_with('#') || link == "https://docs.example/keys"));
}

#[test]
fn several_images_have_an_index() {
    let mut pass = report("fine");
    pass.findings.clear();
    pass.gaps.clear();
    Policy::default().judge(&mut pass);
    let page = page(&[pass, report("seal")]);
    assert!(page.contains("1 fail, 0 incomplete, 1 pass."));
    let places =
        ["href=\"#i1\"", "href=\"#i0\"", "<section class=\"image\" id=\"i0\">", "<section class=\"image\" id=\"i1\">"];
    let places = places.map(|part| page.find(part).unwrap());
    assert!(places.is_sorted(), "the worst is first in the index: {places:?}");
    let ids: Vec<&str> = page.split(" id=\"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
    let unique: std::collections::BTreeSet<&str> = ids.iter().copied().collect();
    assert_eq!(ids.len(), unique.len(), "an id is there twice");
}

#[test]
fn no_report_and_an_empty_one_are_pages() {
    for reports in [vec![], vec![ImageReport::default()]] {
        tags(&body(&page(&reports)));
    }
}

#[test]
fn invisible_characters_are_marked() {
    let body = body(&page(&[report("a\u{202e}b\u{200b}c\u{2028}d\0e\u{7}f")]));
    let invisible = |c: char| c != '\n' && (layersift_model::changes_display(c) || "\u{200b}\u{2028}".contains(c));
    assert!(!body.contains(invisible));
    assert!(body.contains("a<i class=\"u\">U+202E</i>b<i class=\"u\">U+200B</i>c"));
}

#[test]
fn ten_thousand_findings_are_a_page_of_eight_megabytes() {
    let key = rule("acme.key", Severity::High, "a key");
    let mut report = report("seal");
    report.findings = (0..10_000)
        .map(|index| {
            let path = format!("srv/app/node_modules/package-{}/dist/esm/part/file{index}.js", index % 300);
            let ended_by = (index % 2 == 0).then_some((2, State::Deleted));
            finding(&key, file(&path, 1, ended_by, "install --omit=dev"), Some(&format!("{index:032x}")))
        })
        .collect();
    let page = page(&[report]);
    assert!(page.len() <= 8_000_000, "{} bytes", page.len());
    assert_eq!(page.matches("<li class=\"p\"").count(), 10_000);
    assert!(page.matches("<g class=\"lane").count() <= 30);
    assert!(page.contains("more findings</summary>"));
}

#[test]
fn the_numbers_for_the_filters_are_in_the_order_of_the_page() {
    let page = page(&[report("seal")]);
    let (_, rest) = page.split_once("id=\"data\">").unwrap();
    let data: serde_json::Value = serde_json::from_str(rest.split_once("</script>").unwrap().0).unwrap();
    let rows: Vec<&str> = page.split("<li class=\"p\"").skip(1).collect();
    assert_eq!(data["images"], serde_json::json!([rows.len()]));
    let states = data["state"].as_array().unwrap();
    for (row, state) in rows.iter().zip(states) {
        let row = row.split("</li>").next().unwrap();
        let name = if row.contains("✕ deleted") { 2 } else { i32::from(row.contains("■ overwritten")) };
        assert_eq!(*state, name, "{row}");
    }
    assert!(data["judged"].as_array().unwrap().iter().any(|judged| *judged == 1));
    for column in ["rule", "severity", "layer", "judged", "lane"] {
        assert_eq!(data[column].as_array().unwrap().len(), rows.len(), "{column}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn text_from_an_image_is_only_text(
        text in prop_oneof![
            "\\PC{0,40}",
            any::<String>(),
            "[<>&\"'/!=a-z \u{0}\u{1b}\u{202e}\u{2028}-]{0,60}",
            Just("</script><script>alert(1)</script><!--<style>".to_string()),
        ],
    ) {
        let expected = tags(&body(&page(&[report("seal")])));
        let expected: Vec<&String> = expected.iter().filter(|tag| !["i", "/i"].contains(&&tag[..])).collect();
        let written = page(&[report(&text)]);
        let body = body(&written);
        let found = tags(&body);
        // Marks of invisible characters come and go, as does what an empty text or an odd target leaves out.
        let found: Vec<&String> = found.iter().filter(|tag| !["i", "/i"].contains(&&tag[..])).collect();
        let scripts = |tags: &[&String]| tags.iter().filter(|tag| tag.starts_with("script")).count();
        prop_assert_eq!(scripts(&found), scripts(&expected));
        let known: std::collections::BTreeSet<&String> = expected.iter().copied().collect();
        let alien: Vec<&&String> = found.iter().filter(|tag| !known.contains(**tag)).collect();
        prop_assert!(alien.is_empty(), "{:?}", alien);
        prop_assert!(found.len() <= expected.len(), "{} tags, {} expected", found.len(), expected.len());
        prop_assert!(!written.contains(TOKEN));
    }
}
