//! Baselines: the findings of an earlier report are known and do not count again.

use std::collections::HashSet;
use std::path::Path;

use layersift_model::{Digest, Finding, FindingIdentity, ReportError, ReportSet};

use super::PolicyError;

/// The most bytes that are read of a report.
const MOST_BYTES: u64 = 1 << 30;

/// The findings of an earlier report.
#[derive(Clone, Debug)]
pub struct Baseline {
    digest: Digest,
    ids: HashSet<String>,
    identities: HashSet<FindingIdentity>,
    /// The ids of the rules whose combinations were found.
    chains: HashSet<String>,
}

impl Baseline {
    /// Reads the JSON report at `path`.
    ///
    /// # Errors
    /// For a file that cannot be read, or is not a report of a known schema.
    pub fn read(path: &Path) -> Result<Baseline, PolicyError> {
        // A report may be large, and is an object: nothing else is read any further.
        let text =
            super::read_while(path, MOST_BYTES, |start| start.trim_ascii_start().iter().all(|byte| *byte == b'{'))?;
        Baseline::parse(&text).map_err(|source| PolicyError::Baseline { path: path.into(), source })
    }

    /// Reads the JSON report `text`.
    ///
    /// # Errors
    /// [`ReportError`] for a text that is not a report of a known schema.
    pub fn parse(text: &str) -> Result<Baseline, ReportError> {
        let set = ReportSet::from_json(text.as_bytes())?;
        let findings = || set.reports.iter().flat_map(|report| &report.findings);
        let is_chain = |finding: &&Finding| !finding.related.is_empty();
        Ok(Baseline {
            digest: Digest::of(text.as_bytes()),
            ids: findings().map(|finding| finding.id.clone()).collect(),
            identities: findings().filter_map(Finding::identity).collect(),
            chains: findings().filter(is_chain).map(|finding| finding.rule.id.clone()).collect(),
        })
    }

    /// The digest of the report's text.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Whether each of an image's `findings` is known, in their order.
    pub fn known(&self, findings: &[Finding]) -> Vec<bool> {
        let alone: Vec<bool> = findings.iter().map(|finding| self.knows(finding)).collect();
        let ids: HashSet<&str> =
            findings.iter().zip(&alone).filter(|(_, known)| **known).map(|(finding, _)| &finding.id[..]).collect();
        // The id of a combination depends on its parts, whose ids a new build changes: it is known if all parts are.
        let is_known_chain = |finding: &Finding| {
            self.chains.contains(&finding.rule.id)
                && !finding.related.is_empty()
                && finding.related.iter().all(|id| ids.contains(&id[..]))
        };
        findings.iter().zip(&alone).map(|(finding, known)| *known || is_known_chain(finding)).collect()
    }

    fn knows(&self, finding: &Finding) -> bool {
        self.ids.contains(&finding.id) || finding.identity().is_some_and(|identity| self.identities.contains(&identity))
    }
}
