//! The verdict and why, what to do first, and which image it is about.

use std::collections::BTreeMap;
use std::io::{self, Write};

use layersift_model::{Finding, ImageReport, ReportKind, Severity, State, Verdict};

use super::Image;
use crate::grouped::{Entry, Section};
use crate::markup::{code, isolated, one_line, shown};
use crate::terminal::{human, plural, thousands};

/// Rules that are named under what to do first.
const FIRST: usize = 5;

/// Secrets of such a rule that are named; more are counted.
const NAMED: usize = 3;

/// Notes that are written; more are counted.
const NOTES: usize = 20;

/// Writes the verdict, what to do first, the image, and the table of what was found.
pub(super) fn write(image: &Image<'_>, out: &mut dyn Write) -> io::Result<()> {
    let verdict = image.report.verdict().name();
    writeln!(out, "<p class=\"verdict {verdict}\"><strong>{}</strong> {}</p>", verdict.to_uppercase(), reason(image))?;
    others(image, out)?;
    first(image, out)?;
    states(image, out)?;
    facts(image, out)
}

/// Why the verdict is what it is.
fn reason(image: &Image<'_>) -> String {
    let report = image.report;
    let Some(_) = &report.judgement else { return "The report was not judged by a policy.".into() };
    let gaps = plural(report.gaps.len() as u64, "gap");
    let limit = match image.fail_on() {
        None => return format!("The policy only reports: no severity fails. {}", unread(report, &gaps)),
        Some(Severity::Critical) => "critical".to_string(),
        Some(limit) => format!("{limit} or above"),
    };
    match report.verdict() {
        Verdict::Fail => {
            let failing = counts(report.findings.iter().filter(|finding| image.fails(finding))).unwrap_or_default();
            format!("Found {failing}; the policy fails on {limit}. {}", unread(report, &gaps))
        }
        Verdict::Incomplete => format!("Nothing that was read is {limit}. {}", unread(report, &gaps)),
        Verdict::Pass => format!("Everything was read, and nothing that counts is {limit}."),
    }
}

fn unread(report: &ImageReport, gaps: &str) -> String {
    if report.gaps.is_empty() { "Everything was read.".into() } else { format!("Not everything was read: {gaps}.") }
}

/// How many findings there are of each severity, worst first; `None` where there are none.
pub(super) fn counts<'r>(findings: impl Iterator<Item = &'r Finding>) -> Option<String> {
    let mut by_severity: BTreeMap<Severity, u64> = BTreeMap::new();
    findings.for_each(|finding| *by_severity.entry(finding.severity).or_default() += 1);
    let parts: Vec<String> =
        by_severity.iter().rev().map(|(severity, count)| format!("{} {severity}", thousands(*count))).collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// What the verdict is not about: other platforms, and findings that do not count.
fn others(image: &Image<'_>, out: &mut dyn Write) -> io::Result<()> {
    let report = image.report;
    if !report.other_platforms.is_empty() {
        let names: Vec<String> =
            report.other_platforms.iter().take(20).map(|name| code(&one_line(name, 60)).to_string()).collect();
        let count = plural(report.other_platforms.len() as u64, "other platform");
        writeln!(out, "<p>{count} of the image not read: {}.</p>", names.join(", "))?;
    }
    let allowed = report.findings.iter().filter(|finding| finding.allowed.is_some()).count() as u64;
    let known = report.findings.iter().filter(|finding| finding.allowed.is_none() && finding.baseline).count() as u64;
    if allowed + known > 0 {
        let (allowed, known) = (thousands(allowed), thousands(known));
        writeln!(out, "<p>Not counted: {allowed} allowed by the policy, {known} in the baseline.</p>")?;
    }
    let count = report.notes.len();
    for note in report.notes.iter().take(NOTES) {
        writeln!(out, "<p>Note: {}</p>", isolated(&one_line(note, 1_000)))?;
    }
    if count > NOTES { writeln!(out, "<p>… and {} more notes.</p>", count - NOTES) } else { Ok(()) }
}

/// What to do first: the fixes of the worst rules that make the verdict fail, then the gaps.
fn first(image: &Image<'_>, out: &mut dyn Write) -> io::Result<()> {
    let failing = |section: &&Section<'_>| section.findings().any(|finding| image.fails(finding));
    let sections: Vec<&Section<'_>> = image.sections.iter().filter(failing).collect();
    image.heading("first", "What to do first", out)?;
    if sections.is_empty() && image.report.gaps.is_empty() {
        return writeln!(out, "<p>Nothing that was found makes this policy fail.</p>");
    }
    let secrets = || sections.iter().flat_map(|section| &section.entries).filter(|entry| entry.is_secret());
    let gone = secrets().filter(|entry| !entry.places.iter().any(|place| place.is_present())).count() as u64;
    if gone > 0 {
        let are = if gone == 1 { "failing secret is" } else { "failing secrets are" };
        writeln!(
            out,
            "<p>{} {are} no longer in the final image. Anyone who can pull the image can still read what its layers \
             have: a secret that was deleted has to be revoked, too.</p>",
            thousands(gone)
        )?;
    }
    writeln!(out, "<ol class=\"first\">")?;
    for section in sections.iter().take(FIRST) {
        let (severity, id) = (section.severity, image.id);
        write!(out, "<li><span class=\"severity {severity}\">{severity}</span> ")?;
        let title = one_line(&section.rule.title, 200);
        let title = isolated(&title);
        match section.entries.first() {
            Some(entry) => write!(out, "<a href=\"#{id}-e{}\">{title}</a>", entry.number)?,
            None => write!(out, "{title}")?,
        }
        named(image, section, out)?;
        writeln!(out, " {}</li>", shown(&one_line(&section.rule.fix, 2_000)))?;
    }
    if !image.report.gaps.is_empty() {
        let gaps = plural(image.report.gaps.len() as u64, "gap");
        writeln!(out, "<li><a href=\"#{}-gaps\">Read what was not read</a>: {gaps}.</li>", image.id)?;
    }
    writeln!(out, "</ol>")?;
    match sections.len().saturating_sub(FIRST) {
        0 => Ok(()),
        more => writeln!(out, "<p>Then {} below.</p>", plural(more as u64, "more failing rule")),
    }
}

/// The first secrets of `section` that fail, and how many more there are.
fn named(image: &Image<'_>, section: &Section<'_>, out: &mut dyn Write) -> io::Result<()> {
    let fails = |entry: &&Entry<'_>| entry.is_secret() && entry.places.iter().any(|finding| image.fails(finding));
    let secrets: Vec<&Entry<'_>> = section.entries.iter().filter(fails).collect();
    let masked = |entry: &&&Entry<'_>| {
        let secret = entry.first()?.secret.as_ref()?;
        Some(code(&one_line(&secret.masked, 80)).to_string())
    };
    let mut names: Vec<String> = secrets.iter().take(NAMED).filter_map(|entry| masked(&entry)).collect();
    if secrets.len() > NAMED {
        names.push(format!("{} more", thousands((secrets.len() - NAMED) as u64)));
    }
    if names.is_empty() { write!(out, ".") } else { write!(out, ", {}.", names.join(", ")) }
}

/// A table of severities and states.
fn states(image: &Image<'_>, out: &mut dyn Write) -> io::Result<()> {
    let mut cells: BTreeMap<(Severity, State), u64> = BTreeMap::new();
    let counted = image.report.findings.iter().filter(|finding| finding.counts());
    counted.for_each(|finding| *cells.entry((finding.severity, finding.state())).or_default() += 1);
    if cells.is_empty() {
        return Ok(());
    }
    writeln!(
        out,
        "<table class=\"states\"><caption>Findings that count</caption><thead><tr><th scope=\"col\">severity</th>"
    )?;
    for state in State::ALL {
        writeln!(out, "<th scope=\"col\">{}</th>", state.name())?;
    }
    writeln!(out, "</tr></thead><tbody>")?;
    for severity in Severity::ALL.into_iter().filter(|one| cells.keys().any(|(severity, _)| severity == one)) {
        write!(out, "<tr><th scope=\"row\"><span class=\"severity {severity}\">{severity}</span></th>")?;
        for state in State::ALL {
            write!(out, "<td>{}</td>", thousands(cells.get(&(severity, state)).copied().unwrap_or_default()))?;
        }
        writeln!(out, "</tr>")?;
    }
    writeln!(out, "</tbody></table>")
}

/// Names and digests of the image.
fn facts(image: &Image<'_>, out: &mut dyn Write) -> io::Result<()> {
    let report = image.report;
    image.heading("about", "The image", out)?;
    writeln!(out, "<dl class=\"facts\">")?;
    let digest = |digest: &Option<layersift_model::Digest>| digest.as_ref().map(ToString::to_string);
    fact("Image", report.reference.as_deref(), out)?;
    fact("Target", Some(&report.target), out)?;
    fact("Platform", report.platform.as_deref(), out)?;
    fact("Manifest", digest(&report.manifest_digest).as_deref(), out)?;
    fact("Configuration", digest(&report.config_digest).as_deref(), out)?;
    if let Some(base) = &report.base {
        fact("Base image", base.reference.as_deref(), out)?;
        fact("Digest of the base", digest(&base.digest).as_deref(), out)?;
        let by = base.evidence.name();
        let how = match base.is_proven {
            true => format!("proven: its layers were compared ({by})"),
            false => format!("claimed by the author of the image ({by}); its layers were not compared"),
        };
        writeln!(out, "<div><dt>Base is</dt><dd>{how}</dd></div>")?;
    }
    let kind = match report.kind {
        ReportKind::Image | ReportKind::Container | ReportKind::Volume | ReportKind::Orphan => "layer",
        ReportKind::Artifact | ReportKind::Cache => "blob",
    };
    let (blobs, files) = (plural(report.layers.len() as u64, kind), plural(report.files(), "file"));
    let bytes = human(report.bytes());
    writeln!(out, "<div><dt>Read</dt><dd>{blobs}, {files}, {bytes} uncompressed</dd></div>")?;
    if let Some(time) = report.scanned_at {
        writeln!(out, "<div><dt>Scanned</dt><dd>{}</dd></div>", time.strftime("%Y-%m-%d %H:%M:%S UTC"))?;
    }
    writeln!(out, "</dl>")
}

/// Writes a row of a list of facts; nothing where there is no value.
pub(super) fn fact(name: &str, value: Option<&str>, out: &mut dyn Write) -> io::Result<()> {
    let Some(value) = value.filter(|value| !value.is_empty()) else { return Ok(()) };
    writeln!(out, "<div><dt>{name}</dt><dd>{}</dd></div>", code(&one_line(value, 2_000)))
}
