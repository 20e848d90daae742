//! Proposed changes of the Dockerfile, as the diffs that JSON has.

use std::io::{self, Write};

use layersift_model::ImageReport;

use crate::terminal::{BOLD, DIM, PLAIN, clean, plural};

/// Changes that are written; more are counted.
const SHOWN: usize = 10;

/// Columns before a line.
const INDENT: usize = 2;

/// Writes the changes; nothing where there are none. A line with control characters, or one that is too long, is not
/// written exactly.
pub(super) fn write(report: &ImageReport, width: usize, out: &mut dyn Write) -> io::Result<()> {
    if report.patches.is_empty() {
        return Ok(());
    }
    writeln!(out, "\n{BOLD}PROPOSED CHANGES{BOLD:#}")?;
    for patch in report.patches.iter().take(SHOWN) {
        for line in patch.diff.lines() {
            let style = if line.starts_with(['+', '-']) { PLAIN } else { DIM };
            writeln!(out, "  {style}{}{style:#}", clean(line, width.saturating_sub(INDENT)))?;
        }
    }
    if report.patches.len() > SHOWN {
        let more = plural((report.patches.len() - SHOWN) as u64, "more change");
        writeln!(out, "  {DIM}… and {more} (--format json){DIM:#}")?;
    }
    Ok(())
}
