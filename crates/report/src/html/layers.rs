//! The picture of the layers, how to read it, and the same as tables.

use std::io::{self, Write};

use layersift_model::{ImageReport, LayerSummary, State};

use super::Image;
use crate::grouped::{Entry, Section};
use crate::markup::{code, isolated, one_line, shown};
use crate::picture::{findings_by_layer, origin, step};
use crate::terminal::{human, plural, thousands};

/// Secrets whose table is open; a longer one is folded.
const OPEN: usize = 12;

/// Secrets in the table; the list of findings has all.
const SECRETS: usize = 500;

/// Layers in the table.
const LAYERS: usize = 1_000;

/// Places of a secret that are named in its row.
const PLACES: usize = 3;

/// Writes the picture and its tables.
pub(super) fn write(image: &Image<'_>, out: &mut dyn Write) -> io::Result<()> {
    image.heading("layers", "Layers over time", out)?;
    let report = image.report;
    if report.layers.is_empty() {
        return writeln!(out, "<p>The report has no layers.</p>");
    }
    writeln!(
        out,
        "<p>The base is at the bottom, and each layer lies on those before it, so time runs upwards. Every vertical \
         line is a secret, from the layer that brings it. It ends where a later layer deletes or overwrites the file; \
         anyone who pulls the image still gets the layer below. {}</p>",
        about_base(report)
    )?;
    writeln!(out, "<div class=\"wide\" tabindex=\"0\" role=\"group\" aria-label=\"Picture of the layers\">")?;
    writeln!(out, "{}</div>", image.picture.svg())?;
    legend(image, out)?;
    secrets(image, out)?;
    table(image, out)
}

fn about_base(report: &ImageReport) -> &'static str {
    match &report.base {
        Some(base) if base.is_proven => "The layers of the base image were compared with it.",
        Some(_) => "Which layers are the base image's is what the author of the image claims.",
        None => "Which layers are those of a base image is not known.",
    }
}

fn legend(image: &Image<'_>, out: &mut dyn Write) -> io::Result<()> {
    if image.picture.lanes() == 0 {
        return writeln!(out, "<p>No secret was found, so there is no line.</p>");
    }
    writeln!(out, "<ul class=\"legend\">")?;
    for (mark, meaning) in [
        ("①", "a secret comes, with its number, or with × how many share the line"),
        ("▲", "it is in the final image"),
        ("✕", "its file is deleted"),
        ("■", "its file is overwritten"),
        ("C H M L I", "critical, high, medium, low, info"),
    ] {
        writeln!(out, "<li><span class=\"mark\">{mark}</span> {meaning}</li>")?;
    }
    writeln!(out, "</ul>")
}

/// The lines of the picture as a table.
fn secrets(image: &Image<'_>, out: &mut dyn Write) -> io::Result<()> {
    let all = image.sections.iter().flat_map(|section| {
        section.entries.iter().filter(|entry| entry.is_secret()).map(move |entry| (section, entry))
    });
    let all: Vec<(&Section<'_>, &Entry<'_>)> = all.collect();
    if all.is_empty() {
        return Ok(());
    }
    let open = if all.len() <= OPEN { " open" } else { "" };
    writeln!(out, "<details{open}><summary>The lines as a table: {}</summary>", plural(all.len() as u64, "secret"))?;
    writeln!(out, "<div class=\"wide\" tabindex=\"0\" role=\"group\" aria-label=\"Secrets\"><table><thead><tr>")?;
    for name in ["No.", "Severity", "Secret", "Masked", "Comes with", "Ends", "Where"] {
        writeln!(out, "<th scope=\"col\">{name}</th>")?;
    }
    writeln!(out, "</tr></thead><tbody>")?;
    all.iter().take(SECRETS).try_for_each(|(section, entry)| secret(image, section, entry, out))?;
    writeln!(out, "</tbody></table></div>")?;
    if all.len() > SECRETS {
        let more = plural((all.len() - SECRETS) as u64, "more secret");
        writeln!(out, "<p>{more}: see the findings.</p>")?;
    }
    writeln!(out, "</details>")
}

fn secret(image: &Image<'_>, section: &Section<'_>, entry: &Entry<'_>, out: &mut dyn Write) -> io::Result<()> {
    let (severity, number, id) = (section.severity, entry.number, image.id);
    let masked = entry.first().and_then(|finding| finding.secret.as_ref()).map_or("", |secret| &secret.masked);
    write!(out, "<tr data-entry=\"{number}\"><td><a href=\"#{id}-e{number}\">{number}</a></td>")?;
    write!(out, "<td><span class=\"severity {severity}\">{severity}</span></td>")?;
    write!(out, "<td>{}</td><td>{}</td>", shown(&one_line(&section.rule.title, 200)), code(&one_line(masked, 120)))?;
    let mut came: Vec<String> = Vec::new();
    let mut ended: Vec<String> = Vec::new();
    let mut paths: Vec<String> = Vec::new();
    for finding in &entry.places {
        let (from, to, path) = match finding.file() {
            None => ("no layer".into(), "in the final image".into(), super::places::outside(finding)),
            Some(file) => {
                let to = match (&file.ended_by, file.state) {
                    (_, State::Present) => "in the final image".into(),
                    (Some(end), state) => format!("{} in layer {}", state.name(), end.index),
                    (None, state) => format!("{} in layer {}", state.name(), file.layer.index),
                };
                (format!("layer {}", file.layer.index), to, one_line(&file.full_path(" ▸ "), 300))
            }
        };
        for (list, value) in [(&mut came, from), (&mut ended, to), (&mut paths, code(&path).to_string())] {
            if !list.contains(&value) && list.len() <= PLACES {
                list.push(value);
            }
        }
    }
    let join = |list: &[String]| {
        let more = if list.len() > PLACES { ", …" } else { "" };
        list.get(..PLACES).unwrap_or(list).join(", ") + more
    };
    writeln!(out, "<td>{}</td><td>{}</td><td>{}</td></tr>", join(&came), join(&ended), join(&paths))
}

/// The layers as a table, with their digests.
fn table(image: &Image<'_>, out: &mut dyn Write) -> io::Result<()> {
    let report = image.report;
    let layers = plural(report.layers.len() as u64, "layer");
    writeln!(out, "<details><summary>The stack as a table: {layers}</summary>")?;
    writeln!(out, "<div class=\"wide\" tabindex=\"0\" role=\"group\" aria-label=\"Layers\"><table><thead><tr>")?;
    for name in ["Layer", "Instruction", "Findings", "Stored", "Size", "Files", "Removes", "Origin", "Dockerfile"] {
        writeln!(out, "<th scope=\"col\">{name}</th>")?;
    }
    writeln!(out, "</tr></thead><tbody>")?;
    let findings = findings_by_layer(report);
    for layer in report.layers.iter().take(LAYERS) {
        row(report, layer, findings.get(&Some(layer.index)).copied().unwrap_or(0), out)?;
    }
    writeln!(out, "</tbody></table></div>")?;
    if report.layers.len() > LAYERS {
        let more = plural((report.layers.len() - LAYERS) as u64, "more layer");
        writeln!(out, "<p>{more}: see the JSON report.</p>")?;
    }
    writeln!(out, "</details>")
}

fn row(report: &ImageReport, layer: &LayerSummary, findings: u64, out: &mut dyn Write) -> io::Result<()> {
    let made = layer.created_by.as_deref().map(|made| code(&one_line(made, 2_000)).to_string());
    let unread = if layer.is_read { "" } else { " <strong>not read</strong>" };
    write!(out, "<tr><td>{}{unread}</td><td>{}</td>", layer.index, made.unwrap_or_else(|| "not known".into()))?;
    write!(out, "<td class=\"number\">{}</td>", thousands(findings))?;
    write!(out, "<td class=\"number\">{}</td>", human(layer.stored_bytes))?;
    write!(out, "<td class=\"number\">{}</td>", human(layer.bytes))?;
    write!(out, "<td class=\"number\">{}</td>", thousands(layer.files))?;
    write!(out, "<td class=\"number\">{}</td>", thousands(layer.whiteouts.len() as u64))?;
    write!(out, "<td>{}</td>", origin(report, layer).unwrap_or_else(|| "not known".into()))?;
    writeln!(out, "<td>{}</td></tr>", isolated(&step(layer).unwrap_or_default()))
}
