//! Layersift reads container images the way an investigator does: every layer, every byte, nothing skipped in silence.
//!
//! Scanning a layer is a pure function of its bytes and the rules ([`layer_report::LayerReport`]); an image is a cheap
//! join over its layers ([`assemble`]). [`scan::Scanner`] is the way in; `ARCHITECTURE.md` is the map.

#![warn(missing_docs)]

pub mod assemble;
pub mod blob;
pub mod calendar;
pub mod catalog;
pub mod cli;
pub mod confirm;
pub mod content;
pub mod digest;
pub mod disguise;
pub mod engine;
pub mod finding;
pub mod format;
pub mod gap;
pub mod image;
pub mod image_report;
pub mod layer;
pub mod layer_report;
pub mod limits;
pub mod map;
pub mod observe;
pub mod path;
pub mod policy;
pub mod report;
pub mod rule;
pub mod ruleset;
pub mod scan;
pub mod secret;
pub mod shipped;
pub mod source;
pub mod store;
pub mod sweep;
