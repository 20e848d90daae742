//! Who asks: challenges are answered with tokens or passwords, tokens are kept until shortly before they expire.
//!
//! Sources: distribution's "Token Authentication Specification" and "OAuth2 Token Authentication".
//!
//! Credentials go to the token service that the registry's challenge names, whatever host it is on: Docker's hub and
//! many others have it elsewhere, and a registry that wanted to steal a password could ask for it directly. They go
//! there over HTTPS only; over HTTP where plain HTTP was allowed and it is the registry's own host. The guard keeps
//! them from addresses inside the network, and no redirect of a token service is followed.

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
use super::credentials::CredentialFiles;
use super::error::{RegistryError, shown};
use super::http::Http;
use super::options::{Credentials, Login};
use super::reference::Host;
use super::retry::{self, Failure};

/// What this program calls itself to token services.
const CLIENT: &str = "layersift";

/// How long a token is good for when nobody says.
const LIFETIME: u64 = 60;

/// Scopes whose tokens are kept.
const MOST_SCOPES: usize = 10_000;

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

/// What is known of a scope: how the registry wants it asked for, and what was got. One thread at a time gets a token.
#[derive(Default)]
struct Slot {
    challenge: Option<Challenge>,
    pass: Option<Pass>,
}

/// The value of an `Authorization` header.
struct Pass {
    header: HeaderValue,
    /// When a new one is needed; `None` for a password.
    until: Option<Instant>,
}

impl Pass {
    fn is_fresh(&self) -> bool {
        self.until.is_none_or(|until| Instant::now() < until)
    }
}

/// Answers the challenges of one registry.
pub(super) struct Auth {
    host: Host,
    login: Login,
    files: Option<CredentialFiles>,
    slots: Mutex<HashMap<Scope, Arc<Mutex<Slot>>>>,
    /// How the registry last wanted to be asked, for scopes that it has not been asked for yet.
    usual: Mutex<Option<Challenge>>,
    /// What [`Auth::unasked`] found, so that no helper is started for every page.
    unasked: Mutex<Option<Option<HeaderValue>>>,
}

impl Auth {
    /// # Errors
    /// For stored credentials that cannot be read.
    pub(super) fn new(host: &Host, login: &Login) -> Result<Auth, RegistryError> {
        let files = matches!(login, Login::Stored).then(CredentialFiles::of_environment).transpose()?;
        let (slots, usual, unasked) = (Mutex::default(), Mutex::default(), Mutex::default());
        Ok(Auth { host: host.clone(), login: login.clone(), files, slots, usual, unasked })
    }

    /// What to send along at first; nothing, as long as the registry has not said that it wants something.
    pub(super) fn header(&self, http: &Arc<Http>, scope: &Scope) -> Result<Option<HeaderValue>, RegistryError> {
        let slot = self.slot(scope);
        let mut slot = lock(&slot);
        if let Some(pass) = slot.pass.as_ref().filter(|pass| pass.is_fresh()) {
            return Ok(Some(pass.header.clone()));
        }
        let challenge = slot.challenge.clone().or_else(|| lock(&self.usual).clone());
        let Some(challenge) = challenge else { return Ok(None) };
        self.renew(http, scope, challenge, &mut slot)
    }

    /// What to send along after a 401, when `used` was sent along before.
    pub(super) fn answer(
        &self,
        http: &Arc<Http>,
        scope: &Scope,
        challenge: Challenge,
        used: Option<&HeaderValue>,
    ) -> Result<Option<HeaderValue>, RegistryError> {
        let slot = self.slot(scope);
        let mut slot = lock(&slot);
        // Another thread may have been faster.
        if let Some(pass) = slot.pass.as_ref().filter(|pass| pass.is_fresh() && Some(&pass.header) != used) {
            return Ok(Some(pass.header.clone()));
        }
        self.renew(http, scope, challenge, &mut slot)
    }

    /// What to send along unasked, to an interface that gives strangers less instead of asking them who they are:
    /// user and password, or a token that the registry itself takes. `None` where neither is known.
    pub(super) fn unasked(&self) -> Result<Option<HeaderValue>, RegistryError> {
        let mut known = lock(&self.unasked);
        if let Some(header) = known.as_ref() {
            return Ok(header.clone());
        }
        let header = match self.credentials(&Scope::Catalog)? {
            Some(Credentials::Password { user, password }) => Some(basic(&user, &password)?),
            Some(Credentials::AccessToken(token)) => Some(sensitive("Bearer", &token)?),
            Some(Credentials::IdentityToken { .. }) | None => None,
        };
        Ok(known.insert(header).clone())
    }

    /// Whether a repository has credentials at all, for an error that says what to do.
    pub(super) fn knows(&self, scope: &Scope) -> bool {
        matches!(self.credentials(scope), Ok(Some(_)))
    }

    /// `text` without the secrets that were sent along, and of a length to be shown.
    pub(super) fn scrub(&self, text: &str, scope: &Scope) -> String {
        let text: String = text.chars().take(400).map(|c| if c.is_control() { ' ' } else { c }).collect();
        let mut secrets = match self.credentials(scope) {
            Ok(Some(Credentials::Password { user, password })) => {
                vec![STANDARD.encode(format!("{user}:{password}")), password]
            }
            Ok(Some(Credentials::IdentityToken { token, .. } | Credentials::AccessToken(token))) => vec![token],
            _ => Vec::new(),
        };
        let slot = self.slot(scope);
        let slot = lock(&slot);
        let sent = slot.pass.as_ref().and_then(|pass| pass.header.to_str().ok());
        secrets.extend(sent.and_then(|sent| sent.split_once(' ')).map(|(_, token)| token.to_string()));
        secrets.retain(|secret| !secret.is_empty());
        let text = secrets.iter().fold(text, |text, secret| text.replace(secret, "****"));
        // What was cut off, or is another's, is still a long word, and those of a message are not.
        let words = text.split(' ').map(|word| if word.len() > 100 { "****" } else { word });
        words.collect::<Vec<_>>().join(" ")
    }

    fn slot(&self, scope: &Scope) -> Arc<Mutex<Slot>> {
        let mut slots = lock(&self.slots);
        if slots.len() >= MOST_SCOPES {
            slots.clear();
        }
        Arc::clone(slots.entry(scope.clone()).or_default())
    }

    fn credentials(&self, scope: &Scope) -> Result<Option<Credentials>, RegistryError> {
        match (&self.login, &self.files) {
            (Login::As(credentials), _) => Ok(Some(credentials.clone())),
            (Login::Stored, Some(files)) => files.find(&self.host, scope.repository()),
            _ => Ok(None),
        }
    }

    fn renew(
        &self,
        http: &Arc<Http>,
        scope: &Scope,
        challenge: Challenge,
        slot: &mut Slot,
    ) -> Result<Option<HeaderValue>, RegistryError> {
        let credentials = self.credentials(scope)?;
        let pass = match (&challenge, credentials) {
            (Challenge::Bearer { .. }, Some(Credentials::AccessToken(token))) => {
                Some(Pass { header: sensitive("Bearer", &token)?, until: None })
            }
            (Challenge::Bearer { realm, service, scope: asked, .. }, credentials) => {
                let service = Service { http, realm: realm_of(http, realm)?, name: service.as_deref(), scope };
                Some(service.token(asked.as_deref(), credentials.as_ref())?)
            }
            (Challenge::Basic, Some(Credentials::Password { user, password })) => {
                Some(Pass { header: basic(&user, &password)?, until: None })
            }
            (Challenge::Basic, _) => None,
        };
        // What the challenge said of this scope is of no use to another.
        let usual = match challenge.clone() {
            Challenge::Bearer { realm, service, .. } => Challenge::Bearer { realm, service, scope: None, error: None },
            Challenge::Basic => Challenge::Basic,
        };
        *lock(&self.usual) = Some(usual);
        let header = pass.as_ref().map(|pass| pass.header.clone());
        *slot = Slot { challenge: Some(challenge), pass };
        Ok(header)
    }
}

/// A token service that is asked for one token.
struct Service<'s> {
    http: &'s Arc<Http>,
    realm: Url,
    name: Option<&'s str>,
    scope: &'s Scope,
}

/// What a token service answers. Some services have one name for the token, some the other.
#[derive(Deserialize)]
struct Given {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
}

impl Service<'_> {
    fn token(&self, asked: Option<&str>, credentials: Option<&Credentials>) -> Result<Pass, RegistryError> {
        let own = self.scope.to_string();
        let mut scopes = vec![own.clone()];
        // A registry that maps names calls a repository something else. That may widen what is asked for, but not to
        // writing.
        let reads = |asked: &&str| asked.ends_with(":pull") || *asked == "registry:catalog:*";
        let asked = asked.into_iter().flat_map(str::split_ascii_whitespace).filter(|asked| *asked != own);
        scopes.extend(asked.filter(reads).take(4).map(str::to_string));
        match credentials {
            Some(Credentials::IdentityToken { user, token }) => match self.post(&scopes, token) {
                // A service that does not know of identity tokens may take them as passwords.
                Err(RegistryError::Status { status: 404 | 405, .. }) if !user.is_empty() => {
                    self.get(&scopes, Some((user, token)))
                }
                given => given,
            },
            Some(Credentials::Password { user, password }) => self.get(&scopes, Some((user, password))),
            Some(Credentials::AccessToken(_)) | None => self.get(&scopes, None),
        }
    }

    fn get(&self, scopes: &[String], user: Option<(&String, &String)>) -> Result<Pass, RegistryError> {
        let mut url = self.realm.clone();
        let mut headers = HeaderMap::new();
        let mut query = url.query_pairs_mut();
        query.extend_pairs(self.name.map(|name| ("service", name)));
        query.extend_pairs(scopes.iter().map(|scope| ("scope", scope)));
        if let Some((user, password)) = user {
            query.append_pair("account", user).append_pair("client_id", CLIENT);
            headers.insert(AUTHORIZATION, basic(user, password)?);
        }
        drop(query);
        self.ask(&url, &headers, None, user.is_some())
    }

    fn post(&self, scopes: &[String], token: &str) -> Result<Pass, RegistryError> {
        let mut form = self.realm.clone();
        form.set_query(None);
        form.query_pairs_mut()
            .extend_pairs([("grant_type", "refresh_token"), ("client_id", CLIENT), ("refresh_token", token)])
            .extend_pairs([("service", self.name.unwrap_or_default()), ("scope", &scopes.join(" "))]);
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        self.ask(&self.realm, &headers, form.query().map(str::to_string), true)
    }

    fn ask(&self, url: &Url, headers: &HeaderMap, form: Option<String>, known: bool) -> Result<Pass, RegistryError> {
        let asked = Instant::now();
        let bytes = retry::run(&self.http.retry, || {
            let response = self.http.send(url, headers.clone(), form.clone())?;
            let status = response.status().as_u16();
            match status {
                200 => {}
                401 | 403 => return Err(self.refused(known).into()),
                404 | 405 => {
                    return Err(RegistryError::Status { url: shown(url), status, said: String::new() }.into());
                }
                _ => return Err(self.failed(format!("the answer is {status}")).into()),
            }
            match self.http.document(response, self.http.document_bytes) {
                Ok(bytes) => Ok(bytes),
                Err(error) => Err(Failure::Passing { error: self.failed(error.to_string()), wait: None }),
            }
        })?;
        let bytes = bytes.ok_or_else(|| self.failed("the answer is too large".into()))?;
        // What serde says may quote the token.
        let given: Given = serde_json::from_slice(&bytes).map_err(|_| self.failed("the answer is no token".into()))?;
        let token = [given.token, given.access_token].into_iter().flatten().find(|token| !token.is_empty());
        let token = token.ok_or_else(|| self.failed("there is no token in the answer".into()))?;
        let seconds = given.expires_in.filter(|seconds| *seconds > 0).unwrap_or(LIFETIME).min(86_400);
        let lifetime = Duration::from_secs(seconds);
        // A little early, so that it does not expire on its way.
        let until = asked + lifetime - (lifetime / 10).min(Duration::from_secs(30));
        Ok(Pass { header: sensitive("Bearer", &token)?, until: Some(until) })
    }

    fn refused(&self, known: bool) -> RegistryError {
        let reason = if known {
            "its token service does not take these credentials; log in again"
        } else {
            "its token service gives none to anyone; log in"
        };
        RegistryError::Unauthorized { url: shown(&self.realm), reason: reason.into() }
    }

    fn failed(&self, reason: String) -> RegistryError {
        RegistryError::Token { realm: shown(&self.realm), scope: self.scope.to_string(), reason }
    }
}

/// The address of a token service, where it may be given credentials.
fn realm_of(http: &Http, realm: &str) -> Result<Url, RegistryError> {
    let wrong = |reason: &str| RegistryError::Answer { url: shown(http.base()), reason: reason.into() };
    let url = Url::parse(realm).map_err(|_| wrong("its token service has no address"))?;
    let refused = |reason: &str| RegistryError::Refused { url: shown(&url), reason: reason.into() };
    if !url.username().is_empty() || url.password().is_some() {
        return Err(refused("a token service with a user in its address"));
    }
    let same_host = url.host_str() == http.base().host_str();
    match url.scheme() {
        "https" => Ok(url),
        "http" if http.plain_http && same_host => Ok(url),
        _ => Err(refused("a token service that is not asked over HTTPS")),
    }
}

fn basic(user: &str, password: &str) -> Result<HeaderValue, RegistryError> {
    sensitive("Basic", &STANDARD.encode(format!("{user}:{password}")))
}

/// A header that is not shown by `Debug`.
fn sensitive(scheme: &str, value: &str) -> Result<HeaderValue, RegistryError> {
    let mut header = HeaderValue::from_str(&format!("{scheme} {value}")).map_err(|_| {
        let reason = "it has characters that no header can have".into();
        RegistryError::Credentials { place: "the token".into(), reason }
    })?;
    header.set_sensitive(true);
    Ok(header)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
