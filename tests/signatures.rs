//! Every built-in rule proves itself: its examples are found, its counterexamples are not, and it says what it is.
//!
//! The inputs go through the public face as files of one root file system, which is scanned once.

mod support;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::OnceLock;

use layersift::assemble::config::{Checks, ConfigFinding, Subject};
use layersift::image::config::{Healthcheck, HistoryEntry, ImageConfig};
use layersift::rule::{ConfigCheck, ConfigField, Signature};
use layersift::ruleset::Ruleset;
use layersift::scan::{Options, Scanner};
use serde_json::{Value, json};
use support::tar::Tar;
use support::{findings, report_of, revealed, text};

/// Rules that are also found in examples of others, each with its reason.
const ALSO_FOUND: [(&str, &str, &str); 1] =
    [("google.service-account-key", "private-key.pem", "the key file holds the key in PEM")];

/// Parsers whose examples cannot be written in a signature file, because they read whole compiled programs.
const TESTED_ELSEWHERE: &str = "cipher-constant";

fn rules() -> &'static Ruleset {
    static RULES: OnceLock<Ruleset> = OnceLock::new();
    RULES.get_or_init(|| Ruleset::built_in().unwrap())
}

fn input(input: &str, hex: Option<&String>) -> Vec<u8> {
    let Some(hex) = hex else { return input.into() };
    assert!(input.is_empty(), "both `input` and `hex`: {input}");
    let digits: String = hex.split_whitespace().collect();
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
}

/// The file that holds an input.
fn path(kind: &str, rule: &str, index: usize) -> String {
    format!("{kind}/{rule}/{index}")
}

/// All inputs by the path of their file.
fn inputs() -> BTreeMap<String, Vec<u8>> {
    let mut inputs = BTreeMap::new();
    for rule in &rules().signatures {
        for (index, example) in rule.examples.iter().enumerate() {
            inputs.insert(path("example", &rule.id, index), input(&example.input, example.hex.as_ref()));
        }
        for (index, none) in rule.counterexamples.iter().enumerate() {
            inputs.insert(path("counterexample", &rule.id, index), input(&none.input, none.hex.as_ref()));
        }
    }
    inputs
}

/// What is found in the inputs, by the path of their file.
fn found() -> &'static HashMap<String, Vec<Value>> {
    static FOUND: OnceLock<HashMap<String, Vec<Value>>> = OnceLock::new();
    FOUND.get_or_init(|| {
        let archive = inputs().iter().fold(Tar::new(), |tar, (path, bytes)| tar.file(path, bytes)).finish();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("inputs.tar");
        std::fs::write(&file, archive).unwrap();
        let scanner = Scanner::new(rules().clone(), Options::default()).unwrap();
        let report = report_of(&scanner, &format!("rootfs:{}", text(&file)));
        assert_eq!(report["gaps"], json!([]));
        let mut found: HashMap<String, Vec<Value>> = HashMap::new();
        for finding in findings(&report) {
            found.entry(finding["path"].as_str().unwrap().into()).or_default().push(finding.clone());
        }
        found
    })
}

fn at(path: &str) -> &'static [Value] {
    found().get(path).map_or(&[], |found| &found[..])
}

#[test]
fn every_signature_is_explained_and_has_examples() {
    for rule in &rules().signatures {
        for (field, text) in [("title", &rule.title), ("what", &rule.what), ("risk", &rule.risk), ("fix", &rule.fix)] {
            assert!(text.trim().len() > 5, "{} has no {field}", rule.id);
        }
        assert!(!rule.references.is_empty(), "{} has no references", rule.id);
        let elsewhere = rule.confirm.parser.as_deref() == Some(TESTED_ELSEWHERE);
        assert!(elsewhere || !rule.examples.is_empty(), "{} has no example", rule.id);
        assert!(!rule.counterexamples.is_empty(), "{} has no counterexample", rule.id);
        assert!(rule.counterexamples.iter().all(|none| !none.why.is_empty()), "{} has no why", rule.id);
    }
}

#[test]
fn ids_are_unique_and_no_two_signatures_claim_one_example() {
    let mut ids = HashSet::new();
    let signatures = rules().signatures.iter().map(|rule| &rule.id);
    let ports = rules().ports.iter().map(|rule| &rule.id);
    let checks = rules().checks.iter().map(|rule| &rule.id);
    let chains = rules().chains.iter().map(|rule| &rule.id);
    for id in signatures.chain(ports).chain(checks).chain(chains) {
        assert!(ids.insert(id), "{id} stands twice");
    }
    let mut claimed: HashMap<Vec<u8>, &str> = HashMap::new();
    for rule in &rules().signatures {
        for example in &rule.examples {
            let other = claimed.insert(input(&example.input, example.hex.as_ref()), &rule.id);
            assert!(other.is_none(), "{} and {other:?} claim {:?}", rule.id, example.input);
        }
    }
}

#[test]
fn every_keyword_is_in_some_example() {
    for rule in rules().signatures.iter().filter(|rule| !rule.examples.is_empty()) {
        let has = |keyword: &String| {
            let keyword = keyword.to_ascii_lowercase();
            rule.examples.iter().any(|example| {
                let bytes = input(&example.input, example.hex.as_ref()).to_ascii_lowercase();
                bytes.windows(keyword.len()).any(|window| window == keyword.as_bytes())
            })
        };
        assert!(rule.keywords.iter().any(has), "{}: none of {:?} is in an example", rule.id, rule.keywords);
    }
}

#[test]
fn every_example_is_found_by_its_signature() {
    let mut wrong = Vec::new();
    for rule in &rules().signatures {
        for (index, example) in rule.examples.iter().enumerate() {
            let bytes = input(&example.input, example.hex.as_ref());
            let mine: Vec<&Value> =
                at(&path("example", &rule.id, index)).iter().filter(|found| found["rule"] == rule.id).collect();
            if let Err(reason) = check_example(rule, &bytes, example.secret.as_deref(), &mine) {
                wrong.push(format!("{} example {index}: {reason}", rule.id));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

fn check_example(rule: &Signature, input: &[u8], secret: Option<&str>, found: &[&Value]) -> Result<(), String> {
    let [one] = found else { return Err(format!("found {} times", found.len())) };
    let value = revealed(one);
    match secret {
        Some(secret) if secret.as_bytes() != value => {
            return Err(format!("expected {secret:?}, found {:?}", String::from_utf8_lossy(&value)));
        }
        _ => {}
    }
    // A parser writes what it finds in a form of its own.
    let at = one["offset"].as_u64().unwrap() as usize;
    if rule.confirm.parser.is_none() && input.get(at..at + value.len()) != Some(&value[..]) {
        return Err(format!("the secret is not at offset {at}"));
    }
    Ok(())
}

#[test]
fn examples_are_found_by_nothing_else() {
    let mut wrong = Vec::new();
    for rule in &rules().signatures {
        for index in 0..rule.examples.len() {
            for other in at(&path("example", &rule.id, index)).iter().filter(|found| found["rule"] != rule.id) {
                let also = other["rule"].as_str().unwrap();
                let vague = also.starts_with("generic.") && other["confidence"] == "low";
                let known = ALSO_FOUND.iter().any(|(mine, known, _)| rule.id == *mine && also == *known);
                if !vague && !known {
                    wrong.push(format!("{} example {index} is also {also}", rule.id));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn no_counterexample_is_found_by_its_signature() {
    let mut wrong = Vec::new();
    for rule in &rules().signatures {
        for (index, none) in rule.counterexamples.iter().enumerate() {
            if at(&path("counterexample", &rule.id, index)).iter().any(|found| found["rule"] == rule.id) {
                wrong.push(format!("{} counterexample {index}: {}", rule.id, none.why));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// A configuration with `text` in one field.
fn configuration(field: ConfigField, text: &str) -> ImageConfig {
    let mut config = ImageConfig::default();
    let runtime = &mut config.config;
    let text = text.to_string();
    match field {
        ConfigField::Env => runtime.env = vec![text],
        ConfigField::Labels => {
            let (name, value) = text.split_once('=').unwrap_or((&text, ""));
            runtime.labels = BTreeMap::from([(name.into(), value.into())]);
        }
        ConfigField::Cmd => runtime.cmd = vec![text],
        ConfigField::Entrypoint => runtime.entrypoint = vec![text],
        ConfigField::Healthcheck => runtime.healthcheck = Some(Healthcheck { test: vec![text] }),
        ConfigField::OnBuild => runtime.on_build = vec![text],
        ConfigField::History => config.history = vec![HistoryEntry { created_by: text, ..HistoryEntry::default() }],
        ConfigField::User => runtime.user = text,
        ConfigField::WorkingDir => runtime.working_dir = text,
        ConfigField::Volumes => runtime.volumes = BTreeMap::from([(text, json!({}))]),
        ConfigField::Other => config.rest = vec![("author".into(), text)],
    }
    config
}

/// What `check` finds with `text` in one field.
fn checked(check: &ConfigCheck, field: ConfigField, text: &str) -> Vec<ConfigFinding> {
    let config = configuration(field, text);
    let subject = Subject { config: &config, reference: None, layers: 0, foreign_urls: &[] };
    Checks::new(&[], std::slice::from_ref(check)).unwrap().run(&subject)
}

#[test]
fn every_check_of_the_configuration_proves_itself() {
    for check in rules().checks.iter().filter(|check| check.pattern.is_some()) {
        assert!(!check.examples.is_empty() && !check.counterexamples.is_empty(), "{} has no examples", check.id);
        for example in &check.examples {
            let found = check.fields.iter().map(|field| checked(check, *field, &example.input)).find(|f| !f.is_empty());
            let found = found.unwrap_or_else(|| panic!("{} does not find {:?}", check.id, example.input));
            if let Some(secret) = &example.secret {
                let value = found[0].secret.as_ref().map(|value| value.reveal());
                assert_eq!(value, Some(secret.as_bytes()), "{}: {:?}", check.id, example.input);
            }
        }
        for none in &check.counterexamples {
            let quiet = check.fields.iter().all(|field| checked(check, *field, &none.input).is_empty());
            assert!(quiet, "{} finds {:?}: {}", check.id, none.input, none.why);
        }
    }
}

#[test]
fn every_chain_can_come_together() {
    let ids: Vec<&str> = rules().signatures.iter().map(|rule| &rule.id[..]).collect();
    let ports = rules().ports.iter().flat_map(|rule| &rule.roles);
    let roles: HashSet<&String> = ports.chain(rules().checks.iter().flat_map(|rule| &rule.roles)).collect();
    for chain in &rules().chains {
        for key in &chain.key {
            let named = |id: &&str| id == key || (key.ends_with('.') && id.starts_with(&key[..]));
            assert!(ids.iter().any(named), "{}: no signature is called {key}", chain.id);
        }
        assert!(chain.exposure.iter().all(|role| roles.contains(role)), "{}: {:?}", chain.id, chain.exposure);
    }
}
