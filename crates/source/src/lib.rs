//! Sources: transports that hold images. A source lists what it has and opens blobs; it knows nothing of what is
//! inside them.
//!
//! A new transport is one file that implements [`ImageSource`] and one line in [`target::TRANSPORTS`].

pub mod catalog;
mod daemon;
mod directory_tar;
mod docker_archive;
mod oci_layout;
mod open;
pub mod registry;
mod rootfs;
mod skopeo_dir;
mod stream;
pub mod target;
mod tree;

use layersift_format::{Fetched, ImageSource, Listed, Location, SourceError};

pub use daemon::DaemonError;
pub use open::open;
pub use target::Target;
