//! Which attestations stand in for a scan, where the rules of admission take any.

use std::path::PathBuf;
use std::time::Duration;

use layersift_attest::predicate::PASSED;
use layersift_model::Digest;
use serde::Deserialize;

use crate::span::Span;

/// What stands for the rule set, or the policy, that the service itself has.
const OWN: &str = "own";

/// What an attestation has to be. Without keys none counts.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
pub struct Attestations {
    /// PEM files with public keys, one of which has to have signed. They are read again when they change.
    pub keys: Vec<PathBuf>,
    /// The predicate types that count.
    pub predicate_types: Vec<String>,
    /// How long ago the image may have been scanned.
    max_age: Span,
    /// The rule sets that it may have been scanned with: `own`, or as reports have them. Any, if there is none.
    rulesets: Vec<String>,
    /// The policies that it may have been judged by: `own`, or the digests of policy files. Any, if there is none.
    policies: Vec<String>,
}

impl Default for Attestations {
    fn default() -> Attestations {
        Attestations {
            keys: Vec::new(),
            predicate_types: vec![PASSED.into()],
            max_age: Span::of_seconds(7 * 86_400),
            rulesets: vec![OWN.into()],
            policies: Vec::new(),
        }
    }
}

impl Attestations {
    /// How long ago the image may have been scanned.
    pub fn max_age(&self) -> Duration {
        self.max_age.into()
    }

    /// The rule sets that count, where the service has the rule set `own`.
    pub fn rulesets(&self, own: &str) -> Vec<String> {
        self.rulesets.iter().map(|text| if text == OWN { own } else { text }.to_owned()).collect()
    }

    /// The policies that count, where the service has the policy file `own`. `None` if any does.
    pub fn policies(&self, own: Option<&Digest>) -> Option<Vec<Option<Digest>>> {
        let digest = |text: &String| if text == OWN { own.cloned() } else { text.parse().ok() };
        (!self.policies.is_empty()).then(|| self.policies.iter().map(digest).collect())
    }

    /// Whether the values go together.
    pub(super) fn check_together(&self) -> Result<(), String> {
        // Any other type says that something else was done, or that the image does not pass.
        if let Some(other) = self.predicate_types.iter().find(|name| *name != PASSED) {
            return Err(format!("`attestations.predicate-types`: `{other}` cannot be checked; expected {PASSED}"));
        }
        if self.predicate_types.is_empty() {
            return Err("`attestations.predicate-types` is empty, so no attestation counts".into());
        }
        let is_digest = |text: &&String| *text == OWN || text.parse::<Digest>().is_ok();
        match self.policies.iter().find(|text| !is_digest(text)) {
            Some(text) => Err(format!("`attestations.policies`: `{text}` is neither `own` nor a digest")),
            None => Ok(()),
        }
    }
}
