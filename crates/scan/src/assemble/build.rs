//! Adds to a report how the image was built: instructions and stages of layers and findings, and the base image.

use layersift_format::build::Build;
use layersift_format::manifest::Image;
use layersift_model::{BuildStep, Finding, ImageReport, LayerOrigin, Location};

use super::Mask;

/// Adds `build`, which is about `image`, to its report.
pub(super) fn add(report: &mut ImageReport, image: &Image, mut build: Build, mask: &Mask) {
    for step in build.layers.iter_mut().chain(&mut build.history).flatten() {
        mask_step(step, mask);
    }
    for (layer, step) in report.layers.iter_mut().zip(&build.layers) {
        layer.step.clone_from(step);
    }
    for finding in &mut report.findings {
        add_to_finding(finding, image, &build);
    }
    report.notes.extend(build.notes.iter().map(|note| mask.apply("", note)));
    if let Some(mut base) = build.base {
        base.reference = base.reference.map(|reference| mask.apply("", &reference));
        report.set_base(base);
    }
}

fn add_to_finding(finding: &mut Finding, image: &Image, build: &Build) {
    match &finding.location {
        Location::File(file) => finding.step = build.layers.get(file.layer.index).cloned().flatten(),
        Location::Config(field) => {
            let Some(entry) = build.entry_of(image, field) else { return };
            let is_base = build.is_base_entry(entry);
            finding.origin = is_base.map(|is_base| if is_base { LayerOrigin::Base } else { LayerOrigin::Own });
            finding.step = build.history.get(entry).cloned().flatten();
        }
        Location::Document(_) | Location::Image => {}
    }
}

/// Names in a Dockerfile may be secrets as well.
fn mask_step(step: &mut BuildStep, mask: &Mask) {
    for text in [Some(&mut step.file), step.stage.as_mut(), step.base.as_mut()].into_iter().flatten() {
        *text = mask.apply("", text);
    }
}
