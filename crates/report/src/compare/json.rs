//! The comparison for a program. The contract changes only by addition; `docs/diff.md` describes it.

use std::io::{self, Write};

use layersift_model::{Digest, Finding, ImageReport, LayerSummary};
use serde::Serialize;
use serde_json::{Value, json};

use super::packages::{PackageChange, PackageChanges};
use super::{Change, ComparedSecret, Comparison, Exposure, Trace};
use crate::each::Each;

/// The version of the form.
const SCHEMA: u32 = 1;

/// The object. The fields of all objects are in the order of their names.
#[derive(Serialize)]
struct Document<'c> {
    comparisons: Each<'c, Object<'c>>,
    schema: u32,
}

#[derive(Serialize)]
struct Object<'c> {
    after: Value,
    before: Value,
    exposures: Each<'c, ExposureObject<'c>>,
    layers: Value,
    notes: &'c [String],
    packages: Option<Packages<'c>>,
    requires_gone: bool,
    secrets: Each<'c, SecretObject<'c>>,
    verdict: &'static str,
}

#[derive(Serialize)]
struct SecretObject<'c> {
    after: Each<'c, Value>,
    before: Each<'c, Value>,
    fate: &'static str,
    fingerprint: &'c str,
    masked: &'c str,
    replaced_by: Option<&'c str>,
    replaces: Option<&'c str>,
    rule: &'c str,
    severity: &'static str,
    title: &'c str,
    traces: Each<'c, Value>,
}

#[derive(Serialize)]
struct ExposureObject<'c> {
    after: Each<'c, Value>,
    before: Each<'c, Value>,
    change: &'static str,
    rule: &'c str,
    severity: &'static str,
    title: &'c str,
}

#[derive(Serialize)]
struct Packages<'c> {
    changed: Each<'c, Value>,
    is_complete: bool,
    stayed: usize,
}

/// Writes all of `comparisons` as one object.
///
/// # Errors
/// Those of `out`.
pub fn json(comparisons: &[Comparison<'_>], out: &mut dyn Write) -> io::Result<()> {
    let document = Document { comparisons: Each::new(|| comparisons.iter().map(object)), schema: SCHEMA };
    layersift_model::json_output::write_pretty(&mut *out, &document)?;
    writeln!(out)
}

fn object<'c>(comparison: &'c Comparison<'_>) -> Object<'c> {
    let layers = &comparison.layers;
    Object {
        after: image(comparison.after),
        before: image(comparison.before),
        exposures: Each::new(|| comparison.exposures.iter().map(exposure)),
        layers: json!({
            "shared_first": layers.shared_first,
            "stayed": layers.stayed.iter().copied().map(layer).collect::<Vec<_>>(),
            "came": layers.came.iter().copied().map(layer).collect::<Vec<_>>(),
            "went": layers.went.iter().copied().map(layer).collect::<Vec<_>>(),
        }),
        notes: &comparison.notes,
        packages: comparison.packages.as_ref().map(packages),
        requires_gone: comparison.requires_gone,
        secrets: Each::new(|| comparison.secrets.iter().map(secret)),
        verdict: comparison.verdict().name(),
    }
}

fn secret<'c>(secret: &'c ComparedSecret<'_>) -> SecretObject<'c> {
    SecretObject {
        after: places(&secret.after),
        before: places(&secret.before),
        fate: secret.fate().name(),
        fingerprint: secret.fingerprint,
        masked: secret.masked,
        replaced_by: secret.replaced_by,
        replaces: secret.replaces,
        rule: &secret.rule.id,
        severity: secret.severity.name(),
        title: &secret.rule.title,
        traces: Each::new(|| secret.traces.iter().map(trace)),
    }
}

fn exposure<'c>(exposure: &'c Exposure<'_>) -> ExposureObject<'c> {
    ExposureObject {
        after: places(&exposure.after),
        before: places(&exposure.before),
        change: exposure.change.name(),
        rule: &exposure.rule.id,
        severity: exposure.severity.name(),
        title: &exposure.rule.title,
    }
}

fn image(report: &ImageReport) -> Value {
    json!({
        "target": report.target,
        "reference": report.reference,
        "manifest_digest": report.manifest_digest.as_ref().map(Digest::to_string),
        "platform": report.platform,
        "ruleset": report.tool.ruleset,
        "scanned_at": report.scanned_at,
        "gaps": report.gaps.len(),
    })
}

/// Places of findings: the id that the report of the image has, and where it is.
fn places<'c>(findings: &'c [&'c Finding]) -> Each<'c, Value> {
    let place = |finding: &&Finding| {
        let file = finding.file();
        json!({
            "id": finding.id,
            "place": crate::exchange::place(finding),
            "line": crate::exchange::line(finding),
            "layer": file.map(|file| file.layer.index),
            "state": finding.state().name(),
            "counts": finding.counts(),
        })
    };
    Each::new(move || findings.iter().map(place))
}

/// A place where a search found the value itself.
fn trace(trace: &Trace) -> Value {
    json!({ "place": trace.place, "state": if trace.is_present { "present" } else { "hidden" } })
}

fn layer(layer: &LayerSummary) -> Value {
    json!({
        "index": layer.index,
        "digest": layer.digest.as_ref().map(Digest::to_string),
        "diff_id": layer.diff_id.as_ref().map(Digest::to_string),
        "created_by": layer.created_by,
        "stored_bytes": layer.stored_bytes,
    })
}

fn packages<'c>(packages: &'c PackageChanges<'_>) -> Packages<'c> {
    let one = |package: &PackageChange<'_>| {
        json!({
            "change": if package.change == Change::Stayed { "version" } else { package.change.name() },
            "ecosystem": package.ecosystem.name(),
            "name": package.name,
            "before": package.before,
            "after": package.after,
            "hidden": package.hidden,
        })
    };
    let changed = Each::new(move || packages.changed.iter().map(one));
    Packages { changed, is_complete: packages.is_complete, stayed: packages.stayed }
}
