//! Why a target cannot be read: the errors of all transports, as callers see them.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::PathBuf;

use layersift_model::InvalidDigest;

use crate::cancellation::CancelReason;
use crate::tar::TarError;

/// What a network transport says of a request that failed.
pub trait TransportError: Error + Send + Sync + 'static {
    /// Whether the same request may succeed later: the server is out of reach or overloaded, or the request was
    /// cancelled.
    fn is_temporary(&self) -> bool;
}

/// The error of a network transport, whichever it was.
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

    /// The error itself, if it is of the type `T`.
    pub fn downcast<T: TransportError>(self) -> Option<T> {
        let error: Box<dyn Error> = self.0;
        error.downcast().ok().map(|error| *error)
    }

    /// A reference to the error itself, if it is of the type `T`.
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

/// Why a target cannot be read. The message has the reasons in it, so that it can be shown alone.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// A registry or a daemon failed.
    #[error(transparent)]
    Transport(#[from] TransportFailure),
    /// A file cannot be opened or read.
    #[error("{path}: {error}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        error: io::Error,
    },
    /// A file is neither an image nor a tar archive.
    #[error("{path}: {what}; expected a `docker save` tar, an OCI layout or archive, or a root file system")]
    NotAnImage {
        /// The file.
        path: PathBuf,
        /// What it is instead.
        what: String,
    },
    /// An archive is damaged, or too large to be an image.
    #[error("{path}: at byte {at}: {error}")]
    Archive {
        /// The file.
        path: PathBuf,
        /// The offset of the tar header, in bytes from the start of the uncompressed archive.
        at: u64,
        /// What is wrong there.
        #[source]
        error: ArchiveError,
    },
    /// A listing (`manifest.json`, `index.json`) cannot be read.
    #[error("{document}: {error}")]
    Document {
        /// The path of the document inside the target.
        document: String,
        /// What is wrong with it.
        #[source]
        error: DocumentError,
    },
    /// A link in an archive leads to itself.
    #[error("{0}: the link leads in a circle")]
    LinkCycle(String),
    /// A directory that is not the store of an engine, nor a disk with one.
    #[error("{path}: no store of {engine} there, nor in {place} below it")]
    NotAStore {
        /// The directory.
        path: PathBuf,
        /// The name of the engine.
        engine: &'static str,
        /// Where the engine keeps its store on a disk.
        place: &'static str,
    },
    /// A store without images.
    #[error("{0}: the store has no images; --all reads what else is there")]
    NoImages(PathBuf),
    /// A store with several images, of which the target names none.
    #[error("the store has several images; add :NAME to the target, or read everything with --all; it has {known}")]
    SeveralImages {
        /// The names of the images, separated by commas.
        known: String,
    },
    /// A reference that the target does not have.
    #[error("no image named `{wanted}` in the target; it has {known}")]
    NoSuchReference {
        /// The reference that was asked for.
        wanted: String,
        /// The references that it has, separated by commas.
        known: String,
    },
}

/// Why an archive cannot be read as an image.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// A damaged header.
    #[error("{0}")]
    Tar(#[from] TarError),
    /// More entries than an image has, or longer names.
    #[error("more than {0} entries, or names that are too long; this is not an image")]
    TooManyEntries(usize),
}

/// Why a document inside a target cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// The target does not have it, and thus is not of the kind that has.
    #[error("not found; expected {expected}")]
    Missing {
        /// What a target that has the document would be.
        expected: &'static str,
    },
    /// It looked like a layer, and was handed out while the stream was read.
    #[error("it was read as a layer while the stream passed")]
    ReadAsLayer,
    /// It is larger than the limit, in bytes.
    #[error("the document is larger than {0} bytes")]
    TooLarge(u64),
    /// It cannot be read.
    #[error("{0}")]
    Read(#[from] io::Error),
    /// It is not the JSON it should be.
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    /// It lists nothing, or more than the limit.
    #[error("it lists {count} {what}; expected 1 to {most}")]
    Count {
        /// What is listed: `images` or `manifests`.
        what: &'static str,
        /// How many.
        count: usize,
        /// The limit.
        most: usize,
    },
    /// It names a digest that is not one.
    #[error("{0}")]
    Digest(#[from] InvalidDigest),
}

impl SourceError {
    /// Whether another attempt may succeed: a server is out of reach or overloaded, or the operation was cancelled.
    pub fn is_temporary(&self) -> bool {
        match self {
            SourceError::Transport(failure) => failure.is_temporary(),
            SourceError::Read { .. } | SourceError::Document { .. } => CancelReason::of(self).is_some(),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cancelled_read_is_temporary_and_a_failed_one_is_not() {
        let read = |error| SourceError::Read { path: "image.tar".into(), error };
        assert!(read(CancelReason::Cancelled.into()).is_temporary());
        assert!(!read(io::ErrorKind::NotFound.into()).is_temporary());
        let document = SourceError::Document {
            document: "index.json".into(),
            error: DocumentError::Read(CancelReason::DeadlineExceeded.into()),
        };
        assert!(document.is_temporary());
    }
}
