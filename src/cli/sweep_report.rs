//! What a sweep came to, for a person and for a program.

use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;

use layersift_fleet::{Counted, Outcome};
use layersift_model::Verdict;
use layersift_report::clean;
use layersift_report::human;
use layersift_store::News;

/// The version of the schema.
const SCHEMA: u32 = 1;

/// The most of what is new, and of what could not be looked at, that a person is shown.
const MOST_LINES: usize = 50;

/// Characters of a line.
const LINE: usize = 400;

/// One line: how far a sweep is, and how long it may still take.
pub fn progress(counted: &Counted, elapsed: Duration) -> String {
    let Counted { images, images_done, layers_queued, layers_read, bytes_saved, .. } = counted;
    let left = counted.bytes_queued.saturating_sub(counted.bytes_done);
    let rate = counted.bytes_read as f64 / elapsed.as_secs_f64().max(0.001);
    let time = if rate > 0.0 { format!("  {} s left", (left as f64 / rate).ceil()) } else { String::new() };
    format!(
        "images {images_done}/{images}  layers {layers_read}/{layers_queued}  {} saved  {}/s{time}",
        human(*bytes_saved),
        human(rate as u64)
    )
}

/// The report for a person.
pub fn text(target: &str, outcome: &Outcome) -> String {
    let mut out = String::new();
    let sums = &outcome.sums;
    // Writing to a string cannot fail.
    let _ = writeln!(out, "{target}");
    let _ = writeln!(
        out,
        "{} images, {} layers read, {} known; {} pulled, {} saved",
        sums.images,
        sums.layers_read,
        sums.layers_known,
        human(sums.bytes_pulled),
        human(sums.bytes_saved)
    );
    if !outcome.news.is_empty() {
        let _ = writeln!(out, "\nNew since the last sweep: {}", outcome.news.len());
        for news in outcome.news.iter().take(MOST_LINES) {
            let _ = writeln!(out, "  {}", news_line(news));
        }
        more(&mut out, outcome.news.len());
    }
    if outcome.troubles_total > 0 {
        let _ = writeln!(out, "\nNot looked at: {}", outcome.troubles_total);
        for trouble in outcome.troubles.iter().take(MOST_LINES) {
            let _ = writeln!(out, "  {}", clean(&trouble.to_string(), LINE));
        }
        more(&mut out, outcome.troubles_total);
    }
    if let Some(reason) = outcome.ended_early {
        let _ = writeln!(out, "\nEnded early: {reason}. The next sweep goes on.");
    }
    let _ = writeln!(
        out,
        "\n{}  {} images fail, {} were not looked at completely",
        outcome.verdict.name().to_uppercase(),
        outcome.failing,
        outcome.incomplete
    );
    out
}

fn more(out: &mut String, total: usize) {
    if total > MOST_LINES {
        let _ = writeln!(out, "  and {} more; the JSON report has them", total - MOST_LINES);
    }
}

fn news_line(news: &News) -> String {
    let News { thing, image, rule, masked, path } = news;
    let severity = rule.severity.name().to_uppercase();
    let masked = masked.as_deref().map(|masked| format!("  {}", clean(masked, LINE))).unwrap_or_default();
    let path = path.as_deref().map(|path| format!("  {}", clean(path, LINE))).unwrap_or_default();
    format!("{severity}  {}{masked}{path}  in {}  trace {thing}", rule.title, image.short())
}

#[derive(Serialize)]
struct Document<'r> {
    schema: u32,
    target: &'r str,
    images: u64,
    failing: u64,
    incomplete: u64,
    layers_read: u64,
    layers_known: u64,
    bytes_pulled: u64,
    bytes_saved: u64,
    new: Vec<New<'r>>,
    not_looked_at: Vec<String>,
    ended_early: Option<&'static str>,
    verdict: Verdict,
}

#[derive(Serialize)]
struct New<'r> {
    thing: &'r str,
    rule: &'r str,
    title: &'r str,
    severity: layersift_model::Severity,
    masked: Option<&'r str>,
    path: Option<&'r str>,
    image: String,
}

/// The report for a program.
///
/// # Errors
/// Those of the serializer, which has no reason for any.
pub fn json(target: &str, outcome: &Outcome) -> serde_json::Result<String> {
    let document = Document {
        schema: SCHEMA,
        target,
        images: outcome.sums.images,
        failing: outcome.failing,
        incomplete: outcome.incomplete,
        layers_read: outcome.sums.layers_read,
        layers_known: outcome.sums.layers_known,
        bytes_pulled: outcome.sums.bytes_pulled,
        bytes_saved: outcome.sums.bytes_saved,
        new: outcome
            .news
            .iter()
            .map(|news| New {
                thing: &news.thing,
                rule: &news.rule.id,
                title: &news.rule.title,
                severity: news.rule.severity,
                masked: news.masked.as_deref(),
                path: news.path.as_deref(),
                image: news.image.to_string(),
            })
            .collect(),
        not_looked_at: outcome.troubles.iter().map(ToString::to_string).collect(),
        ended_early: outcome.ended_early,
        verdict: outcome.verdict,
    };
    serde_json::to_string_pretty(&document)
}
