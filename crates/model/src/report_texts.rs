//! Every text of a report that comes from an image, in one place. Structures are taken apart whole: whoever adds a
//! field has to say here whether an image can put a text into it.

use crate::build::{BuildStep, FixPatch, ImageBase};
use crate::finding::{BinaryPlace, DocumentLocation, DocumentRef, FileLocation, Finding, LayerRef, Location, Package};
use crate::gap::Gap;
use crate::image_report::{ImageGap, ImageReport, LayerSummary};

/// Changes a text.
type Change<'c> = &'c mut dyn FnMut(&mut String);

impl ImageReport {
    /// Calls `change` with every text that an image, or whoever wrote it, can choose. What the rules and the program
    /// say is not among them, nor are digests, ids and what the user typed.
    pub fn for_each_text(&mut self, change: Change<'_>) {
        let ImageReport {
            target: _,
            reference,
            manifest_digest: _,
            config_digest: _,
            platform,
            other_platforms,
            kind: _,
            notes,
            base,
            tool: _,
            scanned_at: _,
            milliseconds: _,
            layers,
            findings,
            gaps,
            patches,
            judgement: _,
            without_referrers: _,
        } = self;
        reference.iter_mut().chain(platform).chain(other_platforms).chain(notes).for_each(&mut *change);
        if let Some(ImageBase { reference, digest: _, layers: _, evidence: _, is_proven: _ }) = base {
            reference.iter_mut().for_each(&mut *change);
        }
        layers.iter_mut().for_each(|layer| of_layer(layer, change));
        findings.iter_mut().for_each(|finding| of_finding(finding, change));
        for ImageGap { gap: Gap { reason: _, path, bytes: _, detail, count: _ }, layer: _ } in gaps {
            path.iter_mut().chain([detail]).for_each(&mut *change);
        }
        for FixPatch { findings: _, diff } in patches {
            change(diff);
        }
    }
}

fn of_layer(layer: &mut LayerSummary, change: Change<'_>) {
    let LayerSummary {
        index: _,
        digest: _,
        diff_id: _,
        media_type,
        created_by,
        created_at: _,
        is_read: _,
        entries: _,
        files: _,
        bytes: _,
        stored_bytes: _,
        whiteouts,
        bytes_after_end: _,
        origin: _,
        step,
    } = layer;
    media_type.iter_mut().chain(created_by).chain(whiteouts).for_each(&mut *change);
    of_step(step.as_mut(), change);
}

fn of_finding(finding: &mut Finding, change: Change<'_>) {
    let Finding {
        id: _,
        rule: _,
        severity: _,
        location,
        secret: _,
        note,
        related: _,
        allowed: _,
        baseline: _,
        origin: _,
        step,
    } = finding;
    match location {
        Location::File(file) => of_file(file, change),
        Location::Document(document) => of_document(document, change),
        Location::Config(field) => change(field),
        Location::Image => {}
    }
    note.iter_mut().for_each(&mut *change);
    of_step(step.as_mut(), change);
}

fn of_file(file: &mut FileLocation, change: Change<'_>) {
    let FileLocation {
        path,
        inside,
        views: _,
        offset: _,
        line: _,
        column: _,
        binary,
        layer,
        state: _,
        ended_by,
        package,
        as_shipped: _,
        attributes: _,
    } = file;
    [path].into_iter().chain(inside).for_each(&mut *change);
    if let Some(BinaryPlace { format: _, section, symbol, node_addon: _ }) = binary {
        section.iter_mut().chain(symbol).for_each(&mut *change);
    }
    for LayerRef { index: _, digest: _, diff_id: _, created_by } in [layer].into_iter().chain(ended_by) {
        created_by.iter_mut().for_each(&mut *change);
    }
    if let Some(Package { ecosystem: _, name, version }) = package {
        [name].into_iter().chain(version).for_each(&mut *change);
    }
}

fn of_document(document: &mut DocumentLocation, change: Change<'_>) {
    let DocumentLocation { document, inside, views: _, line: _, column: _ } = document;
    let DocumentRef { kind: _, digest: _, referrer: _, media_type, json_path } = document;
    media_type.iter_mut().chain(json_path).chain(inside).for_each(&mut *change);
}

fn of_step(step: Option<&mut BuildStep>, change: Change<'_>) {
    if let Some(BuildStep { file, line: _, end_line: _, stage, base, evidence: _ }) = step {
        [file].into_iter().chain(stage).chain(base).for_each(&mut *change);
    }
}
