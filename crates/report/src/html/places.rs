//! Where a finding is: file, position, package, layer and lifetime, and how the policy judges it.

use std::collections::HashMap;
use std::io::{self, Write};

use layersift_model::{FileLocation, Finding, LayerRef, Location, State};

use crate::markup::{code, one_line, short_path, shown};
use crate::picture::step_name;

/// Characters of a path. Longer ones than any in practice are cut in their middle.
const PATH: usize = 600;

/// Characters of an instruction.
const INSTRUCTION: usize = 90;

/// Findings that a combination names.
const RELATED: usize = 20;

/// Writes the content of a place.
pub(super) fn write(finding: &Finding, numbers: &HashMap<&str, usize>, out: &mut dyn Write) -> io::Result<()> {
    match &finding.location {
        Location::File(file) => self::file(file, finding.secret.is_some(), out)?,
        Location::Image => {}
        Location::Document(_) | Location::Config(_) => write!(out, "{}", code(&outside(finding)))?,
    }
    let base = finding.origin.map(|origin| match origin {
        layersift_model::LayerOrigin::Base => "from the base image",
        layersift_model::LayerOrigin::Own => "from an own layer",
    });
    let step = finding.step.as_ref().map(|step| shown(&step_name(step)).to_string());
    let note = finding.note.as_deref().map(|note| shown(&one_line(note, 600)).to_string());
    let related: Vec<usize> =
        finding.related.iter().take(RELATED).filter_map(|id| numbers.get(&id[..]).copied()).collect();
    let related: Vec<String> = related.iter().map(ToString::to_string).collect();
    let related = (!related.is_empty()).then(|| format!("combines findings {}", related.join(", ")));
    let parts: Vec<String> =
        [step, base.map(Into::into), note, related].into_iter().flatten().filter(|part| !part.is_empty()).collect();
    if !parts.is_empty() {
        write!(out, " <small>{}</small>", parts.join(" · "))?;
    }
    if let Some(allowed) = &finding.allowed {
        let reason = shown(&one_line(&allowed.reason, 600)).to_string();
        write!(out, " <small class=\"judged\">allowed until {}: {reason}</small>", allowed.expires)?;
    }
    if finding.baseline {
        write!(out, " <small class=\"judged\">in the baseline</small>")?;
    }
    Ok(())
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
