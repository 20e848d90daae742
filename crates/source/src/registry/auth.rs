//! Authentication: challenges are answered with tokens or passwords; tokens are kept until shortly before they expire.
//!
//! Sources: distribution's "Token Authentication Specification" and "OAuth2 Token Authentication".
//!
//! Credentials go to the token server that the registry's challenge names, whatever host it is on: Docker Hub and many
//! others have it on another host, and a registry that wanted to steal a password could ask for it directly. They go
//! there over HTTPS only; over HTTP if plain HTTP was allowed and the host is the registry's own. The guard keeps them
//! from addresses inside the network, and no redirect of a token server is followed.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::HeaderValue;

use super::challenge::Challenge;
use super::credentials::{CredentialFiles, CredentialsError};
use super::error::{AuthenticationError, Identity, RegistryError};
use super::http::Http;
use super::options::{Credentials, Login};
use super::reference::Host;
use super::response;
use super::token_server::{LoginCheck, TokenServer};
use crate::waiting;
use layersift_format::Cancellation;

/// Scopes whose tokens are kept.
const MAX_SCOPES: usize = 10_000;

/// The service that Harbor names in its challenges. Its tokens open every repository of a project
/// (`src/common/security/v2token/context.go`).
pub(super) const HARBOR: &str = "harbor-registry";

/// What a request must be allowed to do.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Scope {
    /// Read a repository.
    Pull(String),
    /// Write to a repository, and read it.
    Push(String),
    /// List the registry.
    Catalog,
}

impl Scope {
    fn repository(&self) -> Option<&str> {
        match self {
            Scope::Pull(repository) | Scope::Push(repository) => Some(repository),
            Scope::Catalog => None,
        }
    }
}

impl Scope {
    /// The first part of a repository's name, whose tokens may open all of it for reading.
    fn project(&self) -> Option<&str> {
        match self {
            Scope::Pull(repository) => repository.split_once('/').map(|(project, _)| project),
            Scope::Push(_) | Scope::Catalog => None,
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Scope::Pull(repository) => write!(f, "repository:{repository}:pull"),
            Scope::Push(repository) => write!(f, "repository:{repository}:pull,push"),
            Scope::Catalog => f.write_str("registry:catalog:*"),
        }
    }
}

/// The login state of a scope. It is locked while a token is requested, so that threads share one request.
#[derive(Default)]
struct ScopeState {
    challenge: Option<Challenge>,
    authorization: Option<Authorization>,
    /// What the authorization was requested for: with Harbor, one repository of several.
    requested: Option<Scope>,
}

/// The value of an `Authorization` header.
#[derive(Clone)]
pub(super) struct Authorization {
    pub(super) header: HeaderValue,
    /// Whether credentials are behind it, or anyone is given it.
    pub(super) identity: Identity,
    /// When a new one is needed; `None` for a password.
    pub(super) expires: Option<Instant>,
}

impl Authorization {
    /// Credentials, which do not expire.
    fn of_credentials(header: HeaderValue) -> Authorization {
        Authorization { header, identity: Identity::Credentials, expires: None }
    }

    /// Who sends a request with this authorization, if there is one.
    pub(super) fn identity(authorization: Option<&Authorization>) -> Identity {
        authorization.map_or(Identity::Anonymous, |authorization| authorization.identity)
    }

    fn is_fresh(&self) -> bool {
        self.expires.is_none_or(|expires| Instant::now() < expires)
    }
}

/// Answers the challenges of one registry.
pub(super) struct Auth {
    host: Host,
    login: Login,
    files: Option<CredentialFiles>,
    scopes: Mutex<HashMap<String, Arc<Mutex<ScopeState>>>>,
    /// Whether a token opens every repository of its project.
    tokens_of_projects: AtomicBool,
    /// Projects in which it did not.
    divided: Mutex<HashSet<String>>,
    login_check: LoginCheck,
    /// The challenge that came last, for scopes that were not requested yet.
    last_challenge: Mutex<Option<Challenge>>,
    /// What [`Auth::preemptive`] returns, so that no helper is started for every page.
    preemptive: Mutex<Option<Option<Authorization>>>,
}

impl Auth {
    /// # Errors
    /// For stored credentials that cannot be read.
    pub(super) fn new(host: &Host, login: &Login, patience: Duration) -> Result<Auth, RegistryError> {
        Ok(Auth {
            host: host.clone(),
            login: login.clone(),
            files: matches!(login, Login::Stored).then(CredentialFiles::of_environment).transpose()?,
            scopes: Mutex::default(),
            tokens_of_projects: AtomicBool::new(false),
            divided: Mutex::default(),
            login_check: LoginCheck::new(patience),
            last_challenge: Mutex::default(),
            preemptive: Mutex::default(),
        })
    }

    /// What to send with the first request; `None` until the registry has sent a challenge.
    pub(super) fn authorization(&self, http: &Http, scope: &Scope) -> Result<Option<Authorization>, RegistryError> {
        let state = self.scope(scope, http);
        let mut state = lock_waiting(&state, http)?;
        if let Some(authorization) = state.authorization.as_ref().filter(|authorization| authorization.is_fresh()) {
            return Ok(Some(authorization.clone()));
        }
        let challenge = state.challenge.clone().or_else(|| lock(&self.last_challenge).clone());
        let Some(challenge) = challenge else { return Ok(None) };
        self.renew(http, scope, challenge, &mut state)
    }

    /// What to send after a 401 for a request that was sent with the header `used`.
    pub(super) fn answer(
        &self,
        http: &Http,
        scope: &Scope,
        challenge: Challenge,
        used: Option<&HeaderValue>,
    ) -> Result<Option<Authorization>, RegistryError> {
        if matches!(&challenge, Challenge::Bearer { service: Some(service), .. } if service == HARBOR) && used.is_none()
        {
            self.tokens_of_projects.store(true, Ordering::Relaxed);
        }
        let state = self.scope(scope, http);
        let mut state = lock_waiting(&state, http)?;
        let fresh = state.authorization.as_ref().filter(|known| known.is_fresh());
        match fresh {
            // Another thread has renewed it meanwhile.
            Some(known) if Some(&known.header) != used => return Ok(Some(known.clone())),
            // The token of another repository: it does not open this one.
            Some(_) if state.requested.as_ref() != Some(scope) => {
                lock(&self.divided).extend(scope.project().map(str::to_string));
            }
            _ => {}
        }
        self.renew(http, scope, challenge, &mut state)
    }

    /// What to send to an interface that sends no challenge, and gives an anonymous request less: user and password, or
    /// a token that the registry itself takes. `None` if there is neither.
    pub(super) fn preemptive(&self, http: &Http) -> Result<Option<Authorization>, RegistryError> {
        let mut known = lock_waiting(&self.preemptive, http)?;
        if let Some(authorization) = known.as_ref() {
            return Ok(authorization.clone());
        }
        let header = match self.credentials(&Scope::Catalog, &http.cancellation)? {
            Some(Credentials::Password { user, password }) => Some(basic(&user, &password)?),
            Some(Credentials::AccessToken(token)) => Some(sensitive("Bearer", &token)?),
            Some(Credentials::IdentityToken { .. }) | None => None,
        };
        Ok(known.insert(header.map(Authorization::of_credentials)).clone())
    }

    /// What a 401 means for a request that was sent as `identity`.
    pub(super) fn rejection(&self, http: &Http, scope: &Scope, identity: Identity) -> AuthenticationError {
        match (identity, self.credentials(scope, &http.cancellation)) {
            (Identity::Credentials, _) => AuthenticationError::CredentialsRejected,
            (Identity::Anonymous, Ok(Some(_))) => AuthenticationError::UnusableCredentials,
            (Identity::Anonymous, _) => AuthenticationError::NoCredentials,
        }
    }

    /// `text` without the secrets of a scope, and short enough to be shown.
    pub(super) fn mask(&self, http: &Http, text: &str, scope: &Scope) -> String {
        let mut secrets = match self.credentials(scope, &http.cancellation) {
            Ok(Some(Credentials::Password { user, password })) => {
                vec![STANDARD.encode(format!("{user}:{password}")), password]
            }
            Ok(Some(Credentials::IdentityToken { token, .. } | Credentials::AccessToken(token))) => vec![token],
            _ => Vec::new(),
        };
        let state = self.scope(scope, http);
        // Not waited for: a thread that holds it is about to replace the token.
        if let Ok(state) = state.try_lock() {
            let sent = state.authorization.as_ref().and_then(|authorization| authorization.header.to_str().ok());
            secrets.extend(sent.and_then(|sent| sent.split_once(' ')).map(|(_, token)| token.to_string()));
        }
        response::masked(text, &secrets)
    }

    /// The state that a scope shares with all that the same token opens.
    fn scope(&self, scope: &Scope, http: &Http) -> Arc<Mutex<ScopeState>> {
        let is_open =
            |project: &&str| self.tokens_of_projects.load(Ordering::Relaxed) && !lock(&self.divided).contains(*project);
        let key = match scope.project().filter(is_open) {
            // Credentials may be stored for each repository.
            Some(project) => format!("{project} {:?}", self.user(scope, &http.cancellation).ok()),
            None => scope.to_string(),
        };
        let mut scopes = lock(&self.scopes);
        if scopes.len() >= MAX_SCOPES {
            scopes.clear();
        }
        Arc::clone(scopes.entry(key).or_default())
    }

    /// The name of the user whose credentials there are for a scope; `a token` for a token without a name.
    pub(super) fn user(&self, scope: &Scope, cancellation: &Cancellation) -> Result<Option<String>, RegistryError> {
        let user = self.credentials(scope, cancellation)?.map(|credentials| match credentials {
            Credentials::Password { user, .. } | Credentials::IdentityToken { user, .. } => user,
            Credentials::AccessToken(_) => String::new(),
        });
        Ok(user.map(|user| if user.is_empty() { "a token".into() } else { user }))
    }

    pub(super) fn credentials(
        &self,
        scope: &Scope,
        cancellation: &Cancellation,
    ) -> Result<Option<Credentials>, RegistryError> {
        match (&self.login, &self.files) {
            (Login::As(credentials), _) => Ok(Some(credentials.clone())),
            (Login::Stored, Some(files)) => files.find(&self.host, scope.repository(), cancellation),
            _ => Ok(None),
        }
    }

    fn renew(
        &self,
        http: &Http,
        scope: &Scope,
        challenge: Challenge,
        state: &mut ScopeState,
    ) -> Result<Option<Authorization>, RegistryError> {
        let credentials = self.credentials(scope, &http.cancellation)?;
        let authorization = match (&challenge, credentials) {
            (Challenge::Bearer { .. }, Some(Credentials::AccessToken(token))) => {
                Some(Authorization::of_credentials(sensitive("Bearer", &token)?))
            }
            (Challenge::Bearer { realm, service, scope: challenged, .. }, credentials) => {
                let server = TokenServer::new(http, (realm, service.as_deref()), scope, &self.login_check)?;
                Some(server.token(challenged.as_deref(), credentials.as_ref())?)
            }
            (Challenge::Basic, Some(Credentials::Password { user, password })) => {
                Some(Authorization::of_credentials(basic(&user, &password)?))
            }
            (Challenge::Basic, _) => None,
        };
        // The scope of this challenge is not that of others.
        let without_scope = match challenge.clone() {
            Challenge::Bearer { realm, service, .. } => Challenge::Bearer { realm, service, scope: None, error: None },
            Challenge::Basic => Challenge::Basic,
        };
        *lock(&self.last_challenge) = Some(without_scope);
        let (challenge, requested) = (Some(challenge), Some(scope.clone()));
        *state = ScopeState { challenge, authorization: authorization.clone(), requested };
        Ok(authorization)
    }

    /// The authorization that a login alone is given in answer to `challenge`, without a scope. `None` if the server
    /// gives none without one, so that the login cannot be checked.
    ///
    /// # Errors
    /// If the token server does not accept the credentials, or they are not of the kind that the registry requires.
    pub(super) fn log_in(
        &self,
        http: &Http,
        challenge: &Challenge,
        credentials: &Credentials,
    ) -> Result<Option<Authorization>, RegistryError> {
        match (challenge, credentials) {
            (Challenge::Basic, Credentials::Password { user, password }) => {
                Ok(Some(Authorization::of_credentials(basic(user, password)?)))
            }
            (Challenge::Bearer { realm, service, .. }, Credentials::Password { user, password }) => {
                let server = TokenServer::new(http, (realm, service.as_deref()), &Scope::Catalog, &self.login_check)?;
                server.log_in(user, password)
            }
            (Challenge::Bearer { .. }, Credentials::AccessToken(token)) => {
                Ok(Some(Authorization::of_credentials(sensitive("Bearer", token)?)))
            }
            // A token server refuses an identity token that it does not know, whatever it is asked for.
            (Challenge::Bearer { realm, service, .. }, Credentials::IdentityToken { .. }) => {
                let server = TokenServer::new(http, (realm, service.as_deref()), &Scope::Catalog, &self.login_check)?;
                server.token(None, Some(credentials)).map(Some)
            }
            (Challenge::Basic, _) => Ok(None),
        }
    }
}

pub(super) fn basic(user: &str, password: &str) -> Result<HeaderValue, RegistryError> {
    sensitive("Basic", &STANDARD.encode(format!("{user}:{password}")))
}

/// A header whose `Debug` does not show it.
pub(super) fn sensitive(scheme: &str, value: &str) -> Result<HeaderValue, RegistryError> {
    let mut header = HeaderValue::from_str(&format!("{scheme} {value}")).map_err(|_| RegistryError::Credentials {
        place: "the token".into(),
        error: CredentialsError::InvalidHeader,
    })?;
    header.set_sensitive(true);
    Ok(header)
}

/// Locks what another thread may hold while it waits for the network.
fn lock_waiting<'m, T>(mutex: &'m Mutex<T>, http: &Http) -> Result<MutexGuard<'m, T>, RegistryError> {
    let cancelled = |reason| RegistryError::cancelled(http.base(), reason);
    waiting::lock(mutex, &http.cancellation).map_err(cancelled)
}

/// Locks what is only held for a moment.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
