//! Text for a person: the verdict, a table of what was found where, then the findings, worst first.
//!
//! Findings that are less severe than [`RenderOptions::show`] are only counted, except for those that make the verdict
//! fail. The text holds terminal colours; the caller strips them where there is no terminal. Text from the image passes
//! through [`crate::terminal`], so that a label cannot steer the terminal of the reader.

mod exceptions;
mod findings;
mod gaps;
mod groups;
mod lifetime;
mod patches;
mod summary;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::io::{self, Write};

use layersift_model::{Finding, ImageReport, Severity, Verdict};

use crate::RenderOptions;
use crate::terminal::{BOLD, Line, PLAIN, clean, plural, verdict_style};

/// Lines of a small terminal. The verdict is repeated at the end of a text that is longer.
const SCREEN: usize = 24;

/// The narrowest text: the table of states and a fingerprint fit in.
const NARROWEST: usize = 48;

/// Images whose verdicts are listed at the end.
const IMAGES: usize = 20;

/// Writes the text for `reports`.
pub(crate) fn render(reports: &[ImageReport], options: &RenderOptions, out: &mut dyn Write) -> io::Result<()> {
    let options = RenderOptions { width: options.width.max(NARROWEST), ..*options };
    let mut out = LineCounter { out, lines: 0 };
    for (index, report) in reports.iter().enumerate() {
        if index > 0 {
            writeln!(out)?;
        }
        image(report, &options, &mut out)?;
    }
    // The policy is the same for all images, so its exceptions are named once.
    if let Some(judgement) = reports.last().and_then(|report| report.judgement.as_ref()) {
        exceptions::expired(judgement, options.width, &mut out)?;
    }
    match reports {
        [one] if out.lines > SCREEN => {
            writeln!(out)?;
            summary::verdict(one, options.width, &mut out)
        }
        [] | [_] => Ok(()),
        many => {
            writeln!(out)?;
            overview(many, options.width, &mut out)
        }
    }
}

fn image(report: &ImageReport, options: &RenderOptions, out: &mut dyn Write) -> io::Result<()> {
    summary::verdict(report, options.width, out)?;
    summary::image(report, options.width, out)?;
    let least = least_shown(report, options.show);
    summary::states(report, least, out)?;
    summary::layers(report, least, options.width, out)?;
    findings::write(report, least, options, out)?;
    patches::write(report, options.width, out)?;
    exceptions::allowed(report, options.width, out)?;
    exceptions::baseline(report, options.width, out)?;
    gaps::write(&report.gaps, options.width, out)
}

/// The verdicts of several images, worst first, and how many fail.
fn overview(reports: &[ImageReport], width: usize, out: &mut dyn Write) -> io::Result<()> {
    let mut worst_first: Vec<&ImageReport> = reports.iter().collect();
    worst_first.sort_by_key(|report| Reverse(report.verdict()));
    for report in worst_first.iter().take(IMAGES) {
        let mut line = Line::begin(out, 0, width)?;
        line.text(verdict_style(report.verdict()), &report.verdict().name().to_uppercase())?;
        line.path(BOLD, &clean(summary::name(report), usize::MAX), "")?;
        line.text(PLAIN, &clean(report.platform.as_deref().unwrap_or_default(), 60))?;
        line.end()?;
    }
    if reports.len() > IMAGES {
        writeln!(out, "… and {}", plural((reports.len() - IMAGES) as u64, "more image"))?;
    }
    let count = |verdict| reports.iter().filter(|report| report.verdict() == verdict).count() as u64;
    let (failing, incomplete) = (count(Verdict::Fail), count(Verdict::Incomplete));
    let fail = if failing == 1 { "fails" } else { "fail" };
    write!(out, "{} scanned, {failing} {fail}", plural(reports.len() as u64, "image"))?;
    if incomplete > 0 {
        write!(out, ", {incomplete} incomplete")?;
    }
    writeln!(out)
}

/// The severity from which findings of `report` are listed: `show`, or what makes the verdict fail.
fn least_shown(report: &ImageReport, show: Severity) -> Severity {
    fail_on(report).map_or(show, |limit| limit.min(show))
}

/// The severity that fails.
fn fail_on(report: &ImageReport) -> Option<Severity> {
    report.judgement.as_ref().and_then(|judgement| judgement.policy.fail_on)
}

/// The findings that count for the verdict.
fn counted(report: &ImageReport) -> impl Iterator<Item = &Finding> {
    report.findings.iter().filter(|finding| finding.counts())
}

/// Counts the lines that pass through it.
struct LineCounter<'w> {
    out: &'w mut dyn Write,
    lines: usize,
}

impl Write for LineCounter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.lines += bytes.iter().take(written).filter(|byte| **byte == b'\n').count();
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
