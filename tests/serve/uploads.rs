//! Forms with files and escaped addresses, as they arrive at `POST /v1/prompts/check`, at Envoy's ext_authz and at the
//! proxy: none is a way past what a chat would be denied for.

use reqwest::Method;
use serde_json::json;

use crate::prompts::{RULE, token};
use crate::running::{Answer, Client, Running, Site};
use crate::support::server::{Answer as Stub, Server};

/// A service with a gate and a proxy to `model`.
struct Gate {
    running: Running,
    token: String,
    _site: Site,
}

impl Gate {
    fn start(model: &str) -> Gate {
        let site = Site::sqlite();
        let listen = "[listen]\napi = '127.0.0.1:0'\nproxy = '127.0.0.1:0'\n";
        let settings = format!("{listen}[prompts.upstreams.model]\nurl = 'http://{model}/base'\n");
        let running = Running::start(site.command(&settings));
        Gate { running, token: site.token(&["prompt"]), _site: site }
    }

    /// Sends a body the three ways: to the check, as Envoy does, and through the proxy.
    fn send(&self, method: &Method, path: &str, kind: &str, body: &[u8]) -> Vec<(&'static str, Answer)> {
        let ways = [("api", "/envoy"), ("proxy", "/model")];
        let mut answers: Vec<(&str, Answer)> = Vec::new();
        for (listener, prefix) in ways {
            let client = Client::new(&self.running.url(listener));
            let request = client.request(method.clone(), &format!("{prefix}{path}")).header("content-type", kind);
            let request = request.header("x-layersift-auth", format!("Bearer {}", self.token)).body(body.to_vec());
            answers.push((prefix, Answer::of(request.send().unwrap())));
        }
        if method == Method::POST {
            let client = Client::new(&self.running.url("api"));
            let request = client.request(Method::POST, "/v1/prompts/check").header("content-type", kind);
            let request = request.header("authorization", format!("Bearer {}", self.token)).body(body.to_vec());
            answers.push(("check", Answer::of(request.send().unwrap())));
        }
        answers
    }
}

const FORM: &str = "multipart/form-data; boundary=b";

/// A form with one field that says what the file is for, and one file.
fn form(name: &str, content: &[u8]) -> Vec<u8> {
    let mut body = b"--b\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\nassistants\r\n".to_vec();
    let head = format!("--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{name}\"\r\n\r\n");
    body.extend(head.into_bytes());
    body.extend(content);
    body.extend(b"\r\n--b--\r\n");
    body
}

/// A tar archive with one file.
fn archive(content: &[u8]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    builder.append_data(&mut header, "notes/readme.txt", content).unwrap();
    builder.into_inner().unwrap()
}

#[test]
fn uploads_are_read_and_go_on_as_they_came() {
    let model = Server::answering(|_, _| Stub::new(200, "{}").with("Content-Type", "application/json"));
    let gate = Gate::start(&model.host());
    let audio: Vec<u8> = (0..5000_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let ordinary = form("a.mp3", &audio);
    for (way, answer) in gate.send(&Method::POST, "/v1/audio/transcriptions", FORM, &ordinary) {
        assert_eq!(answer.status, 200, "{way}: {}", answer.text());
    }
    assert_eq!(model.requests().len(), 1);
    assert_eq!(model.requests()[0].body, ordinary);
    assert_eq!(model.requests()[0].header("content-type"), Some(FORM));
    let utf16: Vec<u8> = token().encode_utf16().flat_map(u16::to_le_bytes).collect();
    let text = format!("line\n{}\n", token());
    for body in [
        form("notes.txt", text.as_bytes()),
        form("notes.txt", &utf16),
        form("notes.tar", &archive(text.as_bytes())),
        form(&format!("{}.txt", token()), b"x"),
        form("batch.jsonl", format!("{}\n", json!({"body": {"input": token()}})).as_bytes()),
    ] {
        for (way, answer) in gate.send(&Method::POST, "/v1/files", FORM, &body) {
            assert_eq!(answer.status, 403, "{way}: {}", answer.text());
            assert!(answer.text().contains(RULE) && !answer.text().contains(&token()), "{way}: {}", answer.text());
        }
    }
    // What two readers would take apart in two ways, and what is cut.
    let cut = &ordinary[..ordinary.len() - 8];
    for (kind, body) in [(FORM, cut), ("multipart/form-data; boundary=other", &ordinary[..]), (FORM, b"--b\r\n")] {
        for (way, answer) in gate.send(&Method::POST, "/v1/files", kind, body) {
            // Asked directly, a body is what it looks like; nobody reads it by its type afterwards.
            assert!(answer.status == 403 || (way == "check" && kind != FORM), "{way}, {kind}: {}", answer.text());
        }
    }
    assert_eq!(model.requests().len(), 1);
}

#[test]
fn addresses_are_read_as_servers_read_them() {
    let model = Server::answering(|_, _| Stub::new(200, "{}").with("Content-Type", "application/json"));
    let gate = Gate::start(&model.host());
    let escaped: String = token().bytes().map(|byte| format!("%{byte:02X}")).collect();
    let twice = escaped.replace('%', "%25");
    for path in ["/v1/files/file-abc?limit=20&after=a%20b", "/v1/models/org%2Fname"] {
        for (way, answer) in gate.send(&Method::GET, path, "application/json", b"") {
            assert_eq!(answer.status, 200, "{way}: {path}: {}", answer.text());
        }
    }
    let count = model.requests().len();
    for secret in [token(), escaped, twice] {
        for path in
            [format!("/v1/models/x%20{secret}"), format!("/v1/files?q=x%3D{secret}&z"), format!("/v1/f?{secret}")]
        {
            for (way, answer) in gate.send(&Method::GET, &path, "application/json", b"") {
                assert_eq!(answer.status, 403, "{way}: {path}: {}", answer.text());
                assert!(!answer.text().contains(&token()) && !answer.text().contains(&secret), "{way}: {path}");
            }
        }
    }
    assert_eq!(model.requests().len(), count);
}
