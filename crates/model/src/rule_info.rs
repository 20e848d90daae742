//! The description of a rule in reports, and the scales of severity and confidence.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The description of a rule in reports, shared by all its findings.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "Rule"))]
pub struct RuleInfo {
    /// The rule's id.
    pub id: String,
    /// A short title.
    pub title: String,
    /// The severity of a finding.
    pub severity: Severity,
    /// How likely a finding is to be real.
    pub confidence: Confidence,
    /// What was found.
    pub what: String,
    /// What an attacker can do with it.
    pub risk: String,
    /// What to do about it.
    pub fix: String,
    /// Where the format or the problem is documented.
    #[serde(default)]
    pub references: Vec<String>,
}

impl RuleInfo {
    /// Whether `wanted` selects this rule: it is the rule's id, or a prefix of it that ends in `.`.
    pub fn is_named_by(&self, wanted: &str) -> bool {
        self.id == wanted || (wanted.ends_with('.') && self.id.starts_with(wanted))
    }
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Verification knowing, nothing to do.
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

    /// The name in rule files and reports.
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
            .ok_or_else(|| format!("invalid severity `{text}`: expected critical, high, medium, low or info"))
    }
}

/// How likely a finding is to be what its rule says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Confidence {
    /// Only the format matches, or a name next to a value.
    Low,
    /// A format that few other things share.
    Medium,
    /// A checksum, a parsed structure or a unique prefix.
    High,
}

impl Confidence {
    /// The name in rule files and reports.
    pub fn name(self) -> &'static str {
        match self {
            Confidence::Low => "low",
            Confidence::Medium => "medium",
            Confidence::High => "high",
        }
    }
}
