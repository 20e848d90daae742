//! What Harbor asks an adapter about itself: which answers it takes, and how long it remembers them.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::adapter::{Adapter, Outgoing};

/// What each capability has to consume.
const DOCKER: &str = "application/vnd.docker.distribution.manifest.v2+json";

/// Of what each capability has to produce one.
const REPORTS: [&str; 3] = [
    "application/vnd.scanner.adapter.vuln.report.harbor+json; version=1.0",
    "application/vnd.security.vulnerability.report; version=1.1",
    "application/vnd.security.sbom.report+json; version=1.0",
];

/// What an adapter said of itself.
#[derive(Clone, Debug)]
pub struct Metadata(pub Value);

impl Metadata {
    /// Asks.
    pub fn ask(adapter: &Adapter, limit: Duration) -> Result<Metadata, String> {
        let request = Outgoing {
            method: "GET",
            path: "/api/v1/metadata".into(),
            accept: "application/vnd.scanner.adapter.metadata+json; version=1.0",
            body: None,
        };
        let answer = adapter.call(&request, limit)?;
        match answer.status {
            200 => Metadata::of(&answer.body),
            status => Err(format!("unexpected status code: {status}, expected: 200")),
        }
    }

    fn of(body: &[u8]) -> Result<Metadata, String> {
        let document: Value = serde_json::from_slice(body).map_err(|error| error.to_string())?;
        let texts = |value: &Value| -> Vec<String> {
            value.as_array().into_iter().flatten().filter_map(|text| text.as_str().map(String::from)).collect()
        };
        for name in ["name", "vendor", "version"] {
            if document["scanner"][name].as_str().is_none_or(str::is_empty) {
                return Err(format!("invalid metadata: scanner.{name}"));
            }
        }
        let none = serde_json::Map::new();
        let properties = document["properties"].as_object();
        if properties.unwrap_or(&none).values().any(|value| !value.is_string()) {
            return Err("properties are not strings".into());
        }
        let capabilities = document["capabilities"].as_array().filter(|all| !all.is_empty());
        for capability in capabilities.ok_or("no capabilities")? {
            if !texts(&capability["consumes_mime_types"]).iter().any(|kind| kind == DOCKER) {
                return Err(format!("missing {DOCKER} in consumes_mime_types"));
            }
            if !texts(&capability["produces_mime_types"]).iter().any(|kind| REPORTS.contains(&&kind[..])) {
                return Err("no known report in produces_mime_types".into());
            }
        }
        Ok(Metadata(document))
    }

    /// Whether there is a capability of a kind, `vulnerability` or `sbom`, for manifests of a media type.
    pub fn consumes(&self, kind: &str, media_type: &str) -> bool {
        let mut all = self.0["capabilities"].as_array().into_iter().flatten();
        all.any(|capability| {
            let consumed = capability["consumes_mime_types"].as_array();
            capability["type"].as_str().unwrap_or("vulnerability") == kind
                && consumed.into_iter().flatten().any(|known| known == media_type)
        })
    }

    /// Whether the registry's credentials are a ready token.
    pub fn wants_bearer(&self) -> bool {
        self.0["properties"]["harbor.scanner-adapter/registry-authorization-type"] == "Bearer"
    }
}

/// An answer or an error that is remembered.
#[derive(Default)]
pub struct Cache {
    found: Option<(Instant, Result<Metadata, String>)>,
    asked: usize,
}

impl Cache {
    /// What is remembered, or what the adapter says now.
    pub fn get(&mut self, adapter: &Adapter, limit: Duration, lifetime: Duration) -> Result<Metadata, String> {
        if let Some((since, found)) = &self.found
            && since.elapsed() < lifetime
        {
            return found.clone();
        }
        let found = Metadata::ask(adapter, limit);
        self.asked += 1;
        self.found = Some((Instant::now(), found.clone()));
        found
    }

    /// How often the adapter was asked.
    pub fn asked(&self) -> usize {
        self.asked
    }
}
