//! The layers that a finding came and went with, drawn as a line of one character a layer.

use std::io::{self, Write};

use layersift_model::{FileLocation, LayerRef, State};

use crate::terminal::{BOLD, DIM, Line, PLAIN, clean, paragraph};

/// Layers that a timeline is drawn for.
const TIMELINE: usize = 64;

/// Writes since when the file is there, and which layer removed it. `layers` is how many the image has, `built` where
/// the file came into it.
pub(super) fn write(
    file: &FileLocation,
    layers: usize,
    built: &str,
    indent: usize,
    width: usize,
    out: &mut dyn Write,
) -> io::Result<()> {
    let FileLocation { layer, state, ended_by, .. } = file;
    let drawn = if layers * 2 > width { String::new() } else { timeline(layer.index, end(file), layers) };
    let separator = if drawn.is_empty() { "" } else { " " };
    let Some(ended_by) = ended_by else {
        // In a root file system or a single file there is nothing to tell.
        if layers < 2 && *state == State::Present {
            return Ok(());
        }
        let mut line = Line::begin(out, indent, width)?;
        line.text(BOLD, &format!("{drawn}{separator}{} since layer {}", state.name(), layer.index))?;
        instruction(&mut line, layer, built)?;
        return line.end();
    };
    let (state, end, start) = (state.name(), ended_by.index, layer.index);
    let label = format!("{:indent$}{drawn}{separator}", "");
    let text = format!("{state} in layer {end}, still in layer {start} for anyone who pulls it");
    paragraph(out, (DIM, &label), &text, indent + 2, width)?;
    for (verb, layer, built) in [("came", layer, built), ("went", ended_by, "")] {
        let mut line = Line::begin(out, indent, width)?;
        line.text(PLAIN, &format!("{verb}  layer {}", layer.index))?;
        instruction(&mut line, layer, built)?;
        line.end()?;
    }
    Ok(())
}

/// The same in a few words.
pub(super) fn short(file: &FileLocation, layers: usize) -> String {
    let layer = file.layer.index;
    match &file.ended_by {
        Some(end) => format!("layer {layer}, {} in layer {}", file.state.name(), end.index),
        None if layers < 2 && file.state == State::Present => String::new(),
        None => format!("layer {layer}"),
    }
}

/// Whether two files came and went with the same layers.
pub(super) fn is_same(a: &FileLocation, b: &FileLocation) -> bool {
    a.state == b.state && a.layer.index == b.layer.index && end(a) == end(b)
}

/// The layer that ended the file.
fn end(file: &FileLocation) -> Option<usize> {
    file.ended_by.as_ref().map(|end| end.index)
}

/// The short digest of a layer, where it came from, and the instruction that made it.
fn instruction(line: &mut Line<'_>, layer: &LayerRef, built: &str) -> io::Result<()> {
    line.text(DIM, layer.digest.as_ref().map_or("", |digest| digest.short()))?;
    line.text(DIM, built)?;
    line.rest(PLAIN, &clean(layer.created_by.as_deref().unwrap_or_default(), 400))
}

/// One character a layer: `●` where it came, `━` while it is there, `✕` where it went.
fn timeline(start: usize, end: Option<usize>, layers: usize) -> String {
    if layers > TIMELINE {
        return String::new();
    }
    let mark = |index: usize| match end {
        _ if index < start => '·',
        _ if index == start => '●',
        Some(end) if index == end => '✕',
        Some(end) if index > end => '·',
        _ => '━',
    };
    (0..layers).map(mark).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeline_shows_when_it_came_and_went() {
        assert_eq!(timeline(1, Some(3), 6), "·●━✕··");
        assert_eq!(timeline(0, None, 3), "●━━");
        assert_eq!(timeline(2, Some(2), 4), "··●·");
        assert_eq!(timeline(2, None, 100), "");
    }
}
