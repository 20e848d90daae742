//! Rules in the format of Gitleaks and Betterleaks do what they say, and what cannot be honoured is said, once. The
//! rules and secrets are made up.

use std::collections::BTreeSet;
use std::path::Path;

use crate::support::{findings, layersift, text};
use layersift_model::Confidence;
use layersift_rules::Ruleset;
use proptest::prelude::*;
use regex::bytes::{Regex, RegexBuilder};

/// A file with every feature.
const RULES: &str = r#"
title = "Anvils"
minVersion = "v8.25.0"
prefilter = 'get(attributes, "path", "") == "x"'

[extend]
useDefault = true
disabledRules = ["other"]

[[allowlists]]
description = "for all"
commits = ["0123456789"]
paths = ['''(?:^|/)fixtures/''']
stopwords = ["NoAnvil"]

[[allowlists]]
targetRules = ["Anvil_Token"]
regexes = ['''00+$''']

[[rules]]
id = "Anvil_Token"
description = "An anvil token."
regex = '''\b(anvl_[a-zA-Z0-9]{20})(?:['"\x60\s;]|\\[nr]|$)'''
keywords = ["ANVL_", "énclume"]
severity = "HIGH"
entropy = 3
tags = ["anvil"]

    [[rules.allowlists]]
    regexTarget = "match"
    regexes = ['''";?$''']

    [[rules.allowlists]]
    condition = "AND"
    stopwords = ["q"]
    paths = ['''app''']

    [[rules.allowlists]]
    regexTarget = "line"
    regexes = ['''x''']

[[rules]]
id = "anvil-pair"
description = "A pair"
regex = '''(?i)anvil_(?P<name>user|login)[ =:]+(?P<word>[^\s[\]{}]{8,})'''
secretGroup = 2
keywords = ["anvil_"]
path = '''\.(?:ini|cfg)$'''
validate = "http.get()"

    [rules.allowlist]
    paths = ['''old\.ini$''']

[[rules]]
id = "anvil-either"
description = "Either"
regex = '''ANVA-([0-9]{12})|ANVB-([a-f]{12})'''
keywords = ["anva-", "anvb-"]
filter = 'filter.entropy(finding["secret"]) <= 1.5 || failsTokenEfficiency(finding["secret"])'

[[rules]]
id = "anvil-file"
description = "A store of anvils"
path = '''(?i)(?:^|/)[^/]+\.anvil$'''

[[rules]]
id = "hammer-greek"
description = "Greek"
regex = '''\p{Greek}{3}hammer'''

[[rules]]
id = "hammer-part"
description = "A part"
regex = '''hammer[0-9]{5}'''
skipReport = true

[[rules]]
id = "inherited"

[[rules]]
id = "nested"
description = "Nested"
regex = '''nest:(?:[a-z]+-)+end'''
required = [{ id = "hammer-part" }]
"#;

fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    folder
}

/// What rules of other scanners find in `root`: the rule, the path, the secret.
fn found(rules: &Path, root: &Path) -> (BTreeSet<(String, String, String)>, String) {
    let target = format!("rootfs:{}", text(root));
    let run = layersift(&["scan", &target, "--rules", text(rules), "--format", "json", "--show-secrets", "--quiet"]);
    let report = run.json();
    let theirs = findings(&report).iter().filter(|one| one["rule"].as_str().unwrap().starts_with("gitleaks."));
    let of = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_string();
    let line = |one: &serde_json::Value| {
        (of(&one["rule"]).replacen("gitleaks.", "", 1), of(&one["path"]), of(&one["secret"]["value"]))
    };
    (theirs.map(line).collect(), run.stderr)
}

fn one(name: &str, content: &str) -> Result<Ruleset, String> {
    Ruleset::from_files([(name.to_string(), content.to_string())])
        .map_err(|error| format!("{:#}", anyhow::Error::from(error)))
}

#[test]
fn every_feature_is_honoured_or_said() {
    let rules = folder(&[("anvil.toml", RULES)]);
    let root = folder(&[
        ("app/a.env", "T=anvl_q7Zp2LmX9aTb4KcW1vRe\n"),
        ("app/quoted.env", "T='anvl_h2Vt8QnY5sGd3JxB6uMf'\nU=\"anvl_k4Wd9RbN7cTf2HzC5yLg\"\n"),
        ("app/same.env", "anvl_aaaaaaaaaaaaaaaaaaaa anvl_q7Zp2LmX9aTb4KcW1v00\n"),
        ("app/stop.env", "anvl_q7ZpnoanvilX9aTb4KcW\n"),
        ("app/base64.txt", "YW52bF9tM0ZzNkt2VDhkUWo1V3hOOWNHcQpUaGUgZW5kIG9mIGl0Lgo=\n"),
        ("fixtures/a.env", "T=anvl_q7Zp2LmX9aTb4KcW1vRe\n"),
        ("etc/new.ini", "ANVIL_User = f7Kd2mQx9z\n"),
        ("etc/old.ini", "anvil_user = f7Kd2mQx9z\n"),
        ("etc/other.txt", "anvil_user = f7Kd2mQx9z\n"),
        ("etc/either", "ANVA-483920175562 ANVB-fadbecafbdec ANVA-111111111111\n"),
        ("home/Store.ANVIL", "x"),
        ("fixtures/b.anvil", "x"),
        ("home/nest", "nest:ab-cd-ef-end hammer12345\n"),
    ]);
    let (theirs, stderr) = found(&rules.path().join("anvil.toml"), root.path());
    let expected = [
        ("anvil-token", "app/a.env", "anvl_q7Zp2LmX9aTb4KcW1vRe"),
        ("anvil-token", "app/quoted.env", "anvl_h2Vt8QnY5sGd3JxB6uMf"),
        ("anvil-token", "app/base64.txt", "anvl_m3Fs6KvT8dQj5WxN9cGq"),
        ("anvil-pair", "etc/new.ini", "f7Kd2mQx9z"),
        ("anvil-either", "etc/either", "483920175562"),
        ("anvil-either", "etc/either", "fadbecafbdec"),
        ("anvil-file", "home/Store.ANVIL", ""),
        ("nested", "home/nest", "nest:ab-cd-ef-end"),
    ];
    let expected = expected.map(|(rule, path, secret)| (rule.to_string(), path.to_string(), secret.to_string()));
    assert_eq!(theirs, BTreeSet::from(expected));
    insta::assert_snapshot!(stderr.replace(text(rules.path()), "RULES"));
}

#[test]
fn what_is_left_out_is_said_by_rules_check_too_and_once() {
    let rules = folder(&[("anvil.toml", RULES)]);
    let run = layersift(&["rules", "check", text(rules.path())]).expect(0);
    assert!(run.stdout.contains("0 rules with examples, 0 faults\n5 rules of other scanners read"), "{}", run.stdout);
    assert_eq!(run.stderr.matches("validate").count(), 1, "{}", run.stderr);
    assert!(layersift(&["rules", "check"]).expect(0).stderr.is_empty());
}

#[test]
fn severity_and_confidence_are_those_of_the_rule_as_far_as_they_are_told() {
    let ruleset = one("anvil.toml", RULES).unwrap();
    let told: Vec<_> =
        ruleset.signatures.iter().map(|rule| (&rule.id[..], rule.severity.name(), rule.confidence)).collect();
    assert_eq!(
        told,
        [
            ("gitleaks.anvil-token", "high", Confidence::Medium),
            ("gitleaks.anvil-pair", "medium", Confidence::Low),
            ("gitleaks.anvil-either", "medium", Confidence::Low),
            ("gitleaks.nested", "medium", Confidence::Low),
        ]
    );
}

#[test]
fn a_file_of_which_nothing_can_be_used_is_an_error_with_the_reason() {
    for (content, reason) in [
        ("[extend]\nuseDefault = true\n", "`extend.useDefault` is left out"),
        ("[[rules]]\nid = 'a'\nregex = 'a*'\n", "it matches the empty string: a"),
        ("[allowlist]\npaths = ['x']\n", "there are none"),
        ("[[rules]]\nid = 'a'\nregex = 5\n", "invalid type"),
        ("[[signature]]\nid = 'a.b'\n[[rules]]\nid = 'a'\n", "unknown field"),
    ] {
        let error = one("my.toml", content).unwrap_err();
        assert!(error.starts_with("my.toml: ") && error.contains(reason), "{error}");
    }
}

#[test]
fn what_the_engine_refuses_is_left_out_alone_and_said() {
    // An anchor inside is nothing that the engine has.
    let anchored = "[[rules]]\nid = 'anchored'\nregex = 'a^b|hammer'\n";
    let small = "[[rules]]\nid = 'small'\nregex = 'anvil-[0-9]{6}'\n";
    let rules = folder(&[("my.toml", &format!("{anchored}{small}"))]);
    let root = folder(&[("a", "anvil-583920\n")]);
    let (theirs, stderr) = found(&rules.path().join("my.toml"), root.path());
    assert_eq!(theirs.len(), 1, "{stderr}");
    assert!(stderr.contains("the engine refuses the expression: gitleaks.anchored"), "{stderr}");
}

/// An expression in Go's syntax, of pieces that are repeated at most twice over.
fn expression() -> impl Strategy<Value = String> {
    let leaf = prop::sample::select(vec![
        "a",
        "b",
        "[ab]",
        "[^a\\n]",
        r"\w",
        r"\d",
        r"\x61",
        "(?i:a)",
        "[[:digit:]]",
        r"\b",
        "[+--]",
        "[&&a]",
        "[]b]",
        "[a[]",
        ".",
        r"\.",
        "{",
        "$",
        r"\z",
        "k",
        r"\<",
        r"\Q.a\E",
    ]);
    let piece = leaf.prop_map(String::from).prop_recursive(2, 12, 3, |inner| {
        let repeat = prop::sample::select(vec!["+", "*", "?", "{2,}", "{1,3}", "+?", "*?", "{1,}?"]);
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(a, b)| a + &b),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("(?:{a}|{b})")),
            (inner.clone(), repeat).prop_map(|(a, repeat)| repeated(&a, repeat)),
            inner.prop_map(|a| format!("({a})")),
        ]
    });
    (piece.clone(), piece).prop_map(|(a, b)| format!("(?:{a})k(?:{b})"))
}

/// `part` repeated, unless it may match nothing: a bounded repetition then spends its turns on that, and prefers
/// another one of several matches than an unbounded repetition does.
fn repeated(part: &str, repeat: &str) -> String {
    let hir = regex_syntax::ParserBuilder::new().unicode(false).utf8(false).build().parse(&by_hand(part)).unwrap();
    match hir.properties().minimum_len() {
        Some(0) => part.to_string(),
        _ => format!("(?:{part}){repeat}"),
    }
}

fn compiled(source: &str) -> Regex {
    RegexBuilder::new(source).unicode(false).build().unwrap()
}

/// The same in the syntax of the `regex` crate, written for the pieces above by hand.
fn by_hand(go: &str) -> String {
    let pairs = [
        ("[+--]", r"[+\x2c\-]"),
        ("[&&a]", r"[\x26a]"),
        ("[]b]", r"[\x5db]"),
        ("[a[]", r"[a\x5b]"),
        (r"\<", r"\x3c"),
        (r"\Q.a\E", r"\.a"),
    ];
    let mut out = go.to_string();
    for (theirs, ours) in pairs {
        out = out.replace(theirs, ours);
    }
    out.replace("{2,}", "\u{1}")
        .replace("{1,3}", "\u{2}")
        .replace("{1,}?", "\u{3}")
        .replace('{', r"\x7b")
        .replace('\u{1}', "{2,}")
        .replace('\u{2}', "{1,3}")
        .replace('\u{3}', "{1,}?")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn a_translated_expression_matches_what_the_original_does(
        go in expression(),
        inputs in prop::collection::vec("[abkA0.+,&\\[\\]{< \n-]{0,12}", 1..20),
    ) {
        let original = compiled(&by_hand(&go));
        let file = format!("[[rules]]\nid = 'a'\nregex = '''{go}'''\n");
        let ruleset = one("a.toml", &file).unwrap();
        let ours = compiled(&ruleset.signatures[0].pattern);
        for input in &inputs {
            let groups = |regex: &Regex| {
                let captures = regex.captures(input.as_bytes())?;
                Some(captures.iter().map(|group| group.map(|group| group.range())).collect::<Vec<_>>())
            };
            prop_assert_eq!(groups(&original), groups(&ours), "{} as {}", go, ours);
        }
    }
}
