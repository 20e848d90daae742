//! The registry client: manifests, blobs and listings, with login and retries.
//!
//! Source: OCI distribution-spec v1.1, "Pull" and "Content Discovery".

use std::io::Read;
use std::sync::Arc;

use reqwest::Url;
use reqwest::header::HeaderValue;
use serde::de::IgnoredAny;

use super::auth::{Auth, Authorization, Scope};
use super::challenge::{self, Challenge};
use super::error::{AuthenticationError, Identity, ProtocolError, RegistryError, redacted};
use super::form::BodyForm;
use super::http::{Body, Http, Request, Response};
use super::link::{NextLink, next_link};
use super::listing::Names;
use super::options::{ListingLimits, Login, RegistryOptions};
use super::pace::Usage;
use super::reference::{Host, check_repository, check_tag};
use super::response::{self, ErrorResponse};
use super::retry::Failure;
use super::stream::BlobStream;
use layersift_format::{CancelReason, Cancellation};
use layersift_model::{Digest, Hasher, ParseError, parse};

/// Manifests and indexes, of the OCI and of Docker, and the artifact manifests of OCI image-spec v1.1-rc.
pub(super) const MANIFESTS: &str = "application/vnd.oci.image.index.v1+json, \
                         application/vnd.oci.image.manifest.v1+json, \
                         application/vnd.oci.artifact.manifest.v1+json, \
                         application/vnd.docker.distribution.manifest.list.v2+json, \
                         application/vnd.docker.distribution.manifest.v2+json";

/// How often a document is requested again after its connection was lost.
const MAX_DOCUMENT_RETRIES: u32 = 2;

/// A client for one registry. A clone shares connections, tokens and rate limits with it.
#[derive(Clone)]
pub struct Registry {
    inner: Arc<Inner>,
    pub(super) http: Http,
}

struct Inner {
    host: Host,
    auth: Auth,
    options: RegistryOptions,
}

/// Which manifest of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum At {
    /// The manifest that a tag names at the moment.
    Tag(String),
    /// The manifest with this digest.
    Digest(Digest),
}

/// A manifest or an index, verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Their digest.
    pub digest: Digest,
    /// The `Content-Type` of the response.
    pub media_type: Option<String>,
}

impl Registry {
    /// The registry at `host`. Nothing is sent yet.
    ///
    /// # Errors
    /// For certificates or stored credentials that cannot be read.
    pub fn new(host: &Host, options: RegistryOptions) -> Result<Registry, RegistryError> {
        let http = Http::new(host, &options)?;
        let auth = Auth::new(host, &options.login, options.login_patience)?;
        Ok(Registry { inner: Arc::new(Inner { host: host.clone(), auth, options }), http })
    }

    /// The same client, whose requests, reads and waits end with `cancellation` instead of the one in the options: for
    /// a deadline that covers a part of what the client is used for.
    pub fn with_cancellation(&self, cancellation: Cancellation) -> Registry {
        Registry { inner: Arc::clone(&self.inner), http: self.http.with_cancellation(cancellation) }
    }

    /// A client with another login, which shares connections and rate limits with this one, and no tokens.
    ///
    /// # Errors
    /// For stored credentials that cannot be read.
    pub fn with_login(&self, login: Login) -> Result<Registry, RegistryError> {
        let Inner { host, options, .. } = &*self.inner;
        let auth = Auth::new(host, &login, options.login_patience)?;
        let inner = Inner { host: host.clone(), auth, options: RegistryOptions { login, ..options.clone() } };
        Ok(Registry { inner: Arc::new(inner), http: self.http.clone() })
    }

    /// The registry's host.
    pub fn host(&self) -> &Host {
        &self.inner.host
    }

    /// Requests and bytes so far, of all clones together.
    pub fn usage(&self) -> Usage {
        self.http.pace.usage()
    }

    /// A manifest or an index. Its bytes have the digest that was asked for, or that the registry says they have.
    ///
    /// # Errors
    /// If it is not found, larger than [`RegistryOptions::document_bytes`], or has another digest.
    pub fn manifest(&self, repository: &str, at: &At) -> Result<Manifest, RegistryError> {
        let url = self.manifest_url(repository, at)?;
        let scope = Scope::Pull(repository.into());
        let (bytes, headers) = self.document(&Request::whole(&url, MANIFESTS), &scope)?;
        let expected = match at {
            At::Digest(digest) => Some(digest.clone()),
            At::Tag(_) => headers.digest(),
        };
        self.verified_manifest(&url, &scope, bytes, headers, expected)
    }

    /// The manifest or index that `tag` names, or `None` if the registry says that it is still the one with the digest
    /// `known`. A registry that does not support conditional requests sends the manifest.
    ///
    /// Source: RFC 9110, section 13.1.2, with the digest as the entity tag, as the CNCF distribution has it.
    ///
    /// # Errors
    /// As [`Registry::manifest`].
    pub fn manifest_unless(
        &self,
        repository: &str,
        tag: &str,
        known: &Digest,
    ) -> Result<Option<Manifest>, RegistryError> {
        let url = self.manifest_url(repository, &At::Tag(tag.into()))?;
        let scope = Scope::Pull(repository.into());
        let request = Request { unless: Some(known), ..Request::whole(&url, MANIFESTS) };
        let (bytes, headers) = self.read_whole(&url, self.document_bytes(), || self.get(&request, &scope))?;
        if headers.is_not_modified {
            return Ok(None);
        }
        let expected = headers.digest();
        self.verified_manifest(&url, &scope, bytes, headers, expected).map(Some)
    }

    /// A blob, to be read once, in order. The caller verifies its digest. `size` is its size in the manifest: at most
    /// one byte more is read.
    ///
    /// # Errors
    /// If it is not found, or the request fails.
    pub fn blob(&self, repository: &str, digest: &Digest, size: Option<u64>) -> Result<BlobStream, RegistryError> {
        let url = self.url(&["v2", repository, "blobs", &digest.to_string()])?;
        BlobStream::open(self.clone(), Scope::Pull(repository.into()), url, size)
    }

    /// A small blob, such as a configuration, read whole and verified.
    ///
    /// # Errors
    /// If it is not found, larger than [`RegistryOptions::document_bytes`], or has another digest.
    pub fn small_blob(&self, repository: &str, digest: &Digest) -> Result<Vec<u8>, RegistryError> {
        let url = self.url(&["v2", repository, "blobs", &digest.to_string()])?;
        let limit = self.inner.options.document_bytes;
        let stream = BlobStream::open(self.clone(), Scope::Pull(repository.into()), url.clone(), None)?;
        let mut bytes = Vec::new();
        stream.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(|error| stream_error(&url, error))?;
        if bytes.len() as u64 > limit {
            return Err(RegistryError::TooLarge { url: redacted(&url), limit });
        }
        verified(&url, &bytes, digest.clone()).map(|_| bytes)
    }

    /// The repositories of the registry. Pages are requested as the names are taken.
    pub fn repositories(&self) -> Names {
        Names::repositories(self.clone())
    }

    /// The tags of a repository. Pages are requested as the names are taken.
    ///
    /// # Errors
    /// For a name that no repository can have.
    pub fn tags(&self, repository: &str) -> Result<Names, RegistryError> {
        check_repository(repository)?;
        Ok(Names::tags(self.clone(), repository))
    }

    pub(super) fn options(&self) -> &RegistryOptions {
        &self.inner.options
    }

    pub(super) fn listing_limits(&self) -> &ListingLimits {
        &self.inner.options.listing
    }

    pub(super) fn auth(&self) -> &Auth {
        &self.inner.auth
    }

    pub(super) fn manifest_url(&self, repository: &str, at: &At) -> Result<Url, RegistryError> {
        match at {
            At::Tag(tag) => {
                check_tag(tag)?;
                self.url(&["v2", repository, "manifests", tag])
            }
            At::Digest(digest) => self.url(&["v2", repository, "manifests", &digest.to_string()]),
        }
    }

    /// The URL of a path. The slashes of a repository are kept.
    pub(super) fn url(&self, path: &[&str]) -> Result<Url, RegistryError> {
        if let ["v2", repository, ..] = path
            && *repository != "_catalog"
        {
            check_repository(repository)?;
        }
        let base = self.http.base();
        let invalid = |error| RegistryError::Protocol { url: redacted(base), error: ProtocolError::Url(error) };
        base.join(&format!("/{}", path.join("/"))).map_err(invalid)
    }

    pub(super) fn body(&self, response: Response) -> Body {
        self.http.body(response.inner)
    }

    /// Sends a request, logs in if the registry requires it, and retries. The status is 200 or 206; 304 if the request
    /// has a condition; or 416 if it has an offset.
    pub(super) fn get(&self, request: &Request<'_>, scope: &Scope) -> Result<Response, RegistryError> {
        self.retrying(request.url, || {
            let mut used = self.auth().authorization(&self.http, scope)?;
            let send = |used: &Option<Authorization>| {
                let response = self.http.get(request, used.as_ref().map(|used| &used.header));
                response.map_err(|failure| failure.of(Authorization::identity(used.as_ref())))
            };
            let mut response = send(&used)?;
            if response.status() == 401 && response.is_registrys {
                used = Some(self.log_in(request.url, response, scope, used)?);
                response = send(&used)?;
            }
            match response.status() {
                200 | 206 => Ok(response),
                304 if request.unless.is_some() && response.is_registrys => Ok(response),
                416 if request.offset > 0 => Ok(response),
                _ => Err(self.refusal(request.url, response, scope, used.as_ref()).into()),
            }
        })
    }

    /// Runs `attempt` as often as the options say.
    pub(super) fn retrying<T>(
        &self,
        url: &Url,
        attempt: impl FnMut() -> Result<T, Failure>,
    ) -> Result<T, RegistryError> {
        self.http.retries.run(&self.http.cancellation, url, attempt)
    }

    /// Waits before the request after failure number `count` is sent.
    pub(super) fn back_off(&self, url: &Url, count: u32) -> Result<(), RegistryError> {
        self.http.cancellation.wait(self.http.retries.backoff(count));
        self.http.cancellation.check().map_err(|reason| RegistryError::cancelled(url, reason))
    }

    /// A whole document and its headers.
    pub(super) fn document(
        &self,
        request: &Request<'_>,
        scope: &Scope,
    ) -> Result<(Vec<u8>, DocumentHeaders), RegistryError> {
        self.document_within(request, scope, self.document_bytes())
    }

    /// The most bytes of a document.
    pub(super) fn document_bytes(&self) -> u64 {
        self.inner.options.document_bytes
    }

    /// As [`Registry::document`], of at most `limit` bytes.
    pub(super) fn document_within(
        &self,
        request: &Request<'_>,
        scope: &Scope,
        limit: u64,
    ) -> Result<(Vec<u8>, DocumentHeaders), RegistryError> {
        self.read_whole(request.url, limit, || self.get(request, scope))
    }

    /// The whole body, of at most `limit` bytes, of the response that `send` gets, and its headers. If the connection
    /// is lost, `send` is called again.
    pub(super) fn read_whole(
        &self,
        url: &Url,
        limit: u64,
        send: impl Fn() -> Result<Response, RegistryError>,
    ) -> Result<(Vec<u8>, DocumentHeaders), RegistryError> {
        let mut retries = 0;
        loop {
            let response = send()?;
            let headers = DocumentHeaders::of(&response);
            match self.http.document(response.inner, limit) {
                Ok(Some(bytes)) => return Ok((bytes, headers)),
                Ok(None) => return Err(RegistryError::TooLarge { url: redacted(url), limit }),
                Err(error) => match CancelReason::of(&error) {
                    Some(reason) => return Err(RegistryError::cancelled(url, reason)),
                    None if retries >= MAX_DOCUMENT_RETRIES => {
                        return Err(RegistryError::ConnectionLost { url: redacted(url), at: 0, retries, error });
                    }
                    None => self.back_off(url, retries + 1)?,
                },
            }
            retries += 1;
        }
    }

    /// The manifest at `url`, if it has the digest that is expected, and a form that can be one.
    fn verified_manifest(
        &self,
        url: &Url,
        scope: &Scope,
        bytes: Vec<u8>,
        headers: DocumentHeaders,
        expected: Option<Digest>,
    ) -> Result<Manifest, RegistryError> {
        // Its digest does not cover the signatures in it, so this comes first.
        if is_schema_1(&bytes) {
            let media_type = self.masked(headers.form, scope).content_type;
            return Err(RegistryError::Schema1 { url: redacted(url), media_type });
        }
        let is_expected = |expected: &Digest| verified(url, &bytes, expected.clone()).is_ok();
        if headers.form.explains(&bytes) && !expected.as_ref().is_some_and(is_expected) {
            return Err(self.unexpected_form(url, "a manifest", headers.form, scope));
        }
        let digest = match expected {
            Some(expected) => verified(url, &bytes, expected)?,
            None => Digest::of(&bytes),
        };
        Ok(Manifest { bytes, digest, media_type: headers.media_type })
    }

    /// The error of a body that is not `expected`, which has its article.
    pub(super) fn unexpected_form(
        &self,
        url: &Url,
        expected: &'static str,
        form: BodyForm,
        scope: &Scope,
    ) -> RegistryError {
        let error = ProtocolError::Form { expected, received: self.masked(form, scope) };
        RegistryError::Protocol { url: redacted(url), error }
    }

    /// The error of a body that is not a page of a listing: `error` of the parser, or its form if that explains it.
    pub(super) fn invalid_listing(
        &self,
        url: String,
        (bytes, form): (&[u8], &BodyForm),
        scope: &Scope,
        error: ParseError,
    ) -> RegistryError {
        let error = match form.explains(bytes) {
            true => ProtocolError::Form { expected: "a page of a listing", received: self.masked(form.clone(), scope) },
            false => ProtocolError::Listing(error),
        };
        RegistryError::Protocol { url, error }
    }

    /// The form without credentials that the server may have echoed.
    fn masked(&self, form: BodyForm, scope: &Scope) -> BodyForm {
        form.masked(|text| self.auth().mask(&self.http, text, scope))
    }

    /// The authorization that answers a 401.
    pub(super) fn log_in(
        &self,
        url: &Url,
        response: Response,
        scope: &Scope,
        used: Option<Authorization>,
    ) -> Result<Authorization, Failure> {
        let header = used.as_ref().map(|used| &used.header);
        let next = match challenge::best(challenges(&response).into_iter()) {
            Some(challenge) => self.auth().answer(&self.http, scope, challenge, header)?,
            None => None,
        };
        match next.filter(|next| Some(&next.header) != header) {
            Some(next) => Ok(next),
            None => Err(self.refusal(url, response, scope, used.as_ref()).into()),
        }
    }

    /// The error of a response to a request that was sent as `used`. What a 401 means is in its challenge: without one,
    /// no login would help.
    pub(super) fn refusal(
        &self,
        url: &Url,
        response: Response,
        scope: &Scope,
        used: Option<&Authorization>,
    ) -> RegistryError {
        let identity = Authorization::identity(used);
        let is_login = response.status() == 401 && response.is_registrys;
        let reason = is_login.then(|| {
            let challenges = challenges(&response);
            match challenge::best(challenges.iter().copied()) {
                None if challenges.is_empty() => AuthenticationError::NoChallenge,
                None => AuthenticationError::UnsupportedScheme,
                Some(_) if identity == Identity::Anonymous => self.auth().rejection(&self.http, scope, identity),
                Some(challenge) if challenge.is_of_scope() => AuthenticationError::NotAllowed,
                Some(_) if *scope == Scope::Catalog => AuthenticationError::NoCatalog,
                Some(Challenge::Bearer { .. }) => AuthenticationError::TokenRejected,
                Some(_) => self.auth().rejection(&self.http, scope, identity),
            }
        });
        self.error_of(url, response, scope, identity).because(reason)
    }

    /// The error that a response with an unexpected status stands for, with what the registry says about it.
    /// `identity` is who asked.
    pub(super) fn error_of(&self, url: &Url, response: Response, scope: &Scope, identity: Identity) -> RegistryError {
        let (status, is_registrys) = (response.status(), response.is_registrys);
        let mut bytes = Vec::new();
        // If it cannot be read, the status says enough.
        let _ = self.body(response).take(response::MAX_BYTES).read_to_end(&mut bytes);
        let response = if is_registrys {
            ErrorResponse::parse(status, &bytes, |text| self.auth().mask(&self.http, text, scope))
        } else {
            ErrorResponse { is_from_storage: true, ..ErrorResponse::of_status(status) }
        };
        let mut error = RegistryError::of_response(url, response, identity);
        if let RegistryError::Unauthorized { reason, .. } = &mut error {
            let rejection = || self.auth().rejection(&self.http, scope, identity);
            *reason = if is_registrys { rejection() } else { AuthenticationError::Storage };
        }
        error
    }
}

/// The challenges of a response as they were sent. Harbor sends an empty one where none applies.
pub(super) fn challenges(response: &Response) -> Vec<&str> {
    let headers = response.inner.headers().get_all("www-authenticate").iter();
    headers.filter_map(|value| value.to_str().ok()).filter(|value| !value.trim().is_empty()).collect()
}

/// The headers of a document that are used.
pub(super) struct DocumentHeaders {
    /// Whether the condition of the request was met, and the document was not sent.
    is_not_modified: bool,
    digest: Option<String>,
    /// The `Content-Type` header.
    pub(super) media_type: Option<String>,
    /// What the body is.
    pub(super) form: BodyForm,
    /// What the `Link` headers say of the next page.
    pub(super) next: NextLink,
    /// Harbor's `X-Total-Count`: the number of items on all pages.
    pub(super) total: Option<String>,
}

impl DocumentHeaders {
    fn of(response: &Response) -> DocumentHeaders {
        let header = |name: &str| response.header(name).map(str::to_string).filter(|text| !text.is_empty());
        let links = response.inner.headers().get_all("link").iter().map(HeaderValue::as_bytes);
        DocumentHeaders {
            is_not_modified: response.status() == 304,
            digest: header("docker-content-digest"),
            media_type: header("content-type"),
            form: BodyForm::of(response.inner.headers()),
            total: header("x-total-count"),
            next: next_link(links),
        }
    }

    /// The digest that the registry says the document has.
    fn digest(&self) -> Option<Digest> {
        self.digest.as_deref()?.parse().ok()
    }
}

/// Whether a document is a manifest of Docker's first schema: by its fields, as registries label them in many ways.
fn is_schema_1(bytes: &[u8]) -> bool {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Shape {
        fs_layers: Option<IgnoredAny>,
        layers: Option<IgnoredAny>,
        manifests: Option<IgnoredAny>,
    }
    parse::json(bytes)
        .is_ok_and(|shape: Shape| shape.fs_layers.is_some() && shape.layers.is_none() && shape.manifests.is_none())
}

/// `digest`, if `bytes` have it.
fn verified(url: &Url, bytes: &[u8], digest: Digest) -> Result<Digest, RegistryError> {
    let mut hasher = Hasher::new(digest.algorithm());
    hasher.update(bytes);
    let found = hasher.finish();
    if found == digest {
        return Ok(digest);
    }
    Err(RegistryError::DigestMismatch { url: redacted(url), expected: digest, found })
}

/// The error inside the error of a [`BlobStream`].
fn stream_error(url: &Url, error: std::io::Error) -> RegistryError {
    let other = |error| RegistryError::Protocol { url: redacted(url), error: ProtocolError::Read(error) };
    error.downcast::<RegistryError>().unwrap_or_else(other)
}
