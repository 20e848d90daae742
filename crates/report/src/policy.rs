//! Policy: what makes a verdict. Without a policy file it is one severity; a file adds exceptions, and an earlier
//! report is a baseline.

pub mod allow;
pub mod baseline;
pub mod date;

use std::io::Read;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use toml::Spanned;

use allow::{Allow, AllowList};
use baseline::Baseline;
use date::Date;
use layersift_model::{Finding, ImageReport, Severity};

/// Bytes of a policy file.
const MOST_BYTES: u64 = 16 << 20;

/// What an image must not have.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Findings of this severity and above fail; `None` only reports.
    pub fail_on: Option<Severity>,
    /// Findings that do not count, each for a reason and a time.
    pub allow: AllowList,
    /// Findings that do not count because they are not new.
    pub baseline: Option<Baseline>,
}

impl Default for Policy {
    fn default() -> Self {
        Policy { fail_on: Some(Severity::High), allow: AllowList::default(), baseline: None }
    }
}

/// The severity that fails, as people write it: `critical` to `info`, or `none`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct FailOn(pub Option<Severity>);

/// Why a policy or a baseline cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// A file that cannot be read.
    #[error("cannot read {path}: {error}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        error: std::io::Error,
    },
    /// A file that is no policy.
    #[error("{file}: {error}")]
    Parse {
        /// The file.
        file: String,
        /// What is wrong, with line and column.
        error: toml::de::Error,
    },
    /// An exception that would hold for everything.
    #[error(
        "{file}: line {line}: allow entry {number} does not say what it allows: \
         expected fingerprint, rule, path, layer or package"
    )]
    AllowsAll {
        /// The file.
        file: String,
        /// The line that the entry begins in, from 1.
        line: usize,
        /// The entry's place in the file, from 1.
        number: usize,
    },
    /// A baseline that is no report.
    #[error("{path} is no report of layersift: {reason}")]
    Baseline {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
}

/// How a finding stands with a policy.
#[derive(Clone, Copy, Debug, Default)]
pub struct Standing<'p> {
    /// The exception that allows it.
    pub allowed: Option<&'p Allow>,
    /// Whether the baseline has it.
    pub baseline: bool,
}

impl Standing<'_> {
    /// Whether it counts for the verdict.
    pub fn counts(&self) -> bool {
        self.allowed.is_none() && !self.baseline
    }
}

/// What becomes of an image. The order is that of badness, so that the worst of several is the greatest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Everything was looked at, and nothing fails.
    Pass,
    /// Nothing fails in what was looked at, and not everything was.
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

impl Policy {
    /// The policy that fails on `limit` and knows no exceptions.
    pub fn failing_on(limit: Option<Severity>) -> Policy {
        Policy { fail_on: limit, ..Policy::default() }
    }

    /// Reads the policy file at `path`; its exceptions are judged by the day `today`.
    ///
    /// # Errors
    /// For what cannot be read, is no policy file, or has an exception without a limit.
    pub fn read(path: &Path, today: Date) -> Result<Policy, PolicyError> {
        Policy::parse(&path.display().to_string(), &read(path, MOST_BYTES)?, today)
    }

    /// The policy that the TOML `text` of `file` is; its exceptions are judged by the day `today`.
    ///
    /// # Errors
    /// As for [`Policy::read`].
    pub fn parse(file: &str, text: &str, today: Date) -> Result<Policy, PolicyError> {
        let parsed: File = toml::from_str(text).map_err(|error| PolicyError::Parse { file: file.into(), error })?;
        if let Some(index) = parsed.allow.iter().position(|entry| !entry.get_ref().names_something()) {
            let start = parsed.allow.get(index).map_or(0, |entry| entry.span().start);
            let line = 1 + text.bytes().take(start).filter(|byte| *byte == b'\n').count();
            return Err(PolicyError::AllowsAll { file: file.into(), line, number: index + 1 });
        }
        let entries = parsed.allow.into_iter().map(Spanned::into_inner).collect();
        let FailOn(fail_on) = parsed.fail_on.unwrap_or_default();
        Ok(Policy { fail_on, allow: AllowList::new(entries, today), baseline: None })
    }

    /// How each of an image's `findings` stands, in their order.
    pub fn standings(&self, findings: &[Finding]) -> Vec<Standing<'_>> {
        let known = self.baseline.as_ref().map(|baseline| baseline.known(findings)).unwrap_or_default();
        let known = known.into_iter().chain(std::iter::repeat(false));
        let standing = |(finding, baseline)| Standing { allowed: self.allow.find(finding), baseline };
        findings.iter().zip(known).map(standing).collect()
    }

    /// The verdict on an image. What a later layer deleted still counts: its layer can be pulled.
    pub fn verdict(&self, report: &ImageReport) -> Verdict {
        let standings = self.standings(&report.findings);
        let counted = report.findings.iter().zip(standings).filter(|(_, standing)| standing.counts());
        let worst = counted.map(|(finding, _)| finding.rule.severity).max();
        if self.fail_on.is_some_and(|limit| worst >= Some(limit)) {
            Verdict::Fail
        } else if report.gaps.is_empty() {
            Verdict::Pass
        } else {
            Verdict::Incomplete
        }
    }
}

impl Default for FailOn {
    fn default() -> Self {
        FailOn(Policy::default().fail_on)
    }
}

impl FromStr for FailOn {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "none" => Ok(FailOn(None)),
            _ => {
                text.parse().map(|severity| FailOn(Some(severity))).map_err(|error: String| format!("{error}, or none"))
            }
        }
    }
}

impl TryFrom<String> for FailOn {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

/// A policy file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct File {
    fail_on: Option<FailOn>,
    #[serde(default)]
    allow: Vec<Spanned<Allow>>,
}

/// The text of the file at `path`, which has at most `limit` bytes.
fn read(path: &Path, limit: u64) -> Result<String, PolicyError> {
    let failed = |error| PolicyError::Read { path: path.into(), error };
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(limit + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > limit {
        return Err(failed(std::io::Error::other(format!("it has more than {limit} bytes"))));
    }
    Ok(text)
}

#[cfg(test)]
mod tests;
