//! Proposed changes of the Dockerfile, as diffs.

use std::io::{self, Write};

use super::Image;
use crate::markup::{one_line, shown};
use crate::terminal::plural;

/// Changes that are written; more are counted.
const SHOWN: usize = 100;

/// Writes the changes; nothing where there are none.
pub(super) fn write(image: &Image<'_>, out: &mut dyn Write) -> io::Result<()> {
    let patches = &image.report.patches;
    if patches.is_empty() {
        return Ok(());
    }
    image.heading("patches", "Proposed changes", out)?;
    for patch in patches.iter().take(SHOWN) {
        let findings = plural(patch.findings.len() as u64, "finding");
        write!(out, "<p>For {findings}:</p>\n<pre tabindex=\"0\"><code dir=\"ltr\">")?;
        for line in patch.diff.lines() {
            writeln!(out, "{}", shown(&one_line(line, 600)))?;
        }
        writeln!(out, "</code></pre>")?;
    }
    if patches.len() > SHOWN {
        let more = plural((patches.len() - SHOWN) as u64, "more change");
        writeln!(out, "<p>{more}: see the JSON report.</p>")?;
    }
    Ok(())
}
