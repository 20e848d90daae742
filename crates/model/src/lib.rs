//! What Layersift reports, as plain data: digests, paths, findings, gaps, the report of a layer and that of an image.
//!
//! Nothing here reads a file or opens a connection. Everything that makes a report depends on this crate, and so does
//! everything that reads one; the two never meet otherwise.

pub mod calendar;
mod checksums;
mod digest;
mod finding;
mod gap;
mod image_report;
mod layer_key;
mod layer_report;
mod limits;
mod path;
mod report_json;
mod rule_info;
mod secret;
mod sweep_report;
mod trace;
mod verdict;

pub use checksums::*;
pub use digest::*;
pub use finding::*;
pub use gap::*;
pub use image_report::*;
pub use layer_key::*;
pub use layer_report::*;
pub use limits::*;
pub use path::*;
pub use report_json::*;
pub use rule_info::*;
pub use secret::*;
pub use sweep_report::*;
pub use trace::*;
pub use verdict::*;
