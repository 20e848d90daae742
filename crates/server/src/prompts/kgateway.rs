//! The webhook for guardrails of kgateway, agentgateway and Gloo: `POST /request` and `POST /response`.
//!
//! The gateway tells the three actions apart by their fields alone, and takes whatever fits neither of the first two
//! for a pass. A rejection of an answer is such a thing to versions before the one that has it: an answer that is
//! denied is masked as a whole.

use layersift_model::{json_output, parse};
use layersift_prompts::{Client, Decision, Form, Gate, Verdict};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::plain;

/// Which of the two is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Request,
    Response,
}

#[derive(Deserialize)]
struct Question<'b> {
    #[serde(borrow)]
    body: &'b RawValue,
}

#[derive(Deserialize)]
struct Choices {
    choices: Vec<Choice>,
}

#[derive(Deserialize, Serialize)]
struct Choice {
    message: Message,
}

#[derive(Deserialize, Serialize)]
struct Message {
    role: String,
    content: String,
}

#[derive(Serialize)]
struct Answer<A> {
    action: A,
}

#[derive(Serialize)]
struct Pass {
    reason: &'static str,
}

#[derive(Serialize)]
struct Mask<B> {
    body: B,
    reason: String,
}

#[derive(Serialize)]
struct Reject {
    body: String,
    status_code: u16,
    reason: String,
}

/// Checks a question, and returns the verdict with the body of the answer.
pub(crate) fn check(gate: &Gate, event: Event, body: &[u8], client: Client<'_>) -> (Verdict, Vec<u8>) {
    let Some(shown) = shown(body, client) else {
        // The gate says what is wrong with it.
        let verdict = gate.check(body, Some(Form::Json), client);
        let verdict = match verdict.decision {
            Decision::Deny => verdict,
            Decision::Allow | Decision::Mask => Gate::unreadable("it is not a question of kgateway: it has no body"),
        };
        let verdict = Verdict { is_answer: event == Event::Response, ..verdict };
        let answer = refused(&verdict);
        return (verdict, answer);
    };
    let verdict = gate.check(shown.get().as_bytes(), Some(Form::Chat), client);
    let answer = match (verdict.decision, verdict.copy.as_deref().map(copied)) {
        (Decision::Allow, _) => written(Pass { reason: "nothing was found" }),
        (Decision::Mask, Some(Some(copy))) => written(Mask { body: copy, reason: verdict.message() }),
        _ if event == Event::Response => masked_as_a_whole(shown.get(), &verdict),
        _ => refused(&verdict),
    };
    (verdict, answer)
}

/// The rejection for a verdict.
pub(crate) fn refused(verdict: &Verdict) -> Vec<u8> {
    let body = String::from_utf8(plain::answer(verdict, true).1).unwrap_or_default();
    written(Reject { body, status_code: 403, reason: verdict.message() })
}

/// What the question shows of a request or an answer; `None` if two readers could read it in two ways.
fn shown<'b>(body: &'b [u8], client: Client<'_>) -> Option<&'b RawValue> {
    if body.len() > client.policy.max_bytes {
        return None;
    }
    layersift_prompts::read(body, Some(Form::Json)).ok()?;
    parse::json::<Question<'b>>(body).ok().map(|question| question.body)
}

fn copied(copy: &[u8]) -> Option<Box<RawValue>> {
    RawValue::from_string(String::from_utf8(copy.to_vec()).ok()?).ok()
}

fn masked_as_a_whole(shown: &str, verdict: &Verdict) -> Vec<u8> {
    #[derive(Serialize)]
    struct Body {
        choices: Vec<Choice>,
    }
    let Ok(Choices { mut choices }) = parse::json(shown) else { return refused(verdict) };
    for choice in &mut choices {
        choice.message.content = verdict.message();
        // It may be what was found.
        choice.message.role = "assistant".into();
    }
    written(Mask { body: Body { choices }, reason: verdict.message() })
}

fn written(action: impl Serialize) -> Vec<u8> {
    json_output::line(&Answer { action }).unwrap_or_default()
}
