//! What is said about an image: the outcome of a scan, without where anything is. Whoever can pull the image can read
//! it, so it has counts and a verdict only.
//!
//! A passing image gets a [`ScanResult`] of the type [`PASSED`], and a summary of in-toto's type [`SUMMARY`] for gates
//! that read those. Any other image gets one of the type [`NOT_PASSED`], and only on request: a gate that asks for a
//! signature and a type must not let it in.

use jiff::Timestamp;
use layersift_model::{Digest, ImageReport, Severity, Verdict};
use serde::{Deserialize, Serialize};

use crate::statement::{Statement, StatementError};

/// The predicate type of images that pass. `.example` can be registered by nobody.
pub const PASSED: &str = "https://layersift.example/attestation/scan-passed/v1";
/// The predicate type of images that fail or were not read as a whole.
pub const NOT_PASSED: &str = "https://layersift.example/attestation/scan-not-passed/v1";
/// A simple verification result of in-toto.
pub const SUMMARY: &str = "https://in-toto.io/attestation/svr/v0.2";
/// The property of a summary that no finding is of severity high or critical.
pub const NO_SECRETS_HIGH: &str = "LAYERSIFT_NO_SECRETS_HIGH";
/// The property of a summary that nothing was left unread.
pub const EVERY_BYTE_READ: &str = "LAYERSIFT_EVERY_BYTE_READ";
/// Who verified, in a summary.
const VERIFIER: &str = "https://layersift.example/verifier";

/// Why nothing is said about an image.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PredicateError {
    /// No policy was applied.
    #[error("the report has no verdict: apply a policy first")]
    NotJudged,
    /// A report whose times were removed.
    #[error("the report does not say when the image was scanned")]
    NoTime,
    /// An image that fails, and that nothing may be attached to.
    #[error("the verdict is {}, and only images that pass are attested", .0.name())]
    NotPassed(Verdict),
    /// The statement cannot be made.
    #[error(transparent)]
    Statement(#[from] StatementError),
}

/// Numbers of findings by severity, without those that the policy allows or that are in the baseline.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counts {
    /// Critical.
    pub critical: u32,
    /// High.
    pub high: u32,
    /// Medium.
    pub medium: u32,
    /// Low.
    pub low: u32,
    /// For information.
    pub info: u32,
}

impl Counts {
    /// The findings of severity `least` and above.
    pub fn at_least(&self, least: Severity) -> u64 {
        let all = [
            (Severity::Critical, self.critical),
            (Severity::High, self.high),
            (Severity::Medium, self.medium),
            (Severity::Low, self.low),
            (Severity::Info, self.info),
        ];
        all.iter().filter(|(severity, _)| *severity >= least).map(|(_, count)| u64::from(*count)).sum()
    }
}

/// How the image was judged: the severity that fails, after a flag that overrides the policy file, that file, and the
/// baseline. Only together do they say what a pass means.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct PolicyResult {
    /// The lowest severity that fails. Without one nothing does, and the image does not pass.
    pub fail_on: Option<Severity>,
    /// The digest of the policy file.
    pub digest: Option<Digest>,
    /// The digest of the baseline.
    pub baseline: Option<Digest>,
}

/// The program that scanned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Scanner {
    /// Its version.
    pub version: String,
    /// The digest of its rules.
    pub ruleset: String,
    /// What it makes of files; see `layersift_scan::READER_REVISION`.
    pub reader_revision: Option<u32>,
}

/// The outcome of a scan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ScanResult {
    /// The verdict.
    pub verdict: Verdict,
    /// When the scan began.
    pub scanned_at: Timestamp,
    /// When this was signed.
    pub attested_at: Timestamp,
    /// The program.
    pub scanner: Scanner,
    /// The policy.
    pub policy: PolicyResult,
    /// Findings that count.
    pub findings: Counts,
    /// Findings that the policy allows or that are in the baseline.
    pub allowed: Counts,
    /// How many places were not read.
    pub gaps: u32,
    /// Layers.
    pub layers: u32,
}

/// A simple verification result of in-toto, version 0.2.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// Who verified.
    pub verifier: Verifier,
    /// When the image was scanned.
    pub time_created: Timestamp,
    /// What holds for the image.
    pub properties: Vec<String>,
}

/// Who verified, by which policies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verifier {
    /// A URI.
    pub id: String,
    /// The policies.
    pub policies: Vec<PolicyReference>,
}

/// A policy by its digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyReference {
    /// Digests by algorithm.
    pub digest: std::collections::BTreeMap<String, String>,
}

/// Whether images that do not pass are attested, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failing {
    /// They are an error.
    Refuse,
    /// They get a statement of the type [`NOT_PASSED`].
    Attest,
}

impl ScanResult {
    /// What `report` says, signed at `now`.
    ///
    /// # Errors
    /// If it was not judged, or has no time.
    pub fn of(report: &ImageReport, now: Timestamp) -> Result<ScanResult, PredicateError> {
        let judgement = report.judgement.as_ref().ok_or(PredicateError::NotJudged)?;
        let counts = |counted: bool| {
            let mut counts = Counts::default();
            report.findings.iter().filter(|finding| finding.counts() == counted).for_each(|f| counts.add(f.severity));
            counts
        };
        let policy = &judgement.policy;
        Ok(ScanResult {
            verdict: judgement.verdict,
            scanned_at: whole_seconds(report.scanned_at.ok_or(PredicateError::NoTime)?),
            attested_at: whole_seconds(now),
            scanner: Scanner {
                version: report.tool.version.clone(),
                ruleset: report.tool.ruleset.clone(),
                reader_revision: report.tool.reader_revision,
            },
            policy: PolicyResult {
                fail_on: policy.fail_on,
                digest: policy.digest.clone(),
                baseline: policy.baseline.clone(),
            },
            findings: counts(true),
            allowed: counts(false),
            gaps: number(report.gaps.len()),
            layers: number(report.layers.len()),
        })
    }

    /// What holds for an index with the platforms that `results` are of: the worst of each. `None` without any, or if
    /// they were not scanned with the same rules and judged by the same policy.
    pub fn of_index(results: &[ScanResult]) -> Option<ScanResult> {
        let (first, others) = results.split_first()?;
        let mut all = first.clone();
        for other in others {
            all.verdict = all.verdict.max(other.verdict);
            all.scanned_at = all.scanned_at.min(other.scanned_at);
            all.findings.add_all(other.findings);
            all.allowed.add_all(other.allowed);
            all.gaps = all.gaps.saturating_add(other.gaps);
            all.layers = all.layers.saturating_add(other.layers);
        }
        let is_same = |other: &ScanResult| other.scanner == first.scanner && other.policy == first.policy;
        others.iter().all(is_same).then_some(all)
    }

    /// The predicate type: an image that does not pass never gets that of one that does.
    pub fn predicate_type(&self) -> &'static str {
        if self.passes() { PASSED } else { NOT_PASSED }
    }

    /// Whether the verdict is a pass that the counts do not contradict, by a policy that could have failed.
    pub fn passes(&self) -> bool {
        self.verdict == Verdict::Pass && self.gaps == 0 && self.policy.fail_on.is_some()
    }

    /// The statements about the image `digest`: one of ours and, if the image passes, the summary.
    ///
    /// # Errors
    /// If the image does not pass, unless that is to be attested, and for a digest that is not SHA-256.
    pub fn statements(
        &self,
        name: Option<&str>,
        digest: &Digest,
        failing: Failing,
    ) -> Result<Vec<Statement>, PredicateError> {
        let ours = || Statement::new(name, digest, self.predicate_type(), self);
        match (self.summary(), failing) {
            (Some(summary), _) => Ok(vec![ours()?, Statement::new(name, digest, SUMMARY, &summary)?]),
            (None, Failing::Attest) => Ok(vec![ours()?]),
            (None, Failing::Refuse) => Err(PredicateError::NotPassed(self.verdict)),
        }
    }

    /// The summary of an image that passes.
    fn summary(&self) -> Option<Summary> {
        if !self.passes() {
            return None;
        }
        let all = [self.findings, self.allowed];
        let has_none_high = all.iter().all(|counts| counts.critical == 0 && counts.high == 0);
        let mut properties = vec![EVERY_BYTE_READ.into()];
        if has_none_high {
            properties.insert(0, NO_SECRETS_HIGH.into());
        }
        let policy = self.policy.digest.iter();
        let reference = |digest: &Digest| [(digest.algorithm().name().to_owned(), digest.hex().to_owned())].into();
        let policies = policy.map(|digest| PolicyReference { digest: reference(digest) }).collect();
        let verifier = Verifier { id: VERIFIER.into(), policies };
        Some(Summary { verifier, time_created: self.scanned_at, properties })
    }
}

impl Counts {
    fn add_all(&mut self, other: Counts) {
        self.critical = self.critical.saturating_add(other.critical);
        self.high = self.high.saturating_add(other.high);
        self.medium = self.medium.saturating_add(other.medium);
        self.low = self.low.saturating_add(other.low);
        self.info = self.info.saturating_add(other.info);
    }

    fn add(&mut self, severity: Severity) {
        let count = match severity {
            Severity::Critical => &mut self.critical,
            Severity::High => &mut self.high,
            Severity::Medium => &mut self.medium,
            Severity::Low => &mut self.low,
            Severity::Info => &mut self.info,
        };
        *count = count.saturating_add(1);
    }
}

/// A time without fractions, which not every reader takes.
fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

/// A number that no reader rounds.
fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
