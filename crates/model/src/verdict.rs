//! Verdicts: what a policy says of an image, and of each of its findings.

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::rule_info::Severity;

/// The outcome for an image. The order is that of badness, so that the worst of several is the greatest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Everything was read, and no finding fails.
    Pass,
    /// No finding fails, and not everything was read.
    Incomplete,
    /// A finding fails.
    Fail,
}

impl Verdict {
    /// The verdict as it is written in reports.
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
    /// Why it is allowed.
    pub reason: String,
    /// The last day on which it is.
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub expires: Date,
}

/// An exception that has expired.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ExpiredException {
    /// The entry's place in the policy file, from 1.
    pub entry: usize,
    /// Why the entry was made.
    pub reason: String,
    /// The last day on which it held.
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub expires: Date,
}

/// The policy that a report was judged by.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AppliedPolicy {
    /// The least severity that fails; none for a policy that only reports.
    pub fail_on: Option<Severity>,
    /// The digest of the policy file, where there is one.
    pub digest: Option<Digest>,
    /// The digest of the baseline, where there is one.
    pub baseline: Option<Digest>,
}

/// What a policy says of an image as a whole. What it says of each finding is in the finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// The outcome.
    pub verdict: Verdict,
    /// The policy.
    pub policy: AppliedPolicy,
    /// Exceptions of the policy that have expired.
    pub expired: Vec<ExpiredException>,
}
