//! Errors of the store. They name the store, and never its password.

use std::path::PathBuf;
use std::{fmt, io};

use layersift_model::InvalidDigest;

/// The most characters that are said of what is wrong.
const LONGEST: usize = 500;

/// Why a call to the store failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The text that names a store is neither a path nor a usable PostgreSQL URL.
    #[error("invalid store `{store}`: {reason}; expected a path, or postgres://user@host/database")]
    Location {
        /// The text, without a password.
        store: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The store cannot be opened or created.
    #[error("cannot open the store {store}")]
    Open {
        /// The path or the URL, without a password.
        store: String,
        /// What the operating system or the database answered.
        #[source]
        source: DatabaseError,
    },
    /// There is no store of this name, and none was to be created.
    #[error("there is no store {store}; name the one that a sweep filled, or `scan --store`")]
    Missing {
        /// The path or the URL, without a password.
        store: String,
    },
    /// Somebody else can write to the file of the store, or to its directory.
    #[error("the store {store} is not used, because others decide what is in it: {}: {reason}", place.display())]
    Untrusted {
        /// The path.
        store: String,
        /// What others can write to.
        place: PathBuf,
        /// Who, or why it cannot be told.
        reason: String,
    },
    /// The store was written by a newer version of Layersift.
    #[error(
        "the store {store} has schema version {found}, and this version of layersift supports versions up to {known}; \
         use the newer layersift that wrote it, or another store"
    )]
    Newer {
        /// The path or the URL, without a password.
        store: String,
        /// The version that the store has.
        found: i64,
        /// The newest version that this program supports.
        known: i64,
    },
    /// The database refused a statement, or the connection was lost.
    #[error("cannot read or write the store {store}")]
    Database {
        /// The path or the URL, without a password.
        store: String,
        /// What the database answered.
        #[source]
        source: DatabaseError,
    },
    /// The store has a row that no version of Layersift writes.
    #[error("the store {store} is damaged: it has {what}; restore it from a backup, or use another store")]
    Damaged {
        /// The path or the URL, without a password.
        store: String,
        /// What is wrong.
        what: String,
    },
    /// What was given cannot be stored.
    #[error("cannot store {what}: {reason}")]
    Invalid {
        /// What was given.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The store does not have this run.
    #[error("{what} is not in the store")]
    Unknown {
        /// What was asked for.
        what: String,
    },
}

/// What the database, or the operating system under it, answered.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// The file of a SQLite store cannot be created.
    #[error("unable to create the file")]
    Create(#[source] io::Error),
    /// The directory of the default store cannot be created.
    #[error("unable to create the directory {}", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// SQLite failed.
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    /// PostgreSQL refused a statement, or cannot be reached.
    #[error("{message}{}", code.as_ref().map(|code| format!(" (SQLSTATE {code})")).unwrap_or_default())]
    Postgres {
        /// What the server or the client answered.
        message: String,
        /// The SQLSTATE code, where the server answered (PostgreSQL, appendix A).
        code: Option<String>,
    },
    /// TLS cannot be set up.
    #[error("cannot set up TLS: {0}")]
    Tls(String),
    /// The file of trusted certificates cannot be used.
    #[error("sslrootcert={}: {reason}", path.display())]
    Certificates {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// A connection was lost and cannot be replaced.
    #[error("no connection")]
    NoConnection,
}

/// What went wrong in one statement, before the name of the store is known.
#[derive(Debug)]
pub(super) enum Fault {
    /// Another transaction was in the way; the same transaction may succeed when it is run again.
    Conflict(DatabaseError),
    /// The database has no memory left, which other transactions may give back; and what to say if they do not.
    Memory(String),
    /// The connection is gone.
    Lost(DatabaseError),
    /// The database refused.
    Database(DatabaseError),
    /// A row is not what it should be.
    Damaged(String),
    /// What the caller gave cannot be used.
    Refused(StoreError),
}

impl Fault {
    /// The fault as an error of the store called `store`.
    pub(super) fn at(self, store: &str) -> StoreError {
        let store = store.to_string();
        match self {
            Fault::Conflict(source) | Fault::Lost(source) | Fault::Database(source) => {
                StoreError::Database { store, source }
            }
            // It may quote what is in the store, which is of any length.
            Fault::Damaged(what) | Fault::Memory(what) => {
                StoreError::Damaged { store, what: what.chars().take(LONGEST).collect() }
            }
            Fault::Refused(error) => error,
        }
    }

    /// What the caller gave cannot be stored.
    pub(super) fn invalid(what: impl Into<String>, reason: impl Into<String>) -> Fault {
        Fault::Refused(StoreError::Invalid { what: what.into(), reason: reason.into() })
    }

    /// The caller named something that is not in the store.
    pub(super) fn unknown(what: impl Into<String>) -> Fault {
        Fault::Refused(StoreError::Unknown { what: what.into() })
    }

    /// A row that was just written is not there.
    pub(super) fn missing(what: &str) -> Fault {
        Fault::Damaged(format!("no row for {what} that was just stored"))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Conflict(error) | Fault::Lost(error) | Fault::Database(error) => error.fmt(f),
            Fault::Damaged(what) | Fault::Memory(what) => f.write_str(what),
            Fault::Refused(error) => error.fmt(f),
        }
    }
}

impl From<InvalidDigest> for Fault {
    fn from(error: InvalidDigest) -> Fault {
        Fault::Damaged(error.to_string())
    }
}
