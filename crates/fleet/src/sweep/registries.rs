//! One client for each registry, which shares its tokens, its rate and its counts, and since when registries are out of
//! reach. Logins may be lent for single repositories.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use layersift_source::registry::{Credentials, Host, Login, Registry, RegistryError, RegistryOptions};
use layersift_store::Seconds;

/// Clients with lent logins that are kept.
const MOST_LENT: usize = 1_024;

/// A login that somebody lends for one repository, for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LentLogin {
    /// Tells it apart from others for the same repository.
    pub id: String,
    /// The login; `None` for nobody's.
    pub credentials: Option<Credentials>,
    /// Whether the registry is asked by plain HTTP.
    pub plain_http: bool,
}

/// Where logins for single repositories come from.
pub trait LentLogins: Send + Sync {
    /// The login for a repository, if there is one at the moment.
    fn login(&self, host: &Host, repository: &str) -> Option<LentLogin>;
}

/// The client for a repository.
#[derive(Clone)]
pub struct RepositoryClient {
    /// The client.
    pub registry: Registry,
    /// Whether its login is lent: whether it is good says nothing about other repositories.
    pub is_lent: bool,
}

/// The clients of a sweep or a worker.
pub struct Registries {
    options: RegistryOptions,
    /// The only registry that gets explicit credentials, which are not stored under a name.
    trusted: Option<Host>,
    /// Registries that were named with their scheme, and whether that is plain HTTP.
    named: HashMap<Host, bool>,
    /// Clients by host, and by whether it is asked by plain HTTP.
    known: Mutex<HashMap<(Host, bool), Registry>>,
    /// Where logins for single repositories come from.
    logins: Option<Arc<dyn LentLogins>>,
    /// Clients by host and repository, with the id of the lent login that they have.
    lent: Mutex<HashMap<(Host, String), (String, Registry)>>,
    /// Registries that are out of reach, and since when.
    out: Mutex<HashMap<Host, Seconds>>,
}

impl Registries {
    /// Clients that are made with `options` when they are first needed. [`Login::As`] is for the registry `trusted`
    /// alone: a list, or a queue, may name anyone's registries.
    pub fn new(options: RegistryOptions, trusted: Option<Host>) -> Registries {
        Registries {
            options,
            trusted,
            named: HashMap::new(),
            known: Mutex::default(),
            logins: None,
            lent: Mutex::default(),
            out: Mutex::default(),
        }
    }

    /// The same, with logins that are lent for single repositories.
    pub fn with_logins(self, logins: Arc<dyn LentLogins>) -> Registries {
        Registries { logins: Some(logins), ..self }
    }

    /// The same, with plain HTTP, or TLS, for the registry `host` alone.
    pub fn with_plain_http(mut self, host: Host, plain_http: bool) -> Registries {
        self.named.insert(host, plain_http);
        self
    }

    /// The client for `host`, for what is not about one repository.
    ///
    /// # Errors
    /// For certificates or stored logins that cannot be read.
    pub fn of(&self, host: &Host) -> Result<Registry, RegistryError> {
        self.at(host, self.named.get(host).copied().unwrap_or(self.options.plain_http))
    }

    /// The client for `repository` at `host`: with the login that is lent for it, if there is one.
    ///
    /// # Errors
    /// For certificates or stored logins that cannot be read.
    pub fn of_repository(&self, host: &Host, repository: &str) -> Result<RepositoryClient, RegistryError> {
        let Some(logins) = &self.logins else {
            return Ok(RepositoryClient { registry: self.of(host)?, is_lent: false });
        };
        let login = logins.login(host, repository);
        let place = (host.clone(), repository.to_string());
        let mut lent = self.lent.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(LentLogin { id, credentials, plain_http }) = login else {
            lent.remove(&place);
            return Ok(RepositoryClient { registry: self.of(host)?, is_lent: false });
        };
        if let Some((_, registry)) = lent.get(&place).filter(|(known, _)| *known == id) {
            return Ok(RepositoryClient { registry: registry.clone(), is_lent: true });
        }
        // Never a login of our own: whoever lends one chooses the scheme.
        let login = credentials.map_or(Login::Anonymous, Login::As);
        let registry = self.with_login(host, plain_http, login)?;
        if lent.len() >= MOST_LENT {
            lent.clear();
        }
        lent.insert(place, (id, registry.clone()));
        Ok(RepositoryClient { registry, is_lent: true })
    }

    /// What `work` comes to with the client for `repository` at `host`: with the login that is lent for it, if there is
    /// one, and with our own where that is not good any more, as after the scan that it was for.
    ///
    /// # Errors
    /// Those of `work`, and for certificates or stored logins that cannot be read.
    pub fn with_repository<T>(
        &self,
        host: &Host,
        repository: &str,
        mut work: impl FnMut(&RepositoryClient) -> Result<T, RegistryError>,
    ) -> Result<T, RegistryError> {
        let client = self.of_repository(host, repository)?;
        match work(&client) {
            Err(error) if client.is_lent && is_denied(&error) => {
                work(&RepositoryClient { registry: self.of(host)?, is_lent: false })
            }
            result => result,
        }
    }

    /// A client for `host` with a login of its own.
    ///
    /// # Errors
    /// For certificates that cannot be read.
    pub fn with_login(&self, host: &Host, plain_http: bool, login: Login) -> Result<Registry, RegistryError> {
        self.at(host, plain_http)?.with_login(login)
    }

    fn at(&self, host: &Host, plain_http: bool) -> Result<Registry, RegistryError> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(registry) = known.get(&(host.clone(), plain_http)) {
            return Ok(registry.clone());
        }
        let mut options = RegistryOptions { plain_http, ..self.options.clone() };
        if matches!(options.login, Login::As(_)) && self.trusted.as_ref() != Some(host) {
            options.login = Login::Stored;
        }
        let registry = Registry::new(host, options)?;
        known.insert((host.clone(), plain_http), registry.clone());
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

/// Whether the registry does not let the login read what was asked for.
pub(super) fn is_denied(error: &RegistryError) -> bool {
    matches!(error.status(), Some(401 | 403))
}
