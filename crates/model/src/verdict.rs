//! Verdicts: how a policy judges an image and its findings.

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::rule_info::Severity;

/// The outcome for an image. Ordered from best to worst, so that the maximum of several verdicts is the worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Everything was read, and no finding fails.
    Pass,
    /// No finding fails, but not everything was read.
    Incomplete,
    /// A finding fails.
    Fail,
}

impl Verdict {
    /// The name of the verdict in reports.
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Pass => "pass",
            Verdict::Incomplete => "incomplete",
            Verdict::Fail => "fail",
        }
    }

    /// The exit status of the program.
    pub fn exit_code(self) -> u8 {
        match self {
            Verdict::Pass => 0,
            Verdict::Fail => 1,
            Verdict::Incomplete => 3,
        }
    }
}

/// The exception that allows a finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Allowed {
    /// Why the finding is allowed.
    pub reason: String,
    /// The last day on which it is allowed.
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub expires: Date,
}

/// An exception that has expired.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ExpiredException {
    /// The position of the exception in the policy file, from 1.
    pub entry: usize,
    /// Why the findings were allowed.
    pub reason: String,
    /// The last day on which the exception was valid.
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub expires: Date,
}

/// The policy that was applied to a report.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AppliedPolicy {
    /// The lowest severity that fails; `null` for a policy that only reports.
    pub fail_on: Option<Severity>,
    /// The digest of the policy file, if there is one.
    pub digest: Option<Digest>,
    /// The digest of the baseline, if there is one.
    pub baseline: Option<Digest>,
}

/// How a policy judges an image as a whole. The judgement of each finding is in the finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// The outcome.
    pub verdict: Verdict,
    /// The policy.
    pub policy: AppliedPolicy,
    /// Exceptions of the policy that have expired.
    pub expired: Vec<ExpiredException>,
}
