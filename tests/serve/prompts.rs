//! The prompt gate of the service: its own question and LiteLLM's guardrail, the latter held against what a real
//! LiteLLM sent (`testdata/recordings/gateways/`).

use crate::running::{Answer, Client, Running, Site};
use reqwest::Method;
use serde_json::{Value, json};

/// What stands in the recordings where a client had a token.
pub(crate) const PLACEHOLDER: &str = "ghp_000000000000000000000000000000000000";

/// The same as a base64 file has it, after `FILE `.
const IN_BASE64: &str = "RklMRSBnaHBfMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAw";

pub(crate) const RULE: &str = "github.personal-access-token";
const GUARDRAIL: &str = "/beta/litellm_basic_guardrail_api";

/// A made-up token with a valid checksum. It stands in no file as it is here.
pub(crate) fn token() -> String {
    let random = "R4nd0mMadeUpT0kenForTestsOnly7";
    let mut sum = crc32fast::hash(random.as_bytes());
    let mut digits = Vec::new();
    for _ in 0..6 {
        let digit = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"[sum as usize % 62];
        digits.insert(0, char::from(digit));
        sum /= 62;
    }
    format!("ghp_{random}{}", digits.iter().collect::<String>())
}

fn encoded(text: &str) -> String {
    use base64::prelude::{BASE64_STANDARD, Engine};
    BASE64_STANDARD.encode(text)
}

/// The places of a body with a placeholder: how often it stands there, as it is or in a file.
fn places(body: &str) -> Vec<usize> {
    let mut places: Vec<usize> = body.match_indices(PLACEHOLDER).map(|(at, _)| at).collect();
    places.extend(body.match_indices(IN_BASE64).map(|(at, _)| at));
    places.sort_unstable();
    places
}

/// The body with the token at one place, and nothing at the others.
fn planted(body: &str, place: usize) -> String {
    let mut out = String::new();
    let mut rest = 0;
    for at in places(body) {
        out.push_str(&body[rest..at]);
        let is_file = body[at..].starts_with(IN_BASE64);
        let text = if at == place { token() } else { "x".repeat(PLACEHOLDER.len()) };
        out.push_str(&if is_file { encoded(&format!("FILE {text}")) } else { text });
        rest = at + if is_file { IN_BASE64.len() } else { PLACEHOLDER.len() };
    }
    out + &body[rest..]
}

pub(crate) struct Gate {
    site: Site,
    running: Running,
    client: Client,
}

impl Gate {
    pub(crate) fn start(settings: &str) -> Gate {
        let site = Site::sqlite();
        let running = site.start(&format!("[prompts]\n{settings}"));
        let client = running.client(&site.token(&["prompt"]));
        Gate { site, running, client }
    }

    pub(crate) fn guardrail(&self, body: &str) -> Value {
        let answer = self.client.post_text(GUARDRAIL, body).expect(200);
        assert!(!answer.text().contains(&token()), "{}", answer.text());
        answer.json()
    }
}

/// Masks what is denied by default.
const MASKING: &str = "[[prompts.policies]]\ndeny = 'never'\nmask = 'medium'\n";

fn recording(text: &str) -> Vec<Value> {
    serde_json::from_str::<Value>(text).unwrap()["cases"].as_array().unwrap().clone()
}

fn requests() -> Vec<Value> {
    recording(include_str!("../../testdata/recordings/gateways/litellm/guardrail_requests.json"))
}

/// All questions of LiteLLM in the recording, with the names of their cases.
fn questions() -> Vec<(String, Value)> {
    let cases = requests();
    let questions = cases.iter().flat_map(|case| {
        let name = case["case"].as_str().unwrap().to_string();
        case["guardrail_calls"].as_array().unwrap().iter().map(move |call| (name.clone(), call["body"].clone()))
    });
    questions.collect()
}

#[test]
fn a_token_is_found_in_every_place_where_litellm_shows_it() {
    let gate = Gate::start("");
    let mut planted_count = 0;
    for (name, question) in questions() {
        let text = question.to_string();
        let clean = gate.guardrail(&planted(&text, usize::MAX));
        assert_eq!(clean["action"], "NONE", "{name}: {clean}");
        for place in places(&text) {
            let body = planted(&text, place);
            let answer = gate.guardrail(&body);
            assert_ne!(answer["action"], "NONE", "{name}: {body}");
            planted_count += 1;
            if answer["action"] == "BLOCKED" {
                let reason = answer["blocked_reason"].as_str().unwrap();
                assert!(reason.contains(RULE), "{name}: {reason}");
            }
        }
    }
    assert!(planted_count > 20, "{planted_count}");
}

#[test]
fn litellm_gets_masks_in_the_lists_that_it_applies() {
    let gate = Gate::start(MASKING);
    let mask = format!("[MASKED {RULE}]");
    for (name, question) in questions() {
        let text = question.to_string();
        for place in places(&text) {
            let body: Value = serde_json::from_str(&planted(&text, place)).unwrap();
            let answer = gate.guardrail(&body.to_string());
            match answer["action"].as_str().unwrap() {
                "BLOCKED" => {
                    // Only what LiteLLM would not change.
                    let calls = body["tool_calls"].to_string();
                    let is_answer = body["input_type"] == "response";
                    let is_image = body["images"].to_string().contains("data:");
                    assert!(calls.contains(&token()) || is_image || is_answer, "{name}: {body}");
                }
                "GUARDRAIL_INTERVENED" => {
                    let texts = answer["texts"].as_array().unwrap();
                    assert_eq!(texts.len(), body["texts"].as_array().unwrap().len(), "{name}");
                    for key in ["texts", "structured_messages", "tools"] {
                        let before = body[key].to_string();
                        let is_file = before.contains(&encoded(&format!("FILE {}", token())));
                        if before.contains(&token()) || is_file {
                            let is_covered = key == "structured_messages"
                                && answer[key].is_null()
                                && body["texts"].to_string().contains(&token());
                            assert!(answer[key].to_string().contains(&mask) || is_covered, "{name} {key}: {answer}");
                        }
                    }
                    if let Some(rows) = answer["structured_messages"].as_array() {
                        assert_eq!(rows.len(), body["structured_messages"].as_array().unwrap().len(), "{name}");
                    }
                }
                other => panic!("{name}: {other}"),
            }
        }
    }
}

#[test]
fn a_chat_is_not_blocked_for_what_was_blocked_before() {
    let gate = Gate::start("");
    let secret = format!("use {}", token());
    let question = |messages: Value| {
        let texts: Vec<&Value> = messages.as_array().unwrap().iter().map(|message| &message["content"]).collect();
        json!({"input_type": "request", "texts": texts, "structured_messages": messages, "images": null, "tools": null,
            "tool_calls": null, "request_data": {}, "model": "m"})
    };
    let first = question(json!([{"role": "user", "content": secret}]));
    assert_eq!(gate.guardrail(&first.to_string())["action"], "BLOCKED");
    let next = question(json!([{"role": "user", "content": secret}, {"role": "assistant", "content": "no"},
        {"role": "user", "content": "and now?"}]));
    let answer = gate.guardrail(&next.to_string());
    assert_eq!(answer["action"], "GUARDRAIL_INTERVENED");
    assert_eq!(answer["texts"], json!([format!("use [MASKED {RULE}]"), "no", "and now?"]));
}

#[test]
fn a_growing_answer_is_held_back_where_a_secret_may_begin() {
    let gate = Gate::start(MASKING);
    let question = |text: &str| {
        json!({"input_type": "response", "texts": [text], "structured_messages": null, "images": null, "tools": null,
            "tool_calls": null, "request_data": {}, "model": "m",
            "additional_provider_specific_params": {"layersift_mask_answers": true}})
        .to_string()
    };
    // Nothing is masked that LiteLLM may drop.
    let by_default = question(&token()).replace("true", "false");
    assert_eq!(gate.guardrail(&by_default)["action"], "BLOCKED");
    let whole = format!("The answer is {} and done.", token());
    let mut shown = String::new();
    for end in (0..=whole.len()).step_by(7).chain([whole.len()]) {
        let answer = gate.guardrail(&question(&whole[..end]));
        let text = answer["texts"][0].as_str().unwrap_or(&whole[..end]).to_string();
        let held = answer["stream_holdback_chars"][0].as_u64().unwrap() as usize;
        let held = if end == whole.len() { 0 } else { held };
        // As LiteLLM's `incremental_diff` does it.
        assert!(text.starts_with(&shown), "{text} does not go on from {shown}");
        let until = shown.len().max(text.len().saturating_sub(held));
        shown = text[..until].to_string();
    }
    assert_eq!(shown, format!("The answer is [MASKED {RULE}] and done."));
}

#[test]
fn the_streams_of_the_recording_show_no_token() {
    let cases = recording(include_str!("../../testdata/recordings/gateways/litellm/guardrail_streams.json"));
    let gate = Gate::start("");
    let mut count = 0;
    for case in cases {
        for call in case["what_each_call_held"].as_array().into_iter().flatten() {
            let texts = call["texts"].clone();
            let body = json!({"input_type": "response", "texts": texts, "tool_calls": call["tool_calls"],
                "structured_messages": null, "images": null, "tools": null, "request_data": {}});
            let text = body.to_string();
            let clean = gate.guardrail(&planted(&text, usize::MAX));
            assert_eq!(clean["action"], "NONE", "{}: {clean}", case["case"]);
            for place in places(&text) {
                assert_eq!(gate.guardrail(&planted(&text, place))["action"], "BLOCKED", "{}", case["case"]);
                count += 1;
            }
        }
    }
    assert!(count > 10, "{count}");
}

#[test]
fn a_body_that_is_passed_through_is_read_and_its_hashes_are_no_secrets() {
    let gate = Gate::start("");
    let cases = recording(include_str!("../../testdata/recordings/gateways/litellm/guardrail_default_on.json"));
    let texts = cases.iter().filter_map(|case| case["guardrail_texts"][0][0].as_str());
    let bodies: Vec<&str> = texts.filter(|text| text.contains("litellm_metadata")).collect();
    assert!(bodies.len() > 1);
    for body in bodies {
        let ask = |text: String| {
            gate.guardrail(
                &json!({"input_type": "request", "texts": [text], "structured_messages": null, "images": null,
                "tools": null, "tool_calls": null, "request_data": {}})
                .to_string(),
            )
        };
        assert_eq!(ask(body.into())["action"], "NONE", "{body}");
        let planted = body.replace("\"hello\"", &format!("\"hello {}\"", token()));
        assert_eq!(ask(planted)["action"], "BLOCKED");
        let in_metadata = body.replace("alias-laptop-17", &token());
        assert_eq!(ask(in_metadata)["action"], "BLOCKED");
    }
}

#[test]
fn the_name_of_a_user_goes_to_the_model_and_is_read() {
    let ask = |gate: &Gate, user: &str| {
        let request_data = json!({"user_api_key_hash": "0123456789abcdef".repeat(4), "user_api_key_end_user_id": user});
        let question = json!({"input_type": "request", "texts": ["hi"], "request_data": request_data});
        gate.guardrail(&question.to_string())["action"].clone()
    };
    for settings in ["", MASKING] {
        let gate = Gate::start(settings);
        assert_eq!(ask(&gate, &token()), "BLOCKED");
        let of_claude_code = format!("user_{}_account__session_{}", "5f3a9c".repeat(10), "7d81-42f0-9b6e");
        assert_eq!(ask(&gate, &of_claude_code), "NONE");
    }
}

#[test]
fn what_litellm_cannot_be_told_by_a_status_is_blocked() {
    let gate = Gate::start("[[prompts.policies]]\nmax-bytes = 100\n");
    for body in ["", "[]", "{\"texts\":[\"a\"],\"texts\":[]}", "{", "{}", "\u{1f}\u{8b}"] {
        let answer = gate.guardrail(body);
        assert_eq!(answer["action"], "BLOCKED", "{body}");
        assert!(answer["blocked_reason"].as_str().unwrap().contains("Layersift"), "{answer}");
    }
    let large = json!({"input_type": "request", "texts": ["x".repeat(200)], "request_data": {}}).to_string();
    assert_eq!(gate.guardrail(&large)["action"], "BLOCKED");
    // Larger than what is received at all.
    let larger = json!({"input_type": "request", "texts": ["x".repeat(9 << 20)]}).to_string();
    assert_eq!(gate.guardrail(&larger)["action"], "BLOCKED");
}

#[test]
fn policies_are_chosen_by_the_client() {
    let gate = Gate::start(
        "[[prompts.policies]]\nclients = ['team:trusted', 'user:u-*']\ndeny = 'never'\nmask = 'never'\n\
         [[prompts.policies]]\nclients = ['token:other']\ndeny = 'never'\n",
    );
    let ask = |who: Value| {
        let body = json!({"input_type": "request", "texts": [token()], "structured_messages": null,
            "request_data": who});
        gate.guardrail(&body.to_string())["action"].clone()
    };
    assert_eq!(ask(json!({})), "BLOCKED");
    assert_eq!(ask(json!({"user_api_key_team_id": "trusted"})), "NONE");
    assert_eq!(ask(json!({"user_api_key_team_alias": "trusted"})), "NONE");
    assert_eq!(ask(json!({"user_api_key_user_id": "u-7"})), "NONE");
    assert_eq!(ask(json!({"user_api_key_user_id": "v-7"})), "BLOCKED");
}

#[test]
fn our_own_question_is_answered_in_a_form_that_sdks_show() {
    let gate = Gate::start("");
    let chat = |text: &str| json!({"model": "m", "messages": [{"role": "user", "content": text}]});
    let allowed = gate.client.post("/v1/prompts/check", &chat("hello")).expect(200).json();
    assert_eq!((&allowed["verdict"], &allowed["reasons"]), (&json!("allow"), &json!([])));
    let denied = gate.client.post("/v1/prompts/check", &chat(&token())).expect(403);
    assert_eq!(denied.header("content-type"), "application/json");
    assert!(!denied.text().contains(&token()));
    let denied = denied.json();
    assert_eq!((&denied["type"], &denied["error"]["type"]), (&json!("error"), &json!("permission_error")));
    assert!(denied["error"]["message"].as_str().unwrap().contains(RULE));
    assert_eq!(denied["reasons"][0]["pointer"], "/messages/0/content");
    assert_eq!(denied["reasons"][0]["fingerprint"].as_str().unwrap().len(), 32);
    let body = format!(
        r#"{{"seed": 123456789012345678901, "messages": [{{"role":"user","content":"{}"}}, {{"role":"assistant","content":"no"}}, {{"role":"user","content":"so?"}}]}}"#,
        token()
    );
    let masked = gate.client.post_text("/v1/prompts/check?form=chat", &body).expect(200);
    assert!(masked.text().contains("123456789012345678901"), "numbers are not rounded");
    assert_eq!(masked.json()["copy"]["messages"][0]["content"], format!("[MASKED {RULE}]"));
    let text = gate.client.request(Method::POST, "/v1/prompts/check").header("content-type", "text/plain");
    let text = Answer::of(text.body(format!("{{ {}", token())).send().unwrap()).expect(403);
    assert_eq!(text.json()["reasons"][0]["rule"], RULE);
    assert_eq!(
        gate.client.post_text("/v1/prompts/check", "{").expect(403).json()["reasons"][0]["rule"],
        "prompt.unreadable"
    );
    // A client may have put anything there.
    let unknown = gate.client.post(&format!("/v1/prompts/check?form={}", token()), &chat("x")).expect(400).text();
    assert!(unknown.contains("expected one of chat,") && !unknown.contains(&token()[..8]), "{unknown}");
    gate.client.post("/v1/prompts/check?from=chat", &chat("x")).expect(400);
}

#[test]
fn a_text_that_begins_as_json_does_is_masked_in_a_copy() {
    let gate = Gate::start(MASKING);
    let token = token();
    for (before, expected) in [("[note] pass ", 200), ("\"a quote\" and ", 200), ("{\"", 403)] {
        let answer = gate.client.post_text("/v1/prompts/check", &format!("{before}{token} on")).expect(expected);
        let copy = if expected == 200 { json!(format!("{before}[MASKED {RULE}] on")) } else { Value::Null };
        assert_eq!(answer.json()["copy"], copy, "{before}");
    }
}

#[test]
fn what_is_not_utf_8_is_denied_wherever_it_is_shown() {
    let gate = Gate::start("");
    let (client, token_of_gate) = (Client::new(&gate.running.url("api")), gate.site.token(&["prompt"]));
    let body = json!({"messages": [{"role": "user", "content": "+AGE-"}]}).to_string();
    for (charset, status) in [("utf-7", 403), ("utf-16", 403), ("UTF-8", 200)] {
        let media = format!("application/json; charset={charset}");
        for path in ["/v1/prompts/check", "/v1/prompts/check?form=chat"] {
            let request = gate.client.request(Method::POST, path).header("content-type", &media);
            Answer::of(request.body(body.clone()).send().unwrap()).expect(status);
        }
        let call = json!({"method": "POST", "path": "/v1/extauthz/v1/messages", "headers": [["content-type", media]]});
        assert_eq!(ask_as_envoy(&client, &token_of_gate, &call, body.clone().into()).status, status, "{charset}");
    }
}

#[test]
fn a_token_of_the_scope_is_needed_and_litellm_may_have_it_in_its_own_header() {
    let gate = Gate::start("");
    let anonymous = Client::new(&gate.running.url("api"));
    let body = json!({"input_type": "request", "texts": ["x"], "request_data": {}}).to_string();
    let with = |name: &str, value: &str, path: &str| {
        Answer::of(anonymous.request(Method::POST, path).header(name, value).body(body.clone()).send().unwrap()).status
    };
    let good = gate.site.token(&["prompt"]);
    assert_eq!(with("x-api-key", &good, GUARDRAIL), 200);
    assert_eq!(with("authorization", &format!("Bearer {good}"), GUARDRAIL), 200);
    assert_eq!(with("x-api-key", "wrong", GUARDRAIL), 401);
    assert_eq!(with("x-api-key", &good, "/v1/prompts/check"), 401);
    assert_eq!(with("x-api-key", &gate.site.token(&["admit"]), GUARDRAIL), 403);
    let without = Site::sqlite();
    let running = without.start("");
    let client = running.client(&without.token(&["prompt"]));
    client.post_text(GUARDRAIL, &body).expect(404);
}

/// What Envoy asked in the recording, with the whole body where the recording has only its beginning.
fn asked_by_envoy() -> Vec<(String, Value)> {
    let cases = include_str!("../../testdata/recordings/gateways/envoy/ext_authz_cases.json");
    let cases: Vec<Value> = serde_json::from_str(cases).unwrap();
    let calls = cases.iter().flat_map(|case| {
        let name = case["case"].as_str().unwrap().to_string();
        case["authz_calls"].as_array().unwrap().iter().map(move |call| (name.clone(), call.clone()))
    });
    calls.collect()
}

/// Asks as Envoy did, with the token of the service in its own header.
fn ask_as_envoy(client: &Client, token: &str, call: &Value, body: Vec<u8>) -> Answer {
    let path = call["path"].as_str().unwrap().replace("/v1/extauthz/", "/envoy/");
    let mut request = client.request(call["method"].as_str().unwrap().parse().unwrap(), &path);
    for header in call["headers"].as_array().unwrap() {
        let (name, value) = (header[0].as_str().unwrap(), header[1].as_str().unwrap());
        if !["host", "content-length", "x-layersift-auth"].contains(&name) {
            request = request.header(name, value);
        }
    }
    Answer::of(request.header("x-layersift-auth", format!("Bearer {token}")).body(body).send().unwrap())
}

#[test]
fn envoy_is_answered_about_what_it_shows() {
    let gate = Gate::start("");
    let (client, token_of_gate) = (Client::new(&gate.running.url("api")), gate.site.token(&["prompt"]));
    let calls = asked_by_envoy();
    assert!(calls.len() > 20);
    for (name, call) in calls {
        let head = call["body_head"].as_str().unwrap();
        let is_partial = call["headers"].to_string().contains("\"x-envoy-auth-partial-body\",\"true\"");
        let is_binary = name.contains("binary");
        let body = if is_binary {
            use base64::prelude::{BASE64_STANDARD, Engine};
            BASE64_STANDARD.decode(head).unwrap()
        } else if call["body_cut"] == true && !is_partial {
            json!({"messages": [{"role": "user", "content": "x".repeat(900_000)}]}).to_string().into_bytes()
        } else {
            head.as_bytes().to_vec()
        };
        let answer = ask_as_envoy(&client, &token_of_gate, &call, body.clone());
        let expected = if is_partial || is_binary { (403, "deny") } else { (200, "allow") };
        assert_eq!((answer.status, answer.header("x-layersift-verdict")), expected, "{name}: {}", answer.text());
        if call["method"] == "POST" && !is_partial && !is_binary {
            let planted = json!({"messages": [{"role": "user", "content": token()}]}).to_string().into_bytes();
            let answer = ask_as_envoy(&client, &token_of_gate, &call, planted).expect(403);
            assert_eq!(answer.json()["error"]["type"], "permission_error");
            assert!(answer.text().contains(RULE) && !answer.text().contains(&token()));
        }
    }
}

#[test]
fn envoy_shows_compressed_bodies_and_histories_that_cannot_be_masked() {
    use std::io::Write;
    let gate = Gate::start("");
    let (client, token_of_gate) = (Client::new(&gate.running.url("api")), gate.site.token(&["prompt"]));
    let call = json!({"method": "POST", "path": "/v1/extauthz/v1/messages", "headers": [
        ["authorization", "Bearer A-KEY-OF-THE-CLIENT"], ["x-envoy-auth-partial-body", "false"]]});
    let ask = |body: &[u8]| ask_as_envoy(&client, &token_of_gate, &call, body.to_vec()).status;
    let gzip = |text: String| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    };
    let chat = |text: &str| json!({"messages": [{"role": "user", "content": text}]}).to_string();
    assert_eq!(ask(&gzip(chat("hello"))), 200);
    assert_eq!(ask(&gzip(chat(&token()))), 403);
    let bomb = gzip("a".repeat(20 << 20));
    assert_eq!(ask(&bomb), 403);
    let history = json!({"messages": [{"role": "user", "content": token()}, {"role": "assistant", "content": "no"},
        {"role": "user", "content": "so?"}]});
    assert_eq!(ask(history.to_string().as_bytes()), 403);
    // The token of the gate is never taken from the client's header.
    let with_own = json!({"method": "POST", "path": "/envoy/v1/messages", "headers": []});
    let answer = client.request(Method::POST, with_own["path"].as_str().unwrap());
    let answer = answer.header("authorization", format!("Bearer {token_of_gate}")).body(chat("hello"));
    assert_eq!(Answer::of(answer.send().unwrap()).status, 401);
    let in_path = json!({"method": "GET", "path": format!("/envoy/v1/models?key={}", token()), "headers": []});
    assert_eq!(ask_as_envoy(&client, &token_of_gate, &in_path, Vec::new()).status, 403);
}
