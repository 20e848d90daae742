//! Reads layers: turns the bytes of a blob into entries, whiteouts and windows of files, and computes the digests.

pub mod background_hasher;
pub mod buffer;
pub mod read;
pub mod walk;
pub mod whiteout;
