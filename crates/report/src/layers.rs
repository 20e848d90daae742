//! The output of `layersift layers`: what each layer of an image is.

use std::io::{self, Write};

use layersift_model::{BuildStep, Digest, ImageReport, LayerOrigin, LayerSummary};
use serde::Serialize;

use crate::built;
use crate::terminal::{BOLD, DIM, Line, PLAIN, WARNING, clean, human, plural, safe, thousands};

/// Whiteouts that are listed for a layer in text; more are counted.
const WHITEOUTS: usize = 10;

/// Gaps that are listed in text; more are counted.
const GAPS: usize = 20;

/// Columns before an instruction.
const NUMBERS: usize = 3 + 2 + 12 + 2 + 8 + 2 + 8 + 2 + 9 + 2;

/// Writes a table for a person, of at most `width` columns.
///
/// # Errors
/// Those of `out`.
pub fn text(reports: &[ImageReport], width: usize, out: &mut dyn Write) -> io::Result<()> {
    for (index, report) in reports.iter().enumerate() {
        if index > 0 {
            writeln!(out)?;
        }
        table(report, width, out)?;
    }
    Ok(())
}

/// Writes the layers of all images as JSON.
///
/// # Errors
/// Those of `out`.
pub fn json(reports: &[ImageReport], out: &mut dyn Write) -> io::Result<()> {
    let images: Vec<Image<'_>> = reports.iter().map(Image::new).collect();
    layersift_model::json_output::write_pretty(&mut *out, &Document { schema: layersift_model::SCHEMA, images })?;
    writeln!(out)
}

fn table(report: &ImageReport, width: usize, out: &mut dyn Write) -> io::Result<()> {
    let name = report.reference.as_deref().unwrap_or(&report.target);
    let mut line = Line::begin(out, 0, width)?;
    line.path(BOLD, &clean(name, usize::MAX), "")?;
    line.text(PLAIN, &clean(report.platform.as_deref().unwrap_or("unknown platform"), 60))?;
    line.end()?;
    let columns = format!("{:>3}  {:<12}  {:>8}  {:>8}  {:>9}", "#", "digest", "stored", "size", "files");
    let title = if has_room(width) { "  instruction" } else { "" };
    writeln!(out, "{DIM}{columns}{title}{DIM:#}")?;
    report.layers.iter().try_for_each(|layer| row(report, layer, width, out))?;
    gaps(report, width, out)?;
    let layers = plural(report.layers.len() as u64, "layer");
    writeln!(out, "{layers}, {}, {}", plural(report.files(), "file"), human(report.bytes()))
}

/// Whether an instruction fits after the numbers of its layer.
fn has_room(width: usize) -> bool {
    width >= NUMBERS + 30
}

fn row(report: &ImageReport, layer: &LayerSummary, width: usize, out: &mut dyn Write) -> io::Result<()> {
    let digest = layer.digest.as_ref().map_or("", Digest::short);
    let (stored, size) = (human(layer.stored_bytes), human(layer.bytes));
    write!(out, "{:>3}  {digest:<12}  {stored:>8}  {size:>8}  {:>9}", layer.index, thousands(layer.files))?;
    let base = built::layer(report, layer.origin);
    let made = format!("{base}{}", layer.created_by.as_deref().unwrap_or("(unknown)"));
    if has_room(width) {
        writeln!(out, "  {}", clean(&made, width - NUMBERS))?;
    } else {
        writeln!(out, "\n     {}", clean(&made, width.saturating_sub(5)))?;
    }
    for path in layer.whiteouts.iter().take(WHITEOUTS) {
        let mut line = Line::begin(out, 5, width)?;
        line.path(PLAIN, &format!("removes {}", safe(path)), "")?;
        line.end()?;
    }
    if layer.whiteouts.len() > WHITEOUTS {
        let more = thousands((layer.whiteouts.len() - WHITEOUTS) as u64);
        writeln!(out, "     … and removes {more} more")?;
    }
    Ok(())
}

fn gaps(report: &ImageReport, width: usize, out: &mut dyn Write) -> io::Result<()> {
    for gap in report.gaps.iter().take(GAPS) {
        let mut line = Line::begin(out, 0, width)?;
        line.text(WARNING, "gap")?;
        line.text(PLAIN, gap.gap.reason.name())?;
        line.text(PLAIN, &gap.layer.map(|layer| format!("layer {layer}")).unwrap_or_default())?;
        line.text(DIM, &clean(&gap.gap.detail, 300))?;
        line.end()?;
    }
    if report.gaps.len() > GAPS {
        writeln!(out, "… and {}", plural((report.gaps.len() - GAPS) as u64, "more gap"))?;
    }
    Ok(())
}

#[derive(Serialize)]
struct Document<'r> {
    schema: u32,
    images: Vec<Image<'r>>,
}

#[derive(Serialize)]
struct Image<'r> {
    target: &'r str,
    reference: &'r Option<String>,
    manifest_digest: &'r Option<Digest>,
    platform: &'r Option<String>,
    layers: Vec<Layer<'r>>,
}

#[derive(Serialize)]
struct Layer<'r> {
    index: usize,
    digest: &'r Option<Digest>,
    diff_id: &'r Option<Digest>,
    media_type: &'r Option<String>,
    created_by: &'r Option<String>,
    stored_bytes: u64,
    bytes: u64,
    files: u64,
    removes: &'r [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    origin: Option<LayerOrigin>,
    #[serde(skip_serializing_if = "Option::is_none")]
    step: &'r Option<BuildStep>,
}

impl<'r> Image<'r> {
    fn new(report: &'r ImageReport) -> Image<'r> {
        Image {
            target: &report.target,
            reference: &report.reference,
            manifest_digest: &report.manifest_digest,
            platform: &report.platform,
            layers: report.layers.iter().map(Layer::new).collect(),
        }
    }
}

impl<'r> Layer<'r> {
    fn new(line: &'r LayerSummary) -> Layer<'r> {
        Layer {
            index: line.index,
            digest: &line.digest,
            diff_id: &line.diff_id,
            media_type: &line.media_type,
            created_by: &line.created_by,
            stored_bytes: line.stored_bytes,
            bytes: line.bytes,
            files: line.files,
            removes: &line.whiteouts,
            origin: line.origin,
            step: &line.step,
        }
    }
}
