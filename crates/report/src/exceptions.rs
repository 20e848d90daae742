//! What the text says of findings that do not count: the section ALLOWED, the baseline in one line, and exceptions that
//! have expired.

use std::fmt::{self, Write};

use anstyle::{AnsiColor, Color, Style};

use super::text::{BOLD, DIM, clean, counts, position};
use crate::policy::Standing;
use crate::policy::allow::{Allow, AllowList};
use layersift_model::{Finding, Location};

/// Allowed findings that are listed; the rest are counted.
const SHOWN: usize = 20;

/// The section ALLOWED: each finding that an exception allows, with its reason and last day. Nothing where there is
/// none.
pub fn allowed(out: &mut String, judged: &[(&Finding, Standing<'_>)]) -> fmt::Result {
    let allowed: Vec<(&Finding, &Allow)> =
        judged.iter().filter_map(|(finding, standing)| Some((*finding, standing.allowed?))).collect();
    if allowed.is_empty() {
        return Ok(());
    }
    writeln!(out, "\n{BOLD}ALLOWED{BOLD:#}")?;
    for (finding, allow) in allowed.iter().take(SHOWN) {
        let severity = finding.rule.severity.name().to_uppercase();
        let title = clean(&finding.rule.title, 120);
        writeln!(out, "  {DIM}{severity}  {title}  {}  {}{DIM:#}", finding.rule.id, place(finding))?;
        writeln!(out, "    {DIM}until {}: {}{DIM:#}", allow.expires(), clean(allow.reason(), 200))?;
    }
    if allowed.len() > SHOWN {
        writeln!(out, "  {DIM}… and {} more (--format json lists all){DIM:#}", allowed.len() - SHOWN)?;
    }
    Ok(())
}

/// How many findings the baseline has, in one line. Nothing where it has none.
pub fn baseline(out: &mut String, judged: &[(&Finding, Standing<'_>)]) -> fmt::Result {
    let known = judged.iter().filter(|(_, standing)| standing.baseline && standing.allowed.is_none());
    let known: Vec<&Finding> = known.map(|(finding, _)| *finding).collect();
    match counts(&known) {
        Some(counts) => writeln!(out, "\n{DIM}In the baseline: {counts} (--format json lists them){DIM:#}"),
        None => Ok(()),
    }
}

/// The exceptions that no longer allow anything, a line each.
pub fn expired(out: &mut String, list: &AllowList) -> fmt::Result {
    let style = Style::new().bold().fg_color(Some(Color::Ansi(AnsiColor::Yellow)));
    for (index, allow) in list.expired().enumerate() {
        let before = if index == 0 { "\n" } else { "" };
        let (number, day, reason) = (allow.number(), allow.expires(), clean(allow.reason(), 200));
        writeln!(out, "{before}{style}allow entry {number} expired on {day}{style:#}: {reason}")?;
    }
    Ok(())
}

fn place(finding: &Finding) -> String {
    match &finding.location {
        Location::File(file) => position(&file.place, finding.secret.is_some()),
        Location::Config(field) => format!("configuration {}", clean(field, 120)),
        Location::Image => clean(finding.note.as_deref().unwrap_or_default(), 200),
    }
}
