//! Decisions as an AdmissionReview. The API server does not bound what it hands on: messages reach terminals and events
//! whole, audit annotations the audit log; of warnings it drops without a word what it does not like.

use super::review::{Head, Review, ReviewError};
use crate::admission::matched::{Entry, entries, message, worst};
use crate::admission::words::tidy;
use crate::admission::{Decision, Effect};
use layersift_model::json_output;
use serde::Serialize;
use std::collections::{BTreeMap, HashSet};

/// Seconds for the `Retry-After` header of [`Answer::AskAgain`].
pub const ASK_AGAIN_SECONDS: u64 = 1;

/// Characters of one warning and of all: where all are more, the API server cuts each, and drops some.
const MOST_WARNING: usize = 256;
const MOST_WARNINGS: usize = 4_096;

/// Audit annotations for images, and bytes of each.
const MOST_ANNOTATED: usize = 20;
const MOST_ANNOTATION: usize = 1_024;

/// Seconds after which a client asks again if a decision does not say, and the most it is told: it holds its request
/// open all that time, and gives up after ten times.
const USUAL_RETRY: u64 = 5;
const MOST_RETRY: u64 = 30;

/// How a policy is applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// What is denied is not let in.
    Enforce {
        /// Whether the API server may be told to ask again: while there is time left until its timeout, of at least
        /// [`ASK_AGAIN_SECONDS`] and the answer after it.
        may_ask_again: bool,
    },
    /// All is let in; what would be denied is a warning and an audit annotation.
    Audit,
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// HTTP status 200 with this JSON, also for a denial: with any other status, the call has failed, and may pass.
    Body {
        /// Whether it is let in.
        is_allowed: bool,
        /// The AdmissionReview.
        json: Vec<u8>,
    },
    /// HTTP status 503 with `Retry-After:` [`ASK_AGAIN_SECONDS`] in seconds: the API server asks again with the same
    /// uid, until its timeout.
    AskAgain,
    /// HTTP status 400 with this text: without a uid there is no valid answer. What that means is up to the webhook's
    /// failure policy.
    NotAReview(String),
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Written<'a> {
    api_version: &'a str,
    kind: &'static str,
    response: Response<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Response<'a> {
    uid: &'a str,
    allowed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Status>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    audit_annotations: BTreeMap<String, String>,
}

#[derive(Serialize)]
struct Status {
    code: u16,
    reason: &'static str,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<Details>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Details {
    retry_after_seconds: u64,
}

/// Answers a review. There must be a decision for each image of the review, under the reference that it has there; an
/// image without one is denied, and a decision about another image counts as well.
pub fn answer(review: &Review, decisions: &[Decision], mode: Mode) -> Answer {
    let entries = entries(review.images.iter().map(|image| (&image.reference[..], None)), decisions);
    let worst = worst(&entries);
    if worst == Effect::Wait && mode == (Mode::Enforce { may_ask_again: true }) {
        return Answer::AskAgain;
    }
    let is_allowed = mode == Mode::Audit || worst <= Effect::Warn;
    let status = (!is_allowed).then(|| match worst {
        Effect::Wait => too_many_requests(&entries),
        _ => forbidden(message(&entries, Effect::Deny)),
    });
    let warnings = warnings(&entries, mode);
    write(&review.head, is_allowed, status, warnings, annotations(&entries, worst, mode))
}

/// Answers what could not be read: a denial, or in [`Mode::Audit`] a warning.
pub fn refuse(error: &ReviewError, mode: Mode) -> Answer {
    let message = format!("layersift: this request cannot be judged: {}", tidy(&error.to_string(), MOST_ANNOTATION));
    let Some(head) = &error.head else { return Answer::NotAReview(message) };
    let annotations = BTreeMap::from([
        ("effect".into(), Effect::Deny.name().into()),
        ("mode".into(), mode_name(mode).into()),
        ("error".into(), tidy(&error.to_string(), MOST_ANNOTATION)),
    ]);
    match mode {
        Mode::Audit => write(head, true, None, vec![tidy(&message, MOST_WARNING)], annotations),
        Mode::Enforce { .. } => write(head, false, Some(forbidden(message)), Vec::new(), annotations),
    }
}

/// Denies what may have been decided otherwise, because the decision could not be logged: whatever the mode is, nothing
/// is let in without an entry.
pub fn not_entered(head: Option<&Head>, why: &str) -> Answer {
    let message = format!("layersift: {}", tidy(why, MOST_ANNOTATION));
    let Some(head) = head else { return Answer::NotAReview(message) };
    let annotations =
        BTreeMap::from([("effect".into(), Effect::Deny.name().into()), ("error".into(), tidy(why, MOST_ANNOTATION))]);
    let status = Status { code: 503, reason: "ServiceUnavailable", message, details: None };
    write(head, false, Some(status), Vec::new(), annotations)
}

fn write(
    head: &Head,
    is_allowed: bool,
    status: Option<Status>,
    warnings: Vec<String>,
    audit_annotations: BTreeMap<String, String>,
) -> Answer {
    let response = Response { uid: &head.uid, allowed: is_allowed, status, warnings, audit_annotations };
    let written = Written { api_version: &head.api_version, kind: "AdmissionReview", response };
    match json_output::line(&written) {
        Ok(json) => Answer::Body { is_allowed, json },
        Err(error) => Answer::NotAReview(error.to_string()),
    }
}

/// `reason` is not derived from the code: without it, kubectl prints another beginning.
fn forbidden(message: String) -> Status {
    Status { code: 403, reason: "Forbidden", message, details: None }
}

/// kubectl and controllers ask again by themselves after that many seconds.
fn too_many_requests(entries: &[Entry<'_>]) -> Status {
    let asked = entries.iter().filter_map(|entry| entry.decision?.retry_after).max();
    let retry_after_seconds = asked.unwrap_or(USUAL_RETRY).clamp(1, MOST_RETRY);
    let message = message(entries, Effect::Wait);
    Status { code: 429, reason: "TooManyRequests", message, details: Some(Details { retry_after_seconds }) }
}

fn warnings(entries: &[Entry<'_>], mode: Mode) -> Vec<String> {
    let mut warnings = Vec::new();
    let mut seen = HashSet::new();
    // Room for the one that counts the others.
    let mut left = MOST_WARNINGS - MOST_WARNING;
    let mut untold = 0_usize;
    for entry in entries {
        let begin = match (entry.effect(), mode) {
            (Effect::Allow, _) | (Effect::Wait | Effect::Deny, Mode::Enforce { .. }) => continue,
            (Effect::Warn, _) => "layersift: ",
            (Effect::Wait, Mode::Audit) => "layersift would wait for: ",
            (Effect::Deny, Mode::Audit) => "layersift would deny: ",
        };
        // No text has more characters than bytes.
        let warning = format!("{begin}{}", entry.describe(MOST_WARNING - begin.len()));
        if warning.len() > left {
            untold += 1;
        } else if seen.insert(warning.clone()) {
            left -= warning.len();
            warnings.push(warning);
        }
    }
    if untold > 0 {
        warnings.push(format!("layersift: warnings about {untold} more images are left out"));
    }
    warnings
}

/// Keys have letters, digits and hyphens only, and are short: the API server puts the webhook's name before them.
fn annotations(entries: &[Entry<'_>], worst: Effect, mode: Mode) -> BTreeMap<String, String> {
    let mut annotations = BTreeMap::new();
    if entries.is_empty() {
        return annotations;
    }
    annotations.insert("effect".into(), worst.name().into());
    annotations.insert("mode".into(), mode_name(mode).into());
    let mut by_effect: Vec<&Entry<'_>> = entries.iter().collect();
    by_effect.sort_by_key(|entry| std::cmp::Reverse(entry.effect()));
    for (index, entry) in by_effect.iter().take(MOST_ANNOTATED).enumerate() {
        annotations.insert(format!("image-{index}"), annotation(entry));
    }
    if by_effect.len() > MOST_ANNOTATED {
        annotations.insert("images-left-out".into(), (by_effect.len() - MOST_ANNOTATED).to_string());
    }
    annotations
}

/// For example `deny, sha256:…, linux/amd64, rules sha256:…, reader 4, scanned at 1795000000: app:1: …`.
fn annotation(entry: &Entry<'_>) -> String {
    let mut text = entry.effect().name().to_owned();
    if let Some(decision) = entry.decision {
        let mut add = |part: &str| {
            text.push_str(", ");
            text.push_str(&tidy(part, 140));
        };
        if let Some(digest) = &decision.digest {
            add(&digest.to_string());
        }
        if !decision.platforms.is_empty() {
            add(&decision.platforms.join(" "));
        }
        if let Some(basis) = &decision.basis {
            add(&format!("rules {}", basis.ruleset));
            if let Some(revision) = basis.reader_revision {
                add(&format!("reader {revision}"));
            }
            add(&format!("scanned at {}", basis.scanned_at));
            if let Some(attestation) = &basis.attestation {
                add(&format!("attested by key {}", attestation.key));
            }
        }
    }
    text.push_str(": ");
    let room = MOST_ANNOTATION - text.len();
    text + &entry.describe(room)
}

fn mode_name(mode: Mode) -> &'static str {
    match mode {
        Mode::Enforce { .. } => "enforce",
        Mode::Audit => "audit",
    }
}

#[cfg(test)]
mod tests;
