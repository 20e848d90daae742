//! GitLab's report of container scanning, schema 15: the security tab of a pipeline and a merge request.
//!
//! GitLab shows descriptions and solutions as Markdown; what is from the image stands in `details`, as text. It tells
//! two findings apart by image, package and identifier; the package is the file here, because what leaks is a file.
//! What was not read is a finding, too: GitLab shows no messages of a scanner beside its findings.

use std::collections::HashMap;
use std::io::{self, Write};

use jiff::Timestamp;
use layersift_model::{Finding, ImageGap, ImageReport, RuleInfo, Severity};
use serde::{Serialize, Serializer};
use serde_json::{Map, Value, json};

use crate::exchange::{self, PlaceKeys};
use crate::terminal::{clean, plural};
use crate::{RenderOptions, markdown};

/// The version of the schema.
const VERSION: &str = "15.0.7";

/// The most characters of a name and of a place in GitLab.
const NAME: usize = 255;

/// Gaps that one finding names; more are counted.
const GAPS: usize = 50;

/// Writes one report for all images.
pub(crate) fn render(reports: &[ImageReport], _: &RenderOptions, out: &mut dyn Write) -> io::Result<()> {
    let report = Report { scan: scan(reports), version: VERSION, vulnerabilities: Vulnerabilities(reports) };
    layersift_model::json_output::write_pretty(&mut *out, &report)?;
    writeln!(out)
}

#[derive(Serialize)]
struct Report<'r> {
    version: &'static str,
    scan: Value,
    vulnerabilities: Vulnerabilities<'r>,
}

/// The findings, each made as it is written.
struct Vulnerabilities<'r>(&'r [ImageReport]);

impl Serialize for Vulnerabilities<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().flat_map(|report| {
            let (mut keys, mut places) = (PlaceKeys::default(), HashMap::new());
            let image = exchange::uuid(std::slice::from_ref(report), "gitlab");
            let counted = report.findings.iter().filter(|finding| finding.counts());
            let unread = (!report.gaps.is_empty()).then(|| incomplete(report, &image));
            unread.into_iter().chain(counted.map(move |finding| {
                let (hash, number) = keys.next(finding);
                let place = distinct(&mut places, finding);
                vulnerability(report, finding, format!("{image}-{hash}-{number}"), place)
            }))
        }))
    }
}

fn scan(reports: &[ImageReport]) -> Value {
    let started = reports.iter().filter_map(|report| report.scanned_at).min();
    let milliseconds = reports.iter().filter_map(|report| report.milliseconds).max().unwrap_or(0);
    let ended = started.and_then(|at| {
        let milliseconds = i64::try_from(milliseconds).ok()?.checked_add(at.as_millisecond())?;
        Timestamp::from_millisecond(milliseconds).ok()
    });
    let version = reports.first().map(|report| exchange::name(&report.tool.version)).unwrap_or_default();
    let version = if version.is_empty() { "unknown".into() } else { version };
    let tool = json!({ "id": "layersift", "name": "Layersift", "version": version, "vendor": { "name": "Layersift" } });
    let is_complete = reports.iter().all(|report| report.gaps.is_empty() && report.judgement.is_some());
    json!({
        "analyzer": tool,
        "scanner": tool,
        "type": "container_scanning",
        "start_time": time(started),
        "end_time": time(ended.or(started)),
        "status": if is_complete { "success" } else { "failure" },
        "messages": reports.iter().flat_map(messages).collect::<Vec<_>>(),
    })
}

/// The verdict, and what is left out.
fn messages(report: &ImageReport) -> Vec<Value> {
    let verdict = report.verdict().name();
    let image = exchange::image_name(report);
    let text = format!("{image}, {}: {verdict}: {}", exchange::platform(report), exchange::why(report));
    let level = if report.gaps.is_empty() { "info" } else { "warn" };
    let mut messages = vec![json!({ "level": level, "value": text })];
    match report.findings.iter().filter(|finding| !finding.counts()).count() as u64 {
        0 => {}
        exempt => {
            let text =
                format!("{image}: {} that are allowed or in the baseline are left out", plural(exempt, "finding"));
            messages.push(json!({ "level": "info", "value": text }));
        }
    }
    if !exchange::has_own_key(report) {
        messages.push(json!({ "level": "info", "value": format!("fingerprints: {}", exchange::NO_FINGERPRINTS) }));
    }
    messages
}

/// A time without a zone, which is UTC. The schema requires one: a reproducible report has the first second of 1970.
fn time(at: Option<Timestamp>) -> String {
    at.unwrap_or(Timestamp::UNIX_EPOCH).strftime("%Y-%m-%dT%H:%M:%S").to_string()
}

/// The place of the finding, numbered where a rule found more than one thing there.
fn distinct(places: &mut HashMap<(String, String), usize>, finding: &Finding) -> String {
    let place = clean(&exchange::place(finding), NAME - 10);
    let number = places.entry((finding.rule.id.clone(), place.clone())).or_default();
    *number += 1;
    if *number == 1 { place } else { format!("{place} ({number})") }
}

fn vulnerability(report: &ImageReport, finding: &Finding, id: String, place: String) -> Value {
    let rule = &finding.rule;
    let links = links(rule);
    let mut found = json!({
        "id": id,
        "name": clean(&exchange::title(finding), NAME),
        "description": markdown::help(rule),
        "severity": severity(finding.severity),
        "identifiers": [{
            "type": "layersift_rule",
            "name": clean(&rule.id, NAME),
            "value": clean(&rule.id, NAME),
        }],
        "links": links,
        "location": location(report, &place),
        "details": details(report, finding),
    });
    if let (Value::Object(fields), false) = (&mut found, rule.fix.trim().is_empty()) {
        fields.insert("solution".into(), markdown::prose(&rule.fix).into());
    }
    found
}

fn links(rule: &RuleInfo) -> Vec<Value> {
    rule.references.iter().filter(|uri| markdown::is_link(uri)).map(|uri| json!({ "url": uri })).collect()
}

fn location(report: &ImageReport, place: &str) -> Value {
    json!({
        "dependency": { "package": { "name": place }, "version": "" },
        "operating_system": exchange::platform(report),
        "image": clean(&exchange::image_name(report), NAME),
    })
}

/// What is known of the finding, as text that GitLab does not interpret.
fn details(report: &ImageReport, finding: &Finding) -> Value {
    let mut details = Map::new();
    let mut add = |field: &str, name: &str, value: Option<String>| {
        if let Some(value) = value {
            details.insert(field.into(), json!({ "name": name, "type": "code", "value": value }));
        }
    };
    let file = finding.file();
    let digest = file.and_then(|file| file.layer.digest.as_ref()).map(ToString::to_string);
    let step = finding.step.as_ref().map(|step| format!("{}:{}", exchange::name(&step.file), step.line));
    add("place", "Place", Some(exchange::place_and_line(finding)));
    add("secret", "Secret", finding.secret.as_ref().map(|secret| exchange::name(&secret.masked)));
    add("fingerprint", "Fingerprint", exchange::fingerprint(report, finding).map(exchange::name));
    add("layer", "Layer", file.map(|file| exchange::layer(&file.layer)));
    add("layer_digest", "Digest of the layer", digest);
    add("state", "State", Some(file.map_or_else(|| finding.state().name().into(), exchange::fate)));
    add("origin", "From", finding.origin.map(|origin| origin.name().into()));
    add("instruction", "Instruction", step);
    add("note", "Note", finding.note.as_deref().map(exchange::sentence));
    add("verdict", "Fails the policy", Some(if exchange::fails(report, finding) { "yes" } else { "no" }.into()));
    Value::Object(details)
}

/// The finding that not everything was read.
fn incomplete(report: &ImageReport, image: &str) -> Value {
    let mut gaps: Vec<Value> = report.gaps.iter().take(GAPS).map(gap).collect();
    if let Some(more) = report.gaps.len().checked_sub(GAPS).filter(|more| *more > 0) {
        gaps.push(json!({ "type": "text", "value": format!("and {more} more") }));
    }
    json!({
        "id": format!("{image}-incomplete"),
        "name": "Not everything in the image was read",
        "description": "Bytes of the image could not be scanned, so nothing is known about them.",
        "severity": "Unknown",
        "solution": "See the reason of each gap; scan again with a complete image.",
        "identifiers": [{ "type": "layersift_rule", "name": "layersift.incomplete", "value": "layersift.incomplete" }],
        "links": [],
        "location": location(report, "the image as a whole"),
        "details": { "gaps": { "name": "Gaps", "type": "list", "items": gaps } },
    })
}

fn gap(gap: &ImageGap) -> Value {
    json!({ "type": "code", "value": exchange::gap(gap) })
}

fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Critical => "Critical",
        Severity::High => "High",
        Severity::Medium => "Medium",
        Severity::Low => "Low",
        Severity::Info => "Info",
    }
}
