//! Why an image cannot be scrubbed.

use std::io;
use std::path::PathBuf;

use layersift_format::SourceError;
use layersift_format::tar::EntriesError;
use layersift_scan::RulesetError;

/// Why an image cannot be scrubbed.
#[derive(Debug, thiserror::Error)]
pub enum ScrubError {
    /// No finding has this id.
    #[error("no finding has the id {id}; the ids are those of `layersift scan`")]
    NoSuchFinding {
        /// The id.
        id: String,
    },
    /// A finding is neither a secret nor a file.
    #[error("finding {id} is {what}, which scrub cannot remove")]
    NotRemovable {
        /// The id.
        id: String,
        /// What it is.
        what: &'static str,
    },
    /// No layer has a file at the path.
    #[error("{path}: {why}")]
    NoFile {
        /// The path.
        path: String,
        /// What there is instead.
        why: String,
    },
    /// A place that cannot be done, so that nothing is.
    #[error("{place}: {why}; nothing was written")]
    Place {
        /// The place.
        place: String,
        /// Why, and what to do instead.
        why: String,
    },
    /// What had to go is in places that cannot be done, so that nothing is.
    #[error("the value is still in the new image: {}; nothing was written", places.join("; "))]
    Remains {
        /// The places.
        places: Vec<String>,
        /// The files among them, which can be removed.
        paths: Vec<String>,
    },
    /// It was told to stop.
    #[error("stopped before the image was complete; nothing was written")]
    Stopped,
    /// The target is not one image with layers.
    #[error("{target}: {why}")]
    Target {
        /// What was read.
        target: String,
        /// Why it cannot be scrubbed.
        why: String,
    },
    /// A document is missing, damaged or not the one that its digest names.
    #[error("{document}: {why}")]
    Document {
        /// The document.
        document: String,
        /// What is wrong with it.
        why: String,
    },
    /// The image cannot be read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A layer cannot be read.
    #[error("layer {layer} cannot be read")]
    Layer {
        /// Its digest.
        layer: String,
        /// What is wrong with its archive.
        #[source]
        source: EntriesError,
    },
    /// The bytes of a layer cannot be read or written.
    #[error("layer {layer} cannot be read")]
    Blob {
        /// Its digest.
        layer: String,
        /// The error.
        #[source]
        source: io::Error,
    },
    /// The values cannot be looked for.
    #[error("the values that have to go cannot be looked for")]
    Values(#[source] RulesetError),
    /// There is something at the place of the result.
    #[error("{} exists already, and nothing is written over: name another place for the image", path.display())]
    Exists {
        /// The place.
        path: PathBuf,
    },
    /// A file cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The error of the file system.
        #[source]
        source: io::Error,
    },
}

impl From<RulesetError> for ScrubError {
    fn from(error: RulesetError) -> ScrubError {
        match error {
            RulesetError::Cancelled(_) => ScrubError::Stopped,
            error => ScrubError::Values(error),
        }
    }
}

impl ScrubError {
    /// The error for a place that cannot be done.
    pub(crate) fn place(place: impl Into<String>, why: impl Into<String>) -> ScrubError {
        ScrubError::Place { place: place.into(), why: why.into() }
    }

    /// The error for a file that cannot be written.
    pub(crate) fn write(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> ScrubError {
        let path = path.into();
        move |source| match source.kind() {
            io::ErrorKind::AlreadyExists => ScrubError::Exists { path },
            _ => ScrubError::Write { path, source },
        }
    }
}
