//! The prompt gate for gateways that ask by webhook, in the forms that kgateway and Portkey document.

use crate::prompts::{RULE, token};
use crate::running::{Answer, Client, Running, Site};
use reqwest::Method;
use serde_json::{Value, json};

struct Gate {
    _site: Site,
    _running: Running,
    client: Client,
    token: String,
}

impl Gate {
    fn start(settings: &str) -> Gate {
        let site = Site::sqlite();
        let running = site.start(&format!("[prompts]\n{settings}"));
        let client = Client::new(&running.url("api"));
        let token = site.token(&["prompt"]);
        Gate { _site: site, _running: running, client, token }
    }

    fn ask(&self, path: &str, body: &str) -> Value {
        let request = self.client.request(Method::POST, path).header("content-type", "application/json");
        let request = request.header("authorization", "Bearer sk-key-of-the-provider");
        let request = request.header("x-layersift-auth", format!("Bearer {}", self.token));
        let answer = Answer::of(request.body(body.to_string()).send().unwrap()).expect(200);
        assert!(!answer.text().contains(&token()), "{}", answer.text());
        answer.json()
    }
}

const MASKING: &str = "[[prompts.policies]]\ndeny = 'never'\nmask = 'medium'\n";

fn mask() -> String {
    format!("[MASKED {RULE}]")
}

/// What an action means to kgateway: it looks at the fields alone, in this order.
fn action(answer: &Value) -> &'static str {
    let action = answer["action"].as_object().unwrap();
    let body = action.get("body");
    match body {
        Some(Value::Object(body)) if body.contains_key("messages") || body.contains_key("choices") => "mask",
        Some(Value::String(_)) if action["status_code"].is_u64() => "reject",
        Some(other) => panic!("{other}"),
        None => "pass",
    }
}

#[test]
fn kgateway_is_told_what_to_do_with_a_request() {
    let question = |text: &str| {
        json!({"body": {"messages": [{"role": "system", "content": "be kind"}, {"role": "user", "content": text}]}})
            .to_string()
    };
    let gate = Gate::start("");
    assert_eq!(action(&gate.ask("/request", &question("What is 1 + 2?"))), "pass");
    let rejected = gate.ask("/request", &question(&token()));
    assert_eq!((action(&rejected), &rejected["action"]["status_code"]), ("reject", &json!(403)));
    let shown: Value = serde_json::from_str(rejected["action"]["body"].as_str().unwrap()).unwrap();
    assert_eq!(shown["error"]["type"], "permission_error");
    assert!(shown["error"]["message"].as_str().unwrap().contains(RULE));
    let history = json!({"body": {"messages": [{"role": "user", "content": token()},
        {"role": "assistant", "content": "no"}, {"role": "user", "content": "so?"}]}});
    let masked = gate.ask("/request", &history.to_string());
    assert_eq!(masked["action"]["body"]["messages"][0], json!({"role": "user", "content": mask()}));
    assert_eq!(masked["action"]["body"]["messages"][2]["content"], "so?");
    let masking = Gate::start(MASKING);
    let masked = masking.ask("/request", &question(&token()));
    assert_eq!((action(&masked), &masked["action"]["body"]["messages"][1]["content"]), ("mask", &json!(mask())));
}

#[test]
fn kgateway_masks_an_answer_that_is_denied() {
    let question = |text: &str| {
        let choice = |text: &str| json!({"message": {"role": "assistant", "content": text}});
        json!({"body": {"choices": [choice("1 + 2 is 3"), choice(text)]}}).to_string()
    };
    let gate = Gate::start("");
    assert_eq!(action(&gate.ask("/response", &question("The result is 3"))), "pass");
    // Versions without a rejection of answers take one for a pass.
    let denied = gate.ask("/response", &question(&token()));
    assert_eq!(action(&denied), "mask");
    let choices = denied["action"]["body"]["choices"].as_array().unwrap();
    assert_eq!(choices.len(), 2);
    for choice in choices {
        assert!(choice["message"]["content"].as_str().unwrap().starts_with("Layersift denied this"), "{choice}");
    }
    let masked = Gate::start(MASKING).ask("/response", &question(&token()));
    assert_eq!(masked["action"]["body"]["choices"][1]["message"]["content"], mask());
    assert_eq!(masked["action"]["body"]["choices"][0]["message"]["content"], "1 + 2 is 3");
}

#[test]
fn what_kgateway_cannot_mean_is_rejected() {
    let gate = Gate::start("[[prompts.policies]]\nmax-bytes = 200\n");
    let long = json!({"body": {"messages": [{"role": "user", "content": "x".repeat(300)}]}}).to_string();
    let bodies =
        ["", "{", "[]", "{}", "{\"body\":1}", "{\"body\":{\"messages\":[],\"messages\":[]}}", "{\"body\":{}}", &long];
    for body in bodies {
        for path in ["/request", "/response"] {
            assert_eq!(action(&gate.ask(path, body)), "reject", "{path} {body}");
        }
    }
    let anonymous = gate.client.request(Method::POST, "/request").body("{}").send().unwrap();
    assert_eq!(Answer::of(anonymous).status, 401);
}

/// A question of Portkey, as its documentation shows it.
fn portkey(event: &str, request: Value, response: Value) -> String {
    json!({
        "request": {"json": request, "text": "", "isStreamingRequest": false, "isTransformed": false},
        "response": {"json": response, "text": "", "statusCode": null, "isTransformed": false},
        "provider": "openai", "requestType": "chatComplete", "metadata": {"_user": "visitor"}, "eventType": event,
    })
    .to_string()
}

#[test]
fn portkey_is_given_a_verdict_and_what_to_send_instead() {
    let chat = |text: &str| json!({"model": "m", "max_tokens": 20, "messages": [{"role": "user", "content": text}]});
    let answer = |text: &str| json!({"id": "c", "choices": [{"message": {"role": "assistant", "content": text}}]});
    let gate = Gate::start("");
    let allowed = gate.ask("/portkey", &portkey("beforeRequestHook", chat("hello"), json!({})));
    assert_eq!((&allowed["verdict"], allowed.get("transformedData")), (&json!(true), None));
    let denied = gate.ask("/portkey", &portkey("beforeRequestHook", chat(&token()), json!({})));
    assert_eq!(denied["verdict"], false);
    assert!(denied["data"]["reason"].as_str().unwrap().contains(RULE));
    let denied = gate.ask("/portkey", &portkey("afterRequestHook", chat("hello"), answer(&token())));
    assert_eq!(denied["verdict"], false);
    // The history was checked before the request was sent.
    let old = gate.ask("/portkey", &portkey("afterRequestHook", chat(&token()), answer("hello")));
    assert_eq!(old["verdict"], true);

    let gate = Gate::start(MASKING);
    let masked = gate.ask("/portkey", &portkey("beforeRequestHook", chat(&token()), json!({})));
    assert_eq!(
        (&masked["verdict"], &masked["transformedData"]),
        (&json!(true), &json!({"request": {"json": chat(&mask())}}))
    );
    let masked = gate.ask("/portkey", &portkey("afterRequestHook", chat("hello"), answer(&token())));
    assert_eq!(masked["transformedData"], json!({"response": {"json": answer(&mask())}}));
}

#[test]
fn portkey_may_not_stream_what_it_would_pass_unread() {
    let gate = Gate::start("");
    let ask = |stream: Value, is_streaming: bool| {
        let chat = json!({"model": "m", "stream": stream, "messages": [{"role": "user", "content": "hello"}]});
        let question = portkey("beforeRequestHook", chat, json!({}));
        let said = format!("\"isStreamingRequest\":{is_streaming}");
        gate.ask("/portkey", &question.replace("\"isStreamingRequest\":false", &said))
    };
    for (stream, is_streaming) in [(json!(true), true), (json!(true), false), (json!(1), false), (json!(false), true)] {
        let denied = ask(stream, is_streaming);
        assert_eq!(denied["verdict"], false, "{denied}");
        let reason = denied["data"]["reason"].as_str().unwrap();
        assert!(reason.contains("prompt.unseen-answer") && reason.ends_with("again without `stream`."), "{reason}");
    }
    for stream in [json!(false), json!(null)] {
        assert_eq!(ask(stream, false)["verdict"], true);
    }
    // A member of this name elsewhere says nothing.
    let other = json!({"model": "m", "messages": [{"role": "user", "content": "hello", "stream": true}]});
    assert_eq!(gate.ask("/portkey", &portkey("beforeRequestHook", other, json!({})))["verdict"], true);
}

#[test]
fn portkey_is_never_answered_with_an_error_which_it_takes_for_a_pass() {
    let gate = Gate::start("[[prompts.policies]]\nmax-bytes = 600\n");
    let twice = "{\"eventType\":\"beforeRequestHook\",\"request\":{\"json\":{}},\"request\":{\"json\":{}}}";
    let long = portkey("beforeRequestHook", json!({"messages": ["x".repeat(700)]}), json!({}));
    let other = portkey("someOtherHook", json!({"messages": []}), json!({}));
    let without = "{\"eventType\":\"beforeRequestHook\",\"request\":{\"json\":null}}";
    for body in ["", "{", "{}", "[]", twice, &long, &other, without] {
        assert_eq!(gate.ask("/portkey", body)["verdict"], false, "{body}");
    }
    let anonymous = gate.client.request(Method::POST, "/portkey").body("{}").send().unwrap();
    let anonymous = Answer::of(anonymous).expect(200).json();
    assert_eq!(anonymous["verdict"], false);
    assert!(anonymous["data"]["reason"].as_str().unwrap().starts_with("Layersift: "), "{anonymous}");
}
