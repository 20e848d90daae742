//! The image configuration: what a container runs as, with which environment, and how the image was made.
//!
//! Sources: OCI image-spec v1.1, `config.md`, and the Docker image specification v1.2 for `Healthcheck`, `OnBuild` and
//! `Shell`, which OCI does not have. The parser is as lenient as runtimes are: a missing or null field is empty.
//! A field of the wrong type is an error, because a check that cannot run must not pass.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};
use serde_json::Value;

use layersift_model::Digest;

/// An image configuration.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct ImageConfig {
    /// CPU architecture, such as `amd64`.
    #[serde(default, deserialize_with = "nullable")]
    pub architecture: String,
    /// Operating system, such as `linux`.
    #[serde(default, deserialize_with = "nullable")]
    pub os: String,
    /// Variant of the architecture, such as `v8`.
    #[serde(default, deserialize_with = "nullable")]
    pub variant: String,
    /// When the image was created, in RFC 3339.
    #[serde(default)]
    pub created: Option<String>,
    /// The defaults of containers of the image.
    #[serde(default, deserialize_with = "nullable")]
    pub config: Runtime,
    /// The digests of the uncompressed layers.
    #[serde(default, deserialize_with = "nullable")]
    pub rootfs: RootFs,
    /// The instructions that created the image, oldest first.
    #[serde(default, deserialize_with = "nullable")]
    pub history: Vec<HistoryEntry>,
    /// Every other string of the document with its path, such as `author` or `container_config.Env[0]`.
    #[serde(skip)]
    pub rest: Vec<(String, String)>,
}

/// The defaults of containers of the image: the `config` object.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Runtime {
    /// `user[:group]`; empty for root.
    #[serde(default, deserialize_with = "nullable")]
    pub user: String,
    /// Declared ports, as `port[-port][/protocol]`.
    #[serde(default, deserialize_with = "nullable")]
    pub exposed_ports: BTreeMap<String, Value>,
    /// Environment variables, `NAME=value`.
    #[serde(default, deserialize_with = "nullable")]
    pub env: Vec<String>,
    /// Entry point.
    #[serde(default, deserialize_with = "words")]
    pub entrypoint: Vec<String>,
    /// Default arguments.
    #[serde(default, deserialize_with = "words")]
    pub cmd: Vec<String>,
    /// Declared volumes.
    #[serde(default, deserialize_with = "nullable")]
    pub volumes: BTreeMap<String, Value>,
    /// Working directory.
    #[serde(default, deserialize_with = "nullable")]
    pub working_dir: String,
    /// Labels.
    #[serde(default, deserialize_with = "nullable")]
    pub labels: BTreeMap<String, String>,
    /// The health check, Docker only.
    #[serde(default)]
    pub healthcheck: Option<Healthcheck>,
    /// Triggers for images built on this one, Docker only.
    #[serde(default, deserialize_with = "nullable")]
    pub on_build: Vec<String>,
}

/// The command with which a runtime checks the health of a container.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Healthcheck {
    /// `NONE`, or `CMD` and arguments, or `CMD-SHELL` and a command.
    #[serde(default, deserialize_with = "nullable")]
    pub test: Vec<String>,
}

/// The layers, by the digests of their uncompressed bytes.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct RootFs {
    /// Base first.
    #[serde(default, deserialize_with = "nullable")]
    pub diff_ids: Vec<Digest>,
}

/// One instruction that created the image.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct HistoryEntry {
    /// The instruction.
    #[serde(default, deserialize_with = "nullable")]
    pub created_by: String,
    /// A comment, such as `buildkit.dockerfile.v0`.
    #[serde(default, deserialize_with = "nullable")]
    pub comment: String,
    /// The author of the instruction.
    #[serde(default, deserialize_with = "nullable")]
    pub author: String,
    /// Whether the instruction created no layer.
    #[serde(default, deserialize_with = "nullable")]
    pub empty_layer: bool,
}

impl ImageConfig {
    /// Parses a configuration document.
    ///
    /// # Errors
    /// If the document is not a JSON object, or has a field of the wrong type.
    pub fn parse(bytes: &[u8]) -> Result<ImageConfig, serde_json::Error> {
        // A derived struct would accept a JSON array, too.
        if !bytes.trim_ascii_start().starts_with(b"{") {
            return Err(serde::de::Error::custom("the document is not a JSON object"));
        }
        let mut config: ImageConfig = serde_json::from_slice(bytes)?;
        collect_rest(&serde_json::from_slice(bytes)?, "", &mut config.rest);
        Ok(config)
    }

    /// The platform as `os/architecture[/variant]`; `None` if the configuration names none.
    pub fn platform(&self) -> Option<String> {
        if self.os.is_empty() || self.architecture.is_empty() {
            return None;
        }
        let variant = if self.variant.is_empty() { String::new() } else { format!("/{}", self.variant) };
        Some(format!("{}/{}{variant}", self.os, self.architecture))
    }
}

/// The paths of the fields that [`ImageConfig`] has, in their exact spelling. Strings below them are not collected.
const KNOWN: [&str; 14] = [
    "architecture",
    "os",
    "variant",
    "created",
    "rootfs",
    "config.User",
    "config.ExposedPorts",
    "config.Env",
    "config.Entrypoint",
    "config.Cmd",
    "config.Volumes",
    "config.WorkingDir",
    "config.Labels",
    "config.OnBuild",
];

/// Collects the strings that no field of [`ImageConfig`] holds: values of unknown keys, and of known keys in another
/// case, which Docker accepts as well.
fn collect_rest(value: &Value, at: &str, rest: &mut Vec<(String, String)>) {
    if KNOWN.contains(&at) || at == "config.Healthcheck.Test" || is_history_text(at) {
        return;
    }
    match value {
        Value::String(text) if !text.is_empty() => rest.push((at.to_string(), text.clone())),
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(i, item)| collect_rest(item, &format!("{at}[{i}]"), rest));
        }
        Value::Object(members) => {
            for (key, member) in members {
                let at = if at.is_empty() { key.clone() } else { format!("{at}.{key}") };
                collect_rest(member, &at, rest);
            }
        }
        _ => {}
    }
}

fn is_history_text(at: &str) -> bool {
    let part = at.strip_prefix("history[").and_then(|rest| rest.split_once("].")).map(|(_, part)| part);
    part.is_some_and(|part| ["created", "created_by", "comment", "author"].contains(&part))
}

fn nullable<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// A list of words, or a single string, which old versions of Docker wrote.
fn words<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Words {
        One(String),
        Many(Vec<String>),
    }
    Ok(match Option::deserialize(deserializer)? {
        None => Vec::new(),
        Some(Words::One(word)) => vec![word],
        Some(Words::Many(words)) => words,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nulls_and_missing_fields_are_empty() {
        let config = ImageConfig::parse(br#"{"config":{"Env":null,"Cmd":"sh","ExposedPorts":null},"history":null}"#);
        let config = config.unwrap();
        assert_eq!(config.config.cmd, ["sh"]);
        assert!(config.config.env.is_empty() && config.platform().is_none());
        assert!(ImageConfig::parse(br#"{"config":null,"rootfs":null}"#).is_ok());
    }

    #[test]
    fn strings_of_unknown_fields_are_collected() {
        let config = ImageConfig::parse(
            br#"{"author":"me","os":"linux","config":{"Env":["A=b"],"env":["C=d"],"Shell":["sh"]},
                "history":[{"created_by":"x","other":"y"}],"container_config":{"Cmd":["z"]}}"#,
        );
        let rest = config.unwrap().rest;
        let names: Vec<&str> = rest.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(
            names,
            ["author", "config.Shell[0]", "config.env[0]", "container_config.Cmd[0]", "history[0].other"]
        );
    }

    #[test]
    fn wrong_types_are_errors() {
        assert!(ImageConfig::parse(br#"{"config":{"Env":{"A":"b"}}}"#).is_err());
        assert!(ImageConfig::parse(br#"{"rootfs":{"diff_ids":["../../x"]}}"#).is_err());
        assert!(ImageConfig::parse(b"[]").is_err());
    }
}
