//! Bodyfile of The Sleuth Kit 3, for `mactime`: a line for each finding.
//!
//! Source: The Sleuth Kit wiki, "Body file": `MD5|name|inode|mode|UID|GID|size|atime|mtime|ctime|crtime`; lines that begin
//! with `#` are comments, and a line needs a time that is not 0.
//!
//! The report has no times of files. Birth is the time of the layer that brought the file, change that of the layer
//! that overwrote or deleted it; both are from the history of the image. Where neither is known, the time of the scan
//! is the access.

use std::io::{self, Write};

use layersift_model::{Finding, ImageReport, State};

use crate::RenderOptions;
use crate::exchange;

/// Writes a line for each finding of all reports, and for what was not read.
pub(crate) fn render(reports: &[ImageReport], _: &RenderOptions, out: &mut dyn Write) -> io::Result<()> {
    for report in reports {
        let (image, verdict) = (exchange::image_name(report), report.verdict().name());
        writeln!(out, "# {image} {}: {verdict}: {}", exchange::platform(report), exchange::why(report))?;
        if !exchange::has_own_key(report) {
            writeln!(out, "# fingerprints: {}", exchange::NO_FINGERPRINTS)?;
        }
        for finding in &report.findings {
            line(report, finding, out)?;
        }
        for gap in &report.gaps {
            let name = format!("{image} (not read) {}", exchange::gap(gap));
            writeln!(out, "0|{}|0|0|0|0|0|{}|0|0|0", field(&name), scanned(report))?;
        }
    }
    Ok(())
}

fn line(report: &ImageReport, finding: &Finding, out: &mut dyn Write) -> io::Result<()> {
    let time_of = |index: usize| {
        let layer = report.layers.iter().find(|layer| layer.index == index);
        layer.and_then(|layer| layer.created_at).map_or(0, |at| at.as_second().max(0))
    };
    let place = match finding.file() {
        Some(_) => format!("/{}", exchange::place(finding)),
        None => format!("[{}]", exchange::place(finding)),
    };
    let (born, changed, mark) = match finding.file() {
        Some(file) => {
            let ended = file.ended_by.as_ref().map_or(file.layer.index, |by| by.index);
            let mark = match file.state {
                State::Present => "",
                State::Overwritten => " (overwritten)",
                State::Deleted => " (deleted)",
            };
            let changed = if file.state == State::Present { 0 } else { time_of(ended) };
            (time_of(file.layer.index), changed, mark)
        }
        None => (report.layers.iter().next_back().map_or(0, |layer| time_of(layer.index)), 0, ""),
    };
    let layer = finding.file().map(|file| format!(", layer {}", file.layer.index)).unwrap_or_default();
    let secret = exchange::masked(finding).map(|masked| format!(" {masked}")).unwrap_or_default();
    let what = format!("{} {}{secret}{layer}", finding.severity, exchange::title(finding));
    let name = format!("{}:{place}{mark} ({what})", exchange::image_name(report));
    let accessed = if (born, changed) == (0, 0) { scanned(report) } else { 0 };
    writeln!(out, "0|{}|0|0|0|0|0|{accessed}|0|{changed}|{born}", field(&name))
}

/// When the image was scanned.
fn scanned(report: &ImageReport) -> i64 {
    report.scanned_at.map_or(0, |at| at.as_second().max(0))
}

/// A field, in which `|` ends it: written as paths print other bytes.
fn field(text: &str) -> String {
    text.replace('|', "\\x7c")
}
