//! The login of a scan: sealed with its task, and lent to whatever reads the layers of its image.

use std::sync::Arc;

use layersift_fleet::{LentLogin, LentLogins};
use layersift_model::parse;
use layersift_source::registry::{Credentials, Host};
use layersift_store::{Seconds, Store};
use serde::{Deserialize, Serialize};

use super::sealing::{SealError, SealingKey};
use crate::harbor::scan_request::{SourceRegistry, credentials};

/// A login as it is sealed.
#[derive(Serialize, Deserialize)]
pub(crate) struct TaskLogin {
    /// The value of an `Authorization` header; empty without one.
    pub(crate) authorization: String,
    /// The URL of the registry.
    pub(crate) url: String,
    plain_http: bool,
}

impl TaskLogin {
    pub(crate) fn of(registry: &SourceRegistry) -> TaskLogin {
        let (authorization, url) = (registry.authorization(), registry.url());
        TaskLogin { authorization, url, plain_http: registry.is_plain_http }
    }

    pub(crate) fn seal(&self, key: &SealingKey, task: &str) -> Result<Vec<u8>, SealError> {
        #[expect(clippy::disallowed_methods, reason = "it is sealed, and read again by the service")]
        key.seal(task, &serde_json::to_vec(self).map_err(|_| SealError::Cipher)?)
    }

    /// The credentials, and whether the registry is asked by plain HTTP.
    pub(crate) fn credentials(&self) -> (Option<Credentials>, bool) {
        (credentials(&self.authorization).ok().flatten(), self.plain_http)
    }

    /// A text that somebody answered who has this login, without it.
    pub(crate) fn mask(&self, text: &str) -> String {
        let value = self.authorization.split_once(' ').map_or("", |(_, value)| value);
        let password = match credentials(&self.authorization) {
            Ok(Some(Credentials::Password { password, .. })) => password,
            _ => String::new(),
        };
        let secrets = [value, &password].into_iter().filter(|secret| secret.len() >= 4);
        secrets.fold(text.to_string(), |text, secret| text.replace(secret, "****"))
    }

    /// `None` where it was sealed with another key.
    pub(crate) fn open(key: &SealingKey, task: &str, sealed: &[u8]) -> Option<TaskLogin> {
        parse::json(&key.open(task, sealed)?).ok()
    }
}

/// Lends the logins of scans that a Harbor waits for.
pub struct ScanLogins {
    store: Arc<Store>,
    key: Arc<SealingKey>,
    clock: fn() -> Seconds,
}

impl ScanLogins {
    pub(crate) fn new(store: Arc<Store>, key: Arc<SealingKey>, clock: fn() -> Seconds) -> ScanLogins {
        ScanLogins { store, key, clock }
    }

    /// Logins in `store` that were sealed with the key of a file with these bytes.
    ///
    /// # Errors
    /// Where the cipher does not work.
    pub fn of_file(store: Store, key: &[u8], clock: fn() -> Seconds) -> Result<ScanLogins, crate::SetupError> {
        let key = SealingKey::of(key).map_err(|error| crate::SetupError::Harbor(error.to_string()))?;
        Ok(ScanLogins::new(Arc::new(store), Arc::new(key), clock))
    }
}

impl LentLogins for ScanLogins {
    fn login(&self, host: &Host, repository: &str) -> Option<LentLogin> {
        let source = format!("{host}/{repository}");
        let found = self.store.harbor_tasks().login(&source, (self.clock)());
        let found = found.inspect_err(|error| tracing::error!(%error, "cannot look up the login of a scan"));
        let sealed = found.ok().flatten()?;
        let Some(login) = TaskLogin::open(&self.key, &sealed.task, &sealed.sealed) else {
            tracing::error!(source, "the login of a scan was sealed with another key");
            return None;
        };
        let credentials = credentials(&login.authorization).ok()?;
        Some(LentLogin { id: sealed.task, credentials, plain_http: login.plain_http })
    }
}
