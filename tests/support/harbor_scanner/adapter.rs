//! Harbor's calls to an adapter, and its errors.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::go_json::{decode, field, object, text};
use crate::support::go_client::exchange;
use crate::support::server::Answer;

/// How Harbor shows an adapter who it is.
#[derive(Clone, Debug, Default)]
pub enum Auth {
    #[default]
    None,
    /// A user and a password, with a colon between them.
    Basic(String),
    Bearer(String),
    /// What Harbor's page calls `X-ScannerAdapter-API-Key`.
    ApiKey(String),
}

/// An adapter as it is registered.
#[derive(Clone, Debug)]
pub struct Adapter {
    /// Its URL, which may have a path.
    pub url: String,
    pub auth: Auth,
}

/// A request to an adapter.
pub struct Outgoing {
    pub method: &'static str,
    /// Below the adapter's URL.
    pub path: String,
    pub accept: &'static str,
    /// The body and its media type.
    pub body: Option<(Vec<u8>, &'static str)>,
}

impl Adapter {
    /// The answer, or Go's words.
    pub fn call(&self, request: &Outgoing, limit: Duration) -> Result<Answer, String> {
        let url = format!("{}{}", self.url.trim_end_matches('/'), request.path);
        let mut headers = vec![("Accept", request.accept.to_string())];
        match &self.auth {
            Auth::Basic(login) => headers.push(("Authorization", format!("Basic {}", STANDARD.encode(login)))),
            Auth::Bearer(token) => headers.push(("Authorization", format!("Bearer {token}"))),
            Auth::None | Auth::ApiKey(_) => {}
        }
        headers.extend(request.body.as_ref().map(|(_, media_type)| ("Content-Type", media_type.to_string())));
        if let Auth::ApiKey(key) = &self.auth {
            headers.push(("X-Scanneradapter-Api-Key", key.clone()));
        }
        exchange(request.method, &url, &headers, request.body.as_ref().map(|(body, _)| &body[..]), limit)
    }
}

/// What Harbor's log says of an answer with another status than the `expected` one.
pub fn unexpected(answer: &Answer, expected: u16) -> String {
    let status = format!("general response handler: unexpected status code: {}, expected: {expected}", answer.status);
    if answer.body.is_empty() {
        return status;
    }
    match message(&answer.body) {
        Ok(message) => format!("{message}: {status}"),
        Err(error) => format!("general response handler: {error}"),
    }
}

/// The message of `{"error":{"message":…}}`, empty where there is none, or Go's words about another body.
pub fn message(body: &[u8]) -> Result<String, String> {
    let document = decode(body)?;
    let none = serde_json::Map::new();
    let fields = object(&document, "Go value", "v1.ErrorResponse")?.unwrap_or(&none);
    let place = "Go struct field ErrorResponse.error";
    let error = object(field(fields, "error"), place, "v1.Error")?.unwrap_or(&none);
    text(field(error, "message"), "Go struct field Error.error.message", "string")
}
