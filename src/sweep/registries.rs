//! One client for each registry: its tokens, its rate and its counts are shared by all that ask it.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::source::registry::{Host, Registry, RegistryError, RegistryOptions};

/// The clients of a sweep or a worker.
pub struct Registries {
    options: RegistryOptions,
    known: Mutex<HashMap<Host, Registry>>,
}

impl Registries {
    /// Clients that are made with `options` when they are first needed.
    pub fn new(options: RegistryOptions) -> Registries {
        Registries { options, known: Mutex::default() }
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
        let registry = Registry::new(host, self.options.clone())?;
        known.insert(host.clone(), registry.clone());
        Ok(registry)
    }

    /// Bytes that came from all registries so far.
    pub fn bytes(&self) -> u64 {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.values().map(|registry| registry.usage().bytes).sum()
    }
}
