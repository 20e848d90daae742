//! Harbor's interface of its own: listings with overviews, which `full_harbor` answers, and scans that are asked for
//! (`index-rescan-stop-sbom.json` and `one-scan-seen-by-client.json` of the recordings).

use serde_json::{Value, json};

use super::state::{Image, Job, Report, Sbom, State, Status};
use super::{Asked, Shared, registry::Caller};
use crate::support::harbor::{decoded, error, parameter};
use crate::support::server::{Answer, Request, get};

impl Shared {
    /// Answers a request.
    pub fn answer(&self, request: &Request) -> Answer {
        let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
        if path == "/service/token" {
            return self.token(request, query);
        }
        if let Some(path) = path.strip_prefix("/v2/") {
            return self.registry(request, path);
        }
        let parts: Vec<&str> = path.split('/').skip(1).collect();
        match (request.method.as_str(), parts.as_slice()) {
            (
                "POST",
                ["api", "v2.0", "projects", project, "repositories", name, "artifacts", reference, "scan", rest @ ..],
            ) => {
                let repository = format!("{project}/{}", decoded(&decoded(name)));
                match self.may_ask(request, project) {
                    Err(answer) => answer,
                    Ok(_) if matches!(rest, ["stop"]) => self.stop(&repository, reference),
                    Ok(name) => self.ask(&name, &repository, reference, &request.body),
                }
            }
            ("GET", ["api", "v2.0", "projects", project, "repositories", name, "artifacts", rest @ ..]) => {
                let listed = self.listed(request);
                let repository = format!("{project}/{}", decoded(&decoded(name)));
                match (listed.status, rest) {
                    (200, [digest, "additions", "vulnerabilities"]) => {
                        let state = self.state();
                        let digest = state.resolve(&repository, digest).unwrap_or_default();
                        Answer::new(200, state.vulnerabilities(&digest).to_string())
                    }
                    (200, _) => self.enriched(listed, &repository, query),
                    _ => listed,
                }
            }
            ("GET", ["api", "v2.0", "projects"]) => self.with_settings(self.listed(request)),
            ("GET", _) => self.listed(request),
            _ => error(404, "NOT_FOUND", &format!("path {path} was not found")),
        }
    }

    /// What the other stand-in answers.
    fn listed(&self, request: &Request) -> Answer {
        let path = request.path.replace("/additions/vulnerabilities", "");
        let answer = get(&self.harbor.host(), &path, request.header("authorization"));
        let is_own = |(name, _): &(String, String)| !["Connection", "Content-Length"].contains(&&name[..]);
        Answer { headers: answer.headers.into_iter().filter(is_own).collect(), ..answer }
    }

    /// A listing of projects, with what is set for them. `project-create.json` has the form.
    fn with_settings(&self, answer: Answer) -> Answer {
        let state = self.state();
        let mut document: Value = serde_json::from_slice(&answer.body).unwrap();
        for project in document.as_array_mut().into_iter().flatten() {
            let settings = project["name"].as_str().and_then(|name| state.settings.get(name));
            project["metadata"]["auto_scan"] = settings.is_some_and(|settings| settings.auto_scan).to_string().into();
        }
        Answer { body: document.to_string().into_bytes(), ..answer }
    }

    /// A listing or one artifact, with what Harbor knows besides.
    fn enriched(&self, answer: Answer, repository: &str, query: &str) -> Answer {
        let with_overview = parameter(query, "with_scan_overview").as_deref() == Some("true");
        let state = self.state();
        let mut document: Value = serde_json::from_slice(&answer.body).unwrap();
        let items = match &mut document {
            Value::Array(items) => items.iter_mut().collect(),
            one => vec![one],
        };
        for item in items {
            let Some(image) = item["digest"].as_str().and_then(|digest| state.images.get(digest)) else { continue };
            enrich(item, image, repository, &state, with_overview);
        }
        Answer { body: document.to_string().into_bytes(), ..answer }.with("Content-Type", "application/json")
    }

    /// The name of whoever may ask for scans in a project.
    fn may_ask(&self, request: &Request, project: &str) -> Result<String, Answer> {
        match self.caller(request) {
            Caller::Stranger | Caller::Token(_) => Err(error(401, "UNAUTHORIZED", "unauthorized")),
            Caller::Known(name) => {
                let is_members = {
                    let harbor = self.harbor.state();
                    harbor.accounts[&name].projects.as_ref().is_none_or(|projects| projects.contains(project))
                };
                match is_members && self.state().may_scan.contains(&name) {
                    true => Ok(name),
                    false => Err(error(403, "FORBIDDEN", "forbidden")),
                }
            }
            Caller::Scanner(..) => Err(error(403, "FORBIDDEN", "forbidden")),
        }
    }

    /// Asks for a scan by REST.
    pub fn ask(&self, who: &str, repository: &str, reference: &str, body: &[u8]) -> Answer {
        let kind = match serde_json::from_slice::<Value>(body).unwrap_or_default()["scan_type"].as_str() {
            None | Some("vulnerability") => "vulnerability",
            Some("sbom") => "sbom",
            Some(_) => {
                let text = "validation failure list:\nvalidation failure list:\nscan_type in body should be one of \
                            [vulnerability sbom]";
                return error(422, "UNPROCESSABLE_ENTITY", text);
            }
        };
        let found = {
            let state = self.state();
            match state.repositories.contains_key(repository) {
                false => Err(format!("repository {repository} not found")),
                true => state
                    .resolve(repository, reference)
                    .ok_or_else(|| format!("artifact {repository}:{reference} not found")),
            }
        };
        let digest = match found {
            Ok(digest) => digest,
            Err(text) => return error(404, "NOT_FOUND", &text),
        };
        self.state().asked.push((who.into(), repository.into(), digest.clone()));
        match self.begin(repository, &digest, kind) {
            Asked::Queued => Answer::new(202, ""),
            Asked::Busy(status) => error(409, "CONFLICT", &format!("a previous scan process is {status:?}")),
            Asked::Unsupported(media_type) => {
                let name = &self.setup.name;
                let text = format!("does not support scanning artifact with mime type {media_type}");
                error(400, "BAD_REQUEST", &format!("the configured scanner {name} {text}"))
            }
        }
    }

    /// Whether the scanner takes an image, as far as the metadata is known.
    pub fn is_scannable(&self, image: &Image) -> bool {
        let is_taken = self.metadata().is_ok_and(|metadata| metadata.consumes("vulnerability", &image.media_type));
        is_taken && image.kind() == "IMAGE"
    }

    /// Queues a scan of an image, or of each image of an index.
    pub fn begin(&self, repository: &str, digest: &str, kind: &str) -> Asked {
        let metadata = self.metadata();
        let mut state = self.state();
        let is_sbom = kind == "sbom";
        // As they were recorded, the images of an index are scanned from the last one to the first.
        let children: Vec<String> = state.scanned_with(digest).into_iter().rev().collect();
        let is_taken = |digest: &&String| {
            let image = &state.images[*digest];
            let consumes = metadata.as_ref().is_ok_and(|metadata| metadata.consumes(kind, &image.media_type));
            consumes && image.kind() == "IMAGE"
        };
        let children: Vec<String> = children.iter().filter(is_taken).cloned().collect();
        if children.is_empty() {
            return Asked::Unsupported(state.images[digest].media_type.clone());
        }
        for child in &children {
            let status = match is_sbom {
                true => state.sboms.get(child).map(|sbom| sbom.status),
                false => state.reports.get(child).map(|report| report.status),
            };
            if let Some(status) = status.filter(|status| status.is_open()) {
                return Asked::Busy(status);
            }
        }
        let mut images = Vec::new();
        for child in children {
            let id = state.uuid();
            if is_sbom {
                let sbom = Sbom { status: Status::Pending, report: Value::Null, log: None };
                state.sboms.insert(child.clone(), sbom);
            } else {
                // The old report is gone before the new one is there.
                state.reports.insert(child.clone(), Report::pending(id.clone()));
            }
            images.push((child, id));
        }
        let tag = if images.len() == 1 { state.newest_tag(repository, &images[0].0) } else { String::new() };
        state.queue.push_back(Job { repository: repository.into(), tag, images, is_sbom });
        drop(state);
        self.changed.notify_all();
        Asked::Queued
    }

    /// Stops a scan. The adapter is told nothing.
    pub fn stop(&self, repository: &str, reference: &str) -> Answer {
        let mut state = self.state();
        let Some(digest) = state.resolve(repository, reference) else {
            return error(404, "NOT_FOUND", &format!("artifact {repository}:{reference} not found"));
        };
        for child in state.scanned_with(&digest) {
            if let Some(report) = state.reports.get_mut(&child).filter(|report| report.status.is_open()) {
                (report.status, report.ended) = (Status::Stopped, Some(jiff::Timestamp::now()));
            }
        }
        Answer::new(202, "")
    }
}

fn enrich(item: &mut Value, image: &Image, repository: &str, state: &State, with_overview: bool) {
    let manifest: Value = serde_json::from_slice(&image.manifest).unwrap_or_default();
    let child = |entry: &Value| json!({ "child_digest": entry["digest"], "platform": entry["platform"], "urls": null });
    let children: Vec<Value> = manifest["manifests"].as_array().into_iter().flatten().map(child).collect();
    let media_type = if children.is_empty() { &image.config } else { &image.media_type };
    item["type"] = image.kind().into();
    item["size"] = image.size.into();
    item["media_type"] = media_type.as_str().into();
    item["manifest_media_type"] = image.media_type.as_str().into();
    item["repository_name"] = repository.into();
    item["references"] = if children.is_empty() { Value::Null } else { children.into() };
    item["accessories"] = Value::Null;
    if with_overview && let Some(overview) = state.overview(&image.digest) {
        item["scan_overview"] = json!({ super::state::REPORT: overview });
    }
}
