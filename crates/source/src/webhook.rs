//! Messages to a webhook: one POST, without redirects or repeats. Whoever sends them decides when to try again.
//!
//! The URL of a webhook may be all that it takes to post there, so that errors and `Debug` name its host alone.

use std::fmt;
use std::io::Read;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use reqwest::Url;
use reqwest::blocking::Client;
use reqwest::header::{HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::redirect::Policy;

use crate::registry::{RegistryError, chain, parse_retry_after, service_tls, without_trust};
use crate::waiting;
use layersift_format::{CancelReason, Cancellation};

/// The most bytes of an answer that are read, so that its connection ends well.
const MOST_BYTES: u64 = 64 << 10;

/// The URL of a webhook: `https`, or `http` at a loopback address.
#[derive(Clone, PartialEq, Eq)]
pub struct WebhookUrl(Url);

/// A text is not the URL of a webhook. It is not repeated: it may be a secret.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
#[error("invalid URL: expected https://HOST[:PORT]/PATH; http:// is for loopback addresses only")]
pub struct InvalidWebhookUrl;

impl WebhookUrl {
    /// The host and the port.
    pub fn host(&self) -> String {
        let host = self.0.host_str().unwrap_or_default();
        self.0.port().map_or(host.to_string(), |port| format!("{host}:{port}"))
    }
}

impl FromStr for WebhookUrl {
    type Err = InvalidWebhookUrl;

    fn from_str(text: &str) -> Result<WebhookUrl, InvalidWebhookUrl> {
        let url = Url::parse(text).map_err(|_| InvalidWebhookUrl)?;
        let host = url.host_str().unwrap_or_default();
        let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        let is_loopback = address.map_or(host == "localhost", |address| address.is_loopback());
        let is_allowed = url.scheme() == "https" || (url.scheme() == "http" && is_loopback);
        if is_allowed && !host.is_empty() { Ok(WebhookUrl(url)) } else { Err(InvalidWebhookUrl) }
    }
}

impl fmt::Debug for WebhookUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WebhookUrl({})", self.host())
    }
}

/// A message.
#[derive(Clone, Debug)]
pub struct Message {
    /// Its headers, the media type among them.
    pub headers: Vec<(&'static str, String)>,
    /// Its body.
    pub body: Vec<u8>,
}

/// What a webhook answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WebhookAnswer {
    /// The status.
    pub status: u16,
    /// How long to wait before the next message, if it says so.
    pub retry_after: Option<Duration>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WebhookError {
    /// A certificate cannot be used.
    #[error(transparent)]
    Certificate(#[from] RegistryError),
    /// The HTTP client cannot be made.
    #[error("{}", chain(_0))]
    Client(#[source] rustls::Error),
    /// A header has characters that it cannot have.
    #[error("invalid header `{0}`")]
    Header(&'static str),
    /// No connection, or no answer.
    #[error("{host}: {}", chain(error))]
    Unreachable {
        /// The host.
        host: String,
        /// The failure.
        #[source]
        error: reqwest::Error,
    },
    /// The deadline has passed, or the request was cancelled.
    #[error("{host}: {reason}")]
    Cancelled {
        /// The host.
        host: String,
        /// Which of the two.
        #[source]
        reason: CancelReason,
    },
}

/// A webhook.
#[derive(Clone, Debug)]
pub struct Webhook {
    /// Where it is.
    pub url: WebhookUrl,
    /// A PEM file with the only authorities that are trusted; the system's if there is none.
    pub ca: Option<PathBuf>,
}

impl Webhook {
    /// Posts a message. The proxy of the environment is used, but for loopback addresses.
    ///
    /// # Errors
    /// If there is no answer before `cancellation`, or the certificates cannot be used.
    pub fn post(&self, message: Message, cancellation: &Cancellation) -> Result<WebhookAnswer, WebhookError> {
        let webhook = self.clone();
        let timeout = cancellation.remaining();
        let cancelled = |reason| WebhookError::Cancelled { host: self.url.host(), reason };
        waiting::run(cancellation, move || webhook.send(message, timeout)).map_err(cancelled)?
    }

    fn send(&self, message: Message, timeout: Option<Duration>) -> Result<WebhookAnswer, WebhookError> {
        let WebhookUrl(url) = &self.url;
        let builder = match url.scheme() {
            "http" => {
                let tls = without_trust().map_err(WebhookError::Client)?;
                Client::builder().tls_backend_preconfigured(tls).no_proxy()
            }
            _ => Client::builder().tls_backend_preconfigured(service_tls(self.ca.as_deref(), None)?),
        };
        let unreachable =
            |error: reqwest::Error| WebhookError::Unreachable { host: self.url.host(), error: error.without_url() };
        let client = builder
            .redirect(Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .timeout(timeout)
            .user_agent(concat!("layersift/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(unreachable)?;
        let mut request = client.post(url.clone()).body(message.body);
        for (name, value) in message.headers {
            let value = HeaderValue::from_str(&value).map_err(|_| WebhookError::Header(name))?;
            request = request.header(HeaderName::from_static(name), value);
        }
        let response = request.send().map_err(unreachable)?;
        let status = response.status().as_u16();
        let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        let retry_after = retry_after.and_then(|value| parse_retry_after(value, SystemTime::now()));
        // The status is the answer, whatever becomes of the rest.
        let _ = response.take(MOST_BYTES).read_to_end(&mut Vec::new());
        Ok(WebhookAnswer { status, retry_after })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_that_may_be_a_secret_is_not_shown() {
        for (text, host) in [
            ("https://hooks.slack.example/services/T0/B0/made-up", "hooks.slack.example"),
            ("https://receiver.example:8443/x?token=made-up", "receiver.example:8443"),
            ("http://127.0.0.1:9000/made-up", "127.0.0.1:9000"),
            ("http://[::1]:9000/", "[::1]:9000"),
            ("http://localhost/made-up", "localhost"),
        ] {
            let url: WebhookUrl = text.parse().unwrap();
            assert_eq!(url.host(), host);
            assert!(!format!("{url:?}").contains("made-up"));
        }
        for text in ["http://hooks.example/x", "ftp://127.0.0.1/", "unix:///x", "hooks.example", "https:///", ""] {
            let error = text.parse::<WebhookUrl>().unwrap_err();
            assert!(text.is_empty() || !error.to_string().contains(text), "{text}");
        }
    }
}
