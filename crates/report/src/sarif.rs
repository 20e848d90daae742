//! SARIF 2.1.0, for code scanning: a run for each image.
//!
//! Source: OASIS, "Static Analysis Results Interchange Format (SARIF) Version 2.1.0". GitHub reads a part of it: the
//! level, the first location, `security-severity` of the rule and `primaryLocationLineHash`.
//!
//! Gaps are notifications of the run and also results, because most viewers only show results.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Write};

use layersift_model::{
    Digest, FileLocation, Finding, GapReason, ImageGap, ImageReport, Location, RuleInfo, Severity, Verdict,
};
use serde::{Serialize, Serializer};
use serde_json::{Map, Value, json};

use crate::exchange::{self, MEMBER, PlaceKeys};
use crate::terminal::{clean, plural};
use crate::{RenderOptions, markdown};

const SCHEMA: &str = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json";

/// The rule of results that say what was not read.
const INCOMPLETE: &str = "layersift.incomplete";

/// What URIs of files in the image are relative to.
const ROOT: &str = "IMAGE_ROOT";

/// What URIs of documents and layers are relative to: an OCI layout of the image.
const LAYOUT: &str = "OCI_LAYOUT";

/// Gaps of one reason that a result names; more are counted.
const GAPS: usize = 20;

/// Writes a log with a run for each report.
pub(crate) fn render(reports: &[ImageReport], _: &RenderOptions, out: &mut dyn Write) -> io::Result<()> {
    let log = Log { schema: SCHEMA, version: "2.1.0", runs: reports.iter().map(Run::new).collect() };
    layersift_model::json_output::write_pretty(&mut *out, &log)?;
    writeln!(out)
}

#[derive(Serialize)]
struct Log<'r> {
    #[serde(rename = "$schema")]
    schema: &'static str,
    version: &'static str,
    runs: Vec<Run<'r>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Run<'r> {
    tool: Value,
    automation_details: Value,
    invocations: Value,
    original_uri_base_ids: Value,
    artifacts: Vec<Value>,
    results: Results<'r>,
    properties: Value,
}

/// The results, each made as it is written: a report may have a hundred thousand.
struct Results<'r> {
    report: &'r ImageReport,
    rules: HashMap<&'r str, usize>,
}

impl Serialize for Results<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut keys = PlaceKeys::default();
        let gaps = gaps_by_reason(self.report);
        let unread = gaps.iter().map(|(reason, gaps)| self.incomplete(*reason, gaps));
        serializer.collect_seq(self.report.findings.iter().map(|finding| self.result(finding, &mut keys)).chain(unread))
    }
}

impl<'r> Run<'r> {
    fn new(report: &'r ImageReport) -> Run<'r> {
        let rules: BTreeMap<&str, &RuleInfo> =
            report.findings.iter().map(|finding| (&finding.rule.id[..], &*finding.rule)).collect();
        let indexes = rules.keys().enumerate().map(|(index, id)| (*id, index)).collect();
        let mut descriptors: Vec<Value> = rules.into_values().map(rule).collect();
        if !report.gaps.is_empty() {
            descriptors.push(incomplete_rule());
        }
        Run {
            tool: json!({ "driver": driver(report, descriptors) }),
            // GitHub takes one run of a category from a file.
            automation_details: json!({
                "id": format!("layersift/{}/{}/", exchange::image_name(report), exchange::platform(report))
            }),
            invocations: json!([invocation(report)]),
            original_uri_base_ids: json!({
                ROOT: { "description": { "text": "the file system of the image, with the files of every layer" } },
                LAYOUT: { "description": { "text": "an OCI layout of the image" } },
            }),
            artifacts: artifacts(report),
            results: Results { report, rules: indexes },
            properties: properties(report),
        }
    }
}

fn driver(report: &ImageReport, rules: Vec<Value>) -> Value {
    let mut driver = json!({
        "name": "Layersift",
        "rules": rules,
        "properties": {
            "ruleset": exchange::name(&report.tool.ruleset),
            "engine": exchange::name(&report.tool.engine),
        },
    });
    if !report.tool.version.is_empty() {
        set(&mut driver, "version", exchange::name(&report.tool.version));
    }
    driver
}

/// What is said of the image as a whole.
fn properties(report: &ImageReport) -> Value {
    let mut properties = json!({
        "verdict": report.verdict().name(),
        "why": exchange::why(report),
        "image": exchange::image_name(report),
        "platform": exchange::platform(report),
        "manifestDigest": report.manifest_digest,
        "configDigest": report.config_digest,
        "notes": report.notes.iter().map(|note| exchange::sentence(note)).collect::<Vec<_>>(),
        "policyDigest": report.judgement.as_ref().and_then(|judgement| judgement.policy.digest.clone()),
        "fingerprintKey": report.tool.fingerprint_key.as_deref().map(exchange::name),
    });
    if !exchange::has_own_key(report) {
        set(&mut properties, "fingerprints", exchange::NO_FINGERPRINTS);
    }
    properties
}

fn invocation(report: &ImageReport) -> Value {
    let mut invocation = json!({
        "executionSuccessful": report.gaps.is_empty() && report.judgement.is_some(),
        "exitCode": report.verdict().exit_code(),
        "exitCodeDescription": format!("{}: {}", report.verdict().name(), exchange::why(report)),
        "toolExecutionNotifications": report.gaps.iter().map(notification).collect::<Vec<_>>(),
    });
    if let Some(at) = report.scanned_at {
        set(&mut invocation, "startTimeUtc", at.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string());
    }
    invocation
}

fn notification(gap: &ImageGap) -> Value {
    json!({
        "descriptor": { "id": gap.gap.reason.name() },
        "level": "error",
        "message": { "text": message(&exchange::gap(gap)) },
    })
}

/// The documents and layers of the image, with their hashes.
fn artifacts(report: &ImageReport) -> Vec<Value> {
    let document = |digest: &Digest, text: &str| {
        json!({
            "location": in_layout(Some(digest)),
            "description": { "text": text },
            "hashes": { hash_name(digest): digest.hex() },
        })
    };
    let mut artifacts = Vec::new();
    artifacts.extend(report.manifest_digest.as_ref().map(|digest| document(digest, "manifest")));
    artifacts.extend(report.config_digest.as_ref().map(|digest| document(digest, "configuration")));
    for layer in &report.layers {
        let instruction = layer.created_by.as_deref().map(exchange::sentence).unwrap_or_default();
        let Some(digest) = &layer.digest else { continue };
        let mut artifact = document(digest, message(&format!("layer {}: {instruction}", layer.index)).trim());
        let properties = json!({
            "diffId": layer.diff_id,
            "isRead": layer.is_read,
            "origin": layer.origin.map(layersift_model::LayerOrigin::name),
        });
        set(&mut artifact, "properties", properties);
        artifacts.push(artifact);
    }
    artifacts
}

/// The name of a hash algorithm in the registry that SARIF refers to.
fn hash_name(digest: &Digest) -> &'static str {
    match digest.algorithm() {
        layersift_model::Algorithm::Sha256 => "sha-256",
        layersift_model::Algorithm::Sha512 => "sha-512",
    }
}

fn rule(rule: &RuleInfo) -> Value {
    let title = message(&clean(&rule.title, 200));
    let title = if title.is_empty() { clean(&rule.id, 200) } else { title };
    let mut descriptor = json!({
        "id": id(rule),
        "shortDescription": { "text": title },
        "fullDescription": { "text": message(&exchange::sentence(&rule.what)) },
        "help": {
            "text": message(&clean(&format!("{} {} {}", rule.what, rule.risk, rule.fix), 3_000)),
            "markdown": markdown::help(rule),
        },
        "defaultConfiguration": { "level": level(rule.severity) },
        "properties": {
            "security-severity": score(rule.severity),
            "precision": rule.confidence.name(),
            "tags": ["security", "container-image"],
        },
    });
    if let Some(uri) = rule.references.iter().find(|uri| markdown::is_link(uri)) {
        set(&mut descriptor, "helpUri", uri.clone());
    }
    descriptor
}

/// The id of a rule, which findings refer to.
fn id(rule: &RuleInfo) -> String {
    exchange::name(&rule.id)
}

fn incomplete_rule() -> Value {
    json!({
        "id": INCOMPLETE,
        "shortDescription": { "text": "Not everything was read" },
        "fullDescription": { "text": "Bytes of the image could not be scanned, so nothing is known about them." },
        "help": {
            "text": "Bytes of the image could not be scanned, so nothing is known about them. \
                     See the reason of each gap; scan again with a complete image.",
            "markdown": "Bytes of the image could not be scanned, so nothing is known about them.\n\n\
                         **Fix**: see the reason of each gap; scan again with a complete image.",
        },
        "defaultConfiguration": { "level": "error" },
        "properties": { "security-severity": score(Severity::High), "tags": ["security", "container-image"] },
    })
}

fn gaps_by_reason(report: &ImageReport) -> BTreeMap<GapReason, Vec<&ImageGap>> {
    let mut by_reason = BTreeMap::<GapReason, Vec<&ImageGap>>::new();
    for gap in &report.gaps {
        by_reason.entry(gap.gap.reason).or_default().push(gap);
    }
    by_reason
}

impl Results<'_> {
    fn result(&self, finding: &Finding, keys: &mut PlaceKeys) -> Value {
        let report = self.report;
        let (hash, number) = keys.next(finding);
        let mut fingerprints = Map::new();
        fingerprints.insert("primaryLocationLineHash".into(), format!("{hash}:{number}").into());
        if let Some(fingerprint) = exchange::fingerprint(report, finding) {
            fingerprints.insert("secretFingerprint/v1".into(), clean(fingerprint, 64).into());
        }
        let mut result = json!({
            "ruleId": id(&finding.rule),
            "ruleIndex": self.rules.get(&finding.rule.id[..]),
            "level": level(finding.severity),
            "message": { "text": message(&exchange::summary(finding)) },
            "partialFingerprints": fingerprints,
            "properties": {
                "severity": finding.severity.name(),
                "confidence": finding.rule.confidence.name(),
                "state": finding.state().name(),
                "origin": finding.origin.map(layersift_model::LayerOrigin::name),
                "fails": exchange::fails(report, finding),
            },
        });
        let here = location(report, finding);
        match dockerfile(finding) {
            Some(mut line) => {
                copy(&here, &mut line, "logicalLocations");
                set(&mut result, "locations", json!([line]));
                set(&mut result, "relatedLocations", json!([here]));
            }
            None => set(&mut result, "locations", json!([here])),
        }
        if let Some(allowed) = &finding.allowed {
            let suppression = json!({
                "kind": "external",
                "status": "accepted",
                "justification": exchange::sentence(&allowed.reason),
                "properties": { "expires": allowed.expires.to_string() },
            });
            set(&mut result, "suppressions", json!([suppression]));
        }
        if report.judgement.as_ref().is_some_and(|judgement| judgement.policy.baseline.is_some()) {
            set(&mut result, "baselineState", if finding.baseline { "unchanged" } else { "new" });
        }
        result
    }

    fn incomplete(&self, reason: GapReason, gaps: &[&ImageGap]) -> Value {
        let first: Vec<String> = gaps.iter().take(GAPS).map(|gap| exchange::gap(gap)).collect();
        let more = match gaps.len().saturating_sub(GAPS) {
            0 => String::new(),
            more => format!("; and {more} more"),
        };
        let count = plural(gaps.len() as u64, "gap");
        let manifest = in_layout(self.report.manifest_digest.as_ref());
        json!({
            "ruleId": INCOMPLETE,
            "ruleIndex": self.rules.len(),
            "level": "error",
            "message": { "text": message(&format!("Not everything was read, {count}: {}{more}", first.join("; "))) },
            "partialFingerprints": { "primaryLocationLineHash": format!("{}:1", reason.name()) },
            "locations": [{ "physicalLocation": { "artifactLocation": manifest } }],
            "properties": { "fails": self.report.verdict() != Verdict::Pass },
        })
    }
}

/// The line of the Dockerfile that brought the finding: the only place that is in the repository.
fn dockerfile(finding: &Finding) -> Option<Value> {
    let step = finding.step.as_ref()?;
    let file = json!({ "uri": relative_uri(&step.file), "uriBaseId": "%SRCROOT%" });
    let lines = json!({ "startLine": step.line.max(1), "endLine": step.end_line.max(step.line).max(1) });
    Some(json!({ "physicalLocation": { "artifactLocation": file, "region": lines } }))
}

fn location(report: &ImageReport, finding: &Finding) -> Value {
    let (artifact, region) = match &finding.location {
        Location::File(file) => (json!({ "uri": relative_uri(&file.path), "uriBaseId": ROOT }), region(finding, file)),
        Location::Document(location) => (in_layout(location.document.digest.as_ref()), line_of(finding)),
        Location::Config(_) => (in_layout(report.config_digest.as_ref()), Value::Null),
        Location::Image => (in_layout(report.manifest_digest.as_ref()), Value::Null),
    };
    let mut physical = json!({ "artifactLocation": artifact });
    if !region.is_null() {
        set(&mut physical, "region", region);
    }
    json!({ "physicalLocation": physical, "logicalLocations": logical(finding) })
}

/// The region in the file itself. In an archive, line and offset are those of a member, which has no URI.
fn region(finding: &Finding, file: &FileLocation) -> Value {
    if !file.inside.is_empty() {
        return Value::Null;
    }
    match (file.line, file.offset) {
        (Some(_), _) => line_of(finding),
        (None, Some(offset)) => {
            let length = finding.secret.as_ref().map_or(0, |secret| secret.length);
            json!({ "byteOffset": offset, "byteLength": length })
        }
        (None, None) => Value::Null,
    }
}

fn line_of(finding: &Finding) -> Value {
    exchange::line(finding).map_or(Value::Null, |line| json!({ "startLine": line.max(1) }))
}

/// The layer, and the members of archives; or the field of a document.
fn logical(finding: &Finding) -> Value {
    let file = match &finding.location {
        Location::File(file) => file,
        Location::Document(_) | Location::Config(_) => {
            return json!([{ "kind": "field", "fullyQualifiedName": exchange::place(finding) }]);
        }
        Location::Image => return json!([{ "kind": "image", "name": exchange::place(finding) }]),
    };
    let digest = file.layer.digest.as_ref().or(file.layer.diff_id.as_ref()).map(Digest::to_string);
    let mut locations = vec![json!({
        "kind": "layer",
        "name": format!("layer {}", file.layer.index),
        "fullyQualifiedName": digest.unwrap_or_else(|| format!("layer {}", file.layer.index)),
        "properties": {
            "createdBy": file.layer.created_by.as_deref().map(exchange::sentence),
            "fate": exchange::fate(file),
        },
    })];
    let mut path = exchange::name(&file.path);
    for (depth, member) in file.inside.iter().enumerate() {
        path = path + MEMBER + &exchange::name(member);
        locations.push(json!({
            "kind": "member",
            "name": exchange::name(member),
            "fullyQualifiedName": exchange::name(&path),
            "properties": { "depth": depth + 1 },
        }));
    }
    Value::Array(locations)
}

/// A document or layer, where an OCI layout has it.
fn in_layout(digest: Option<&Digest>) -> Value {
    let uri = digest.map(|digest| format!("blobs/{}/{}", digest.algorithm().name(), digest.hex()));
    json!({ "uri": uri.unwrap_or_else(|| "index.json".into()), "uriBaseId": LAYOUT })
}

/// `path` as a relative URI that stays below its base (RFC 3986): no empty, `.` or `..` segment, everything else that
/// is not unreserved in percent-encoding.
fn relative_uri(path: &str) -> String {
    let mut uri = String::with_capacity(path.len());
    for segment in path.split('/').filter(|segment| !matches!(*segment, "" | "." | "..")) {
        if !uri.is_empty() {
            uri.push('/');
        }
        for byte in segment.bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => uri.push(char::from(byte)),
                _ => uri += &format!("%{byte:02X}"),
            }
        }
    }
    if uri.is_empty() { "%2F".into() } else { uri }
}

/// `text` as the text of a message, in which `[text](link)` would be a link (section 3.11.6).
fn message(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, '[' | ']' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

fn level(severity: Severity) -> &'static str {
    match severity {
        Severity::Critical | Severity::High => "error",
        Severity::Medium => "warning",
        Severity::Low | Severity::Info => "note",
    }
}

/// What GitHub makes a severity of: more than 9 is critical, from 7 on high, from 4 on medium.
fn score(severity: Severity) -> &'static str {
    match severity {
        Severity::Critical => "9.5",
        Severity::High => "8.0",
        Severity::Medium => "5.5",
        Severity::Low => "3.0",
        Severity::Info => "0.5",
    }
}

/// Sets a field of `object`, which is an object.
fn set(object: &mut Value, field: &str, value: impl Into<Value>) {
    if let Value::Object(fields) = object {
        fields.insert(field.into(), value.into());
    }
}

/// Copies a field of one object to another.
fn copy(from: &Value, to: &mut Value, field: &str) {
    if let Some(value) = from.get(field) {
        set(to, field, value.clone());
    }
}
