//! Bodyfile of The Sleuth Kit 3, for `mactime`: a line for each finding.
//!
//! Source: The Sleuth Kit wiki, "Body file": `MD5|name|inode|mode|UID|GID|size|atime|mtime|ctime|crtime`; lines that
//! begin with `#` are comments.
//!
//! Modification, mode, owner and size are what the layer records of the file. Birth is the time of the layer that
//! brought the file, change that of the layer that overwrote or deleted it; both are from the history of the image.
//! Where no time is known, that of the scan is the access. Who builds an image may set any of these times.

use std::io::{self, Write};

use jiff::Timestamp;
use layersift_model::{FileAttributes, Finding, ImageReport, State};

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
            event(report, &name, None, Times::default(), out)?;
        }
    }
    Ok(())
}

fn line(report: &ImageReport, finding: &Finding, out: &mut dyn Write) -> io::Result<()> {
    let image = exchange::image_name(report);
    let secret = exchange::masked(finding).map(|masked| format!(" {masked}")).unwrap_or_default();
    let what = format!("{} {}{secret}", finding.severity, exchange::title(finding));
    let Some(file) = finding.file() else {
        let born = report.layers.last().and_then(|layer| layer.created_at);
        let name = format!("{image}:[{}] ({what})", exchange::place(finding));
        return event(report, &name, None, Times { born, ..Times::default() }, out);
    };
    let time_of = |index: usize| report.layers.iter().find(|layer| layer.index == index)?.created_at;
    let ended = file.ended_by.as_ref().map_or(file.layer.index, |by| by.index);
    let (mark, changed) = match file.state {
        State::Present => ("", None),
        State::Overwritten => (" (overwritten)", time_of(ended)),
        State::Deleted => (" (deleted)", time_of(ended)),
    };
    let name = format!("{image}:/{}{mark} ({what}, layer {})", exchange::place(finding), file.layer.index);
    let attributes = file.attributes.as_deref();
    let modified = attributes.and_then(|attributes| attributes.modified_at);
    event(report, &name, attributes, Times { modified, changed, born: time_of(file.layer.index) }, out)
}

/// The times of a line, as far as they are known.
#[derive(Default)]
struct Times {
    modified: Option<Timestamp>,
    changed: Option<Timestamp>,
    born: Option<Timestamp>,
}

/// Writes a line. A time that is not known is -1, which `mactime` leaves out; one of a line has to be known.
fn event(
    report: &ImageReport,
    name: &str,
    attributes: Option<&FileAttributes>,
    times: Times,
    out: &mut dyn Write,
) -> io::Result<()> {
    let Times { modified, changed, born } = times;
    let is_timeless = [modified, changed, born].iter().all(Option::is_none);
    let accessed = is_timeless.then(|| report.scanned_at.unwrap_or(Timestamp::UNIX_EPOCH));
    let [accessed, modified, changed, born] = [accessed, modified, changed, born].map(|time| time.map_or(-1, seconds));
    let mode = attributes.map_or_else(|| "0".into(), |attributes| format!("r/r{}", permissions(attributes.mode)));
    let FileAttributes { size, uid, gid, .. } = attributes.cloned().unwrap_or_default();
    let [uid, gid] = [uid, gid].map(Option::unwrap_or_default);
    writeln!(out, "0|{}|0|{mode}|{uid}|{gid}|{size}|{accessed}|{modified}|{changed}|{born}", field(name))
}

/// Permission bits as `ls` writes them.
fn permissions(mode: u32) -> String {
    let is_set = |bit: u32| mode >> bit & 1 == 1;
    let letter = |bit: u32, letter: char| if is_set(bit) { letter } else { '-' };
    // The last bit of three also shows one of the special bits.
    let last = |bit: u32, special: u32, name: char| match (is_set(bit), is_set(special)) {
        (true, true) => name,
        (false, true) => name.to_ascii_uppercase(),
        (true, false) => 'x',
        (false, false) => '-',
    };
    let three = |last_bit: u32, last: char| [letter(last_bit + 2, 'r'), letter(last_bit + 1, 'w'), last];
    [three(6, last(6, 11, 's')), three(3, last(3, 10, 's')), three(0, last(0, 9, 't'))].concat().into_iter().collect()
}

/// `mactime` knows no time before 1970.
fn seconds(at: Timestamp) -> i64 {
    at.as_second().max(0)
}

/// A field, in which `|` ends it: written as paths print other bytes.
fn field(text: &str) -> String {
    text.replace('|', "\\x7c")
}
