//! Exposed ports: parses the keys of `ExposedPorts`, and finds the rules that they match.
//!
//! Source: OCI image-spec v1.1, `config.md`: `port/tcp`, `port/udp`, `port`, which means TCP. Docker's ranges
//! (`9000-9010/tcp`) and SCTP are read as well.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

use super::fields;
use super::{CheckError, ConfigFinding, FieldMatch, FieldMatches};
use layersift_model::RuleInfo;
use layersift_rules::PortRule;

/// Declared ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Exposed {
    /// The numbers, from 1 up.
    pub(super) numbers: RangeInclusive<u16>,
    /// `tcp`, `udp` or `sctp`.
    pub(super) protocol: &'static str,
}

const PROTOCOLS: [&str; 3] = ["tcp", "udp", "sctp"];

pub(super) struct Ports {
    rules: Vec<Rule>,
}

struct Rule {
    info: Arc<RuleInfo>,
    roles: Vec<String>,
    numbers: Vec<u16>,
    protocol: Option<&'static str>,
}

/// Parses a key of `ExposedPorts`.
///
/// # Errors
/// What is wrong with the key, for a note in the report.
pub(super) fn parse(key: &str) -> Result<Exposed, &'static str> {
    let (numbers, protocol) = key.split_once('/').unwrap_or((key, "tcp"));
    let protocol = protocol_named(protocol).ok_or("unknown protocol")?;
    let (first, last) = numbers.split_once('-').unwrap_or((numbers, numbers));
    let (first, last) = (number(first)?, number(last)?);
    if first > last {
        return Err("the range ends before it begins");
    }
    Ok(Exposed { numbers: first..=last, protocol })
}

impl Ports {
    pub(super) fn new(rules: &[PortRule]) -> Result<Ports, CheckError> {
        Ok(Ports { rules: rules.iter().map(Rule::new).collect::<Result<_, _>>()? })
    }

    /// One finding for each rule and key. The cost is keys times rules, independent of the width of ranges.
    pub(super) fn run(&self, exposed: &BTreeMap<String, serde_json::Value>) -> Vec<ConfigFinding> {
        let mut found: Vec<FieldMatches> = self.rules.iter().map(|_| FieldMatches::default()).collect();
        for key in exposed.keys() {
            let Ok(ports) = parse(key) else { continue };
            for (rule, matches) in self.rules.iter().zip(&mut found) {
                if !rule.applies_to(&ports) {
                    continue;
                }
                // Many hostile ranges may match many rules: beyond the limit they are only counted, without building
                // a note.
                matches.push(if matches.is_full() { FieldMatch::default() } else { rule.field_match(key, &ports) });
            }
        }
        let found = self.rules.iter().zip(found);
        found.flat_map(|(rule, matches)| matches.into_findings(&rule.info, &rule.roles)).collect()
    }
}

impl Rule {
    fn new(rule: &PortRule) -> Result<Rule, CheckError> {
        let shape = |reason| CheckError::Shape { rule: rule.id.clone(), reason };
        let protocol = match &rule.protocol {
            None => None,
            Some(name) => Some(protocol_named(name).ok_or_else(|| shape("names a protocol that does not exist"))?),
        };
        if rule.ports.is_empty() {
            return Err(shape("names no port"));
        }
        Ok(Rule { info: rule.info(), roles: rule.roles.clone(), numbers: rule.ports.clone(), protocol })
    }

    fn applies_to(&self, exposed: &Exposed) -> bool {
        self.protocol.is_none_or(|protocol| protocol == exposed.protocol)
            && self.numbers.iter().any(|number| exposed.numbers.contains(number))
    }

    fn field_match(&self, key: &str, exposed: &Exposed) -> FieldMatch {
        let note = (exposed.numbers.start() < exposed.numbers.end()).then(|| {
            let inside = self.numbers.iter().filter(|number| exposed.numbers.contains(number));
            let inside: Vec<String> = inside.map(u16::to_string).collect();
            format!("{} in the range", inside.join(", "))
        });
        FieldMatch { at: fields::port(key), secret: None, note }
    }
}

fn protocol_named(name: &str) -> Option<&'static str> {
    PROTOCOLS.into_iter().find(|protocol| protocol.eq_ignore_ascii_case(name))
}

fn number(text: &str) -> Result<u16, &'static str> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err("not a number");
    }
    match text.parse() {
        Ok(0) | Err(_) => Err("out of range"),
        Ok(number) => Ok(number),
    }
}
