//! Whether a registry accepts the login that it was given.
//!
//! Many registries give a stranger less instead of refusing: a listing is only worth something if it is known who asked
//! for it. Source: how `docker login` checks credentials, by `GET /v2/` and the challenge that answers it; a registry
//! that has a token server may refuse the same user and password there.

use std::time::Instant;

use super::auth::{Authorization, Scope};
use super::challenge;
use super::client::{Registry, challenges};
use super::error::{AuthenticationError, Identity, RegistryError, redacted};
use super::http::{Request, Response};
use super::response::ErrorResponse;
use layersift_model::LoginState;

impl Registry {
    /// The user whose login is sent to this registry; `a token` for a token without a name, `None` without a login.
    ///
    /// # Errors
    /// For stored credentials that cannot be read.
    pub fn user(&self) -> Result<Option<String>, RegistryError> {
        self.auth().user(&Scope::Catalog, &self.http.cancellation)
    }

    /// Asks the registry whether it accepts the login, by its own challenge. Harbor, which locks users for a moment, is
    /// asked again for [`super::RegistryOptions::login_patience`].
    ///
    /// # Errors
    /// [`RegistryError::Unauthorized`] if it is not accepted; the failure if the registry cannot be asked.
    pub fn check_login(&self) -> Result<LoginState, RegistryError> {
        let Some(credentials) = self.auth().credentials(&Scope::Catalog, &self.http.cancellation)? else {
            return Ok(LoginState::Anonymous);
        };
        let mut response = self.ping(None)?;
        if response.status() == 200
            && let Some(used) = self.auth().preemptive(&self.http)?
        {
            // A registry that lets anyone in may still give more to those that it knows.
            response = self.ping(Some(&used))?;
        }
        if response.status() != 401 {
            return Ok(LoginState::Unchecked);
        }
        let challenge = challenge::best(challenges(&response).into_iter());
        let challenge = challenge.ok_or_else(|| self.refused(AuthenticationError::UnsupportedScheme))?;
        let Some(used) = self.auth().log_in(&self.http, &challenge, &credentials)? else {
            return match challenge {
                challenge::Challenge::Basic => Err(self.refused(AuthenticationError::UnusableCredentials)),
                challenge::Challenge::Bearer { .. } => Ok(LoginState::Unchecked),
            };
        };
        self.accepted(&used)
    }

    /// Whether `GET /v2/` is answered to this authorization.
    fn accepted(&self, used: &Authorization) -> Result<LoginState, RegistryError> {
        let status = || self.ping(Some(used)).map(|answer| answer.status());
        match Some(status()?).filter(|status| *status != 401) {
            Some(200) => Ok(LoginState::Accepted),
            Some(_) => Ok(LoginState::Unchecked),
            None => Err(self.refused(AuthenticationError::NotAccepted)),
        }
    }

    /// What `attempt` gives. While it gives nothing, it is asked again for as long as a login may take to be accepted.
    ///
    /// # Errors
    /// Those of `attempt`, and of a cancellation.
    pub(crate) fn patiently<T>(
        &self,
        mut attempt: impl FnMut() -> Result<Option<T>, RegistryError>,
    ) -> Result<Option<T>, RegistryError> {
        let (started, patience) = (Instant::now(), self.options().login_patience);
        loop {
            let given = attempt()?;
            if given.is_some() || started.elapsed() >= patience {
                return Ok(given);
            }
            self.http.cancellation.wait(patience / 10);
            self.http.cancellation.check().map_err(|reason| RegistryError::cancelled(self.http.base(), reason))?;
        }
    }

    /// The answer to `GET /v2/`, whatever it is.
    fn ping(&self, used: Option<&Authorization>) -> Result<Response, RegistryError> {
        let url = self.url(&["v2/"])?;
        self.retrying(&url, || {
            let response = self.http.get(&Request::fresh(&url, "application/json"), used.map(|used| &used.header));
            response.map_err(|failure| failure.of(used.map_or(Identity::Anonymous, |used| used.identity)))
        })
    }

    /// Whether the registry answers `GET /v2/` to user and password themselves, which those with a token server may
    /// refuse. `None` for a login that has no password.
    pub(crate) fn accepts_password(&self) -> Result<Option<bool>, RegistryError> {
        let used = self.auth().preemptive(&self.http)?;
        let Some(used) = used.filter(|used| used.header.as_bytes().starts_with(b"Basic ")) else { return Ok(None) };
        Ok(Some(self.ping(Some(&used))?.status() == 200))
    }

    /// The error of a login that is not accepted.
    pub(crate) fn refused(&self, reason: AuthenticationError) -> RegistryError {
        let response = ErrorResponse::of_status(401);
        RegistryError::Unauthorized { url: redacted(self.http.base()), reason, response }
    }
}
