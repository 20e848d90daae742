//! The top of the text: the verdict, the image, and tables of what was found in which state and which layer.

use std::collections::BTreeMap;
use std::io::{self, Write};

use layersift_model::{Digest, Finding, ImageReport, Location, ReportKind, Severity, State, Verdict};

use super::{counted, fail_on};
use crate::built;
use crate::terminal::{
    BOLD, DIM, Line, PLAIN, WARNING, clean, cut, human, paragraph, plural, severity_style, thousands, verdict_style,
};

/// Layers of the table; more are counted.
const LAYERS: usize = 40;

/// Notes that are written.
const NOTES: usize = 5;

/// The widths of the first two columns of the table of layers.
const INDEX: usize = 10;
const DIGEST: usize = 14;

/// The fewest columns for an instruction: one that is cut to a few letters says nothing.
const SHORTEST: usize = 12;

/// The verdict and its reason, in one line where that fits.
pub(super) fn verdict(report: &ImageReport, width: usize, out: &mut dyn Write) -> io::Result<()> {
    let verdict = report.verdict();
    let mut line = Line::begin(out, 0, width)?;
    line.text(verdict_style(verdict), &verdict.name().to_uppercase())?;
    let (own, others) = platforms(report);
    line.text(BOLD, &own)?;
    line.text(PLAIN, &reason(report))?;
    line.text(WARNING, &others)?;
    if report.judgement.is_some() {
        let limit = fail_on(report).map_or("none", Severity::name);
        line.text(DIM, &format!("(--fail-on {limit})"))?;
    }
    line.end()
}

/// The platform that the verdict is for and how many it is not for, where the image has others.
fn platforms(report: &ImageReport) -> (String, String) {
    let others = report.other_platforms.len() as u64;
    if others == 0 {
        return (String::new(), String::new());
    }
    let own = clean(report.platform.as_deref().unwrap_or("one platform"), 60);
    (own, format!("{} not read, --platform all", plural(others, "other platform")))
}

/// Why the verdict is what it is: what fails, what was not scanned, and what else was found.
fn reason(report: &ImageReport) -> String {
    if report.judgement.is_none() {
        return "not judged by a policy".into();
    }
    let limit = fail_on(report);
    let fails = |finding: &&Finding| limit.is_some_and(|limit| finding.severity >= limit);
    let gaps = (!report.gaps.is_empty()).then(|| plural(report.gaps.len() as u64, "gap"));
    let not_failing = counts(counted(report).filter(|finding| !fails(finding)));
    let mut parts: Vec<String> = Vec::new();
    match (report.verdict(), limit) {
        (Verdict::Fail, _) => {
            parts.extend(counts(counted(report).filter(fails)));
            parts.extend(gaps);
        }
        (_, limit) => {
            parts.extend(gaps);
            match (not_failing, limit) {
                (None, _) => parts.push("no findings".into()),
                (Some(counts), Some(Severity::Critical)) => parts.extend(["nothing critical".into(), counts]),
                (Some(counts), Some(limit)) => parts.extend([format!("nothing {limit} or above"), counts]),
                (Some(counts), None) => parts.push(counts),
            }
        }
    }
    let allowed = report.findings.iter().filter(|finding| finding.allowed.is_some()).count();
    let known = report.findings.iter().filter(|finding| finding.allowed.is_none() && finding.baseline).count();
    for (count, label) in [(allowed, "allowed"), (known, "in the baseline")] {
        parts.extend((count > 0).then(|| format!("{} {label}", thousands(count as u64))));
    }
    parts.join("; ")
}

/// How many findings there are of each severity, worst first; `None` where there are none.
pub(super) fn counts<'r>(findings: impl Iterator<Item = &'r Finding>) -> Option<String> {
    let mut by_severity: BTreeMap<Severity, u64> = BTreeMap::new();
    findings.for_each(|finding| *by_severity.entry(finding.severity).or_default() += 1);
    let parts: Vec<String> =
        by_severity.iter().rev().map(|(severity, count)| format!("{} {severity}", thousands(*count))).collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// What the image is called.
pub(super) fn name(report: &ImageReport) -> &str {
    report.reference.as_deref().unwrap_or(&report.target)
}

/// The image: its name, its digest, and how much was read.
pub(super) fn image(report: &ImageReport, width: usize, out: &mut dyn Write) -> io::Result<()> {
    let mut line = Line::begin(out, 0, width)?;
    line.path(BOLD, &clean(name(report), usize::MAX), "")?;
    line.text(PLAIN, &clean(report.platform.as_deref().unwrap_or_default(), 60))?;
    line.end()?;
    if let Some(digest) = &report.manifest_digest {
        writeln!(out, "{DIM}{digest}{DIM:#}")?;
    }
    let noun = if report.kind == ReportKind::Artifact { "blob" } else { "layer" };
    let layers = plural(report.layers.len() as u64, noun);
    let mut parts = vec![layers, plural(report.files(), "file"), human(report.bytes())];
    parts.extend(report.milliseconds.map(|milliseconds| format!("{:.2} s", milliseconds as f64 / 1000.0)));
    if !report.tool.version.is_empty() {
        parts.push(format!("layersift {}", clean(&report.tool.version, 40)));
    }
    writeln!(out, "{DIM}{}{DIM:#}", cut(&parts.join(", "), width))?;
    if let Some(base) = &report.base {
        writeln!(out, "{DIM}{}{DIM:#}", cut(&built::base(base), width))?;
    }
    report.notes.iter().take(NOTES).try_for_each(|note| paragraph(out, (DIM, "Note: "), &clean(note, 400), 6, width))
}

/// A table of severities and states. Severities below `least` are dimmed: their findings are not listed.
pub(super) fn states(report: &ImageReport, least: Severity, out: &mut dyn Write) -> io::Result<()> {
    let mut cells: BTreeMap<(Severity, State), u64> = BTreeMap::new();
    counted(report).for_each(|finding| *cells.entry((finding.severity, finding.state())).or_default() += 1);
    if cells.is_empty() {
        return Ok(());
    }
    let number = |severity, state| cell(cells.get(&(severity, state)).copied().unwrap_or_default());
    let columns = State::ALL.map(|state| {
        let longest = Severity::ALL.map(|severity| number(severity, state).len()).into_iter().max();
        state.name().len().max(longest.unwrap_or_default())
    });
    let titles: String =
        State::ALL.into_iter().zip(columns).map(|(state, width)| format!("  {:>width$}", state.name())).collect();
    writeln!(out, "\n{DIM}{:8}{titles}{DIM:#}", "")?;
    for severity in Severity::ALL.into_iter().filter(|one| cells.keys().any(|(severity, _)| severity == one)) {
        let (name, style) = if severity < least { (DIM, DIM) } else { (severity_style(severity), PLAIN) };
        let row: String = State::ALL
            .into_iter()
            .zip(columns)
            .map(|(state, width)| format!("  {:>width$}", number(severity, state)))
            .collect();
        writeln!(out, "{name}{severity:<8}{name:#}{style}{row}{style:#}")?;
    }
    Ok(())
}

/// A number of a table; a dash for none.
fn cell(count: u64) -> String {
    if count == 0 { "-".into() } else { thousands(count) }
}

/// Where a finding is counted.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Origin {
    Layer(usize),
    Documents,
    Configuration,
    Combination,
}

/// A table of the layers that have findings of the severity `least` or above, and of what is in no layer. Nothing for
/// an image with one layer, which is a root file system or a file.
pub(super) fn layers(report: &ImageReport, least: Severity, width: usize, out: &mut dyn Write) -> io::Result<()> {
    let mut cells: Counts = BTreeMap::new();
    for finding in counted(report).filter(|finding| finding.severity >= least) {
        let origin = match &finding.location {
            Location::File(file) => Origin::Layer(file.layer.index),
            Location::Document(_) => Origin::Documents,
            Location::Config(_) => Origin::Configuration,
            Location::Image => Origin::Combination,
        };
        *cells.entry(origin).or_default().entry(finding.severity).or_default() += 1;
    }
    if report.layers.len() < 2 || cells.is_empty() {
        return Ok(());
    }
    LayerTable::new(report, &cells, width).write(&cells, out)
}

struct LayerTable<'r> {
    report: &'r ImageReport,
    /// The severities that are shown, worst first, and the widths of their columns.
    severities: Vec<(Severity, usize)>,
    has_digest: bool,
    width: usize,
}

type Counts = BTreeMap<Origin, BTreeMap<Severity, u64>>;

impl<'r> LayerTable<'r> {
    fn new(report: &'r ImageReport, cells: &Counts, width: usize) -> LayerTable<'r> {
        let mut widths: BTreeMap<Severity, usize> = BTreeMap::new();
        for (severity, count) in cells.values().flatten() {
            let column = widths.entry(*severity).or_insert(severity.name().len());
            *column = cell(*count).len().max(*column);
        }
        let severities: Vec<(Severity, usize)> = widths.into_iter().rev().collect();
        let numbers: usize = severities.iter().map(|(_, column)| 2 + column).sum();
        LayerTable { report, severities, has_digest: INDEX + DIGEST + numbers <= width, width }
    }

    fn write(&self, cells: &Counts, out: &mut dyn Write) -> io::Result<()> {
        let digest = if self.has_digest { format!("  {:12}", "digest") } else { String::new() };
        let mut titles = self.numbers(|severity| severity.name().into());
        if self.room() >= SHORTEST {
            titles += "  instruction";
        }
        writeln!(out, "\n{DIM}{:INDEX$}{digest}{titles}{DIM:#}", "layer")?;
        for (origin, counts) in cells.iter().take(LAYERS) {
            let row = self.numbers(|severity| cell(counts.get(&severity).copied().unwrap_or_default()));
            self.row(*origin, &row, out)?;
        }
        match cells.len().saturating_sub(LAYERS) {
            0 => Ok(()),
            more => writeln!(out, "{DIM}… and {}{DIM:#}", plural(more as u64, "more row")),
        }
    }

    fn numbers(&self, number: impl Fn(Severity) -> String) -> String {
        self.severities.iter().map(|(severity, column)| format!("  {:>column$}", number(*severity))).collect()
    }

    fn row(&self, origin: Origin, numbers: &str, out: &mut dyn Write) -> io::Result<()> {
        let (name, layer) = match origin {
            Origin::Layer(index) => {
                (index.to_string(), self.report.layers.get(index).filter(|layer| layer.index == index))
            }
            Origin::Documents => ("documents".into(), None),
            Origin::Configuration => ("config".into(), None),
            Origin::Combination => ("combined".into(), None),
        };
        let digest = layer.and_then(|layer| layer.digest.as_ref()).map_or("", Digest::short);
        let digest = if self.has_digest { format!("  {digest:12}") } else { String::new() };
        write!(out, "{name:INDEX$}{DIM}{digest}{DIM:#}{numbers}")?;
        let made = layer
            .filter(|_| self.room() >= SHORTEST)
            .map(|layer| built::layer(self.report, layer.origin) + layer.created_by.as_deref().unwrap_or_default());
        let made = made.filter(|made| !made.is_empty());
        writeln!(out, "{}", made.map(|made| format!("  {}", clean(&made, self.room()))).unwrap_or_default())
    }

    /// The columns that are left for an instruction.
    fn room(&self) -> usize {
        let numbers: usize = self.severities.iter().map(|(_, column)| 2 + column).sum();
        self.width.saturating_sub(INDEX + if self.has_digest { DIGEST } else { 0 } + numbers + 2)
    }
}
