//! What LiteLLM made of answers in the recording, and what it would make of ours: a model of it, which has to agree
//! with the recording, applies both.

use crate::prompts::{Gate, PLACEHOLDER, RULE, token};
use serde_json::{Value, json};

fn cases() -> Vec<Value> {
    let text = include_str!("../../testdata/recordings/gateways/litellm/guardrail_answers.json");
    serde_json::from_str::<Value>(text).unwrap()["cases"].as_array().unwrap().clone()
}

/// Whether a guardrail of the case is asked before the model, fails closed, and is one that LiteLLM knows.
fn asks_before(case: &Value) -> bool {
    case["guardrail"] == json!(["pre"]) && case["guardrail_answer"].as_array().is_some_and(|answers| answers.len() == 1)
}

/// The JSON pointers of the texts that a guardrail is shown, in their order.
fn texts_of(body: &Value) -> Vec<String> {
    let mut pointers = Vec::new();
    if body["system"].is_string() {
        pointers.push("/system".to_string());
    }
    for (index, message) in body["messages"].as_array().into_iter().flatten().enumerate() {
        if message["content"].is_string() {
            pointers.push(format!("/messages/{index}/content"));
        }
    }
    if body["input"].is_string() {
        pointers.push("/input".into());
    }
    for (index, item) in body["input"].as_array().into_iter().flatten().enumerate() {
        match item {
            Value::String(_) => pointers.push(format!("/input/{index}")),
            item if item["content"].is_string() => pointers.push(format!("/input/{index}/content")),
            _ => {}
        }
    }
    pointers
}

/// What LiteLLM sends to the model after an answer of the guardrail; `None` if it sends nothing.
fn sent(request: &Value, answer: &Value) -> Option<Value> {
    if answer["http_status"] != 200 || !answer["body"].is_object() || answer["body"]["action"] == "BLOCKED" {
        return None;
    }
    let (mut request, answer) = (request.clone(), &answer["body"]);
    if let Some(rows) = answer.get("structured_messages") {
        let key = if request.get("messages").is_some() { "messages" } else { "input" };
        request[key] = rows.clone();
    } else if let Some(texts) = answer["texts"].as_array() {
        let pointers = texts_of(&request);
        if texts.len() != pointers.len() {
            return None;
        }
        for (pointer, text) in pointers.iter().zip(texts) {
            *request.pointer_mut(pointer).unwrap() = text.clone();
        }
    }
    if let Some(tools) = answer.get("tools") {
        request["tools"] = tools.clone();
    }
    Some(request)
}

fn count(value: &Value, text: &str) -> usize {
    value.to_string().matches(text).count()
}

/// The question of LiteLLM about a request, as far as the recording shows how it is made.
fn question(body: &Value) -> Value {
    let texts: Vec<&Value> = texts_of(body).iter().map(|pointer| body.pointer(pointer).unwrap()).collect();
    let rows = match (body.get("messages"), body["input"].as_array()) {
        (Some(messages), _) => {
            let system = body.get("system").map(|system| json!({"role": "system", "content": system}));
            json!(system.into_iter().chain(messages.as_array().unwrap().iter().cloned()).collect::<Vec<_>>())
        }
        (None, Some(items)) if items.iter().all(Value::is_object) => json!(items),
        _ => Value::Null,
    };
    json!({"input_type": "request", "texts": texts, "structured_messages": rows, "images": null,
        "tools": body.get("tools"), "tool_calls": null, "request_data": {}, "model": "m"})
}

#[test]
fn the_model_of_litellm_agrees_with_the_recording() {
    let mut compared = 0;
    for case in cases().iter().filter(|case| asks_before(case)) {
        let name = case["case"].as_str().unwrap();
        let sent = sent(&case["client_request"]["body"], &case["guardrail_answer"][0]);
        let recorded = case["upstream_got"].as_array().unwrap();
        assert_eq!(sent.is_some(), !recorded.is_empty(), "{name}");
        if let (Some(sent), Some(recorded)) = (sent, recorded.first()) {
            assert_eq!(count(&sent, PLACEHOLDER), count(recorded, PLACEHOLDER), "{name}: {sent}");
            assert_eq!(count(&sent, "[MASKED"), count(recorded, "[MASKED"), "{name}: {sent}");
        }
        compared += 1;
    }
    assert!(compared > 20, "{compared}");
}

#[test]
fn no_answer_of_ours_lets_litellm_send_a_token() {
    let masking = "[[prompts.policies]]\ndeny = 'never'\nmask = 'medium'\n";
    let (denying, masking) = (Gate::start(""), Gate::start(masking));
    let (mut masked, mut blocked) = (0, 0);
    for case in cases().iter().filter(|case| asks_before(case)) {
        let (name, body) = (case["case"].as_str().unwrap(), &case["client_request"]["body"]);
        let body: Value = serde_json::from_str(&body.to_string().replace(PLACEHOLDER, &token())).unwrap();
        if count(&body, &token()) == 0 {
            continue;
        }
        for gate in [&denying, &masking] {
            let answer = json!({"http_status": 200, "body": gate.guardrail(&question(&body).to_string())});
            match sent(&body, &answer) {
                None => {
                    assert!(answer["body"]["blocked_reason"].as_str().unwrap().contains(RULE), "{name}: {answer}");
                    blocked += 1;
                }
                Some(sent) => {
                    assert_eq!(count(&sent, &token()), 0, "{name}: {answer}");
                    assert_eq!(count(&sent, "[MASKED"), count(&body, &token()), "{name}: {answer}");
                    masked += 1;
                }
            }
        }
    }
    assert!(masked > 10 && blocked > 10, "{masked} {blocked}");
}

#[test]
fn the_configurations_that_the_documentation_warns_of_let_tokens_through_in_the_recording() {
    let leaks = |case: &Value| count(&case["upstream_got"], PLACEHOLDER) > 0;
    let all = cases();
    let named = |part: &str| -> Vec<&Value> {
        all.iter().filter(|case| case["case"].as_str().unwrap().contains(part)).collect()
    };
    for part in ["during BLOCKED", "during MASK", "name that does not exist", "option set 'noerr'", "fail_open"] {
        let cases = named(part);
        assert!(!cases.is_empty() && cases.iter().all(|case| leaks(case)), "{part}");
    }
    for part in ["option set 'pre'", "(timeout 2, fail_closed default)", "unreachable port, fail_closed"] {
        let cases = named(part);
        assert!(!cases.is_empty() && cases.iter().all(|case| !leaks(case)), "{part}");
    }
}
