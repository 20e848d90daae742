//! Images with their configurations read.

use std::ops::Deref;

use super::Image;
use crate::config::ImageConfig;

/// An image whose configuration is read, as long as it is looked at.
pub struct UnpackedImage<'i> {
    image: &'i Image,
    /// Its configuration; empty for an image that has none.
    pub config: ImageConfig,
}

impl Image {
    /// The image, with its configuration read.
    pub fn unpack(&self) -> UnpackedImage<'_> {
        UnpackedImage { image: self, config: self.config.read() }
    }
}

/// Everything but the configuration is that of the image.
impl Deref for UnpackedImage<'_> {
    type Target = Image;

    fn deref(&self) -> &Image {
        self.image
    }
}
