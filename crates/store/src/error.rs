//! What can go wrong in the store, with the store's name in it and never a password.

use layersift_model::InvalidDigest;

/// Why the store could not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The text that names a store is neither a path nor a PostgreSQL URL that can be used.
    #[error("`{store}` names no store: {reason}; expected a path, or postgres://user@host/database")]
    Location {
        /// The text, without a password.
        store: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The store cannot be opened.
    #[error("cannot open the store {store}: {reason}")]
    Open {
        /// The path or the URL, without a password.
        store: String,
        /// What the operating system or the database said.
        reason: String,
    },
    /// The store was written by a newer version of Layersift.
    #[error(
        "the store {store} has schema version {found}, this program knows versions up to {known}: use the newer \
         layersift that wrote it, or another store"
    )]
    Newer {
        /// The path or the URL, without a password.
        store: String,
        /// The version that the store has.
        found: i64,
        /// The newest version that this program knows.
        known: i64,
    },
    /// The database refused a statement, or the connection to it broke.
    #[error("the store {store} failed: {reason}")]
    Database {
        /// The path or the URL, without a password.
        store: String,
        /// What the database said.
        reason: String,
    },
    /// What the store holds is not what this program writes.
    #[error("the store {store} holds {what}: it is damaged, or was changed by hand")]
    Damaged {
        /// The path or the URL, without a password.
        store: String,
        /// What is wrong.
        what: String,
    },
    /// What was to be stored cannot be stored.
    #[error("cannot store {what}: {reason}")]
    Invalid {
        /// What was given.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// An image, a run or a rule set that the store does not know.
    #[error("the store knows no {what}: record it first")]
    Unknown {
        /// What was asked for.
        what: String,
    },
}

/// What went wrong in one statement, before the name of the store is known.
#[derive(Debug)]
pub(super) enum Fault {
    /// Another transaction was in the way; the same transaction may succeed when it is run again.
    Conflict(String),
    /// The connection is gone.
    Lost(String),
    /// The database refused.
    Database(String),
    /// A row is not what it should be.
    Damaged(String),
    /// What the caller gave cannot be used.
    Refused(StoreError),
}

impl Fault {
    /// The fault as the caller of the store sees it.
    pub(super) fn at(self, store: &str) -> StoreError {
        let store = store.to_string();
        match self {
            Fault::Conflict(reason) | Fault::Lost(reason) | Fault::Database(reason) => {
                StoreError::Database { store, reason }
            }
            Fault::Damaged(what) => StoreError::Damaged { store, what },
            Fault::Refused(error) => error,
        }
    }

    /// What the caller gave cannot be stored.
    pub(super) fn invalid(what: impl Into<String>, reason: impl Into<String>) -> Fault {
        Fault::Refused(StoreError::Invalid { what: what.into(), reason: reason.into() })
    }

    /// The caller asked for something that the store does not know.
    pub(super) fn unknown(what: impl Into<String>) -> Fault {
        Fault::Refused(StoreError::Unknown { what: what.into() })
    }
}

impl From<InvalidDigest> for Fault {
    fn from(error: InvalidDigest) -> Fault {
        Fault::Damaged(error.to_string())
    }
}
