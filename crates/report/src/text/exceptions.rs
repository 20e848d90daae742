//! Findings that do not count: the section ALLOWED, the baseline in one line, and exceptions that have expired.

use std::io::{self, Write};

use layersift_model::{Allowed, Finding, ImageReport, Judgement, Location};

use super::findings::{in_document, position};
use super::summary;
use crate::terminal::{BOLD, DIM, Line, WARNING, clean, paragraph, plural};

/// Allowed findings that are listed; more are counted.
const SHOWN: usize = 20;

/// Writes the findings that are allowed; nothing where there are none.
pub(super) fn allowed(report: &ImageReport, width: usize, out: &mut dyn Write) -> io::Result<()> {
    let mut allowed: Vec<(&Finding, &Allowed)> =
        report.findings.iter().filter_map(|finding| Some((finding, finding.allowed.as_ref()?))).collect();
    if allowed.is_empty() {
        return Ok(());
    }
    allowed.sort_by_key(|(finding, _)| std::cmp::Reverse(finding.severity));
    writeln!(out, "\n{BOLD}ALLOWED{BOLD:#}")?;
    for (finding, allow) in allowed.iter().take(SHOWN) {
        let mut line = Line::begin(out, 2, width)?;
        line.text(DIM, &finding.severity.name().to_uppercase())?;
        line.text(DIM, &clean(&finding.rule.title, 120))?;
        line.text(DIM, &clean(&finding.rule.id, 120))?;
        place(&mut line, finding)?;
        line.end()?;
        paragraph(out, (DIM, &format!("    until {}: ", allow.expires)), &allow.reason, 6, width)?;
    }
    if allowed.len() > SHOWN {
        let more = plural((allowed.len() - SHOWN) as u64, "more finding");
        writeln!(out, "  {DIM}… and {more} (--format json){DIM:#}")?;
    }
    Ok(())
}

/// Writes how many findings the baseline has; nothing where it has none.
pub(super) fn baseline(report: &ImageReport, width: usize, out: &mut dyn Write) -> io::Result<()> {
    let known = report.findings.iter().filter(|finding| finding.baseline && finding.allowed.is_none());
    let Some(counts) = summary::counts(known) else { return Ok(()) };
    writeln!(out)?;
    let mut line = Line::begin(out, 0, width)?;
    line.text(DIM, &format!("In the baseline: {counts}"))?;
    line.text(DIM, "(--format json lists them)")?;
    line.end()
}

/// Writes the exceptions that have expired.
pub(super) fn expired(judgement: &Judgement, width: usize, out: &mut dyn Write) -> io::Result<()> {
    for (index, allow) in judgement.expired.iter().enumerate() {
        if index == 0 {
            writeln!(out)?;
        }
        let label = format!("allow entry {} expired on {}: ", allow.entry, allow.expires);
        paragraph(out, (WARNING, &label), &allow.reason, 2, width)?;
    }
    Ok(())
}

fn place(line: &mut Line<'_>, finding: &Finding) -> io::Result<()> {
    match &finding.location {
        Location::File(file) => {
            let (path, suffix) = position(file);
            line.path(DIM, &path, &suffix)
        }
        Location::Document(document) => line.text(DIM, &in_document(document)),
        Location::Config(field) => line.text(DIM, &format!("configuration {}", clean(field, 120))),
        Location::Image => line.text(DIM, &clean(finding.note.as_deref().unwrap_or_default(), 200)),
    }
}
