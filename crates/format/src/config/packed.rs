//! Configurations as they are kept: images wait for their layers, and what is read of a configuration takes a
//! multiple of its bytes.

use std::sync::Arc;

use super::ImageConfig;
use crate::json;

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
    /// As for [`ImageConfig::parse`].
    pub fn parse(bytes: Vec<u8>) -> Result<(PackedConfig, ImageConfig), serde_json::Error> {
        let config = ImageConfig::parse(&bytes)?;
        Ok((PackedConfig(Content::Document(bytes.into())), config))
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
