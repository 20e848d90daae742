//! Requests to Layersift's own service: JSON over HTTPS, or over a Unix socket of this machine.
//!
//! One request at a time, without redirects, proxies or repeats: whoever asks has a deadline, and decides itself
//! whether to ask again.

use std::fmt;
use std::io::Read;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use reqwest::Url;
use reqwest::blocking::{Client, ClientBuilder, Response};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use reqwest::redirect::Policy;
use rustls::ClientConfig;

use crate::registry::{ClientCertificate, RegistryError, chain, parse_retry_after, service_tls, without_trust};
use crate::waiting;
use layersift_format::{CancelReason, Cancellation};

/// The most bytes of an answer that are read.
const MAX_BYTES: u64 = 4 << 20;

/// Where the service is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServiceAddress {
    /// At a URL: `https`, or `http` at a loopback address, since a token must not cross a network unencrypted.
    Http(Url),
    /// At a Unix socket.
    Unix(PathBuf),
}

/// A text is not an address of a service.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "invalid service `{0}`: expected https://HOST[:PORT][/PATH] or unix:///PATH; http:// is for loopback addresses only"
)]
pub struct InvalidServiceAddress(String);

/// How the service is reached, and who asks.
#[derive(Clone)]
pub struct Service {
    /// Where it is.
    pub address: ServiceAddress,
    /// A PEM file with the only authorities that are trusted; the system's if there is none.
    pub ca: Option<PathBuf>,
    /// The client's certificate.
    pub client_certificate: Option<ClientCertificate>,
    /// The Bearer token.
    pub token: Option<String>,
}

/// What the service answered.
#[derive(Clone, Debug)]
pub struct ServiceAnswer {
    /// The status.
    pub status: u16,
    /// How long to wait before asking again, if it says so.
    pub retry_after: Option<Duration>,
    /// The body.
    pub body: Vec<u8>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServiceError {
    /// A certificate or a key cannot be used.
    #[error(transparent)]
    Certificate(#[from] RegistryError),
    /// The token has characters that no header can have.
    #[error("invalid token: expected printable ASCII characters")]
    Token,
    /// The HTTP client cannot be made.
    #[error("{}", chain(_0))]
    Client(#[source] rustls::Error),
    /// No connection, or no whole answer.
    #[error("{address}: {}", chain(error))]
    Unreachable {
        /// Where the service was asked.
        address: ServiceAddress,
        /// The failure.
        #[source]
        error: reqwest::Error,
    },
    /// The answer broke off.
    #[error("{address}: the answer broke off: {error}")]
    Broken {
        /// Where the service was asked.
        address: ServiceAddress,
        /// The failure.
        #[source]
        error: std::io::Error,
    },
    /// The answer is too long to be one.
    #[error("{0}: the answer is longer than 4 MiB")]
    TooLong(ServiceAddress),
    /// The deadline has passed, or the request was cancelled.
    #[error("{address}: {reason}")]
    Cancelled {
        /// Where the service was asked.
        address: ServiceAddress,
        /// Which of the two.
        #[source]
        reason: CancelReason,
    },
}

impl ServiceError {
    /// Whether the service could not be asked, so that the same request may be answered later.
    pub fn is_temporary(&self) -> bool {
        matches!(self, ServiceError::Unreachable { .. } | ServiceError::Broken { .. } | ServiceError::Cancelled { .. })
    }
}

impl FromStr for ServiceAddress {
    type Err = InvalidServiceAddress;

    fn from_str(text: &str) -> Result<ServiceAddress, InvalidServiceAddress> {
        let invalid = || InvalidServiceAddress(text.chars().take(160).filter(|c| !c.is_control()).collect());
        if let Some(path) = text.strip_prefix("unix://") {
            return if path.starts_with('/') { Ok(ServiceAddress::Unix(path.into())) } else { Err(invalid()) };
        }
        let url = Url::parse(text).map_err(|_| invalid())?;
        let host = url.host_str().unwrap_or_default();
        let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        let is_loopback = address.map_or(host == "localhost", |address| address.is_loopback());
        let is_allowed = url.scheme() == "https" || (url.scheme() == "http" && is_loopback);
        let is_plain = url.username().is_empty() && url.password().is_none();
        let ends = url.query().is_none() && url.fragment().is_none();
        if is_allowed && is_plain && ends && !host.is_empty() { Ok(ServiceAddress::Http(url)) } else { Err(invalid()) }
    }
}

impl fmt::Display for ServiceAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ServiceAddress::Http(url) => f.write_str(url.as_str().trim_end_matches('/')),
            ServiceAddress::Unix(path) => write!(f, "unix://{}", path.display()),
        }
    }
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Service {
    /// Posts `body`, which is JSON, to `path`, and reads the whole answer, whatever its status is.
    ///
    /// # Errors
    /// If there is no answer before `cancellation`, or the certificates cannot be used.
    pub fn post(&self, path: &str, body: Vec<u8>, cancellation: &Cancellation) -> Result<ServiceAnswer, ServiceError> {
        let service = self.clone();
        let (path, timeout) = (path.to_string(), cancellation.remaining());
        // The client is dropped on the other thread: to drop it may wait for a name that is still being looked up.
        let send = move || service.send(&path, body, timeout);
        let cancelled = |reason| ServiceError::Cancelled { address: self.address.clone(), reason };
        waiting::run(cancellation, send).map_err(cancelled)?
    }

    fn send(&self, path: &str, body: Vec<u8>, timeout: Option<Duration>) -> Result<ServiceAnswer, ServiceError> {
        let (builder, url) = match &self.address {
            ServiceAddress::Unix(socket) => {
                let builder = unix_client(socket, without_trust().map_err(ServiceError::Client)?);
                (builder, format!("http://layersift{path}"))
            }
            ServiceAddress::Http(url) => {
                let tls = match url.scheme() {
                    "http" => without_trust().map_err(ServiceError::Client)?,
                    _ => service_tls(self.ca.as_deref(), self.client_certificate.as_ref())?,
                };
                let base = url.as_str().trim_end_matches('/');
                // The proxy of the environment is containerd's, for registries.
                (Client::builder().tls_backend_preconfigured(tls).no_proxy(), format!("{base}{path}"))
            }
        };
        let unreachable = |error: reqwest::Error| ServiceError::Unreachable {
            address: self.address.clone(),
            error: error.without_url(),
        };
        let client = builder
            .redirect(Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .timeout(timeout)
            .user_agent(concat!("layersift/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(unreachable)?;
        let mut request = client.post(url).header(CONTENT_TYPE, "application/json").body(body);
        if let Some(token) = &self.token {
            let mut value = HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| ServiceError::Token)?;
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        }
        self.read(request.send().map_err(unreachable)?)
    }

    fn read(&self, response: Response) -> Result<ServiceAnswer, ServiceError> {
        let status = response.status().as_u16();
        let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        let retry_after = retry_after.and_then(|value| parse_retry_after(value, SystemTime::now()));
        let mut body = Vec::new();
        response
            .take(MAX_BYTES + 1)
            .read_to_end(&mut body)
            .map_err(|error| ServiceError::Broken { address: self.address.clone(), error })?;
        if body.len() as u64 > MAX_BYTES {
            return Err(ServiceError::TooLong(self.address.clone()));
        }
        Ok(ServiceAnswer { status, retry_after, body })
    }
}

/// A client whose every request goes to `socket`.
pub(crate) fn unix_client(socket: &Path, tls: ClientConfig) -> ClientBuilder {
    Client::builder().unix_socket(socket).tls_backend_preconfigured(tls)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_sent_over_tls_or_stays_on_the_machine() {
        for right in [
            "https://layersift.example",
            "https://layersift.example:8443/prefix",
            "http://127.0.0.1:9000",
            "http://[::1]:9000",
            "http://localhost:9000",
            "unix:///run/layersift/verifier.sock",
        ] {
            let address: ServiceAddress = right.parse().unwrap();
            assert_eq!(address.to_string(), right);
        }
        for wrong in [
            "http://layersift.example",
            "http://10.0.0.1",
            "https://user@layersift.example",
            "https://layersift.example/?token=x",
            "unix://relative.sock",
            "ftp://layersift.example",
            "layersift.example",
            "",
        ] {
            assert!(wrong.parse::<ServiceAddress>().is_err(), "{wrong}");
        }
    }
}
