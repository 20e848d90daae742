//! Sweeps over catalogs of images, and the workers that read their layers.

mod sweep;

pub use sweep::*;
