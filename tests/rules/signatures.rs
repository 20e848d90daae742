//! Every built-in rule proves itself: its examples are found, its counterexamples are not, and it says what it is.
//!
//! The inputs go through the public face, each as a file of its own.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::OnceLock;

use crate::support::layersift;
use layersift_format::config::{Healthcheck, HistoryEntry, ImageConfig};
use layersift_model::Confidence;
use layersift_rules::{ConfigCheck, ConfigField, Ruleset};
use layersift_scan::assemble::config::{Checks, ConfigFinding, Subject};
use layersift_scan::{Analyzer, Options};
use serde_json::json;

/// Rules that are also found in examples of others, each with its reason.
const ALSO_FOUND: [(&str, &str, &str); 2] = [
    ("google.service-account-key", "private-key.pem", "the key file holds the key in PEM"),
    ("onepassword.connect-credentials", "private-key.jwk", "the file holds the key as JSON"),
];

fn rules() -> &'static Ruleset {
    static RULES: OnceLock<Ruleset> = OnceLock::new();
    RULES.get_or_init(|| Ruleset::built_in().unwrap().with_built_in_examples().unwrap())
}

fn input(input: &str, hex: Option<&String>) -> Vec<u8> {
    let Some(hex) = hex else { return input.into() };
    assert!(input.is_empty(), "both `input` and `hex`: {input}");
    let digits: String = hex.split_whitespace().collect();
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
}

fn scanner() -> &'static Analyzer {
    static ANALYZER: OnceLock<Analyzer> = OnceLock::new();
    ANALYZER.get_or_init(|| Analyzer::new(rules().clone(), Options::default()).unwrap())
}

#[test]
fn every_signature_is_explained_and_has_examples() {
    for rule in &rules().signatures {
        for (field, text) in [("title", &rule.title), ("what", &rule.what), ("risk", &rule.risk), ("fix", &rule.fix)] {
            assert!(text.trim().len() > 5, "{} has no {field}", rule.id);
        }
        assert!(!rule.references.is_empty(), "{} has no references", rule.id);
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
fn every_rule_proves_itself() {
    let faults = scanner().check_examples(rules());
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn examples_are_found_by_nothing_else() {
    let mut wrong = Vec::new();
    for rule in &rules().signatures {
        for (index, example) in rule.examples.iter().enumerate() {
            let bytes = input(&example.input, example.hex.as_ref());
            for other in scanner().bytes(&rule.place(), &bytes).findings {
                let also = &other.rule.id[..];
                let vague = also.starts_with("generic.") && other.rule.confidence == Confidence::Low;
                let known = ALSO_FOUND.iter().any(|(mine, known, _)| rule.id == *mine && also == *known);
                if also != rule.id && !vague && !known && other.secret.is_some() {
                    wrong.push(format!("{} example {index} is also {also}", rule.id));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// A secret that took the quotation mark after it would leave a body that is no JSON behind, once it is masked.
#[test]
fn secrets_end_with_the_json_string_that_they_are_in() {
    let mut wrong = Vec::new();
    let mut tried = 0;
    for rule in rules().signatures.iter().filter(|rule| rule.confirm.parser.is_none()) {
        for (index, example) in rule.examples.iter().enumerate().filter(|(_, example)| example.hex.is_none()) {
            let findings = scanner().bytes(&rule.place(), example.input.as_bytes()).findings;
            let found = findings.iter().filter(|one| one.rule.id == rule.id).find_map(|one| one.secret.as_ref());
            let Some(secret) = found.and_then(|secret| String::from_utf8(secret.reveal().to_vec()).ok()) else {
                continue;
            };
            let Some(end) = example.input.find(&secret).map(|at| at + secret.len()) else { continue };
            if secret.contains(['"', '\\']) {
                continue;
            }
            tried += 1;
            let inner = json!([example.input[..end], "more", {"other": "text, and more"}]).to_string();
            let twice = json!({"arguments": inner, "name": "f", "more": [1, 2, "of the text"]}).to_string();
            let spaced = inner.replace("\",", "\", ");
            for text in [inner, twice, spaced] {
                for again in scanner().bytes(&rule.place(), text.as_bytes()).findings {
                    let swallows = |secret: &[u8]| secret.contains(&b'"') || secret.ends_with(b"\\");
                    if again.secret.as_ref().is_some_and(|secret| swallows(secret.reveal())) {
                        wrong.push(format!("{} example {index}: {} finds {text}", rule.id, again.rule.id));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(tried > 1000, "{tried}");
}

#[test]
fn masks_are_no_secrets() {
    let mut wrong = Vec::new();
    let rules = Ruleset::for_prompts(&[]).unwrap().with_built_in_examples().unwrap();
    let scanner = Analyzer::new(rules.clone(), Options::default()).unwrap();
    let mut tried = 0;
    for rule in &rules.signatures {
        for (index, example) in rule.examples.iter().enumerate().filter(|(_, example)| example.hex.is_none()) {
            let findings = scanner.bytes(&rule.place(), example.input.as_bytes()).findings;
            let found = findings.iter().filter(|one| one.rule.id == rule.id).find_map(|one| one.secret.as_ref());
            let found = found.and_then(|secret| String::from_utf8(secret.reveal().to_vec()).ok());
            let Some(secret) = example.secret.clone().or(found).filter(|one| example.input.contains(one)) else {
                continue;
            };
            let mask = layersift_model::mask::of(&rule.id);
            let masked = example.input.replace(&secret, &mask);
            tried += 1;
            for again in scanner.bytes(&rule.place(), masked.as_bytes()).findings {
                let secret = again.secret.as_ref().map(|secret| String::from_utf8_lossy(secret.reveal()).into_owned());
                // A command is found whatever it holds.
                let is_command = again.rule.id != rule.id && again.rule.id.starts_with("prompt.");
                if !is_command && secret.is_some_and(|secret| secret.contains("MASKED") || mask.contains(&secret)) {
                    wrong.push(format!("{} example {index}: {} finds {masked:?}", rule.id, again.rule.id));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(tried > 1000, "{tried}");
}

#[test]
fn every_example_holds_a_keyword_of_its_signature() {
    // EncodedKeywords of disguises are made of keywords: a match without one would not be seen in disguise.
    for rule in rules().signatures.iter().filter(|rule| rule.confirm.parser.is_none()) {
        for example in &rule.examples {
            let bytes = input(&example.input, example.hex.as_ref());
            let lower = bytes.to_ascii_lowercase();
            let has = |keyword: &String| {
                let (bytes, keyword) = match rule.pattern.contains("(?i") {
                    true => (&lower, keyword.to_ascii_lowercase()),
                    false => (&bytes, keyword.clone()),
                };
                bytes.windows(keyword.len()).any(|window| window == keyword.as_bytes())
            };
            assert!(rule.keywords.iter().any(has), "{}: none of {:?} in {:?}", rule.id, rule.keywords, example.input);
        }
    }
}

#[test]
fn the_catalogue_is_in_step() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/signatures.md");
    let written = std::fs::read_to_string(path).unwrap_or_default();
    let made = layersift(&["rules", "list", "--format", "markdown"]).stdout;
    assert!(written == made, "run: layersift rules list --format markdown > docs/signatures.md");
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
    Checks::new(&[], std::slice::from_ref(check), 0).unwrap().run(&subject)
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
