//! What was not read, by reason, the most frequent first.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::io::{self, Write};

use layersift_model::{GapReason, ImageGap};

use super::Image;
use crate::markup::{code, isolated, one_line, short_path};
use crate::terminal::{human, plural, thousands};

/// Gaps of one reason that are written; more are counted.
const SHOWN: usize = 200;

/// Writes the gaps.
pub(super) fn write(image: &Image<'_>, out: &mut dyn Write) -> io::Result<()> {
    image.heading("gaps", "What was not read", out)?;
    if image.report.gaps.is_empty() {
        return writeln!(out, "<p>Everything was read.</p>");
    }
    writeln!(out, "<p>Secrets in these places would not have been found. An image with a gap never passes.</p>")?;
    let mut by_reason: BTreeMap<GapReason, Vec<&ImageGap>> = BTreeMap::new();
    image.report.gaps.iter().for_each(|gap| by_reason.entry(gap.gap.reason).or_default().push(gap));
    let mut by_reason: Vec<(GapReason, Vec<&ImageGap>)> = by_reason.into_iter().collect();
    by_reason.sort_by_key(|(_, gaps)| Reverse(gaps.len()));
    let level = image.level + 1;
    for (reason, gaps) in by_reason {
        let count = thousands(gaps.len() as u64);
        writeln!(out, "<h{level}>{} <span class=\"count\">{count}</span></h{level}>\n<ul>", reason.name())?;
        gaps.iter().take(SHOWN).try_for_each(|gap| one(gap, out))?;
        writeln!(out, "</ul>")?;
        if gaps.len() > SHOWN {
            let more = plural((gaps.len() - SHOWN) as u64, "more gap");
            writeln!(out, "<p>{more}: see the JSON report.</p>")?;
        }
    }
    Ok(())
}

fn one(ImageGap { gap, layer }: &ImageGap, out: &mut dyn Write) -> io::Result<()> {
    write!(out, "<li>")?;
    if let Some(path) = &gap.path {
        write!(out, "{} ", code(&short_path(path, 600)))?;
    }
    if let Some(layer) = layer {
        write!(out, "layer {layer} ")?;
    }
    if let Some(bytes) = gap.bytes {
        write!(out, "{} ", human(bytes))?;
    }
    writeln!(out, "<small>{}</small></li>", isolated(&one_line(&gap.detail, 600)))
}
