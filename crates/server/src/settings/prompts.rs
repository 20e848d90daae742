//! `[prompts]`: what clients may send to a model and get from it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use axum::http::Uri;
use axum::http::uri::Scheme;
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
    /// The models that `listen.proxy` forwards to, by the first segment of the path.
    pub upstreams: BTreeMap<String, Upstream>,
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
            upstreams: BTreeMap::new(),
            fingerprints: 100_000,
            fingerprints_kept: Span::of_seconds(730 * 86_400),
        }
    }
}

/// The API of a model.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Upstream {
    /// Where it is: what a client would have as its base URL, as far as all paths of its requests have it in common.
    url: String,
    /// A PEM file with the only authorities that are trusted; the system's if there is none.
    pub ca: Option<PathBuf>,
    /// Whether `url` may be `http://` at an address that is not loopback.
    #[serde(default)]
    plain_http: bool,
}

impl Upstream {
    /// The URL, without a slash at its end.
    pub fn url(&self) -> Result<Uri, String> {
        // It may have a login in it.
        let invalid = || "invalid URL: expected https://HOST[:PORT][/PATH]".to_string();
        let url: Uri = self.url.trim_end_matches('/').parse().map_err(|_| invalid())?;
        let host = url.host().filter(|host| !host.is_empty()).ok_or_else(invalid)?;
        let has_login = url.authority().is_some_and(|authority| authority.as_str().contains('@'));
        if has_login || url.query().is_some() || self.url.contains('#') {
            return Err(invalid());
        }
        match url.scheme() {
            Some(scheme) if *scheme == Scheme::HTTPS => Ok(url),
            Some(scheme) if *scheme == Scheme::HTTP && (self.plain_http || is_loopback(host)) => Ok(url),
            Some(scheme) if *scheme == Scheme::HTTP => {
                Err("the URL would send keys unencrypted: use https://, or set `plain-http = true`".into())
            }
            _ => Err(invalid()),
        }
    }
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    address.map_or(host == "localhost", |address| address.is_loopback())
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
        for (name, upstream) in &self.upstreams {
            let is_segment = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.".contains(&byte);
            if !name.bytes().all(is_segment) || name.is_empty() || name.starts_with('.') {
                return Err("[prompts.upstreams] invalid name: expected a-z, 0-9, -, _ and .".into());
            }
            upstream.url().map_err(|reason| format!("[prompts.upstreams.{name}] {reason}"))?;
        }
        const KINDS: [&str; 4] = ["token:", "user:", "team:", "key:"];
        for client in self.policies.iter().flat_map(|policy| &policy.clients) {
            if !KINDS.iter().any(|kind| client.len() > kind.len() && client.starts_with(kind)) {
                return Err(format!(
                    "[prompts] invalid client `{client}`: expected token:NAME, user:ID, team:ID or key:ALIAS"
                ));
            }
        }
        if self.policies.iter().any(|policy| policy.max_bytes == 0) {
            return Err("[prompts] invalid `max-bytes`: expected 1 or more, as every body would be denied".into());
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
    fn upstreams_are_urls_that_keep_keys_secret() {
        let url = |text: &str| {
            let prompts: Prompts = toml::from_str(&format!("[upstreams.a]\n{text}")).unwrap();
            prompts.check().map(|()| prompts.upstreams["a"].url().unwrap().to_string())
        };
        assert_eq!(url("url = 'https://api.example/base/'").unwrap(), "https://api.example/base");
        assert_eq!(url("url = 'http://[::1]:8000'").unwrap(), "http://[::1]:8000/");
        assert!(url("url = 'http://model.example'").unwrap_err().contains("plain-http"));
        assert!(url("url = 'http://model.example'\nplain-http = true").is_ok());
        for bad in
            ["api.example", "/v1", "ftp://a.example", "https://u:p@a.example", "https://a.example/?k=1", "https://"]
        {
            assert!(url(&format!("url = '{bad}'")).is_err(), "{bad}");
        }
        assert!(toml::from_str::<Prompts>("[upstreams.'A b']\nurl = 'https://a.example'").unwrap().check().is_err());
    }

    #[test]
    fn clients_have_a_kind_and_the_policy_for_all_is_the_last() {
        let check = |text: &str| toml::from_str::<Prompts>(text).unwrap().check();
        assert!(check("[[policies]]\nclients = [\"payments\"]").unwrap_err().contains("`payments`"));
        assert!(check("[[policies]]\n[[policies]]\nclients = [\"user:a\"]").unwrap_err().contains("last"));
        assert!(toml::from_str::<Prompts>("[[policies]]\ndeny = \"hgih\"").is_err());
    }
}
