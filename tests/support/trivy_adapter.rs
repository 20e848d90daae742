//! A stand-in of a second scanner adapter, that answers as `harbor-scanner-trivy` does: 302 without `Refresh-After`
//! while it scans, errors as `{"error":{"message":…}}`, and capabilities for vulnerabilities and SBOMs.
//!
//! Source: `pkg/http/api/v1/handler.go` of goharbor/harbor-scanner-trivy.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use serde_json::{Value, json};

use super::server::{Answer, Request, Server, get};

const VULNERABILITIES: &str = "application/vnd.security.vulnerability.report; version=1.1";
const SBOM: &str = "application/vnd.security.sbom.report+json; version=1.0";

/// How it answers. A test may change it at any time.
#[derive(Clone, Debug, Default)]
pub struct Trivy {
    /// What it finds in each repository, such as `team/app`.
    pub findings: BTreeMap<String, Vec<Value>>,
    /// How often a scan is polled for before there is a report.
    pub polls: usize,
    /// Whether connections are closed without an answer.
    pub is_down: bool,
    /// How long it thinks before it answers.
    pub delay: Duration,
    /// Why scans fail.
    pub fails: Option<String>,
    /// Whether it has forgotten the scans that it was asked for.
    pub has_forgotten: bool,
    /// Whether it pulls the image's manifest first, and fails if it may not.
    pub pulls: bool,
    /// Whether it says that it makes SBOMs.
    pub makes_sboms: bool,
    scans: BTreeMap<String, Scan>,
}

#[derive(Clone, Debug)]
struct Scan {
    request: Value,
    polls: usize,
    error: Option<String>,
}

/// An adapter that is running.
pub struct TrivyAdapter {
    pub server: Server,
    state: Arc<Mutex<Trivy>>,
}

impl TrivyAdapter {
    /// One that polls twice for these findings, and makes SBOMs.
    pub fn start(findings: &[(&str, Vec<Value>)]) -> TrivyAdapter {
        let findings = findings.iter().map(|(name, found)| (name.to_string(), found.clone())).collect();
        let state = Trivy { findings, polls: 2, makes_sboms: true, ..Trivy::default() };
        let state = Arc::new(Mutex::new(state));
        let shared = Arc::clone(&state);
        let server = Server::start(move |request, _, stream| {
            let now = shared.lock().unwrap().clone();
            std::thread::sleep(now.delay);
            if !now.is_down {
                answer(&shared, request).write_to(stream);
            }
        });
        TrivyAdapter { server, state }
    }

    /// `http://HOST`.
    pub fn url(&self) -> String {
        format!("http://{}", self.server.host())
    }

    /// How it answers, to be changed.
    pub fn state(&self) -> MutexGuard<'_, Trivy> {
        self.state.lock().unwrap()
    }

    /// What it was asked to scan: the bodies.
    pub fn scans(&self) -> Vec<Value> {
        self.state().scans.values().map(|scan| scan.request.clone()).collect()
    }
}

/// A finding as Trivy reports it.
pub fn cve(id: &str, package: &str, version: &str, severity: &str) -> Value {
    json!({
        "id": id, "package": package, "version": version, "fix_version": format!("{version}-fixed"),
        "severity": severity, "status": "fixed", "description": format!("{id} in {package}"),
        "links": [format!("https://avd.aquasec.com/nvd/{}", id.to_lowercase())],
        "layer": { "digest": "sha256:0", "diff_id": "sha256:1" }, "cwe_ids": ["CWE-787"],
        "preferred_cvss": { "score_v3": 7.5, "score_v2": null, "vector_v3": "CVSS:3.1/AV:N", "vector_v2": "" },
        "vendor_attributes": { "CVSS": { "nvd": { "V3Score": 7.5, "V3Vector": "CVSS:3.1/AV:N" } } },
    })
}

fn error(status: u16, message: &str) -> Answer {
    let body = json!({ "error": { "message": message } });
    Answer::new(status, body.to_string()).with("Content-Type", "application/vnd.scanner.adapter.error; version=1.0")
}

fn answer(state: &Mutex<Trivy>, request: &Request) -> Answer {
    let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    match (request.method.as_str(), parts.as_slice()) {
        ("GET", ["api", "v1", "metadata"]) => metadata(state.lock().unwrap().makes_sboms),
        ("POST", ["api", "v1", "scan"]) => accept(state, request),
        ("GET", ["api", "v1", "scan", id, "report"]) => report(&mut state.lock().unwrap(), request, id, query),
        _ => Answer::new(404, "404 page not found\n"),
    }
}

fn metadata(makes_sboms: bool) -> Answer {
    let consumes =
        ["application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json"];
    let mut capabilities = vec![json!({
        "type": "vulnerability", "consumes_mime_types": consumes, "produces_mime_types": [VULNERABILITIES],
    })];
    capabilities.extend(makes_sboms.then(|| {
        json!({
            "type": "sbom", "consumes_mime_types": consumes, "produces_mime_types": [SBOM],
            "additional_attributes": {
                "sbom_media_types": ["application/spdx+json", "application/vnd.cyclonedx+json"],
            },
        })
    }));
    let body = json!({
        "scanner": { "name": "Trivy", "vendor": "Aqua Security", "version": "0.65.0" },
        "capabilities": capabilities,
        "properties": {
            "harbor.scanner-adapter/scanner-type": "os-package-vulnerability",
            "harbor.scanner-adapter/vulnerability-database-updated-at": "2026-11-28T00:00:00Z",
            "org.label-schema.version": "0.35.0", "env.SCANNER_TRIVY_SKIP_UPDATE": "false",
        },
    });
    let media_type = "application/vnd.scanner.adapter.metadata+json; version=1.0";
    Answer::new(200, body.to_string()).with("Content-Type", media_type)
}

fn accept(state: &Mutex<Trivy>, request: &Request) -> Answer {
    let asked: Value = match serde_json::from_slice(&request.body) {
        Ok(asked) => asked,
        Err(fault) => return error(400, &format!("unmarshalling scan request: {fault}")),
    };
    for capability in asked["enabled_capabilities"].as_array().into_iter().flatten() {
        match capability["type"].as_str() {
            _ if capability["produces_mime_types"].as_array().is_none_or(Vec::is_empty) => {
                return error(400, "\"enabled_capabilities.produces_mime_types\" is missing\"");
            }
            Some("sbom") if capability["parameters"]["sbom_media_types"].as_array().is_none_or(Vec::is_empty) => {
                return error(422, "missing SBOM media type");
            }
            Some("vulnerability" | "sbom") => {}
            _ => return error(422, "invalid scan type"),
        }
    }
    let places = [("registry", "url"), ("artifact", "repository"), ("artifact", "digest")];
    for (part, field) in places {
        if asked[part][field].as_str().is_none_or(str::is_empty) {
            return error(422, &format!("missing {part}.{field}"));
        }
    }
    let pulls = state.lock().unwrap().pulls;
    let refused = pulls.then(|| pull(&asked)).flatten();
    let mut state = state.lock().unwrap();
    let id = format!("{:024x}", state.scans.len() + 1);
    let error = state.fails.clone().or(refused);
    state.scans.insert(id.clone(), Scan { request: asked, polls: 0, error });
    let media_type = "application/vnd.scanner.adapter.scan.response+json; version=1.0";
    Answer::new(202, json!({ "id": id }).to_string()).with("Content-Type", media_type)
}

/// Why the image cannot be pulled with what was given.
fn pull(asked: &Value) -> Option<String> {
    let text = |part: &str, field: &str| asked[part][field].as_str().unwrap_or_default().to_string();
    let host = text("registry", "url").replace("http://", "");
    let path = format!("/v2/{}/manifests/{}", text("artifact", "repository"), text("artifact", "digest"));
    let answer = get(&host, &path, Some(&text("registry", "authorization")));
    (answer.status != 200).then(|| format!("running trivy wrapper: {}: {}", path, answer.status))
}

fn report(state: &mut Trivy, request: &Request, id: &str, query: &str) -> Answer {
    let accept = request.header("accept").unwrap_or_default();
    if ![VULNERABILITIES, SBOM].contains(&accept) {
        return error(415, &format!("unsupported media type: {accept:?}"));
    }
    if accept == SBOM && !query.contains("sbom_media_type=") {
        return error(400, "missing SBOM media type");
    }
    let (needed, has_forgotten) = (state.polls, state.has_forgotten);
    let findings = state.findings.clone();
    let Some(scan) = state.scans.get_mut(id).filter(|_| !has_forgotten) else {
        return error(404, &format!("cannot find scan job: {id}"));
    };
    scan.polls += 1;
    if scan.polls <= needed {
        return Answer::new(302, "").with("Location", &request.path);
    }
    if let Some(text) = &scan.error {
        return error(500, text);
    }
    let mut body = json!({
        "generated_at": "2026-11-28T20:00:00Z", "artifact": scan.request["artifact"],
        "scanner": { "name": "Trivy", "vendor": "Aqua Security", "version": "0.65.0" },
    });
    if accept == SBOM {
        body["vendor_attributes"] = json!({});
        body["media_type"] = "application/spdx+json".into();
        body["sbom"] = json!({ "spdxVersion": "SPDX-2.3", "name": scan.request["artifact"]["repository"] });
    } else {
        let found = findings.get(scan.request["artifact"]["repository"].as_str().unwrap_or_default());
        let found = found.cloned().unwrap_or_default();
        let order = ["Critical", "High", "Medium", "Low", "Unknown"];
        let has = |severity: &&str| found.iter().any(|finding| finding["severity"] == *severity);
        body["severity"] = order.into_iter().find(has).unwrap_or("Unknown").into();
        body["vulnerabilities"] = found.into();
    }
    Answer::new(200, body.to_string()).with("Content-Type", accept)
}
