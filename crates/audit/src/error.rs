//! What stops the log.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::note::NoteError;
use crate::sink::SinkError;
use crate::verify::Problem;

/// Why the log cannot be written, read or shipped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuditError {
    /// The file system refused.
    #[error("cannot {what} {}", path.display())]
    Io {
        /// What was to be done: `open`, `write`, …
        what: &'static str,
        /// To which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Another process writes this log.
    #[error("another process writes the audit log {}; each instance needs a directory of its own", directory.display())]
    Locked {
        /// The directory of the log.
        directory: PathBuf,
    },
    /// There is no log.
    #[error("there is no audit log in {}", directory.display())]
    Absent {
        /// The directory.
        directory: PathBuf,
    },
    /// A key that cannot be used.
    #[error("the key {subject} of the audit log is of no use")]
    Key {
        /// The path of the key, or what else is known of it.
        subject: String,
        /// What is wrong with it.
        #[source]
        source: NoteError,
    },
    /// A key for another origin.
    #[error("the key of the audit log is for `{found}`, and its origin is `{origin}`")]
    Origin {
        /// The name of the key.
        found: String,
        /// The origin in the options.
        origin: String,
    },
    /// The log on disk is not what was written.
    #[error("the audit log {} was changed: {problem}", directory.display())]
    Changed {
        /// The directory of the log.
        directory: PathBuf,
        /// What is wrong, the first of it.
        problem: Box<Problem>,
    },
    /// A file that the log keeps its state in is not of the form that it has.
    #[error("{} is damaged at byte {offset}: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where in it.
        offset: u64,
        /// What is wrong.
        reason: String,
    },
    /// A checkpoint that was given to compare with is of no use.
    #[error("{subject} is of no use as a checkpoint of this log")]
    Anchor {
        /// What it is called.
        subject: String,
        /// What is wrong with it.
        #[source]
        source: NoteError,
    },
    /// A text that had to be JSON.
    #[error("cannot write or read {subject} as JSON")]
    Json {
        /// What it is.
        subject: String,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// The entry, and those that were to be written with it, are not in the log.
    #[error("the entry was not written to the audit log")]
    NotWritten {
        /// Why, the same for all entries of a group.
        #[source]
        source: Arc<AuditError>,
    },
    /// No checkpoint was written. The entries are on disk all the same.
    #[error("cannot write a checkpoint of the audit log")]
    NoCheckpoint {
        /// Why.
        #[source]
        source: Arc<AuditError>,
    },
    /// The system could not say whether earlier entries are on disk. After that, nothing can be said of later ones.
    #[error("the audit log {} has to be opened again: writing to disk has failed before", directory.display())]
    Stopped {
        /// The directory of the log.
        directory: PathBuf,
    },
    /// The log was closed.
    #[error("the audit log {} is closed", directory.display())]
    Closed {
        /// The directory of the log.
        directory: PathBuf,
    },
    /// A copy could not be made.
    #[error("cannot ship {name} of the audit log")]
    Ship {
        /// The object.
        name: String,
        /// Why not.
        #[source]
        source: SinkError,
    },
}

impl AuditError {
    /// Wraps an error of the file system.
    pub(crate) fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> AuditError {
        let path = path.to_path_buf();
        move |source| AuditError::Io { what, path, source }
    }

    pub(crate) fn damaged(path: &Path, offset: u64, reason: impl Into<String>) -> AuditError {
        AuditError::Damaged { path: path.into(), offset, reason: reason.into() }
    }
}
