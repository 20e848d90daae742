//! Requests to an HTTP endpoint that the operator has set, such as another scanner: one at a time, without redirects,
//! proxies or repeats. Whoever asks has a deadline, and decides itself whether to ask again.

use std::fmt;
use std::io::Read;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use reqwest::Url;
use reqwest::blocking::Client;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::redirect::Policy;

use crate::registry::{RegistryError, chain, service_tls, without_trust};
use crate::waiting;
use layersift_format::{CancelReason, Cancellation};

/// An endpoint. A clone shares its connections.
#[derive(Clone)]
pub struct Endpoint {
    base: Url,
    /// A PEM file with the only authorities that are trusted; the system's if there is none.
    ca: Option<PathBuf>,
    client: Arc<OnceLock<Client>>,
}

/// A request.
#[derive(Clone)]
pub struct EndpointRequest {
    /// The path and query below the URL of the endpoint, with its slash.
    pub path: String,
    /// Headers, whose values are never logged.
    pub headers: Vec<(&'static str, String)>,
    /// The body of a `POST`; without one it is a `GET`.
    pub body: Option<Vec<u8>>,
    /// The most bytes of an answer.
    pub most_bytes: u64,
}

/// An answer that was received whole.
#[derive(Clone, Debug)]
pub struct EndpointAnswer {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Vec<u8>,
}

/// A text is not the URL of an endpoint.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("invalid URL: expected http:// or https:// with a host, and without a user, a query or a fragment")]
pub struct InvalidEndpoint;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EndpointError {
    /// A certificate cannot be used.
    #[error(transparent)]
    Certificate(#[from] RegistryError),
    /// The HTTP client cannot be made.
    #[error("{}", chain(_0))]
    Client(#[source] rustls::Error),
    /// A header has characters that none can have.
    #[error("invalid {0} header: expected printable ASCII characters")]
    Header(&'static str),
    /// No connection, or no answer.
    #[error("{endpoint}: {}", chain(error))]
    Unreachable {
        /// What was asked.
        endpoint: String,
        /// The failure.
        #[source]
        error: reqwest::Error,
    },
    /// The answer broke off.
    #[error("{endpoint}: the answer broke off: {error}")]
    Broken {
        /// What was asked.
        endpoint: String,
        /// The failure.
        #[source]
        error: std::io::Error,
    },
    /// The answer is too long.
    #[error("{endpoint}: the answer is longer than {most} bytes")]
    TooLong {
        /// What was asked.
        endpoint: String,
        /// The most bytes that are read.
        most: u64,
    },
    /// The deadline has passed, or the request was cancelled.
    #[error("{endpoint}: {reason}")]
    Cancelled {
        /// What was asked.
        endpoint: String,
        /// Which of the two.
        #[source]
        reason: CancelReason,
    },
}

impl FromStr for Endpoint {
    type Err = InvalidEndpoint;

    fn from_str(text: &str) -> Result<Endpoint, InvalidEndpoint> {
        let base = Url::parse(text).map_err(|_| InvalidEndpoint)?;
        let is_http = matches!(base.scheme(), "http" | "https") && base.host_str().is_some_and(|host| !host.is_empty());
        let is_plain = base.username().is_empty() && base.password().is_none();
        let ends = base.query().is_none() && base.fragment().is_none();
        if !(is_http && is_plain && ends) {
            return Err(InvalidEndpoint);
        }
        Ok(Endpoint { base, ca: None, client: Arc::default() })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.base.as_str().trim_end_matches('/'))
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Endpoint").field(&self.base.as_str()).finish()
    }
}

impl Endpoint {
    /// The same endpoint, with the authorities of a PEM file instead of the system's.
    pub fn with_ca(self, ca: Option<PathBuf>) -> Endpoint {
        Endpoint { ca, client: Arc::default(), ..self }
    }

    /// Sends a request, and reads the whole answer, whatever its status is.
    ///
    /// # Errors
    /// If there is no answer before `cancellation`, or the certificates cannot be used.
    pub fn send(&self, request: EndpointRequest, cancellation: &Cancellation) -> Result<EndpointAnswer, EndpointError> {
        let (endpoint, timeout) = (self.clone(), cancellation.remaining());
        let send = move || endpoint.send_within(request, timeout);
        let cancelled = |reason| EndpointError::Cancelled { endpoint: self.to_string(), reason };
        waiting::run(cancellation, send).map_err(cancelled)?
    }

    fn send_within(
        &self,
        request: EndpointRequest,
        timeout: Option<Duration>,
    ) -> Result<EndpointAnswer, EndpointError> {
        let EndpointRequest { path, headers, body, most_bytes } = request;
        let unreachable = |error: reqwest::Error| EndpointError::Unreachable {
            endpoint: self.to_string(),
            error: error.without_url(),
        };
        let (client, url) = (self.client()?, format!("{self}{path}"));
        let mut request = match body {
            Some(body) => client.post(url).body(body),
            None => client.get(url),
        };
        for (name, value) in headers {
            let mut value = HeaderValue::from_str(&value).map_err(|_| EndpointError::Header(name))?;
            value.set_sensitive(true);
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| EndpointError::Header(name))?;
            request = request.header(name, value);
        }
        if let Some(timeout) = timeout {
            request = request.timeout(timeout);
        }
        let response = request.send().map_err(unreachable)?;
        let (status, headers, mut body) = (response.status().as_u16(), response.headers().clone(), Vec::new());
        let read = response.take(most_bytes.saturating_add(1)).read_to_end(&mut body);
        read.map_err(|error| EndpointError::Broken { endpoint: self.to_string(), error })?;
        if body.len() as u64 > most_bytes {
            return Err(EndpointError::TooLong { endpoint: self.to_string(), most: most_bytes });
        }
        Ok(EndpointAnswer { status, headers, body })
    }

    /// The client, which is made once.
    fn client(&self) -> Result<Client, EndpointError> {
        if let Some(client) = self.client.get() {
            return Ok(client.clone());
        }
        let tls = match self.base.scheme() {
            "http" => without_trust().map_err(EndpointError::Client)?,
            _ => service_tls(self.ca.as_deref(), None)?,
        };
        let built = Client::builder()
            .tls_backend_preconfigured(tls)
            .no_proxy()
            .redirect(Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .user_agent(concat!("layersift/", env!("CARGO_PKG_VERSION")))
            .build();
        let client = built.map_err(|error| EndpointError::Unreachable { endpoint: self.to_string(), error })?;
        Ok(self.client.get_or_init(|| client).clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_a_url_with_a_host_alone() {
        for right in ["http://trivy:8080", "https://scanner.example/prefix", "http://[::1]:1"] {
            assert_eq!(right.parse::<Endpoint>().unwrap().to_string(), right);
        }
        for wrong in ["trivy:8080", "ftp://trivy", "http://user@trivy", "http://trivy/?a=b", "http://trivy/#a", ""] {
            assert_eq!(wrong.parse::<Endpoint>().unwrap_err(), InvalidEndpoint, "{wrong}");
        }
    }
}
