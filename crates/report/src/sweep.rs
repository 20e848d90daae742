//! The report of a sweep, for a person and for a program.

use std::cmp::Reverse;
use std::io::{self, Write};

use serde::Serialize;

use layersift_model::{
    GapReason, ImageGap, IncompleteImage, ListingCounts, LoginState, NewFinding, SweepListing, SweepReport, Verdict,
};

use crate::terminal::{Line, severity_style, thousands, verdict_style};
use crate::{clean, human, plural};

/// The version of the schema.
const SCHEMA: u32 = 1;

/// New findings, things that could not be scanned, and images with gaps that are listed in text; more are counted.
const MOST_LINES: usize = 50;

/// Lines of all lists together after which the verdict is repeated.
const SCREEN: usize = 20;

const PLAIN: anstyle::Style = anstyle::Style::new();
const BOLD: anstyle::Style = anstyle::Style::new().bold();
const DIM: anstyle::Style = anstyle::Style::new().dimmed();

/// Writes the report for a person, of at most `width` columns.
///
/// # Errors
/// Those of `out`.
pub fn text(report: &SweepReport, width: usize, out: &mut dyn Write) -> io::Result<()> {
    verdict(report, width, out)?;
    let sums = &report.sums;
    let mut line = Line::begin(out, 0, width)?;
    line.text(BOLD, &clean(&report.target, 400))?;
    line.end()?;
    let parts = [
        plural(sums.images, "image"),
        format!("{} read", plural(sums.layers_read, "layer")),
        format!("{} known", thousands(sums.layers_known)),
        format!("{} pulled", human(sums.bytes_pulled)),
        format!("{} saved", human(sums.bytes_saved)),
    ];
    let mut line = Line::begin(out, 0, width)?;
    line.text(DIM, &parts.join(", "))?;
    line.end()?;
    if let Some(listing) = &report.listing {
        listed(listing, width, out)?;
    }
    news(report, width, out)?;
    problems(report, width, out)?;
    incomplete_images(report, width, out)?;
    if let Some(reason) = &report.ended_early {
        writeln!(out, "\nEnded early: {reason}. The next sweep continues.")?;
    }
    let lists = [report.news.len(), report.problems.len(), report.incomplete_images.len()];
    if lists.iter().map(|listed| listed.min(&MOST_LINES)).sum::<usize>() < SCREEN {
        return Ok(());
    }
    writeln!(out)?;
    verdict(report, width, out)
}

/// What the listing rests on, and what to look at.
fn listed(listing: &SweepListing, width: usize, out: &mut dyn Write) -> io::Result<()> {
    let mut line = Line::begin(out, 0, width)?;
    line.text(DIM, &basis(listing))?;
    line.end()?;
    let lists = [("WARNINGS", &listing.warnings), ("NOTES", &listing.notes)];
    for (title, texts) in lists.into_iter().filter(|(_, texts)| !texts.is_empty()) {
        writeln!(out, "\n{BOLD}{title}{BOLD:#}  {}", thousands(texts.len() as u64))?;
        for text in texts.iter().take(MOST_LINES) {
            let mut line = Line::begin(out, 2, width)?;
            line.text(PLAIN, &clean(text, 400))?;
            line.end()?;
        }
        more(texts.len() as u64, texts.len(), out)?;
    }
    Ok(())
}

/// Who listed what: `listed as robot$sweep (accepted): 4 projects, 110 repositories; 4 and 112 by the last sweep`.
fn basis(listing: &SweepListing) -> String {
    let counts = |counts: &ListingCounts| {
        let projects = counts.projects.map(|projects| plural(projects, "project") + ", ").unwrap_or_default();
        format!("{projects}{}, {}", repositories(counts.repositories), plural(counts.images, "image"))
    };
    let user = listing
        .user
        .as_deref()
        .filter(|user| !user.is_empty())
        .map_or("the owner of a token".into(), |user| clean(user, 100));
    let who = match listing.login {
        LoginState::Anonymous => "listed without a login".to_string(),
        LoginState::Accepted => format!("listed as {user}"),
        LoginState::Unchecked => format!("listed as {user}, whose login the registry did not check"),
    };
    let last = listing.last.as_ref().map(|last| format!("; by the last sweep {}", counts(last))).unwrap_or_default();
    format!("{who}: {}{last}", counts(&listing.counts))
}

fn repositories(count: u64) -> String {
    if count == 1 { "1 repository".into() } else { format!("{} repositories", thousands(count)) }
}

fn news(report: &SweepReport, width: usize, out: &mut dyn Write) -> io::Result<()> {
    let total = report.news.len();
    if total == 0 {
        return Ok(());
    }
    writeln!(out, "\n{BOLD}NEW SINCE THE LAST SWEEP{BOLD:#}  {}", thousands(total as u64))?;
    let mut worst_first: Vec<&NewFinding> = report.news.iter().collect();
    worst_first.sort_by_key(|news| Reverse(news.rule.severity));
    worst_first.iter().take(MOST_LINES).try_for_each(|news| new(news, width, out))?;
    more(total as u64, total, out)?;
    if report.news_are_complete {
        return Ok(());
    }
    writeln!(out, "  {DIM}There is more that is new than the sweep lists.{DIM:#}")
}

fn problems(report: &SweepReport, width: usize, out: &mut dyn Write) -> io::Result<()> {
    if report.problems_total == 0 {
        return Ok(());
    }
    writeln!(out, "\n{BOLD}NOT SCANNED{BOLD:#}  {}", thousands(report.problems_total))?;
    for problem in report.problems.iter().take(MOST_LINES) {
        wrapped(PLAIN, &clean(&problem.name, 400), 2, width, out)?;
        // What a registry says is what a person needs: it is never cut.
        let (style, indent) = if problem.name.is_empty() { (PLAIN, 2) } else { (DIM, 4) };
        wrapped(style, &clean(&problem.reason, 2_000), indent, width, out)?;
    }
    more(report.problems_total, report.problems.len(), out)
}

/// Writes a text in as many lines as it takes; none if it is empty.
fn wrapped(style: anstyle::Style, text: &str, indent: usize, width: usize, out: &mut dyn Write) -> io::Result<()> {
    let room = width.saturating_sub(indent).max(1);
    let mut lines: Vec<String> = Vec::new();
    let letters = |word: &str| word.chars().collect::<Vec<char>>();
    let parts = |word: &str| letters(word).chunks(room).map(|part| part.iter().collect()).collect::<Vec<String>>();
    for word in text.split(' ').flat_map(parts) {
        match lines.last_mut().filter(|line| line.chars().count() + 1 + word.chars().count() <= room) {
            Some(line) => *line = format!("{line} {word}"),
            None => lines.push(word),
        }
    }
    for text in lines {
        let mut line = Line::begin(out, indent, width)?;
        line.text(style, &text)?;
        line.end()?;
    }
    Ok(())
}

fn incomplete_images(report: &SweepReport, width: usize, out: &mut dyn Write) -> io::Result<()> {
    if report.incomplete == 0 {
        return Ok(());
    }
    writeln!(out, "\n{BOLD}INCOMPLETE{BOLD:#}  {}", thousands(report.incomplete))?;
    report.incomplete_images.iter().take(MOST_LINES).try_for_each(|image| incomplete(image, width, out))?;
    more(report.incomplete, report.incomplete_images.len(), out)
}

/// An image and its first gap.
fn incomplete(image: &IncompleteImage, width: usize, out: &mut dyn Write) -> io::Result<()> {
    let mut line = Line::begin(out, 2, width)?;
    line.text(PLAIN, &clean(&image.name, 400))?;
    if let Some(ImageGap { gap, layer }) = image.gaps.first() {
        line.text(BOLD, gap.reason.name())?;
        line.path(PLAIN, &clean(gap.path.as_deref().unwrap_or_default(), 4_096), "")?;
        line.text(DIM, &layer.map(|layer| format!("layer {layer}")).unwrap_or_default())?;
        line.text(DIM, &clean(&gap.detail, 300))?;
    }
    if image.gaps_total > 1 {
        line.text(DIM, &format!("and {}", plural(image.gaps_total - 1, "more gap")))?;
    }
    line.end()
}

fn verdict(report: &SweepReport, width: usize, out: &mut dyn Write) -> io::Result<()> {
    let mut line = Line::begin(out, 0, width)?;
    line.text(verdict_style(report.verdict), &report.verdict.name().to_uppercase())?;
    line.text(PLAIN, &reason(report.failing, report.incomplete))?;
    line.end()
}

/// How many images fail, and how many were not scanned completely.
fn reason(failing: u64, incomplete: u64) -> String {
    let fail = if failing == 1 { "fails" } else { "fail" };
    let was = if incomplete == 1 { "was" } else { "were" };
    let fails = format!("{} {fail}", plural(failing, "image"));
    match incomplete {
        0 => fails,
        _ => format!("{fails}, {} {was} not scanned completely", thousands(incomplete)),
    }
}

/// How many of `total` are not in the text; the report has the first `listed` of them.
fn more(total: u64, listed: usize, out: &mut dyn Write) -> io::Result<()> {
    let more = total.saturating_sub(MOST_LINES as u64);
    if more == 0 {
        return Ok(());
    }
    let listed = listed as u64;
    let in_json = if listed < total { format!("the first {}", thousands(listed)) } else { "all".into() };
    writeln!(out, "  {DIM}… and {} more (--format json lists {in_json}){DIM:#}", thousands(more))
}

fn new(news: &NewFinding, width: usize, out: &mut dyn Write) -> io::Result<()> {
    let NewFinding { thing, image, rule, masked, path } = news;
    let mut line = Line::begin(out, 2, width)?;
    line.text(severity_style(rule.severity), &rule.severity.name().to_uppercase())?;
    line.text(BOLD, &clean(&rule.title, 200))?;
    line.text(PLAIN, &clean(masked.as_deref().unwrap_or_default(), 120))?;
    line.path(PLAIN, &clean(path.as_deref().unwrap_or_default(), 4_096), "")?;
    line.text(DIM, &format!("in {}", image.short()))?;
    line.text(DIM, &format!("layersift trace {}", clean(thing, 200)))?;
    line.end()
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
    new_is_complete: bool,
    not_looked_at: Vec<String>,
    incomplete_images: Vec<Incomplete<'r>>,
    listing: Option<Listing<'r>>,
    ended_early: Option<&'r str>,
    verdict: Verdict,
}

/// What the listing rests on. `last` is what the last complete sweep with the same filter listed.
#[derive(Serialize)]
struct Listing<'r> {
    user: Option<&'r str>,
    login: &'static str,
    projects: Option<u64>,
    repositories: u64,
    images: u64,
    last: Option<Counts>,
    warnings: &'r [String],
    notes: &'r [String],
}

#[derive(Serialize)]
struct Counts {
    projects: Option<u64>,
    repositories: u64,
    images: u64,
}

impl<'r> From<&'r SweepListing> for Listing<'r> {
    fn from(listing: &'r SweepListing) -> Listing<'r> {
        let SweepListing { user, login, counts, last, warnings, notes } = listing;
        let ListingCounts { projects, repositories, images } = *counts;
        let counts = |ListingCounts { projects, repositories, images }| Counts { projects, repositories, images };
        let (user, login, last) = (user.as_deref(), login.name(), last.map(counts));
        Listing { user, login, projects, repositories, images, last, warnings, notes }
    }
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

/// An image with gaps. There may be more gaps than are listed, by `gaps_total`, and more images, by `incomplete`.
#[derive(Serialize)]
struct Incomplete<'r> {
    image: &'r str,
    manifest_digest: Option<String>,
    gaps: Vec<GapObject<'r>>,
    gaps_total: u64,
}

/// A gap, with the fields that it has in the report of an image.
#[derive(Serialize)]
struct GapObject<'r> {
    reason: GapReason,
    path: Option<&'r str>,
    layer: Option<usize>,
    bytes: Option<u64>,
    detail: &'r str,
}

impl<'r> From<&'r IncompleteImage> for Incomplete<'r> {
    fn from(image: &'r IncompleteImage) -> Incomplete<'r> {
        let gap = |ImageGap { gap, layer }: &'r ImageGap| GapObject {
            reason: gap.reason,
            path: gap.path.as_deref(),
            layer: *layer,
            bytes: gap.bytes,
            detail: &gap.detail,
        };
        Incomplete {
            image: &image.name,
            manifest_digest: image.manifest_digest.as_ref().map(ToString::to_string),
            gaps: image.gaps.iter().map(gap).collect(),
            gaps_total: image.gaps_total,
        }
    }
}

/// Writes the report for a program.
///
/// # Errors
/// Those of `out`.
pub fn json(report: &SweepReport, out: &mut dyn Write) -> io::Result<()> {
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
        new_is_complete: report.news_are_complete,
        not_looked_at: report.problems.iter().map(ToString::to_string).collect(),
        incomplete_images: report.incomplete_images.iter().map(Incomplete::from).collect(),
        listing: report.listing.as_ref().map(Listing::from),
        ended_early: report.ended_early.as_deref(),
        verdict: report.verdict,
    };
    layersift_model::json_output::write_pretty(&mut *out, &document)?;
    writeln!(out)
}

#[cfg(test)]
mod tests {
    use layersift_model::{Digest, Gap, SweepSums};

    use super::*;

    /// A report of `count` images with gaps, of which it lists `listed`.
    fn report(count: u64, listed: usize) -> SweepReport {
        let gap = |number: usize| ImageGap {
            gap: Gap::new(GapReason::DamagedArchive, format!("entry {number} ends\x1b early")).at("srv/a.zip").sized(7),
            layer: Some(2),
        };
        let image = |number: usize| IncompleteImage {
            name: format!("r.example/app:v{number}"),
            manifest_digest: Some(Digest::of(b"made up")),
            gaps: (0..number.min(2)).map(gap).collect(),
            gaps_total: number as u64,
        };
        SweepReport {
            target: "registry r.example".into(),
            run: 1,
            sums: SweepSums { images: count, ..SweepSums::default() },
            failing: 0,
            incomplete: count,
            incomplete_images: (1..=listed).map(image).collect(),
            news: Vec::new(),
            news_are_complete: true,
            problems: Vec::new(),
            problems_total: 0,
            listing: None,
            ended_early: None,
            verdict: Verdict::Incomplete,
        }
    }

    fn written(report: &SweepReport, write: impl Fn(&SweepReport, &mut dyn Write) -> io::Result<()>) -> String {
        let mut out = Vec::new();
        write(report, &mut out).unwrap();
        without_styles(&String::from_utf8(out).unwrap())
    }

    /// `text` without escape sequences.
    fn without_styles(text: &str) -> String {
        let mut parts = text.split("\x1b[");
        let first = parts.next().unwrap_or_default().to_string();
        parts.fold(first, |text, part| text + part.split_once('m').map_or("", |(_, rest)| rest))
    }

    #[test]
    fn images_with_gaps_are_named_in_text() {
        let text = written(&report(2, 2), |report, out| super::text(report, 200, out));
        let (_, list) = text.split_once("\n\n").unwrap();
        let expected = "INCOMPLETE  2\n  \
            r.example/app:v1  damaged-archive  srv/a.zip  layer 2  entry 0 ends\u{fffd} early\n  \
            r.example/app:v2  damaged-archive  srv/a.zip  layer 2  entry 0 ends\u{fffd} early  and 1 more gap\n";
        assert_eq!(list, expected);
        let none = written(&report(0, 0), |report, out| super::text(report, 200, out));
        assert!(!none.contains("\nINCOMPLETE"), "{none}");
    }

    #[test]
    fn a_long_list_of_images_with_gaps_is_bounded() {
        let many = |count, listed| written(&report(count, listed), |report, out| super::text(report, 80, out));
        let text = many(60, 60);
        assert_eq!(text.matches("r.example/app:v").count(), MOST_LINES);
        assert!(text.contains("… and 10 more (--format json lists all)"), "{text}");
        assert_eq!(text.matches("0 images fail, 60 were not scanned completely").count(), 2, "{text}");
        assert!(many(2_722, 1_000).contains("… and 2,672 more (--format json lists the first 1,000)"));
    }

    #[test]
    fn images_with_gaps_are_listed_in_json() {
        let json = written(&report(3, 3), super::json);
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        let images = json["incomplete_images"].as_array().unwrap();
        assert_eq!((images.len(), json["incomplete"].as_u64()), (3, Some(3)));
        assert_eq!((images[2]["gaps"].as_array().unwrap().len(), images[2]["gaps_total"].as_u64()), (2, Some(3)));
        let expected = serde_json::json!({
            "image": "r.example/app:v1",
            "manifest_digest": Digest::of(b"made up").to_string(),
            "gaps": [{
                "reason": "damaged-archive", "path": "srv/a.zip", "layer": 2, "bytes": 7,
                "detail": "entry 0 ends\u{1b} early",
            }],
            "gaps_total": 1,
        });
        assert_eq!(images[0], expected);
    }

    #[test]
    fn what_the_listing_rests_on_is_said() {
        let counts = |repositories, images| ListingCounts { projects: Some(4), repositories, images };
        let listing = SweepListing {
            user: Some("robot$sweep".into()),
            login: LoginState::Accepted,
            counts: counts(1, 2),
            last: Some(counts(112, 130)),
            warnings: vec!["1 repositories were listed".into()],
            notes: vec!["a was deleted".into()],
        };
        let report = SweepReport { listing: Some(listing), ..report(0, 0) };
        let text = written(&report, |report, out| super::text(report, 200, out));
        let expected = "listed as robot$sweep: 4 projects, 1 repository, 2 images; by the last sweep 4 projects, \
                        112 repositories, 130 images\n\nWARNINGS  1\n  1 repositories were listed\n\nNOTES  1\n  \
                        a was deleted\n";
        assert!(text.ends_with(expected), "{text}");
        let json: serde_json::Value = serde_json::from_str(&written(&report, super::json)).unwrap();
        assert_eq!(json["listing"]["last"]["repositories"], 112, "{json}");
        assert_eq!(json["listing"]["login"], "accepted", "{json}");
    }

    #[test]
    fn one_image_fails_and_two_fail() {
        assert_eq!(reason(0, 0), "0 images fail");
        assert_eq!(reason(1, 0), "1 image fails");
        assert_eq!(reason(2, 1), "2 images fail, 1 was not scanned completely");
        assert_eq!(reason(1, 2_722), "1 image fails, 2,722 were not scanned completely");
    }
}
