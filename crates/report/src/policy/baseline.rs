//! A baseline: the findings of an earlier report, which are known and do not count again.

use std::collections::HashSet;
use std::path::Path;

use serde::Deserialize;

use super::PolicyError;
use layersift_model::{Finding, Location};

/// Bytes of a report that is read as a baseline.
const MOST_BYTES: u64 = 1 << 30;

/// The schema of reports that is understood.
const SCHEMA: u64 = 1;

/// What an earlier report found.
#[derive(Clone, Debug, Default)]
pub struct Baseline {
    ids: HashSet<String>,
    secrets: HashSet<Sameness>,
    /// Rules of chains that were found.
    chains: HashSet<String>,
}

/// What stays the same of a finding when its image is built anew: rule, fingerprint, path and archive members. A secret
/// in the configuration has no path, because history moves; what has neither path nor secret is known by its id.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Sameness {
    rule: String,
    fingerprint: Option<String>,
    path: Option<String>,
    inside: Vec<String>,
}

/// A report of one image, or of several, as far as it is needed here. Source: "The JSON report" in README.md.
#[derive(Deserialize)]
struct Document {
    schema: Option<u64>,
    findings: Option<Vec<Line>>,
    reports: Option<Vec<Report>>,
}

#[derive(Deserialize)]
struct Report {
    findings: Vec<Line>,
}

#[derive(Deserialize)]
struct Line {
    id: String,
    rule: String,
    path: Option<String>,
    #[serde(default)]
    inside: Vec<String>,
    secret: Option<SecretLine>,
    #[serde(default)]
    related: Vec<String>,
}

#[derive(Deserialize)]
struct SecretLine {
    fingerprint: String,
}

impl Baseline {
    /// Reads the JSON report at `path`.
    ///
    /// # Errors
    /// For what cannot be read, and what is no report of a schema that is known.
    pub fn read(path: &Path) -> Result<Baseline, PolicyError> {
        let text = super::read(path, MOST_BYTES)?;
        Baseline::parse(&text).map_err(|reason| PolicyError::Baseline { path: path.into(), reason })
    }

    /// The baseline that the JSON report `text` makes.
    ///
    /// # Errors
    /// Why it is no report.
    pub fn parse(text: &str) -> Result<Baseline, String> {
        let document: Document = serde_json::from_str(text).map_err(|error| error.to_string())?;
        match document.schema {
            Some(SCHEMA) => {}
            Some(other) => return Err(format!("schema {other} is not known")),
            None => return Err("it has no `schema`".into()),
        }
        let lines = match (document.findings, document.reports) {
            (Some(findings), None) => findings,
            (None, Some(reports)) => reports.into_iter().flat_map(|report| report.findings).collect(),
            _ => return Err("expected either `findings` or `reports`, as `layersift scan --format json` writes".into()),
        };
        let mut baseline = Baseline::default();
        lines.into_iter().for_each(|line| baseline.add(line));
        Ok(baseline)
    }

    /// Which of an image's `findings` are known, in their order.
    pub fn known(&self, findings: &[Finding]) -> Vec<bool> {
        let alone: Vec<bool> = findings.iter().map(|finding| self.knows(finding)).collect();
        let ids: HashSet<&str> =
            findings.iter().zip(&alone).filter(|(_, known)| **known).map(|(finding, _)| &finding.id[..]).collect();
        // A chain is named after its parts, whose ids a new build changes: it is known where all its parts are.
        let is_known_chain = |finding: &Finding| {
            self.chains.contains(&finding.rule.id)
                && !finding.related.is_empty()
                && finding.related.iter().all(|id| ids.contains(&id[..]))
        };
        findings.iter().zip(&alone).map(|(finding, known)| *known || is_known_chain(finding)).collect()
    }

    fn knows(&self, finding: &Finding) -> bool {
        self.ids.contains(&finding.id) || Sameness::of(finding).is_some_and(|same| self.secrets.contains(&same))
    }

    fn add(&mut self, line: Line) {
        let Line { id, rule, path, inside, secret, related } = line;
        self.ids.insert(id);
        if !related.is_empty() {
            self.chains.insert(rule.clone());
        }
        let fingerprint = secret.map(|secret| secret.fingerprint);
        if path.is_some() || fingerprint.is_some() {
            self.secrets.insert(Sameness { rule, fingerprint, path, inside });
        }
    }
}

impl Sameness {
    fn of(finding: &Finding) -> Option<Sameness> {
        let (path, inside) = match &finding.location {
            Location::File(file) => (Some(file.place.path.to_string()), file.place.inside.clone()),
            Location::Config(_) if finding.fingerprint.is_some() => (None, Vec::new()),
            Location::Config(_) | Location::Image => return None,
        };
        Some(Sameness { rule: finding.rule.id.clone(), fingerprint: finding.fingerprint.clone(), path, inside })
    }
}
