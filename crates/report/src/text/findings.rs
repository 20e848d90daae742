//! The findings: a section for every rule and severity, with its secrets, files and clusters of files.

use std::collections::{BTreeSet, HashSet};
use std::io::{self, Write};

use layersift_model::{
    Digest, DocumentLocation, FileLocation, Finding, ImageReport, Location, Package, Severity, State,
};

use super::groups::{Cluster, FEW, MEMBER, Place, Secret, Section, clusters, sections};
use super::{counted, lifetime, summary};
use crate::RenderOptions;
use crate::built;
use crate::terminal::{BOLD, DIM, Line, PLAIN, clean, paragraph, plural, safe, severity_style, thousands};

/// Places of one secret that are listed; more are counted.
const PLACES: usize = 8;

/// Secrets of one section that are listed; more are grouped by directory.
const SECRETS: usize = 10;

/// Findings outside of files that are listed in a section; more are counted.
const OTHERS: usize = 20;

/// Layers that a cluster names; more are counted.
const LAYERS: usize = 3;

/// Writes the findings of the severity `least` and above, and how many others there are.
pub(super) fn write(
    report: &ImageReport,
    least: Severity,
    options: &RenderOptions,
    out: &mut dyn Write,
) -> io::Result<()> {
    let (shown, hidden): (Vec<_>, Vec<_>) =
        sections(counted(report)).into_iter().partition(|section| section.severity >= least);
    let mut explained = HashSet::new();
    for section in &shown {
        writeln!(out)?;
        Writer { report, options, out }.section(section)?;
        if explained.insert(&section.rule.id) {
            for (label, text) in [("  Risk  ", &section.rule.risk), ("  Fix   ", &section.rule.fix)] {
                paragraph(out, (DIM, label), text, 8, options.width)?;
            }
        }
    }
    let Some(counts) = summary::counts(hidden.iter().flat_map(Section::findings)) else { return Ok(()) };
    let show = hidden.iter().map(|section| section.severity).min().unwrap_or(Severity::Info);
    writeln!(out)?;
    let mut line = Line::begin(out, 0, options.width)?;
    line.text(DIM, &format!("Not listed: {counts}"))?;
    line.text(DIM, &format!("(--show {show} lists them)"))?;
    line.end()
}

struct Writer<'w> {
    report: &'w ImageReport,
    options: &'w RenderOptions,
    out: &'w mut dyn Write,
}

impl Writer<'_> {
    fn section(&mut self, section: &Section<'_>) -> io::Result<()> {
        let Section { rule, severity, secrets, files, others, .. } = section;
        let mut line = self.line(0)?;
        line.text(severity_style(*severity), &severity.name().to_uppercase())?;
        line.text(BOLD, &clean(&rule.title, 200))?;
        line.text(DIM, &clean(&rule.id, 200))?;
        line.end()?;
        // Where their values are asked for, none may be missing.
        let listed = if self.options.show_secrets { secrets.len() } else { SECRETS };
        for secret in secrets.iter().take(listed) {
            self.secret(secret, secrets.len() > FEW)?;
        }
        self.more_secrets(secrets.get(listed..).unwrap_or_default())?;
        self.files(files, 2)?;
        self.places(others.get(..OTHERS).unwrap_or(others), 2, false)?;
        self.more(others.len().saturating_sub(OTHERS), "finding", 2)
    }

    /// A secret and its places; where there are many secrets, each place is one line.
    fn secret(&mut self, secret: &Secret<'_>, is_short: bool) -> io::Result<()> {
        if let Some(shown) = secret.places.first().and_then(|finding| finding.secret.as_ref()) {
            let mut line = self.line(2)?;
            line.text(PLAIN, &clean(&shown.masked, 120))?;
            line.text(DIM, &format!("fingerprint {}", safe(&shown.fingerprint)))?;
            line.end()?;
            if let Some(value) = shown.value.as_ref().filter(|_| self.options.show_secrets) {
                writeln!(self.out, "  {}", revealed(value.reveal()))?;
            }
        }
        let places = &secret.places;
        self.places(places.get(..PLACES).unwrap_or(places), 4, is_short)?;
        self.more(places.len().saturating_sub(PLACES), "place", 4)
    }

    /// The secrets that are not listed one by one: where they are.
    fn more_secrets(&mut self, secrets: &[Secret<'_>]) -> io::Result<()> {
        if secrets.is_empty() {
            return Ok(());
        }
        writeln!(self.out, "  {}:", plural(secrets.len() as u64, "more secret"))?;
        let places = || secrets.iter().flat_map(|secret| secret.places.iter().copied());
        let files: Vec<&Finding> = places().filter(|finding| finding.file().is_some()).collect();
        self.files(&files, 4)?;
        match places().count() - files.len() {
            0 => Ok(()),
            count => writeln!(self.out, "    {count} in the configuration and other documents"),
        }
    }

    /// Files, many of one package or directory as one line.
    fn files(&mut self, findings: &[&Finding], indent: usize) -> io::Result<()> {
        let (clusters, singles) = clusters(findings);
        for cluster in &clusters {
            let has_inner = clusters.iter().any(|other| cluster.place.holds(&other.place));
            self.cluster(cluster, if has_inner { "other " } else { "" }, indent)?;
        }
        self.places(&singles, indent, false)
    }

    fn cluster(&mut self, cluster: &Cluster<'_>, other: &str, indent: usize) -> io::Result<()> {
        let Cluster { place, findings } = cluster;
        let layers = self.layers(findings);
        let mut line = self.line(indent)?;
        match place {
            Place::Package(package, directory) => {
                under(&mut line, &how_many(findings, other), directory)?;
                line.text(DIM, &package_name(package))?;
            }
            Place::Directory(directory) => under(&mut line, &how_many(findings, other), directory)?,
            Place::File(path) => line.path(BOLD, &format!("{} in {}", how_many(findings, other), safe(path)), "")?,
            Place::Elsewhere => {
                let such_as = findings.first().and_then(|finding| finding.file()).map(|file| file.full_path(MEMBER));
                line.text(BOLD, &how_many(findings, "other "))?;
                line.path(DIM, &format!("such as {}", safe(&such_as.unwrap_or_default())), "")?;
            }
        }
        line.text(DIM, &states(findings))?;
        line.text(DIM, &layers)?;
        line.end()
    }

    /// The layers that brought `findings`; nothing where the image has no other.
    fn layers(&self, findings: &[&Finding]) -> String {
        let layers: BTreeSet<usize> = findings.iter().filter_map(|finding| Some(finding.file()?.layer.index)).collect();
        match layers.len() {
            _ if self.report.layers.len() < 2 => String::new(),
            1 => format!("layer {}", join(&layers)),
            ..=LAYERS => format!("layers {}", join(&layers)),
            many => format!("{many} layers"),
        }
    }

    /// Places of findings, each in one line; the layers of files that came and went together follow the last of them.
    fn places(&mut self, findings: &[&Finding], indent: usize, is_short: bool) -> io::Result<()> {
        let layers = self.report.layers.len();
        for (index, finding) in findings.iter().enumerate() {
            self.place(finding, indent, is_short)?;
            let Some(file) = finding.file().filter(|_| !is_short) else { continue };
            let next = findings.get(index + 1).and_then(|next| next.file());
            if next.is_none_or(|next| !lifetime::is_same(file, next)) {
                let built = built::finding(self.report, finding);
                lifetime::write(file, layers, &built, indent + 2, self.options.width, self.out)?;
            }
        }
        Ok(())
    }

    fn place(&mut self, finding: &Finding, indent: usize, is_short: bool) -> io::Result<()> {
        let layers = self.report.layers.len();
        let note = clean(finding.note.as_deref().unwrap_or_default(), 400);
        if finding.location == Location::Image {
            return paragraph(self.out, (PLAIN, &" ".repeat(indent)), &note, indent, self.options.width);
        }
        let built = built::finding(self.report, finding);
        let mut line = self.line(indent)?;
        match &finding.location {
            Location::Image => {}
            Location::Document(document) => line.text(BOLD, &in_document(document))?,
            Location::Config(field) => {
                line.text(BOLD, &format!("configuration {}", clean(field, 120)))?;
                line.text(DIM, &built)?;
            }
            Location::File(file) => {
                let (path, suffix) = position(file);
                line.path(BOLD, &path, &suffix)?;
                context(&mut line, file)?;
                if is_short {
                    line.text(DIM, &lifetime::short(file, layers))?;
                    line.text(DIM, &built)?;
                }
            }
        }
        line.text(DIM, &note)?;
        line.end()
    }

    fn more(&mut self, count: usize, noun: &str, indent: usize) -> io::Result<()> {
        if count == 0 {
            return Ok(());
        }
        let mut line = self.line(indent)?;
        line.text(DIM, &format!("… and {}", plural(count as u64, &format!("more {noun}"))))?;
        line.text(DIM, "(--format json lists all)")?;
        line.end()
    }

    fn line(&mut self, indent: usize) -> io::Result<Line<'_>> {
        Line::begin(&mut *self.out, indent, self.options.width)
    }
}

/// A secret as it is, where it was asked for: text on its lines, other bytes in hexadecimal digits.
fn revealed(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if text.chars().all(|c| !c.is_control() || c == '\n' || c == '\t') => text.replace('\n', "\n  "),
        _ => format!("hex:{}", layersift_model::hex(bytes)),
    }
}

/// Where in a file something is, as compilers write it: the path, and the place in it.
pub(super) fn position(file: &FileLocation) -> (String, String) {
    let place = match (file.line, file.column) {
        (Some(line), Some(column)) => format!(":{line}:{column}"),
        _ => file.offset.map(|offset| format!(" at byte {offset}")).unwrap_or_default(),
    };
    let views: String = file.views.iter().map(|view| format!(" in {}", clean(view, 40))).collect();
    (safe(&file.full_path(MEMBER)).into(), place + &views)
}

/// Where in a document something is: its kind, the manifest of the referrer, the value, and the line of the text in it.
pub(super) fn in_document(location: &DocumentLocation) -> String {
    let DocumentLocation { document, inside, views, line, column } = location;
    let referrer = document.referrer.iter().map(|referrer| format!(" of {}", short(referrer)));
    let value = document.json_path.iter().chain(inside).map(|part| format!(" {}", clean(part, 160)));
    let place = match (line, column) {
        (Some(line), Some(column)) => format!(":{line}:{column}"),
        _ => String::new(),
    };
    let views = views.iter().map(|view| format!(" in {}", clean(view, 40)));
    let parts = referrer.chain(value).chain([place]).chain(views);
    clean(&document.kind, 40) + &parts.collect::<String>()
}

/// As much of a digest as tools show of it.
fn short(digest: &Digest) -> String {
    format!("{}:{}", digest.algorithm().name(), digest.hex().chars().take(12).collect::<String>())
}

/// What the file is: section and symbol, and the package it belongs to.
fn context(line: &mut Line<'_>, file: &FileLocation) -> io::Result<()> {
    if let Some(binary) = &file.binary {
        let kind = if binary.node_addon { "Node addon, " } else { "" };
        let parts = [Some(&*binary.format), binary.section.as_deref(), binary.symbol.as_deref()];
        let parts: Vec<String> = parts.into_iter().flatten().map(|part| clean(part, 80)).collect();
        line.text(DIM, &format!("{kind}{}", parts.join(" ")))?;
    }
    if let Some(package) = &file.package {
        line.text(DIM, &package_name(package))?;
    }
    line.text(DIM, if file.as_shipped { "as its package ships it" } else { "" })
}

fn package_name(package: &Package) -> String {
    let version = package.version.as_deref().map(|version| format!("@{version}")).unwrap_or_default();
    clean(&format!("{} {}{version}", package.ecosystem, package.name), 120)
}

/// `1,311 files under srv/app`; without the directory where that is the root.
fn under(line: &mut Line<'_>, count: &str, directory: &str) -> io::Result<()> {
    let place = if directory.is_empty() { String::new() } else { format!(" under {}", safe(directory)) };
    line.path(BOLD, &format!("{count}{place}"), "")
}

/// How many files, or how many findings where a file has several; `findings` are ordered by path.
fn how_many(findings: &[&Finding], other: &str) -> String {
    let is_same = |a: &Finding, b: &Finding| match (a.file(), b.file()) {
        (Some(a), Some(b)) => a.path == b.path && a.inside == b.inside,
        _ => false,
    };
    let files = findings.chunk_by(|a, b| is_same(a, b)).count();
    let count = findings.len() as u64;
    match files {
        1 => plural(count, &format!("{other}finding")),
        _ if files == findings.len() => plural(count, &format!("{other}file")),
        _ => format!("{} in {}", plural(count, &format!("{other}finding")), plural(files as u64, "file")),
    }
}

/// How many are in which state; nothing where all are present.
fn states(findings: &[&Finding]) -> String {
    let count = |state| findings.iter().filter(|finding| finding.state() == state).count();
    let counts: Vec<(State, usize)> =
        State::ALL.into_iter().map(|state| (state, count(state))).filter(|(_, count)| *count > 0).collect();
    match &counts[..] {
        [(State::Present, _)] => String::new(),
        [(state, _)] => state.name().into(),
        several => {
            let parts: Vec<String> =
                several.iter().map(|(state, count)| format!("{} {}", thousands(*count as u64), state.name())).collect();
            parts.join(", ")
        }
    }
}

fn join(layers: &BTreeSet<usize>) -> String {
    layers.iter().map(usize::to_string).collect::<Vec<_>>().join(", ")
}
