//! Scanning: from the bytes of layers to the report of an image.

pub mod assemble;
pub mod confirm;
pub mod content;
pub mod disguise;
pub mod engine;
pub mod layer;
mod observe;
mod scan;

pub use observe::*;
pub use scan::*;
