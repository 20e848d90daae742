//! Container image formats: tar framing, compressed streams, OCI and Docker documents, and [`ImageSource`], the trait
//! that every transport implements.

mod blob;
pub mod build;
mod cancellation;
pub mod compression;
pub mod config;
pub mod dockerfile;
mod endless;
mod heap;
pub mod history;
mod holes;
mod image_source;
pub mod json;
pub mod manifest;
mod map;
pub mod pax;
pub mod platform;
pub mod provenance;
#[cfg(test)]
mod recorded;
mod small_file;
mod source_error;
pub mod symlinks;
pub mod tar;

pub use blob::Blob;
pub use cancellation::{CancelReason, Cancellation, unread_reason};
pub use endless::{EndlessInput, is_endless, open_file_with_end};
pub use heap::{copy_in_large_pages, release_free_memory, return_large_memory};
pub use holes::{Extents, HoleLimit};
pub use image_source::*;
pub use map::*;
pub use small_file::{read_at_most, read_small, read_small_text};
pub use source_error::{ArchiveError, DocumentError, SourceError, TransportError, TransportFailure};
