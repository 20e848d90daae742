//! Authentication: challenges are answered with tokens or passwords; tokens are kept until shortly before they expire.
//!
//! Sources: distribution's "Token Authentication Specification" and "OAuth2 Token Authentication".
//!
//! Credentials go to the token server that the registry's challenge names, whatever host it is on: Docker Hub and many
//! others have it on another host, and a registry that wanted to steal a password could ask for it directly. They go
//! there over HTTPS only; over HTTP if plain HTTP was allowed and the host is the registry's own. The guard keeps them
//! from addresses inside the network, and no redirect of a token server is followed.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::Url;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use serde::Deserialize;

use super::challenge::Challenge;
use super::credentials::{CredentialFiles, CredentialsError};
use super::error::{AuthenticationError, Identity, ProtocolError, RegistryError, TokenError, redacted};
use super::form::BodyForm;
use super::http::{self, Http};
use super::options::{Credentials, Login};
use super::reference::Host;
use super::refusal::Refusal;
use super::response::{self, ErrorResponse};
use super::retry::Failure;
use crate::waiting;
use layersift_format::{CancelReason, Cancellation};

/// The client ID that token servers are given.
const CLIENT_ID: &str = "layersift";

/// The lifetime in seconds of a token whose response names none.
const DEFAULT_LIFETIME: f64 = 60.0;

/// The longest lifetime in seconds: a day.
const MAX_LIFETIME: f64 = 86_400.0;

/// Scopes whose tokens are kept.
const MAX_SCOPES: usize = 10_000;

/// What a request must be allowed to do.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Scope {
    /// Read a repository.
    Pull(String),
    /// List the registry.
    Catalog,
}

impl Scope {
    fn repository(&self) -> Option<&str> {
        match self {
            Scope::Pull(repository) => Some(repository),
            Scope::Catalog => None,
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Scope::Pull(repository) => write!(f, "repository:{repository}:pull"),
            Scope::Catalog => f.write_str("registry:catalog:*"),
        }
    }
}

/// The login state of a scope. It is locked while a token is requested, so that threads share one request.
#[derive(Default)]
struct ScopeState {
    challenge: Option<Challenge>,
    authorization: Option<Authorization>,
}

/// The value of an `Authorization` header.
#[derive(Clone)]
pub(super) struct Authorization {
    pub(super) header: HeaderValue,
    /// Whether credentials are behind it, or anyone is given it.
    pub(super) identity: Identity,
    /// When a new one is needed; `None` for a password.
    expires: Option<Instant>,
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
    scopes: Mutex<HashMap<Scope, Arc<Mutex<ScopeState>>>>,
    /// The challenge that came last, for scopes that were not requested yet.
    last_challenge: Mutex<Option<Challenge>>,
    /// What [`Auth::preemptive`] returns, so that no helper is started for every page.
    preemptive: Mutex<Option<Option<Authorization>>>,
}

impl Auth {
    /// # Errors
    /// For stored credentials that cannot be read.
    pub(super) fn new(host: &Host, login: &Login) -> Result<Auth, RegistryError> {
        let files = matches!(login, Login::Stored).then(CredentialFiles::of_environment).transpose()?;
        let (scopes, last_challenge, preemptive) = (Mutex::default(), Mutex::default(), Mutex::default());
        Ok(Auth { host: host.clone(), login: login.clone(), files, scopes, last_challenge, preemptive })
    }

    /// What to send with the first request; `None` until the registry has sent a challenge.
    pub(super) fn authorization(&self, http: &Http, scope: &Scope) -> Result<Option<Authorization>, RegistryError> {
        let state = self.scope(scope);
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
        let state = self.scope(scope);
        let mut state = lock_waiting(&state, http)?;
        // Another thread may have renewed it meanwhile.
        let renewed = state.authorization.as_ref().filter(|known| known.is_fresh() && Some(&known.header) != used);
        if let Some(authorization) = renewed {
            return Ok(Some(authorization.clone()));
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
        let state = self.scope(scope);
        // Not waited for: a thread that holds it is about to replace the token.
        if let Ok(state) = state.try_lock() {
            let sent = state.authorization.as_ref().and_then(|authorization| authorization.header.to_str().ok());
            secrets.extend(sent.and_then(|sent| sent.split_once(' ')).map(|(_, token)| token.to_string()));
        }
        response::masked(text, &secrets)
    }

    fn scope(&self, scope: &Scope) -> Arc<Mutex<ScopeState>> {
        let mut scopes = lock(&self.scopes);
        if scopes.len() >= MAX_SCOPES {
            scopes.clear();
        }
        Arc::clone(scopes.entry(scope.clone()).or_default())
    }

    fn credentials(&self, scope: &Scope, cancellation: &Cancellation) -> Result<Option<Credentials>, RegistryError> {
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
                let server = TokenServer { http, realm: realm_url(http, realm)?, service: service.as_deref(), scope };
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
        *state = ScopeState { challenge: Some(challenge), authorization: authorization.clone() };
        Ok(authorization)
    }
}

/// A token server, as a challenge names it, and the scope that it is asked for.
struct TokenServer<'s> {
    http: &'s Http,
    realm: Url,
    service: Option<&'s str>,
    scope: &'s Scope,
}

/// The response of a token server. The token has one of two names.
#[derive(Deserialize)]
struct TokenResponse {
    token: Option<String>,
    access_token: Option<String>,
}

/// The lifetime in the response of a token server. It is parsed apart from the token, which is good without it.
#[derive(Deserialize)]
struct TokenLifetime {
    expires_in: serde_json::Value,
}

/// The lifetime of a token. Some servers send it as text or with a fraction; one that makes no sense is the default.
fn lifetime(response: &[u8]) -> Duration {
    let read = |value: serde_json::Value| match value {
        serde_json::Value::Number(number) => number.as_f64(),
        serde_json::Value::String(text) => text.trim().parse::<f64>().ok().filter(|seconds| seconds.is_finite()),
        _ => None,
    };
    let seconds = serde_json::from_slice::<TokenLifetime>(response).ok().and_then(|found| read(found.expires_in));
    let seconds = seconds.filter(|seconds| *seconds >= 1.0).unwrap_or(DEFAULT_LIFETIME);
    Duration::from_secs_f64(seconds.min(MAX_LIFETIME))
}

impl TokenServer<'_> {
    fn token(
        &self,
        challenged: Option<&str>,
        credentials: Option<&Credentials>,
    ) -> Result<Authorization, RegistryError> {
        let own = self.scope.to_string();
        let mut scopes = vec![own.clone()];
        // A registry that maps names calls the repository something else. Its scope may be added, but none that allows
        // to write.
        let is_read_only = |scope: &&str| scope.ends_with(":pull") || *scope == "registry:catalog:*";
        let others = challenged.into_iter().flat_map(str::split_ascii_whitespace).filter(|scope| *scope != own);
        scopes.extend(others.filter(is_read_only).take(4).map(str::to_string));
        match credentials {
            Some(Credentials::IdentityToken { user, token }) => match self.post(&scopes, token) {
                // A server that does not support identity tokens may take them as passwords.
                Err(error) if matches!(error.status(), Some(404 | 405)) && !user.is_empty() => {
                    self.get(&scopes, Some((user, token)))
                }
                result => result,
            },
            Some(Credentials::Password { user, password }) => self.get(&scopes, Some((user, password))),
            Some(Credentials::AccessToken(_)) | None => self.get(&scopes, None),
        }
    }

    fn get(&self, scopes: &[String], user: Option<(&String, &String)>) -> Result<Authorization, RegistryError> {
        let mut url = self.realm.clone();
        let mut headers = HeaderMap::new();
        let mut query = url.query_pairs_mut();
        query.extend_pairs(self.service.map(|service| ("service", service)));
        query.extend_pairs(scopes.iter().map(|scope| ("scope", scope)));
        if let Some((user, password)) = user {
            query.append_pair("account", user).append_pair("client_id", CLIENT_ID);
            headers.insert(AUTHORIZATION, basic(user, password)?);
        }
        drop(query);
        self.request(&url, &headers, None, user.is_some())
    }

    fn post(&self, scopes: &[String], token: &str) -> Result<Authorization, RegistryError> {
        let mut form = self.realm.clone();
        form.set_query(None);
        form.query_pairs_mut()
            .extend_pairs([("grant_type", "refresh_token"), ("client_id", CLIENT_ID), ("refresh_token", token)])
            .extend_pairs([("service", self.service.unwrap_or_default()), ("scope", &scopes.join(" "))]);
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        self.request(&self.realm, &headers, form.query().map(str::to_string), true)
    }

    fn request(
        &self,
        url: &Url,
        headers: &HeaderMap,
        form: Option<String>,
        has_credentials: bool,
    ) -> Result<Authorization, RegistryError> {
        let start = Instant::now();
        let limit = self.http.document_bytes;
        let identity = if has_credentials { Identity::Credentials } else { Identity::Anonymous };
        let (bytes, body_form) = self.http.retries.run(&self.http.cancellation, url, || {
            let response = self.http.send(url, headers.clone(), form.clone());
            let response = response.map_err(|failure| failure.of(identity))?;
            let status = ErrorResponse::of_status(response.status().as_u16());
            match status.status {
                200 => {}
                401 | 403 => return Err(self.rejected(status, has_credentials).into()),
                _ => return Err(self.failed(TokenError::Status(status)).into()),
            }
            let body_form = BodyForm::of(response.headers());
            let bytes = self.http.document(response, limit).map_err(|error| match CancelReason::of(&error) {
                Some(reason) => RegistryError::cancelled(url, reason).into(),
                None => Failure::Temporary { error: self.failed(TokenError::Read(error)), retry_after: None },
            });
            bytes.map(|bytes| (bytes, body_form))
        })?;
        let bytes = bytes.ok_or_else(|| self.failed(TokenError::TooLarge(limit)))?;
        // The error of serde is dropped, because it may quote the token.
        let response: TokenResponse = serde_json::from_slice(&bytes).map_err(|_| {
            let is_explained = body_form.explains(&bytes);
            let masked = body_form.masked(|text| self.mask(text, headers, form.as_deref()));
            self.failed(if is_explained { TokenError::Form(masked) } else { TokenError::Json })
        })?;
        let token = [response.token, response.access_token].into_iter().flatten().find(|token| !token.is_empty());
        let token = token.ok_or_else(|| self.failed(TokenError::Missing))?;
        let lifetime = lifetime(&bytes);
        // A little early, so that it does not expire on its way.
        let expires = start + lifetime - (lifetime / 10).min(Duration::from_secs(30));
        Ok(Authorization { header: sensitive("Bearer", &token)?, identity, expires: Some(expires) })
    }

    /// `text` without the credentials of the request: the password in its headers, or the token in its form.
    fn mask(&self, text: &str, headers: &HeaderMap, form: Option<&str>) -> String {
        let mut secrets = http::secrets_of(headers);
        let fields = reqwest::Url::parse(&format!("form:?{}", form.unwrap_or_default()));
        let fields = fields.iter().flat_map(|form| form.query_pairs());
        secrets.extend(fields.filter(|(name, _)| name == "refresh_token").map(|(_, token)| token.into_owned()));
        response::masked(text, &secrets)
    }

    fn rejected(&self, response: ErrorResponse, has_credentials: bool) -> RegistryError {
        let reason = if has_credentials {
            AuthenticationError::RejectedByTokenServer
        } else {
            AuthenticationError::NoCredentialsForTokenServer
        };
        RegistryError::Unauthorized { url: redacted(&self.realm), reason, response }
    }

    fn failed(&self, error: TokenError) -> RegistryError {
        RegistryError::Token { realm: redacted(&self.realm), scope: self.scope.to_string(), error }
    }
}

/// The URL of a token server, if credentials may be sent to it.
fn realm_url(http: &Http, realm: &str) -> Result<Url, RegistryError> {
    let invalid = |_| RegistryError::Protocol { url: redacted(http.base()), error: ProtocolError::Realm };
    let url = Url::parse(realm).map_err(invalid)?;
    let refused = |reason| RegistryError::Refused { url: redacted(&url), reason };
    if !url.username().is_empty() || url.password().is_some() {
        return Err(refused(Refusal::UserInUrl));
    }
    let same_host = url.host_str() == http.base().host_str();
    match url.scheme() {
        "https" => Ok(url),
        "http" if http.plain_http && same_host => Ok(url),
        _ => Err(refused(Refusal::InsecureTokenServer)),
    }
}

fn basic(user: &str, password: &str) -> Result<HeaderValue, RegistryError> {
    sensitive("Basic", &STANDARD.encode(format!("{user}:{password}")))
}

/// A header whose `Debug` does not show it.
fn sensitive(scheme: &str, value: &str) -> Result<HeaderValue, RegistryError> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lifetimes_of_tokens() {
        let default = Duration::from_secs(60);
        for (text, expected) in [
            ("300", Duration::from_secs(300)),
            ("300.0", Duration::from_secs(300)),
            ("300.5", Duration::from_millis(300_500)),
            (r#""300""#, Duration::from_secs(300)),
            (r#"" 300.0 ""#, Duration::from_secs(300)),
            ("1e9", Duration::from_secs(86_400)),
            ("0", default),
            ("-300", default),
            (r#""-300""#, default),
            (r#""inf""#, default),
            (r#""NaN""#, default),
            (r#""5 minutes""#, default),
            ("null", default),
            ("[300]", default),
            ("1e999", default),
        ] {
            assert_eq!(lifetime(format!(r#"{{"expires_in":{text}}}"#).as_bytes()), expected, "{text}");
        }
        assert_eq!(lifetime(b"{}"), default);
    }
}
