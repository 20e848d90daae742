//! LiteLLM's guardrail (`generic_guardrail_api`), as LiteLLM 1.108 speaks it.
//!
//! A decision has status 200 and one of three exact words; anything else passes. `texts` has as many items as came. In
//! most streamed answers, LiteLLM drops them, and a question does not say whether it is about a stream: answers are
//! masked only where the configuration says that LiteLLM applies it. Whatever is not a text changes only by
//! `structured_messages`, row by row, and by `tools`; the calls of tools in an answer, and a body that is passed
//! through, cannot be changed at all, so what would be masked there is blocked.

use layersift_model::{json_output, parse};
use std::collections::HashSet;

use layersift_prompts::{Client, Decision, Form, Gate, Verdict, held_back, values_in};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

/// What is read of a question besides its texts.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Head {
    input_type: Option<String>,
    request_data: Option<Asker>,
    additional_provider_specific_params: Option<Parameters>,
}

/// What the configuration of LiteLLM says to this guardrail.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Parameters {
    layersift_mask_answers: bool,
}

/// Whom LiteLLM asks for.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Asker {
    user_api_key_alias: Option<String>,
    user_api_key_user_id: Option<String>,
    user_api_key_team_id: Option<String>,
    user_api_key_team_alias: Option<String>,
}

/// The lists of a question or of its masked copy, as they are written.
#[derive(Deserialize)]
struct Lists<'b> {
    #[serde(borrow)]
    texts: Option<&'b RawValue>,
    #[serde(borrow)]
    structured_messages: Option<&'b RawValue>,
    #[serde(borrow)]
    tools: Option<&'b RawValue>,
    #[serde(borrow)]
    tool_calls: Option<&'b RawValue>,
    #[serde(borrow)]
    images: Option<&'b RawValue>,
    #[serde(borrow)]
    request_data: Option<&'b RawValue>,
}

#[derive(Default, Serialize)]
struct AnswerView<'b> {
    action: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    blocked_reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    texts: Option<&'b RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    structured_messages: Option<&'b RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tools: Option<&'b RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream_holdback_chars: Option<Vec<usize>>,
}

/// The names by which a policy is chosen: those of the user, the team and the key that LiteLLM knows.
pub(crate) fn names(body: &[u8]) -> Vec<String> {
    let head: Head = parse::json(body).unwrap_or_default();
    let Asker { user_api_key_alias, user_api_key_user_id, user_api_key_team_id, user_api_key_team_alias } =
        head.request_data.unwrap_or_default();
    let named = |kind: &str, name: Option<String>| name.map(|name| format!("{kind}:{name}"));
    [
        named("user", user_api_key_user_id),
        named("key", user_api_key_alias),
        named("team", user_api_key_team_id),
        named("team", user_api_key_team_alias),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Checks a question, and returns the verdict with the body of the answer.
pub(crate) fn check(gate: &Gate, body: &[u8], client: Client<'_>) -> (Verdict, Vec<u8>) {
    if let Some(verdict) = passed_through(gate, body, client) {
        let answer = match verdict.decision {
            Decision::Allow => none(None),
            Decision::Mask => blocked(&verdict, ON_THIS_PATH),
            Decision::Deny => blocked(&verdict, ""),
        };
        return (verdict, answer);
    }
    let verdict = gate.check(body, Some(Form::LiteLlm), client);
    let answer = match (&verdict.decision, &verdict.copy) {
        (Decision::Allow, _) => none(holdback(body)),
        (Decision::Mask, Some(copy)) => masked(body, copy).unwrap_or_else(|| blocked(&verdict, ON_THIS_PATH)),
        (Decision::Mask, None) | (Decision::Deny, _) => blocked(&verdict, ""),
    };
    (verdict, answer)
}

/// The answer for a body that was not read.
pub(crate) fn refused(verdict: &Verdict) -> Vec<u8> {
    blocked(verdict, "")
}

/// What a person has to know besides the reasons.
const ON_THIS_PATH: &str = " It cannot be masked on this path.";

/// The answer of a gate that has no time: it is not known to be harmless.
pub(crate) fn busy() -> Vec<u8> {
    let view = AnswerView {
        action: "BLOCKED",
        blocked_reason: Some("Layersift is busy and could not check this. Send it again.".into()),
        ..AnswerView::default()
    };
    json_output::line(&view).unwrap_or_default()
}

/// The verdict about a body that LiteLLM passes through: it is the only text.
fn passed_through(gate: &Gate, body: &[u8], client: Client<'_>) -> Option<Verdict> {
    #[derive(Deserialize)]
    struct Question<'b> {
        texts: Vec<String>,
        #[serde(borrow)]
        structured_messages: Option<&'b RawValue>,
    }
    if body.len() > client.policy.max_bytes {
        return None;
    }
    // The strict reader has its say first: two readers must not read two bodies.
    layersift_prompts::read(body, Some(Form::LiteLlm)).ok()?;
    let question: Question<'_> = parse::json(body).ok()?;
    match (&question.texts[..], question.structured_messages) {
        ([text], None) => gate.check_passed_through(text.as_bytes(), client),
        _ => None,
    }
}

fn none(stream_holdback_chars: Option<Vec<usize>>) -> Vec<u8> {
    let view = AnswerView { action: "NONE", stream_holdback_chars, ..AnswerView::default() };
    json_output::line(&view).unwrap_or_default()
}

fn blocked(verdict: &Verdict, more: &str) -> Vec<u8> {
    // What would be masked is blocked.
    let reason = Verdict { decision: Decision::Deny, ..verdict.clone() }.message() + more;
    let view = AnswerView { action: "BLOCKED", blocked_reason: Some(reason), ..AnswerView::default() };
    json_output::line(&view).unwrap_or_default()
}

/// The characters at the end of each text of an answer that may be the beginning of a secret. LiteLLM waits for them
/// only while the answer has not ended.
fn holdback(body: &[u8]) -> Option<Vec<usize>> {
    #[derive(Deserialize)]
    struct Texts {
        input_type: Option<String>,
        texts: Option<Vec<String>>,
    }
    let texts: Texts = parse::json(body).ok()?;
    let is_answer = texts.input_type.as_deref() == Some("response");
    let held = texts.texts.filter(|_| is_answer)?.iter().map(|text| held_back(text)).collect();
    Some(held)
}

/// The answer with masks; `None` if LiteLLM would not apply all of them.
fn masked(body: &[u8], copy: &[u8]) -> Option<Vec<u8>> {
    let before: Lists<'_> = parse::json(body).ok()?;
    let after: Lists<'_> = parse::json(copy).ok()?;
    let is_changed =
        |one: Option<&RawValue>, other: Option<&RawValue>| one.map(RawValue::get) != other.map(RawValue::get);
    let head: Head = parse::json(body).ok()?;
    let is_answer = head.input_type.as_deref() == Some("response");
    if is_answer && !head.additional_provider_specific_params.unwrap_or_default().layersift_mask_answers {
        return None;
    }
    if is_answer && is_changed(before.tool_calls, after.tool_calls)
        || is_changed(before.images, after.images)
        || is_changed(before.request_data, after.request_data)
    {
        return None;
    }
    let covered = covered_by_texts(&before, &after)?;
    let structured_messages = after
        .structured_messages
        .filter(|_| is_changed(before.structured_messages, after.structured_messages) && !covered);
    // The calls of tools in a request are rows of its messages, too; without rows they cannot be changed.
    if is_changed(before.tool_calls, after.tool_calls) && structured_messages.is_none() {
        return None;
    }
    let view = AnswerView {
        action: "GUARDRAIL_INTERVENED",
        texts: after.texts,
        structured_messages,
        tools: after.tools.filter(|_| is_changed(before.tools, after.tools)),
        stream_holdback_chars: holdback(copy),
        ..AnswerView::default()
    };
    json_output::line(&view).ok()
}

/// The most values of messages that are compared with their masked copy; messages with more are blocked.
const MOST_COMPARED: usize = 20_000;

/// Whether all strings that changed in the messages are texts as well, which LiteLLM changes in the request itself.
/// Rows are a translation: some blocks of Anthropic's are not in them, and are lost where a row is replaced.
fn covered_by_texts(before: &Lists<'_>, after: &Lists<'_>) -> Option<bool> {
    let (Some(old), Some(new)) = (before.structured_messages, after.structured_messages) else { return Some(true) };
    // A tree of these takes far more memory than their text.
    if values_in(old.get().as_bytes()) > MOST_COMPARED {
        return None;
    }
    let texts: Vec<String> = match before.texts {
        Some(texts) => parse::json(texts.get()).ok()?,
        None => Vec::new(),
    };
    let texts: HashSet<String> = texts.into_iter().collect();
    let (old, new): (Value, Value) = (parse::json(old.get()).ok()?, parse::json(new.get()).ok()?);
    Some(changed_are_in(&old, &new, &texts))
}

fn changed_are_in(old: &Value, new: &Value, texts: &HashSet<String>) -> bool {
    match (old, new) {
        _ if old == new => true,
        (Value::String(old), _) => texts.contains(old),
        (Value::Array(old), Value::Array(new)) if old.len() == new.len() => {
            old.iter().zip(new).all(|(old, new)| changed_are_in(old, new, texts))
        }
        (Value::Object(old), Value::Object(new)) if old.len() == new.len() => {
            old.iter().all(|(key, old)| new.get(key).is_some_and(|new| changed_are_in(old, new, texts)))
        }
        _ => false,
    }
}
