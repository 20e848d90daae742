//! Who Harbor takes the caller for. Its interface answers a login that it does not accept as it answers a stranger:
//! with 200, and what is public.
//!
//! Only two answers tell: `GET /api/v2.0/users/current` (401 for a stranger, 200 for a user, 412 for a robot) and
//! `GET /v2/` with user and password (401 or 200). Source: recorded answers of Harbor 2.16. Harbor takes a user for a
//! stranger for 1.5 seconds after anyone's wrong password (`src/core/auth/authenticator.go`), so that a login which is
//! not accepted is tried again, and a listing that a stranger gets as well only counts if the login was accepted all
//! the time that it took.

use std::time::{Duration, Instant};

use crate::registry::{AuthenticationError, Host, Page, Registry, RegistryError};

/// The path of who is logged in.
const CURRENT: &str = "api/v2.0/users/current";

/// How often a page is requested before it is given up, because the login is not accepted all the time.
const ATTEMPTS: usize = 10;

/// How often a page is requested that is refused although the login is accepted.
const REFUSALS: usize = 2;

/// Somebody who lists a Harbor: the user whose login the registry's client has, or anyone.
#[derive(Clone)]
pub(super) struct Login {
    registry: Registry,
    has_credentials: bool,
    lock: Duration,
}

#[derive(serde::Deserialize)]
struct CurrentUser {
    #[allow(dead_code, reason = "only that it is there says that this is Harbor's answer")]
    username: String,
}

impl Login {
    pub(super) fn new(registry: &Registry, lock: Duration) -> Login {
        Login { registry: registry.clone(), has_credentials: registry.user().is_some(), lock }
    }

    /// Whether there is a login to be checked.
    pub(super) fn has_credentials(&self) -> bool {
        self.has_credentials
    }

    /// The Harbor.
    pub(super) fn host(&self) -> &Host {
        self.registry.host()
    }

    /// The error of a page whose body is not a listing.
    pub(super) fn invalid_page(&self, page: &Page, error: serde_json::Error) -> RegistryError {
        self.registry.invalid_page(page, error)
    }

    /// Waits until Harbor accepts the login, for as long as the registry's options say. Returns when it was last asked.
    ///
    /// # Errors
    /// If it does not accept it, or cannot be asked.
    pub(super) fn check(&self) -> Result<Instant, RegistryError> {
        if !self.has_credentials {
            return Ok(Instant::now());
        }
        let asked = self.registry.patiently(|| {
            let started = Instant::now();
            Ok(self.is_accepted()?.then_some(started))
        })?;
        asked.ok_or_else(|| self.registry.refused(AuthenticationError::NotAccepted))
    }

    /// A page of the interface. A 401 is asked again once the login is accepted: it may have been locked.
    ///
    /// # Errors
    /// As [`Registry::page`], and for a login that is not accepted.
    pub(super) fn page(&self, path: &str, query: &[(&str, &str)]) -> Result<Page, RegistryError> {
        for _ in 0..REFUSALS {
            match self.registry.page(path, query) {
                Err(error) if error.status() == Some(401) && self.has_credentials => self.check()?,
                result => return result,
            };
        }
        self.registry.page(path, query)
    }

    /// A page that a stranger gets as well, with less on it. A lock is over 1.5 seconds after it began: where the login
    /// was accepted before and after in less time, it was accepted in between. Where Harbor is slower, a page counts
    /// that comes twice.
    ///
    /// # Errors
    /// As [`Login::page`].
    pub(super) fn confirmed_page(&self, path: &str, query: &[(&str, &str)]) -> Result<Page, RegistryError> {
        if !self.has_credentials {
            return self.registry.page(path, query);
        }
        let mut earlier: Option<Page> = None;
        for _ in 0..ATTEMPTS {
            let asked = self.check()?;
            let page = self.page(path, query)?;
            if !self.is_accepted()? {
                earlier = None;
                continue;
            }
            let comes_again = earlier.as_ref().is_some_and(|earlier| earlier.is_same(&page));
            if comes_again || asked.elapsed() < self.lock {
                return Ok(page);
            }
            earlier = Some(page);
        }
        Err(self.registry.refused(AuthenticationError::Unsteady))
    }

    fn is_accepted(&self) -> Result<bool, RegistryError> {
        let is_known = match self.registry.page(CURRENT, &[]) {
            Ok(page) => match serde_json::from_slice::<CurrentUser>(&page.bytes) {
                Ok(_) => true,
                Err(error) => return Err(self.registry.invalid_page(&page, error)),
            },
            Err(error) if error.status() == Some(401) => false,
            // "get current user not available for security context: robot"
            Err(error) if error.status() == Some(412) => true,
            Err(error) => return Err(error),
        };
        Ok(is_known && self.registry.accepts_password()? != Some(false))
    }
}
