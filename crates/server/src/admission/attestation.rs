//! What attestations that were verified say under the rules for a place: an image that was attested to pass elsewhere
//! passes here only if nothing in it would fail here.

use layersift_attest::Accepted;
use layersift_attest::predicate::ScanResult;
use layersift_model::Digest;
use layersift_report::Policy;
use serde::{Deserialize, Serialize};

use super::decision::{Basis, Decision, Effect, Outcome, Reason};

/// The rule that a reason has which says why attestations do not count.
const RULE: &str = "attestation";

/// Whether attestations stand in for a scan.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum AttestationUse {
    /// They do not.
    #[default]
    Ignore,
    /// An image that is attested is not scanned.
    Accept,
    /// An image that is attested is let in, and scanned in the background. Then its report decides.
    UntilScanned,
}

/// The attestation that a decision rests on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AttestationBasis {
    /// The fingerprint of the key that signed it.
    pub key: String,
    /// Its predicate type.
    pub predicate_type: String,
    /// When it was signed, in seconds since 1970.
    pub attested_at: i64,
    /// What it is about: the image or its index, or each of its platforms.
    pub subjects: Vec<Digest>,
}

/// An image that is attested: not yet by which rules.
#[derive(Debug)]
pub struct AttestedImage {
    /// One attestation of the image or its index, or one of each platform: never empty.
    pub accepted: Vec<Accepted>,
    /// The manifests of the image: itself and, of an index, those of its platforms.
    pub manifests: Vec<Digest>,
    /// The platforms of an index.
    pub platforms: Vec<String>,
}

/// What is asked of attestations besides what holds for all places.
#[derive(Debug)]
pub struct AttestationTerms<'p> {
    /// Which findings fail.
    pub findings: &'p Policy,
    /// The policies that count: digests of policy files, or none for no file. `None` if any does.
    pub policies: Option<Vec<Option<Digest>>>,
    /// The rule set of the service.
    pub ruleset: &'p str,
}

impl AttestedImage {
    /// The decision that rests on the attestations.
    ///
    /// # Errors
    /// With the reason why they do not count in this place.
    pub fn decide(&self, image: &str, digest: &Digest, terms: &AttestationTerms<'_>) -> Result<Decision, String> {
        self.accepted.iter().try_for_each(|accepted| check(&accepted.result, terms))?;
        let oldest = self.accepted.iter().min_by_key(|accepted| accepted.result.scanned_at);
        let oldest = oldest.ok_or("there is none")?;
        let Accepted { result, key, predicate_type, .. } = oldest;
        let attestation = AttestationBasis {
            key: key.clone(),
            predicate_type: predicate_type.clone(),
            attested_at: result.attested_at.as_second(),
            subjects: self.accepted.iter().map(|accepted| accepted.subject.clone()).collect(),
        };
        let basis = Basis {
            ruleset: result.scanner.ruleset.clone(),
            reader_revision: result.scanner.reader_revision,
            scanned_at: result.scanned_at.as_second(),
            is_outdated: result.scanner.ruleset != terms.ruleset,
            attestation: Some(Box::new(attestation)),
        };
        Ok(Decision {
            platforms: self.platforms.clone(),
            effect: Effect::Allow,
            reasons: Vec::new(),
            reasons_total: 0,
            basis: Some(basis),
            ..Decision::without_report(image, Some(digest.clone()), Outcome::Pass, "")
        })
    }
}

/// Whether an image of which this was attested would pass here. What it was allowed elsewhere is a finding, unless that
/// was by a policy that the operator names, and by nothing else.
fn check(result: &ScanResult, terms: &AttestationTerms<'_>) -> Result<(), String> {
    let policy = &result.policy;
    let is_named = terms.policies.as_ref().is_some_and(|named| named.contains(&policy.digest));
    if terms.policies.is_some() && !is_named {
        let by = policy.digest.as_ref().map_or_else(|| "no policy file".into(), ToString::to_string);
        return Err(format!("the image was judged by another policy: {by}"));
    }
    let Some(limit) = terms.findings.fail_on else { return Ok(()) };
    if result.findings.at_least(limit) > 0 {
        return Err(format!("the attested scan has findings of severity {} or above, which fail here", limit.name()));
    }
    if result.allowed.at_least(limit) > 0 && (!is_named || policy.baseline.is_some()) {
        let name = limit.name();
        return Err(format!("the attested scan has findings of severity {name} or above that were allowed elsewhere"));
    }
    Ok(())
}

impl Decision {
    /// The same decision, with why attestations did not change it.
    pub(crate) fn without_attestation(mut self, why: &str) -> Decision {
        self.reasons.push(Reason::of_words(RULE, &format!("not taken: {why}")));
        self.reasons_total += 1;
        self
    }
}
