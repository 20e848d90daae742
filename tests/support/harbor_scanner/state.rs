//! What the stand-in has: images, projects, reports, findings, tasks, robots and tokens.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::adapter::Adapter;
use super::policy::Settings;
use super::table::{Key, Table, counted};

/// The media type of the reports that are asked for.
pub const REPORT: &str = "application/vnd.security.vulnerability.report; version=1.1";

/// How far a scan is, in Harbor's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Pending,
    Running,
    Success,
    Error,
    Stopped,
}

impl Status {
    /// Whether a scan goes on.
    pub fn is_open(self) -> bool {
        matches!(self, Status::Pending | Status::Running)
    }
}

/// A manifest or an index that was pushed.
#[derive(Clone, Debug)]
pub struct Image {
    pub digest: String,
    pub media_type: String,
    pub manifest: Arc<Vec<u8>>,
    /// The media type of its configuration.
    pub config: String,
    /// With everything below it.
    pub size: u64,
    /// The images of an index.
    pub children: Vec<String>,
}

impl Image {
    /// What Harbor calls it.
    pub fn kind(&self) -> &'static str {
        match self.config.as_str() {
            "application/vnd.oci.image.config.v1+json" | "application/vnd.docker.container.image.v1+json" => "IMAGE",
            "application/vnd.cncf.helm.config.v1+json" => "CHART",
            _ if !self.children.is_empty() => "IMAGE",
            _ => "UNKNOWN",
        }
    }
}

/// The scan of one image. Reports belong to a digest, whatever repositories it is in.
#[derive(Clone, Debug)]
pub struct Report {
    pub id: String,
    pub status: Status,
    /// What the report said besides its findings.
    pub summary: Value,
    /// Its rows of the table.
    pub rows: Vec<Key>,
    /// Why it failed, as the job's log has it.
    pub log: Option<String>,
    /// Seconds, as a real Harbor would count them, before each poll.
    pub waits: Vec<u8>,
    pub started: Option<Timestamp>,
    pub ended: Option<Timestamp>,
}

impl Report {
    pub fn pending(id: String) -> Report {
        let (rows, waits) = (Vec::new(), Vec::new());
        Report { id, status: Status::Pending, summary: Value::Null, rows, log: None, waits, started: None, ended: None }
    }

    /// Its overview.
    pub fn overview(&self, table: &Table) -> Value {
        let time = |time: Option<Timestamp>| match time {
            Some(time) => time.strftime("%Y-%m-%dT%H:%M:%S.000Z").to_string(),
            None => "0001-01-01T00:00:00.000Z".into(),
        };
        let mut overview = json!({
            "report_id": self.id, "scan_status": format!("{:?}", self.status),
            "start_time": time(self.started), "end_time": time(self.ended),
        });
        if !self.status.is_open() {
            let seconds = |time: Option<Timestamp>| time.map_or(0, Timestamp::as_second);
            overview["duration"] = (seconds(self.ended) - seconds(self.started)).into();
        }
        if self.status == Status::Success {
            let (severity, summary) = counted(&table.of(&self.rows));
            overview["complete_percent"] = 100.into();
            overview["severity"] = severity.into();
            overview["summary"] = summary;
            overview["scanner"] = self.summary["scanner"].clone();
        }
        overview
    }
}

/// A task of the jobservice.
#[derive(Clone, Debug)]
pub struct Job {
    /// With its project.
    pub repository: String,
    pub tag: String,
    /// What is scanned one by one, and the ids of the reports.
    pub images: Vec<(String, String)>,
    pub is_sbom: bool,
}

/// A call to the adapter.
#[derive(Clone, Debug)]
pub struct Call {
    pub method: &'static str,
    pub path: String,
    /// The digest that it is about.
    pub digest: String,
    /// The answer's status; `None` where there was no whole answer in time.
    pub status: Option<u16>,
    pub took: Duration,
}

/// A robot of one task.
#[derive(Clone, Debug)]
pub struct Robot {
    pub secret: String,
    pub project: String,
}

/// What a token opens, and until when.
#[derive(Clone, Debug)]
pub struct Grant {
    pub repositories: BTreeSet<String>,
    /// A scanner's token opens all of its project, and what is refused to others.
    pub scanner_of: Option<String>,
    pub until: Instant,
}

/// An SBOM that was stored, or how far its scan is.
#[derive(Clone, Debug)]
pub struct Sbom {
    pub status: Status,
    pub report: Value,
    pub log: Option<String>,
}

/// Everything.
#[derive(Default)]
pub struct State {
    pub adapter: Option<Adapter>,
    pub settings: BTreeMap<String, Settings>,
    pub images: BTreeMap<String, Image>,
    pub blobs: BTreeMap<String, Arc<Vec<u8>>>,
    /// Digests and their tags, the newest last, by the repository with its project.
    pub repositories: BTreeMap<String, Vec<(String, Vec<String>)>>,
    pub reports: BTreeMap<String, Report>,
    pub sboms: BTreeMap<String, Sbom>,
    pub table: Table,
    pub queue: VecDeque<Job>,
    pub working: usize,
    pub robots: BTreeMap<String, Robot>,
    pub tokens: BTreeMap<String, Grant>,
    /// Robots of the operator that may ask for scans.
    pub may_scan: BTreeSet<String>,
    pub calls: Vec<Call>,
    pub violations: Vec<String>,
    /// What was asked to be scanned, by whom: each with repository and digest.
    pub asked: Vec<(String, String, String)>,
    pub scans_all: bool,
    pub next: u64,
    pub has_ended: bool,
}

impl State {
    /// Numbers that do not come again.
    pub fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// An id like those of Harbor.
    pub fn uuid(&mut self) -> String {
        let number = self.number();
        format!("{number:08x}-eb6c-11f1-9f48-c2c65cd2b90f")
    }

    /// The digest in a repository that a tag or a digest means.
    pub fn resolve(&self, repository: &str, reference: &str) -> Option<String> {
        let artifacts = self.repositories.get(repository)?;
        let is_it =
            |(digest, tags): &&(String, Vec<String>)| digest == reference || tags.iter().any(|tag| tag == reference);
        artifacts.iter().find(is_it).map(|(digest, _)| digest.clone())
    }

    /// The newest tag, or nothing.
    pub fn newest_tag(&self, repository: &str, digest: &str) -> String {
        let artifacts = self.repositories.get(repository).into_iter().flatten();
        let mut tags = artifacts.filter(|(known, _)| known == digest).filter_map(|(_, tags)| tags.last());
        tags.next().cloned().unwrap_or_default()
    }

    /// An image, or those of an index.
    pub fn scanned_with(&self, digest: &str) -> Vec<String> {
        match self.images.get(digest) {
            Some(image) if !image.children.is_empty() => image.children.clone(),
            _ => vec![digest.to_string()],
        }
    }

    /// The overview of an image or an index, if there is one.
    pub fn overview(&self, digest: &str) -> Option<Value> {
        let reports: Vec<&Report> =
            self.scanned_with(digest).iter().filter_map(|child| self.reports.get(child)).collect();
        match reports.as_slice() {
            [] => None,
            [one] => Some(one.overview(&self.table)),
            all => Some(self.merged(all)),
        }
    }

    fn merged(&self, reports: &[&Report]) -> Value {
        use base64::Engine as _;
        let ids: Vec<&str> = reports.iter().map(|report| &report.id[..]).collect();
        let id = base64::engine::general_purpose::STANDARD.encode(ids.join("|"));
        // The first of these that any has is how far all of them are.
        let order = [Status::Running, Status::Pending, Status::Error, Status::Stopped, Status::Success];
        let has = |status: &Status| reports.iter().any(|report| report.status == *status);
        let status = order.into_iter().find(has).unwrap();
        let mut rows: Vec<Key> = reports.iter().flat_map(|report| report.rows.clone()).collect();
        rows.sort();
        rows.dedup();
        let started = reports.iter().filter_map(|report| report.started).min();
        let ended = reports.iter().filter_map(|report| report.ended).max().filter(|_| !status.is_open());
        let merged = Report { id, status, rows, started, ended, ..reports[0].clone() };
        merged.overview(&self.table)
    }

    /// What Harbor's page lists for an image or an index; `{}` where there is no report.
    pub fn vulnerabilities(&self, digest: &str) -> Value {
        let children = self.scanned_with(digest);
        let done = |digest: &&String| self.reports.get(*digest).is_some_and(|report| report.status == Status::Success);
        let done: Vec<&String> = children.iter().filter(done).collect();
        if done.len() < children.len() {
            return json!({});
        }
        let mut list = self.reports[done[0]].summary.clone();
        let keys = done.iter().flat_map(|digest| &self.reports[*digest].rows);
        let shown = self.table.of(keys).into_iter().map(|row| {
            let has = |digest: &&&String| done.len() == 1 || self.reports[**digest].rows.contains(&row.key);
            let digests: Vec<String> = done.iter().filter(has).map(|digest| digest.to_string()).collect();
            row.shown(&digests)
        });
        let shown: Vec<Value> = shown.collect();
        // Harbor keeps no empty list of its own: it shows what the report had.
        list["vulnerabilities"] = shown.into();
        json!({ REPORT: list })
    }

    /// An entry for the reader of a failed test.
    pub fn violation(&mut self, about: &str, text: impl Into<String>) {
        self.violations.push(format!("{about}: {}", text.into()));
    }
}
