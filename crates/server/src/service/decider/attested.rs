//! Attestations instead of a scan, for an image of which no report decides, where the rules for a place take them. A
//! stored report that fails is the last word, also that of a single platform.

use std::sync::Arc;
use std::time::Duration;

use layersift_model::Digest;
use layersift_source::registry::Reference;
use tokio::time::Instant;

use super::{Asked, CacheKey, Decider};
use crate::admission::{AdmissionPolicy, AttestationTerms, AttestationUse, Decision, Terms};

/// How long they are waited for. After that the image is queued as without them, and they are read on for the next one
/// who asks.
const LONGEST: Duration = Duration::from_secs(3);

/// Why attestations do not decide; `None` where they are not asked for.
type NotTaken = Option<String>;

impl Decider {
    /// The decision that rests on the attestations of an image, if they count here.
    pub(super) async fn attested(
        &self,
        (policy, terms): (&AdmissionPolicy, &Terms),
        (pulled, digest): (&Reference, &Digest),
        asked: &Asked,
    ) -> Result<Decision, NotTaken> {
        if terms.attestations == AttestationUse::Ignore {
            return Err(None);
        }
        let key = (digest.clone(), policy.generation(), terms.number);
        let deciding = self.decide_by_attestations((policy, terms), (pulled, digest), &key);
        let late = || "they could not be read in time; it may be known a moment later".to_string();
        let until = asked.until.min(Instant::now() + LONGEST);
        let decided = tokio::time::timeout_at(until, deciding).await.unwrap_or_else(|_| Err(late()));
        match decided {
            Ok(decision) => {
                self.attested.insert(key, decision.clone()).await;
                Ok(decision)
            }
            Err(why) => {
                self.attested.invalidate(&key).await;
                Err(Some(why))
            }
        }
    }

    /// What attestations decided in the minutes before the store was out of reach.
    pub(super) async fn attested_before(
        &self,
        policy: &AdmissionPolicy,
        terms: &Terms,
        digest: &Digest,
    ) -> Option<Decision> {
        self.attested.get(&(digest.clone(), policy.generation(), terms.number)).await
    }

    /// Reads the keys of attestations again.
    pub(crate) fn reload_attestation_keys(&self) {
        if self.attestations.reload() {
            self.attested.invalidate_all();
        }
    }

    async fn decide_by_attestations(
        &self,
        (policy, terms): (&AdmissionPolicy, &Terms),
        (pulled, digest): (&Reference, &Digest),
        key: &CacheKey,
    ) -> Result<Decision, String> {
        let read = self.attestations.of(pulled, digest).await;
        let read = read.ok_or("its registry is being asked for those of other images")?;
        let image = Result::as_ref(&read).map_err(|not_taken| not_taken.reason.clone())?;
        if self.attestations.is_too_old(image) {
            return Err("the image was scanned too long ago".into());
        }
        let of_place = AttestationTerms {
            findings: &terms.findings,
            policies: self.attestations.policies(terms.findings.digest.as_ref()),
            ruleset: self.attestations.ruleset(),
        };
        let decision = image.decide("", digest, &of_place)?;
        match self.failing(&image.manifests, key, terms, policy).await? {
            None => Ok(decision),
            Some(failing) => Err(format!("a stored report of {failing} fails")),
        }
    }

    /// A manifest of an image of which a stored report fails, as it was seconds ago, or is now.
    async fn failing(
        &self,
        manifests: &[Digest],
        key: &CacheKey,
        terms: &Terms,
        policy: &AdmissionPolicy,
    ) -> Result<Option<Digest>, String> {
        const OUT_OF_REACH: &str = "the store cannot be reached, and may have a report that fails";
        let look = async {
            let failing = self.look_for_failing(manifests, terms, policy).await;
            failing.ok_or_else(|| OUT_OF_REACH.to_string())
        };
        self.failing.try_get_with(key.clone(), look).await.map_err(|error: Arc<String>| error.to_string())
    }
}
