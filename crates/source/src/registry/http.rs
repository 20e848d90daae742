//! One request: sent where the guard allows, redirects followed by hand, the answer read under a time limit.
//!
//! `Authorization` goes to the registry's own scheme, host and port, and is gone for good with the first redirect away
//! from there, as is the client certificate. Cookies are not kept, and nothing is decompressed: bytes are hashed.

use std::error::Error;
use std::io::{self, Read};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use reqwest::Url;
use reqwest::blocking::{Client, ClientBuilder, Response};
use reqwest::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, HeaderMap, HeaderValue, IF_NONE_MATCH, LOCATION, RANGE, RETRY_AFTER,
};
use reqwest::redirect::Policy;

use super::error::{RegistryError, reason, shown};
use super::guard::Guard;
use super::options::{RegistryOptions, Retry};
use super::pace::Pace;
use super::reference::Host;
use super::retry::{self, Failure};
use super::tls::Trust;
use layersift_model::Digest;

/// Redirects that one request follows.
const MOST_REDIRECTS: u32 = 5;

/// Bytes that must come within the time of a stall, so that one byte now and then does not go on for ever.
const LEAST_BYTES: u64 = 64 << 10;

/// What a request asks for.
#[derive(Clone, Debug)]
pub(super) struct Wanted<'w> {
    /// The address at the registry.
    pub(super) url: &'w Url,
    /// The media types that are understood.
    pub(super) accept: &'w str,
    /// The first byte of it; 0 for all.
    pub(super) from: u64,
    /// What need not be sent again.
    pub(super) unless: Option<&'w Digest>,
}

impl<'w> Wanted<'w> {
    /// All of what is at `url`, as one of the media types `accept`.
    pub(super) fn all(url: &'w Url, accept: &'w str) -> Wanted<'w> {
        Wanted { url, accept, from: 0, unless: None }
    }
}

/// An answer whose body is still to be read.
pub(super) struct Answer {
    /// Status and headers.
    pub(super) response: Response,
    /// Whether the registry itself gave it, and not somebody it sent us to.
    pub(super) is_registrys: bool,
}

impl Answer {
    /// The text of a header.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.response.headers().get(name)?.to_str().ok()
    }

    pub(super) fn status(&self) -> u16 {
        self.response.status().as_u16()
    }
}

/// Sends requests to one registry and to where it leads.
pub(super) struct Http {
    base: Url,
    guard: Arc<Guard>,
    /// For the registry.
    inside: Client,
    /// For everyone else.
    outside: Client,
    pub(super) pace: Pace,
    pub(super) retry: Retry,
    pub(super) plain_http: bool,
    pub(super) document_bytes: u64,
    stall_timeout: Duration,
}

impl Http {
    /// A client for `host`.
    ///
    /// # Errors
    /// For certificates that cannot be used.
    pub(super) fn new(host: &Host, options: &RegistryOptions) -> Result<Http, RegistryError> {
        let scheme = if options.plain_http { "http" } else { "https" };
        let failed = |reason: String| RegistryError::Configuration { what: host.to_string(), reason };
        let base =
            Url::parse(&format!("{scheme}://{}/", host.authority())).map_err(|error| failed(error.to_string()))?;
        let guard = Arc::new(Guard::new(&base));
        let trust = Trust::of(host, options)?;
        let client = |identity: bool| -> Result<Client, RegistryError> {
            let builder: ClientBuilder = Client::builder()
                .tls_backend_preconfigured(trust.config(identity)?)
                .dns_resolver(Arc::clone(&guard))
                .redirect(Policy::none())
                .retry(reqwest::retry::never())
                .referer(false)
                .connect_timeout(options.connect_timeout)
                .timeout(options.stall_timeout)
                .user_agent(concat!("layersift/", env!("CARGO_PKG_VERSION")));
            builder.build().map_err(|error| failed(reason(error)))
        };
        let inside = client(true)?;
        let outside = if trust.has_identity() { client(false)? } else { inside.clone() };
        Ok(Http {
            base,
            guard,
            inside,
            outside,
            pace: Pace::new(&options.rate),
            retry: options.retry.clone(),
            plain_http: options.plain_http,
            document_bytes: options.document_bytes,
            stall_timeout: options.stall_timeout,
        })
    }

    /// The address of the registry, with the path `/`.
    pub(super) fn base(&self) -> &Url {
        &self.base
    }

    /// Sends a request, and follows where it leads.
    pub(super) fn get(&self, wanted: &Wanted<'_>, authorization: Option<&HeaderValue>) -> Result<Answer, Failure> {
        let mut url = wanted.url.clone();
        let mut is_registrys = self.is_registrys(&url);
        for _ in 0..=MOST_REDIRECTS {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, HeaderValue::from_str(wanted.accept).unwrap_or(HeaderValue::from_static("*/*")));
            if wanted.from > 0
                && let Ok(range) = HeaderValue::from_str(&format!("bytes={}-", wanted.from))
            {
                headers.insert(RANGE, range);
            }
            if let Some(known) = wanted.unless
                && let Ok(etag) = HeaderValue::from_str(&format!("\"{known}\""))
            {
                headers.insert(IF_NONE_MATCH, etag);
            }
            if let Some(authorization) = authorization.filter(|_| is_registrys) {
                headers.insert(AUTHORIZATION, authorization.clone());
            }
            let response = self.send(&url, headers, None)?;
            if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
                return Ok(Answer { response, is_registrys });
            }
            let next = next(&url, &response)?;
            is_registrys = is_registrys && self.is_registrys(&next);
            url = next;
        }
        let reason = format!("more than {MOST_REDIRECTS} redirects");
        Err(Failure::Final(RegistryError::Refused { url: shown(&url), reason }))
    }

    /// Sends one request, a `POST` where there is a form, and follows nothing. Answers that may be others the next time
    /// are failures.
    pub(super) fn send(&self, url: &Url, mut headers: HeaderMap, form: Option<String>) -> Result<Response, Failure> {
        self.guard.admit(url).map_err(|reason| RegistryError::Refused { url: shown(url), reason })?;
        self.pace.request();
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let client = if self.is_registrys(url) { &self.inside } else { &self.outside };
        let request = match form {
            Some(form) => client.post(url.clone()).body(form),
            None => client.get(url.clone()),
        };
        let response = request.headers(headers).send().map_err(|error| failure(url, error))?;
        let status = response.status().as_u16();
        if !retry::is_passing(status) {
            return Ok(response);
        }
        let wait = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        let wait = wait.and_then(|value| retry::asked(value, SystemTime::now()));
        Err(Failure::Passing { error: status_error(url, status, String::new()), wait })
    }

    /// The body of an answer, as a reader that gives up when the other side is silent.
    pub(super) fn body(self: &Arc<Http>, response: Response) -> Body {
        Body { http: Arc::clone(self), response, waited: Duration::ZERO, since: 0 }
    }

    /// All of a body that is no larger than a document may be; `None` for a larger one.
    pub(super) fn document(self: &Arc<Http>, response: Response, limit: u64) -> io::Result<Option<Vec<u8>>> {
        let mut bytes = Vec::new();
        self.body(response).take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
        Ok((bytes.len() as u64 <= limit).then_some(bytes))
    }

    fn is_registrys(&self, url: &Url) -> bool {
        url.origin() == self.base.origin()
    }
}

/// Where a redirect leads.
fn next(from: &Url, response: &Response) -> Result<Url, RegistryError> {
    let refused = |url: &Url, reason: &str| RegistryError::Refused { url: shown(url), reason: reason.into() };
    let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
    let location = location.ok_or_else(|| refused(from, "a redirect that does not say where to"))?;
    let mut next = from.join(location).map_err(|_| refused(from, "a redirect to something that is no address"))?;
    if from.scheme() == "https" && next.scheme() != "https" {
        return Err(refused(&next, "a redirect from HTTPS to something that is not"));
    }
    if !next.username().is_empty() || next.password().is_some() {
        return Err(refused(&next, "a redirect with a user in its address"));
    }
    next.set_fragment(None);
    Ok(next)
}

/// What an answer with an unwelcome status means.
pub(super) fn status_error(url: &Url, status: u16, said: String) -> RegistryError {
    let url = shown(url);
    match status {
        401 => RegistryError::Unauthorized { url, reason: "takes none of our answers".into() },
        403 => RegistryError::Forbidden { url, said },
        404 => RegistryError::NotFound { url, said },
        412 => RegistryError::Blocked { url, said },
        429 => RegistryError::TooManyRequests { url, attempts: 1 },
        _ => RegistryError::Status { url, status, said },
    }
}

fn failure(url: &Url, error: reqwest::Error) -> Failure {
    let tls = tls_error(&error).cloned();
    let (url, reason) = (shown(url), reason(error));
    match tls {
        // What came is no TLS at all.
        Some(rustls::Error::InvalidMessage(_)) => return Failure::Final(RegistryError::NoTls { url }),
        Some(_) => return Failure::Final(RegistryError::Tls { url, reason }),
        None => {}
    }
    // The number of attempts is filled in by who counts them.
    Failure::Passing { error: RegistryError::Unreachable { url, attempts: 1, reason }, wait: None }
}

/// What failed of TLS itself, if it did. An `io::Error` hides what it holds from `source`.
fn tls_error(error: &reqwest::Error) -> Option<&rustls::Error> {
    let mut next: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = next {
        let held = error.downcast_ref::<io::Error>().and_then(|error| error.get_ref());
        let held = held.map(|held| held as &(dyn Error + 'static));
        let tls = error.downcast_ref().or_else(|| held.and_then(|held| held.downcast_ref()));
        if tls.is_some() {
            return tls;
        }
        next = held.or(error.source());
    }
    None
}

/// The bytes of an answer, as they come: nothing is held but what the socket holds.
pub(super) struct Body {
    http: Arc<Http>,
    response: Response,
    /// How long the other side was waited for, and what it gave meanwhile.
    waited: Duration,
    since: u64,
}

impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // A bound on what is taken at a time keeps the rate even.
        const MOST: usize = 64 << 10;
        let most = buffer.len().min(MOST);
        let start = Instant::now();
        let count = self.response.read(&mut buffer[..most]).map_err(readable)?;
        self.waited += start.elapsed();
        self.since += count as u64;
        if self.since >= LEAST_BYTES {
            (self.waited, self.since) = (Duration::ZERO, 0);
        } else if count > 0 && self.waited > self.http.stall_timeout {
            let detail = format!("{} bytes in {} seconds", self.since, self.waited.as_secs());
            return Err(io::Error::new(io::ErrorKind::TimedOut, detail));
        }
        self.http.pace.bytes(count);
        Ok(count)
    }
}

/// The same error, without the address of the request, which may have a secret in it.
fn readable(error: io::Error) -> io::Error {
    let kind = error.kind();
    match error.into_inner().map(|inner| inner.downcast::<reqwest::Error>()) {
        Some(Ok(error)) => io::Error::new(kind, reason(*error)),
        Some(Err(inner)) => io::Error::new(kind, inner),
        None => kind.into(),
    }
}
