//! Configurations as they are kept: images wait for their layers, and what is read of a configuration takes a
//! multiple of its bytes.

use std::sync::Arc;

use super::ImageConfig;
use crate::json::{self, Node};

/// The most values of a configuration. Those of images that people build have a few hundred. Each is searched alone,
/// with all rules, and takes a multiple of its bytes in memory.
pub const MAX_VALUES: usize = 50_000;

/// Why the configuration of an image cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It is not a configuration.
    #[error(transparent)]
    Damaged(#[from] serde_json::Error),
    /// It has too many values.
    #[error("the configuration has more than {MAX_VALUES} values")]
    TooManyValues,
}

/// The configuration of an image that waits for its layers.
#[derive(Clone, Debug, Default)]
pub struct PackedConfig(Content);

#[derive(Clone, Debug, Default)]
enum Content {
    #[default]
    None,
    /// A document that was read before without an error.
    Document(Arc<[u8]>),
    /// What no document says, such as the names of the layers of a container.
    Made(Arc<ImageConfig>),
}

impl PackedConfig {
    /// Parses a configuration document, and keeps its bytes.
    ///
    /// # Errors
    /// [`ConfigError::Damaged`] as for [`ImageConfig::parse`], and [`ConfigError::TooManyValues`].
    pub fn parse(bytes: &Arc<[u8]>) -> Result<(PackedConfig, ImageConfig), ConfigError> {
        let node = Node::parse_within(bytes, MAX_VALUES)?.ok_or(ConfigError::TooManyValues)?;
        let config = ImageConfig::of(&node)?;
        Ok((PackedConfig(Content::Document(Arc::clone(bytes))), config))
    }

    /// Reads the configuration. It is empty for an image that has none.
    pub fn read(&self) -> ImageConfig {
        match &self.0 {
            Content::None => ImageConfig::default(),
            // These bytes were read before.
            Content::Document(bytes) => ImageConfig::parse(bytes).unwrap_or_default(),
            Content::Made(config) => ImageConfig::clone(config),
        }
    }

    /// The bytes of the document.
    pub fn bytes(&self) -> u64 {
        if let Content::Document(bytes) = &self.0 { bytes.len() as u64 } else { 0 }
    }

    /// The bytes of memory that reading it takes at most.
    pub fn memory(&self) -> u64 {
        if let Content::Document(bytes) = &self.0 { json::memory_of(bytes) } else { 0 }
    }
}

impl From<ImageConfig> for PackedConfig {
    fn from(config: ImageConfig) -> PackedConfig {
        PackedConfig(Content::Made(Arc::new(config)))
    }
}
