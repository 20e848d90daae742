//! A secret is found in every disguise: in text, in one line of megabytes, in binaries, at every alignment, one
//! disguise over another; and it is found once, where it stands.

use crate::support::{findings, report_of, report_of_files, revealed, text};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use layersift_rules::Ruleset;
use layersift_scan::{Analyzer, Options};
use serde_json::Value;

const TOKEN: &str = "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";

/// What is found in `files`, each a name and bytes.
fn found(files: &[(String, Vec<u8>)]) -> Vec<Value> {
    let report = report_of_files(files);
    assert_eq!(report["gaps"], serde_json::json!([]));
    findings(&report).to_vec()
}

fn each(write: impl Fn(u8) -> String) -> String {
    TOKEN.bytes().map(write).collect()
}

fn utf16(text: &str, low_first: bool) -> Vec<u8> {
    text.encode_utf16().flat_map(|unit| if low_first { unit.to_le_bytes() } else { unit.to_be_bytes() }).collect()
}

/// Every way to write the token that is understood, with the views that lead to it.
fn disguises() -> Vec<(Vec<u8>, Vec<&'static str>)> {
    let mut all: Vec<(Vec<u8>, Vec<&str>)> = Vec::new();
    for before in ["", "a", "ab", "user:"] {
        let encoded = STANDARD.encode(format!("{before}{TOKEN}"));
        all.push((format!("value: {encoded}\n").into(), vec!["base64"]));
        all.push((format!("x={}&y", URL_SAFE_NO_PAD.encode(format!("{before}{TOKEN}??>>"))).into(), vec!["base64"]));
        all.push((STANDARD.encode(encoded).into(), vec!["base64", "base64"]));
    }
    let text = format!("some words before it, {TOKEN}, and some behind it");
    let encoded = STANDARD.encode(&text);
    let wrapped = encoded.as_bytes().chunks(20).map(String::from_utf8_lossy).collect::<Vec<_>>();
    all.push((wrapped.join("\n").into(), vec!["base64"]));
    all.push((wrapped.join("\r\n      ").into(), vec!["base64"]));
    all.push((wrapped.join("\\n").into(), vec!["base64"]));
    all.push((each(|byte| format!("{byte:02x}")).into(), vec!["hex"]));
    all.push((each(|byte| format!("{byte:02X}")).into(), vec!["hex"]));
    all.push((STANDARD.encode(utf16(&format!("$t='{TOKEN}'"), true)).into(), vec!["base64", "utf-16le"]));
    for low_first in [true, false] {
        let view = if low_first { "utf-16le" } else { "utf-16be" };
        all.push((utf16(&format!("\u{feff}token = {TOKEN}\r\n"), low_first), vec![view]));
        let binary = [b"\x7fELF\x01\xff\xfe".to_vec(), utf16(TOKEN, low_first), vec![0xff; 64]].concat();
        all.push((binary, vec![view]));
    }
    all.push((each(|byte| format!("\\x{byte:02x}")).into(), vec!["backslash"]));
    all.push((each(|byte| format!("\\u{byte:04X}")).into(), vec!["backslash"]));
    all.push((each(|byte| format!("%{byte:02x}")).into(), vec!["percent"]));
    all.push((each(|byte| format!("&#{byte};")).into(), vec!["entity"]));
    all.push((each(|byte| format!("&#x{byte:X};")).into(), vec!["entity"]));
    let list: Vec<String> = TOKEN.bytes().map(|byte| format!("0x{byte:02x}")).collect();
    all.push((format!("char key[] = {{ {} }};", list.join(", ")).into(), vec!["byte-list"]));
    all
}

#[test]
fn every_disguise_is_seen_through_once() {
    let disguises = disguises();
    let files: Vec<(String, Vec<u8>)> =
        disguises.iter().enumerate().map(|(n, (bytes, _))| (format!("{n:03}"), bytes.clone())).collect();
    let found = found(&files);
    let mut wrong = Vec::new();
    for (n, (bytes, views)) in disguises.iter().enumerate() {
        let name = format!("{n:03}");
        let mine: Vec<&Value> =
            found.iter().filter(|one| one["path"] == *name && one["rule"] == "github.personal-access-token").collect();
        let right =
            matches!(&mine[..], [one] if revealed(one) == TOKEN.as_bytes() && one["views"] == serde_json::json!(views));
        if !right {
            wrong.push(format!("{views:?} {:?}: {mine:#?}", String::from_utf8_lossy(bytes)));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn an_offset_is_that_of_the_encoded_bytes() {
    let line = format!("a: b\nkey: {}\n", STANDARD.encode(format!("x{TOKEN}")));
    let found = found(&[("file".into(), line.into())]);
    let one = found.iter().find(|one| one["rule"] == "github.personal-access-token").unwrap();
    assert_eq!((&one["line"], &one["column"]), (&2.into(), &7.into()));
}

#[test]
fn one_line_of_megabytes_and_boundaries_of_windows() {
    let encoded = STANDARD.encode(format!("password is {TOKEN} "));
    let filler = b"var a=1;function(b){return b+a};".repeat(40_000);
    for shift in [0, 1, 7, 100, 4096, 40_000] {
        let start = (1 << 20) - 36_000 + shift;
        let bytes = [&filler[..start], b"\"", encoded.as_bytes(), b"\"", &filler[..]].concat();
        let found = found(&[("bundle.min.js".into(), bytes)]);
        let tokens = found.iter().filter(|one| one["rule"] == "github.personal-access-token").count();
        assert_eq!(tokens, 1, "at {shift}");
    }
}

#[test]
fn escaped_addresses() {
    let password = "Zq8vLm2kT4xRw9";
    for text in [
        format!(r#"{{"url":"postgres:\/\/app:{password}@db.internal:5432\/app"}}"#),
        format!("next=postgres%3A%2F%2Fapp%3A{password}%40db.internal%3A5432%2Fapp&x=1"),
        format!(r#"{{"body":"{{\"url\":\"postgres://app:{password}@db.internal/app\"}}"}}"#),
    ] {
        let found = found(&[("log".into(), text.clone().into())]);
        assert!(found.iter().any(|one| one["rule"] == "database.postgres-url"), "{text}: {found:#?}");
    }
}

#[test]
fn a_key_in_disguise() {
    let key = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/incident/expected.json")).unwrap();
    assert!(!key.is_empty());
    let rules = Ruleset::built_in().unwrap().with_built_in_examples().unwrap();
    let pem = rules.signatures.iter().find(|rule| rule.id == "private-key.pem").unwrap();
    let example = &pem.examples[0].input;
    for (name, bytes, view) in
        [("base64", STANDARD.encode(example).into_bytes(), "base64"), ("utf16", utf16(example, true), "utf-16le")]
    {
        let found = found(&[(name.into(), bytes)]);
        let one =
            found.iter().find(|one| one["rule"] == "private-key.pem").unwrap_or_else(|| panic!("{name}: {found:#?}"));
        assert_eq!(one["views"], serde_json::json!([view]));
    }
}

const OWN: &str = r#"
[[signature]]
id = "acme.key"
title = "Acme key"
severity = "high"
confidence = "high"
pattern = '\bacme_(?<secret>[0-9a-f]{32})\b'
keywords = ["acme_"]
what = "A key."
risk = "Some."
fix = "Revoke it."
references = ["https://acme.example/keys"]
[[signature.example]]
input = "acme_3f2a9c0d5b7e418692ad0c6f1e8b4d27"
[[signature.counterexample]]
input = "acme_x"
why = "too short"
"#;

#[test]
fn rules_of_ones_own_are_a_database_of_their_own_and_see_as_much() {
    let folder = tempfile::tempdir().unwrap();
    let rules = folder.path().join("acme.toml");
    std::fs::write(&rules, OWN).unwrap();
    let image = folder.path().join("image");
    std::fs::create_dir(&image).unwrap();
    let own = "acme_9d41c07be5a84f2693bc1e70d85f62aa";
    let content = format!("{own}\n{}\n{TOKEN}\n{}\n", STANDARD.encode(format!("a {own}")), STANDARD.encode(TOKEN));
    std::fs::write(image.join("settings"), content).unwrap();
    let scanner = Analyzer::new(Ruleset::with_files(&[rules]).unwrap(), Options::default()).unwrap();
    let report = report_of(&scanner, &format!("rootfs:{}", text(&image)));
    let found: Vec<(&str, u64, usize)> = findings(&report)
        .iter()
        .map(|one| {
            (one["rule"].as_str().unwrap(), one["line"].as_u64().unwrap(), one["views"].as_array().unwrap().len())
        })
        .collect();
    let github = "github.personal-access-token";
    assert_eq!(found, [("acme.key", 1, 0), ("acme.key", 2, 1), (github, 3, 0), (github, 4, 1)]);
}
