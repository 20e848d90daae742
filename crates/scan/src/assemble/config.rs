//! Checks of an image's configuration: what it declares and starts, and what its history reveals.
//!
//! The rules are data (`signatures/config/*.toml`): ports, expressions over the strings of the configuration, and
//! names of the few checks that have to be code. A configuration is untrusted input of up to several megabytes:
//! every check is one pass over it, and a rule reports a bounded number of matches and the number of the others.

mod built_in;
mod fields;
mod literal;
mod pattern;
mod ports;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use layersift_format::config::ImageConfig;
use layersift_model::{RuleInfo, Secret, Severity};
use layersift_rules::{ConfigCheck, ConfigField, PortRule};

pub use built_in::{BUILT_IN, BuiltIn};
pub use fields::{Field, fields};

use pattern::Pattern;
use ports::Ports;

/// The maximum number of findings of one rule in one configuration. The last one says how many more there are.
const MAX_FINDINGS: usize = 1_000;

/// The most characters of the configuration that a note quotes.
const MAX_SHOWN: usize = 1_000;

/// The input of the checks.
#[derive(Clone, Copy)]
pub struct Subject<'a> {
    /// The image's configuration.
    pub config: &'a ImageConfig,
    /// The name of the image, such as `registry.example/app:1.0`, if it has one.
    pub reference: Option<&'a str>,
    /// The number of layers in the manifest.
    pub layers: usize,
    /// The URLs of foreign layers in the manifest.
    pub foreign_urls: &'a [String],
}

/// A finding in the configuration.
#[derive(Clone, Debug)]
pub struct ConfigFinding {
    /// The rule that matched.
    pub rule: Arc<RuleInfo>,
    /// The severity: that of the rule, or lower.
    pub severity: Severity,
    /// The name of the field, such as `ExposedPorts.9229/tcp`, or of the part that a built-in check examined.
    pub at: String,
    /// The secret, if the rule finds secrets.
    pub secret: Option<Secret>,
    /// The secret as it is written in its field; masked wherever reports show the field.
    pub raw: Option<Box<str>>,
    /// The `shown` group of the rule's pattern, or the number of further matches. Never a secret.
    pub note: Option<String>,
    /// The roles of the rule, for chains.
    pub roles: Vec<String>,
}

/// Why a configuration rule cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// The regular expression is invalid or too large.
    #[error("{rule}: invalid regular expression: {reason}")]
    Expression {
        /// The rule's id.
        rule: String,
        /// What is wrong with it.
        reason: String,
    },
    /// There is no built-in check of this name.
    #[error("{rule}: unknown built-in check `{name}`; expected one of {known}")]
    BuiltIn {
        /// The rule's id.
        rule: String,
        /// The name.
        name: String,
        /// The names that exist.
        known: String,
    },
    /// The rule could never match, or is ambiguous.
    #[error("{rule}: {reason}")]
    Shape {
        /// The rule's id.
        rule: String,
        /// What is missing or ambiguous.
        reason: &'static str,
    },
}

/// The compiled rules for configurations.
pub struct Checks {
    ports: Ports,
    checks: Vec<Check>,
}

/// A match of a rule.
#[derive(Debug, Default)]
pub struct FieldMatch {
    /// The name of the field.
    pub at: String,
    /// The secret, if the rule finds secrets.
    pub secret: Option<Secret>,
    /// A note for the report.
    pub note: Option<String>,
}

/// The matches of one rule, up to a limit.
#[derive(Debug, Default)]
pub struct FieldMatches {
    list: Vec<FieldMatch>,
    more: usize,
}

struct Check {
    rule: Arc<RuleInfo>,
    roles: Vec<String>,
    kind: CheckKind,
}

enum CheckKind {
    Pattern(Pattern),
    BuiltIn(BuiltIn),
}

impl Checks {
    /// Compiles `ports` and `checks`. The expressions of the first `valid` checks are known to be valid, and are
    /// compiled when they are needed.
    ///
    /// # Errors
    /// If an expression is invalid, a built-in check does not exist, or a rule could never match.
    pub fn new(ports: &[PortRule], checks: &[ConfigCheck], valid: usize) -> Result<Checks, CheckError> {
        let ports = Ports::new(ports)?;
        let compile = |(place, check)| Check::new(check, place < valid);
        let checks = checks.iter().enumerate().map(compile).collect::<Result<_, _>>()?;
        Ok(Checks { ports, checks })
    }

    /// All findings in `subject`: ports first, then the checks, each in the order of the rules and of the fields.
    ///
    /// A rule has one finding in a field, or one for each secret there.
    pub fn run(&self, subject: &Subject<'_>) -> Vec<ConfigFinding> {
        let mut found = self.ports.run(&subject.config.config.exposed_ports);
        let matches = self.matches(subject);
        for (check, matches) in self.checks.iter().zip(matches) {
            found.extend(matches.into_findings(&check.rule, &check.roles));
        }
        found
    }

    fn matches(&self, subject: &Subject<'_>) -> Vec<FieldMatches> {
        let mut found: Vec<FieldMatches> = self.checks.iter().map(|_| FieldMatches::default()).collect();
        let mut kinds: Vec<Vec<ConfigField>> = vec![Vec::new(); self.checks.len()];
        for field in fields::fields(subject.config) {
            for (i, check) in self.checks.iter().enumerate() {
                if let CheckKind::Pattern(pattern) = &check.kind
                    && pattern.search(&field, &mut found[i])
                {
                    kinds[i].push(field.kind);
                    kinds[i].dedup();
                }
            }
        }
        // An option and its value are separate words of a command, so a pattern may match the whole line but no
        // single word.
        for line in fields::command_lines(subject.config) {
            for (i, check) in self.checks.iter().enumerate() {
                if let CheckKind::Pattern(pattern) = &check.kind
                    && !kinds[i].contains(&line.kind)
                {
                    pattern.search(&line, &mut found[i]);
                }
            }
        }
        for (matches, check) in found.iter_mut().zip(&self.checks) {
            if let CheckKind::BuiltIn(run) = check.kind {
                run(subject, matches);
            }
        }
        found
    }
}

impl Check {
    fn new(check: &ConfigCheck, is_valid: bool) -> Result<Check, CheckError> {
        let shape = |reason| CheckError::Shape { rule: check.id.clone(), reason };
        let kind = match (&check.pattern, &check.built_in) {
            (Some(_), Some(_)) => return Err(shape("has both a `pattern` and a `built_in`")),
            (None, None) => return Err(shape("has neither a `pattern` nor a `built_in`")),
            (Some(_), None) if check.fields.is_empty() => return Err(shape("names no `fields` for its `pattern`")),
            (Some(source), None) => CheckKind::Pattern(Pattern::new(&check.id, source, &check.fields, is_valid)?),
            (None, Some(name)) => CheckKind::BuiltIn(built_in::by_name(&check.id, name)?),
        };
        Ok(Check { rule: check.info(), roles: check.roles.clone(), kind })
    }
}

impl FieldMatches {
    /// Adds a match, or only counts it if the list is full.
    pub fn push(&mut self, one: FieldMatch) {
        if self.is_full() {
            self.more += 1;
        } else {
            self.list.push(one);
        }
    }

    /// Adds a match with a note.
    pub fn add(&mut self, at: impl Into<String>, note: Option<String>) {
        self.push(FieldMatch { at: at.into(), secret: None, note });
    }

    fn is_full(&self) -> bool {
        self.list.len() >= MAX_FINDINGS
    }

    fn into_findings(mut self, rule: &Arc<RuleInfo>, roles: &[String]) -> impl Iterator<Item = ConfigFinding> {
        if let Some(last) = self.list.last_mut().filter(|_| self.more > 0) {
            let note = last.note.take().map_or_else(String::new, |note| format!("{note}; "));
            last.note = Some(format!("{note}and in {} more places", self.more));
        }
        self.list.into_iter().map(|one| ConfigFinding {
            rule: rule.clone(),
            severity: rule.severity,
            at: one.at,
            secret: one.secret,
            raw: None,
            note: one.note,
            roles: roles.to_vec(),
        })
    }
}
