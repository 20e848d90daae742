//! Text for a person: findings grouped by secret, worst first, each with the layers it came and went with. Risk and fix
//! stand under the first secret of a rule.
//!
//! The text holds terminal colours; whoever prints it takes them out where there is no terminal. Whatever comes from
//! the image is stripped of control characters: a label must not steer the terminal of the person who reads it.

use std::collections::{BTreeMap, HashSet};
use std::fmt::{self, Write};
use std::io;

use anstyle::{AnsiColor, Color, Style};

use layersift_model::{FileLocation, Finding, ImageGap, ImageReport, LayerRef, Location, Severity, State, Verdict};

use crate::text_parts::{clean, human, plural};
use crate::{RenderOptions, exceptions};

/// Places of one secret that are listed; the rest are counted.
const PLACES: usize = 8;

/// Layers that a timeline is drawn for.
const TIMELINE: usize = 64;

pub(super) const BOLD: Style = Style::new().bold();
pub(super) const DIM: Style = Style::new().dimmed();

/// Writes the text for `reports`.
pub(crate) fn render(reports: &[ImageReport], options: &RenderOptions, out: &mut dyn io::Write) -> io::Result<()> {
    out.write_all(text(reports, options).as_bytes())
}

fn text(reports: &[ImageReport], options: &RenderOptions) -> String {
    let mut out = String::new();
    for (index, report) in reports.iter().enumerate() {
        if index > 0 {
            out.push('\n');
        }
        // Writing to a String cannot fail.
        let _ = image(&mut out, report, options);
        // Of the policy itself everything is said once, where the eye ends.
        if index + 1 == reports.len() {
            let _ = exceptions::expired(&mut out, report.judgement.as_ref());
        }
        let _ = writeln!(out).and_then(|()| verdict(&mut out, report));
    }
    out
}

fn image(out: &mut String, report: &ImageReport, options: &RenderOptions) -> fmt::Result {
    header(out, report)?;
    let mut explained = HashSet::new();
    for group in groups(&counted(report)) {
        writeln!(out)?;
        finding_group(out, &group, report, options)?;
        let rule = &group.first().rule;
        if explained.insert(&rule.id) {
            writeln!(out, "  {DIM}Risk{DIM:#}  {}", clean(&rule.risk, 400))?;
            writeln!(out, "  {DIM}Fix{DIM:#}   {}", clean(&rule.fix, 400))?;
        }
    }
    exceptions::allowed(out, report)?;
    exceptions::baseline(out, report)?;
    if !report.gaps.is_empty() {
        gaps(out, &report.gaps)?;
    }
    Ok(())
}

/// The findings that count.
fn counted(report: &ImageReport) -> Vec<&Finding> {
    report.findings.iter().filter(|finding| finding.counts()).collect()
}

fn header(out: &mut String, report: &ImageReport) -> fmt::Result {
    let name = report.reference.as_deref().unwrap_or(&report.target);
    write!(out, "{BOLD}{}{BOLD:#}", clean(name, 200))?;
    if let Some(platform) = &report.platform {
        write!(out, "  {}", clean(platform, 60))?;
    }
    if let Some(digest) = &report.manifest_digest {
        write!(out, "  {DIM}{digest}{DIM:#}")?;
    }
    writeln!(out)?;
    let layers = plural(report.layers.len() as u64, "layer");
    write!(out, "{DIM}{layers}, {}, {}", plural(report.files(), "file"), human(report.bytes()))?;
    if let Some(milliseconds) = report.milliseconds {
        write!(out, ", {:.2} s", milliseconds as f64 / 1000.0)?;
    }
    if !report.tool.version.is_empty() {
        write!(out, ", layersift {}", report.tool.version)?;
    }
    writeln!(out, "{DIM:#}")
}

/// Findings of one rule with one secret.
struct Group<'r> {
    findings: Vec<&'r Finding>,
}

impl<'r> Group<'r> {
    fn first(&self) -> &'r Finding {
        self.findings[0]
    }

    /// The worst of its findings: what packages ship counts less.
    fn severity(&self) -> Severity {
        self.findings.iter().map(|finding| finding.severity).max().unwrap_or(self.first().severity)
    }
}

/// Groups, worst first; of one severity what is present before what is gone, then in the order of the report.
fn groups<'r>(findings: &[&'r Finding]) -> Vec<Group<'r>> {
    let mut by_secret: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    let mut groups: Vec<Group<'r>> = Vec::new();
    for &finding in findings {
        let secret = finding.fingerprint();
        let index = match secret {
            Some(fingerprint) => *by_secret.entry((&finding.rule.id, fingerprint)).or_insert(groups.len()),
            None => groups.len(),
        };
        match groups.get_mut(index) {
            Some(group) => group.findings.push(finding),
            None => groups.push(Group { findings: vec![finding] }),
        }
    }
    groups.sort_by_key(|group| {
        let gone = !group.findings.iter().any(|finding| finding.is_present());
        (std::cmp::Reverse(group.severity()), gone)
    });
    groups
}

fn finding_group(out: &mut String, group: &Group<'_>, report: &ImageReport, options: &RenderOptions) -> fmt::Result {
    let first = group.first();
    let severity = group.severity();
    let (style, severity) = (severity_style(severity), severity.name().to_uppercase());
    writeln!(out, "{style}{severity}{style:#}  {BOLD}{}{BOLD:#}  {DIM}{}{DIM:#}", first.rule.title, first.rule.id)?;
    if let Some(secret) = &first.secret {
        let fingerprint = first.fingerprint().unwrap_or_default();
        writeln!(out, "  {}  {DIM}fingerprint {fingerprint}{DIM:#}", clean(&secret.masked, 120))?;
        if let Some(value) = secret.value.as_ref().filter(|_| options.show_secrets) {
            writeln!(out, "  {}", revealed(value.reveal()))?;
        }
    }
    for finding in group.findings.iter().take(PLACES) {
        location(out, finding, report)?;
    }
    if group.findings.len() > PLACES {
        writeln!(out, "  … and in {} more places (--format json lists all)", group.findings.len() - PLACES)?;
    }
    Ok(())
}

/// A secret as it is, where someone asked for it: text on its lines, other bytes in hexadecimal digits.
fn revealed(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if text.chars().all(|c| !c.is_control() || c == '\n' || c == '\t') => text.replace('\n', "\n  "),
        _ => format!("hex:{}", layersift_model::hex(bytes)),
    }
}

fn location(out: &mut String, finding: &Finding, report: &ImageReport) -> fmt::Result {
    let note = finding.note.as_deref().map(|note| format!("  {DIM}{}{DIM:#}", clean(note, 200))).unwrap_or_default();
    match &finding.location {
        Location::Image => writeln!(out, "  {}", note.trim_start()),
        Location::Config(field) => writeln!(out, "  {BOLD}configuration {}{BOLD:#}{note}", clean(field, 120)),
        Location::File(file) => {
            write!(out, "  {BOLD}{}{BOLD:#}", position(file))?;
            context(out, file)?;
            writeln!(out, "{note}")?;
            lifetime(out, file, report.layers.len())
        }
    }
}

/// What the file is: section and symbol, and the package it belongs to.
fn context(out: &mut String, file: &FileLocation) -> fmt::Result {
    if let Some(binary) = &file.binary {
        let kind = if binary.node_addon { "Node addon, " } else { "" };
        write!(out, "  {DIM}{kind}{}", binary.format)?;
        for part in [&binary.section, &binary.symbol].into_iter().flatten() {
            write!(out, " {}", clean(part, 80))?;
        }
        write!(out, "{DIM:#}")?;
    }
    if let Some(package) = &file.package {
        let version = package.version.as_deref().map(|v| format!("@{v}")).unwrap_or_default();
        let package = format!("{} {}{version}", package.ecosystem, package.name);
        write!(out, "  {DIM}{}{DIM:#}", clean(&package, 120))?;
    }
    if file.as_shipped {
        write!(out, "  {DIM}as its package ships it{DIM:#}")?;
    }
    Ok(())
}

/// Where in a file something is, as people write it; its path where it is the file as a whole.
pub(super) fn position(place: &FileLocation) -> String {
    let inside: String = place.inside.iter().map(|member| format!(" ▸ {}", clean(member, 200))).collect();
    let place_in = match (place.line, place.column) {
        (Some(line), Some(column)) => format!(":{line}:{column}"),
        _ => place.offset.map(|offset| format!(" at byte {offset}")).unwrap_or_default(),
    };
    let views = if place.views.is_empty() { String::new() } else { format!(" in {}", place.views.join(" in ")) };
    format!("{}{inside}{place_in}{views}", place.path)
}

fn lifetime(out: &mut String, file: &FileLocation, layers: usize) -> fmt::Result {
    let FileLocation { layer, state, ended_by, .. } = file;
    let style = if *state == State::Present { BOLD } else { DIM };
    let drawn = timeline(layer.index, ended_by.as_ref().map(|end| end.index), layers);
    match ended_by {
        None => writeln!(out, "    {drawn} {style}present{style:#}")?,
        Some(end) => writeln!(
            out,
            "    {drawn} {style}{} in layer {}, still in layer {} for anyone who pulls it{style:#}",
            state.name(),
            end.index,
            layer.index
        )?,
    }
    layer_line(out, "came", layer)?;
    match ended_by {
        Some(end) => layer_line(out, "went", end),
        None => Ok(()),
    }
}

fn layer_line(out: &mut String, verb: &str, layer: &LayerRef) -> fmt::Result {
    let digest = layer.digest.as_ref().map(|digest| digest.short().to_string()).unwrap_or_default();
    let made = layer.created_by.as_deref().map(|text| clean(text, 110)).unwrap_or_default();
    writeln!(out, "    {verb}  layer {}  {DIM}{digest}{DIM:#}  {made}", layer.index)
}

/// One character a layer: `●` where it came, `━` while it is there, `✕` where it went.
fn timeline(start: usize, end: Option<usize>, layers: usize) -> String {
    if layers > TIMELINE {
        return String::new();
    }
    let mark = |index: usize| match end {
        _ if index < start => '·',
        _ if index == start => '●',
        Some(end) if index == end => '✕',
        Some(end) if index > end => '·',
        _ => '━',
    };
    (0..layers).map(mark).collect()
}

fn gaps(out: &mut String, gaps: &[ImageGap]) -> fmt::Result {
    let style = Style::new().bold().fg_color(Some(Color::Ansi(AnsiColor::Yellow)));
    writeln!(out, "\n{style}NOT LOOKED AT{style:#}")?;
    const SHOWN: usize = 20;
    for ImageGap { gap, layer } in gaps.iter().take(SHOWN) {
        let layer = layer.map(|layer| format!("layer {layer}  ")).unwrap_or_default();
        let path = gap.path.as_deref().map(|path| format!("{}  ", clean(path, 120))).unwrap_or_default();
        let bytes = gap.bytes.map(|bytes| format!(" ({})", human(bytes))).unwrap_or_default();
        writeln!(out, "  {BOLD}{}{BOLD:#}  {layer}{path}{}{bytes}", gap.reason.name(), clean(&gap.detail, 300))?;
    }
    if gaps.len() > SHOWN {
        writeln!(out, "  … and {} more (--format json lists all)", gaps.len() - SHOWN)?;
    }
    Ok(())
}

fn verdict(out: &mut String, report: &ImageReport) -> fmt::Result {
    let verdict = report.verdict();
    let colour = match verdict {
        Verdict::Pass => AnsiColor::Green,
        Verdict::Incomplete => AnsiColor::Yellow,
        Verdict::Fail => AnsiColor::Red,
    };
    let style = Style::new().bold().fg_color(Some(Color::Ansi(colour)));
    let limit = report.judgement.as_ref().and_then(|judgement| judgement.policy.fail_on);
    let limit = limit.map_or("none", Severity::name);
    write!(out, "{style}{}{style:#}  {}", verdict.name().to_uppercase(), summary(report))?;
    if !report.gaps.is_empty() {
        write!(out, "; {}", plural(report.gaps.len() as u64, "gap"))?;
    }
    writeln!(out, "  {DIM}(--fail-on {limit}){DIM:#}")
}

/// How many findings count, and how many do not.
fn summary(report: &ImageReport) -> String {
    let findings = &report.findings;
    let allowed = findings.iter().filter(|finding| finding.allowed.is_some()).count();
    let known = findings.iter().filter(|finding| finding.allowed.is_none() && finding.baseline).count();
    let nothing = if findings.is_empty() { "nothing found" } else { "nothing that counts" };
    let mut summary = counts(&counted(report)).unwrap_or_else(|| nothing.into());
    for (count, how) in [(allowed, "allowed"), (known, "in the baseline")] {
        if count > 0 {
            summary += &format!("; {count} {how}");
        }
    }
    summary
}

/// How many findings there are of each severity; `None` where there are none.
pub(super) fn counts(findings: &[&Finding]) -> Option<String> {
    let count = |severity| findings.iter().filter(|finding| finding.severity == severity).count();
    let parts: Vec<String> = Severity::ALL
        .into_iter()
        .map(|severity| (count(severity), severity.name()))
        .filter(|(count, _)| *count > 0)
        .map(|(count, name)| format!("{count} {name}"))
        .collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

fn severity_style(severity: Severity) -> Style {
    let colour = match severity {
        Severity::Critical | Severity::High => AnsiColor::Red,
        Severity::Medium => AnsiColor::Yellow,
        Severity::Low => AnsiColor::Cyan,
        Severity::Info => AnsiColor::Blue,
    };
    let style = Style::new().fg_color(Some(Color::Ansi(colour)));
    if severity == Severity::Critical { style.bold() } else { style }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeline_shows_when_it_came_and_went() {
        assert_eq!(timeline(1, Some(3), 6), "·●━✕··");
        assert_eq!(timeline(0, None, 3), "●━━");
        assert_eq!(timeline(2, Some(2), 4), "··●·");
        assert_eq!(timeline(2, None, 100), "");
    }
}
