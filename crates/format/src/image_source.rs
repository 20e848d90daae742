//! Image sources: the trait that every transport implements. A source lists what it has and opens blobs; it knows
//! nothing of what is inside them.

use std::error::Error;
use std::fmt;
use std::io::Read;
use std::path::PathBuf;

use layersift_model::{Digest, Gap};

use crate::blob::Blob;

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

/// What is done with a layer that passes by: it is given the name that it has in the stream, and its bytes.
pub type OnLayer<'l> = dyn FnMut(&Location, Box<dyn Read + Send + '_>) + 'l;

/// An image that passes by once, such as on standard input.
pub trait StreamedImage: Send {
    /// Reads the stream to its end, gives layers to `on_layer`, and returns what was listed.
    ///
    /// # Errors
    /// When the stream breaks off, is damaged, or is no archive.
    fn read(self: Box<Self>, on_layer: &mut OnLayer<'_>) -> Result<Box<dyn ImageSource>, SourceError>;
}

/// An opened target.
pub enum Opened {
    /// Its blobs can be opened in any order.
    Source(Box<dyn ImageSource>),
    /// It passes by once.
    Stream(Box<dyn StreamedImage>),
}

/// What a network transport says of a request that failed.
pub trait TransportError: Error + Send + Sync + 'static {
    /// Whether the same request may succeed later: the other side is out of reach or overloaded.
    fn is_temporary(&self) -> bool;
}

/// The error of whichever network transport failed.
#[derive(Debug)]
pub struct TransportFailure(Box<dyn TransportError>);

impl TransportFailure {
    /// Wraps the error of a transport.
    pub fn new(error: impl TransportError) -> TransportFailure {
        TransportFailure(Box::new(error))
    }

    /// Whether the same request may succeed later.
    pub fn is_temporary(&self) -> bool {
        self.0.is_temporary()
    }

    /// The error itself, where it is of the type `T`.
    pub fn downcast_ref<T: TransportError>(&self) -> Option<&T> {
        let error: &(dyn Error + 'static) = &*self.0;
        error.downcast_ref()
    }
}

impl fmt::Display for TransportFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Error for TransportFailure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()
    }
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

    /// How many blobs may be read at once by threads that mostly wait, as for a network. `None` for a source whose
    /// blobs are read as fast as they are processed.
    fn concurrent_reads(&self) -> Option<usize> {
        None
    }

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
    /// A registry or a daemon that does not give what was asked for.
    #[error(transparent)]
    Transport(#[from] TransportFailure),
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
