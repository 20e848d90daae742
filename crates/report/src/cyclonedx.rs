//! CycloneDX 1.6 and 1.7: the image, and its secrets and keys as cryptographic assets that are compromised.
//!
//! A secret is one component, with an occurrence for each place. Other findings, such as settings, are not components
//! and are only counted. The document of several images has each image as a component, which has its own.
//!
//! [`Bom`] takes components from elsewhere, such as the packages of the image.

use std::collections::HashMap;
use std::io::{self, Write};

use layersift_model::{Algorithm, Digest, Finding, ImageReport, LayerOrigin};
use serde::Serialize;
use serde_json::{Value, json};

use crate::RenderOptions;
use crate::exchange;
use crate::terminal::clean;

/// Gaps that are named; more are counted.
const GAPS: usize = 100;

/// A version of the specification.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SpecVersion {
    /// Ecma-424, first edition.
    #[default]
    V1_6,
    /// Ecma-424, second edition.
    V1_7,
}

/// A document about images.
#[derive(Clone, Copy, Debug)]
pub struct Bom<'r> {
    /// The version of the specification.
    pub version: SpecVersion,
    /// The images.
    pub reports: &'r [ImageReport],
    /// For each report, components besides its secrets, such as packages; may be shorter than `reports`.
    pub components: &'r [Vec<Component>],
}

/// A component.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Component {
    /// Its type, such as `library` or `cryptographic-asset`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// What other parts of the document call it; unique in the document.
    #[serde(rename = "bom-ref", skip_serializing_if = "String::is_empty")]
    pub bom_ref: String,
    /// Its name.
    pub name: String,
    /// Its version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// What it is, in a sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Its package URL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub purl: Option<String>,
    /// Its hashes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hashes: Vec<Value>,
    /// `cryptoProperties` of the specification.
    #[serde(rename = "cryptoProperties", skip_serializing_if = "Option::is_none")]
    pub crypto_properties: Option<Value>,
    /// `evidence` of the specification.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evidence: Option<Value>,
    /// Names and values beyond the specification; ours begin with `layersift:`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub properties: Vec<Property>,
    /// Components that it contains.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub components: Vec<Component>,
}

/// A name and a value beyond the specification.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Property {
    /// The name, such as `layersift:layer`.
    pub name: &'static str,
    /// The value.
    pub value: String,
}

impl Property {
    /// A property.
    pub fn new(name: &'static str, value: impl Into<String>) -> Property {
        Property { name, value: value.into() }
    }
}

/// Writes version 1.6.
pub(crate) fn render(reports: &[ImageReport], _: &RenderOptions, out: &mut dyn Write) -> io::Result<()> {
    Bom { version: SpecVersion::V1_6, reports, components: &[] }.write(out)
}

/// Writes version 1.7.
pub(crate) fn render_1_7(reports: &[ImageReport], _: &RenderOptions, out: &mut dyn Write) -> io::Result<()> {
    Bom { version: SpecVersion::V1_7, reports, components: &[] }.write(out)
}

impl SpecVersion {
    fn name(self) -> &'static str {
        match self {
            SpecVersion::V1_6 => "1.6",
            SpecVersion::V1_7 => "1.7",
        }
    }
}

impl Bom<'_> {
    /// Writes the document.
    ///
    /// # Errors
    /// The error of `out`.
    pub fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let Bom { version, reports, .. } = self;
        let mut images: Vec<Component> =
            reports.iter().enumerate().map(|(index, report)| image(index, report)).collect();
        for (index, report) in reports.iter().enumerate() {
            let contents =
                secrets(index, report).into_iter().chain(self.components.get(index).into_iter().flatten().cloned());
            if let Some(image) = images.get_mut(index) {
                image.components = contents.collect();
            }
        }
        let incomplete: Vec<String> = reports
            .iter()
            .enumerate()
            .filter(|(_, report)| !report.gaps.is_empty())
            .map(|(index, _)| image_ref(index))
            .collect();
        let target = reports.first().map_or("", |report| &report.target);
        let (subject, components) = subject(images, target);
        let mut document = json!({
            "$schema": format!("http://cyclonedx.org/schema/bom-{}.schema.json", version.name()),
            "bomFormat": "CycloneDX",
            "specVersion": version.name(),
            "serialNumber": format!("urn:uuid:{}", exchange::uuid(reports, "cyclonedx")),
            "version": 1,
            "metadata": metadata(reports, &subject),
            "components": components,
        });
        if let (false, Value::Object(document)) = (incomplete.is_empty(), &mut document) {
            document.insert("compositions".into(), json!([{ "aggregate": "incomplete", "assemblies": incomplete }]));
        }
        serde_json::to_writer_pretty(&mut *out, &document)?;
        writeln!(out)
    }
}

/// What the document is about, and its components: those of the one image, or the images.
fn subject(mut images: Vec<Component>, target: &str) -> (Component, Vec<Component>) {
    match images.pop() {
        Some(mut image) if images.is_empty() => {
            let components = std::mem::take(&mut image.components);
            (image, components)
        }
        last => {
            images.extend(last);
            let name = exchange::name(target);
            let name = if name.is_empty() { "images".into() } else { name };
            (Component { kind: "container", bom_ref: "layersift:images".into(), name, ..Component::default() }, images)
        }
    }
}

fn metadata(reports: &[ImageReport], subject: &Component) -> Value {
    let version = reports.first().map(|report| exchange::name(&report.tool.version)).unwrap_or_default();
    let mut tool = json!({ "type": "application", "name": "layersift" });
    if let (false, Value::Object(tool)) = (version.is_empty(), &mut tool) {
        tool.insert("version".into(), version.into());
    }
    let mut metadata = json!({ "tools": { "components": [tool] }, "component": subject });
    let scanned = reports.iter().filter_map(|report| report.scanned_at).min();
    if let (Some(at), Value::Object(metadata)) = (scanned, &mut metadata) {
        metadata.insert("timestamp".into(), at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string().into());
    }
    metadata
}

fn image_ref(index: usize) -> String {
    format!("layersift:image:{index}")
}

/// The image, without what it contains.
fn image(index: usize, report: &ImageReport) -> Component {
    Component {
        kind: "container",
        bom_ref: image_ref(index),
        name: exchange::image_name(report),
        version: report.manifest_digest.as_ref().map(ToString::to_string),
        hashes: report.manifest_digest.iter().map(hash).collect(),
        properties: properties(report),
        ..Component::default()
    }
}

fn hash(digest: &Digest) -> Value {
    let algorithm = match digest.algorithm() {
        Algorithm::Sha256 => "SHA-256",
        Algorithm::Sha512 => "SHA-512",
    };
    json!({ "alg": algorithm, "content": digest.hex() })
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

/// A component for each rule and secret, in the order of their first places.
fn secrets(image: usize, report: &ImageReport) -> Vec<Component> {
    let mut places: Vec<Vec<&Finding>> = Vec::new();
    let mut known = HashMap::new();
    for finding in &report.findings {
        let Some(secret) = &finding.secret else { continue };
        let at = *known.entry((&finding.rule.id, &secret.fingerprint)).or_insert(places.len());
        match places.get_mut(at) {
            Some(places) => places.push(finding),
            None => places.push(vec![finding]),
        }
    }
    let components = places.iter().enumerate();
    components
        .filter_map(|(index, places)| secret(format!("layersift:image:{image}:secret:{index}"), report, places))
        .collect()
}

fn secret(bom_ref: String, report: &ImageReport, places: &[&Finding]) -> Option<Component> {
    let finding = places.first()?;
    let secret = finding.secret.as_ref()?;
    let masked = clean(&secret.masked, 120);
    let mut material = json!({ "type": material(&finding.rule.id), "state": "compromised" });
    if let Value::Object(material) = &mut material {
        if let Some(fingerprint) = exchange::fingerprint(report, finding) {
            material.insert("id".into(), exchange::name(fingerprint).into());
        }
        if let Some(bits) = bits(&secret.masked) {
            material.insert("size".into(), bits.into());
        }
    }
    let worst = places.iter().map(|place| place.severity).max().unwrap_or(finding.severity);
    let present = places.iter().map(|place| place.state()).min().unwrap_or(finding.state());
    let mut properties = vec![
        Property::new("layersift:rule", exchange::name(&finding.rule.id)),
        Property::new("layersift:severity", worst.name()),
        Property::new("layersift:masked", masked.clone()),
        Property::new("layersift:state", present.name()),
    ];
    for place in places {
        properties.extend(place.file().map(|file| Property::new("layersift:layer", file.layer.index.to_string())));
        properties.extend(exchange::exempt(place).map(|why| Property::new("layersift:exempt", why)));
        properties.extend(place.origin.map(LayerOrigin::name).map(|name| Property::new("layersift:origin", name)));
    }
    properties.dedup();
    Some(Component {
        kind: "cryptographic-asset",
        bom_ref,
        name: format!("{} {masked}", exchange::title(finding)),
        description: Some(exchange::sentence(&finding.rule.what)).filter(|text| !text.is_empty()),
        crypto_properties: Some(json!({
            "assetType": "related-crypto-material",
            "relatedCryptoMaterialProperties": material,
        })),
        evidence: Some(json!({ "occurrences": places.iter().map(|place| occurrence(place)).collect::<Vec<_>>() })),
        properties,
        ..Component::default()
    })
}

fn occurrence(finding: &Finding) -> Value {
    let mut occurrence = json!({ "location": exchange::place(finding) });
    let Value::Object(fields) = &mut occurrence else { return occurrence };
    fields.extend(exchange::line(finding).map(|line| ("line".to_string(), line.into())));
    if let Some(file) = finding.file() {
        fields.extend(file.offset.map(|offset| ("offset".to_string(), offset.into())));
        let symbol = file.binary.as_ref().and_then(|binary| binary.symbol.as_deref());
        fields.extend(symbol.map(|symbol| ("symbol".to_string(), exchange::name(symbol).into())));
        let context = format!("added by {}; {}", exchange::layer(&file.layer), exchange::fate(file));
        fields.insert("additionalContext".into(), context.into());
    }
    occurrence
}

/// The type of material that a rule finds.
fn material(rule: &str) -> &'static str {
    let names = [
        ("private-key", "private-key"),
        ("password", "password"),
        ("passphrase", "password"),
        ("token", "token"),
        ("jwt", "token"),
        ("key", "secret-key"),
    ];
    names.into_iter().find(|(part, _)| rule.contains(part)).map_or("credential", |(_, material)| material)
}

/// The size of a key, from a masked form such as `RSA private key, 2048 bits`.
fn bits(masked: &str) -> Option<u32> {
    masked.strip_suffix(" bits")?.rsplit(' ').next()?.parse().ok()
}
