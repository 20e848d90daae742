//! Policies and renderers: judges image reports, and writes them in the forms that people and programs read.
//!
//! Everything here reads [`layersift_model::ImageReport`] alone: no image, no store, no network. A renderer is one file
//! with a function that writes to an [`std::io::Write`], and one line in [`FORMATS`].

mod exceptions;
mod format;
mod json;
pub mod layers;
pub mod policy;
mod text;
mod text_parts;

pub use format::{FORMATS, Format, Render, RenderOptions};
pub use policy::{FailOn, Policy, PolicyError};
pub use text_parts::{clean, human, plural};
