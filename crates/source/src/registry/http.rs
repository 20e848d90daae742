//! HTTP requests: sent if the guard allows it, redirects followed by hand, bodies read under a time limit.
//!
//! `Authorization` goes to the registry's own scheme, host and port. It is dropped for good with the first redirect
//! away from there, as is the client certificate. Cookies are not kept, and nothing is decompressed: the bytes are
//! hashed.

use std::error::Error;
use std::io::{self, Read};
use std::ops::Deref;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::Url;
use reqwest::blocking::{Client, ClientBuilder};
use reqwest::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CACHE_CONTROL, CONTENT_LENGTH, HeaderMap, HeaderValue, IF_NONE_MATCH,
    LOCATION, RANGE, RETRY_AFTER,
};
use reqwest::redirect::Policy;

use super::error::{Identity, RegistryError, redacted};
use super::guard::Guard;
use super::options::RegistryOptions;
use super::pace::Pace;
use super::reference::Host;
use super::refusal::Refusal;
use super::response::{self, ErrorResponse};
use super::retry::{self, Failure, Retries};
use super::tls::{ConfigurationError, Trust};
use crate::waiting::{self, CancellableReader};
use layersift_format::{CancelReason, Cancellation};
use layersift_model::Digest;

/// Redirects that one request follows.
const MAX_REDIRECTS: u32 = 5;

/// The longest wait that a server may ask for with a status other than 429.
const LONGEST_OUTAGE: Duration = Duration::from_secs(120);

/// Bytes that must arrive within the stall timeout, so that a server cannot keep a connection open with a byte now and
/// then.
const MIN_BYTES_PER_STALL_TIMEOUT: u64 = 64 << 10;

/// A `GET` request, or one for its headers.
#[derive(Clone, Debug)]
pub(super) struct Request<'r> {
    /// The URL at the registry.
    pub(super) url: &'r Url,
    /// The value of `Accept`.
    pub(super) accept: &'r str,
    /// The offset of the first byte to send; 0 for the whole body.
    pub(super) offset: u64,
    /// Nothing is to be sent if the digest is still this one.
    pub(super) unless: Option<&'r Digest>,
    /// Whether a cache in between must ask the registry: what it kept of a listing may lack what came since.
    pub(super) is_fresh: bool,
    /// Whether only the headers of the response are wanted: a `HEAD` request.
    pub(super) is_head: bool,
}

impl<'r> Request<'r> {
    /// A request for the whole of `url`, as one of the media types `accept`.
    pub(super) fn whole(url: &'r Url, accept: &'r str) -> Request<'r> {
        Request { url, accept, offset: 0, unless: None, is_fresh: false, is_head: false }
    }

    /// A request for a listing, or for what else may have changed since a cache kept it.
    pub(super) fn fresh(url: &'r Url, accept: &'r str) -> Request<'r> {
        Request { is_fresh: true, ..Request::whole(url, accept) }
    }

    fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_str(self.accept).unwrap_or(HeaderValue::from_static("*/*")));
        if self.offset > 0
            && let Ok(range) = HeaderValue::from_str(&format!("bytes={}-", self.offset))
        {
            headers.insert(RANGE, range);
        }
        if let Some(known) = self.unless
            && let Ok(etag) = HeaderValue::from_str(&format!("\"{known}\""))
        {
            headers.insert(IF_NONE_MATCH, etag);
        }
        if self.is_fresh {
            headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        }
        headers
    }
}

/// What a request does, with its body.
pub(super) enum Message {
    Get,
    Head,
    Post(String),
    Put(Vec<u8>),
    Patch(Vec<u8>),
}

/// A response whose body is still to be read.
pub(super) struct Response {
    /// Status, headers and body.
    pub(super) inner: reqwest::blocking::Response,
    /// Whether it came from the registry itself, and not from a host that it redirected to.
    pub(super) is_registrys: bool,
}

impl Response {
    /// The text of a header.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.inner.headers().get(name)?.to_str().ok()
    }

    pub(super) fn status(&self) -> u16 {
        self.inner.status().as_u16()
    }
}

/// Sends requests to one registry and to the hosts that it names. A clone shares connections, rate and counts.
#[derive(Clone)]
pub(super) struct Http {
    shared: Arc<Shared>,
    /// What ends requests, reads and waits early.
    pub(super) cancellation: Cancellation,
}

/// What all clones have in common.
pub(super) struct Shared {
    base: Url,
    guard: Arc<Guard>,
    registry_client: Client,
    /// The client for all other hosts, which do not get the client certificate.
    other_client: Client,
    pub(super) pace: Pace,
    pub(super) retries: Retries,
    pub(super) plain_http: bool,
    pub(super) document_bytes: u64,
    stall_timeout: Duration,
}

impl Deref for Http {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.shared
    }
}

impl Http {
    /// A client for `host`.
    ///
    /// # Errors
    /// For certificates that cannot be used.
    pub(super) fn new(host: &Host, options: &RegistryOptions) -> Result<Http, RegistryError> {
        let scheme = if options.plain_http { "http" } else { "https" };
        let failed = |error: ConfigurationError| RegistryError::Configuration { subject: host.to_string(), error };
        let base = Url::parse(&format!("{scheme}://{}/", host.authority()))
            .map_err(|error| failed(ConfigurationError::Url(error)))?;
        let guard = Arc::new(Guard::new(&base));
        let trust = Trust::of(host, options)?;
        let client = |with_certificate: bool| -> Result<Client, RegistryError> {
            let builder: ClientBuilder = Client::builder()
                .tls_backend_preconfigured(trust.config(with_certificate)?)
                .dns_resolver(Arc::clone(&guard))
                .redirect(Policy::none())
                .retry(reqwest::retry::never())
                .referer(false)
                .connect_timeout(options.connect_timeout)
                .timeout(options.stall_timeout)
                .user_agent(concat!("layersift/", env!("CARGO_PKG_VERSION")));
            builder.build().map_err(|error| failed(ConfigurationError::Client(error.without_url())))
        };
        let registry_client = client(true)?;
        let other_client = if trust.has_client_certificate() { client(false)? } else { registry_client.clone() };
        let shared = Shared {
            base,
            guard,
            registry_client,
            other_client,
            pace: Pace::new(&options.rate, options.byte_limit.clone()),
            retries: Retries::new(options.retry.clone(), options.patience.clone()),
            plain_http: options.plain_http,
            document_bytes: options.document_bytes,
            stall_timeout: options.stall_timeout,
        };
        Ok(Http { shared: Arc::new(shared), cancellation: options.cancellation.clone() })
    }

    /// The same client, whose operations end with `cancellation`.
    pub(super) fn with_cancellation(&self, cancellation: Cancellation) -> Http {
        Http { shared: Arc::clone(&self.shared), cancellation }
    }

    /// The URL of the registry, with the path `/`.
    pub(super) fn base(&self) -> &Url {
        &self.base
    }

    /// Sends a request and follows redirects.
    pub(super) fn get(&self, request: &Request<'_>, authorization: Option<&HeaderValue>) -> Result<Response, Failure> {
        let mut url = request.url.clone();
        let mut is_registrys = self.is_registrys(&url);
        for _ in 0..=MAX_REDIRECTS {
            let mut headers = request.headers();
            if let Some(authorization) = authorization.filter(|_| is_registrys) {
                headers.insert(AUTHORIZATION, authorization.clone());
            }
            let message = if request.is_head { Message::Head } else { Message::Get };
            let response = self.transmit(&url, headers, message)?;
            if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
                return Ok(Response { inner: response, is_registrys });
            }
            let next = redirect_target(&url, &response)?;
            is_registrys = is_registrys && self.is_registrys(&next);
            url = next;
        }
        Err(refused(&url, Refusal::TooManyRedirects(MAX_REDIRECTS)).into())
    }

    /// Sends one request, a `POST` if there is a form, and follows no redirect. A response with a status that may be
    /// another one the next time is a temporary failure.
    pub(super) fn send(
        &self,
        url: &Url,
        headers: HeaderMap,
        form: Option<String>,
    ) -> Result<reqwest::blocking::Response, Failure> {
        self.transmit(url, headers, form.map_or(Message::Get, Message::Post))
    }

    /// The same with any message.
    pub(super) fn transmit(
        &self,
        url: &Url,
        mut headers: HeaderMap,
        message: Message,
    ) -> Result<reqwest::blocking::Response, Failure> {
        let cancelled = |reason: CancelReason| RegistryError::cancelled(url, reason);
        self.pace.request(&self.cancellation).map_err(cancelled)?;
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let secrets = secrets_of(&headers);
        // Both resolving a name and waiting for a response may block for as long as their timeouts.
        let (shared, to) = (Arc::clone(&self.shared), url.clone());
        let response = waiting::run(&self.cancellation, move || shared.exchange(&to, headers, message));
        let response = response.map_err(cancelled)??;
        let status = response.status().as_u16();
        if !retry::is_temporary(status) {
            return Ok(response);
        }
        let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        let retry_after = retry_after.and_then(|value| retry::parse_retry_after(value, SystemTime::now()));
        // A registry that is down may be back before it says; a limit on requests is not lifted earlier.
        let retry_after = retry_after.map(|wait| if status == 429 { wait } else { wait.min(LONGEST_OUTAGE) });
        let response = self.short_error(response, &secrets);
        let error = RegistryError::of_response(url, response, Identity::Anonymous);
        Err(Failure::Temporary { error, retry_after })
    }

    /// The body of a response, as a reader that fails when the server is silent for too long.
    pub(super) fn body(&self, response: reqwest::blocking::Response) -> Body {
        let reader = CancellableReader::new(Box::new(response), &self.cancellation);
        Body { http: self.clone(), reader, waited: Duration::ZERO, received: 0 }
    }

    /// All of a body that is no larger than a document may be; `None` for a larger one.
    pub(super) fn document(&self, response: reqwest::blocking::Response, limit: u64) -> io::Result<Option<Vec<u8>>> {
        let mut bytes = Vec::new();
        self.body(response).take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
        Ok((bytes.len() as u64 <= limit).then_some(bytes))
    }

    /// What a response with a temporary status says. A long body is not waited for, because the request is sent again.
    fn short_error(&self, response: reqwest::blocking::Response, secrets: &[String]) -> ErrorResponse {
        let status = response.status().as_u16();
        let length = response.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        let mut bytes = Vec::new();
        if length.is_some_and(|length| length > 0 && length <= response::MAX_BYTES) {
            // If it cannot be read, the status says enough.
            let _ = self.body(response).read_to_end(&mut bytes);
        }
        ErrorResponse::parse(status, &bytes, |text| response::masked(text, secrets))
    }
}

impl Shared {
    fn is_registrys(&self, url: &Url) -> bool {
        url.origin() == self.base.origin()
    }

    /// Sends a request if the guard allows it, and waits for the headers of the response.
    fn exchange(
        &self,
        url: &Url,
        headers: HeaderMap,
        message: Message,
    ) -> Result<reqwest::blocking::Response, Failure> {
        self.guard.admit(url).map_err(|reason| refused(url, reason))?;
        let client = if self.is_registrys(url) { &self.registry_client } else { &self.other_client };
        let request = match message {
            Message::Get => client.get(url.clone()),
            Message::Head => client.head(url.clone()),
            Message::Post(form) => client.post(url.clone()).body(form),
            Message::Put(body) => client.put(url.clone()).body(body),
            Message::Patch(body) => client.patch(url.clone()).body(body),
        };
        request.headers(headers).send().map_err(|error| connection_failure(url, error))
    }
}

fn refused(url: &Url, reason: Refusal) -> RegistryError {
    RegistryError::Refused { url: redacted(url), reason }
}

/// Where a redirect leads.
fn redirect_target(from: &Url, response: &reqwest::blocking::Response) -> Result<Url, RegistryError> {
    let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
    let location = location.ok_or_else(|| refused(from, Refusal::NoLocation))?;
    let mut next = from.join(location).map_err(|_| refused(from, Refusal::InvalidLocation))?;
    if from.scheme() == "https" && next.scheme() != "https" {
        return Err(refused(&next, Refusal::InsecureRedirect));
    }
    if !next.username().is_empty() || next.password().is_some() {
        return Err(refused(&next, Refusal::UserInUrl));
    }
    next.set_fragment(None);
    Ok(next)
}

/// The secrets in the `Authorization` header of a request, in each form in which a server may echo them.
pub(super) fn secrets_of(headers: &HeaderMap) -> Vec<String> {
    let value = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let Some((_, secret)) = value.and_then(|value| value.split_once(' ')) else { return Vec::new() };
    let pair = STANDARD.decode(secret).ok().and_then(|pair| String::from_utf8(pair).ok());
    let password = pair.and_then(|pair| pair.split_once(':').map(|(_, password)| password.to_string()));
    [Some(secret.to_string()), password].into_iter().flatten().collect()
}

/// The failure of a request that got no response.
fn connection_failure(url: &Url, error: reqwest::Error) -> Failure {
    let tls = tls_error(&error).cloned();
    let url = redacted(url);
    match tls {
        // The first bytes of the server were not a TLS record.
        Some(rustls::Error::InvalidMessage(_)) => return RegistryError::NoTls { url }.into(),
        Some(error) => return RegistryError::Tls { url, error }.into(),
        None => {}
    }
    // The number of attempts is filled in by the function that counts them.
    let error = RegistryError::Unreachable { url, attempts: 1, error: error.without_url() };
    Failure::Temporary { error, retry_after: None }
}

/// The error of TLS among the sources of an error, if there is one. `io::Error::source` skips the error that it wraps.
fn tls_error(error: &reqwest::Error) -> Option<&rustls::Error> {
    let mut next: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = next {
        let wrapped = error.downcast_ref::<io::Error>().and_then(|error| error.get_ref());
        let wrapped = wrapped.map(|wrapped| wrapped as &(dyn Error + 'static));
        let tls = error.downcast_ref().or_else(|| wrapped.and_then(|wrapped| wrapped.downcast_ref()));
        if tls.is_some() {
            return tls;
        }
        next = wrapped.or(error.source());
    }
    None
}

/// The body of a response, read as it arrives.
pub(super) struct Body {
    http: Http,
    reader: CancellableReader,
    /// How long the server was waited for, and how many bytes arrived meanwhile.
    waited: Duration,
    received: u64,
}

impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // Reading little at a time keeps the rate even.
        const MAX_BYTES: usize = 64 << 10;
        let length = buffer.len().min(MAX_BYTES);
        let start = Instant::now();
        let count = self.reader.read(&mut buffer[..length]).map_err(without_url)?;
        self.waited += start.elapsed();
        self.received += count as u64;
        if self.received >= MIN_BYTES_PER_STALL_TIMEOUT {
            (self.waited, self.received) = (Duration::ZERO, 0);
        } else if count > 0 && self.waited > self.http.stall_timeout {
            let detail = format!("only {} bytes in {} seconds", self.received, self.waited.as_secs());
            return Err(io::Error::new(io::ErrorKind::TimedOut, detail));
        }
        self.http.pace.bytes(count, &self.http.cancellation)?;
        Ok(count)
    }
}

/// The same error without the URL of the request, which may have a secret in it.
fn without_url(error: io::Error) -> io::Error {
    let kind = error.kind();
    match error.into_inner().map(|inner| inner.downcast::<reqwest::Error>()) {
        Some(Ok(error)) => io::Error::new(kind, error.without_url()),
        Some(Err(inner)) => io::Error::new(kind, inner),
        None => kind.into(),
    }
}
