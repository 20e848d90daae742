//! `layersift layers`: what each layer of an image is.

use std::fmt::{self, Write};

use serde::Serialize;

use crate::text_parts::{clean, human, plural};
use layersift_model::{Digest, ImageReport, LayerSummary};

/// Whiteouts that are listed for a layer in text; the rest are counted.
const WHITEOUTS: usize = 10;

/// A table for a person.
pub fn text(reports: &[ImageReport]) -> String {
    let mut out = String::new();
    for report in reports {
        // Writing to a String cannot fail.
        let _ = table(&mut out, report);
    }
    out
}

fn table(out: &mut String, report: &ImageReport) -> fmt::Result {
    let name = report.reference.as_deref().unwrap_or(&report.target);
    let platform = report.platform.as_deref().unwrap_or("no platform");
    writeln!(out, "{}  {}", clean(name, 200), clean(platform, 60))?;
    writeln!(out, "{:>3}  {:<12}  {:>10}  {:>10}  {:>7}  INSTRUCTION", "#", "DIGEST", "STORED", "SIZE", "FILES")?;
    for layer in &report.layers {
        let digest = layer.digest.as_ref().map_or("", Digest::short);
        let made = layer.created_by.as_deref().map_or_else(|| "(unknown)".into(), |made| clean(made, 120));
        writeln!(
            out,
            "{:>3}  {digest:<12}  {:>10}  {:>10}  {:>7}  {made}",
            layer.index,
            human(layer.stored_bytes),
            human(layer.bytes),
            layer.files
        )?;
        whiteouts(out, layer)?;
    }
    for gap in &report.gaps {
        writeln!(out, "gap  {}  {}", gap.gap.reason.name(), clean(&gap.gap.detail, 300))?;
    }
    let layers = plural(report.layers.len() as u64, "layer");
    writeln!(out, "{layers}, {}, {}", plural(report.files(), "file"), human(report.bytes()))
}

fn whiteouts(out: &mut String, layer: &LayerSummary) -> fmt::Result {
    for path in layer.whiteouts.iter().take(WHITEOUTS) {
        writeln!(out, "     removes {}", clean(path, 200))?;
    }
    if layer.whiteouts.len() > WHITEOUTS {
        writeln!(out, "     … and removes {} more", layer.whiteouts.len() - WHITEOUTS)?;
    }
    Ok(())
}

/// The same as JSON: a list of images.
///
/// # Errors
/// Never for a report that a scan made; the error is that of the serializer.
pub fn json(reports: &[ImageReport]) -> serde_json::Result<String> {
    let images: Vec<Image<'_>> = reports.iter().map(Image::new).collect();
    serde_json::to_string_pretty(&Document { schema: layersift_model::SCHEMA, images })
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
        }
    }
}
