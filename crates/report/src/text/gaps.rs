//! The gaps, grouped by reason, the most frequent first.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::io::{self, Write};

use layersift_model::{GapReason, ImageGap};

use crate::terminal::{BOLD, DIM, Line, PLAIN, WARNING, clean, human, safe, thousands};

/// Gaps of one reason that are listed; more are counted.
const SHOWN: usize = 5;

/// Writes the gaps; nothing where there are none.
pub(super) fn write(gaps: &[ImageGap], width: usize, out: &mut dyn Write) -> io::Result<()> {
    if gaps.is_empty() {
        return Ok(());
    }
    writeln!(out, "\n{WARNING}NOT SCANNED{WARNING:#}")?;
    let mut by_reason: BTreeMap<GapReason, Vec<&ImageGap>> = BTreeMap::new();
    gaps.iter().for_each(|gap| by_reason.entry(gap.gap.reason).or_default().push(gap));
    let mut by_reason: Vec<(GapReason, Vec<&ImageGap>)> = by_reason.into_iter().collect();
    by_reason.sort_by_key(|(_, gaps)| Reverse(gaps.len()));
    for (reason, gaps) in &by_reason {
        let count = if gaps.len() == 1 { String::new() } else { thousands(gaps.len() as u64) };
        let mut line = Line::begin(out, 2, width)?;
        line.text(BOLD, reason.name())?;
        line.text(PLAIN, &count)?;
        line.end()?;
        gaps.iter().take(SHOWN).try_for_each(|gap| one(gap, width, out))?;
        if gaps.len() > SHOWN {
            let more = thousands((gaps.len() - SHOWN) as u64);
            writeln!(out, "    {DIM}… and {more} more (--format json lists all){DIM:#}")?;
        }
    }
    Ok(())
}

fn one(ImageGap { gap, layer }: &ImageGap, width: usize, out: &mut dyn Write) -> io::Result<()> {
    let mut line = Line::begin(out, 4, width)?;
    line.path(PLAIN, &safe(gap.path.as_deref().unwrap_or_default()), "")?;
    line.text(DIM, &layer.map(|layer| format!("layer {layer}")).unwrap_or_default())?;
    line.text(DIM, &gap.bytes.map(human).unwrap_or_default())?;
    line.text(DIM, &clean(&gap.detail, 300))?;
    line.end()
}
