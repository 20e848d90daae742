//! Which images the service may pull: without a list, none. A reference comes from whoever asks, and the service has
//! logins and reaches hosts that they do not.

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use layersift_source::registry::{Host, Reference};
use serde::{Deserialize, Deserializer};

/// Registries, or parts of them, by pattern.
#[derive(Clone, Debug, Default)]
pub struct AllowList {
    patterns: Vec<String>,
    globs: GlobSet,
}

/// A pattern that can match no image.
#[derive(Debug, thiserror::Error)]
#[error("invalid pattern `{pattern}`: {reason}; expected HOST, HOST/PATH or a glob such as HOST/team/*")]
pub struct InvalidPattern {
    pattern: String,
    reason: String,
}

impl AllowList {
    /// Makes a list of patterns. A host alone stands for all of its repositories; `*` matches any characters.
    ///
    /// # Errors
    /// For a pattern that is not a glob, or whose host is not one.
    pub fn new<T: AsRef<str>>(patterns: &[T]) -> Result<AllowList, InvalidPattern> {
        let mut globs = GlobSetBuilder::new();
        for pattern in patterns {
            let pattern = pattern.as_ref();
            let invalid = |reason: String| InvalidPattern { pattern: pattern.into(), reason };
            let (host, path) = pattern.split_once('/').unwrap_or((pattern, ""));
            // A list is written by hand: the usual names of one host are one.
            let host = match host.contains(['*', '?', '[', '{']) {
                true if host.starts_with('[') => host.to_ascii_lowercase().replace('[', "[[]"),
                true => host.to_ascii_lowercase(),
                false => host.parse::<Host>().map_err(|error| invalid(error.to_string()))?.name().to_string(),
            };
            let whole = if path.is_empty() { format!("{host}/*") } else { format!("{host}/{path}") };
            let glob = GlobBuilder::new(&whole).literal_separator(false).build();
            globs.add(glob.map_err(|error| invalid(error.kind().to_string()))?);
        }
        let globs = globs.build().map_err(|error| InvalidPattern {
            pattern: patterns.iter().map(|pattern| pattern.as_ref()).collect::<Vec<_>>().join(" "),
            reason: error.kind().to_string(),
        })?;
        Ok(AllowList { patterns: patterns.iter().map(|pattern| pattern.as_ref().to_string()).collect(), globs })
    }

    /// Whether the service may pull an image.
    pub fn admits(&self, reference: &Reference) -> bool {
        self.globs.is_match(format!("{}/{}", reference.host, reference.repository))
    }

    /// Whether it admits nothing.
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }
}

impl<'de> Deserialize<'de> for AllowList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<AllowList, D::Error> {
        AllowList::new(&Vec::<String>::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_listed_is_admitted() {
        let list = AllowList::new(&["Registry.Example", "docker.io/library/*", "[::1]:5000", "*.corp.example/team/*"]);
        let list = list.unwrap();
        let admits = |text: &str| list.admits(&text.parse().unwrap());
        for image in
            ["registry.example/app", "registry.example/a/b:1", "nginx", "[::1]:5000/x", "a.corp.example/team/x"]
        {
            assert!(admits(image), "{image}");
        }
        for image in [
            "registry.example:5000/app",
            "evil/nginx",
            "[::1]:5001/x",
            "a.corp.example/other/x",
            "x.registry.example/a",
        ] {
            assert!(!admits(image), "{image}");
        }
        assert!(!AllowList::default().admits(&"nginx".parse().unwrap()), "nothing without a list");
        assert!(AllowList::new(&["a b/c"]).is_err() && AllowList::new(&["registry.example/["]).is_err());
    }
}
