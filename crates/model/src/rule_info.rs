//! What a report says of a rule, and the two scales that it is judged on.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What reports say of a rule, shared by all its findings.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "Rule"))]
pub struct RuleInfo {
    /// The rule's id.
    pub id: String,
    /// A few words.
    pub title: String,
    /// How bad a finding is.
    pub severity: Severity,
    /// How sure a finding is.
    pub confidence: Confidence,
    /// What it is.
    pub what: String,
    /// What a thief can do with it.
    pub risk: String,
    /// What to do.
    pub fix: String,
    /// Where the format or the problem is documented.
    #[serde(default)]
    pub references: Vec<String>,
}

impl RuleInfo {
    /// Whether `wanted`, a rule's id or a prefix of ids that ends in `.`, means this rule.
    pub fn is_named_by(&self, wanted: &str) -> bool {
        self.id == wanted || (wanted.ends_with('.') && self.id.starts_with(wanted))
    }
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing, nothing to do.
    Info,
    /// Hygiene.
    Low,
    /// Helps an attacker who is already inside, or may be a secret.
    Medium,
    /// Opens a service or an account.
    High,
    /// Opens a production account, a fleet or a signing identity to anyone who pulls the image.
    Critical,
}

impl Severity {
    /// All severities, worst first.
    pub const ALL: [Severity; 5] =
        [Severity::Critical, Severity::High, Severity::Medium, Severity::Low, Severity::Info];

    /// The name as it is written in files and reports.
    pub fn name(self) -> &'static str {
        match self {
            Severity::Info => "info",
            Severity::Low => "low",
            Severity::Medium => "medium",
            Severity::High => "high",
            Severity::Critical => "critical",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Severity {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Severity::ALL
            .into_iter()
            .find(|severity| severity.name() == text)
            .ok_or_else(|| format!("`{text}` is no severity: expected critical, high, medium, low or info"))
    }
}

/// How sure a finding is to be what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Confidence {
    /// The shape alone, or a name beside a value.
    Low,
    /// A shape that few other things have.
    Medium,
    /// A checksum, a parsed structure or a prefix that nothing else has.
    High,
}

impl Confidence {
    /// The name as it is written in files and reports.
    pub fn name(self) -> &'static str {
        match self {
            Confidence::Low => "low",
            Confidence::Medium => "medium",
            Confidence::High => "high",
        }
    }
}
