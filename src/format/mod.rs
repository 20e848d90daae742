//! File formats below images: tar framing and compressed streams.
//!
//! Both an archive that holds an image and a layer in it are tars, compressed or not, so these stand below every
//! stage. Nothing here knows of images or layers.

pub mod compression;
pub mod pax;
pub mod tar;
