//! Files and lists through the public face of the gate: uploads, JSON Lines, batches and lists of chunks.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

use std::io::Write;
use std::sync::{Arc, OnceLock};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use layersift_model::Severity;
use layersift_prompts::{Client, Decision, Gate, Policy, Verdict};
use layersift_rules::Ruleset;
use layersift_scan::{Analyzer, Options};
use serde_json::{Value, json};

/// A made-up token, which no other text of a test contains.
const TOKEN: &str = concat!("glp", "at-Zk7Qm2Xr9Tb4Wn6Ve001");
const RULE: &str = "gitlab.personal-access-token";

fn check_with(body: &[u8], policy: &Policy) -> Verdict {
    static GATE: OnceLock<Gate> = OnceLock::new();
    let gate = GATE.get_or_init(|| {
        let options = Options { limits: Gate::limits(), threads: 1, ..Options::default() };
        Gate::new(Arc::new(Analyzer::new(Ruleset::for_prompts(&[]).unwrap(), options).unwrap()), 1_000)
    });
    gate.check(body, None, Client { name: "test", policy })
}

fn check(body: &[u8]) -> Verdict {
    check_with(body, &Policy::default())
}

/// Masks what the usual policy denies.
fn masking() -> Policy {
    Policy { deny: None, mask: Some(Severity::Medium), ..Policy::default() }
}

/// A form with a file.
fn upload(content: &[u8]) -> Vec<u8> {
    let head = b"--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\n";
    [&head[..], content, b"\r\n--b--\r\n"].concat()
}

fn chat(content: Value) -> Value {
    json!({"model": "m", "messages": [{"role": "user", "content": content}]})
}

/// A compressed file with the token, as base64 has it.
fn zipped(format: fn(Vec<u8>) -> Vec<u8>) -> String {
    STANDARD.encode(format(format!("it is {TOKEN} {}", "and words ".repeat(20)).into_bytes()))
}

fn gzip(text: Vec<u8>) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(&text).unwrap();
    encoder.finish().unwrap()
}

fn zlib(text: Vec<u8>) -> Vec<u8> {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(&text).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn a_file_gets_what_a_text_gets() {
    let packed = format!("see\n{}\nthere", zipped(gzip));
    let uri = json!({"file": format!("data:application/gzip;base64,{}", zipped(gzip))}).to_string();
    let escaped = uri.replace('/', "\\/");
    let request = |text: &str| json!({"custom_id": "1", "method": "POST", "url": "/v1", "body": chat(json!(text))});
    let lines = format!("{}\n{}\n", request("nothing"), request(&packed));
    let utf16: Vec<u8> = format!("\u{feff}{packed}").encode_utf16().flat_map(u16::to_le_bytes).collect();
    let latin = [packed.as_bytes(), b" caf\xe9"].concat();
    let cut = format!("{{\"a\": 1\n{uri}\n");
    let half = format!("{{\"a\": 1}}\n{{\"a\": \"\\ud83d\", {}\n", &escaped[1..]);
    for file in [&packed, &uri, &escaped, &lines, &cut, &half] {
        assert_eq!(check(&upload(file.as_bytes())).decision, Decision::Deny, "{file}");
        let file = format!("data:text/plain;base64,{}", STANDARD.encode(file));
        let body = chat(json!([{"type": "file", "file": {"file_data": file}}]));
        assert_eq!(check(body.to_string().as_bytes()).decision, Decision::Deny, "{file}");
    }
    for file in [utf16, latin, zlib(TOKEN.into()), zlib(packed.into_bytes())] {
        assert_eq!(check(&upload(&file)).decision, Decision::Deny, "{file:?}");
    }
}

#[test]
fn token_numbers_in_the_requests_of_a_file_are_denied_and_sets_of_data_are_not() {
    let tokens = json!({"model": "m", "prompt": [15339, 1917, 31337]});
    let request = json!({"custom_id": "1", "method": "POST", "url": "/v1/completions", "body": tokens});
    for line in [&tokens, &request] {
        for file in [format!("{line}\n"), format!("{}\n{line}\n", json!({"custom_id": "0", "body": {}}))] {
            let verdict = check(&upload(file.as_bytes()));
            assert_eq!(verdict.decision, Decision::Deny, "{file}");
            assert!(verdict.reasons[0].note.as_deref().unwrap().contains("token numbers"), "{verdict:?}");
        }
    }
    let tuned = chat(json!("hello")).to_string();
    for file in [
        format!("{tuned}\n{tuned}\n"),
        "{\"input\": [1, 2, 3], \"output\": [4, 5, 6]}\n".repeat(3),
        "{\"input\": NaN, \"url\": \"data:image/png;base64,...\"}\n".repeat(3),
        "{\"text\": \"cut \\ud83d\"}\n".repeat(3),
        "{\n  // a comment\n  \"a\": 1,\n  \"a\": 2\n}\n".into(),
    ] {
        let verdict = check(&upload(file.as_bytes()));
        assert_eq!(verdict.decision, Decision::Allow, "{file}: {verdict:?}");
    }
}

#[test]
fn json_lines_are_read_as_requests_and_answers() {
    let answer = |text: &str| {
        json!({"custom_id": "1", "response": {"body": {"model": "m", "choices": [
            {"index": 0, "message": {"role": "assistant", "content": text}}]}}})
    };
    let message = |text: &str| {
        json!({"custom_id": "1", "result": {"type": "succeeded", "message": {"role": "assistant", "content": [
            {"type": "text", "text": text}]}}})
    };
    let body = |text: &str| format!("{}\n\n{}\r\n{}", answer("hello"), answer(text), message("hello"));
    assert_eq!(check(body("hello").as_bytes()).decision, Decision::Allow);
    let verdict = check(body(TOKEN).as_bytes());
    let place = verdict.reasons[0].place.as_ref().unwrap();
    assert_eq!((verdict.decision, verdict.is_answer), (Decision::Deny, true));
    assert_eq!(place.pointer, "/1/response/body/choices/0/message/content");
    assert_eq!(place.role.name(), "assistant");
    let verdict = check_with(body(TOKEN).as_bytes(), &masking());
    let copy = String::from_utf8(verdict.copy.unwrap()).unwrap();
    assert_eq!(copy, body(&format!("[MASKED {RULE}]")));

    let tokens = json!({"model": "m", "prompt": [15339, 1917, 31337]});
    for body in [
        format!("{tokens}\n{{}}\n"),
        format!("{{}}\n{}\n", json!({"params": tokens})),
        json!({"requests": [{"custom_id": "1", "params": tokens}]}).to_string(),
        "{}\n{\"a\": 1, \"a\": 2}\n".into(),
        "{} {}".into(),
        "{}\nnull\n".into(),
    ] {
        assert_eq!(check(body.as_bytes()).decision, Decision::Deny, "{body}");
    }
}

#[test]
fn a_secret_in_pieces_of_a_list_is_found() {
    let (start, rest) = TOKEN.split_at(12);
    let gemini = |text: &str| json!({"candidates": [{"content": {"parts": [{"text": text}], "role": "model"}}]});
    let ollama = |text: &str| json!({"message": {"role": "assistant", "content": text}, "done": false});
    let list = json!([gemini("it is "), gemini(start), gemini(rest), gemini(" ok")]).to_string();
    let lines = format!("{}\n{}\n{}\n", ollama("it is "), ollama(start), ollama(rest));
    for body in [&list, &lines] {
        let verdict = check(body.as_bytes());
        assert_eq!((verdict.decision, &verdict.reasons[0].rule[..]), (Decision::Deny, RULE), "{body}");
        let copy = check_with(body.as_bytes(), &masking()).copy.unwrap();
        let copy = String::from_utf8(copy).unwrap();
        assert!(!copy.contains(rest) && copy.contains("it is"), "{copy}");
    }
    let clean = list.replace(rest, "x");
    assert_eq!(check(clean.as_bytes()).decision, Decision::Allow);
}
