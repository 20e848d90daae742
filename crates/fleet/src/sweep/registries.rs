//! One client for each registry, which shares its tokens, its rate and its counts, and since when registries are out of
//! reach.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use layersift_source::registry::{Host, Login, Registry, RegistryError, RegistryOptions};
use layersift_store::Seconds;

/// The clients of a sweep or a worker.
pub struct Registries {
    options: RegistryOptions,
    /// The only registry that gets explicit credentials, which are not stored under a name.
    trusted: Option<Host>,
    /// Registries that were named with their scheme, and whether that is plain HTTP.
    named: HashMap<Host, bool>,
    known: Mutex<HashMap<Host, Registry>>,
    /// Registries that are out of reach, and since when.
    out: Mutex<HashMap<Host, Seconds>>,
}

impl Registries {
    /// Clients that are made with `options` when they are first needed. [`Login::As`] is for the registry `trusted`
    /// alone: a list, or a queue, may name anyone's registries.
    pub fn new(options: RegistryOptions, trusted: Option<Host>) -> Registries {
        Registries { options, trusted, named: HashMap::new(), known: Mutex::default(), out: Mutex::default() }
    }

    /// The same, with plain HTTP, or TLS, for the registry `host` alone.
    pub fn with_plain_http(mut self, host: Host, plain_http: bool) -> Registries {
        self.named.insert(host, plain_http);
        self
    }

    /// The client for `host`.
    ///
    /// # Errors
    /// For certificates or stored logins that cannot be read.
    pub fn of(&self, host: &Host) -> Result<Registry, RegistryError> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(registry) = known.get(host) {
            return Ok(registry.clone());
        }
        let mut options = self.options.clone();
        if matches!(options.login, Login::As(_)) && self.trusted.as_ref() != Some(host) {
            options.login = Login::Stored;
        }
        if let Some(plain_http) = self.named.get(host) {
            options.plain_http = *plain_http;
        }
        let registry = Registry::new(host, options)?;
        known.insert(host.clone(), registry.clone());
        Ok(registry)
    }

    /// Whether `host` is the registry that explicit credentials are for.
    pub fn is_trusted(&self, host: &Host) -> bool {
        self.trusted.as_ref() == Some(host)
    }

    /// Notes that a registry gave an answer.
    pub fn answered(&self, host: &Host) {
        if self.out.lock().unwrap_or_else(PoisonError::into_inner).remove(host).is_some() {
            tracing::info!(registry = %host, "registry answers again");
        }
    }

    /// Notes that a registry is out of reach. Returns since when.
    pub fn out_since(&self, host: &Host, now: Seconds) -> Seconds {
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        *out.entry(host.clone()).or_insert_with(|| {
            tracing::warn!(registry = %host, "registry out of reach");
            now
        })
    }

    /// Bytes pulled from all registries so far.
    pub fn bytes(&self) -> u64 {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.values().map(|registry| registry.usage().bytes).sum()
    }
}
