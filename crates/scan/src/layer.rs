//! Layers: from the bytes of a blob to entries, whiteouts and windows of files, verified on the way.

pub mod background_hasher;
pub mod buffer;
pub mod read;
pub mod walk;
pub mod whiteout;
