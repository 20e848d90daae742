//! Adds to a report how the image was built: instructions and stages of layers and findings, and the base image.

use std::collections::HashMap;

use layersift_format::build::{Build, Fix};
use layersift_format::manifest::UnpackedImage;
use layersift_model::{BuildStep, DocumentLocation, Finding, FixPatch, GapReason, ImageReport, LayerOrigin, Location};

use super::Mask;

/// The most changes that are proposed.
const MAX_PATCHES: usize = 100;

/// The most bytes of a patch.
const MAX_DIFF: usize = 64 << 10;

/// The most findings for which one is tried.
const MAX_TRIED: usize = 2_000;

/// How many bytes of history are searched at most.
const MAX_SEARCHED: usize = 256 << 20;

/// Adds `build`, which is about `image`, to its report.
pub(super) fn add(report: &mut ImageReport, image: &UnpackedImage<'_>, mut build: Build, mask: &Mask) {
    for step in build.layers.iter_mut().chain(&mut build.history).flatten() {
        mask_step(step, mask);
    }
    for (layer, step) in report.layers.iter_mut().zip(&build.layers) {
        layer.step.clone_from(step);
    }
    // Each field of the configuration is looked for in the whole history.
    let history: usize = image.config.history.iter().map(|entry| entry.created_by.len() + 1).sum();
    let mut fields = MAX_SEARCHED / (history + 1);
    for finding in &mut report.findings {
        if matches!(finding.location, Location::Config(_)) {
            let Some(left) = fields.checked_sub(1) else { continue };
            fields = left;
        }
        add_to_finding(finding, image, &build);
    }
    report.patches = patches(report, image, &build, mask);
    report.notes.extend(build.notes.iter().map(|note| mask.apply("", note)));
    if let Some(mut base) = build.base {
        base.reference = base.reference.map(|reference| mask.apply("", &reference));
        // A configuration may name the layers of a base image that the image does not have.
        base.is_proven &= !has_other_layers(report, base.layers.unwrap_or_default());
        report.set_base(base);
    }
}

/// The changes of the Dockerfile that are proposed for the findings, each once.
fn patches(report: &ImageReport, image: &UnpackedImage<'_>, build: &Build, mask: &Mask) -> Vec<FixPatch> {
    let mut patches: Vec<FixPatch> = Vec::new();
    // The patch of each fix that was tried, by its number.
    let mut known: HashMap<Fix<'_>, Option<usize>> = HashMap::new();
    for finding in report.findings.iter().filter(|finding| finding.step.is_some() || is_user(finding)).take(MAX_TRIED) {
        let Some(fix) = fix(finding, image, build) else { continue };
        let known = known.entry(fix).or_insert_with_key(|fix| {
            if patches.len() >= MAX_PATCHES {
                return None;
            }
            // The diff quotes the Dockerfile, where a secret of any field may be.
            let diff = build.patch(*fix).filter(|diff| diff.len() <= MAX_DIFF).map(|diff| mask.apply_all(&diff))?;
            let same = patches.iter().position(|patch| patch.diff == diff);
            Some(same.unwrap_or_else(|| {
                patches.push(FixPatch { findings: Vec::new(), diff });
                patches.len() - 1
            }))
        });
        if let Some(patch) = known.and_then(|index| patches.get_mut(index)) {
            patch.findings.push(finding.id.clone());
        }
    }
    patches
}

/// What would fix a finding.
fn fix<'f>(finding: &'f Finding, image: &'f UnpackedImage<'_>, build: &Build) -> Option<Fix<'f>> {
    let line = finding.step.as_ref().map(|step| step.line);
    match &finding.location {
        Location::File(file) if finding.secret.is_some() => Some(Fix::Copied(line?, &file.path)),
        Location::Config(_) if is_user(finding) => (image.config.os != "windows").then_some(Fix::User(line)),
        Location::Config(field) if finding.secret.is_some() => {
            let entry = image.config.history.get(build.entry_of(image, field)?)?;
            let text = ["ENV ", "ARG "].iter().find_map(|keyword| Some(entry.created_by.split_once(keyword)?.1))?;
            Some(Fix::Variable(line?, text.split('=').next()?.trim()))
        }
        _ => None,
    }
}

/// Whether a finding is about the user of containers.
fn is_user(finding: &Finding) -> bool {
    matches!(&finding.location, Location::Config(field) if field == "User") && finding.secret.is_none()
}

/// Whether one of the first layers is not the one that the manifest or the configuration names.
fn has_other_layers(report: &ImageReport, layers: usize) -> bool {
    let differs = [GapReason::DigestMismatch, GapReason::DiffIdMismatch];
    report.gaps.iter().any(|gap| gap.layer.is_some_and(|layer| layer < layers) && differs.contains(&gap.gap.reason))
}

fn add_to_finding(finding: &mut Finding, image: &UnpackedImage<'_>, build: &Build) {
    match &finding.location {
        Location::File(file) => finding.step = build.layers.get(file.layer.index).cloned().flatten(),
        Location::Config(field) => {
            let Some(entry) = build.entry_of(image, field) else { return };
            let is_base = build.is_base_entry(entry);
            finding.origin = is_base.map(|is_base| if is_base { LayerOrigin::Base } else { LayerOrigin::Own });
            finding.step = build.history.get(entry).cloned().flatten();
        }
        Location::Document(document) => finding.step = in_source(document).and_then(|line| build.step_at(line)),
        Location::Image => {}
    }
}

/// The line of the Dockerfile that a finding in a provenance is in.
fn in_source(document: &DocumentLocation) -> Option<u64> {
    let is_source = |path: &&String| path.ends_with(".source.infos[0].data");
    document.document.json_path.as_ref().filter(is_source)?;
    document.line.filter(|_| document.document.kind == "provenance")
}

/// Names in a Dockerfile may be secrets as well.
fn mask_step(step: &mut BuildStep, mask: &Mask) {
    for text in [Some(&mut step.file), step.stage.as_mut(), step.base.as_mut()].into_iter().flatten() {
        *text = mask.apply("", text);
    }
}
