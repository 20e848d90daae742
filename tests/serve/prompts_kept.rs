//! What is left of prompts when they were checked: tokens are planted in every place of every envelope, and searched
//! for in answers, logs, metrics, and all files and rows of the store.

use std::io::Write;

use crate::prompts::token;
use crate::running::{Answer, Client, Running, Site};
use base64::prelude::{BASE64_STANDARD, Engine};
use reqwest::Method;
use serde_json::{Value, json};

/// A sentence that is nowhere else. No rule knows it.
const MARK: &str = "a-sentence-that-is-nowhere-else";

/// A request or an answer, by the path and the headers that it is sent with.
struct Sent {
    method: Method,
    path: String,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

fn sent(path: &str, body: impl Into<Vec<u8>>) -> Sent {
    Sent { method: Method::POST, path: path.into(), headers: Vec::new(), body: body.into() }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Bodies of every form, with `text` where a body may have one.
fn bodies(text: &str) -> Vec<Value> {
    let call = json!({ "id": text, "type": "function",
        "function": { "name": "f", "arguments": json!({ "k": text }).to_string() } });
    let file = BASE64_STANDARD.encode(gzip(text.as_bytes()));
    vec![
        json!({ "model": text, "user": text, "messages": [{ "role": "user", "content": text, "name": text }] }),
        json!({ "model": "m", "messages": [{ "role": "user", "content": text },
            { "role": "assistant", "content": text, "tool_calls": [call] },
            { "role": "tool", "tool_call_id": text, "content": text }, { "role": "user", "content": "so?" }] }),
        json!({ "model": text, "choices": [{ "message":
            { "role": "assistant", "content": text, "tool_calls": [call] } }] }),
        json!({ "model": text, "prompt": [text, "b"], "suffix": text }),
        json!({ "model": text, "input": text, "encoding_format": text }),
        json!({ "model": text, "instructions": text, "input": [
            { "type": "function_call_output", "call_id": text, "output": text }] }),
        json!({ "model": text, "output": [{ "type": "message", "role": "assistant", "content": [
            { "type": "output_text", "text": text }] }] }),
        json!({ "model": text, "max_tokens": 5, "system": text, "messages": [{ "role": "user", "content": [
            { "type": "document", "title": text, "source": { "type": "base64", "media_type": text, "data": file } },
            { "type": "image_url", "image_url": { "url": format!("data:text/plain;base64,{file}") } },
            { "type": "tool_result", "tool_use_id": text, "content": text }] }] }),
        json!({ "type": "message", "role": "assistant", "model": text, "content": [{ "type": "text", "text": text }] }),
        json!({ text: { text: [text, { "deep": text }] }, "bytes": text.as_bytes() }),
    ]
}

/// Everything that clients and gateways send, with `text` in it.
fn everything(text: &str) -> Vec<Sent> {
    let mut all = Vec::new();
    for body in bodies(text) {
        let body = body.to_string();
        all.push(sent("/v1/prompts/check", body.clone()));
        all.push(sent("/v1/prompts/check?form=json", body.clone()));
        // Cut and damaged.
        all.push(sent("/v1/prompts/check", &body.as_bytes()[..body.len() - 1]));
        all.push(sent("/v1/prompts/check?form=chat", body.replace(':', "::")));
        let envoy = |body: Vec<u8>| Sent {
            headers: vec![("authorization", format!("Bearer {text}")), ("x-api-key", text.to_string())],
            ..sent(&format!("/envoy/v1/messages/{text}?key={text}"), body)
        };
        all.push(envoy(body.clone().into_bytes()));
        all.push(envoy(gzip(body.as_bytes())));
        all.push(Sent { method: Method::GET, ..envoy(Vec::new()) });
        for input_type in ["request", "response"] {
            let question = json!({ "input_type": input_type, "texts": [text, body], "model": text, "images": [text],
                "structured_messages": [{ "role": "user", "content": text }], "tools": [{ "type": "function",
                "function": { "name": text, "description": text } }], "litellm_call_id": text,
                "request_headers": { "x": text }, "tool_calls": null, "request_data": {
                "user_api_key_user_id": text, "user_api_key_team_id": text, "user_api_key_alias": text,
                "user_api_key_end_user_id": text } });
            all.push(sent("/beta/litellm_basic_guardrail_api", question.to_string()));
            let passed =
                json!({ "input_type": input_type, "texts": [body], "request_data": { "user_api_key_alias": text } });
            all.push(sent("/beta/litellm_basic_guardrail_api", passed.to_string()));
        }
    }
    all.push(sent("/v1/prompts/check", text));
    all.push(Sent { headers: vec![("content-type", "text/plain".into())], ..sent("/v1/prompts/check", text) });
    all.push(sent("/beta/litellm_basic_guardrail_api", format!("{{\"{text}\": {text}")));
    all.push(Sent { headers: vec![("x-layersift-auth", text.into())], ..sent("/envoy/v1/messages", text) });
    all
}

fn send(client: &Client, token_of_gate: &str, one: &Sent) -> Answer {
    let mut request = client.request(one.method.clone(), &one.path);
    let is_envoy = one.path.starts_with("/envoy/");
    if !is_envoy {
        request = request.bearer_auth(token_of_gate);
    } else if !one.headers.iter().any(|(name, _)| *name == "x-layersift-auth") {
        request = request.header("x-layersift-auth", format!("Bearer {token_of_gate}"));
    }
    for (name, value) in &one.headers {
        request = request.header(*name, value);
    }
    Answer::of(request.body(one.body.clone()).send().unwrap())
}

fn nothing_is_kept(site: &Site) {
    let settings = "[prompts]\n[[prompts.policies]]\nclients = ['token:test']\nmax-tokens = 100000\n";
    let mut command = site.command(settings);
    command.env("LAYERSIFT_LOG", "trace");
    let running = Running::start(command);
    let client = Client::new(&running.url("api"));
    let token_of_gate = site.token(&["prompt"]);
    let text = format!("{MARK}:{}", token());
    // A name that is a token and nothing else could pass for one of a client or a model.
    let all: Vec<Sent> = everything(&token()).into_iter().chain(everything(&text)).collect();
    let mut denied = 0;
    for one in &all {
        let answer = send(&client, &token_of_gate, one);
        let shown = format!("{} {:?}", answer.text(), answer.headers);
        assert!(!shown.contains(&token()), "{} {}: {shown}", one.method, one.path);
        denied += u32::from(shown.contains("github.personal-access-token"));
    }
    assert!(denied > 100, "{denied} of {}", all.len());
    let metrics = Client::new(&running.url("health")).get("/metrics").expect(200).text();
    for envelope in ["plain", "litellm", "envoy"] {
        assert!(metrics.contains(&format!("layersift_prompt_checks_total{{envelope=\"{envelope}\"")), "{metrics}");
    }
    let (_, log) = running.stop();
    let log = serde_json::to_string(&log).unwrap();
    assert!(log.contains("/v1/prompts/check") && log.contains("/envoy/"), "the log has requests");
    let rows = site
        .fresh()
        .rows("SELECT fingerprint, direction, client, model, rule, first_seen, last_seen FROM prompt_sightings");
    assert!(rows.iter().any(|row| row.contains("github.personal-access-token")), "{rows:?}");
    let mut kept = vec![("metrics", metrics.into_bytes()), ("log", log.into_bytes()), ("rows", rows.join("\n").into())];
    if site.fresh().is_file() {
        let store = std::path::Path::new(site.store());
        for directory in [store.parent().unwrap().to_path_buf(), site.path(".")] {
            for entry in std::fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                if path.is_file() {
                    kept.push(("files", std::fs::read(path).unwrap()));
                }
            }
        }
    }
    for (name, bytes) in kept {
        for secret in [MARK, &token(), &BASE64_STANDARD.encode(token())[..40]] {
            assert!(memchr::memmem::find(&bytes, secret.as_bytes()).is_none(), "{secret} is in the {name}");
        }
    }
}

#[test]
fn nothing_of_a_prompt_is_kept() {
    nothing_is_kept(&Site::sqlite());
}

#[test]
fn nothing_of_a_prompt_is_kept_in_postgresql() {
    nothing_is_kept(&Site::postgres());
}
