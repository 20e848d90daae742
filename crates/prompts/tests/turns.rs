//! What is new in a chat, and denied, and what is its history, and masked.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

use std::sync::{Arc, OnceLock};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
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

/// What cannot be scanned, or cannot be masked in its place, is replaced in the history: it would deny the chat for
/// ever.
#[test]
fn the_history_is_replaced_where_it_cannot_be_read() {
    let answer = json!({"role": "assistant", "content": "No."});
    let user = json!({"role": "user", "content": "and now without"});
    let damaged = json!({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "a!b"}});
    let uri = json!({"type": "image_url", "image_url": {"url": "data:image/png;base64,a!b"}});
    // Longer than what is scanned as a text as well.
    let file = STANDARD.encode(format!("{TOKEN}\n{}", "words and more words\n".repeat(4_000)));
    let bytes: Vec<u8> = format!("key {TOKEN} ok").into_bytes();
    let zip = STANDARD.encode(encrypted_zip());
    let called = |input: &Value| json!([{"type": "tool_use", "id": "t", "name": "write", "input": input}]);
    for (message, mask) in [
        (json!({"role": "user", "content": [damaged]}), "prompt.incomplete"),
        (json!({"role": "user", "content": [uri]}), "prompt.incomplete"),
        (json!({"role": "tool", "content": file}), RULE),
        (json!({"role": "user", "content": "q", "attachment": file}), RULE),
        (json!({"role": "user", "content": "q", "attachment": bytes}), RULE),
        (json!({"role": "assistant", "content": called(&json!({"data": bytes}))}), RULE),
        (json!({"role": "tool", "content": zip}), "prompt.incomplete"),
    ] {
        let old = json!({"messages": [message, answer, user]});
        let verdict = check(&old);
        assert_eq!(verdict.decision, Decision::Mask, "{message}: {verdict:?}");
        let copy = String::from_utf8(verdict.copy.unwrap()).unwrap();
        assert!(copy.contains(&format!("[MASKED {mask}]")), "{copy}");
        let again: Value = serde_json::from_str(&copy).unwrap();
        assert_eq!(check(&again).decision, Decision::Allow, "{again}");
        if message["role"] != "assistant" {
            let verdict = check(&json!({"messages": [message]}));
            assert_ne!(verdict.decision, Decision::Allow, "{message}: {verdict:?}");
        }
    }
}

/// A zip archive with a file that needs a password (APPNOTE.TXT 4.4.4, bit 0).
fn encrypted_zip() -> Vec<u8> {
    let name = b"a.txt";
    let mut fields = vec![20, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    fields.extend([16, 0, 0, 0, 16, 0, 0, 0, name.len() as u8, 0, 0, 0]);
    let mut zip = [b"PK\x03\x04", &fields[..], name, &[0xa5; 16]].concat();
    let directory = zip.len() as u32;
    zip.extend([b"PK\x01\x02\x14\x00", &fields[..], &[0; 14], name].concat());
    let length = zip.len() as u32 - directory;
    zip.extend(b"PK\x05\x06\0\0\0\0\x01\0\x01\0");
    zip.extend(length.to_le_bytes());
    zip.extend(directory.to_le_bytes());
    zip.extend([0, 0]);
    zip
}

/// A model reads the blocks of a message as one text.
#[test]
fn a_secret_over_several_blocks_of_a_message_is_found() {
    let (left, right) = TOKEN.split_at(12);
    let (left, right) = (format!("use {left}"), format!("{right} for it"));
    let texts = |kind: &str| json!([{"type": kind, "text": left}, {"type": kind, "text": right}]);
    let blocks = texts("text");
    let answer = json!({"role": "assistant", "content": "No."});
    let user = json!({"role": "user", "content": "and now without"});
    let chat = |message: Value| json!({"messages": [message]});
    for body in [
        chat(json!({"role": "user", "content": blocks})),
        chat(json!({"role": "user", "content": [left, right]})),
        chat(json!({"role": "tool", "content": blocks})),
        chat(json!({"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": blocks}]})),
        chat(json!({"role": "user", "content": [blocks[0], {"type": "image_url", "image_url": {"url": "https://x"}},
            blocks[1]]})),
        json!({"system": blocks, "messages": [user]}),
        json!({"input": [{"role": "user", "content": texts("input_text")}]}),
        json!({"input": [{"type": "function_call_output", "output": texts("input_text")}]}),
        json!([{"custom_id": "1", "body": chat(json!({"role": "user", "content": blocks}))}]),
        json!({"input_type": "request", "texts": ["s", left, right], "structured_messages": [
            {"role": "system", "content": "s"}, {"role": "user", "content": blocks}]}),
    ] {
        let form = body.get("texts").map(|_| Form::LiteLlm);
        let verdict = check_as(&body, form);
        assert_eq!(verdict.decision, Decision::Deny, "{body}: {verdict:?}");
        assert_eq!(verdict.reasons[0].rule, RULE, "{body}");
    }
    let question = json!({"input_type": "request", "texts": [left, right, "No.", "and now without"],
        "structured_messages": [{"role": "user", "content": blocks}, answer, user]});
    for (body, form) in [
        (json!({"messages": [{"role": "user", "content": blocks}, answer, user]}), None),
        (question, Some(Form::LiteLlm)),
    ] {
        let verdict = check_as(&body, form);
        assert_eq!(verdict.decision, Decision::Mask, "{body}: {verdict:?}");
        let copy = String::from_utf8(verdict.copy.unwrap()).unwrap();
        assert!(!copy.contains(&TOKEN[..12]) && !copy.contains(&TOKEN[12..]), "{copy}");
    }
    let apart = json!({"messages": [{"role": "user", "content": left}, answer, {"role": "user", "content": right}]});
    assert_eq!(check(&apart).decision, Decision::Allow);
}

/// Clients join what a person writes after a denial into the same message.
#[test]
fn what_was_denied_and_followed_by_more_is_masked() {
    let (secret, more) = (format!("take {TOKEN} then"), "sorry, without it");
    let text = |text: &str| json!({"type": "text", "text": text});
    let body = |blocks: &[&str]| {
        let blocks: Vec<Value> = blocks.iter().map(|one| text(one)).collect();
        json!({"messages": [{"role": "user", "content": blocks}]})
    };
    let first = body(&[&secret]);
    let joined = body(&[&secret, more]);
    // Nobody said that it was denied before.
    assert_eq!(check(&body(&[&secret.replace("take", "use"), more])).decision, Decision::Deny);
    assert_eq!(check(&first).decision, Decision::Deny);
    let verdict = check(&joined);
    assert_eq!(verdict.decision, Decision::Mask, "{verdict:?}");
    assert_eq!(verdict.reasons[0].place.as_ref().unwrap().turn, Turn::History);
    assert_eq!(check(&first).decision, Decision::Deny);
    assert_eq!(check(&body(&[more, &secret])).decision, Decision::Deny);
}

/// A prompt or a conversation that the provider keeps.
#[test]
fn requests_without_an_input_are_read() {
    for body in [
        json!({"model": "m", "prompt": {"id": "p", "variables": {"a": "b"}}}),
        json!({"model": "m", "previous_response_id": "r", "tools": []}),
        json!({"model": "m", "conversation": "c"}),
    ] {
        for form in [None, Some(Form::Responses)] {
            let verdict = check_as(&body, form);
            assert_eq!(verdict.decision, Decision::Allow, "{body}: {verdict:?}");
        }
    }
    let body = json!({"model": "m", "prompt": {"id": "p", "variables": {"a": TOKEN}}});
    assert_eq!(check_as(&body, Some(Form::Responses)).decision, Decision::Deny);
}
