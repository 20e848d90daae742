//! Copies of the files of the logs of decisions, one log for each instance of the service. A copy is written once, and
//! neither replaced nor removed.

use super::backend::row;
use super::error::StoreError;
use super::{Seconds, Store, intern};

row! {
    /// A copy, without its bytes.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct AuditCopy {
        /// The log that it is of.
        pub instance: String = "instance",
        /// The name of the file.
        pub name: String = "name",
        /// When it came into the store.
        pub stored_at: Seconds = "stored_at",
    }
}

/// Copies of logs in a store; see [`Store::audit_copies`].
pub struct AuditCopies<'s> {
    store: &'s Store,
}

impl<'s> AuditCopies<'s> {
    pub(super) fn new(store: &'s Store) -> AuditCopies<'s> {
        AuditCopies { store }
    }

    /// Keeps a file of a log. Returns `false` if there is one of that name, which stays as it is.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] for a name of more than 512 bytes, [`StoreError::Database`].
    pub fn add(&self, instance: &str, name: &str, bytes: &[u8], now: Seconds) -> Result<bool, StoreError> {
        let sql = "INSERT INTO audit_copies (instance, name, bytes, stored_at) VALUES ($1, $2, $3, $4) \
                   ON CONFLICT DO NOTHING";
        self.store.write(|connection| {
            intern::check_key("the name of the log", instance)?;
            intern::check_key("the name of the copy", name)?;
            let values = [instance.into(), name.into(), bytes.into(), now.into()];
            Ok(connection.execute(sql, &values)? == 1)
        })
    }

    /// The bytes of a file of a log.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn get(&self, instance: &str, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let sql = "SELECT bytes FROM audit_copies WHERE instance = $1 AND name = $2";
        self.store.read(|connection| connection.value(sql, &[instance.into(), name.into()]))
    }

    /// All copies, by log and name.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn list(&self) -> Result<Vec<AuditCopy>, StoreError> {
        self.store.read(|connection| connection.select("FROM audit_copies ORDER BY instance, name", &[]))
    }
}
