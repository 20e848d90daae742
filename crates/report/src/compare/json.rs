//! The comparison for a program. The contract changes only by addition; `docs/diff.md` describes it.

use std::io::{self, Write};

use layersift_model::{Digest, Finding, ImageReport, LayerSummary};
use serde_json::{Value, json};

use super::{Change, Comparison, Trace};

/// The version of the form.
const SCHEMA: u32 = 1;

/// Writes all of `comparisons` as one object.
///
/// # Errors
/// Those of `out`.
pub fn json(comparisons: &[Comparison<'_>], out: &mut dyn Write) -> io::Result<()> {
    let comparisons: Vec<Value> = comparisons.iter().map(object).collect();
    layersift_model::json_output::write_pretty(&mut *out, &json!({ "schema": SCHEMA, "comparisons": comparisons }))?;
    writeln!(out)
}

fn object(comparison: &Comparison<'_>) -> Value {
    let secrets: Vec<Value> = comparison
        .secrets
        .iter()
        .map(|secret| {
            json!({
                "fate": secret.fate().name(),
                "rule": secret.rule.id,
                "title": secret.rule.title,
                "severity": secret.severity.name(),
                "masked": secret.masked,
                "fingerprint": secret.fingerprint,
                "replaced_by": secret.replaced_by,
                "replaces": secret.replaces,
                "before": places(&secret.before),
                "after": places(&secret.after),
                "traces": secret.traces.iter().map(trace).collect::<Vec<_>>(),
            })
        })
        .collect();
    let exposures: Vec<Value> = comparison
        .exposures
        .iter()
        .map(|exposure| {
            json!({
                "change": exposure.change.name(),
                "rule": exposure.rule.id,
                "title": exposure.rule.title,
                "severity": exposure.severity.name(),
                "before": places(&exposure.before),
                "after": places(&exposure.after),
            })
        })
        .collect();
    let layers = &comparison.layers;
    json!({
        "verdict": comparison.verdict().name(),
        "requires_gone": comparison.requires_gone,
        "before": image(comparison.before),
        "after": image(comparison.after),
        "notes": comparison.notes,
        "secrets": secrets,
        "exposures": exposures,
        "layers": {
            "shared_first": layers.shared_first,
            "stayed": layers.stayed.iter().copied().map(layer).collect::<Vec<_>>(),
            "came": layers.came.iter().copied().map(layer).collect::<Vec<_>>(),
            "went": layers.went.iter().copied().map(layer).collect::<Vec<_>>(),
        },
        "packages": packages(comparison),
    })
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
fn places(findings: &[&Finding]) -> Vec<Value> {
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
    findings.iter().map(place).collect()
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

fn packages(comparison: &Comparison<'_>) -> Value {
    let Some(packages) = &comparison.packages else { return Value::Null };
    let changed: Vec<Value> = packages
        .changed
        .iter()
        .map(|package| {
            json!({
                "change": if package.change == Change::Stayed { "version" } else { package.change.name() },
                "ecosystem": package.ecosystem.name(),
                "name": package.name,
                "before": package.before,
                "after": package.after,
                "hidden": package.hidden,
            })
        })
        .collect();
    json!({ "stayed": packages.stayed, "is_complete": packages.is_complete, "changed": changed })
}
