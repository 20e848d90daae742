//! The report of a sweep, for a person and for a program.

use std::cmp::Reverse;
use std::io::{self, Write};

use serde::Serialize;

use layersift_model::{NewFinding, SweepReport, Verdict};

use crate::terminal::{Line, severity_style, thousands, verdict_style};
use crate::{clean, human, plural};

/// The version of the schema.
const SCHEMA: u32 = 1;

/// New findings, and things that could not be scanned, that are listed in text; more are counted.
const MOST_LINES: usize = 50;

/// New findings, and things that could not be scanned, after which the verdict is repeated.
const SCREEN: usize = 20;

const PLAIN: anstyle::Style = anstyle::Style::new();
const BOLD: anstyle::Style = anstyle::Style::new().bold();
const DIM: anstyle::Style = anstyle::Style::new().dimmed();

/// Writes the report for a person, of at most `width` columns.
///
/// # Errors
/// Those of `out`.
pub fn text(report: &SweepReport, width: usize, out: &mut dyn Write) -> io::Result<()> {
    verdict(report, width, out)?;
    let sums = &report.sums;
    let mut line = Line::begin(out, 0, width)?;
    line.text(BOLD, &clean(&report.target, 400))?;
    line.end()?;
    let parts = [
        plural(sums.images, "image"),
        format!("{} read", plural(sums.layers_read, "layer")),
        format!("{} known", thousands(sums.layers_known)),
        format!("{} pulled", human(sums.bytes_pulled)),
        format!("{} saved", human(sums.bytes_saved)),
    ];
    let mut line = Line::begin(out, 0, width)?;
    line.text(DIM, &parts.join(", "))?;
    line.end()?;
    if !report.news.is_empty() {
        writeln!(out, "\n{BOLD}NEW SINCE THE LAST SWEEP{BOLD:#}  {}", thousands(report.news.len() as u64))?;
        let mut worst_first: Vec<&NewFinding> = report.news.iter().collect();
        worst_first.sort_by_key(|news| Reverse(news.rule.severity));
        worst_first.iter().take(MOST_LINES).try_for_each(|news| new(news, width, out))?;
        more(report.news.len() as u64, out)?;
        if !report.news_are_complete {
            writeln!(out, "  {DIM}There is more that is new than the sweep lists.{DIM:#}")?;
        }
    }
    if report.problems_total > 0 {
        writeln!(out, "\n{BOLD}NOT SCANNED{BOLD:#}  {}", thousands(report.problems_total))?;
        for problem in report.problems.iter().take(MOST_LINES) {
            let mut line = Line::begin(out, 2, width)?;
            line.text(PLAIN, &clean(&problem.to_string(), 400))?;
            line.end()?;
        }
        more(report.problems_total, out)?;
    }
    if let Some(reason) = &report.ended_early {
        writeln!(out, "\nEnded early: {reason}. The next sweep continues.")?;
    }
    if report.news.len().min(MOST_LINES) + report.problems.len().min(MOST_LINES) < SCREEN {
        return Ok(());
    }
    writeln!(out)?;
    verdict(report, width, out)
}

fn verdict(report: &SweepReport, width: usize, out: &mut dyn Write) -> io::Result<()> {
    let mut line = Line::begin(out, 0, width)?;
    line.text(verdict_style(report.verdict), &report.verdict.name().to_uppercase())?;
    line.text(PLAIN, &reason(report.failing, report.incomplete))?;
    line.end()
}

/// How many images fail, and how many were not scanned completely.
fn reason(failing: u64, incomplete: u64) -> String {
    let fail = if failing == 1 { "fails" } else { "fail" };
    let was = if incomplete == 1 { "was" } else { "were" };
    let fails = format!("{} {fail}", plural(failing, "image"));
    match incomplete {
        0 => fails,
        _ => format!("{fails}, {} {was} not scanned completely", thousands(incomplete)),
    }
}

fn more(total: u64, out: &mut dyn Write) -> io::Result<()> {
    match total.saturating_sub(MOST_LINES as u64) {
        0 => Ok(()),
        more => writeln!(out, "  {DIM}… and {} more (--format json lists all){DIM:#}", thousands(more)),
    }
}

fn new(news: &NewFinding, width: usize, out: &mut dyn Write) -> io::Result<()> {
    let NewFinding { thing, image, rule, masked, path } = news;
    let mut line = Line::begin(out, 2, width)?;
    line.text(severity_style(rule.severity), &rule.severity.name().to_uppercase())?;
    line.text(BOLD, &clean(&rule.title, 200))?;
    line.text(PLAIN, &clean(masked.as_deref().unwrap_or_default(), 120))?;
    line.path(PLAIN, &clean(path.as_deref().unwrap_or_default(), 4_096), "")?;
    line.text(DIM, &format!("in {}", image.short()))?;
    line.text(DIM, &format!("layersift trace {}", clean(thing, 200)))?;
    line.end()
}

#[derive(Serialize)]
struct Document<'r> {
    schema: u32,
    target: &'r str,
    images: u64,
    failing: u64,
    incomplete: u64,
    layers_read: u64,
    layers_known: u64,
    bytes_pulled: u64,
    bytes_saved: u64,
    new: Vec<New<'r>>,
    new_is_complete: bool,
    not_looked_at: Vec<String>,
    ended_early: Option<&'r str>,
    verdict: Verdict,
}

#[derive(Serialize)]
struct New<'r> {
    thing: &'r str,
    rule: &'r str,
    title: &'r str,
    severity: layersift_model::Severity,
    masked: Option<&'r str>,
    path: Option<&'r str>,
    image: String,
}

/// Writes the report for a program.
///
/// # Errors
/// Those of `out`.
pub fn json(report: &SweepReport, out: &mut dyn Write) -> io::Result<()> {
    let document = Document {
        schema: SCHEMA,
        target: &report.target,
        images: report.sums.images,
        failing: report.failing,
        incomplete: report.incomplete,
        layers_read: report.sums.layers_read,
        layers_known: report.sums.layers_known,
        bytes_pulled: report.sums.bytes_pulled,
        bytes_saved: report.sums.bytes_saved,
        new: report
            .news
            .iter()
            .map(|news| New {
                thing: &news.thing,
                rule: &news.rule.id,
                title: &news.rule.title,
                severity: news.rule.severity,
                masked: news.masked.as_deref(),
                path: news.path.as_deref(),
                image: news.image.to_string(),
            })
            .collect(),
        new_is_complete: report.news_are_complete,
        not_looked_at: report.problems.iter().map(ToString::to_string).collect(),
        ended_early: report.ended_early.as_deref(),
        verdict: report.verdict,
    };
    serde_json::to_writer_pretty(&mut *out, &document)?;
    writeln!(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_image_fails_and_two_fail() {
        assert_eq!(reason(0, 0), "0 images fail");
        assert_eq!(reason(1, 0), "1 image fails");
        assert_eq!(reason(2, 1), "2 images fail, 1 was not scanned completely");
        assert_eq!(reason(1, 2_722), "1 image fails, 2,722 were not scanned completely");
    }
}
