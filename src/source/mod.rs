//! Sources: transports that hold images. A source lists what it has and opens blobs; it knows nothing of what is
//! inside them.
//!
//! A new transport is one file that implements [`ImageSource`] and one line in [`target::TRANSPORTS`].

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

use std::path::PathBuf;

use crate::blob::Blob;
use crate::digest::Digest;
use crate::gap::Gap;

pub use daemon::DaemonError;
pub use open::{Opened, open};
pub use stream::ImageStream;
pub use target::Target;

/// Where a source has a blob: a path in a directory, an archive or a registry.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Location(pub String);

/// What a source has of one image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listed {
    /// A manifest or an index.
    Manifest {
        /// The name it goes by.
        reference: Option<String>,
        /// Where it is.
        location: Location,
        /// The digest it must have, where the source names one.
        digest: Option<Digest>,
    },
    /// An entry of a Docker archive's `manifest.json`.
    DockerArchive {
        /// The name it goes by.
        reference: Option<String>,
        /// Where its configuration is.
        config: Location,
        /// Where its layers are, base first.
        layers: Vec<Location>,
    },
    /// A root file system, without configuration.
    RootFs {
        /// Where its only layer is.
        layer: Location,
    },
}

/// What became of opening a blob.
pub enum Fetched<'a> {
    /// Here it is.
    Blob(Blob<'a>),
    /// The source does not have it.
    Missing,
    /// It passed by while the stream was read, under this name.
    Passed(Location),
}

/// A transport that holds images.
pub trait ImageSource: Send + Sync {
    /// The images that the target names.
    ///
    /// # Errors
    /// When the target holds none, or its listing is damaged.
    fn list(&self) -> Result<Vec<Listed>, SourceError>;

    /// Where the blob called `digest` would be.
    fn locate(&self, digest: &Digest) -> Location;

    /// Where the manifest or index called `digest` would be. Registries hold manifests apart from other blobs.
    fn locate_manifest(&self, digest: &Digest) -> Location {
        self.locate(digest)
    }

    /// Opens a blob.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    fn open(&self, location: &Location) -> Result<Fetched<'_>, SourceError>;

    /// Whether that this is a root file system is only a guess, because nothing named it.
    fn is_guess(&self) -> bool {
        false
    }

    /// What of the blobs read so far could not be read, beyond what reading itself reports.
    fn gaps(&self) -> Vec<Gap> {
        Vec::new()
    }
}

/// Why a target cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The target's name is of no known form.
    #[error("{0}")]
    Target(#[from] target::TargetError),
    /// A registry that does not give what was asked for.
    #[error(transparent)]
    Registry(#[from] registry::RegistryError),
    /// A daemon that does not give an image.
    #[error(transparent)]
    Daemon(#[from] DaemonError),
    /// A file that cannot be opened or read.
    #[error("{path}: {error}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        error: std::io::Error,
    },
    /// A file that is neither an image nor a tar archive.
    #[error("{path}: {what}; expected a `docker save` tar, an OCI layout or archive, or a root file system")]
    NotAnImage {
        /// The file.
        path: PathBuf,
        /// What it is instead.
        what: String,
    },
    /// An archive that cannot be read as one.
    #[error("{path}: at byte {at}: {reason}")]
    Archive {
        /// The file.
        path: PathBuf,
        /// Where.
        at: u64,
        /// Why.
        reason: String,
    },
    /// A listing (`manifest.json`, `index.json`) that cannot be read.
    #[error("{document}: {reason}")]
    Document {
        /// The document inside the target.
        document: String,
        /// Why.
        reason: String,
    },
    /// A link in an archive that leads to itself.
    #[error("{0}: the link leads in a circle")]
    LinkCycle(String),
    /// A reference that the target does not have.
    #[error("there is no image `{wanted}` in the target; it has {known}")]
    NoSuchReference {
        /// What was asked for.
        wanted: String,
        /// What there is.
        known: String,
    },
}
