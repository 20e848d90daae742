//! Where a finding is: file, position, package, layer and lifetime, and how the policy judges it.

use std::collections::HashMap;
use std::io::{self, Write};

use layersift_model::{FileLocation, Finding, LayerOrigin, LayerRef, Location, State};

use super::Image;
use crate::markup::{code, isolated, one_line, short_path, shown};
use crate::picture::step_name;

/// Characters of a path. Longer ones than any in practice are cut in their middle.
const PATH: usize = 600;

/// Characters of an instruction.
const INSTRUCTION: usize = 90;

/// Findings that a combination names.
const RELATED: usize = 20;

/// What the places of an image are written with.
pub(super) struct Places<'r> {
    /// The numbers of findings by their id, for those that combine others.
    numbers: HashMap<&'r str, usize>,
    /// Whether the layers of the base image were compared with it.
    is_base_proven: bool,
}

impl<'r> Places<'r> {
    pub(super) fn new(image: &Image<'r>) -> Places<'r> {
        let entries = image.sections.iter().flat_map(|section| &section.entries);
        let numbers =
            entries.flat_map(|entry| entry.places.iter().map(|finding| (&finding.id[..], entry.number))).collect();
        Places { numbers, is_base_proven: image.report.base.as_ref().is_some_and(|base| base.is_proven) }
    }

    /// Writes the content of a place.
    pub(super) fn write(&self, finding: &Finding, out: &mut dyn Write) -> io::Result<()> {
        match &finding.location {
            Location::File(file) => self::file(file, finding.secret.is_some(), out)?,
            Location::Image => {}
            Location::Document(_) | Location::Config(_) => write!(out, "{}", code(&outside(finding)))?,
        }
        let parts = self.about(finding);
        if !parts.is_empty() {
            write!(out, " <small>{}</small>", parts.join(" · "))?;
        }
        if let Some(allowed) = &finding.allowed {
            let reason = one_line(&allowed.reason, 600);
            let reason = isolated(&reason);
            write!(out, " <small class=\"judged\">allowed until {}: {reason}</small>", allowed.expires)?;
        }
        if finding.baseline {
            write!(out, " <small class=\"judged\">in the baseline</small>")?;
        }
        Ok(())
    }

    /// What else is known about a finding, as HTML.
    fn about(&self, finding: &Finding) -> Vec<String> {
        let step = finding.step.as_ref().map(|step| isolated(&step_name(step)).to_string());
        let origin = finding.origin.map(|origin| {
            let layer = match origin {
                LayerOrigin::Base => "from the base image",
                LayerOrigin::Own => "from an own layer",
            };
            format!("{layer}, {}", if self.is_base_proven { "proven" } else { "claimed" })
        });
        let note = finding.note.as_deref().map(|note| isolated(&one_line(note, 600)).to_string());
        let related = finding.related.iter().take(RELATED).filter_map(|id| self.numbers.get(&id[..]));
        let related: Vec<String> = related.map(ToString::to_string).collect();
        let related = (!related.is_empty()).then(|| format!("combines findings {}", related.join(", ")));
        [step, origin, note, related].into_iter().flatten().collect()
    }
}

/// The place of a finding that is not in a file, as text.
pub(super) fn outside(finding: &Finding) -> String {
    match &finding.location {
        Location::Config(field) => format!("configuration {}", one_line(field, 300)),
        Location::Document(location) => {
            let document = &location.document;
            let inside = location.inside.iter().map(String::as_str);
            let parts = std::iter::once(&*document.kind).chain(document.json_path.as_deref()).chain(inside);
            let parts: Vec<String> = parts.map(|part| one_line(part, 200)).collect();
            parts.join(" ") + &position(location.line, location.column) + &views(&location.views)
        }
        Location::File(file) => one_line(&file.path, PATH),
        Location::Image => String::new(),
    }
}

fn position(line: Option<u64>, column: Option<u64>) -> String {
    match (line, column) {
        (Some(line), Some(column)) => format!(":{line}:{column}"),
        _ => String::new(),
    }
}

fn views(views: &[std::borrow::Cow<'static, str>]) -> String {
    views.iter().map(|view| format!(" in {}", one_line(view, 40))).collect()
}

fn file(file: &FileLocation, has_instructions: bool, out: &mut dyn Write) -> io::Result<()> {
    write!(out, "{}", code(&short_path(&file.full_path(" ▸ "), PATH)))?;
    let position = match (file.line, file.offset) {
        (None, Some(offset)) => format!(" at byte {offset}"),
        _ => position(file.line, file.column),
    };
    write!(out, "{}{}", position, shown(&views(&file.views)))?;
    context(file, out)?;
    let instruction = |layer: &LayerRef| match layer.created_by.as_deref().filter(|_| has_instructions) {
        Some(made) => format!(" {}", code(&one_line(made, INSTRUCTION))),
        None => String::new(),
    };
    let came = format!("layer {}{}", file.layer.index, instruction(&file.layer));
    let state = file.state.name();
    let mark = match file.state {
        State::Present => "▲",
        State::Overwritten => "■",
        State::Deleted => "✕",
    };
    write!(out, " <span class=\"life\"><b>{mark} {state}</b>")?;
    match &file.ended_by {
        Some(end) => write!(out, " in layer {}{}, still in {came}</span>", end.index, instruction(end)),
        None => write!(out, " since {came}</span>"),
    }
}

/// Section and symbol, and the package that the file belongs to.
fn context(file: &FileLocation, out: &mut dyn Write) -> io::Result<()> {
    if let Some(binary) = &file.binary {
        let kind = if binary.node_addon { "Node addon, " } else { "" };
        let parts = [Some(&*binary.format), binary.section.as_deref(), binary.symbol.as_deref()];
        let parts: Vec<String> = parts.into_iter().flatten().map(|part| one_line(part, 120)).collect();
        write!(out, " <small>{kind}{}</small>", code(&parts.join(" ")))?;
    }
    if let Some(package) = &file.package {
        let version = package.version.as_deref().map(|version| format!("@{version}")).unwrap_or_default();
        let shipped = if file.as_shipped { ", as its package ships it" } else { "" };
        let name = one_line(&format!("{} {}{version}", package.ecosystem, package.name), 200);
        write!(out, " <small>{}{shipped}</small>", code(&name))?;
    }
    Ok(())
}
