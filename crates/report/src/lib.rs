//! Policies and renderers: judges image reports, and writes them in the formats that people and programs read.
//!
//! Everything here reads [`layersift_model::ImageReport`] alone: no image, no store, no network. A renderer is a file
//! with a function that writes to an [`std::io::Write`], and a line in [`FORMATS`].
//!
//! ```
//! use layersift_model::{ImageReport, Severity, Verdict};
//! use layersift_report::{Policy, RenderOptions, format};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // A scan made this one, or `ImageReport` was read from JSON.
//! let mut report = ImageReport { target: "app.tar".into(), ..ImageReport::default() };
//!
//! Policy::failing_on(Some(Severity::High)).judge(&mut report);
//! assert_eq!(report.verdict(), Verdict::Pass);
//!
//! let mut text = Vec::new();
//! let render = format("text").ok_or("no such format")?.render;
//! render(&[report], &RenderOptions { width: 80, ..RenderOptions::default() }, &mut text)?;
//! assert!(text.starts_with(b"\x1b[1m\x1b[32mPASS"), "the caller strips the colours where there is no terminal");
//! # Ok(())
//! # }
//! ```

mod assets;
mod bodyfile;
mod bom;
mod built;
pub mod compare;
mod cyclonedx;
mod each;
mod exchange;
mod format;
mod gitlab;
mod grouped;
mod html;
mod json;
mod junit;
pub mod layers;
mod markdown;
mod markup;
pub mod picture;
mod policy;
mod sarif;
pub mod sbom;
pub mod sweep;
pub mod terminal;
mod text;
mod timesketch;
pub mod trace;

pub use bom::SpecVersion;
pub use format::{FORMATS, Format, Render, RenderOptions, format};
pub use policy::{Allow, AllowList, Baseline, FailOn, Policy, PolicyError};
pub use terminal::{clean, human, plural};
