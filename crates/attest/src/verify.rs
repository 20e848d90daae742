//! The decision whether an image is attested as it has to be.
//!
//! It is made for one digest. An image with several platforms has an index and a manifest for each, and none of them
//! stands for another: whoever lets in an index asks for the index and for the platform that will run.

mod image;

use jiff::{SignedDuration, Timestamp};
use layersift_model::{Digest, ParseError, Severity, Verdict};

use crate::evidence::{Attestation, Evidence};
use crate::keys::PublicKey;
use crate::predicate::{NOT_PASSED, PASSED, SUMMARY, ScanResult};
use crate::statement::{Statement, StatementError};
use crate::timestamp::{Authorities, TimestampError};

pub use image::{Attached, verify_image};

/// How far clocks may differ.
pub const MOST_AHEAD: SignedDuration = SignedDuration::from_mins(5);

/// The most bytes of a statement about a scan, which has some hundreds. More are not hashed for each key.
const MOST_STATEMENT: usize = 4 << 20;

/// What an attestation has to say.
#[derive(Clone, Debug, Default)]
pub struct Demands {
    /// The keys, one of which has to have signed. Without keys nothing is accepted.
    pub keys: Vec<PublicKey>,
    /// The rule sets, one of which the image has to be scanned with; any, if there is none.
    pub rulesets: Vec<String>,
    /// How it has to have been judged; in any way that could have failed, if nothing is said.
    pub judgement: Option<JudgementDemand>,
    /// How long ago the scan may have begun.
    pub most_age: Option<SignedDuration>,
    /// The authorities, one of which has to have stamped the signature, not before it claims to be made.
    pub authorities: Option<Authorities>,
    /// What the caller's own store knows of the image. Anything but a pass is the last word.
    pub stored: Option<Verdict>,
}

/// How an image has to have been judged. What a policy file says can be overridden, and a baseline of the image itself
/// takes every finding out, so the whole of it is compared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JudgementDemand {
    /// The policy file. Without one it does not matter, but nothing that would fail may be excepted by it.
    pub policy: Option<Digest>,
    /// The highest severity that may be the lowest that fails; any, if there is none.
    pub fail_on: Option<Severity>,
    /// The baseline. Without one the image has to have been judged without one.
    pub baseline: Option<Digest>,
}

/// Why an attestation, or an image, was not accepted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// Nothing is attached.
    #[error("no attestation is attached to {0}")]
    Nothing(Digest),
    /// Something is attached that could not be read.
    #[error("an attestation could not be read: {0}")]
    Unreadable(String),
    /// Another key.
    #[error("the attestation is not signed by a trusted key")]
    Key,
    /// Signed, but not a statement that all readers understand in the same way.
    #[error("the signed statement is refused")]
    Statement(#[source] StatementError),
    /// Another image, or another platform of it.
    #[error("the attestation is about another image than {0}")]
    Subject(Digest),
    /// Another type.
    #[error("the attestation has the predicate type `{found}` instead of `{wanted}`")]
    PredicateType {
        /// The type of the attestation.
        found: String,
        /// The type that was asked for.
        wanted: String,
    },
    /// A statement that is too long to be about a scan.
    #[error("the statement has {0} bytes, more than one about a scan")]
    TooLong(usize),
    /// A predicate of our type that is not one.
    #[error("the predicate is not the outcome of a scan")]
    Predicate(#[source] ParseError),
    /// A verdict that is not a pass.
    #[error("the attested verdict is {}", .0.name())]
    Verdict(Verdict),
    /// Other rules.
    #[error("the image was scanned with the rule set {found} instead of {}", wanted.join(" or "))]
    Ruleset {
        /// The rule set of the scan.
        found: String,
        /// The rule sets that were asked for.
        wanted: Vec<String>,
    },
    /// Another policy.
    #[error("the image was judged by another policy than {0}")]
    Policy(Digest),
    /// A severity that does not fail.
    #[error("the image was judged with --fail-on {} instead of {}", severity_name(found.as_ref()), wanted.name())]
    FailOn {
        /// The severity that failed.
        found: Option<Severity>,
        /// The severity that has to fail.
        wanted: Severity,
    },
    /// A policy by which nothing fails.
    #[error("the image was judged with --fail-on none, so nothing could fail")]
    NothingFails,
    /// Findings that would fail, and that a policy which was not asked for excepts.
    #[error("{count} findings of severity {} or above were excepted, by a policy that nobody asked for", .least.name())]
    Excepted {
        /// How many.
        count: u64,
        /// The lowest severity that has to fail.
        least: Severity,
    },
    /// Another baseline.
    #[error("the image was judged with the baseline {}", .0.as_ref().map_or_else(|| "none".into(), Digest::to_string))]
    Baseline(Option<Digest>),
    /// A scan too long ago.
    #[error("the image was scanned at {0}, which is too long ago")]
    TooOld(Timestamp),
    /// A time that has not come yet.
    #[error("the attestation is from {0}, which is in the future")]
    Future(Timestamp),
    /// Signed before the scan, or stamped before it was signed.
    #[error("the times of the attestation contradict each other")]
    Times,
    /// No time stamp that counts.
    #[error("the attestation has no time stamp of a trusted authority")]
    NoTimestamp(#[source] Option<TimestampError>),
    /// A trusted key attested later, or at the same time, that the image does not pass.
    #[error("a trusted key attested at {0} that the image does not pass")]
    FailedLater(Timestamp),
    /// More is attached than was read: what was not may say that the image does not pass.
    #[error("not all that is attached was read: {0}")]
    NotAllRead(String),
    /// What is stored about the image.
    #[error("the stored verdict of the image is {}", .0.name())]
    Stored(Verdict),
}

impl Refusal {
    /// The reason with what caused it.
    pub fn full_text(&self) -> String {
        chain(self)
    }
}

/// An attestation that was accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// The image that it is about.
    pub subject: Digest,
    /// What it says.
    pub result: ScanResult,
    /// The fingerprint of the key that signed it.
    pub key: String,
    /// Its predicate type.
    pub predicate_type: String,
}

/// The decision.
#[derive(Debug)]
pub struct Verification {
    /// The newest attestation that was accepted, if the image is.
    pub accepted: Option<Accepted>,
    /// Why the image, or an attestation of it, was not accepted. Others may have been.
    pub refusals: Vec<Refusal>,
}

impl Verification {
    /// Whether the image is attested as it has to be.
    pub fn is_accepted(&self) -> bool {
        self.accepted.is_some()
    }

    /// A pass if it is; incomplete if what was not read may say more, and nothing that was read says that it fails.
    pub fn verdict(&self) -> Verdict {
        let has = |is: fn(&Refusal) -> bool| self.refusals.iter().any(is);
        let is_failed = has(|refusal| matches!(refusal, Refusal::FailedLater(_) | Refusal::Stored(_)));
        match self.is_accepted() {
            true => Verdict::Pass,
            false if !is_failed && has(|refusal| matches!(refusal, Refusal::NotAllRead(_))) => Verdict::Incomplete,
            false => Verdict::Fail,
        }
    }
}

/// The statements about the image `subject` that one of `keys` signed and that have the type `predicate_type`, and why
/// the other attestations are none. This is what `cosign verify-attestation --key --type` checks.
pub fn signed_statements(
    evidence: &Evidence,
    subject: &Digest,
    keys: &[PublicKey],
    predicate_type: &str,
) -> (Vec<Statement>, Vec<Refusal>) {
    let mut refusals = unreadable(evidence);
    let mut statements = Vec::new();
    for attestation in evidence.attestations() {
        match signed_statement(attestation, subject, keys, predicate_type) {
            Ok((statement, _)) => statements.push(statement),
            Err(refusal) => refusals.push(refusal),
        }
    }
    if statements.is_empty() && refusals.is_empty() {
        refusals.push(Refusal::Nothing(subject.clone()));
    }
    (statements, refusals)
}

/// Decides whether the image `subject` is attested as `demands` say, at the time `now`.
pub fn verify(evidence: &Evidence, subject: &Digest, demands: &Demands, now: Timestamp) -> Verification {
    let mut refusals = unreadable(evidence);
    let mut accepted: Option<Accepted> = None;
    for attestation in evidence.attestations() {
        match check(attestation, subject, demands, now) {
            // Every image that passes has a summary beside what is asked for.
            Err(Refusal::PredicateType { found, .. }) if found == SUMMARY => {}
            Ok(new) if accepted.as_ref().is_none_or(|best| best.result.scanned_at < new.result.scanned_at) => {
                accepted = Some(new);
            }
            Ok(_) => {}
            Err(refusal) => refusals.push(refusal),
        }
    }
    if let (Some(best), Some(failed)) = (&accepted, last_failure(evidence, subject, demands))
        && failed >= best.result.scanned_at
    {
        refusals.push(Refusal::FailedLater(failed));
        accepted = None;
    }
    if let Some(error) = evidence.unreadable().iter().find(|error| error.leaves_rest()) {
        refusals.push(Refusal::NotAllRead(error.to_string()));
        accepted = None;
    }
    if let Some(stored) = demands.stored.filter(|stored| *stored != Verdict::Pass) {
        refusals.push(Refusal::Stored(stored));
        accepted = None;
    }
    if accepted.is_none() && refusals.is_empty() {
        refusals.push(Refusal::Nothing(subject.clone()));
    }
    Verification { accepted, refusals }
}

fn unreadable(evidence: &Evidence) -> Vec<Refusal> {
    evidence.unreadable().iter().map(|error| Refusal::Unreadable(chain(error))).collect()
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

/// A statement with the key that signed it.
fn signed_statement<'k>(
    attestation: &Attestation,
    subject: &Digest,
    keys: &'k [PublicKey],
    wanted: &str,
) -> Result<(Statement, &'k PublicKey), Refusal> {
    let key = keys.iter().find(|key| attestation.envelope.is_signed_by(key)).ok_or(Refusal::Key)?;
    let statement = attestation.envelope.statement().map_err(Refusal::Statement)?;
    if !statement.is_about(subject) {
        return Err(Refusal::Subject(subject.clone()));
    }
    if statement.predicate_type() != wanted {
        let found = statement.predicate_type().chars().take(160).collect();
        return Err(Refusal::PredicateType { found, wanted: wanted.into() });
    }
    Ok((statement, key))
}

fn check(attestation: &Attestation, subject: &Digest, demands: &Demands, now: Timestamp) -> Result<Accepted, Refusal> {
    let length = attestation.envelope.payload().len();
    if length > MOST_STATEMENT {
        return Err(Refusal::TooLong(length));
    }
    let (statement, key) = signed_statement(attestation, subject, &demands.keys, PASSED)?;
    let result: ScanResult = statement.predicate_as().map_err(Refusal::Predicate)?;
    if result.policy.fail_on.is_none() {
        return Err(Refusal::NothingFails);
    }
    if !result.passes() {
        return Err(Refusal::Verdict(result.verdict));
    }
    if !demands.rulesets.is_empty() && !demands.rulesets.contains(&result.scanner.ruleset) {
        return Err(Refusal::Ruleset { found: result.scanner.ruleset, wanted: demands.rulesets.clone() });
    }
    demands.judgement.as_ref().map_or(Ok(()), |wanted| check_judgement(&result, wanted))?;
    check_times(attestation, &result, demands, now)?;
    let (key, predicate_type) = (key.fingerprint(), statement.predicate_type().to_owned());
    Ok(Accepted { subject: subject.clone(), result, key, predicate_type })
}

fn check_judgement(result: &ScanResult, wanted: &JudgementDemand) -> Result<(), Refusal> {
    let found = &result.policy;
    if let Some(policy) = wanted.policy.as_ref().filter(|policy| found.digest.as_ref() != Some(policy)) {
        return Err(Refusal::Policy(policy.clone()));
    }
    // Whoever fails on less fails on this as well.
    if let Some(severity) = wanted.fail_on.filter(|wanted| found.fail_on.is_none_or(|found| found > *wanted)) {
        return Err(Refusal::FailOn { found: found.fail_on, wanted: severity });
    }
    if found.baseline != wanted.baseline {
        return Err(Refusal::Baseline(found.baseline.clone()));
    }
    // Whoever names a policy or a baseline knows what it excepts.
    let is_named = wanted.policy.is_some() || wanted.baseline.is_some();
    match wanted.fail_on.map(|least| (result.allowed.at_least(least), least)) {
        Some((count, least)) if count > 0 && !is_named => Err(Refusal::Excepted { count, least }),
        _ => Ok(()),
    }
}

fn severity_name(severity: Option<&Severity>) -> &'static str {
    severity.map_or("none", |severity| severity.name())
}

fn check_times(
    attestation: &Attestation,
    result: &ScanResult,
    demands: &Demands,
    now: Timestamp,
) -> Result<(), Refusal> {
    for time in [result.scanned_at, result.attested_at] {
        if time.duration_since(now) > MOST_AHEAD {
            return Err(Refusal::Future(time));
        }
    }
    if result.scanned_at.duration_since(result.attested_at) > MOST_AHEAD {
        return Err(Refusal::Times);
    }
    if demands.most_age.is_some_and(|most| now.duration_since(result.scanned_at) > most) {
        return Err(Refusal::TooOld(result.scanned_at));
    }
    let Some(authorities) = &demands.authorities else { return Ok(()) };
    let mut last = None;
    for response in &attestation.timestamps {
        match authorities.verify(response, &attestation.stamped) {
            Ok(stamp) if stamp.time.duration_since(now) > MOST_AHEAD => return Err(Refusal::Future(stamp.time)),
            Ok(stamp) if result.attested_at.duration_since(stamp.time) > MOST_AHEAD => return Err(Refusal::Times),
            Ok(_) => return Ok(()),
            Err(error) => last = Some(error),
        }
    }
    Err(Refusal::NoTimestamp(last))
}

/// When a trusted key last attested that the image does not pass. Both forms count.
fn last_failure(evidence: &Evidence, subject: &Digest, demands: &Demands) -> Option<Timestamp> {
    let all = evidence.all().filter(|attestation| attestation.envelope.payload().len() <= MOST_STATEMENT);
    let failures = all.filter_map(|attestation| {
        let (statement, _) = signed_statement(attestation, subject, &demands.keys, NOT_PASSED).ok()?;
        Some(statement.predicate_as::<ScanResult>().map_or(Timestamp::MAX, |result| result.scanned_at))
    });
    failures.max()
}
