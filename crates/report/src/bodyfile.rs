//! Bodyfile of The Sleuth Kit 3, for `mactime`: a line for each finding.
//!
//! Source: The Sleuth Kit wiki, "Body file": `MD5|name|inode|mode|UID|GID|size|atime|mtime|ctime|crtime`; lines that
//! begin with `#` are comments.
//!
//! The report has no times of files. Birth is the time of the layer that brought the file, change that of the layer
//! that overwrote or deleted it; both are from the history of the image. Where neither is known, the time of the scan
//! is the access.

use std::io::{self, Write};

use jiff::Timestamp;
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
            event(report, &name, None, None, out)?;
        }
    }
    Ok(())
}

fn line(report: &ImageReport, finding: &Finding, out: &mut dyn Write) -> io::Result<()> {
    let image = exchange::image_name(report);
    let secret = exchange::masked(finding).map(|masked| format!(" {masked}")).unwrap_or_default();
    let what = format!("{} {}{secret}", finding.severity, exchange::title(finding));
    let Some(file) = finding.file() else {
        let born = report.layers.last().and_then(|layer| layer.created_at).map(seconds);
        let name = format!("{image}:[{}] ({what})", exchange::place(finding));
        return event(report, &name, born, None, out);
    };
    let time_of = |index: usize| {
        let layer = report.layers.iter().find(|layer| layer.index == index);
        layer.and_then(|layer| layer.created_at).map(seconds)
    };
    let ended = file.ended_by.as_ref().map_or(file.layer.index, |by| by.index);
    let (mark, changed) = match file.state {
        State::Present => ("", None),
        State::Overwritten => (" (overwritten)", time_of(ended)),
        State::Deleted => (" (deleted)", time_of(ended)),
    };
    let name = format!("{image}:/{}{mark} ({what}, layer {})", exchange::place(finding), file.layer.index);
    event(report, &name, time_of(file.layer.index), changed, out)
}

/// Writes a line. A time that is not known is -1, which `mactime` leaves out; one of a line has to be known.
fn event(
    report: &ImageReport,
    name: &str,
    born: Option<i64>,
    changed: Option<i64>,
    out: &mut dyn Write,
) -> io::Result<()> {
    let scanned = born.or(changed).is_none().then(|| report.scanned_at.map_or(0, seconds));
    let [accessed, changed, born] = [scanned, changed, born].map(|time| time.unwrap_or(-1));
    writeln!(out, "0|{}|0|0|0|0|0|{accessed}|-1|{changed}|{born}", field(name))
}

/// `mactime` knows no time before 1970.
fn seconds(at: Timestamp) -> i64 {
    at.as_second().max(0)
}

/// A field, in which `|` ends it: written as paths print other bytes.
fn field(text: &str) -> String {
    text.replace('|', "\\x7c")
}
