//! Policies, which decide on verdicts: a severity that fails, the exceptions of a policy file, and the findings of an
//! earlier report as a baseline.

mod allow;
mod baseline;

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::Deserialize;
use toml::Spanned;

use jiff::civil::Date;
use layersift_model::{
    AppliedPolicy, Digest, ImageReport, Judgement, ParseError, ReportError, Severity, Verdict, parse,
};

pub use allow::{Allow, AllowList};
pub use baseline::Baseline;

/// The most bytes that are read of a policy file.
const MOST_BYTES: u64 = 16 << 20;

/// Decides whether an image passes.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Findings of this severity and above fail; `None` only reports.
    pub fail_on: Option<Severity>,
    /// Exceptions: findings that do not count, each for a reason and until a day.
    pub allow: AllowList,
    /// Findings of an earlier report, which do not count again.
    pub baseline: Option<Baseline>,
    /// The digest of the policy file, if one was read.
    pub digest: Option<Digest>,
}

impl Default for Policy {
    fn default() -> Self {
        Policy { fail_on: Some(Severity::High), allow: AllowList::default(), baseline: None, digest: None }
    }
}

/// The severity that fails, as people write it: `critical` to `info`, or `none`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct FailOn(pub Option<Severity>);

/// Why a policy or a baseline cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// The file cannot be read, or is not text in UTF-8.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The error of the file system.
        #[source]
        source: std::io::Error,
    },
    /// The file is larger than any policy or report.
    #[error("{} has more than {limit} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The most bytes that are read.
        limit: u64,
    },
    /// The file is not a policy.
    #[error("invalid policy {}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// The error of the TOML parser, with line and column.
        #[source]
        source: ParseError,
    },
    /// An exception would hold for everything.
    #[error(
        "invalid policy {}: line {line}: allow entry {entry} does not say what it allows: \
         expected fingerprint, rule, path, layer, package or base",
        path.display()
    )]
    AllowsAll {
        /// The file.
        path: PathBuf,
        /// The line in which the entry begins, from 1.
        line: usize,
        /// The entry's place in the file, from 1.
        entry: usize,
    },
    /// The baseline is not a report.
    #[error("invalid baseline {}", path.display())]
    Baseline {
        /// The file.
        path: PathBuf,
        /// What is wrong with the report.
        #[source]
        source: ReportError,
    },
}

impl Policy {
    /// A policy without exceptions that fails on `limit` and above; `None` never fails.
    pub fn failing_on(limit: Option<Severity>) -> Policy {
        Policy { fail_on: limit, ..Policy::default() }
    }

    /// Reads the policy file at `path`. Exceptions that end before `today` have expired.
    ///
    /// # Errors
    /// [`PolicyError`] for a file that cannot be read, is not a policy, or has an exception that would hold for
    /// everything.
    pub fn read(path: &Path, today: Date) -> Result<Policy, PolicyError> {
        Policy::parse(path, &read(path, MOST_BYTES)?, today)
    }

    /// Parses the TOML `text` of the policy file at `path`, which only errors name.
    ///
    /// # Errors
    /// As for [`Policy::read`].
    pub fn parse(path: &Path, text: &str, today: Date) -> Result<Policy, PolicyError> {
        let parsed: File = parse::toml(text).map_err(|source| PolicyError::Parse { path: path.into(), source })?;
        if let Some(index) = parsed.allow.iter().position(|entry| !entry.get_ref().names_something()) {
            let start = parsed.allow.get(index).map_or(0, |entry| entry.span().start);
            let line = 1 + text.bytes().take(start).filter(|byte| *byte == b'\n').count();
            return Err(PolicyError::AllowsAll { path: path.into(), line, entry: index + 1 });
        }
        let entries = parsed.allow.into_iter().map(Spanned::into_inner).collect();
        let FailOn(fail_on) = parsed.fail_on.unwrap_or_default();
        Ok(Policy {
            fail_on,
            allow: AllowList::new(entries, today),
            baseline: None,
            digest: Some(Digest::of(text.as_bytes())),
        })
    }

    /// Judges `report`: marks the findings that are allowed or in the baseline, and sets the verdict. Findings that a
    /// later layer deleted count too, because anyone who pulls the image has their layer.
    pub fn judge(&self, report: &mut ImageReport) {
        let known = self.baseline.as_ref().map(|baseline| baseline.known(&report.findings)).unwrap_or_default();
        let known = known.into_iter().chain(std::iter::repeat(false));
        for (finding, baseline) in report.findings.iter_mut().zip(known) {
            finding.allowed = self.allow.find(finding, report.base.as_ref()).map(Allow::as_allowed);
            finding.baseline = baseline;
        }
        let counted = report.findings.iter().filter(|finding| finding.counts());
        let worst = counted.map(|finding| finding.severity).max();
        let verdict = if self.fail_on.is_some_and(|limit| worst >= Some(limit)) {
            Verdict::Fail
        } else if report.gaps.is_empty() {
            Verdict::Pass
        } else {
            Verdict::Incomplete
        };
        let policy = AppliedPolicy {
            fail_on: self.fail_on,
            digest: self.digest.clone(),
            baseline: self.baseline.as_ref().map(|baseline| baseline.digest().clone()),
        };
        let expired = self.allow.expired().map(Allow::as_expired).collect();
        report.judgement = Some(Judgement { verdict, policy, expired });
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
    read_while(path, limit, |_| true)
}

/// The text of the file at `path`, or the beginning of it if that is not `wanted`.
fn read_while(path: &Path, limit: u64, wanted: impl Fn(&[u8]) -> bool) -> Result<String, PolicyError> {
    const BEGINNING: u64 = 1;
    let failed = |source| PolicyError::Read { path: path.into(), source };
    let mut text = String::new();
    let mut file = std::fs::File::open(path).map_err(failed)?;
    let mut beginning = Vec::new();
    (&mut file).take(BEGINNING).read_to_end(&mut beginning).map_err(failed)?;
    let rest = if wanted(&beginning) { limit } else { 0 };
    io::Cursor::new(beginning).chain(file.take(rest)).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > limit {
        return Err(PolicyError::TooLarge { path: path.into(), limit });
    }
    Ok(text)
}

#[cfg(test)]
mod tests;
