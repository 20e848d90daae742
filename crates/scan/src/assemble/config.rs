//! Checks of an image's configuration: what it declares, what it starts, and what it tells of how it was made.
//!
//! The rules are data (`signatures/config/*.toml`): ports, expressions over the strings of the configuration, and
//! names of the few checks that have to be code. A configuration may be megabytes long and is anyone's bytes: every
//! check is one pass over it, and a rule reports a bounded number of places and says how many more there are.

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

/// Findings of one rule in one configuration. The last one tells how many were left out.
const MOST_FINDINGS: usize = 1_000;

/// Everything the checks look at.
#[derive(Clone, Copy)]
pub struct Subject<'a> {
    /// The image's configuration.
    pub config: &'a ImageConfig,
    /// What the image is called, such as `registry.example/app:1.0`, where it has a name.
    pub reference: Option<&'a str>,
    /// Number of layers in the manifest.
    pub layers: usize,
    /// The addresses that the manifest's layers name for fetching them past the registry.
    pub foreign_urls: &'a [String],
}

/// A finding in the configuration.
#[derive(Clone, Debug)]
pub struct ConfigFinding {
    /// What was looked for.
    pub rule: Arc<RuleInfo>,
    /// How bad it is: the rule's severity, or less.
    pub severity: Severity,
    /// The field's name, `ExposedPorts.9229/tcp`, or the name of the part that a built-in check looked at.
    pub at: String,
    /// The secret, where the rule finds one.
    pub secret: Option<Secret>,
    /// The text that the secret stands as in its field, to be masked wherever that is shown.
    pub raw: Option<Box<str>>,
    /// What the rule's pattern lets be quoted, or how many more places there are. Never a secret.
    pub note: Option<String>,
    /// What kind of exposure it is, for chains.
    pub roles: Vec<String>,
}

/// Why a rule for configurations cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// An expression that cannot be read or is too large.
    #[error("{rule}: no usable regular expression: {reason}")]
    Expression {
        /// The rule's id.
        rule: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A name that stands for no built-in check.
    #[error("{rule}: there is no built-in check called `{name}`; known are {known}")]
    BuiltIn {
        /// The rule's id.
        rule: String,
        /// The name.
        name: String,
        /// The names that exist.
        known: String,
    },
    /// A rule that could never find anything, or says two things at once.
    #[error("{rule}: {reason}")]
    Shape {
        /// The rule's id.
        rule: String,
        /// What is missing or too much.
        reason: &'static str,
    },
}

/// The rules for configurations, prepared.
pub struct Checks {
    ports: Ports,
    checks: Vec<Check>,
}

/// Where a rule found something.
#[derive(Debug, Default)]
pub struct Spot {
    /// The name of the place.
    pub at: String,
    /// The secret there.
    pub secret: Option<Secret>,
    /// What may be said of it.
    pub note: Option<String>,
}

/// A bounded list of places.
#[derive(Debug, Default)]
pub struct Spots {
    list: Vec<Spot>,
    more: usize,
}

struct Check {
    rule: Arc<RuleInfo>,
    roles: Vec<String>,
    look: Look,
}

enum Look {
    Pattern(Pattern),
    BuiltIn(BuiltIn),
}

impl Checks {
    /// Prepares `ports` and `checks`.
    ///
    /// # Errors
    /// For an expression that is none, a built-in check that does not exist, and a rule that cannot find anything.
    pub fn new(ports: &[PortRule], checks: &[ConfigCheck]) -> Result<Checks, CheckError> {
        let ports = Ports::new(ports)?;
        let checks = checks.iter().map(Check::new).collect::<Result<_, _>>()?;
        Ok(Checks { ports, checks })
    }

    /// All findings in `subject`: ports first, then the checks, each in the order of the rules and of the fields.
    ///
    /// A rule has one finding in a field, or one for each secret there.
    pub fn run(&self, subject: &Subject<'_>) -> Vec<ConfigFinding> {
        let mut found = self.ports.run(&subject.config.config.exposed_ports);
        let spots = self.spots(subject);
        for (check, spots) in self.checks.iter().zip(spots) {
            found.extend(spots.into_findings(&check.rule, &check.roles));
        }
        found
    }

    fn spots(&self, subject: &Subject<'_>) -> Vec<Spots> {
        let mut found: Vec<Spots> = self.checks.iter().map(|_| Spots::default()).collect();
        let mut kinds: Vec<Vec<ConfigField>> = vec![Vec::new(); self.checks.len()];
        for field in fields::each(subject.config) {
            for (i, check) in self.checks.iter().enumerate() {
                if let Look::Pattern(pattern) = &check.look
                    && pattern.look_at(&field, &mut found[i])
                {
                    kinds[i].push(field.kind);
                    kinds[i].dedup();
                }
            }
        }
        // A switch and its value are two words of a command: what no word shows, the whole line may.
        for line in fields::command_lines(subject.config) {
            for (i, check) in self.checks.iter().enumerate() {
                if let Look::Pattern(pattern) = &check.look
                    && !kinds[i].contains(&line.kind)
                {
                    pattern.look_at(&line, &mut found[i]);
                }
            }
        }
        for (spots, check) in found.iter_mut().zip(&self.checks) {
            if let Look::BuiltIn(look) = check.look {
                look(subject, spots);
            }
        }
        found
    }
}

impl Check {
    fn new(check: &ConfigCheck) -> Result<Check, CheckError> {
        let shape = |reason| CheckError::Shape { rule: check.id.clone(), reason };
        let look = match (&check.pattern, &check.built_in) {
            (Some(_), Some(_)) => return Err(shape("has both a `pattern` and a `built_in`")),
            (None, None) => return Err(shape("has neither a `pattern` nor a `built_in`")),
            (Some(_), None) if check.fields.is_empty() => return Err(shape("names no `fields` for its `pattern`")),
            (Some(source), None) => Look::Pattern(Pattern::new(&check.id, source, &check.fields)?),
            (None, Some(name)) => Look::BuiltIn(built_in::by_name(&check.id, name)?),
        };
        Ok(Check { rule: check.info(), roles: check.roles.clone(), look })
    }
}

impl Spots {
    /// Adds a place, or counts it where there are too many.
    pub fn push(&mut self, spot: Spot) {
        if self.is_full() {
            self.more += 1;
        } else {
            self.list.push(spot);
        }
    }

    /// Adds a place with a note.
    pub fn add(&mut self, at: impl Into<String>, note: Option<String>) {
        self.push(Spot { at: at.into(), secret: None, note });
    }

    fn is_full(&self) -> bool {
        self.list.len() >= MOST_FINDINGS
    }

    fn into_findings(mut self, rule: &Arc<RuleInfo>, roles: &[String]) -> impl Iterator<Item = ConfigFinding> {
        if let Some(last) = self.list.last_mut().filter(|_| self.more > 0) {
            let note = last.note.take().map_or_else(String::new, |note| format!("{note}; "));
            last.note = Some(format!("{note}and in {} more places", self.more));
        }
        self.list.into_iter().map(|spot| ConfigFinding {
            rule: rule.clone(),
            severity: rule.severity,
            at: spot.at,
            secret: spot.secret,
            raw: None,
            note: spot.note,
            roles: roles.to_vec(),
        })
    }
}
