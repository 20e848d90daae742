//! What a sweep came to, for a person and for a program.

use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;

use layersift_fleet::Counted;
use layersift_model::{NewFinding, SweepReport, Verdict};
use layersift_report::clean;
use layersift_report::human;

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
pub fn text(report: &SweepReport) -> String {
    let mut out = String::new();
    let sums = &report.sums;
    // Writing to a string cannot fail.
    let _ = writeln!(out, "{}", report.target);
    let _ = writeln!(
        out,
        "{} images, {} layers read, {} known; {} pulled, {} saved",
        sums.images,
        sums.layers_read,
        sums.layers_known,
        human(sums.bytes_pulled),
        human(sums.bytes_saved)
    );
    if !report.news.is_empty() {
        let _ = writeln!(out, "\nNew since the last sweep: {}", report.news.len());
        for news in report.news.iter().take(MOST_LINES) {
            let _ = writeln!(out, "  {}", news_line(news));
        }
        more(&mut out, report.news.len() as u64);
    }
    if report.problems_total > 0 {
        let _ = writeln!(out, "\nNot looked at: {}", report.problems_total);
        for problem in report.problems.iter().take(MOST_LINES) {
            let _ = writeln!(out, "  {}", clean(&problem.to_string(), LINE));
        }
        more(&mut out, report.problems_total);
    }
    if let Some(reason) = &report.ended_early {
        let _ = writeln!(out, "\nEnded early: {reason}. The next sweep goes on.");
    }
    let _ = writeln!(
        out,
        "\n{}  {} images fail, {} were not looked at completely",
        report.verdict.name().to_uppercase(),
        report.failing,
        report.incomplete
    );
    out
}

fn more(out: &mut String, total: u64) {
    if total > MOST_LINES as u64 {
        let _ = writeln!(out, "  and {} more; the JSON report has them", total - MOST_LINES as u64);
    }
}

fn news_line(news: &NewFinding) -> String {
    let NewFinding { thing, image, rule, masked, path } = news;
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
    ended_early: Option<&'r str>,
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
pub fn json(report: &SweepReport) -> serde_json::Result<String> {
    let document = Document {
        schema: SCHEMA,
        target: &report.target,
        images: report.sums.images,
        failing: report.failing,
        incomplete: report.incomplete,
        layers_read: report.sums.layers_read,
        layers_known: report.sums.layers_known,
        bytes_pulled: report.sums.bytes_pulled,
        bytes_saved: report.sums.bytes_saved,
        new: report
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
        not_looked_at: report.problems.iter().map(ToString::to_string).collect(),
        ended_early: report.ended_early.as_deref(),
        verdict: report.verdict,
    };
    serde_json::to_string_pretty(&document)
}
