//! Checks the examples of rules: a rule must find each of its examples and none of its counterexamples.

use std::fmt;

use crate::analyzer::Analyzer;
use layersift_model::LayerFinding;
use layersift_rules::{FileRule, Ruleset, Signature};

/// A parser that reads whole compiled programs, so its examples cannot be written in a signature file.
const TESTED_ELSEWHERE: &str = "cipher-constant";

/// An example or counterexample of a rule that fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The rule's id.
    pub rule: String,
    /// What is wrong.
    pub what: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule, self.what)
    }
}

impl Analyzer {
    /// Runs the examples and counterexamples of all signatures and file rules of `ruleset`, which this analyzer was
    /// made from. Returns those that fail.
    pub fn check_examples(&self, ruleset: &Ruleset) -> Vec<Fault> {
        let mut faults = Vec::new();
        // Rules of other scanners have no examples.
        for rule in ruleset.signatures.iter().filter(|rule| rule.foreign.is_none()) {
            let mut fault = |what: String| faults.push(Fault { rule: rule.id.clone(), what });
            self.check_signature(rule, &mut fault);
        }
        for rule in ruleset.files.iter().filter(|rule| rule.foreign.is_none()) {
            let mut fault = |what: String| faults.push(Fault { rule: rule.id.clone(), what });
            self.check_file_rule(rule, &mut fault);
        }
        faults
    }

    fn check_signature(&self, rule: &Signature, fault: &mut dyn FnMut(String)) {
        let elsewhere = rule.confirm.parser.as_deref() == Some(TESTED_ELSEWHERE);
        if rule.examples.is_empty() && !elsewhere {
            fault("the rule has no example".into());
        }
        if rule.counterexamples.is_empty() {
            fault("the rule has no counterexample".into());
        }
        let path = rule.place();
        for (index, example) in rule.examples.iter().enumerate() {
            let Some(bytes) = input(&example.input, example.hex.as_deref()) else {
                fault(format!("example {index}: `hex` must be pairs of hexadecimal digits"));
                continue;
            };
            let found = self.bytes(&path, &bytes).findings;
            // A token with a wrong checksum is reported with low severity; an example must be a full finding.
            let mine: Vec<&LayerFinding> = found.iter().filter(|finding| is_alarm(rule, finding)).collect();
            if let Err(reason) = check(rule, &bytes, example.secret.as_deref(), &mine) {
                fault(format!("example {index}: {reason}"));
            }
        }
        for (index, counterexample) in rule.counterexamples.iter().enumerate() {
            let Some(bytes) = input(&counterexample.input, counterexample.hex.as_deref()) else {
                fault(format!("counterexample {index}: `hex` must be pairs of hexadecimal digits"));
                continue;
            };
            if self.bytes(&path, &bytes).findings.iter().any(|one| is_alarm(rule, one)) {
                fault(format!("counterexample {index} is found: {}", counterexample.why));
            }
        }
    }

    fn check_file_rule(&self, rule: &FileRule, fault: &mut dyn FnMut(String)) {
        if rule.examples.is_empty() || rule.counterexamples.is_empty() {
            fault("the rule lacks an example or a counterexample".into());
        }
        let found = |path: &str, text: &str, hex: Option<&str>| -> bool {
            let bytes = input(text, hex).unwrap_or_default();
            self.bytes(path, &bytes).findings.iter().any(|finding| finding.rule.id == rule.id)
        };
        for example in &rule.examples {
            if !found(&example.path, &example.input, example.hex.as_deref()) {
                fault(format!("{} is not found", example.path));
            }
        }
        for counterexample in &rule.counterexamples {
            if found(&counterexample.path, &counterexample.input, counterexample.hex.as_deref()) {
                fault(format!("{} is found: {}", counterexample.path, counterexample.why));
            }
        }
    }
}

/// The bytes of an example; `None` if its `hex` is invalid.
fn input(text: &str, hex: Option<&str>) -> Option<Vec<u8>> {
    let Some(hex) = hex else { return Some(text.into()) };
    let digits: Vec<u8> = hex.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let value = |digit: u8| char::from(digit).to_digit(16).map(|value| value as u8);
    let pairs = digits.chunks(2).map(|pair| match pair {
        [high, low] => Some(value(*high)? << 4 | value(*low)?),
        _ => None,
    });
    pairs.collect()
}

/// Whether the signature found a working secret, and not just one with a wrong checksum.
fn is_alarm(rule: &Signature, finding: &LayerFinding) -> bool {
    finding.rule.id == rule.id && finding.severity == rule.severity
}

fn check(rule: &Signature, input: &[u8], secret: Option<&str>, found: &[&LayerFinding]) -> Result<(), String> {
    let [one] = found else { return Err(format!("found {} times", found.len())) };
    let value = one.secret.as_ref().map(|secret| secret.reveal()).unwrap_or_default();
    if let Some(secret) = secret.filter(|secret| secret.as_bytes() != value) {
        return Err(format!("expected the secret {secret:?}, found {:?}", String::from_utf8_lossy(value)));
    }
    // Secrets from a parser or a decoder do not appear verbatim in the input.
    let at = one.place.offset as usize;
    let verbatim = rule.confirm.parser.is_none() && one.place.views.is_empty();
    if verbatim && input.get(at..at + value.len()) != Some(value) {
        return Err(format!("the secret is not at offset {at}"));
    }
    Ok(())
}
