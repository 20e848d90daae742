//! A bill of materials as CycloneDX: packages, models, marks of AI, and secrets and keys as cryptographic assets.
//!
//! Packages that a later layer removed have the scope `excluded`. Properties say which layer brought each component,
//! and which one removed it.

use std::io::{self, Write};

use layersift_model::{
    AiMark, AiMarkKind, Digest, Ecosystem, ImageGap, InstalledPackage, Inventory, InventoryLayer, State,
};
use serde_json::{Value, json};

use super::{Materials, image_name, serial, version};
use crate::assets::secrets;
use crate::bom::{Annotation, Component, Document, Property, SpecVersion, hash};
use crate::each::Each;
use crate::exchange;

const IMAGE: &str = "image";

/// Marks of AI that have an annotation; more are counted.
const MOST_ANNOTATIONS: usize = 2_000;

/// Writes the materials as CycloneDX in JSON.
///
/// # Errors
/// Those of `out`.
pub fn cyclonedx(materials: &Materials<'_>, version: SpecVersion, out: &mut dyn Write) -> io::Result<()> {
    document(materials, version).write(out)
}

fn document<'m>(materials: &Materials<'m>, version: SpecVersion) -> Document<'m> {
    let Materials { inventory, secrets: report } = *materials;
    let components = move || {
        let packages = inventory.packages.iter().enumerate();
        let packages = packages.map(|(index, package)| component(index, package, inventory));
        let models = models(inventory).map(|(index, mark)| model(index, mark, inventory));
        let assets = report.into_iter().flat_map(|report| secrets(0, report));
        operating_system(inventory).into_iter().chain(packages).chain(models).chain(assets)
    };
    let shown = inventory.ai.iter().enumerate().take(MOST_ANNOTATIONS);
    Document {
        version,
        serial: serial(materials, "cyclonedx"),
        at: inventory.read_at,
        tool_version: inventory.version.clone(),
        subject: subject(materials),
        properties: inventory.gaps.iter().map(gap).collect(),
        components: Each::new(components),
        annotations: shown.map(|(index, mark)| annotation(index, mark)).collect(),
        incomplete: if inventory.gaps.is_empty() { Vec::new() } else { vec![IMAGE.into()] },
    }
}

fn gap(ImageGap { gap, layer }: &ImageGap) -> Property {
    let layer = layer.map(|layer| format!("layer {layer}"));
    let parts = [Some(gap.reason.name().to_string()), layer, gap.path.clone(), Some(gap.detail.clone())];
    Property::new("layersift:gap", parts.into_iter().flatten().collect::<Vec<_>>().join(": "))
}

/// The image, with what is said of it as a whole.
fn subject<'m>(materials: &Materials<'m>) -> Component<'m> {
    let Materials { inventory, secrets: report } = materials;
    let digest = |name, digest: &Option<Digest>| digest.as_ref().map(|digest| Property::new(name, digest));
    let mut properties: Vec<Property> = [
        digest("layersift:image:manifest", &inventory.manifest_digest),
        digest("layersift:image:config", &inventory.config_digest),
        inventory.platform.as_ref().map(|platform| Property::new("layersift:image:platform", platform)),
    ]
    .into_iter()
    .flatten()
    .collect();
    match report {
        None => properties.push(Property::new("layersift:secrets", "not searched for")),
        Some(report) => {
            let found = report.findings.iter().filter(|finding| finding.secret.is_some()).count();
            properties.push(Property::new("layersift:secrets", format!("{found} found")));
            if !exchange::has_own_key(report) {
                properties.push(Property::new("layersift:fingerprints", exchange::NO_FINGERPRINTS));
            }
        }
    }
    properties.extend(inventory.ai.iter().take(MOST_ANNOTATIONS).map(|mark| {
        let name = match mark.record.kind.basis() {
            layersift_model::AiBasis::Declared => "layersift:ai:declared",
            layersift_model::AiBasis::Observed => "layersift:ai:observed",
        };
        Property::new(name, sentence(mark))
    }));
    if inventory.ai.len() > MOST_ANNOTATIONS {
        properties.push(Property::new("layersift:ai:more", inventory.ai.len() - MOST_ANNOTATIONS));
    }
    let version = inventory.manifest_digest.as_ref().or(inventory.config_digest.as_ref());
    Component {
        kind: "container",
        bom_ref: IMAGE.into(),
        name: image_name(inventory).into(),
        version: version.map(ToString::to_string),
        hashes: inventory.manifest_digest.iter().map(hash).collect(),
        properties,
        ..Component::default()
    }
}

fn operating_system(inventory: &Inventory) -> Option<Component<'_>> {
    let known = inventory.distribution.as_ref()?;
    Some(Component {
        kind: "operating-system",
        bom_ref: "distribution".into(),
        name: known.id.clone(),
        version: known.version.clone(),
        ..Component::default()
    })
}

fn component<'m>(index: usize, package: &InstalledPackage, inventory: &'m Inventory) -> Component<'m> {
    let record = &package.record;
    let group = record.namespace.as_ref().map(|name| match record.ecosystem {
        Ecosystem::Npm => format!("@{name}"),
        _ => name.clone(),
    });
    let license = |name: &String| -> Value { json!({ "license": { "name": name } }) };
    let mut properties = lifetime(package.state, &package.path, package.layer, package.ended_by, inventory);
    properties.extend(record.source.as_ref().map(|source| Property::new("layersift:source-package", source)));
    properties.extend(record.inside.iter().map(|member| Property::new("layersift:member", member)));
    Component {
        kind: "library",
        bom_ref: format!("package-{index}"),
        group,
        name: record.name.clone(),
        version: Some(version(package)).filter(|version| !version.is_empty()),
        // CycloneDX: not reachable at run time.
        scope: (!package.is_visible()).then_some("excluded"),
        licenses: record.licence.iter().map(license).collect(),
        purl: Some(inventory.purl(package)),
        properties,
        ..Component::default()
    }
}

/// Where a component is, the layer that brought it, and the one that removed it.
fn lifetime(
    state: State,
    path: &layersift_model::ImagePath,
    layer: usize,
    ended_by: Option<usize>,
    inventory: &Inventory,
) -> Vec<Property> {
    let diff_id = |index: usize| inventory.layers.get(index).and_then(|layer: &InventoryLayer| layer.diff_id.as_ref());
    let properties = [
        Some(Property::new("layersift:state", state.name())),
        Some(Property::new("layersift:path", path)),
        Some(Property::new("layersift:layer:index", layer)),
        diff_id(layer).map(|digest| Property::new("layersift:layer:diff-id", digest)),
        ended_by.map(|index| Property::new("layersift:ended-by:index", index)),
        ended_by.and_then(diff_id).map(|digest| Property::new("layersift:ended-by:diff-id", digest)),
    ];
    properties.into_iter().flatten().collect()
}

/// The models among the marks, with their numbers.
fn models(inventory: &Inventory) -> impl Iterator<Item = (usize, &AiMark)> {
    inventory.ai.iter().enumerate().filter(|(_, mark)| mark.record.kind == AiMarkKind::Model)
}

fn model<'m>(index: usize, mark: &AiMark, inventory: &'m Inventory) -> Component<'m> {
    let mut properties = lifetime(mark.state, &mark.path, mark.layer, mark.ended_by, inventory);
    properties.push(Property::new("layersift:ai:basis", mark.record.kind.basis().name()));
    properties.extend(mark.record.name.as_ref().map(|name| Property::new("layersift:ai:name", exchange::name(name))));
    properties.push(Property::new("layersift:ai:detail", exchange::sentence(&mark.record.detail)));
    Component {
        kind: "machine-learning-model",
        bom_ref: mark_ref(index),
        name: exchange::name(&String::from_utf8_lossy(mark.path.name())),
        scope: (!mark.is_visible()).then_some("excluded"),
        properties,
        ..Component::default()
    }
}

fn mark_ref(index: usize) -> String {
    format!("model-{index}")
}

/// A remark about the model that a mark is, or about the image.
fn annotation(index: usize, mark: &AiMark) -> Annotation {
    let subject = if mark.record.kind == AiMarkKind::Model { mark_ref(index) } else { IMAGE.into() };
    Annotation { subjects: vec![subject], text: format!("{}: {}", mark.record.kind.basis().name(), sentence(mark)) }
}

/// A mark in one sentence.
fn sentence(mark: &AiMark) -> String {
    let name = mark.record.name.as_ref().map(|name| format!(" {}", exchange::name(name))).unwrap_or_default();
    let fate = super::fate(mark.state, mark.ended_by).unwrap_or_else(|| "present".into());
    let path = exchange::name(&mark.path.to_string());
    let detail = exchange::sentence(&mark.record.detail);
    format!("{}{name} in {path} (layer {}, {fate}): {detail}", mark.record.kind.name(), mark.layer)
}
