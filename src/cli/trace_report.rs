//! "Where else is this?", for a person, for a program, and as a graph.

use std::fmt::Write as _;

use serde::Serialize;

use layersift_model::calendar::date;
use layersift_model::{BaseImage, Digest, Severity, TraceReport, TracedImage, TracedPlace, TracedTag};
use layersift_report::clean;

/// The version of the schema.
const SCHEMA: u32 = 1;

/// Characters of a line.
const LINE: usize = 400;

/// The answer for a person: images with the fewest layers first, which is the order to roll back in.
pub fn text(what: &str, trace: &TraceReport) -> String {
    let mut out = String::new();
    let least = if trace.is_exact { "" } else { "at least " };
    // Writing to a string cannot fail.
    let _ = match trace.total {
        0 => writeln!(out, "{}: in no image that the store knows", clean(what, LINE)),
        1 => writeln!(out, "{}: in 1 image", clean(what, LINE)),
        total => writeln!(out, "{}: in {least}{total} images, those with the fewest layers first", clean(what, LINE)),
    };
    for image in &trace.images {
        let _ = write_image(&mut out, image);
    }
    if trace.total > trace.images.len() as u64 {
        let _ = writeln!(out, "\nand {} more; --limit shows more", trace.total - trace.images.len() as u64);
    }
    out
}

fn write_image(out: &mut String, image: &TracedImage) -> std::fmt::Result {
    let platform = image.platform.as_deref().unwrap_or("unknown platform");
    let since = date(image.first_seen);
    writeln!(out, "\n{}  {platform}  since {since}", image.manifest_digest)?;
    for tag in &image.tags {
        let gone = tag.gone_at.map(|at| format!("  gone {}", date(at))).unwrap_or_default();
        writeln!(out, "  {}{gone}", clean(&name(tag), LINE))?;
    }
    if image.tags_total > image.tags.len() as u64 {
        writeln!(out, "  and {} more tags", image.tags_total - image.tags.len() as u64)?;
    }
    for place in &image.places {
        writeln!(out, "    {}", clean(&line(place), LINE))?;
        if let Some(base) = &place.base {
            let BaseImage { manifest_digest, layers_count } = base;
            writeln!(out, "      from its base image, {} ({layers_count} layers)", manifest_digest)?;
        }
    }
    if image.places_total > image.places.len() as u64 {
        writeln!(out, "    and {} more places", image.places_total - image.places.len() as u64)?;
    }
    Ok(())
}

fn line(held: &TracedPlace) -> String {
    let mut line = String::new();
    if let Some(finding) = &held.finding {
        let place = finding.path.as_deref().or(finding.config.as_deref()).unwrap_or("the image");
        let masked = finding.masked.as_deref().unwrap_or_default();
        line = format!("{} {}  {masked}  {place}", finding.rule.severity.name().to_uppercase(), finding.rule.title);
    }
    if let Some(state) = held.state {
        let _ = write!(line, "  {}", state.name());
    }
    if let Some(layer) = &held.layer {
        let made = layer.created_by.as_deref().map(|by| format!("  {by}")).unwrap_or_default();
        let _ = write!(line, "  layer {} {}{made}", layer.position, layer.digest.short());
    }
    line.trim_start().to_string()
}

/// A tag's name: registry, project, repository and tag.
fn name(tag: &TracedTag) -> String {
    let place = &tag.repository;
    let project = if place.project.is_empty() { String::new() } else { format!("{}/", place.project) };
    let end = tag.tag.as_deref().map_or_else(|| format!("@{}", tag.digest), |tag| format!(":{tag}"));
    format!("{}/{project}{}{end}", place.registry, place.repository)
}

#[derive(Serialize)]
struct Document<'t> {
    schema: u32,
    query: &'t str,
    total: u64,
    exact: bool,
    images: Vec<ImageDocument<'t>>,
}

#[derive(Serialize)]
struct ImageDocument<'t> {
    manifest_digest: &'t Digest,
    config_digest: Option<&'t Digest>,
    platform: Option<&'t str>,
    layers: u64,
    first_seen: i64,
    tags: Vec<TagDocument<'t>>,
    tags_total: u64,
    holds: Vec<HeldDocument<'t>>,
    holds_total: u64,
}

#[derive(Serialize)]
struct TagDocument<'t> {
    registry: &'t str,
    project: &'t str,
    repository: &'t str,
    tag: Option<&'t str>,
    digest: &'t Digest,
    first_seen: i64,
    last_seen: i64,
    gone_at: Option<i64>,
}

#[derive(Serialize)]
struct HeldDocument<'t> {
    id: Option<&'t str>,
    rule: Option<&'t str>,
    severity: Option<Severity>,
    path: Option<&'t str>,
    config: Option<&'t str>,
    fingerprint: Option<&'t str>,
    masked: Option<&'t str>,
    state: Option<&'static str>,
    ended_by: Option<u64>,
    layer: Option<LayerDocument<'t>>,
    base: Option<BaseDocument<'t>>,
}

#[derive(Serialize)]
struct LayerDocument<'t> {
    index: u64,
    digest: &'t Digest,
    diff_id: Option<&'t Digest>,
    created_by: Option<&'t str>,
}

#[derive(Serialize)]
struct BaseDocument<'t> {
    manifest_digest: &'t Digest,
    layers: u64,
}

/// The answer for a program.
///
/// # Errors
/// Those of the serializer, which has no reason for any.
pub fn json(what: &str, trace: &TraceReport) -> serde_json::Result<String> {
    serde_json::to_string_pretty(&Document {
        schema: SCHEMA,
        query: what,
        total: trace.total,
        exact: trace.is_exact,
        images: trace.images.iter().map(image_document).collect(),
    })
}

fn image_document(image: &TracedImage) -> ImageDocument<'_> {
    ImageDocument {
        manifest_digest: &image.manifest_digest,
        config_digest: image.config_digest.as_ref(),
        platform: image.platform.as_deref(),
        layers: image.layers_count,
        first_seen: image.first_seen,
        tags: image.tags.iter().map(tag_document).collect(),
        tags_total: image.tags_total,
        holds: image.places.iter().map(held_document).collect(),
        holds_total: image.places_total,
    }
}

fn tag_document(tag: &TracedTag) -> TagDocument<'_> {
    TagDocument {
        registry: &tag.repository.registry,
        project: &tag.repository.project,
        repository: &tag.repository.repository,
        tag: tag.tag.as_deref(),
        digest: &tag.digest,
        first_seen: tag.first_seen,
        last_seen: tag.last_seen,
        gone_at: tag.gone_at,
    }
}

fn held_document(held: &TracedPlace) -> HeldDocument<'_> {
    let finding = held.finding.as_ref();
    HeldDocument {
        id: finding.map(|finding| &finding.finding_id[..]),
        rule: finding.map(|finding| &finding.rule.id[..]),
        severity: finding.map(|finding| finding.rule.severity),
        path: finding.and_then(|finding| finding.path.as_deref()),
        config: finding.and_then(|finding| finding.config.as_deref()),
        fingerprint: finding.and_then(|finding| finding.fingerprint.as_deref()),
        masked: finding.and_then(|finding| finding.masked.as_deref()),
        state: held.state.map(layersift_model::State::name),
        ended_by: held.ended_by,
        layer: held.layer.as_ref().map(|layer| LayerDocument {
            index: layer.position,
            digest: &layer.digest,
            diff_id: layer.diff_id.as_ref(),
            created_by: layer.created_by.as_deref(),
        }),
        base: held
            .base
            .as_ref()
            .map(|base| BaseDocument { manifest_digest: &base.manifest_digest, layers: base.layers_count }),
    }
}

/// The answer as a graph: what was looked for, the images that hold it, their bases and their tags.
pub fn dot(what: &str, trace: &TraceReport) -> String {
    let mut out = String::from("digraph trace {\n  rankdir=LR;\n  node [shape=box];\n");
    // Writing to a string cannot fail.
    let _ = writeln!(out, "  {} [style=bold];", quoted(what));
    for image in &trace.images {
        let node = quoted(&image.manifest_digest.to_string());
        let label = format!("{} {}", image.manifest_digest.short(), image.platform.as_deref().unwrap_or_default());
        let _ = writeln!(out, "  {node} [label={}];", quoted(label.trim_end()));
        let bases: std::collections::BTreeSet<String> =
            image.places.iter().filter_map(|place| Some(place.base.as_ref()?.manifest_digest.to_string())).collect();
        match bases.iter().find(|base| **base != image.manifest_digest.to_string()) {
            Some(base) => writeln!(out, "  {} -> {node} [label=\"base of\"];", quoted(base)),
            None => writeln!(out, "  {} -> {node} [label=\"in\"];", quoted(what)),
        }
        .unwrap_or_default();
        for tag in &image.tags {
            let style = if tag.gone_at.is_some() { " [style=dashed]" } else { "" };
            let _ = writeln!(out, "  {node} -> {}{style};", quoted(&name(tag)));
        }
    }
    out + "}\n"
}

/// A string as DOT writes it.
fn quoted(text: &str) -> String {
    format!("\"{}\"", clean(text, LINE).replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days() {
        assert_eq!([0, 951_782_400, 1_700_000_000].map(date), ["1970-01-01", "2000-02-29", "2023-11-14"]);
    }

    #[test]
    fn nothing_found() {
        let trace = TraceReport::empty();
        assert!(text("a\x1bb", &trace).contains("in no image"));
        assert!(!text("a\x1bb", &trace).contains('\x1b'));
        assert!(dot("say \"x\"", &trace).contains("\"say \\\"x\\\"\""));
        assert!(json("x", &trace).unwrap().contains("\"total\": 0"));
    }
}
