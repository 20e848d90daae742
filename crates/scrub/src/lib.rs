//! Rewrites an image without a file, or with a secret blanked.
//!
//! [`Request`] says what has to go, from the reports of a scan. [`scrub`] reads the image, decides for every place
//! whether it can be done, and writes the new image to a [`Staging`], which is an OCI layout. Where one place cannot be
//! done, nothing is written. The caller scans the staged image before it publishes it with [`write_oci_layout`],
//! [`write_oci_archive`], [`write_docker_archive`], or by pushing its blobs.
//!
//! Only the layers that hold a place, the configuration, the manifest and the indexes change. Every other blob is the
//! same, byte for byte, and so is every other entry of a layer that changes.

mod changes;
mod documents;
mod edit;
mod error;
mod filler;
mod graph;
mod held;
mod needles;
mod pack;
mod plan;
mod recompress;
mod request;
mod rewrite;
mod search;
mod staging;
mod survey;
mod whiteout;

pub use changes::{Action, Changes, Dropped, Held, HeldKind, LayerChange, Place, Replaced};
pub use error::ScrubError;
pub use pack::{write_docker_archive, write_oci_archive, write_oci_layout};
pub use request::{Request, WantedSecret};
pub use rewrite::{Scrubbed, scrub};
pub use staging::Staging;
