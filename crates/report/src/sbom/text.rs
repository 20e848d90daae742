//! A bill of materials as a table for a person.

use std::collections::BTreeMap;
use std::io::{self, Write};

use layersift_model::{AiMark, Ecosystem, ImageGap, InstalledPackage};

use super::{Materials, fate, full_name, image_name, version};
use crate::exchange;
use crate::terminal::{BOLD, DIM, Line, PLAIN, WARNING, clean, plural, safe};

/// Gaps that are listed; more are counted.
const GAPS: usize = 20;

/// Marks of AI that are listed; more are counted.
const MARKS: usize = 100;

/// The widest name and version that the columns of the table make room for.
const WIDEST_NAME: usize = 40;
const WIDEST_VERSION: usize = 28;

/// Writes tables for a person, of at most `width` columns.
///
/// # Errors
/// Those of `out`.
pub fn text(all: &[Materials<'_>], width: usize, out: &mut dyn Write) -> io::Result<()> {
    for (index, materials) in all.iter().enumerate() {
        if index > 0 {
            writeln!(out)?;
        }
        table(materials, width, out)?;
    }
    Ok(())
}

fn table(materials: &Materials<'_>, width: usize, out: &mut dyn Write) -> io::Result<()> {
    let inventory = materials.inventory;
    let mut line = Line::begin(out, 0, width)?;
    line.path(BOLD, &clean(image_name(inventory), usize::MAX), "")?;
    line.text(PLAIN, &clean(inventory.platform.as_deref().unwrap_or("unknown platform"), 60))?;
    line.text(PLAIN, &inventory.distribution.as_ref().map(distribution).unwrap_or_default())?;
    line.end()?;
    let widest = |text: fn(&InstalledPackage) -> String, most: usize| {
        inventory.packages.iter().map(|package| text(package).chars().count()).max().unwrap_or(0).clamp(7, most)
    };
    let (names, versions) = (widest(full_name, WIDEST_NAME), widest(version, WIDEST_VERSION));
    let [kind, title, number] = ["type", "name", "version"];
    writeln!(out, "{DIM}{kind:<6}  {title:<names$}  {number:<versions$}  layer  place{DIM:#}")?;
    for package in &inventory.packages {
        let (name, version) = (clean(&full_name(package), 200), clean(&version(package), 200));
        let kind = package.record.ecosystem.name();
        write!(out, "{kind:<6}  {name:<names$}  {version:<versions$}  {:>5}  ", package.layer)?;
        if let Some(fate) = fate(package.state, package.ended_by) {
            write!(out, "{WARNING}{fate}{WARNING:#}  ")?;
        }
        writeln!(out, "{}", safe(&place(package)))?;
    }
    secrets(materials, out)?;
    marks(&inventory.ai, out)?;
    gaps(&inventory.gaps, width, out)?;
    summary(materials, out)
}

/// Each secret and key that was found, masked, with its place.
fn secrets(materials: &Materials<'_>, out: &mut dyn Write) -> io::Result<()> {
    let findings = materials.secrets.iter().flat_map(|report| &report.findings);
    for finding in findings.filter(|finding| finding.secret.is_some()) {
        let masked = exchange::masked(finding).unwrap_or_default();
        write!(out, "{WARNING}secret{WARNING:#}  {} {masked}  ", exchange::title(finding))?;
        if let Some(file) = finding.file() {
            write!(out, "layer {}  ", file.layer.index)?;
            if let Some(fate) = fate(file.state, file.ended_by.as_ref().map(|layer| layer.index)) {
                write!(out, "{WARNING}{fate}{WARNING:#}  ")?;
            }
        }
        writeln!(out, "{}", exchange::place_and_line(finding))?;
    }
    Ok(())
}

fn marks(marks: &[AiMark], out: &mut dyn Write) -> io::Result<()> {
    for mark in marks.iter().take(MARKS) {
        let (kind, path) = (mark.record.kind, mark.path.to_string());
        let (basis, kind) = (kind.basis().name(), kind.name());
        write!(out, "ai      {basis}  {kind}  layer {}  ", mark.layer)?;
        if let Some(fate) = fate(mark.state, mark.ended_by) {
            write!(out, "{WARNING}{fate}{WARNING:#}  ")?;
        }
        writeln!(out, "{}: {}", safe(&path), exchange::sentence(&mark.record.detail))?;
    }
    if marks.len() > MARKS {
        writeln!(out, "… and {}", plural((marks.len() - MARKS) as u64, "more AI mark"))?;
    }
    Ok(())
}

fn summary(materials: &Materials<'_>, out: &mut dyn Write) -> io::Result<()> {
    let Materials { inventory, secrets } = materials;
    let mut counts: BTreeMap<Ecosystem, usize> = BTreeMap::new();
    for package in inventory.packages.iter().filter(|package| package.is_visible()) {
        *counts.entry(package.record.ecosystem).or_default() += 1;
    }
    let each: Vec<String> = counts.iter().map(|(ecosystem, count)| format!("{count} {}", ecosystem.name())).collect();
    let visible = inventory.visible();
    let hidden = inventory.packages.len() - visible;
    write!(out, "{}", plural(visible as u64, "package"))?;
    if !each.is_empty() {
        write!(out, ": {}", each.join(", "))?;
    }
    write!(out, "; {hidden} hidden in layers")?;
    match secrets {
        None => writeln!(out, "; secrets were not searched for"),
        Some(report) => {
            let found = report.findings.iter().filter(|finding| finding.secret.is_some()).count();
            writeln!(out, "; {}", plural(found as u64, "secret"))
        }
    }
}

fn gaps(gaps: &[ImageGap], width: usize, out: &mut dyn Write) -> io::Result<()> {
    for ImageGap { gap, layer } in gaps.iter().take(GAPS) {
        let mut line = Line::begin(out, 0, width)?;
        line.text(WARNING, "gap")?;
        line.text(PLAIN, gap.reason.name())?;
        line.text(PLAIN, &layer.map(|layer| format!("layer {layer}")).unwrap_or_default())?;
        line.text(PLAIN, &gap.path.as_deref().map(|path| clean(path, 200)).unwrap_or_default())?;
        line.text(DIM, &clean(&gap.detail, 300))?;
        line.end()?;
    }
    if gaps.len() > GAPS {
        writeln!(out, "… and {}", plural((gaps.len() - GAPS) as u64, "more gap"))?;
    }
    Ok(())
}

fn distribution(known: &layersift_model::Distribution) -> String {
    let plain = || [Some(known.id.clone()), known.version.clone()].into_iter().flatten().collect::<Vec<_>>().join(" ");
    clean(&known.title.clone().unwrap_or_else(plain), 60)
}

/// The file with the record, and the members of archives that lead to it.
fn place(package: &InstalledPackage) -> String {
    let inside = package.record.inside.iter().map(|member| clean(member, usize::MAX));
    std::iter::once(package.path.to_string()).chain(inside).collect::<Vec<_>>().join(" \u{25b8} ")
}
