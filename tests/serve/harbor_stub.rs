//! A scanner adapter that answers by a script, as the one did that a real Harbor was recorded with.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::TcpStream;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use crate::images::{image, layer};
use crate::support::artifacts::Artifact;
use crate::support::server::{Answer, Request, Server};
use crate::support::testdata;
use serde_json::{Value, json};

/// A second of a recording is so long, where something takes too long for Harbor's limit of five.
pub const SECOND: Duration = Duration::from_millis(400);

const METADATA: &str = "application/vnd.scanner.adapter.metadata+json; version=1.0";

/// A recording of `testdata/recordings/harbor/`.
pub fn recording(name: &str) -> Value {
    let path = testdata("recordings/harbor").join(name);
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// An image of its own.
pub fn made_up(name: &str) -> Artifact {
    image("made-up", &[layer("etc/motd", name)])
}

/// An answer to a poll.
#[derive(Clone, Debug)]
pub struct Poll {
    pub answer: Answer,
    pub delay: Duration,
    /// How long the body takes.
    pub trickle: Duration,
}

impl Poll {
    pub fn of(answer: Answer) -> Poll {
        Poll { answer, delay: Duration::ZERO, trickle: Duration::ZERO }
    }

    /// 302 with `Refresh-After`.
    pub fn again(seconds: &str) -> Poll {
        Poll::of(Answer::new(302, "").with("Refresh-After", seconds))
    }

    /// As recordings write it.
    fn recorded(poll: &Value) -> Poll {
        let seconds = |name: &str| SECOND.mul_f64(poll[name].as_f64().unwrap_or_default());
        let status = poll["status"].as_u64().unwrap_or(302) as u16;
        let mut answer = Answer::new(status, poll["body"].as_str().unwrap_or_default());
        if let Some(refresh) = poll["refresh"].as_str() {
            answer = answer.with("Refresh-After", refresh);
        }
        answer.headers.extend(headers(&poll["headers"]));
        Poll { answer, delay: seconds("delay"), trickle: seconds("trickle") }
    }
}

fn headers(recorded: &Value) -> Vec<(String, String)> {
    let all = recorded.as_object().into_iter().flatten();
    all.map(|(name, value)| (name.clone(), value.as_str().unwrap().into())).collect()
}

/// What happens to a scan of one repository.
#[derive(Clone, Debug)]
pub struct Script {
    /// The answer to the request, which otherwise is 202 with an id.
    pub submit: Answer,
    pub submit_delay: Duration,
    pub id: Option<String>,
    /// Answers to polls before there is a report.
    pub polls: Vec<Poll>,
    /// Whether the last of them is given for ever.
    pub never_ends: bool,
    pub report: Vec<u8>,
}

impl Script {
    /// A scan that ends with this report at the first poll.
    pub fn report(report: impl Into<Vec<u8>>) -> Script {
        Script {
            submit: Answer::new(202, ""),
            submit_delay: Duration::ZERO,
            id: None,
            polls: Vec::new(),
            never_ends: false,
            report: report.into(),
        }
    }

    /// A scan with these findings.
    pub fn findings(findings: &[Value]) -> Script {
        Script::report(report_of(findings).to_string())
    }

    /// A scan that goes on for ever.
    pub fn endless() -> Script {
        Script { polls: vec![Poll::again("1")], never_ends: true, ..Script::report("{}") }
    }

    /// As recordings write it.
    pub fn recorded(answers: &Value) -> Script {
        let mut script = Script::report(default_report().to_string());
        let status = answers["submit_status"].as_u64().unwrap_or(202) as u16;
        script.submit = Answer::new(status, answers["submit_body"].as_str().unwrap_or("as usual"));
        script.submit.headers.extend(headers(&answers["submit_headers"]));
        script.submit_delay = SECOND.mul_f64(answers["submit_delay"].as_f64().unwrap_or_default());
        script.id = answers["id"].as_str().map(String::from);
        script.polls = answers["polls"].as_array().into_iter().flatten().map(Poll::recorded).collect();
        script
    }
}

/// A report with these findings.
pub fn report_of(findings: &[Value]) -> Value {
    json!({
        "generated_at": "2026-11-28T20:00:00Z",
        "scanner": { "name": "Layersift-Stub", "vendor": "Stub", "version": "0.0.1" },
        "severity": "High", "vulnerabilities": findings,
    })
}

/// The report with three findings that most recordings have.
pub fn default_report() -> Value {
    let recorded = recording("scanner/one-scan-seen-by-client.json");
    let shown = recorded["vulnerabilities_accept_1.1"]["answer"]["body"].as_str().unwrap().to_string();
    let shown: Value = serde_json::from_str(&shown).unwrap();
    let mut report = shown.as_object().unwrap().values().next().unwrap().clone();
    for finding in report["vulnerabilities"].as_array_mut().unwrap() {
        let finding = finding.as_object_mut().unwrap();
        for added in ["artifact_digests", "preferred_cvss", "status"] {
            finding.remove(added);
        }
        if finding["links"] == json!([""]) {
            finding.insert("links".into(), json!([]));
        }
    }
    report
}

/// Metadata with both capabilities, for both types of manifests.
pub fn metadata() -> Value {
    let consumes =
        ["application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json"];
    let capability = |kind: &str, report: &str| {
        let produces = [report];
        json!({ "type": kind, "consumes_mime_types": consumes, "produces_mime_types": produces })
    };
    json!({
        "scanner": { "name": "Layersift-Stub", "vendor": "Stub", "version": "0.0.1" },
        "capabilities": [
            capability("vulnerability", "application/vnd.security.vulnerability.report; version=1.1"),
            capability("sbom", "application/vnd.security.sbom.report+json; version=1.0"),
        ],
    })
}

/// What a stub does.
pub struct State {
    /// By repository. Others end with three findings.
    pub scripts: BTreeMap<String, Script>,
    pub metadata: Answer,
    pub metadata_delay: Duration,
    scans: BTreeMap<String, (String, usize)>,
}

/// An adapter that is running.
pub struct Stub {
    pub server: Server,
    state: Arc<Mutex<State>>,
}

impl Stub {
    pub fn start() -> Stub {
        let metadata = Answer::new(200, metadata().to_string()).with("Content-Type", METADATA);
        let (scripts, scans) = (BTreeMap::new(), BTreeMap::new());
        let state = Arc::new(Mutex::new(State { scripts, metadata, metadata_delay: Duration::ZERO, scans }));
        let shared = Arc::clone(&state);
        Stub { server: Server::start(move |request, _, stream| answer(&shared, request, stream)), state }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.server.host())
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// What happens to scans of a repository.
    pub fn script(&self, repository: &str, script: Script) {
        self.state().scripts.insert(repository.into(), script);
    }

    pub fn set_metadata(&self, metadata: &Value) {
        self.state().metadata = Answer::new(200, metadata.to_string());
    }

    /// The bodies of requests for scans of a repository.
    pub fn scans_of(&self, repository: &str) -> Vec<Value> {
        let posts = self.server.requests().into_iter().filter(|request| request.method == "POST");
        let bodies = posts.map(|request| serde_json::from_slice::<Value>(&request.body).unwrap());
        bodies.filter(|body| body["artifact"]["repository"] == repository).collect()
    }
}

fn answer(state: &Mutex<State>, request: &Request, stream: &mut TcpStream) {
    let error = |text: &str| Answer::new(404, json!({ "error": { "message": text } }).to_string());
    let path = request.path.split('?').next().unwrap();
    if path.ends_with("/api/v1/metadata") {
        let (answer, delay) = {
            let state = state.lock().unwrap();
            (state.metadata.clone(), state.metadata_delay)
        };
        std::thread::sleep(delay);
        return answer.write_to(stream);
    }
    if request.method == "POST" {
        let body: Value = serde_json::from_slice(&request.body).unwrap();
        let repository = body["artifact"]["repository"].as_str().unwrap().to_string();
        let (script, number) = {
            let state = state.lock().unwrap();
            let script = state.scripts.get(&repository).cloned();
            (script.unwrap_or_else(|| Script::recorded(&Value::Null)), state.scans.len() + 1)
        };
        std::thread::sleep(script.submit_delay);
        let id = script.id.clone().unwrap_or_else(|| format!("scan-{number:04}-{}", repository.replace('/', "-")));
        state.lock().unwrap().scans.insert(id.clone(), (repository, 0));
        let mut answer = script.submit.clone();
        if ["as usual", ""].contains(&&*String::from_utf8_lossy(&answer.body)) && answer.status < 300 {
            answer.body = json!({ "id": id }).to_string().into_bytes();
        }
        return answer.write_to(stream);
    }
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    let poll = match parts.as_slice() {
        ["api", "v1", "scan", id, .., "report"] => {
            let mut state = state.lock().unwrap();
            match state.scans.get_mut(*id) {
                None => Poll::of(error("no such scan")),
                Some((repository, polls)) => {
                    let (repository, number) = (repository.clone(), *polls);
                    *polls += 1;
                    let script = state.scripts.get(&repository).cloned();
                    let script = script.unwrap_or_else(|| Script::recorded(&Value::Null));
                    let last = script.polls.last().filter(|_| script.never_ends);
                    let report = || Poll::of(Answer::new(200, script.report.clone()));
                    script.polls.get(number).or(last).cloned().unwrap_or_else(report)
                }
            }
        }
        _ => Poll::of(error("no route")),
    };
    std::thread::sleep(poll.delay);
    let mut whole = Vec::new();
    poll.answer.write_to(&mut whole);
    if poll.trickle.is_zero() {
        let _ = stream.write_all(&whole);
        return;
    }
    let body = whole.split_off(whole.len() - poll.answer.body.len());
    let _ = stream.write_all(&whole);
    for byte in &body {
        let _ = stream.write_all(&[*byte]);
        std::thread::sleep(poll.trickle / body.len() as u32);
    }
}
