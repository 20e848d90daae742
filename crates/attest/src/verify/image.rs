//! The decision for an image with several platforms, for whoever lets in an index and does not know which platform will
//! run: one attestation of the index stands for all of them, as it names each by its digest, or each has its own.

use jiff::Timestamp;
use layersift_model::Digest;

use super::{Accepted, Demands, Refusal, last_failure, verify};
use crate::evidence::Evidence;

/// A manifest or an index, and what is attached to it.
#[derive(Debug)]
pub struct Attached {
    /// Its digest.
    pub subject: Digest,
    /// What is attached.
    pub evidence: Evidence,
}

/// Decides whether the image `root` is attested as `demands` say, at the time `now`: by an attestation of itself, or
/// by one of each of its `platforms`. A failure that a trusted key attested of any of them wins over what is older.
///
/// # Errors
/// With the reasons why it is not, those of the root first.
pub fn verify_image(
    root: &Attached,
    platforms: &[Attached],
    demands: &Demands,
    now: Timestamp,
) -> Result<Vec<Accepted>, Vec<Refusal>> {
    let all = std::iter::once(root).chain(platforms);
    let failed = all.filter_map(|of| last_failure(&of.evidence, &of.subject, demands)).max();
    let of_root = verify(&root.evidence, &root.subject, demands, now);
    let mut refusals = of_root.refusals;
    let mut accepted: Vec<Accepted> = of_root.accepted.into_iter().collect();
    let mut of_platforms = Vec::new();
    for Attached { subject, evidence } in platforms {
        let verification = verify(evidence, subject, demands, now);
        of_platforms.extend(verification.accepted);
        refusals.extend(verification.refusals);
    }
    if refusals.iter().any(|refusal| matches!(refusal, Refusal::NotAllRead(_))) {
        return Err(refusals);
    }
    let is_newest = |accepted: &[Accepted]| {
        let oldest = accepted.iter().map(|accepted| accepted.result.scanned_at).min();
        oldest.is_some_and(|oldest| failed.is_none_or(|failed| failed < oldest))
    };
    if !is_newest(&accepted) && !platforms.is_empty() && of_platforms.len() == platforms.len() {
        accepted = of_platforms;
    }
    match failed {
        _ if is_newest(&accepted) => return Ok(accepted),
        Some(failed) if !accepted.is_empty() => refusals.insert(0, Refusal::FailedLater(failed)),
        _ => {}
    }
    Err(refusals)
}
