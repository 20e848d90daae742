//! Token servers: they exchange credentials for a token that a registry takes.
//!
//! Sources: distribution's "Token Authentication Specification" and "OAuth2 Token Authentication".

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use layersift_model::parse;
use reqwest::Url;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use serde::Deserialize;

use super::auth::{Authorization, HARBOR, Scope, basic, sensitive};
use super::claims::Claims;
use super::error::{AuthenticationError, Identity, ProtocolError, RegistryError, TokenError, redacted};
use super::form::BodyForm;
use super::http::{self, Http};
use super::options::Credentials;
use super::refusal::Refusal;
use super::response::{self, ErrorResponse};
use super::retry::Failure;
use layersift_format::CancelReason;

/// The client ID that token servers are given.
const CLIENT_ID: &str = "layersift";

/// The lifetime in seconds of a token whose response names none.
const DEFAULT_LIFETIME: f64 = 60.0;

/// The longest lifetime in seconds: a day.
const MAX_LIFETIME: f64 = 86_400.0;

/// A token server, as a challenge names it, and the scope that it is asked for.
pub(super) struct TokenServer<'s> {
    http: &'s Http,
    realm: Url,
    service: Option<&'s str>,
    scope: &'s Scope,
    login: &'s LoginCheck,
}

/// How a login is checked with a token server that may give tokens to strangers.
pub(super) struct LoginCheck {
    /// How long a login that is not accepted is tried again: some servers lock a user for a moment after anyone's wrong
    /// password.
    patience: Duration,
    /// Whether the server's tokens name no subject although it accepted the login.
    names_nobody: AtomicBool,
    /// Held while the server is asked.
    turn: Mutex<()>,
    /// Whether it did not accept the login the last time, in all that time: then it is asked once.
    is_rejected: AtomicBool,
}

impl LoginCheck {
    pub(super) fn new(patience: Duration) -> LoginCheck {
        LoginCheck {
            patience,
            names_nobody: AtomicBool::new(false),
            turn: Mutex::new(()),
            is_rejected: AtomicBool::new(false),
        }
    }
}

/// A token, and what it says about itself.
struct Issued {
    authorization: Authorization,
    claims: Option<Claims>,
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
    let seconds = parse::json::<TokenLifetime>(response).ok().and_then(|found| read(found.expires_in));
    let seconds = seconds.filter(|seconds| *seconds >= 1.0).unwrap_or(DEFAULT_LIFETIME);
    Duration::from_secs_f64(seconds.min(MAX_LIFETIME))
}

impl<'s> TokenServer<'s> {
    /// The server at `realm`.
    ///
    /// # Errors
    /// If credentials may not be sent there.
    pub(super) fn new(
        http: &'s Http,
        (realm, service): (&str, Option<&'s str>),
        scope: &'s Scope,
        login: &'s LoginCheck,
    ) -> Result<TokenServer<'s>, RegistryError> {
        Ok(TokenServer { http, realm: realm_url(http, realm)?, service, scope, login })
    }

    /// A token for the scope. `challenged` are the scopes that the registry asked for.
    ///
    /// # Errors
    /// If the server gives none, or does not accept the credentials.
    pub(super) fn token(
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
                    self.of_user(&scopes, user, token)
                }
                result => Ok(result?.authorization),
            },
            Some(Credentials::Password { user, password }) => self.of_user(&scopes, user, password),
            Some(Credentials::AccessToken(_)) | None => Ok(self.get(&scopes, None)?.authorization),
        }
    }

    /// Logs in without asking for a scope, as `docker login` does. `None` if the server gives no token without one.
    ///
    /// # Errors
    /// If the server does not accept the credentials, or cannot be asked.
    pub(super) fn log_in(&self, user: &str, password: &str) -> Result<Option<Authorization>, RegistryError> {
        // One thread asks: others wait for its answer, and do not send a wrong password as well.
        let _turn = self.login.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let patience = if self.service == Some(HARBOR) { self.login.patience } else { Duration::ZERO };
        let started = Instant::now();
        loop {
            match self.get(&[], Some((user, password))) {
                Ok(issued) => {
                    self.login.is_rejected.store(false, Ordering::Relaxed);
                    return Ok(Some(issued.authorization));
                }
                Err(error @ RegistryError::Unauthorized { .. }) => {
                    let is_rejected = self.login.is_rejected.load(Ordering::Relaxed);
                    if is_rejected || started.elapsed() >= patience {
                        self.login.is_rejected.store(true, Ordering::Relaxed);
                        return Err(error);
                    }
                    self.http.cancellation.wait(patience / 10);
                    let cancelled = |reason| RegistryError::cancelled(&self.realm, reason);
                    self.http.cancellation.check().map_err(cancelled)?;
                }
                Err(error) if error.is_temporary() => return Err(error),
                // It gives no token for nothing.
                Err(_) => return Ok(None),
            }
        }
    }

    /// A token for a user. Some servers answer a wrong password with a token for anyone, which opens what is public
    /// (Harbor does). So a token that names nobody, or grants nothing, is only taken if the login is accepted.
    fn of_user(&self, scopes: &[String], user: &str, password: &str) -> Result<Authorization, RegistryError> {
        let issued = self.get(scopes, Some((user, password)))?;
        if !self.is_doubtful(&issued) {
            return Ok(issued.authorization);
        }
        self.log_in(user, password)?;
        // The user may have been locked only when the token was given.
        let issued = self.get(scopes, Some((user, password)))?;
        if issued.claims.as_ref().is_some_and(|claims| claims.has_no_subject() && !claims.grants_nothing()) {
            self.login.names_nobody.store(true, Ordering::Relaxed);
        }
        Ok(issued.authorization)
    }

    fn is_doubtful(&self, issued: &Issued) -> bool {
        let names_nobody = self.login.names_nobody.load(Ordering::Relaxed);
        let is_doubtful = |claims: &Claims| claims.grants_nothing() || (claims.has_no_subject() && !names_nobody);
        issued.claims.as_ref().is_some_and(is_doubtful)
    }

    fn get(&self, scopes: &[String], user: Option<(&str, &str)>) -> Result<Issued, RegistryError> {
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

    fn post(&self, scopes: &[String], token: &str) -> Result<Issued, RegistryError> {
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
    ) -> Result<Issued, RegistryError> {
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
        let response: TokenResponse = parse::json(&bytes).map_err(|_| {
            let is_explained = body_form.explains(&bytes);
            let masked = body_form.masked(|text| self.mask(text, headers, form.as_deref()));
            self.failed(if is_explained { TokenError::Form(masked) } else { TokenError::Json })
        })?;
        let token = [response.token, response.access_token].into_iter().flatten().find(|token| !token.is_empty());
        let token = token.ok_or_else(|| self.failed(TokenError::Missing))?;
        let lifetime = lifetime(&bytes);
        // A little early, so that it does not expire on its way.
        let expires = start + lifetime - (lifetime / 10).min(Duration::from_secs(30));
        let authorization = Authorization { header: sensitive("Bearer", &token)?, identity, expires: Some(expires) };
        Ok(Issued { authorization, claims: Claims::of(&token) })
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
