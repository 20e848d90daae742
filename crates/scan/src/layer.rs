//! Layers: from the bytes of a blob to entries, whiteouts and windows of files, verified on the way.

pub mod buffer;
pub mod read;
pub mod trail;
pub mod walk;
pub mod whiteout;
