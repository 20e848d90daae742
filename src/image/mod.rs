//! Images: manifests, configurations, history and platforms, read from the bytes that a source holds.

pub mod config;
pub mod history;
pub mod manifest;
pub mod platform;
