//! The report of a scan as CycloneDX 1.6 and 1.7: the image, and its secrets and keys as cryptographic assets that are
//! compromised.
//!
//! Other findings, such as settings, are not components and are only counted. The document of several images has each
//! image as a component, which has its own.

use std::io::{self, Write};

use layersift_model::ImageReport;

use crate::RenderOptions;
use crate::assets::{has_secrets, secrets};
use crate::bom::{Component, Document, Property, SpecVersion, hash};
use crate::each::Each;
use crate::exchange;
use crate::terminal::clean;

/// Gaps that are named; more are counted.
const GAPS: usize = 100;

/// Writes version 1.6.
pub(crate) fn render(reports: &[ImageReport], _: &RenderOptions, out: &mut dyn Write) -> io::Result<()> {
    document(reports, SpecVersion::V1_6).write(out)
}

/// Writes version 1.7.
pub(crate) fn render_1_7(reports: &[ImageReport], _: &RenderOptions, out: &mut dyn Write) -> io::Result<()> {
    document(reports, SpecVersion::V1_7).write(out)
}

fn document(reports: &[ImageReport], version: SpecVersion) -> Document<'_> {
    let incomplete = reports.iter().enumerate().filter(|(_, report)| !report.gaps.is_empty());
    let incomplete = incomplete.map(|(index, _)| image_ref(index)).collect();
    let (subject, components) = subject(reports);
    Document {
        version,
        serial: exchange::uuid(reports, "cyclonedx"),
        at: reports.iter().filter_map(|report| report.scanned_at).min(),
        tool_version: reports.first().map(|report| exchange::name(&report.tool.version)).unwrap_or_default(),
        subject,
        properties: Vec::new(),
        components,
        annotations: Vec::new(),
        incomplete,
    }
}

/// What the document is about, and its components: those of the one image, or the images.
fn subject(reports: &[ImageReport]) -> (Component<'_>, Each<'_, Component<'_>>) {
    if let [report] = reports {
        let image = Component { components: None, ..image(0, report) };
        return (image, Each::new(move || secrets(0, report)));
    }
    let name = exchange::name(reports.first().map_or("", |report| &report.target));
    let name = if name.is_empty() { "images".into() } else { name };
    let subject = Component { kind: "container", bom_ref: "layersift:images".into(), name, ..Component::default() };
    (subject, Each::new(move || reports.iter().enumerate().map(|(index, report)| image(index, report))))
}

fn image_ref(index: usize) -> String {
    format!("layersift:image:{index}")
}

/// The image, with its secrets.
fn image(index: usize, report: &ImageReport) -> Component<'_> {
    Component {
        kind: "container",
        bom_ref: image_ref(index),
        name: exchange::image_name(report),
        version: report.manifest_digest.as_ref().map(ToString::to_string),
        hashes: report.manifest_digest.iter().map(hash).collect(),
        properties: properties(report),
        components: has_secrets(report).then(|| Each::new(move || secrets(index, report))),
        ..Component::default()
    }
}

/// What is said of the image as a whole: verdict, layers, gaps, base.
fn properties(report: &ImageReport) -> Vec<Property> {
    let mut properties = vec![
        Property::new("layersift:verdict", report.verdict().name()),
        Property::new("layersift:why", exchange::why(report)),
        Property::new("layersift:platform", exchange::platform(report)),
        Property::new("layersift:ruleset", exchange::name(&report.tool.ruleset)),
    ];
    let others = report.findings.iter().filter(|finding| finding.secret.is_none()).count();
    properties.push(Property::new("layersift:findings-without-secret", others.to_string()));
    properties.extend(report.config_digest.iter().map(|digest| Property::new("layersift:config", digest.to_string())));
    if let Some(base) = &report.base {
        let digest = base.digest.as_ref().map(ToString::to_string);
        let name = base.reference.as_deref().or(digest.as_deref()).unwrap_or_default();
        let name = exchange::name(name);
        let claim = if base.is_proven { "compared" } else { "claimed" };
        properties.push(Property::new("layersift:base", format!("{name} ({claim})")));
    }
    for layer in &report.layers {
        let digest = layer.digest.as_ref().map(ToString::to_string).unwrap_or_else(|| "no digest".into());
        let origin = layer.origin.map(|origin| format!(", {}", origin.name())).unwrap_or_default();
        let read = if layer.is_read { "" } else { ", not read" };
        let instruction = layer.created_by.as_deref().map(|text| format!(": {}", clean(text, 200))).unwrap_or_default();
        let value = format!("{}: {digest}{origin}{read}{instruction}", layer.index);
        properties.push(Property::new("layersift:layer", value));
    }
    properties.push(Property::new("layersift:gaps", report.gaps.len().to_string()));
    let gaps = report.gaps.iter().take(GAPS).map(|gap| Property::new("layersift:gap", exchange::gap(gap)));
    properties.extend(gaps);
    properties.extend(report.notes.iter().map(|note| Property::new("layersift:note", exchange::sentence(note))));
    if !exchange::has_own_key(report) {
        properties.push(Property::new("layersift:fingerprints", exchange::NO_FINGERPRINTS));
    }
    properties
}
