//! `[prompts]`: what clients may send to a model and get from it.

use layersift_model::{Confidence, Severity};
use layersift_prompts::{Action, Policy};
use serde::{Deserialize, Deserializer};

use crate::span::Span;

/// What clients may send and get.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
pub struct Prompts {
    /// The policies. The first that names a client holds for it; one that names no client holds for all.
    pub policies: Vec<PromptPolicy>,
    /// The parts of histories that are remembered, so that they are scanned once.
    pub remembered: usize,
    /// Threads that check at a time; 0 is one for each core.
    pub threads: usize,
    /// The most fingerprints of secrets in prompts and answers that the store keeps; 0 keeps none.
    pub fingerprints: u64,
    /// How long a fingerprint is kept since it was seen last.
    fingerprints_kept: Span,
}

impl Default for Prompts {
    fn default() -> Prompts {
        Prompts {
            policies: Vec::new(),
            remembered: 50_000,
            threads: 0,
            fingerprints: 100_000,
            fingerprints_kept: Span::of_seconds(730 * 86_400),
        }
    }
}

/// What some clients may send and get.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
pub struct PromptPolicy {
    /// The clients: `token:NAME`, and for LiteLLM `user:ID`, `team:ID` and `key:ALIAS`. A `*` at the end stands for any
    /// text.
    pub clients: Vec<String>,
    /// The lowest severity that denies.
    deny: Threshold,
    /// The lowest severity that is masked.
    mask: Threshold,
    /// The lowest confidence of a rule that counts.
    pub confidence: Confidence,
    /// Rules whose findings are only reported: ids, or beginnings of ids that end in `.`.
    pub allow_rules: Vec<String>,
    /// The largest size in tokens, estimated.
    pub max_tokens: Option<u64>,
    /// The largest size of a body in bytes.
    pub max_bytes: u32,
    /// What happens where something could not be scanned.
    on_incomplete: OnIncomplete,
}

impl Default for PromptPolicy {
    fn default() -> PromptPolicy {
        let Policy { deny, mask, confidence, max_bytes, .. } = Policy::default();
        PromptPolicy {
            clients: Vec::new(),
            deny: Threshold(deny),
            mask: Threshold(mask),
            confidence,
            allow_rules: Vec::new(),
            max_tokens: None,
            max_bytes: u32::try_from(max_bytes).unwrap_or(u32::MAX),
            on_incomplete: OnIncomplete::Deny,
        }
    }
}

impl PromptPolicy {
    /// The policy as the gate has it.
    pub fn policy(&self) -> Policy {
        Policy {
            deny: self.deny.0,
            mask: self.mask.0,
            confidence: self.confidence,
            allowed_rules: self.allow_rules.clone(),
            max_tokens: self.max_tokens,
            max_bytes: self.max_bytes as usize,
            incomplete: match self.on_incomplete {
                OnIncomplete::Deny => Action::Deny,
                OnIncomplete::Allow => Action::Report,
            },
        }
    }

    /// Whether the policy holds for a client with one of these names.
    pub fn holds_for(&self, names: &[String]) -> bool {
        let is_named = |pattern: &String| match pattern.strip_suffix('*') {
            Some(beginning) => names.iter().any(|name| name.starts_with(beginning)),
            None => names.contains(pattern),
        };
        self.clients.is_empty() || self.clients.iter().any(is_named)
    }
}

impl Prompts {
    /// Seconds that a fingerprint is kept since it was seen last.
    pub fn fingerprints_kept(&self) -> i64 {
        self.fingerprints_kept.seconds()
    }

    /// Whether the values go together.
    pub(super) fn check(&self) -> Result<(), String> {
        const KINDS: [&str; 4] = ["token:", "user:", "team:", "key:"];
        for client in self.policies.iter().flat_map(|policy| &policy.clients) {
            if !KINDS.iter().any(|kind| client.len() > kind.len() && client.starts_with(kind)) {
                return Err(format!(
                    "[prompts] invalid client `{client}`: expected token:NAME, user:ID, team:ID or key:ALIAS"
                ));
            }
        }
        let after = self.policies.iter().position(|policy| policy.clients.is_empty()).map(|at| at + 1);
        match after.filter(|after| *after < self.policies.len()) {
            Some(_) => Err("[prompts] the policy without `clients` holds for all: put it last".into()),
            None => Ok(()),
        }
    }
}

/// A severity, or `never`.
#[derive(Clone, Copy, Debug)]
struct Threshold(Option<Severity>);

impl<'de> Deserialize<'de> for Threshold {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Threshold, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text == "never" {
            return Ok(Threshold(None));
        }
        text.parse().map(|severity| Threshold(Some(severity))).map_err(serde::de::Error::custom)
    }
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum OnIncomplete {
    Deny,
    Allow,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_policy_that_names_a_client_holds() {
        let prompts: Prompts = toml::from_str(
            r#"
            [[policies]]
            clients = ["team:payments", "token:ci-*"]
            deny = "critical"
            mask = "never"
            max-tokens = 1000
            [[policies]]
            deny = "never"
            "#,
        )
        .unwrap();
        prompts.check().unwrap();
        let holds = |name: &str| prompts.policies.iter().position(|policy| policy.holds_for(&[name.to_string()]));
        assert_eq!([holds("team:payments"), holds("token:ci-7"), holds("token:me")], [Some(0), Some(0), Some(1)]);
        assert_eq!(prompts.policies[0].policy().deny, Some(Severity::Critical));
        assert_eq!(prompts.policies[0].policy().mask, None);
        assert_eq!(prompts.policies[1].policy().deny, None);
    }

    #[test]
    fn clients_have_a_kind_and_the_policy_for_all_is_the_last() {
        let check = |text: &str| toml::from_str::<Prompts>(text).unwrap().check();
        assert!(check("[[policies]]\nclients = [\"payments\"]").unwrap_err().contains("`payments`"));
        assert!(check("[[policies]]\n[[policies]]\nclients = [\"user:a\"]").unwrap_err().contains("last"));
        assert!(toml::from_str::<Prompts>("[[policies]]\ndeny = \"hgih\"").is_err());
    }
}
