//! Portkey's webhook guardrail: a verdict, and what to send in place of a request or an answer.
//!
//! Portkey takes an error, and an answer after three seconds, for a pass. Whatever is decided has status 200. It passes
//! the answer to a request for a stream whatever is decided about it, so such a request is denied.

use layersift_model::{json_output, parse};
use layersift_prompts::{Client, Decision, Form, Gate, Verdict};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Question<'b> {
    #[serde(borrow)]
    request: Option<Shown<'b>>,
    #[serde(borrow)]
    response: Option<Shown<'b>>,
    event_type: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Shown<'b> {
    #[serde(borrow)]
    json: Option<&'b RawValue>,
    /// What Portkey makes of the request and of its own settings.
    is_streaming_request: Option<bool>,
}

/// What a request says of its answer.
#[derive(Deserialize)]
struct Wanted {
    stream: Option<serde_json::Value>,
}

impl Shown<'_> {
    /// Whether the answer may be a stream. A provider may take more values for yes than Portkey does.
    fn wants_stream(&self) -> bool {
        let wanted = self.json.and_then(|json| parse::json::<Wanted>(json.get().as_bytes()).ok());
        let stream = wanted.and_then(|wanted| wanted.stream).unwrap_or_default();
        self.is_streaming_request == Some(true) || !(stream.is_null() || stream == false)
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    verdict: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    transformed_data: Option<Transformed>,
    data: Data,
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Transformed {
    Request(Json),
    Response(Json),
}

#[derive(Serialize)]
struct Json {
    json: Box<RawValue>,
}

#[derive(Serialize)]
struct Data {
    reason: String,
}

/// Checks a question, and returns the verdict with the body of the answer.
pub(crate) fn check(gate: &Gate, body: &[u8], client: Client<'_>) -> (Verdict, Vec<u8>) {
    if body.len() > client.policy.max_bytes {
        return with_answer(Gate::too_large(client.policy.max_bytes), None);
    }
    // The strict reader has its say first: two readers must not read two bodies.
    if layersift_prompts::read(body, Some(Form::Json)).is_err() {
        return with_answer(gate.check(body, Some(Form::Json), client), None);
    }
    let question: Option<Question<'_>> = parse::json(body).ok();
    let event = question.as_ref().and_then(|question| question.event_type.as_deref());
    let (shown, is_request) = match (&question, event) {
        (Some(question), Some("beforeRequestHook")) => (&question.request, true),
        (Some(question), Some("afterRequestHook")) => (&question.response, false),
        _ => return with_answer(Gate::unreadable("it is not a question of Portkey: its event is not known"), None),
    };
    let Some((shown, json)) = shown.as_ref().and_then(|shown| Some((shown, shown.json?))) else {
        return with_answer(Gate::unreadable("Portkey does not show it; it never shows streamed answers"), None);
    };
    if is_request && shown.wants_stream() {
        return with_answer(Gate::unseen_answer("Portkey passes a stream on whatever Layersift says about it"), None);
    }
    let verdict = gate.check(json.get().as_bytes(), None, client);
    let verdict = Verdict { is_answer: !is_request, ..verdict };
    let copy = verdict.copy.as_deref().and_then(|copy| String::from_utf8(copy.to_vec()).ok());
    let copy = copy.and_then(|copy| RawValue::from_string(copy).ok()).map(|json| Json { json });
    with_answer(verdict, copy.map(if is_request { Transformed::Request } else { Transformed::Response }))
}

/// The answer where there is no verdict.
pub(crate) fn refused(reason: String) -> Vec<u8> {
    written(&Answer { verdict: false, transformed_data: None, data: Data { reason } })
}

fn with_answer(verdict: Verdict, transformed_data: Option<Transformed>) -> (Verdict, Vec<u8>) {
    let passes = match verdict.decision {
        Decision::Allow => true,
        Decision::Mask => transformed_data.is_some(),
        Decision::Deny => false,
    };
    let answer = written(&Answer { verdict: passes, transformed_data, data: Data { reason: verdict.message() } });
    (verdict, answer)
}

fn written(answer: &Answer) -> Vec<u8> {
    json_output::line(answer).unwrap_or_default()
}
