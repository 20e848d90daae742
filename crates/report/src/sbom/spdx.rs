//! A bill of materials as SPDX 2.3 in JSON: the packages that a container of the image has.
//!
//! Source: `spdx-schema.json` of SPDX 2.3. Harbor asks for this form. SPDX has no word for a package that is only in a
//! layer, none for a compromised key, and takes every package for one that is there: hidden ones are counted in a
//! comment.

use std::io::{self, Write};
use std::iter;

use jiff::Timestamp;
use layersift_model::{InstalledPackage, Inventory};
use serde::Serialize;
use serde_json::{Value, json};

use super::{Materials, fate, full_name, image_name, serial, version};
use crate::bom::time;
use crate::each::Each;
use crate::exchange;

const DOCUMENT: &str = "SPDXRef-DOCUMENT";
const IMAGE: &str = "SPDXRef-image";
const UNKNOWN: &str = "NOASSERTION";

/// Gaps and marks that are named; more are counted.
const MOST_NAMED: usize = 200;

/// Writes the packages as SPDX 2.3 in JSON. Secrets and hidden packages are left out.
///
/// # Errors
/// Those of `out`.
pub fn spdx(inventory: &Inventory, out: &mut dyn Write) -> io::Result<()> {
    layersift_model::json_output::write_pretty(&mut *out, &Document::new(inventory))?;
    writeln!(out)
}

/// The document. Its fields are in the order of their names, and packages are made while it is written.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'i> {
    #[serde(rename = "SPDXID")]
    id: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    annotations: Vec<Value>,
    comment: String,
    creation_info: Value,
    data_license: &'static str,
    document_namespace: String,
    name: &'i str,
    packages: Each<'i, Value>,
    relationships: Each<'i, Value>,
    spdx_version: &'static str,
}

impl Document<'_> {
    fn new(inventory: &Inventory) -> Document<'_> {
        // A document must have a time. One without is as those of reproducible builds.
        let at = time(inventory.read_at.unwrap_or(Timestamp::UNIX_EPOCH));
        let tool = if inventory.version.is_empty() { String::new() } else { format!("-{}", inventory.version) };
        let tool = format!("Tool: layersift{tool}");
        let packages = move || {
            let visible = visible(inventory).enumerate();
            iter::once(image(inventory)).chain(visible.map(|(index, package)| element(index, package, inventory)))
        };
        let count = inventory.visible();
        let relationships = move || {
            let contained = (0..count).map(|index| relationship(IMAGE, "CONTAINS", &package_ref(index)));
            iter::once(relationship(DOCUMENT, "DESCRIBES", IMAGE)).chain(contained)
        };
        Document {
            id: DOCUMENT,
            annotations: annotations(inventory, &tool, &at),
            comment: comment(inventory, count),
            creation_info: json!({ "created": at, "creators": [tool] }),
            data_license: "CC0-1.0",
            document_namespace: format!("urn:uuid:{}", serial(&Materials { inventory, secrets: None }, "spdx")),
            name: image_name(inventory),
            packages: Each::new(packages),
            relationships: Each::new(relationships),
            spdx_version: "SPDX-2.3",
        }
    }
}

/// The packages that a container has.
fn visible(inventory: &Inventory) -> impl Iterator<Item = &InstalledPackage> {
    inventory.packages.iter().filter(|one| one.is_visible())
}

/// What is not in the document.
fn comment(inventory: &Inventory, visible: usize) -> String {
    let hidden = inventory.packages.len() - visible;
    let mut text = format!("Packages that only layers have, and a container does not: {hidden}; they are not listed.");
    for gap in inventory.gaps.iter().take(MOST_NAMED) {
        text += &format!(" Not read: {}.", exchange::gap(gap));
    }
    if inventory.gaps.len() > MOST_NAMED {
        text += &format!(" And {} more gaps.", inventory.gaps.len() - MOST_NAMED);
    }
    text
}

fn image(inventory: &Inventory) -> Value {
    let digest = inventory.manifest_digest.as_ref().or(inventory.config_digest.as_ref());
    let mut image = json!({
        "SPDXID": IMAGE,
        "name": image_name(inventory),
        "primaryPackagePurpose": "CONTAINER",
        "downloadLocation": UNKNOWN,
        "filesAnalyzed": false,
        "licenseConcluded": UNKNOWN,
        "licenseDeclared": UNKNOWN,
        "copyrightText": UNKNOWN,
    });
    if let (Some(digest), Value::Object(image)) = (digest, &mut image) {
        image.insert("versionInfo".into(), digest.to_string().into());
        let algorithm = digest.algorithm().name().to_ascii_uppercase();
        image.insert("checksums".into(), json!([{ "algorithm": algorithm, "checksumValue": digest.hex() }]));
    }
    image
}

fn element(index: usize, package: &InstalledPackage, inventory: &Inventory) -> Value {
    let inside = package.record.inside.iter().map(|member| exchange::name(member));
    let place: Vec<String> = std::iter::once(exchange::name(&package.path.to_string())).chain(inside).collect();
    let source = format!("recorded by {} in layer {}", place.join(exchange::MEMBER), package.layer);
    let mut element = json!({
        "SPDXID": package_ref(index),
        "name": full_name(package),
        "downloadLocation": UNKNOWN,
        "filesAnalyzed": false,
        "licenseConcluded": UNKNOWN,
        "licenseDeclared": UNKNOWN,
        "copyrightText": UNKNOWN,
        "sourceInfo": source,
        "externalRefs": [{
            "referenceCategory": "PACKAGE-MANAGER",
            "referenceType": "purl",
            "referenceLocator": inventory.purl(package),
        }],
    });
    if let Value::Object(element) = &mut element {
        let version = version(package);
        if !version.is_empty() {
            element.insert("versionInfo".into(), version.into());
        }
        // Records have names of licences as people write them, which are not always expressions of SPDX.
        if let Some(licence) = &package.record.licence {
            element.insert("licenseComments".into(), format!("the record says: {licence}").into());
        }
    }
    element
}

fn package_ref(index: usize) -> String {
    format!("SPDXRef-package-{index}")
}

fn relationship(from: &str, kind: &str, to: &str) -> Value {
    json!({ "spdxElementId": from, "relationshipType": kind, "relatedSpdxElement": to })
}

/// Marks of AI, as remarks about the document.
fn annotations(inventory: &Inventory, tool: &str, at: &str) -> Vec<Value> {
    let one = |mark: &layersift_model::AiMark| {
        let (kind, fate) = (mark.record.kind, fate(mark.state, mark.ended_by).unwrap_or_else(|| "present".into()));
        let path = exchange::name(&mark.path.to_string());
        let detail = exchange::sentence(&mark.record.detail);
        let comment = format!(
            "layersift:ai:{}: {} in {path} (layer {}, {fate}): {detail}",
            kind.basis().name(),
            kind.name(),
            mark.layer
        );
        json!({ "annotationDate": at, "annotationType": "OTHER", "annotator": tool, "comment": comment })
    };
    inventory.ai.iter().take(MOST_NAMED).map(one).collect()
}
