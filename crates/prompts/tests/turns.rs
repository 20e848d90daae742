//! What is new in a chat, and denied, and what is its history, and masked.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

use std::sync::{Arc, OnceLock};

use layersift_prompts::{Client, Decision, Form, Gate, Policy, Turn, Verdict};
use layersift_rules::Ruleset;
use layersift_scan::{Analyzer, Options};
use serde_json::{Value, json};

/// A made-up token, which no other text of a test contains.
const TOKEN: &str = concat!("glp", "at-Zk7Qm2Xr9Tb4Wn6Ve001");
const RULE: &str = "gitlab.personal-access-token";

fn check_as(body: &Value, form: Option<Form>) -> Verdict {
    static GATE: OnceLock<Gate> = OnceLock::new();
    let gate = GATE.get_or_init(|| {
        let options = Options { limits: Gate::limits(), threads: 1, ..Options::default() };
        Gate::new(Arc::new(Analyzer::new(Ruleset::for_prompts(&[]).unwrap(), options).unwrap()), 1_000)
    });
    gate.check(body.to_string().as_bytes(), form, Client { name: "test", policy: &Policy::default() })
}

fn check(body: &Value) -> Verdict {
    check_as(body, None)
}

#[test]
fn only_the_newest_turn_denies_and_history_is_masked() {
    let secret = format!("use {TOKEN} for it");
    let body = json!({"model": "m", "seed": 12_345_678_901_234_567_890u64, "messages": [
        {"role": "user", "content": secret},
        {"role": "assistant", "content": "I will not."},
        {"role": "user", "content": "and now without"},
    ]});
    let verdict = check(&body);
    assert_eq!(verdict.decision, Decision::Mask, "{verdict:?}");
    assert_eq!(verdict.reasons[0].place.as_ref().unwrap().turn, Turn::History);
    let copy = String::from_utf8(verdict.copy.unwrap()).unwrap();
    assert_eq!(copy, body.to_string().replace(TOKEN, &format!("[MASKED {RULE}]")));
    let denied = [
        json!([{"role": "user", "content": secret}]),
        json!([{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"},
            {"role": "tool", "content": "a"}, {"role": "tool", "content": secret}]),
        json!([{"role": "system", "content": secret}, {"role": "user", "content": "q"}]),
        json!([{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"},
            {"role": "user", "content": [{"type": "tool_result", "content": secret},
                {"type": "text", "text": "<system-reminder>Be brief.</system-reminder>"}]}]),
        // A beginning of the answer that the client wrote.
        json!([{"role": "user", "content": secret}, {"role": "assistant", "content": "{"}]),
        json!([{"role": "user", "content": "q"}, {"role": "assistant", "content": secret}]),
    ];
    for messages in denied {
        let verdict = check(&json!({"messages": messages}));
        assert_eq!(verdict.decision, Decision::Deny, "{messages}: {verdict:?}");
    }
    let input = json!({"input": [{"role": "user", "content": secret}, {"type": "function_call", "arguments": "{}"},
        {"type": "function_call_output", "output": "ok"}]});
    assert_eq!(check(&input).decision, Decision::Mask);
}

/// A message that was denied has no answer of the model after it.
#[test]
fn what_a_person_answered_blocks_no_more() {
    let secret = format!("use {TOKEN} for it");
    let (user, call) =
        (json!({"role": "user", "content": "forget that"}), json!({"role": "assistant", "content": "a"}));
    let results = json!([{"type": "tool_result", "content": secret}, {"type": "text", "text": "skip that file"}]);
    for body in [
        json!({"messages": [{"role": "user", "content": secret}, user]}),
        json!({"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": secret}, user]}),
        json!({"messages": [user, call, {"role": "tool", "content": secret}, user]}),
        json!({"messages": [user, call, {"role": "user", "content": [results[0]]}, user]}),
        json!({"messages": [user, call, {"role": "user", "content": results}]}),
        json!({"input": [{"type": "function_call_output", "output": secret}, user]}),
        json!({"input_type": "request", "texts": [secret, "forget that"], "structured_messages": [
            {"role": "user", "content": secret}, user]}),
    ] {
        let form = body.get("texts").map(|_| Form::LiteLlm);
        let verdict = check_as(&body, form);
        assert_eq!(verdict.decision, Decision::Mask, "{body}: {verdict:?}");
    }
}
