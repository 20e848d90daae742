//! Our own answer to a prompt: the verdict with its reasons. A denial is an error in the form of Anthropic's API, which
//! is the one that the SDKs of both OpenAI and Anthropic show to people.

use layersift_model::json_output;
use layersift_prompts::{Decision, Reason, Verdict};
use serde::Serialize;
use serde_json::value::RawValue;

#[derive(Serialize)]
struct AnswerView<'v> {
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<ErrorView>,
    verdict: &'static str,
    tokens: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    copy: Option<Copy<'v>>,
    reasons: Vec<ReasonView<'v>>,
}

#[derive(Serialize)]
struct ErrorView {
    #[serde(rename = "type")]
    kind: &'static str,
    message: String,
}

/// The masked body: JSON as it is, or a text.
#[derive(Serialize)]
#[serde(untagged)]
enum Copy<'v> {
    Json(Box<RawValue>),
    Text(&'v str),
}

#[derive(Serialize)]
struct ReasonView<'v> {
    action: &'static str,
    rule: &'v str,
    title: &'v str,
    severity: &'static str,
    kind: Option<&'static str>,
    role: Option<&'static str>,
    newest: Option<bool>,
    pointer: Option<&'v str>,
    inside: &'v [String],
    views: &'v [String],
    masked: Option<&'v str>,
    fingerprint: Option<&'v str>,
    note: Option<&'v str>,
}

/// The status and the body of an answer. `is_text` says that the body was plain text.
pub(crate) fn answer(verdict: &Verdict, is_text: bool) -> (u16, Vec<u8>) {
    let is_denied = verdict.decision == Decision::Deny;
    let copy = verdict.copy.as_deref().and_then(|copy| {
        let text = std::str::from_utf8(copy).ok()?;
        if is_text { Some(Copy::Text(text)) } else { RawValue::from_string(text.trim().into()).ok().map(Copy::Json) }
    });
    let view = AnswerView {
        kind: is_denied.then_some("error"),
        error: is_denied.then(|| ErrorView { kind: "permission_error", message: verdict.message() }),
        verdict: verdict.decision.name(),
        tokens: verdict.tokens,
        copy,
        reasons: verdict.reasons.iter().map(reason).collect(),
    };
    // A view of strings and numbers can always be written.
    let body = json_output::line(&view).unwrap_or_default();
    (if is_denied { 403 } else { 200 }, body)
}

fn reason(reason: &Reason) -> ReasonView<'_> {
    let place = reason.place.as_ref();
    ReasonView {
        action: reason.action.name(),
        rule: &reason.rule,
        title: &reason.title,
        severity: reason.severity.name(),
        kind: place.map(|place| place.kind.name()),
        role: place.map(|place| place.role.name()),
        newest: place.map(|place| place.turn == layersift_prompts::Turn::Newest),
        pointer: place.map(|place| &place.pointer[..]),
        inside: place.map(|place| &place.inside[..]).unwrap_or_default(),
        views: place.map(|place| &place.views[..]).unwrap_or_default(),
        masked: reason.masked.as_deref(),
        fingerprint: reason.fingerprint.as_deref(),
        note: reason.note.as_deref(),
    }
}
