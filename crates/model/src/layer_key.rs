//! The key that results of layers and images are cached under.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The cache key of layer reports and image reports: it stands for everything that a report depends on besides the
/// image, which is the revision of the reader, the rules, the limits and the fingerprint key. A stored report is valid
/// only under the key that it was made with. An opaque text of at most 512 bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LayerKey(String);

impl LayerKey {
    /// The key with the text `text`.
    pub fn new(text: impl Into<String>) -> LayerKey {
        LayerKey(text.into())
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for LayerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
