//! The data model of Layersift: digests, paths, findings, gaps, and the reports of layers and images.
//!
//! This crate does no I/O. The crates that produce reports and those that consume them both depend on it, and not on
//! each other.

mod ai_mark;
mod build;
pub mod calendar;
mod characters;
mod checksums;
mod digest;
mod finding;
mod footprint;
mod gap;
mod image_report;
mod inventory;
mod inventory_texts;
pub mod json_output;
mod key_bytes;
mod layer_key;
mod layer_report;
mod limits;
pub mod mask;
pub mod parse;
mod path;
mod percent;
mod purl;
mod quoted;
mod ranked;
mod report_json;
mod report_texts;
mod rule_info;
mod secret;
mod sweep_report;
mod trace;
mod verdict;
mod window_hash;

pub use ai_mark::*;
pub use build::*;
pub use characters::*;
pub use checksums::*;
pub use digest::*;
pub use finding::*;
pub use footprint::*;
pub use gap::*;
pub use image_report::*;
pub use inventory::*;
pub use key_bytes::*;
pub use layer_key::*;
pub use layer_report::*;
pub use limits::*;
pub use parse::ParseError;
pub use path::*;
pub use percent::*;
pub use quoted::*;
pub use ranked::*;
pub use report_json::*;
pub use rule_info::*;
pub use secret::*;
pub use sweep_report::*;
pub use trace::*;
pub use verdict::*;
pub use window_hash::*;
