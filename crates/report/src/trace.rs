//! "Where else is this?", for a person, for a program, and as a graph.

use std::cmp::Reverse;
use std::io::{self, Write};

use serde::Serialize;

use layersift_model::calendar::date;
use layersift_model::{BaseImage, Digest, Severity, TraceReport, TracedImage, TracedPlace, TracedPrompt, TracedTag};

use crate::terminal::{Line, severity_style};
use crate::{clean, plural};

/// The version of the schema.
const SCHEMA: u32 = 1;

/// The most sightings in prompts that are listed.
const PROMPTS: usize = 20;

/// Columns of a label in a graph.
const LABEL: usize = 400;

const PLAIN: anstyle::Style = anstyle::Style::new();
const BOLD: anstyle::Style = anstyle::Style::new().bold();
const DIM: anstyle::Style = anstyle::Style::new().dimmed();

/// Writes the answer for a person, of at most `width` columns: images with the fewest layers first, which is the order
/// to roll back in.
///
/// # Errors
/// Those of `out`.
pub fn text(what: &str, trace: &TraceReport, width: usize, out: &mut dyn Write) -> io::Result<()> {
    let mut line = Line::begin(out, 0, width)?;
    line.path(BOLD, &clean(what, 4_096), "")?;
    let least = if trace.is_exact { "" } else { "at least " };
    match trace.total {
        0 => line.text(PLAIN, "in no image of the store")?,
        1 => line.text(PLAIN, "in 1 image")?,
        total => line.text(PLAIN, &format!("in {least}{}, fewest layers first", plural(total, "image")))?,
    }
    line.end()?;
    trace.images.iter().try_for_each(|traced| image(traced, width, out))?;
    prompts(trace, width, out)?;
    if !trace.places_are_complete {
        writeln!(out, "\n{DIM}There are more places in these images than are listed.{DIM:#}")?;
    }
    match trace.total.saturating_sub(trace.images.len() as u64) {
        0 => Ok(()),
        more => writeln!(out, "\n… and {} (--limit shows more)", plural(more, "more image")),
    }
}

/// Where the secrets were seen in prompts, the first first.
fn prompts(trace: &TraceReport, width: usize, out: &mut dyn Write) -> io::Result<()> {
    if !trace.prompts.is_empty() {
        writeln!(out, "\n{BOLD}In prompts and answers of models{BOLD:#}")?;
    }
    for prompt in trace.prompts.iter().take(PROMPTS) {
        let mut line = Line::begin(out, 2, width)?;
        line.text(PLAIN, &clean(&prompt.rule, 100))?;
        let (first, last) = (date(prompt.first_seen), date(prompt.last_seen));
        let time = if first == last { format!("on {first}") } else { format!("from {first} to {last}") };
        line.text(PLAIN, &format!("in {} {time}", prompt.direction.describe()))?;
        line.text(DIM, &who(prompt))?;
        line.end()?;
    }
    more(trace.prompts.len() as u64, trace.prompts.len().min(PROMPTS), "sighting", 2, out)
}

/// The model and the client of a sighting, for people.
fn who(prompt: &TracedPrompt) -> String {
    let model = prompt.model.as_ref().map(|model| format!("model {}", clean(model, 100)));
    let client = prompt.client.as_ref().map(|client| format!("client {}", clean(client, 200)));
    model.into_iter().chain(client).collect::<Vec<_>>().join(", ")
}

fn image(image: &TracedImage, width: usize, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "\n{BOLD}{}{BOLD:#}", image.manifest_digest)?;
    let mut line = Line::begin(out, 2, width)?;
    line.text(DIM, &clean(image.platform.as_deref().unwrap_or("unknown platform"), 60))?;
    line.text(DIM, &format!("since {}", date(image.first_seen)))?;
    line.end()?;
    for tag in &image.tags {
        let mut line = Line::begin(out, 2, width)?;
        line.path(PLAIN, &clean(&name(tag), 4_096), "")?;
        line.text(DIM, &absence(tag))?;
        line.end()?;
    }
    more(image.tags_total, image.tags.len(), "tag", 2, out)?;
    let mut worst_first: Vec<&TracedPlace> = image.places.iter().collect();
    worst_first.sort_by_key(|held| Reverse(held.finding.as_ref().map(|finding| finding.rule.severity)));
    for held in worst_first {
        place(held, width, out)?;
        if let Some(prompt) = held.finding.as_ref().and_then(|finding| finding.first_prompt.as_ref()) {
            let mut line = Line::begin(out, 6, width)?;
            let (kind, when) = (prompt.direction.describe(), date(prompt.first_seen));
            line.text(PLAIN, &format!("first appeared in {kind} on {when}"))?;
            line.text(DIM, &who(prompt))?;
            line.end()?;
        }
        if let Some(BaseImage { manifest_digest, layers_count }) = &held.base {
            writeln!(out, "      {DIM}from its base image ({}){DIM:#}", plural(*layers_count, "layer"))?;
            writeln!(out, "      {DIM}{manifest_digest}{DIM:#}")?;
        }
    }
    more(image.places_total, image.places.len(), "place", 4, out)
}

fn more(total: u64, shown: usize, noun: &str, indent: usize, out: &mut dyn Write) -> io::Result<()> {
    match total.saturating_sub(shown as u64) {
        0 => Ok(()),
        more => writeln!(out, "{:indent$}{DIM}… and {}{DIM:#}", "", plural(more, &format!("more {noun}"))),
    }
}

/// A place where the image has what was asked for.
fn place(held: &TracedPlace, width: usize, out: &mut dyn Write) -> io::Result<()> {
    let mut line = Line::begin(out, 4, width)?;
    if let Some(finding) = &held.finding {
        let severity = finding.rule.severity;
        line.text(severity_style(severity), &severity.name().to_uppercase())?;
        line.text(PLAIN, &clean(&finding.rule.title, 200))?;
        line.text(PLAIN, &clean(finding.masked.as_deref().unwrap_or_default(), 120))?;
        let path = finding.path.as_deref().or(finding.config.as_deref()).unwrap_or("the image");
        line.path(BOLD, &clean(path, 4_096), "")?;
    }
    line.text(DIM, held.state.map_or("", |state| state.name()))?;
    if let Some(layer) = &held.layer {
        line.text(DIM, &format!("layer {} {}", layer.position, layer.digest.short()))?;
        line.rest(PLAIN, &clean(layer.created_by.as_deref().unwrap_or_default(), 400))?;
    }
    line.end()
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
    places_are_complete: bool,
    images: Vec<ImageDocument<'t>>,
    prompts: Vec<PromptDocument<'t>>,
}

#[derive(Serialize)]
struct PromptDocument<'t> {
    direction: &'static str,
    fingerprint: Option<&'t str>,
    rule: &'t str,
    client: Option<&'t str>,
    model: Option<&'t str>,
    first_seen: i64,
    last_seen: i64,
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
    unseen_since: Option<i64>,
    unseen_by: Option<&'t str>,
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
    first_prompt: Option<PromptDocument<'t>>,
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

/// Writes the answer for a program.
///
/// # Errors
/// Those of `out`.
pub fn json(what: &str, trace: &TraceReport, out: &mut dyn Write) -> io::Result<()> {
    let document = Document {
        schema: SCHEMA,
        query: what,
        total: trace.total,
        exact: trace.is_exact,
        places_are_complete: trace.places_are_complete,
        images: trace.images.iter().map(image_document).collect(),
        prompts: trace.prompts.iter().map(prompt_document).collect(),
    };
    layersift_model::json_output::write_pretty(&mut *out, &document)?;
    writeln!(out)
}

fn prompt_document(prompt: &TracedPrompt) -> PromptDocument<'_> {
    PromptDocument {
        direction: prompt.direction.name(),
        fingerprint: prompt.fingerprint.as_deref(),
        rule: &prompt.rule,
        client: prompt.client.as_deref(),
        model: prompt.model.as_deref(),
        first_seen: prompt.first_seen,
        last_seen: prompt.last_seen,
    }
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
        unseen_since: tag.unseen_since,
        unseen_by: tag.unseen_by.as_deref(),
    }
}

/// Since when a tag is gone, or was not seen and by whom; empty for one that was seen the last time.
fn absence(tag: &TracedTag) -> String {
    match (tag.gone_at, tag.unseen_since) {
        (Some(at), _) => format!("gone {}", date(at)),
        (None, Some(since)) => {
            let user = tag.unseen_by.as_deref().map_or("anyone without a login".into(), |user| clean(user, 100));
            format!("not seen since {}, by {user}", date(since))
        }
        (None, None) => String::new(),
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
        first_prompt: finding.and_then(|finding| finding.first_prompt.as_deref()).map(prompt_document),
    }
}

/// Writes the answer as a graph in DOT: what was looked for, the images that hold it, their bases and their tags.
///
/// # Errors
/// Those of `out`.
pub fn dot(what: &str, trace: &TraceReport, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "digraph trace {{\n  rankdir=LR;\n  node [shape=box];")?;
    writeln!(out, "  {} [style=bold];", quoted(what))?;
    if let Some(prompt) = trace.prompts.first() {
        let first = quoted(&format!("{}, {}", prompt.direction.describe(), date(prompt.first_seen)));
        writeln!(out, "  {first} [shape=note];\n  {first} -> {} [label=\"first appeared in\"];", quoted(what))?;
    }
    for image in &trace.images {
        let digest = &image.manifest_digest;
        let node = quoted(&digest.to_string());
        let label = format!("{} {}", digest.short(), image.platform.as_deref().unwrap_or_default());
        writeln!(out, "  {node} [label={}];", quoted(label.trim_end()))?;
        let bases = image.places.iter().filter_map(|place| Some(&place.base.as_ref()?.manifest_digest));
        match bases.filter(|base| *base != digest).min() {
            Some(base) => writeln!(out, "  {} -> {node} [label=\"base of\"];", quoted(&base.to_string()))?,
            None => writeln!(out, "  {} -> {node} [label=\"in\"];", quoted(what))?,
        }
        for tag in &image.tags {
            let style = if tag.gone_at.is_some() { " [style=dashed]" } else { "" };
            writeln!(out, "  {node} -> {}{style};", quoted(&name(tag)))?;
        }
    }
    writeln!(out, "}}")
}

/// A string as DOT writes it.
fn quoted(text: &str) -> String {
    format!("\"{}\"", clean(text, LABEL).replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days() {
        assert_eq!([0, 951_782_400, 1_700_000_000].map(date), ["1970-01-01", "2000-02-29", "2023-11-14"]);
    }

    fn written(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> String {
        let mut out = Vec::new();
        write(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn nothing_found() {
        let trace = TraceReport::empty();
        let said = written(|out| text("a\x1b]b", &trace, 80, out));
        assert!(said.contains("in no image") && !said.contains("\x1b]"), "{said:?}");
        assert!(written(|out| dot("say \"x\"", &trace, out)).contains("\"say \\\"x\\\"\""));
        assert!(written(|out| json("x", &trace, out)).contains("\"total\": 0"));
    }

    #[test]
    fn prompts_are_named_without_control_characters() {
        let prompt = TracedPrompt {
            fingerprint: Some("f".into()),
            direction: layersift_model::PromptDirection::Answer,
            client: Some("token 1 gate\x1b]way".into()),
            model: Some("a-model".into()),
            rule: "cipher.byte-array-key".into(),
            first_seen: 1_772_496_000,
            last_seen: 1_772_600_000,
        };
        let trace = TraceReport { prompts: vec![prompt], ..TraceReport::empty() };
        let said = written(|out| text("x", &trace, 200, out));
        assert!(said.contains("in a model's answer from 2026-03-03 to 2026-03-04"), "{said}");
        assert!(said.contains("model a-model, client token 1 gate") && !said.contains("\x1b]"), "{said:?}");
        assert!(written(|out| dot("x", &trace, out)).contains("a model's answer, 2026-03-03"));
        let document = written(|out| json("x", &trace, out));
        assert!(document.contains("\"direction\": \"answer\"") && document.contains("1772496000"), "{document}");
    }
}
