//! CycloneDX documents, 1.6 and 1.7: the one writer of what the report of a scan and the bill of materials of an image
//! have in common.
//!
//! Sources: `bom-1.6.schema.json` and `bom-1.7.schema.json`. Nothing that is written here differs between the two but
//! the version itself.

use std::io::{self, Write};

use jiff::Timestamp;
use layersift_model::{Algorithm, Digest};
use serde::Serialize;
use serde_json::{Value, json};

use crate::each::Each;

/// A version of the specification.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SpecVersion {
    /// Ecma-424, first edition.
    #[default]
    V1_6,
    /// Ecma-424, second edition.
    V1_7,
}

impl SpecVersion {
    fn name(self) -> &'static str {
        match self {
            SpecVersion::V1_6 => "1.6",
            SpecVersion::V1_7 => "1.7",
        }
    }
}

/// A document. Components are made while it is written.
pub(crate) struct Document<'d> {
    pub(crate) version: SpecVersion,
    /// A UUID of the document.
    pub(crate) serial: String,
    /// When its contents were read.
    pub(crate) at: Option<Timestamp>,
    /// The version of this program; empty if it is left out.
    pub(crate) tool_version: String,
    /// What the document is about.
    pub(crate) subject: Component<'d>,
    /// Properties of the document itself.
    pub(crate) properties: Vec<Property>,
    pub(crate) components: Each<'d, Component<'d>>,
    pub(crate) annotations: Vec<Annotation>,
    /// The `bom-ref` of every component that may have more parts than are listed.
    pub(crate) incomplete: Vec<String>,
}

/// A component. Its fields, like those of all objects here, are in the order of their names, as they always were.
#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Component<'d> {
    /// What other parts of the document call it; unique in the document.
    #[serde(rename = "bom-ref", skip_serializing_if = "String::is_empty")]
    pub(crate) bom_ref: String,
    /// Components that it contains.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) components: Option<Each<'d, Component<'d>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) crypto_properties: Option<Value>,
    /// What it is, in a sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) description: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) evidence: Option<Evidence<'d>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) group: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) hashes: Vec<Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) licenses: Vec<Value>,
    pub(crate) name: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) properties: Vec<Property>,
    /// Its package URL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) purl: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) scope: Option<&'static str>,
    /// Its type, such as `library` or `cryptographic-asset`.
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) version: Option<String>,
}

/// Where a component was found.
#[derive(Serialize)]
pub(crate) struct Evidence<'d> {
    pub(crate) occurrences: Each<'d, Value>,
}

/// A name and a value beyond the specification; ours begin with `layersift:`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Property {
    pub(crate) name: &'static str,
    pub(crate) value: String,
}

impl Property {
    pub(crate) fn new(name: &'static str, value: impl ToString) -> Property {
        Property { name, value: value.to_string() }
    }
}

/// A remark of this program about components.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Annotation {
    /// The `bom-ref` of each component that it is about.
    pub(crate) subjects: Vec<String>,
    pub(crate) text: String,
}

/// The document as it is written.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Written<'w, 'd> {
    #[serde(rename = "$schema")]
    schema: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    annotations: Option<Each<'w, Value>>,
    bom_format: &'static str,
    components: &'w Each<'d, Component<'d>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    compositions: Option<Value>,
    metadata: Metadata<'w, 'd>,
    serial_number: String,
    spec_version: &'static str,
    version: u32,
}

#[derive(Serialize)]
struct Metadata<'w, 'd> {
    component: &'w Component<'d>,
    #[serde(skip_serializing_if = "<[Property]>::is_empty")]
    properties: &'w [Property],
    #[serde(skip_serializing_if = "Option::is_none")]
    timestamp: Option<String>,
    tools: Value,
}

impl Document<'_> {
    /// Writes the document.
    ///
    /// # Errors
    /// The error of `out`.
    pub(crate) fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let version = self.version.name();
        let incomplete = || json!([{ "aggregate": "incomplete", "assemblies": self.incomplete }]);
        let written = Written {
            schema: format!("http://cyclonedx.org/schema/bom-{version}.schema.json"),
            annotations: (!self.annotations.is_empty()).then(|| Each::new(|| self.annotations())),
            bom_format: "CycloneDX",
            components: &self.components,
            compositions: (!self.incomplete.is_empty()).then(incomplete),
            metadata: Metadata {
                component: &self.subject,
                properties: &self.properties,
                timestamp: self.at.map(time),
                tools: json!({ "components": [self.tool()] }),
            },
            serial_number: format!("urn:uuid:{}", self.serial),
            spec_version: version,
            version: 1,
        };
        layersift_model::json_output::write_pretty(&mut *out, &written)?;
        writeln!(out)
    }

    fn tool(&self) -> Component<'static> {
        let version = Some(self.tool_version.clone()).filter(|version| !version.is_empty());
        Component { kind: "application", name: "layersift".into(), version, ..Component::default() }
    }

    /// An annotation must have a time. Where the document has none, it is that of reproducible builds.
    fn annotations(&self) -> impl Iterator<Item = Value> {
        let at = time(self.at.unwrap_or(Timestamp::UNIX_EPOCH));
        self.annotations.iter().map(move |annotation| {
            json!({
                "subjects": annotation.subjects,
                "annotator": { "component": self.tool() },
                "timestamp": at,
                "text": annotation.text,
            })
        })
    }
}

/// A time as documents have it.
pub(crate) fn time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// A digest as `hashes` has it.
pub(crate) fn hash(digest: &Digest) -> Value {
    let algorithm = match digest.algorithm() {
        Algorithm::Sha256 => "SHA-256",
        Algorithm::Sha512 => "SHA-512",
    };
    json!({ "alg": algorithm, "content": digest.hex() })
}
