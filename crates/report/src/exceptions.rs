//! What the text says of findings that do not count: the section ALLOWED, the baseline in one line, and exceptions that
//! have expired.

use std::fmt::{self, Write};

use anstyle::{AnsiColor, Color, Style};
use layersift_model::{Allowed, Finding, ImageReport, Judgement, Location};

use crate::text::{BOLD, DIM, counts, position};
use crate::text_parts::clean;

/// Allowed findings that are listed; the rest are counted.
const SHOWN: usize = 20;

/// The findings that are allowed, a line each. Nothing where there are none.
pub(crate) fn allowed(out: &mut String, report: &ImageReport) -> fmt::Result {
    let allowed: Vec<(&Finding, &Allowed)> =
        report.findings.iter().filter_map(|finding| Some((finding, finding.allowed.as_ref()?))).collect();
    if allowed.is_empty() {
        return Ok(());
    }
    writeln!(out, "\n{BOLD}ALLOWED{BOLD:#}")?;
    for (finding, allow) in allowed.iter().take(SHOWN) {
        let severity = finding.severity.name().to_uppercase();
        let title = clean(&finding.rule.title, 120);
        writeln!(out, "  {DIM}{severity}  {title}  {}  {}{DIM:#}", finding.rule.id, place(finding))?;
        writeln!(out, "    {DIM}until {}: {}{DIM:#}", allow.expires, clean(&allow.reason, 200))?;
    }
    if allowed.len() > SHOWN {
        writeln!(out, "  {DIM}… and {} more (--format json lists all){DIM:#}", allowed.len() - SHOWN)?;
    }
    Ok(())
}

/// How many findings the baseline has, in one line. Nothing where it has none.
pub(crate) fn baseline(out: &mut String, report: &ImageReport) -> fmt::Result {
    let is_known = |finding: &&Finding| finding.baseline && finding.allowed.is_none();
    let known: Vec<&Finding> = report.findings.iter().filter(is_known).collect();
    match counts(&known) {
        Some(counts) => writeln!(out, "\n{DIM}In the baseline: {counts} (--format json lists them){DIM:#}"),
        None => Ok(()),
    }
}

/// The exceptions that have expired, a line each.
pub(crate) fn expired(out: &mut String, judgement: Option<&Judgement>) -> fmt::Result {
    let style = Style::new().bold().fg_color(Some(Color::Ansi(AnsiColor::Yellow)));
    for (index, allow) in judgement.into_iter().flat_map(|judgement| &judgement.expired).enumerate() {
        let before = if index == 0 { "\n" } else { "" };
        let (number, day, reason) = (allow.entry, allow.expires, clean(&allow.reason, 200));
        writeln!(out, "{before}{style}allow entry {number} expired on {day}{style:#}: {reason}")?;
    }
    Ok(())
}

fn place(finding: &Finding) -> String {
    match &finding.location {
        Location::File(file) => position(file),
        Location::Config(field) => format!("configuration {}", clean(field, 120)),
        Location::Image => clean(finding.note.as_deref().unwrap_or_default(), 200),
    }
}
