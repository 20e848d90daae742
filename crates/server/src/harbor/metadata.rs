//! What the scanner is and can do: `GET /api/v1/metadata`.
//!
//! Harbor refuses the metadata as a whole, and then scans nothing, if one capability in it does not consume Docker's
//! manifests, produces no report that Harbor knows, or if a property is not a text. So of a second scanner only what is
//! known is passed on.

use crate::harbor::document::Scanner;
use crate::harbor::sbom::Form;
use crate::harbor::{MANIFESTS, SBOM, VULNERABILITIES, is_media_type};
use layersift_model::{ParseError, json_output, parse};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Bytes of the metadata of a second scanner.
const MOST_BYTES: usize = 64 << 10;

/// Bytes of the attributes of a capability.
const MOST_ATTRIBUTES: usize = 4 << 10;

/// Bytes of a property.
const MOST_PROPERTY: usize = 256;

/// Tells Harbor to send a ready token for one repository, where it would send a password for the whole project. It also
/// passes where an image may not be pulled, which the password does not.
const AUTHORIZATION: (&str, &str) = ("harbor.scanner-adapter/registry-authorization-type", "Bearer");

/// The one type of scanner that Harbor knows.
const SCANNER_TYPE: (&str, &str) = ("harbor.scanner-adapter/scanner-type", "os-package-vulnerability");

/// Properties of a second scanner that Harbor shows.
const PASSED_ON: [&str; 2] = [
    "harbor.scanner-adapter/vulnerability-database-updated-at",
    "harbor.scanner-adapter/vulnerability-database-next-update-at",
];

/// The metadata of a scanner.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Metadata {
    /// The scanner.
    pub scanner: Scanner,
    /// What it can do.
    pub capabilities: Vec<Capability>,
    /// What else Harbor is to know.
    #[serde(default)]
    pub properties: BTreeMap<String, String>,
}

/// One thing that a scanner can do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Capability {
    /// `vulnerability` or `sbom`; the first if it is absent.
    #[serde(rename = "type", default = "vulnerability")]
    pub kind: String,
    /// The media types of what it scans.
    pub consumes_mime_types: Vec<String>,
    /// The media types of its reports.
    pub produces_mime_types: Vec<String>,
    /// What else there is to it, such as the formats of a software bill of materials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub additional_attributes: Option<Map<String, Value>>,
}

/// Why the metadata of a second scanner cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum MetadataError {
    /// It has too many bytes.
    #[error("the metadata of the second scanner has more than {MOST_BYTES} bytes")]
    TooLong,
    /// It has another form.
    #[error("the metadata of the second scanner cannot be read: {0}")]
    Json(#[from] ParseError),
}

fn vulnerability() -> String {
    "vulnerability".into()
}

/// Reads the metadata of a second scanner.
///
/// # Errors
/// [`MetadataError`] for what is too long or of another form.
pub fn read(body: &[u8]) -> Result<Metadata, MetadataError> {
    if body.len() > MOST_BYTES { Err(MetadataError::TooLong) } else { Ok(parse::json(body)?) }
}

impl Metadata {
    /// Whether the scanner makes bills of materials that Harbor takes.
    pub fn makes_sboms(&self) -> bool {
        self.capabilities.iter().any(|capability| capability.as_sbom().is_some())
    }

    /// The metadata of this version, with what a second scanner adds to it. A second scanner that makes bills of
    /// materials goes on making them.
    pub fn of(version: &str, second: Option<&Metadata>) -> Metadata {
        let ours = Capability {
            kind: vulnerability(),
            consumes_mime_types: MANIFESTS.map(String::from).into(),
            produces_mime_types: vec![VULNERABILITIES.into()],
            additional_attributes: None,
        };
        let sbom = second.and_then(|second| second.capabilities.iter().find_map(Capability::as_sbom));
        let own = [AUTHORIZATION, SCANNER_TYPE].map(|(name, value)| (name.to_owned(), value.to_owned()));
        let passed_on = second.into_iter().flat_map(|second| &second.properties);
        let passed_on = passed_on
            .filter(|(name, value)| PASSED_ON.contains(&&name[..]) && value.len() <= MOST_PROPERTY)
            .map(|(name, value)| (name.clone(), value.clone()));
        Metadata {
            scanner: Scanner::layersift(version),
            capabilities: vec![ours, sbom.unwrap_or_else(Capability::own_sbom)],
            properties: passed_on.chain(own).collect(),
        }
    }

    /// The metadata as JSON.
    pub fn to_json(&self) -> Vec<u8> {
        json_output::line(self).unwrap_or_default()
    }
}

impl Capability {
    /// The capability to make bills of materials without a second scanner.
    fn own_sbom() -> Capability {
        let forms = Form::ALL.map(Form::media_type);
        let attributes = [("sbom_media_types".to_string(), Value::from(forms.to_vec()))];
        Capability {
            kind: "sbom".into(),
            consumes_mime_types: MANIFESTS.map(String::from).into(),
            produces_mime_types: vec![SBOM.into()],
            additional_attributes: Some(attributes.into_iter().collect()),
        }
    }

    /// The capability to make a software bill of materials of a manifest, as Harbor takes it.
    fn as_sbom(&self) -> Option<Capability> {
        let has = |list: &[String], wanted: &str| list.iter().any(|one| is_media_type(one, wanted));
        let consumes = MANIFESTS.iter().filter(|manifest| has(&self.consumes_mime_types, manifest));
        let consumes: Vec<String> = consumes.map(|manifest| (*manifest).into()).collect();
        if self.kind != "sbom" || !has(&self.produces_mime_types, SBOM) || consumes.len() < MANIFESTS.len() {
            return None;
        }
        let is_short = |attributes: &&Map<String, Value>| {
            json_output::line(attributes).is_ok_and(|bytes| bytes.len() <= MOST_ATTRIBUTES)
        };
        Some(Capability {
            kind: self.kind.clone(),
            consumes_mime_types: consumes,
            produces_mime_types: vec![SBOM.into()],
            additional_attributes: self.additional_attributes.as_ref().filter(is_short).cloned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Whether Harbor 2.16 takes the metadata, after `recordings/harbor/a-scanner/auth-kinds-and-metadata.json`.
    fn is_taken(metadata: &Value) -> bool {
        const REPORTS: [&str; 3] =
            [VULNERABILITIES, SBOM, "application/vnd.scanner.adapter.vuln.report.harbor+json; version=1.0"];
        let lists = |capability: &Value, field: &str, wanted: &[&str]| {
            let list = capability[field].as_array().into_iter().flatten().filter_map(Value::as_str);
            list.filter(|one| wanted.contains(one)).count() > 0
        };
        let is_text = |value: &Value| value.as_str().is_some_and(|text| !text.is_empty());
        let capabilities = metadata["capabilities"].as_array();
        let properties = &metadata["properties"];
        ["name", "vendor", "version"].iter().all(|field| is_text(&metadata["scanner"][field]))
            && capabilities.is_some_and(|list| !list.is_empty())
            && capabilities.into_iter().flatten().all(|one| {
                matches!(one["type"].as_str(), None | Some("vulnerability" | "sbom"))
                    && lists(one, "consumes_mime_types", &["application/vnd.docker.distribution.manifest.v2+json"])
                    && lists(one, "produces_mime_types", &REPORTS)
            })
            && (properties.is_null() || properties.as_object().is_some_and(|all| all.values().all(Value::is_string)))
    }

    fn written(version: &str, second: Option<&Metadata>) -> Value {
        serde_json::from_slice(&Metadata::of(version, second).to_json()).unwrap()
    }

    /// As `harbor-scanner-trivy` writes it.
    fn trivy() -> Value {
        json!({
            "scanner": {"name": "Trivy", "vendor": "Aqua Security", "version": "v0.68.1"},
            "capabilities": [
                {
                    "type": "vulnerability",
                    "consumes_mime_types": MANIFESTS,
                    "produces_mime_types": [VULNERABILITIES],
                },
                {
                    "type": "sbom",
                    "consumes_mime_types": MANIFESTS,
                    "produces_mime_types": [SBOM],
                    "additional_attributes": {"sbom_media_types": ["application/spdx+json"]},
                },
            ],
            "properties": {
                "harbor.scanner-adapter/scanner-type": "os-package-vulnerability",
                "harbor.scanner-adapter/vulnerability-database-updated-at": "2026-11-28T00:00:00Z",
                "harbor.scanner-adapter/registry-authorization-type": "Basic",
                "env.SCANNER_TRIVY_SKIP_UPDATE": "false",
            },
        })
    }

    #[test]
    fn the_recorded_metadata_is_taken_and_refused_as_harbor_does() {
        let scanner = json!({"name": "a", "vendor": "b", "version": "1"});
        let with = |capabilities: Value| json!({"scanner": scanner, "capabilities": capabilities});
        let one = |kind: &str, consumes: &str, produces: &str| {
            let (consumes, produces) = ([consumes], [produces]);
            json!({"type": kind, "consumes_mime_types": consumes, "produces_mime_types": produces})
        };
        let [oci, docker] = MANIFESTS;
        let secret = one("secret", docker, "application/vnd.security.secret.report; version=1.0");
        assert!(is_taken(&with(json!([one("vulnerability", docker, VULNERABILITIES)]))));
        assert!(!is_taken(&with(json!([one("vulnerability", oci, VULNERABILITIES)]))));
        assert!(!is_taken(&with(json!([secret]))));
        assert!(!is_taken(&with(json!([one("vulnerability", docker, VULNERABILITIES), secret]))));
        assert!(!is_taken(&with(json!([]))));
        let mut numbers = with(json!([one("vulnerability", docker, VULNERABILITIES)]));
        numbers["properties"] = json!({"a": 1});
        assert!(!is_taken(&numbers));
    }

    #[test]
    fn harbor_takes_the_metadata_of_every_version() {
        for version in ["1.4.0", "", " ", "\0"] {
            assert!(is_taken(&written(version, None)), "{version:?}");
        }
        let expected = json!({
            "scanner": {"name": "Layersift", "vendor": "Layersift", "version": "1.4.0"},
            "capabilities": [{
                "type": "vulnerability",
                "consumes_mime_types": MANIFESTS,
                "produces_mime_types": [VULNERABILITIES],
            }, {
                "type": "sbom",
                "consumes_mime_types": MANIFESTS,
                "produces_mime_types": [SBOM],
                "additional_attributes": {
                    "sbom_media_types": ["application/spdx+json", "application/vnd.cyclonedx+json"],
                },
            }],
            "properties": {
                "harbor.scanner-adapter/registry-authorization-type": "Bearer",
                "harbor.scanner-adapter/scanner-type": "os-package-vulnerability",
            },
        });
        assert_eq!(written("1.4.0", None), expected);
    }

    #[test]
    fn a_second_scanner_adds_its_bill_of_materials_and_the_age_of_its_database() {
        let second = read(trivy().to_string().as_bytes()).unwrap();
        let merged = written("1", Some(&second));
        assert!(is_taken(&merged));
        assert_eq!(merged["capabilities"][1], trivy()["capabilities"][1]);
        assert_eq!(merged["capabilities"].as_array().unwrap().len(), 2);
        let properties = merged["properties"].as_object().unwrap();
        assert_eq!(properties["harbor.scanner-adapter/registry-authorization-type"], "Bearer");
        assert_eq!(properties["harbor.scanner-adapter/vulnerability-database-updated-at"], "2026-11-28T00:00:00Z");
        assert_eq!(properties.len(), 3);
    }

    #[test]
    fn what_harbor_would_refuse_is_not_passed_on() {
        let mut odd = trivy();
        odd["capabilities"][1]["produces_mime_types"] = json!(["application/vnd.security.secret.report; version=1.0"]);
        let second = read(odd.to_string().as_bytes()).unwrap();
        // Then ours is announced.
        assert_eq!(written("1", Some(&second))["capabilities"], written("1", None)["capabilities"]);
        assert!(!second.makes_sboms());
        let sbom = json!({"type": "sbom", "consumes_mime_types": [MANIFESTS[0]], "produces_mime_types": [SBOM]});
        odd["capabilities"][1] = sbom;
        let second = read(odd.to_string().as_bytes()).unwrap();
        assert_eq!(written("1", Some(&second))["capabilities"], written("1", None)["capabilities"]);
        odd["properties"] = json!({"a": 1});
        assert!(read(odd.to_string().as_bytes()).is_err());
        assert!(matches!(read(&vec![b' '; MOST_BYTES + 1]), Err(MetadataError::TooLong)));
    }
}
