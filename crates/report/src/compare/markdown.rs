//! The comparison as a comment on a pull request. Like every format that is passed on, it has no fingerprints under the
//! built-in key.

use std::io::{self, Write};

use layersift_model::{Finding, ImageReport};

use super::secrets::ComparedSecret;
use super::{Change, Comparison};
use crate::exchange;
use crate::markdown::{code, words};
use crate::terminal::{clean, cut_path, plural};

/// Rows of a table; more are counted.
const ROWS: usize = 50;

/// What tells the comment from others, so that a pipeline can find and replace it.
const MARK: &str = "<!-- layersift diff -->";

/// Writes all of `comparisons`.
///
/// # Errors
/// Those of `out`.
pub fn markdown(comparisons: &[Comparison<'_>], out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "{MARK}\n## Layersift: comparison")?;
    comparisons.iter().try_for_each(|comparison| section(comparison, out))
}

fn section(comparison: &Comparison<'_>, out: &mut dyn Write) -> io::Result<()> {
    let verdict = comparison.verdict().name().to_uppercase();
    let [before, after] = [comparison.before, comparison.after].map(named);
    writeln!(out, "\n<p><b>{verdict}</b><br>before: {before}<br>after: {after}</p>")?;
    for note in &comparison.notes {
        writeln!(out, "\n<p>Note: {}</p>", words(&clean(note, 300)))?;
    }
    if !comparison.secrets.is_empty() {
        writeln!(out, "\n<table>\n<tr><th>Severity</th><th>Secret</th><th>Where</th><th>What became of it</th></tr>")?;
        comparison.secrets.iter().take(ROWS).try_for_each(|secret| row(comparison.after, secret, out))?;
        writeln!(out, "</table>")?;
        more(comparison.secrets.len(), "more secret", out)?;
    }
    let exposures: Vec<_> = comparison.exposures.iter().filter(|one| one.change != Change::Stayed).collect();
    if !exposures.is_empty() {
        writeln!(out, "\n<table>\n<tr><th>Severity</th><th>Exposure</th><th>Where</th><th>Change</th></tr>")?;
        for exposure in exposures.iter().take(ROWS) {
            let Some(finding) = exposure.finding() else { continue };
            let (severity, title) = (exposure.severity.name(), words(&exchange::title(finding)));
            let (place, change) = (place(finding), exposure.change.name());
            writeln!(out, "<tr><td>{severity}</td><td>{title}</td><td>{place}</td><td>{change}</td></tr>")?;
        }
        writeln!(out, "</table>")?;
        more(exposures.len(), "more exposure", out)?;
    }
    let layers = &comparison.layers;
    let (stayed, came, went) = (layers.stayed.len(), layers.came.len(), layers.went.len());
    writeln!(out, "\n<p>Layers: {stayed} stayed, {came} came, {went} went.</p>")?;
    if let Some(packages) = &comparison.packages {
        let [came, went, other] = [Change::Came, Change::Went, Change::Stayed].map(|change| packages.count(change));
        writeln!(out, "\n<p>Packages: {came} came, {went} went, {other} with other versions.</p>")?;
    }
    if !exchange::has_own_key(comparison.after) {
        writeln!(out, "\n<p>Fingerprints: {}</p>", exchange::NO_FINGERPRINTS)?;
    }
    Ok(())
}

fn named(report: &ImageReport) -> String {
    let digest = report.manifest_digest.as_ref().map(|digest| format!(" {}", code(&digest.to_string())));
    format!("{}{}", code(&exchange::image_name(report)), digest.unwrap_or_default())
}

fn row(after: &ImageReport, secret: &ComparedSecret<'_>, out: &mut dyn Write) -> io::Result<()> {
    let mut what = format!("{}<br>{}", words(&clean(&secret.rule.title, 120)), code(&clean(secret.masked, 60)));
    if exchange::has_own_key(after) {
        what += &format!("<br>fingerprint {}", code(&clean(secret.fingerprint, 64)));
    }
    let shown = if secret.after.is_empty() { &secret.before } else { &secret.after };
    let mut places: Vec<String> = shown.iter().take(3).map(|finding| place(finding)).collect();
    if shown.len() > 3 {
        places.push(plural((shown.len() - 3) as u64, "more place"));
    }
    if !secret.traces.is_empty() {
        places = secret.traces.iter().take(3).map(|trace| code(&cut_path(&trace.place, 160))).collect();
        let more = secret.traces.len().saturating_sub(3) as u64;
        places.extend((more > 0).then(|| plural(more, "more place")));
    }
    let (severity, fate) = (secret.severity.name(), words(secret.fate().words()));
    writeln!(out, "<tr><td>{severity}</td><td>{what}</td><td>{}</td><td>{fate}</td></tr>", places.join("<br>"))
}

fn place(finding: &Finding) -> String {
    code(&cut_path(&exchange::place_and_line(finding), 160))
}

fn more(all: usize, noun: &str, out: &mut dyn Write) -> io::Result<()> {
    if all > ROWS {
        writeln!(out, "\n<p>… and {}</p>", plural((all - ROWS) as u64, noun))?;
    }
    Ok(())
}
