//! Who Harbor takes the caller for. Its interface answers a login that it does not accept as it answers a stranger:
//! with 200, and what is public.
//!
//! Only two answers tell: `GET /api/v2.0/users/current` (401 for a stranger, 200 for a user, 412 for a robot) and
//! `GET /v2/` with user and password (401 or 200). Source: recorded answers of Harbor 2.16. Harbor takes a user for a
//! stranger for 1.5 seconds after anyone's wrong password (`src/core/auth/authenticator.go`), so that a login which is
//! not accepted is tried again, and a listing that a stranger gets as well has to come twice, with a login that was
//! accepted before, between and after.

use std::collections::BTreeSet;

use layersift_model::{ParseError, parse};

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
}

/// Who Harbor takes the caller for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Caller {
    Stranger,
    User,
    /// Nobody can lock it.
    Robot,
}

#[derive(serde::Deserialize)]
struct CurrentUser {
    #[allow(dead_code, reason = "only that it is there says that this is Harbor's answer")]
    username: String,
}

/// An item of a page, as far as two pages are compared.
#[derive(serde::Deserialize)]
struct Named {
    name: String,
}

impl Login {
    pub(super) fn new(registry: &Registry) -> Login {
        Login { registry: registry.clone() }
    }

    /// The Harbor.
    pub(super) fn host(&self) -> &Host {
        self.registry.host()
    }

    /// The error of a page whose body is not a listing.
    pub(super) fn invalid_page(&self, page: &Page, error: ParseError) -> RegistryError {
        self.registry.invalid_page(page, error)
    }

    /// Waits until Harbor accepts the login, if there is one, for as long as the registry's options say.
    ///
    /// # Errors
    /// If it does not accept it, or cannot be asked; if stored credentials cannot be read.
    pub(super) fn check(&self) -> Result<(), RegistryError> {
        self.caller().map(drop)
    }

    /// A page of the interface. A 401 is asked again once the login is accepted: it may have been locked.
    ///
    /// # Errors
    /// As [`Registry::page`], and for a login that is not accepted.
    pub(super) fn page(&self, path: &str, query: &[(&str, &str)]) -> Result<Page, RegistryError> {
        for _ in 0..REFUSALS {
            match self.registry.page(path, query) {
                Err(error) if error.status() == Some(401) && self.registry.user()?.is_some() => self.check()?,
                result => return result,
            }
        }
        self.registry.page(path, query)
    }

    /// A page of named items that a stranger gets as well, with less on it. For a robot it counts once it was accepted
    /// before and after. A user may be locked at any moment, and by one of several servers only: then the page has to
    /// come twice, with the same names.
    ///
    /// # Errors
    /// As [`Login::page`].
    pub(super) fn confirmed_page(&self, path: &str, query: &[(&str, &str)]) -> Result<Page, RegistryError> {
        let mut earlier = None;
        for _ in 0..ATTEMPTS {
            let Some(caller) = self.caller()? else { return self.registry.page(path, query) };
            let page = self.page(path, query)?;
            if self.asked()? != caller {
                earlier = None;
                continue;
            }
            let names = names(&page);
            if caller == Caller::Robot || earlier.as_ref() == Some(&names) {
                return Ok(page);
            }
            earlier = Some(names);
        }
        Err(self.registry.refused(AuthenticationError::Unsteady))
    }

    /// Who Harbor takes the caller for once it accepts the login; `None` without a login.
    fn caller(&self) -> Result<Option<Caller>, RegistryError> {
        if self.registry.user()?.is_none() {
            return Ok(None);
        }
        let caller =
            self.registry.patiently(|| Ok(Some(self.asked()?).filter(|caller| *caller != Caller::Stranger)))?;
        caller.map(Some).ok_or_else(|| self.registry.refused(AuthenticationError::NotAccepted))
    }

    fn asked(&self) -> Result<Caller, RegistryError> {
        let caller = match self.registry.page(CURRENT, &[]) {
            Ok(page) => match parse::json::<CurrentUser>(&page.bytes) {
                Ok(_) => Caller::User,
                Err(error) => return Err(self.registry.invalid_page(&page, error)),
            },
            Err(error) if error.status() == Some(401) => Caller::Stranger,
            // "get current user not available for security context: robot"
            Err(error) if error.status() == Some(412) => Caller::Robot,
            Err(error) => return Err(error),
        };
        let is_accepted = caller != Caller::Stranger && self.registry.accepts_password()? != Some(false);
        Ok(if is_accepted { caller } else { Caller::Stranger })
    }
}

/// The names on a page, and the number of all. Other fields change while a Harbor is used.
fn names(page: &Page) -> (BTreeSet<String>, Option<String>) {
    let items: Vec<Named> = parse::json(&page.bytes).unwrap_or_default();
    (items.into_iter().map(|item| item.name).collect(), page.total.clone())
}
