//! Secrets and keys as cryptographic assets of CycloneDX that are compromised: one component for each rule and secret,
//! with an occurrence for each place.
//!
//! A component has the masked form and never the value. Its id is the keyed fingerprint, which is left out under the
//! built-in key.

use std::collections::HashMap;

use layersift_model::{Finding, ImageReport, LayerOrigin};
use serde_json::{Value, json};

use crate::bom::{Component, Evidence, Property};
use crate::each::Each;
use crate::exchange;
use crate::terminal::clean;

/// A component for each rule and secret of the image with this number, in the order of their first places.
pub(crate) fn secrets(image: usize, report: &ImageReport) -> impl Iterator<Item = Component<'_>> {
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
    let components = places.into_iter().enumerate();
    components
        .filter_map(move |(index, places)| secret(format!("layersift:image:{image}:secret:{index}"), report, places))
}

/// Whether the image has any.
pub(crate) fn has_secrets(report: &ImageReport) -> bool {
    report.findings.iter().any(|finding| finding.secret.is_some())
}

fn secret<'r>(bom_ref: String, report: &'r ImageReport, places: Vec<&'r Finding>) -> Option<Component<'r>> {
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
    for place in &places {
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
        evidence: Some(Evidence { occurrences: Each::new(move || places.clone().into_iter().map(occurrence)) }),
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
