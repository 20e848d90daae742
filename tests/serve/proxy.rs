//! The proxy in front of models: the exchanges of the SDKs in the recording, what goes on, what does not, and what a
//! client sees of it. The models are stubs.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use crate::prompts::{RULE, token};
use crate::running::{Answer, Client, Running, Site, eventually};
use crate::support::server::{Answer as Stub, Request, Server};
use reqwest::Method;
use serde_json::{Value, json};

/// What a client has in `Authorization`.
const KEY: &str = "Bearer sk-a-key-of-the-provider";

/// A service that forwards to one model.
pub(crate) struct Proxy {
    site: Site,
    pub(crate) running: Running,
    client: Client,
    pub(crate) token: String,
}

impl Proxy {
    pub(crate) fn start(model: &str, settings: &str) -> Proxy {
        let site = Site::sqlite();
        let mut command = site.command(&Proxy::settings(model, settings));
        command.env("LAYERSIFT_LOG", "trace");
        let running = Running::start(command);
        let client = Client::new(&running.url("proxy"));
        let token = site.token(&["prompt"]);
        Proxy { site, running, client, token }
    }

    fn settings(model: &str, settings: &str) -> String {
        format!(
            "[listen]\nproxy = '127.0.0.1:0'\nhealth = '127.0.0.1:0'\nmetrics = true\n[prompts.upstreams.model]\nurl = \
             'http://{model}/base'\n{settings}"
        )
    }

    pub(crate) fn post(&self, path: &str, body: impl Into<Vec<u8>>) -> Answer {
        self.post_with(path, &[], body)
    }

    fn post_with(&self, path: &str, headers: &[(&str, &str)], body: impl Into<Vec<u8>>) -> Answer {
        let request = self.client.request(Method::POST, &format!("/model{path}"));
        let mut request = request.header("authorization", KEY).header("x-layersift-auth", &self.token);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Answer::of(request.body(body.into()).send().unwrap())
    }
}

const MASKING: &str = "[[prompts.policies]]\ndeny = 'never'\nmask = 'medium'\n";

pub(crate) fn chat(text: &str) -> String {
    json!({"model": "m", "messages": [{"role": "user", "content": text}]}).to_string()
}

/// A piece of a streamed chat completion.
pub(crate) fn piece(text: &str) -> String {
    format!("data: {}\n\n", json!({"choices": [{"index": 0, "delta": {"content": text}}]}))
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub(crate) fn events(body: impl Into<Vec<u8>>) -> Stub {
    Stub::new(200, body).with("Content-Type", "text/event-stream")
}

fn in_sdk_form(answer: &Answer) -> Value {
    assert_eq!(answer.header("content-type"), "application/json", "{}", answer.text());
    assert!(!answer.text().contains(&token()), "{}", answer.text());
    let body = answer.json();
    assert_eq!(body["type"], "error");
    assert!(body["error"]["message"].as_str().unwrap().starts_with("Layersift"), "{body}");
    body
}

/// All exchanges of the SDKs, with the names of their cases.
fn exchanges() -> Vec<(String, Value)> {
    let text = include_str!("../../testdata/recordings/gateways/sdk/exchanges.json");
    let recording: Value = serde_json::from_str(text).unwrap();
    let cases = recording["cases"].as_array().unwrap().clone();
    let of = |case: &Value| {
        let name = case["case"].as_str().unwrap().to_string();
        let exchanges = case["exchange"].as_array().unwrap().clone();
        exchanges.into_iter().map(move |exchange| (name.clone(), exchange)).collect::<Vec<_>>()
    };
    cases.iter().flat_map(of).collect()
}

/// The answer of the model in an exchange.
fn recorded(answer: &Value) -> Stub {
    match answer["stream"].as_str() {
        Some(stream) => events(stream),
        None => Stub::new(200, answer["body"].as_str().unwrap()).with("Content-Type", "application/json"),
    }
}

/// The answer with a token in place of a part of its text, or of the arguments of its tool call; streams have it in two
/// pieces.
fn planted(answer: &Value) -> Value {
    let token = token();
    let (first, second) = token.split_at(17);
    let text = answer.to_string();
    let planted = text
        .replace("forty two", &token)
        .replace("TOKEN=abc", &format!("TOKEN={token}"))
        .replace("forty t", first)
        .replace("wo and ", &format!("{second} and "))
        .replace("TOKEN=a", &format!("TOKEN={first}"))
        .replace("bc\\\\\\\\nK=v", &format!("{second}\\\\\\\\nK=v"));
    assert_ne!(text, planted);
    serde_json::from_str(&planted).unwrap()
}

/// Sends the request of an exchange as the SDK did, with the token of the service in a header or in the path.
fn replay(proxy: &Proxy, exchange: &Value, body: &str, is_in_path: bool) -> Answer {
    let path = exchange["path"].as_str().unwrap();
    let path = if is_in_path { format!("/model/{}{path}", proxy.token) } else { format!("/model{path}") };
    let mut request = proxy.client.request(exchange["method"].as_str().unwrap().parse().unwrap(), &path);
    for header in exchange["headers"].as_array().unwrap() {
        let (name, value) = (header[0].as_str().unwrap(), header[1].as_str().unwrap());
        if !["host", "content-length", "connection"].contains(&&name.to_ascii_lowercase()[..]) {
            request = request.header(name, value);
        }
    }
    if !is_in_path {
        request = request.header("x-layersift-auth", format!("Bearer {}", proxy.token));
    }
    Answer::of(request.body(body.to_string()).send().unwrap())
}

fn header_of<'e>(exchange: &'e Value, wanted: &str) -> Option<&'e str> {
    let headers = exchange["headers"].as_array().unwrap();
    let found = headers.iter().find(|header| header[0].as_str().unwrap().eq_ignore_ascii_case(wanted))?;
    found[1].as_str()
}

/// All texts of an answer, joined: of a stream those of its pieces.
fn text_of(body: &str, is_stream: bool) -> String {
    const PIECES: [&str; 7] = [
        "/choices/0/delta/content",
        "/choices/0/delta/tool_calls/0/function/arguments",
        "/delta/text",
        "/delta/partial_json",
        "/delta/thinking",
        "/delta/refusal",
        "/delta",
    ];
    if !is_stream {
        return body.to_string();
    }
    let data = body.lines().filter_map(|line| line.strip_prefix("data: ")).filter(|data| *data != "[DONE]");
    let values = data.map(|data| serde_json::from_str::<Value>(data).unwrap());
    let text = |value: Value| PIECES.iter().find_map(|at| value.pointer(at).and_then(Value::as_str)).map(String::from);
    values.filter_map(text).collect()
}

#[test]
fn the_exchanges_of_the_sdks_pass_as_they_were_recorded() {
    for (number, (name, exchange)) in exchanges().into_iter().enumerate() {
        let answer = exchange["answer"].clone();
        let model = Server::answering({
            let answer = answer.clone();
            move |_, _| recorded(&answer)
        });
        let proxy = Proxy::start(&model.host(), "");
        let body = exchange["body_raw"].as_str().unwrap();
        let got = replay(&proxy, &exchange, body, number % 2 == 0).expect(200);
        let is_stream = answer["stream"].is_string();
        let expected = answer["stream"].as_str().or(answer["body"].as_str()).unwrap();
        assert_eq!(text_of(&got.text(), is_stream), text_of(expected, is_stream), "{name}");
        let last = |text: &str| text.trim_end().rsplit("\n\n").next().unwrap_or_default().to_string();
        assert_eq!(last(&got.text()), last(expected), "{name}");
        let seen = model.requests();
        let [seen] = &seen[..] else { panic!("{name}: {seen:?}") };
        assert_eq!(
            (&seen.method[..], &seen.path[..]),
            ("POST", &format!("/base{}", exchange["path"].as_str().unwrap())[..])
        );
        assert_eq!(String::from_utf8(seen.body.clone()).unwrap(), body, "{name}");
        for kept in ["authorization", "content-type", "user-agent", "anthropic-version", "accept", "x-stainless-lang"] {
            assert_eq!(seen.header(kept), header_of(&exchange, kept), "{name}: {kept}");
        }
        assert_eq!(seen.header("host"), Some(&model.host()[..]));
        assert!(!format!("{seen:?}").contains("layersift"), "{name}: {seen:?}");
    }
}

#[test]
fn a_token_in_an_exchange_of_the_sdks_is_denied_or_masked_on_both_ways() {
    let mask = format!("[MASKED {RULE}]");
    let current = Arc::new(Mutex::new(Value::Null));
    let answer = Arc::clone(&current);
    let model = Server::answering(move |_, _| recorded(&answer.lock().unwrap()));
    let (denying, masking) = (Proxy::start(&model.host(), ""), Proxy::start(&model.host(), MASKING));
    for (name, exchange) in exchanges() {
        let is_stream = exchange["answer"]["stream"].is_string();
        *current.lock().unwrap() = planted(&exchange["answer"]);
        let body = exchange["body_raw"].as_str().unwrap();

        let got = replay(&denying, &exchange, body, false);
        assert!(!got.text().contains(&token()[..17]), "{name}: {}", got.text());
        if is_stream {
            let last = got.events().pop().unwrap();
            assert_eq!((got.status, &last["event"][..]), (200, "error"), "{name}");
            let error: Value = serde_json::from_str(&last["data"]).unwrap();
            assert_eq!(
                (&error["type"], &error["error"]["type"]),
                (&json!("error"), &json!("permission_error")),
                "{name}"
            );
            assert!(error["error"]["message"].as_str().unwrap().contains(RULE), "{name}");
        } else {
            let error = in_sdk_form(&got.expect(403));
            assert!(error["error"]["message"].as_str().unwrap().contains(RULE), "{name}");
        }
        let got = replay(&masking, &exchange, body, false).expect(200);
        assert!(text_of(&got.text(), is_stream).contains(&mask), "{name}: {}", got.text());
        assert!(!got.text().contains(&token()[..17]), "{name}: {}", got.text());

        let before = model.requests().len();
        let secret =
            body.replace("\"hi\"", &json!(token()).to_string()).replace("\"USE_TOOL\"", &json!(token()).to_string());
        assert_ne!(body, secret, "{name}");
        let error = in_sdk_form(&replay(&denying, &exchange, &secret, true).expect(403));
        assert!(error["error"]["message"].as_str().unwrap().contains(RULE), "{name}");
        assert_eq!(model.requests().len(), before, "{name}: nothing may reach the model");
        replay(&masking, &exchange, &secret, true);
        let seen = String::from_utf8(model.requests().last().unwrap().body.clone()).unwrap();
        assert_eq!(seen, secret.replace(&token(), &mask), "{name}");
    }
}

#[test]
fn errors_have_the_form_that_both_sdks_raised_in_the_recording() {
    let text = include_str!("../../testdata/recordings/gateways/sdk/error_forms.json");
    let recording: Value = serde_json::from_str(text).unwrap();
    let model = Server::answering(|_, _| events(piece(&format!("it is {} ", token()))));
    let proxy = Proxy::start(&model.host(), "");
    let denied = proxy.post("/v1/chat/completions", chat(&token())).expect(403).json();
    let in_stream = proxy.post("/v1/chat/completions", chat("hello")).expect(200).events().pop().unwrap();
    let in_stream: Value = serde_json::from_str(&in_stream["data"]).unwrap();
    let mut raised = 0;
    for case in recording["cases"].as_array().unwrap() {
        let name = case["case"].as_str().unwrap();
        let ours = match () {
            () if name.ends_with(": 403 anthropic form") => &denied,
            () if name.ends_with("event: error + anthropic form") => &in_stream,
            () => continue,
        };
        assert!(case["raised"].is_string() && case["requests_sent"] == 1, "{name}");
        // The SDK of OpenAI keeps the error, that of Anthropic the whole.
        let recorded = &case["body"];
        let ours = if recorded["type"] == "error" { ours } else { &ours["error"] };
        for (key, value) in recorded.as_object().unwrap().iter().filter(|(key, _)| *key != "request_id") {
            match key.as_str() {
                "message" => assert!(ours[key].as_str().unwrap().contains(RULE), "{name}: {ours}"),
                "error" => assert_eq!(ours[key]["type"], value["type"], "{name}"),
                _ => assert_eq!(&ours[key], value, "{name}: {key}"),
            }
        }
        raised += 1;
    }
    assert!(raised >= 10, "{raised}");
}

#[test]
fn compressed_bodies_are_checked_and_go_on_uncompressed() {
    let model = Server::answering(|request, _| {
        assert_eq!(request.header("accept-encoding"), Some("identity"));
        assert_eq!(request.header("content-encoding"), None);
        let secret = format!("it is {} so ", token());
        let (body, kind) = match &request.path[..] {
            "/base/json" => (chat("hello"), "application/json"),
            "/base/json-secret" => (chat(&secret), "application/json"),
            "/base/stream" => (piece("hello "), "text/event-stream"),
            _ => (piece(&secret), "text/event-stream"),
        };
        Stub::new(200, gzip(body.as_bytes())).with("Content-Type", kind).with("Content-Encoding", "gzip")
    });
    let proxy = Proxy::start(&model.host(), "");
    let zipped = [("content-encoding", "gzip"), ("content-type", "application/json")];
    let got = proxy.post_with("/json", &zipped, gzip(chat("hi").as_bytes())).expect(200);
    assert_eq!((got.text(), got.header("content-encoding")), (chat("hello"), ""));
    assert_eq!(model.requests()[0].body, chat("hi").as_bytes());
    assert_eq!(proxy.post("/stream", chat("hi")).expect(200).text(), piece("hello "));
    in_sdk_form(&proxy.post("/json-secret", chat("hi")).expect(403));
    let stream = proxy.post("/stream-secret", chat("hi")).expect(200);
    assert!(stream.text().starts_with("event: error\n") && !stream.text().contains(&token()), "{}", stream.text());
    let before = model.requests().len();
    in_sdk_form(&proxy.post_with("/json", &zipped, gzip(chat(&token()).as_bytes())).expect(403));
    in_sdk_form(&proxy.post_with("/json", &zipped, gzip(&vec![b' '; 20 << 20])).expect(403));
    in_sdk_form(&proxy.post_with("/json", &[("content-encoding", "br")], chat("hi")).expect(403));
    in_sdk_form(&proxy.post("/json", gzip(chat("hi").as_bytes())).expect(403));
    assert_eq!(model.requests().len(), before);
}

#[test]
fn answers_that_are_not_understood_are_denied() {
    let model = Server::answering(|request, _| match request.path.trim_start_matches("/base/") {
        "brotli" => Stub::new(200, "x").with("Content-Encoding", "br"),
        "brotli-stream" => events("x").with("Content-Encoding", "br"),
        "binary" => Stub::new(200, vec![0xff, 0xfe, 0]).with("Content-Type", "audio/mpeg"),
        "utf-7" => Stub::new(200, "+ADw-").with("Content-Type", "text/plain; charset=utf-7"),
        "damaged" => Stub::new(200, "{\"a\":").with("Content-Type", "application/json"),
        "large" => Stub::new(200, "x".repeat(9 << 20)),
        // The SDKs read it as a stream all the same.
        "other-type" => {
            let (first, second) = (&token()[..20], &token()[20..]);
            Stub::new(200, piece(first) + &piece(second)).with("Content-Type", "application/json")
        }
        other => panic!("{other}"),
    });
    let proxy = Proxy::start(&model.host(), "");
    for path in ["brotli", "brotli-stream", "binary", "utf-7", "damaged", "large", "other-type"] {
        let answer = proxy.post(&format!("/{path}"), chat("hi"));
        assert_eq!(answer.status, 403, "{path}: {}", answer.text());
        in_sdk_form(&answer);
    }
}

#[test]
fn only_what_is_set_up_is_reached() {
    let model = Server::answering(|request, _| match &request.path[..] {
        "/base/v1/away" => Stub::new(302, "").with("Location", "https://elsewhere.example/"),
        _ => Stub::new(200, "{}").with("Content-Type", "application/json"),
    });
    let proxy = Proxy::start(&model.host(), "");
    assert_eq!(in_sdk_form(&proxy.post("/v1/away", chat("hi")).expect(502))["error"]["type"], "api_error");
    let count = model.requests().len();
    let paths = ["/other/v1/x", "/model", "/model/v1/..%2fx", "/", "/healthz/x"];
    for path in paths {
        let request = proxy.client.request(Method::POST, path).header("x-layersift-auth", &proxy.token);
        in_sdk_form(&Answer::of(request.body("{}").send().unwrap()).expect(404));
    }
    // What a URL library would resolve, sent as it is.
    for path in [&format!("http://{}/model/../x", model.host())[..], "/model/v1/%2e%2E/x", "/model/./x"] {
        let mut stream = TcpStream::connect(proxy.running.url("proxy").trim_start_matches("http://")).unwrap();
        let auth = format!("x-layersift-auth: {}\r\nConnection: close\r\n", proxy.token);
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\n{auth}\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 404"), "{path}: {answer}");
    }
    let in_path = proxy.client.request(Method::GET, &format!("/model/v1/models?key={}", token()));
    in_sdk_form(&Answer::of(in_path.header("x-layersift-auth", &proxy.token).send().unwrap()).expect(403));
    let put = proxy.client.request(Method::PUT, "/model/v1/x").header("x-layersift-auth", &proxy.token);
    in_sdk_form(&Answer::of(put.body("{}").send().unwrap()).expect(405));
    assert_eq!(model.requests().len(), count);
    let listed = proxy.client.request(Method::GET, "/model/v1/models").header("x-layersift-auth", &proxy.token);
    Answer::of(listed.send().unwrap()).expect(200);
}

#[test]
fn a_token_of_the_service_is_needed_and_never_that_of_the_provider() {
    let model = Server::answering(|_, _| Stub::new(200, "{}").with("Content-Type", "application/json"));
    let proxy = Proxy::start(&model.host(), "");
    let with = |name: &str, value: &str, path: &str| {
        Answer::of(proxy.client.request(Method::POST, path).header(name, value).body("{}").send().unwrap())
    };
    let path = "/model/v1/models";
    assert_eq!(in_sdk_form(&with("a", "b", path).expect(401))["error"]["type"], "authentication_error");
    in_sdk_form(&with("authorization", &format!("Bearer {}", proxy.token), path).expect(401));
    in_sdk_form(&with("x-layersift-auth", "layersift_00", path).expect(401));
    in_sdk_form(&with("a", "b", "/model/layersift_00/v1/models").expect(401));
    in_sdk_form(&with("x-layersift-auth", &proxy.site.token(&["read"]), path).expect(403));
    assert_eq!(model.requests().len(), 0);
    with("x-layersift-auth", &proxy.token, path).expect(200);
    with("a", "b", &format!("/model/{}/v1/models", proxy.token)).expect(200);
    assert!(model.requests().iter().all(|request| request.path == "/base/v1/models"));
}

#[test]
fn a_token_of_the_service_does_not_go_on_to_the_provider() {
    let model = Server::answering(|_, _| Stub::new(200, "{}").with("Content-Type", "application/json"));
    let proxy = Proxy::start(&model.host(), "");
    let token = &proxy.token;
    let (plain, in_path) = ("/model/v1/models".to_string(), format!("/model/{token}/v1/models"));
    let refused = |path: &str, name: &str, value: &str| {
        let request = proxy.client.request(Method::POST, path).header("x-layersift-auth", token);
        let error = in_sdk_form(&Answer::of(request.header(name, value).body("{}").send().unwrap()).expect(400));
        let message = error["error"]["message"].as_str().unwrap();
        assert!(message.contains("x-layersift-auth") && !message.contains(&token[..20]), "{message}");
    };
    for path in [&plain, &in_path] {
        refused(path, "authorization", &format!("Bearer {token}"));
        refused(path, "x-api-key", token);
        refused(path, "x-any-other", &format!("a {token} b"));
    }
    for path in [
        format!("/model/{token}/{token}/v1/models"),
        format!("/model/{token}/v1/{token}/models"),
        format!("{in_path}?key={token}"),
        format!("{plain}?key={}", token.replacen('_', "%5F", 1)),
    ] {
        refused(&path, "authorization", KEY);
    }
    let error = in_sdk_form(&proxy.post("/v1/chat/completions", chat(&format!("use {token}"))).expect(403));
    assert!(error["error"]["message"].as_str().unwrap().contains("layersift.service-token"), "{error}");
    assert_eq!(model.requests().len(), 0);
}

#[test]
fn a_model_that_cannot_be_reached_is_an_error_that_sdks_show() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let proxy = Proxy::start(&format!("127.0.0.1:{free}"), "");
    assert_eq!(in_sdk_form(&proxy.post("/v1/x", chat("hi")).expect(502))["error"]["type"], "api_error");
}

/// Writes the head of a stream that ends with the connection.
fn begin_stream(stream: &mut TcpStream) {
    stream
        .write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        .unwrap();
}

fn write_chunk(stream: &mut TcpStream, text: &str) -> std::io::Result<()> {
    write!(stream, "{:x}\r\n{text}\r\n", text.len())
}

#[test]
fn a_stream_that_breaks_does_not_look_as_if_it_had_ended() {
    let model = Server::start(|_: &Request, _, stream: &mut TcpStream| {
        begin_stream(stream);
        write_chunk(stream, &piece("and it goes on ")).unwrap();
    });
    let proxy = Proxy::start(&model.host(), "");
    let answer = proxy.post("/v1/chat/completions", chat("hi")).expect(200);
    let events = answer.events();
    let error: Value = serde_json::from_str(&events.last().unwrap()["data"]).unwrap();
    assert_eq!((&events.last().unwrap()["event"][..], &error["type"]), ("error", &json!("error")));
}

#[test]
fn a_client_that_is_gone_ends_the_request_to_the_model() {
    let is_over = Arc::new(AtomicBool::new(false));
    let over = Arc::clone(&is_over);
    let model = Server::start(move |request: &Request, _, stream: &mut TcpStream| {
        if request.path.ends_with("/stream") {
            begin_stream(stream);
            while write_chunk(stream, &piece("more words ")).is_ok() {
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
        } else {
            // The end of the connection.
            let _ = stream.read(&mut [0; 1]);
        }
        over.store(true, Ordering::SeqCst);
    });
    let proxy = Proxy::start(&model.host(), "");
    for path in ["stream", "never"] {
        is_over.store(false, Ordering::SeqCst);
        let mut client = TcpStream::connect(proxy.running.url("proxy").trim_start_matches("http://")).unwrap();
        let body = chat("hi");
        let head = format!("POST /model/{path} HTTP/1.1\r\nHost: x\r\nx-layersift-auth: {}\r\n", proxy.token);
        write!(client, "{head}Content-Length: {}\r\n\r\n{body}", body.len()).unwrap();
        eventually("the request to the model", || (!model.requests_of(path).is_empty()).then_some(()));
        if path == "stream" {
            client.read_exact(&mut [0; 300]).unwrap();
        }
        drop(client);
        eventually("the end of the request to the model", || is_over.load(Ordering::SeqCst).then_some(()));
    }
}

#[test]
fn what_waits_is_not_delayed_more_than_it_must() {
    let model = Server::start(|_: &Request, _, stream: &mut TcpStream| {
        begin_stream(stream);
        write_chunk(stream, &piece("the first words are ")).unwrap();
        // Nothing follows until the client is gone.
        let _ = stream.read(&mut [0; 1]);
    });
    let proxy = Proxy::start(&model.host(), "");
    let mut client = TcpStream::connect(proxy.running.url("proxy").trim_start_matches("http://")).unwrap();
    let body = chat("hi");
    let head = format!("POST /model/v1/x HTTP/1.1\r\nHost: x\r\nx-layersift-auth: {}\r\n", proxy.token);
    write!(client, "{head}Content-Length: {}\r\n\r\n{body}", body.len()).unwrap();
    let mut seen = String::new();
    while !seen.contains("the first words are ") {
        let mut buffer = [0; 1024];
        let read = client.read(&mut buffer).unwrap();
        assert!(read > 0, "{seen}");
        seen.push_str(&String::from_utf8_lossy(&buffer[..read]));
    }
}

#[test]
fn nothing_of_a_prompt_or_a_key_is_kept() {
    let mark = "a-sentence-that-is-nowhere-else";
    let answer = format!("{mark} {}", token());
    let model = Server::answering(move |request, _| match &request.path[..] {
        "/base/json" => Stub::new(200, chat(&answer)).with("Content-Type", "application/json"),
        "/base/gone" => Stub::new(500, answer.clone()),
        _ => events(piece(&answer)),
    });
    let proxy = Proxy::start(&model.host(), "");
    for body in [chat(mark), chat(&token()), format!("{{{mark}"), String::new()] {
        for path in ["/json", "/stream", "/gone", &format!("/json?{mark}={}", token())] {
            proxy.post(path, body.clone());
        }
    }
    let metrics = Client::new(&proxy.running.url("health")).get("/metrics").expect(200).text();
    for line in ["envelope=\"proxy\",verdict=\"deny\"", "envelope=\"proxy-answer\"", "envelope=\"proxy-stream\""] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
    let Proxy { site, running, token: own, .. } = proxy;
    let (_, log) = running.stop();
    let log = serde_json::to_string(&log).unwrap();
    assert!(log.contains("/{upstream}/{*path}"), "the log has requests");
    let mut kept = vec![("metrics", metrics.into_bytes()), ("log", log.into_bytes())];
    kept.push(("store", std::fs::read(site.store()).unwrap()));
    for (name, bytes) in kept {
        for secret in [mark, &token(), KEY.trim_start_matches("Bearer "), &own] {
            assert!(memchr::memmem::find(&bytes, secret.as_bytes()).is_none(), "{secret} is in the {name}");
        }
    }
}
