//! A token service that Debian's `docker-registry` believes: JSON web tokens, signed by `openssl`.
//!
//! Source: distribution's "Docker Registry v2 Bearer token specification"; the certificate stands in `x5c`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use reqwest::Url;
use serde_json::json;

use super::registry::{Keys, run};
use super::server::{Answer, Request, Server};

/// A user whom the service knows, the password, and an identity token.
pub const USER: &str = "made-up-user";
pub const PASSWORD: &str = "made-up-token-password";
pub const IDENTITY: &str = "made-up-identity-token";

/// How a service behaves.
#[derive(Clone, Copy, Default)]
pub struct Manners {
    /// Whoever does not log in gets no token.
    pub wants_login: bool,
    /// The first so many tokens have expired when they come.
    pub expired: usize,
    /// It does not know of identity tokens.
    pub no_oauth: bool,
    /// It gives tokens that are good for so many seconds.
    pub lifetime: Option<u64>,
}

/// The service, and how many tokens it gave.
pub struct TokenServer {
    pub server: Server,
    keys: Keys,
    given: Arc<AtomicUsize>,
}

impl TokenServer {
    /// Starts a service that signs with a key of its own.
    pub fn start(manners: Manners) -> TokenServer {
        let (keys, given) = (Keys::new(), Arc::new(AtomicUsize::new(0)));
        let count = Arc::clone(&given);
        let (key, certificate) = (keys.path("ca.key"), chain(&keys.path("ca.crt")));
        let server = Server::answering(move |request, _| {
            if request.method == "POST" && manners.no_oauth {
                return Answer::new(404, "there is none");
            }
            match scopes(request, manners) {
                None => Answer::new(401, r#"{"errors":[{"code":"UNAUTHORIZED"}]}"#),
                Some(scopes) => {
                    let before = count.fetch_add(1, Ordering::Relaxed);
                    let token = token(&key, &certificate, &scopes, before, before < manners.expired);
                    let name = if request.method == "POST" { "access_token" } else { "token" };
                    let lifetime = manners.lifetime.unwrap_or(300);
                    Answer::new(200, json!({ name: token, "expires_in": lifetime }).to_string())
                }
            }
        });
        TokenServer { server, keys, given }
    }

    /// The certificate of the key that it signs with.
    pub fn certificate(&self) -> PathBuf {
        self.keys.path("ca.crt")
    }

    /// Where it is asked.
    pub fn realm(&self) -> String {
        format!("http://{}/token", self.server.host())
    }

    /// How many tokens it gave.
    pub fn given(&self) -> usize {
        self.given.load(Ordering::Relaxed)
    }
}

/// The scopes that a request may have; `None` where it may not have any.
fn scopes(request: &Request, manners: Manners) -> Option<Vec<String>> {
    let query = match request.method.as_str() {
        "POST" => String::from_utf8(request.body.clone()).unwrap(),
        _ => request.path.split_once('?').map(|(_, query)| query.to_string()).unwrap_or_default(),
    };
    let url = Url::parse(&format!("x:/?{query}")).unwrap();
    let all = |wanted: &str| -> Vec<String> {
        url.query_pairs().filter(|(name, _)| name == wanted).map(|(_, value)| value.into_owned()).collect()
    };
    assert_eq!(all("service"), ["made-up-registry"], "{query}");
    let scopes = all("scope").iter().flat_map(|scope| scope.split(' ')).map(str::to_string).collect();
    if request.method == "POST" {
        return (all("grant_type") == ["refresh_token"] && all("refresh_token") == [IDENTITY]).then_some(scopes);
    }
    let basic = |password: &str| format!("Basic {}", STANDARD.encode(format!("{USER}:{password}")));
    match request.header("authorization") {
        Some(header) if header == basic(PASSWORD) || (manners.no_oauth && header == basic(IDENTITY)) => Some(scopes),
        None if !manners.wants_login => Some(scopes),
        _ => None,
    }
}

/// The token with this number, for `scopes`.
fn token(key: &Path, certificate: &str, scopes: &[String], number: usize, is_expired: bool) -> String {
    let access: Vec<_> = scopes.iter().filter_map(|scope| access(scope)).collect();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let until = if is_expired { now - 600 } else { now + 600 };
    let claims = json!({
        "iss": "made-up-issuer", "aud": "made-up-registry", "sub": USER, "exp": until, "nbf": now - 1200,
        "iat": now - 1200, "jti": number.to_string(), "access": access,
    });
    let header = json!({ "typ": "JWT", "alg": "RS256", "x5c": [certificate] });
    let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let text = format!("{}.{}", encode(header.to_string().as_bytes()), encode(claims.to_string().as_bytes()));
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &text).unwrap();
    let signature = run(Command::new("openssl").args(["dgst", "-sha256", "-sign"]).arg(key).arg(file.path()));
    format!("{text}.{}", encode(&signature))
}

/// `type:name:action,action` as the registry reads it in a token.
fn access(scope: &str) -> Option<serde_json::Value> {
    let (kind, rest) = scope.split_once(':')?;
    let (name, actions) = rest.rsplit_once(':')?;
    Some(json!({ "type": kind, "name": name, "actions": actions.split(',').collect::<Vec<_>>() }))
}

/// The certificate in base64, as it stands between the lines of its PEM file.
fn chain(path: &PathBuf) -> String {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().filter(|line| !line.starts_with("-----")).collect()
}
