//! The image configuration: what a container runs as, with which environment, and how the image was made.
//!
//! Sources: OCI image-spec v1.1, `config.md`, and the Docker image specification v1.2 for `Healthcheck`, `OnBuild` and
//! `Shell`, which OCI does not have. The parser is as lenient as runtimes are: a missing or null field is empty, and
//! names of fields match in any case. A field of the wrong type is an error, because a check that cannot run must not
//! pass.

mod packed;

use std::collections::{BTreeMap, HashSet};
use std::fmt;

use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use layersift_model::Digest;

use crate::json::Node;

pub use packed::{ConfigError, MAX_VALUES, PackedConfig};

/// An image configuration.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ImageConfig {
    /// CPU architecture, such as `amd64`.
    pub architecture: String,
    /// Operating system, such as `linux`.
    pub os: String,
    /// Variant of the architecture, such as `v8`.
    pub variant: String,
    /// When the image was created, in RFC 3339.
    pub created: Option<String>,
    /// The defaults of containers of the image.
    pub config: Runtime,
    /// The digests of the uncompressed layers.
    pub rootfs: RootFs,
    /// The instructions that created the image, oldest first.
    pub history: Vec<HistoryEntry>,
    /// Every string of the document that no other field has, with its path, such as `author` or
    /// `container_config.Env[0]`.
    #[serde(skip)]
    pub rest: Vec<(String, String)>,
}

/// The defaults of containers of the image: the `config` object.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Runtime {
    /// `user[:group]`; empty for root.
    pub user: String,
    /// Declared ports, as `port[-port][/protocol]`.
    #[serde(deserialize_with = "keys")]
    pub exposed_ports: BTreeMap<String, Value>,
    /// Environment variables, `NAME=value`.
    pub env: Vec<String>,
    /// Entry point.
    #[serde(deserialize_with = "words")]
    pub entrypoint: Vec<String>,
    /// Default arguments.
    #[serde(deserialize_with = "words")]
    pub cmd: Vec<String>,
    /// Declared volumes.
    #[serde(deserialize_with = "keys")]
    pub volumes: BTreeMap<String, Value>,
    /// Working directory.
    pub working_dir: String,
    /// Labels.
    #[serde(deserialize_with = "labels")]
    pub labels: BTreeMap<String, String>,
    /// The health check, Docker only.
    pub healthcheck: Option<Healthcheck>,
    /// Triggers for images built on this one, Docker only.
    pub on_build: Vec<String>,
}

/// The command with which a runtime checks the health of a container.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Healthcheck {
    /// `NONE`, or `CMD` and arguments, or `CMD-SHELL` and a command.
    pub test: Vec<String>,
}

/// The layers, by the digests of their uncompressed bytes.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct RootFs {
    /// Base first.
    pub diff_ids: Vec<Digest>,
}

/// One instruction that created the image.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct HistoryEntry {
    /// When it ran, in RFC 3339, as the builder says; `None` if that is not a text.
    #[serde(deserialize_with = "text_or_none")]
    pub created: Option<String>,
    /// The instruction.
    pub created_by: String,
    /// A comment, such as `buildkit.dockerfile.v0`.
    pub comment: String,
    /// The author of the instruction.
    pub author: String,
    /// Whether the instruction created no layer.
    pub empty_layer: bool,
}

impl ImageConfig {
    /// Parses a configuration document.
    ///
    /// # Errors
    /// If the document is not a JSON object, or has a field of the wrong type.
    pub fn parse(bytes: &[u8]) -> Result<ImageConfig, serde_json::Error> {
        ImageConfig::of(&Node::parse(bytes)?)
    }

    /// The configuration that a document has.
    fn of(node: &Node) -> Result<ImageConfig, serde_json::Error> {
        // A derived struct would accept a JSON array, too.
        if !matches!(node, Node::Object(_)) {
            return Err(serde::de::Error::custom("the document is not a JSON object"));
        }
        let mut config: ImageConfig = node.merged()?;
        config.rest = config.other_strings(node);
        Ok(config)
    }

    /// Whether the configuration says how to run a container, or for which platform the image is. Caches of builders
    /// have configurations that say neither.
    pub fn is_runnable(&self) -> bool {
        !self.architecture.is_empty() || !self.os.is_empty() || self.has_runtime()
    }

    /// Whether the configuration says how to run a container.
    pub fn has_runtime(&self) -> bool {
        let Runtime { user, exposed_ports, env, entrypoint, cmd, volumes, working_dir, labels, healthcheck, on_build } =
            &self.config;
        let words = [entrypoint, cmd, env, on_build];
        let is_silent = user.is_empty() && working_dir.is_empty() && words.iter().all(|words| words.is_empty());
        let has_none = exposed_ports.is_empty() && volumes.is_empty() && labels.is_empty() && healthcheck.is_none();
        !(is_silent && has_none)
    }

    /// The strings of the document that no field has: values of unknown fields, and values that another value of the
    /// same field replaced.
    fn other_strings(&self, node: &Node) -> Vec<(String, String)> {
        let known: HashSet<&str> = self.known_strings().collect();
        let is_digest = |text: &str| text.parse::<Digest>().is_ok();
        let strings = node.strings_unless("", &NAMES, &|text| known.contains(text) || is_digest(text));
        strings.into_iter().map(|string| (string.path, string.text)).collect()
    }

    fn known_strings(&self) -> impl Iterator<Item = &str> {
        let runtime = &self.config;
        let words = [&runtime.env, &runtime.entrypoint, &runtime.cmd, &runtime.on_build];
        let test = runtime.healthcheck.iter().flat_map(|check| &check.test);
        let keys = runtime.volumes.keys().chain(runtime.labels.keys());
        let history = self.history.iter().flat_map(|entry| [&entry.created_by, &entry.comment, &entry.author]);
        let texts = [&runtime.user, &runtime.working_dir].into_iter().chain(words.into_iter().flatten());
        let texts = texts.chain(test).chain(keys).chain(runtime.labels.values()).chain(history);
        texts.map(String::as_str)
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

/// Names of fields that are not searched for secrets.
const NAMES: [&str; 15] = [
    "architecture",
    "config",
    "container_config",
    "created_by",
    "diff_ids",
    "docker_version",
    "empty_layer",
    "history",
    "Entrypoint",
    "ExposedPorts",
    "Healthcheck",
    "Labels",
    "OnBuild",
    "Volumes",
    "WorkingDir",
];

/// The keys of an object; or a list of them, which old builders wrote.
fn keys<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, Value>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Keys {
        Object(BTreeMap<String, Value>),
        List(Vec<String>),
    }
    Ok(match Option::deserialize(deserializer)? {
        None => BTreeMap::new(),
        Some(Keys::Object(keys)) => keys,
        Some(Keys::List(keys)) => keys.into_iter().map(|key| (key, Value::Null)).collect(),
    })
}

/// A text; a value of another type is none. Nothing that runs depends on it.
fn text_or_none<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Ok(if let Value::String(text) = Value::deserialize(deserializer)? { Some(text) } else { None })
}

/// Names and values; or a list of them, which old builders wrote. There may be half a million, so they are not
/// collected in between.
fn labels<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, String>, D::Error> {
    struct Labels;

    impl<'de> Visitor<'de> for Labels {
        type Value = BTreeMap<String, String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("labels")
        }

        fn visit_none<E>(self) -> Result<Self::Value, E> {
            Ok(BTreeMap::new())
        }

        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok(BTreeMap::new())
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut labels = BTreeMap::new();
            while let Some((name, value)) = map.next_entry::<String, Option<String>>()? {
                labels.insert(name, value.unwrap_or_default());
            }
            Ok(labels)
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
            let mut labels = BTreeMap::new();
            while let Some(label) = seq.next_element::<String>()? {
                let (name, value) = label.split_once('=').unwrap_or((&label, ""));
                labels.insert(name.to_string(), value.to_string());
            }
            Ok(labels)
        }
    }

    deserializer.deserialize_any(Labels)
}

/// A list of words, or a single string, which old versions of Docker wrote.
fn words<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Words {
        One(String),
        Many(Vec<Option<String>>),
    }
    Ok(match Option::deserialize(deserializer)? {
        None => Vec::new(),
        Some(Words::One(word)) => vec![word],
        Some(Words::Many(words)) => words.into_iter().map(Option::unwrap_or_default).collect(),
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
    fn strings_that_no_field_has_are_collected() {
        let config = ImageConfig::parse(
            br#"{"author":"me","os":"linux","config":{"Env":["A=b"],"env":["C=d"],"Shell":["sh"]},"author":"you",
                "history":[{"created_by":"x","other":"y"}],"container_config":{"Cmd":["z"],"a-long-name":1}}"#,
        );
        let config = config.unwrap();
        let names: Vec<&str> = config.rest.iter().map(|(name, _)| name.as_str()).collect();
        let expected = [
            "author",
            "os",
            "config.Env[0]",
            "config.Shell[0]",
            "author",
            "history[0].other",
            "container_config.Cmd[0]",
            "container_config.a-long-name",
        ];
        assert_eq!(names, expected);
        assert_eq!(config.config.env, ["C=d"]);
    }

    #[test]
    fn what_real_tools_wrote_is_read() {
        let config = ImageConfig::parse(
            br#"{"rootfS":{"diff_ids":[]},"history":[null],"config":{"Env":["A=b",null],"Entrypoint":["a",null],
                "ExposedPorts":["80/tcp"],"Volumes":["/data"],"Labels":["a=b"]},"Config":{"User":"app"}}"#,
        );
        let config = config.unwrap();
        assert_eq!((config.history.len(), &config.config.env[..]), (1, &["A=b".to_string(), String::new()][..]));
        assert!(config.config.exposed_ports.contains_key("80/tcp") && config.config.volumes.contains_key("/data"));
        assert_eq!(config.config.user, "app");
        assert!(config.is_runnable() && !ImageConfig::parse(br#"{"config":{}}"#).unwrap().is_runnable());
    }

    #[test]
    fn wrong_types_are_errors() {
        assert!(ImageConfig::parse(br#"{"config":{"Env":{"A":"b"}}}"#).is_err());
        assert!(ImageConfig::parse(br#"{"rootfs":{"diff_ids":["../../x"]}}"#).is_err());
        assert!(ImageConfig::parse(b"[]").is_err());
    }
}
