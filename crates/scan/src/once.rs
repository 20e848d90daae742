//! Reports each secret of an engine's store once: with an image, or else a container, a volume, or what none of them
//! has. Stores have many copies of what they keep: unpacked layers, configurations in records of containers, and old
//! versions of both in the free pages of databases.

use std::collections::{HashMap, HashSet};

use layersift_format::Standing;
use layersift_model::{Finding, ImageReport, Location, ReportKind, State};

/// The most notes about other places in one report.
const MAX_NOTES: usize = 50;

/// Where a secret is reported.
struct Place {
    target: String,
    path: String,
}

/// The reports of images, followed by those of the sets of files. A set that is a copy of a layer is only reported if
/// it has something that the layer does not have.
pub(crate) fn merge(images: Vec<ImageReport>, mut sets: Vec<(Standing, ImageReport)>) -> Vec<ImageReport> {
    let mut reported: HashMap<String, Place> = HashMap::new();
    for report in &images {
        let target = report.reference.clone().unwrap_or_else(|| "an image without a name".into());
        for finding in &report.findings {
            add(&mut reported, finding, &target);
        }
    }
    // Origins first, and copies last: for a secret that is at two places the first counts.
    let order = |standing: &Standing, kind| if *standing == Standing::Origin { 0 } else { rank(kind) };
    sets.sort_by_key(|(standing, report)| (order(standing, report.kind), *standing));
    let mut dropped: Vec<HashSet<usize>> = vec![HashSet::new(); sets.len()];
    for is_present in [true, false] {
        for ((_, report), dropped) in sets.iter_mut().zip(&mut dropped) {
            let mut notes = Vec::new();
            for (index, finding) in report.findings.iter().enumerate() {
                let Some(fingerprint) = finding.fingerprint() else { continue };
                if (state(finding) == State::Present) != is_present {
                    continue;
                }
                match reported.get(fingerprint) {
                    None => add(&mut reported, finding, report.target.trim_start_matches('#')),
                    Some(place) => {
                        dropped.insert(index);
                        notes.push(note(finding, place, &report.target));
                    }
                }
            }
            // Old copies in free pages say nothing that the record does not.
            if is_present {
                add_notes(report, notes.into_iter().flatten());
            }
        }
    }
    let mut reports = images;
    for ((standing, mut report), dropped) in sets.into_iter().zip(dropped) {
        let is_copy = standing == Standing::Copy;
        remove(&mut report, &dropped, is_copy);
        let has_entries = report.layers.iter().any(|layer| layer.entries > 0);
        let has_findings = !report.findings.is_empty();
        let is_news = if is_copy { has_findings } else { has_entries || report.kind != ReportKind::Orphan };
        if is_news || !report.gaps.is_empty() {
            reports.push(report);
        }
    }
    reports
}

fn rank(kind: ReportKind) -> u8 {
    match kind {
        ReportKind::Image | ReportKind::Artifact | ReportKind::Cache => 0,
        ReportKind::Container => 1,
        ReportKind::Volume => 2,
        ReportKind::Orphan => 3,
    }
}

fn state(finding: &Finding) -> State {
    match &finding.location {
        Location::File(file) => file.state,
        Location::Document(_) | Location::Config(_) | Location::Image => State::Present,
    }
}

fn path(finding: &Finding) -> String {
    match &finding.location {
        Location::File(file) => file.full_path(" \u{25b8} "),
        Location::Document(document) => document.document.kind.to_string(),
        Location::Config(field) => format!("configuration {field}"),
        Location::Image => String::new(),
    }
}

fn add(reported: &mut HashMap<String, Place>, finding: &Finding, target: &str) {
    if let Some(fingerprint) = finding.fingerprint() {
        let place = || Place { target: target.into(), path: path(finding) };
        reported.entry(fingerprint.to_string()).or_insert_with(place);
    }
}

/// Where else the secret of a dropped finding is reported; `None` if that is in the same file.
fn note(finding: &Finding, place: &Place, target: &str) -> Option<String> {
    let here = path(finding);
    let is_same = place.target == target.trim_start_matches('#') && place.path == here;
    let what = &finding.rule.title;
    (!is_same)
        .then(|| format!("{here} has a secret ({what}) that is reported once, with {}: {}", place.target, place.path))
}

fn add_notes(report: &mut ImageReport, notes: impl Iterator<Item = String>) {
    let mut seen: HashSet<String> = report.notes.iter().cloned().collect();
    let fresh: Vec<String> = notes.filter(|note| seen.insert(note.clone())).collect();
    let more = fresh.len().saturating_sub(MAX_NOTES);
    report.notes.extend(fresh.into_iter().take(MAX_NOTES));
    if more > 0 {
        report.notes.push(format!("{more} more secrets are reported elsewhere"));
    }
}

/// Removes the findings with these indexes, and from a copy those without a secret: they are in the layer as well.
fn remove(report: &mut ImageReport, dropped: &HashSet<usize>, is_copy: bool) {
    let mut index = 0;
    let mut ids = HashSet::new();
    report.findings.retain(|finding| {
        let is_dropped = dropped.contains(&index) || (is_copy && finding.secret.is_none());
        index += 1;
        if is_dropped {
            ids.insert(finding.id.clone());
        }
        !is_dropped
    });
    report.findings.retain(|finding| finding.related.iter().all(|id| !ids.contains(id)));
}
