//! JSON, schema 1: the contract that other programs build on. It changes only by addition.

use std::borrow::Cow;

use serde::Serialize;

use super::Options;
use crate::policy::allow::Allow;
use crate::policy::date::Date;
use crate::policy::{Policy, Standing, Verdict};
use layersift_model::{BinaryPlace, Digest, Finding, ImageGap, ImageReport, LayerLine, LayerRef, Location, Package};

/// The version of the schema.
pub const SCHEMA: u32 = 1;

/// The document for `reports`: one object for one image, a list of them in `reports` for several.
///
/// # Errors
/// Never for a report that a scan made; the error is that of the serializer.
pub fn render(reports: &[ImageReport], policy: &Policy, options: Options) -> serde_json::Result<String> {
    let mut documents: Vec<Report<'_>> = reports.iter().map(|report| Report::new(report, policy, options)).collect();
    if let [one] = &mut documents[..] {
        one.expired = expired(policy);
    }
    match &documents[..] {
        [one] => serde_json::to_string_pretty(one),
        many => {
            // What is said of the policy is said once, and not of every image.
            let expired = expired(policy);
            serde_json::to_string_pretty(&Many { schema: SCHEMA, reports: many, expired })
        }
    }
}

#[derive(Serialize)]
struct Many<'r> {
    schema: u32,
    reports: &'r [Report<'r>],
    #[serde(skip_serializing_if = "Vec::is_empty")]
    expired: Vec<ExpiredLine<'r>>,
}

#[derive(Serialize)]
struct Report<'r> {
    schema: u32,
    tool: Tool<'r>,
    target: &'r str,
    image: Image<'r>,
    layers: Vec<Layer<'r>>,
    findings: Vec<FindingLine<'r>>,
    gaps: Vec<GapLine<'r>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    expired: Vec<ExpiredLine<'r>>,
    verdict: Verdict,
    stats: Stats,
}

#[derive(Serialize)]
struct Tool<'r> {
    name: &'static str,
    version: &'static str,
    ruleset: &'r str,
    engine: String,
}

#[derive(Serialize)]
struct Image<'r> {
    reference: &'r Option<String>,
    manifest_digest: &'r Option<Digest>,
    config_digest: &'r Option<Digest>,
    platform: &'r Option<String>,
}

#[derive(Serialize)]
struct Layer<'r> {
    index: usize,
    digest: &'r Option<Digest>,
    diff_id: &'r Option<Digest>,
    media_type: &'r Option<String>,
    created_by: &'r Option<String>,
    files: u64,
    bytes: u64,
}

#[derive(Serialize)]
struct FindingLine<'r> {
    id: &'r str,
    rule: &'r str,
    title: &'r str,
    severity: &'static str,
    confidence: &'static str,
    path: Option<String>,
    inside: &'r [String],
    views: &'r [Cow<'static, str>],
    offset: Option<u64>,
    line: Option<u64>,
    column: Option<u64>,
    config: Option<&'r str>,
    layer: Option<&'r LayerRef>,
    state: &'static str,
    ended_by: Option<&'r LayerRef>,
    secret: Option<SecretLine>,
    package: Option<&'r Package>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    as_shipped: bool,
    binary: Option<&'r BinaryPlace>,
    note: Option<&'r str>,
    related: &'r [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    allowed: Option<AllowedLine<'r>>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    baseline: bool,
}

/// The exception that a finding is allowed by.
#[derive(Serialize)]
struct AllowedLine<'r> {
    reason: &'r str,
    expires: Date,
}

/// An exception that no longer allows anything.
#[derive(Serialize)]
struct ExpiredLine<'r> {
    entry: usize,
    reason: &'r str,
    expires: Date,
}

#[derive(Serialize)]
struct SecretLine {
    masked: String,
    fingerprint: String,
    length: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_base64: Option<String>,
}

#[derive(Serialize)]
struct GapLine<'r> {
    reason: &'static str,
    path: Option<&'r str>,
    layer: Option<usize>,
    bytes: Option<u64>,
    detail: &'r str,
}

#[derive(Serialize)]
struct Stats {
    layers: usize,
    files: u64,
    bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    seconds: Option<f64>,
}

impl<'r> Report<'r> {
    fn new(report: &'r ImageReport, policy: &'r Policy, options: Options) -> Report<'r> {
        let findings = report.findings.iter().zip(policy.standings(&report.findings));
        Report {
            schema: SCHEMA,
            tool: Tool {
                name: "layersift",
                version: if options.reproducible { "" } else { env!("CARGO_PKG_VERSION") },
                ruleset: &report.ruleset,
                engine: if options.reproducible { String::new() } else { report.engine.clone() },
            },
            target: &report.target,
            image: Image {
                reference: &report.reference,
                manifest_digest: &report.manifest_digest,
                config_digest: &report.config_digest,
                platform: &report.platform,
            },
            layers: report.layers.iter().map(Layer::new).collect(),
            findings: findings.map(|(finding, standing)| FindingLine::new(finding, standing, options)).collect(),
            gaps: report.gaps.iter().map(GapLine::new).collect(),
            expired: Vec::new(),
            verdict: policy.verdict(report),
            stats: Stats {
                layers: report.layers.len(),
                files: report.files(),
                bytes: report.bytes(),
                seconds: (!options.reproducible).then(|| (report.seconds * 1000.0).round() / 1000.0),
            },
        }
    }
}

impl<'r> Layer<'r> {
    fn new(line: &'r LayerLine) -> Layer<'r> {
        Layer {
            index: line.index,
            digest: &line.digest,
            diff_id: &line.diff_id,
            media_type: &line.media_type,
            created_by: &line.created_by,
            files: line.files,
            bytes: line.bytes,
        }
    }
}

impl<'r> GapLine<'r> {
    fn new(gap: &'r ImageGap) -> GapLine<'r> {
        GapLine {
            reason: gap.gap.reason.name(),
            path: gap.gap.path.as_deref(),
            layer: gap.layer,
            bytes: gap.gap.bytes,
            detail: &gap.gap.detail,
        }
    }
}

impl<'r> FindingLine<'r> {
    fn new(finding: &'r Finding, standing: Standing<'r>, options: Options) -> FindingLine<'r> {
        let line = FindingLine {
            id: &finding.id,
            rule: &finding.rule.id,
            title: &finding.rule.title,
            severity: finding.rule.severity.name(),
            confidence: finding.rule.confidence.name(),
            path: None,
            inside: &[],
            views: &[],
            offset: None,
            line: None,
            column: None,
            config: None,
            layer: None,
            state: "present",
            ended_by: None,
            secret: secret(finding, options),
            package: None,
            as_shipped: false,
            binary: None,
            note: finding.note.as_deref(),
            related: &finding.related,
            allowed: standing.allowed.map(AllowedLine::new),
            baseline: standing.baseline,
        };
        match &finding.location {
            Location::Image => line,
            Location::Config(field) => FindingLine { config: Some(field), ..line },
            Location::File(file) => FindingLine {
                path: Some(file.place.path.to_string()),
                inside: &file.place.inside,
                views: &file.place.views,
                // What is about a whole file begins nowhere in it.
                offset: finding.secret.is_some().then_some(file.place.offset),
                line: file.place.line,
                column: file.place.column,
                layer: Some(&file.layer),
                state: file.state.name(),
                ended_by: file.ended_by.as_ref(),
                package: file.package.as_ref(),
                as_shipped: file.as_shipped,
                binary: file.place.binary.as_ref(),
                ..line
            },
        }
    }
}

impl<'r> AllowedLine<'r> {
    fn new(allow: &'r Allow) -> AllowedLine<'r> {
        AllowedLine { reason: allow.reason(), expires: allow.expires() }
    }
}

fn expired(policy: &Policy) -> Vec<ExpiredLine<'_>> {
    let expired = policy.allow.expired();
    expired
        .map(|allow| ExpiredLine { entry: allow.number(), reason: allow.reason(), expires: allow.expires() })
        .collect()
}

fn secret(finding: &Finding, options: Options) -> Option<SecretLine> {
    use base64::Engine as _;
    let secret = finding.secret.as_ref()?;
    let text = std::str::from_utf8(secret.reveal()).ok().map(str::to_string);
    let binary = text.is_none().then(|| base64::engine::general_purpose::STANDARD.encode(secret.reveal()));
    Some(SecretLine {
        masked: secret.masked(),
        fingerprint: finding.fingerprint.clone().unwrap_or_default(),
        length: secret.len(),
        value: text.filter(|_| options.show_secrets),
        value_base64: binary.filter(|_| options.show_secrets),
    })
}
