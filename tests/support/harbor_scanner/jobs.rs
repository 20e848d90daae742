//! Harbor's jobservice: ten workers, each of which asks the adapter for a scan and polls until there is a report or an
//! error. `polling-and-errors.json`, `one-scan-seen-by-adapter.json` and `index-rescan-stop-sbom.json` have what it
//! does.

use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde::Serialize;

use super::adapter::{Outgoing, message, unexpected};
use super::go_json::{decode, field, object, text};
use super::state::{Call, Job, REPORT, Robot, Status};
use super::table::{self, Report};
use super::{Shared, registry};
use crate::support::server::Answer;

const SBOM: &str = "application/vnd.security.sbom.report+json; version=1.0";
const SPDX: &str = "application/spdx+json";

/// Seconds before the first poll, and between polls if the adapter does not say a number that fits.
const FIRST: u8 = 2;
const OTHERWISE: u8 = 5;

/// How a scan ended that has no report.
enum Failure {
    Stopped,
    /// What the job's log has.
    Error(String),
}

#[derive(Serialize)]
struct ScanRequest<'r> {
    registry: Registry<'r>,
    artifact: Artifact<'r>,
    enabled_capabilities: [Capability; 1],
}

#[derive(Serialize)]
struct Registry<'r> {
    url: &'r str,
    authorization: &'r str,
    insecure: bool,
}

#[derive(Serialize)]
struct Artifact<'r> {
    repository: &'r str,
    tag: &'r str,
    digest: &'r str,
    mime_type: &'r str,
    size: u64,
}

#[derive(Serialize)]
struct Capability {
    r#type: &'static str,
    produces_mime_types: [&'static str; 1],
    parameters: Option<Parameters>,
}

#[derive(Serialize)]
struct Parameters {
    sbom_media_types: [&'static str; 1],
}

/// Works on tasks until the stand-in ends.
pub fn work(shared: &Arc<Shared>) {
    loop {
        let job = {
            let mut state = shared.state();
            loop {
                if state.has_ended {
                    return;
                }
                if let Some(job) = state.queue.pop_front() {
                    state.working += 1;
                    break job;
                }
                state = shared.changed.wait(state).unwrap();
            }
        };
        for (digest, id) in &job.images {
            run(shared, &job, digest, id);
        }
        shared.state().working -= 1;
        shared.changed.notify_all();
    }
}

/// One scan, with a robot of its own.
fn run(shared: &Shared, job: &Job, digest: &str, id: &str) {
    let is_begun = shared.change(digest, id, job.is_sbom, |status, log| {
        // Whoever was stopped while it waited stays so.
        let is_pending = *status == Status::Pending;
        if is_pending {
            (*status, *log) = (Status::Running, None);
        }
        is_pending
    });
    if is_begun != Some(true) {
        return;
    }
    if let Some(report) = shared.state().reports.get_mut(digest).filter(|report| report.id == id) {
        report.started = Some(Timestamp::now());
    }
    let project = job.repository.split('/').next().unwrap().to_string();
    let robot = {
        let mut state = shared.state();
        let (uuid, secret) = (state.uuid(), format!("{:032x}", fastrand::u128(..)));
        let name = format!("robot${project}+hrbscan-{}-{uuid}", shared.setup.name);
        state.robots.insert(name.clone(), Robot { secret, project });
        name
    };
    let found = scan(shared, job, digest, id, &robot);
    let mut state = shared.state();
    state.robots.remove(&robot);
    let state = &mut *state;
    if job.is_sbom {
        // What was deleted or stopped meanwhile is not written.
        let Some(sbom) = state.sboms.get_mut(digest).filter(|sbom| sbom.status == Status::Running) else { return };
        match found.and_then(|body| decode(&body).map_err(failed_to_fetch)) {
            Ok(report) => (sbom.status, sbom.report) = (Status::Success, report),
            Err(Failure::Stopped) => sbom.status = Status::Stopped,
            Err(Failure::Error(log)) => (sbom.status, sbom.log) = (Status::Error, Some(log)),
        }
        return;
    }
    let mut lost = Vec::new();
    let stored = found.and_then(|body| {
        let report = table::read(&body).map_err(failed_to_fetch)?;
        lost.extend(faults(&report));
        let keys = state.table.convert(&report, &mut lost).map_err(|error| {
            let text = "Error when converting vulnerability report";
            Failure::Error(format!("handler failed at PostScan, report {id}, error {text}: {error}"))
        })?;
        Ok((report.summary, keys))
    });
    for text in lost {
        state.violation(digest, text);
    }
    let Some(report) = state.reports.get_mut(digest).filter(|report| report.id == id && report.status.is_open()) else {
        return;
    };
    report.ended = Some(Timestamp::now());
    match stored {
        Ok((summary, keys)) => (report.status, report.summary, report.rows) = (Status::Success, summary, keys),
        Err(Failure::Stopped) => report.status = Status::Stopped,
        Err(Failure::Error(log)) => (report.status, report.log) = (Status::Error, Some(log)),
    }
}

fn failed_to_fetch(error: String) -> Failure {
    Failure::Error(format!("scan job: fetch scan report, mimetype {REPORT}: {error}"))
}

/// What an adapter should not send, although Harbor takes it.
fn faults(report: &Report) -> Vec<String> {
    let mut faults = Vec::new();
    if report.is_empty_object {
        faults.push("an empty report is Success with nothing found".to_string());
    } else if report.summary["scanner"].is_null() || report.summary["generated_at"] == "" {
        faults.push("a report without scanner or generated_at".into());
    }
    let without = report.findings.iter().filter(|finding| finding.links.iter().all(String::is_empty)).count();
    if without > 0 {
        faults.push(format!("{without} findings without a link"));
    }
    let split = report.findings.iter().filter(|finding| {
        finding.links.iter().any(|link| link.contains('|')) || finding.cwe_ids.iter().any(|cwe| cwe.contains(','))
    });
    match split.count() {
        0 => {}
        count => faults.push(format!("{count} findings with a link or a CWE that is split")),
    }
    faults
}

/// The report's bytes.
fn scan(shared: &Shared, job: &Job, digest: &str, id: &str, robot: &str) -> Result<Vec<u8>, Failure> {
    let failed =
        |error: String| Failure::Error(format!("scan job: submit scan request: v1 client: submit scan: {error}"));
    let request = request(shared, job, digest, robot);
    let answer = call(shared, &request, digest).map_err(failed)?;
    if answer.status != 202 {
        told(shared, digest, &answer);
        return Err(failed(unexpected(&answer, 202)));
    }
    let scan = decode(&answer.body).and_then(|document| {
        let none = serde_json::Map::new();
        let fields = object(&document, "Go value", "v1.ScanResponse")?.unwrap_or(&none);
        text(field(fields, "id"), "Go struct field ScanResponse.id", "string")
    });
    let scan = scan.map_err(failed)?;
    if scan.is_empty() {
        return Err(failed_to_fetch("empty scan request ID".into()));
    }
    if !scan.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte)) {
        shared.state().violation(digest, format!("an id that does not fit into a path: {scan:?}"));
    }
    let media_type = if job.is_sbom { "?sbom_media_type=application%2Fspdx%2Bjson" } else { "" };
    let accept = if job.is_sbom { SBOM } else { REPORT };
    let path = format!("/api/v1/scan/{scan}/report{media_type}");
    let mut wait = FIRST;
    loop {
        pause(shared, digest, id, job.is_sbom, wait)?;
        let request = Outgoing { method: "GET", path: path.clone(), accept, body: None };
        let answer = call(shared, &request, digest).map_err(failed_to_fetch)?;
        match answer.status {
            200 => return Ok(answer.body),
            302 => wait = refresh(shared, digest, answer.header("refresh-after")),
            _ => {
                told(shared, digest, &answer);
                return Err(failed_to_fetch(unexpected(&answer, 200)));
            }
        }
    }
}

/// Seconds until the next poll: Go reads the header into eight bits.
fn refresh(shared: &Shared, digest: &str, value: Option<&str>) -> u8 {
    let seconds = value.and_then(|value| value.parse::<i8>().ok());
    let fault = match (seconds, value) {
        (Some(1..), _) => None,
        (Some(seconds), _) => Some(format!("Refresh-After: {seconds} is a loop without a pause")),
        (None, Some(text)) => Some(format!("Refresh-After: {text:?} is not read")),
        (None, None) => Some("302 without Refresh-After".into()),
    };
    if let Some(fault) = fault {
        shared.state().violation(digest, fault);
    }
    seconds.map_or(OTHERWISE, |seconds| u8::try_from(seconds).unwrap_or(0))
}

/// Waits as long as a real Harbor, in the stand-in's pace; polling ends if the scan was stopped meanwhile.
fn pause(shared: &Shared, digest: &str, id: &str, is_sbom: bool, seconds: u8) -> Result<(), Failure> {
    std::thread::sleep(shared.paced(u64::from(seconds)));
    let mut state = shared.state();
    if state.has_ended {
        return Err(Failure::Stopped);
    }
    if is_sbom {
        let is_open = state.sboms.get(digest).is_none_or(|sbom| sbom.status.is_open());
        return if is_open { Ok(()) } else { Err(Failure::Stopped) };
    }
    match state.reports.get_mut(digest) {
        Some(report) if report.id == id => {
            report.waits.push(seconds);
            if report.status.is_open() { Ok(()) } else { Err(Failure::Stopped) }
        }
        // An image that was deleted is polled for on.
        _ => Ok(()),
    }
}

/// Makes a call and notes it.
fn call(shared: &Shared, request: &Outgoing, digest: &str) -> Result<Answer, String> {
    let adapter = shared.state().adapter.clone().ok_or("no adapter is registered")?;
    let begun = Instant::now();
    let answer = adapter.call(request, shared.setup.limit);
    let took = begun.elapsed();
    let status = answer.as_ref().ok().map(|answer| answer.status);
    let mut state = shared.state();
    let path = request.path.clone();
    state.calls.push(Call { method: request.method, path, digest: digest.into(), status, took });
    if took >= shared.setup.limit {
        state.violation(digest, format!("{} {} took too long", request.method, request.path));
    }
    answer
}

/// Notes an error whose text the operator does not see.
fn told(shared: &Shared, digest: &str, answer: &Answer) {
    if message(&answer.body).unwrap_or_default().is_empty() {
        shared.state().violation(digest, format!("an answer {} without an error's message", answer.status));
    }
}

fn request(shared: &Shared, job: &Job, digest: &str, robot: &str) -> Outgoing {
    let wants_bearer = shared.metadata().is_ok_and(|metadata| metadata.wants_bearer());
    let mut state = shared.state();
    let authorization = match wants_bearer {
        true => format!("Bearer {}", registry::scanner_token(&mut state, &shared.setup, robot, &job.repository)),
        false => format!("Basic {}", STANDARD.encode(format!("{robot}:{}", state.robots[robot].secret))),
    };
    let image = &state.images[digest];
    let capability = match job.is_sbom {
        true => Capability {
            r#type: "sbom",
            produces_mime_types: [SBOM],
            parameters: Some(Parameters { sbom_media_types: [SPDX] }),
        },
        false => Capability { r#type: "vulnerability", produces_mime_types: [REPORT], parameters: None },
    };
    let body = ScanRequest {
        registry: Registry { url: &shared.url(), authorization: &authorization, insecure: false },
        artifact: Artifact {
            repository: &job.repository,
            tag: &job.tag,
            digest,
            mime_type: &image.media_type,
            size: image.size,
        },
        enabled_capabilities: [capability],
    };
    Outgoing {
        method: "POST",
        path: "/api/v1/scan".into(),
        accept: "application/vnd.scanner.adapter.scan.response+json; version=1.0",
        body: Some((
            serde_json::to_vec(&body).unwrap(),
            "application/vnd.scanner.adapter.scan.request+json; version=1.0",
        )),
    }
}

/// Waits until a condition holds for as long as a test may take.
pub fn wait_until(shared: &Shared, what: &str, is_so: impl Fn(&super::state::State) -> bool) {
    let begun = Instant::now();
    let mut state = shared.state();
    while !is_so(&state) {
        assert!(begun.elapsed() < shared.setup.patience, "still waiting for {what}: {:#?}", state.violations);
        state = shared.changed.wait_timeout(state, Duration::from_millis(50)).unwrap().0;
    }
}
