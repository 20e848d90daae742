//! Tokens that clients of the service have. A token itself is never stored, only its hash.

use super::backend::row;
use super::error::StoreError;
use super::{Seconds, Store, intern};

row! {
    /// A token, without what is secret about it.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct ApiToken {
        /// Its number, to revoke it by.
        pub id: i64 = "id",
        /// The name of whoever has it.
        pub name: String = "name",
        /// What it opens, separated by blanks.
        pub scopes: String = "scopes",
        /// When it was made.
        pub created_at: Seconds = "created_at",
        /// From when on it opens nothing.
        pub expires_at: Seconds = "expires_at",
        /// When it was revoked.
        pub revoked_at: Option<Seconds> = "revoked_at",
    }
}

/// The tokens of a store; see [`Store::api_tokens`].
pub struct ApiTokens<'s> {
    store: &'s Store,
}

impl<'s> ApiTokens<'s> {
    pub(super) fn new(store: &'s Store) -> ApiTokens<'s> {
        ApiTokens { store }
    }

    /// Adds a token by its hash, which nobody can turn into the token. Returns its number.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] for a name of more than 512 bytes, [`StoreError::Database`].
    pub fn add(&self, name: &str, hash: &str, scopes: &str, now: Seconds, expires: Seconds) -> Result<i64, StoreError> {
        let sql = "INSERT INTO api_tokens (name, hash, scopes, created_at, expires_at) VALUES ($1, $2, $3, $4, $5) \
                   RETURNING id";
        self.store.write(|connection| {
            intern::check_key("the name of the token", name)?;
            let values = [name.into(), hash.into(), scopes.into(), now.into(), expires.into()];
            Ok(connection.value::<i64>(sql, &values)?.unwrap_or_default())
        })
    }

    /// The token with this hash, whether it is still good or not.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn find(&self, hash: &str) -> Result<Option<ApiToken>, StoreError> {
        let rest = "FROM api_tokens WHERE hash = $1";
        Ok(self.store.read(|connection| connection.select(rest, &[hash.into()]))?.into_iter().next())
    }

    /// All tokens, the newest first.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn list(&self) -> Result<Vec<ApiToken>, StoreError> {
        self.store.read(|connection| connection.select("FROM api_tokens ORDER BY id DESC", &[]))
    }

    /// Revokes a token; `false` if there is none with this number, or it is revoked already.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn revoke(&self, id: i64, now: Seconds) -> Result<bool, StoreError> {
        let sql = "UPDATE api_tokens SET revoked_at = $2 WHERE id = $1 AND revoked_at IS NULL";
        self.store.write(|connection| Ok(connection.execute(sql, &[id.into(), now.into()])? == 1))
    }
}
