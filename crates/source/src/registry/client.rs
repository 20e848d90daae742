//! A registry: manifests, blobs and listings of it, with everything that happens on the way.
//!
//! Source: OCI distribution-spec v1.1, "Pull" and "Content Discovery".

use std::io::Read;
use std::sync::Arc;

use reqwest::Url;
use reqwest::header::HeaderValue;

use super::auth::{Auth, Scope};
use super::challenge;
use super::error::{RegistryError, shown};
use super::http::{Answer, Body, Http, Wanted, status_error};
use super::listing::Names;
use super::options::{Listing, RegistryOptions};
use super::pace::Usage;
use super::reference::{Host, check_repository, check_tag};
use super::retry::{self, Failure};
use super::stream::BlobStream;
use layersift_model::{Digest, Hasher};

/// Manifests and indexes, of the OCI and of Docker.
const MANIFESTS: &str = "application/vnd.oci.image.index.v1+json, \
                         application/vnd.oci.image.manifest.v1+json, \
                         application/vnd.docker.distribution.manifest.list.v2+json, \
                         application/vnd.docker.distribution.manifest.v2+json";

/// Bytes that are read of an answer that says no.
const MOST_SAID: u64 = 8 << 10;

/// How often a document that breaks off is begun again.
const MOST_TIMES: u32 = 3;

/// A registry that is asked for images. A clone asks the same one, with the same tokens and under the same rates.
#[derive(Clone)]
pub struct Registry(pub(super) Arc<Inner>);

pub(super) struct Inner {
    host: Host,
    pub(super) http: Arc<Http>,
    pub(super) auth: Auth,
    options: RegistryOptions,
}

/// Which manifest of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum At {
    /// The one that a tag names at the moment.
    Tag(String),
    /// The one with these bytes.
    Digest(Digest),
}

/// A manifest or an index, verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Their digest.
    pub digest: Digest,
    /// What the registry says it is.
    pub media_type: Option<String>,
}

impl Registry {
    /// The registry at `host`. Nothing is sent yet.
    ///
    /// # Errors
    /// For certificates or stored credentials that cannot be read.
    pub fn new(host: &Host, options: RegistryOptions) -> Result<Registry, RegistryError> {
        let http = Arc::new(Http::new(host, &options)?);
        let auth = Auth::new(host, &options.login)?;
        Ok(Registry(Arc::new(Inner { host: host.clone(), http, auth, options })))
    }

    /// Which registry it is.
    pub fn host(&self) -> &Host {
        &self.0.host
    }

    /// What it was asked for so far.
    pub fn usage(&self) -> Usage {
        self.0.http.pace.usage()
    }

    /// A manifest or an index. Its bytes have the digest that was asked for, or that the registry says they have.
    ///
    /// # Errors
    /// When there is none, it is larger than a document may be, or has another digest.
    pub fn manifest(&self, repository: &str, at: &At) -> Result<Manifest, RegistryError> {
        let url = self.manifest_url(repository, at)?;
        let scope = Scope::Pull(repository.into());
        let (bytes, about) = self.document(&url, MANIFESTS, &scope)?;
        let expected = match at {
            At::Digest(digest) => Some(digest.clone()),
            At::Tag(_) => about.digest(),
        };
        Manifest::new(&url, bytes, about, expected)
    }

    /// The manifest or index that `tag` names, or `None` where that still is the one with the digest `known` and the
    /// registry says so: it then need not even read it. One that knows of no conditions gives the manifest.
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
        let wanted = Wanted { unless: Some(known), ..Wanted::all(&url, MANIFESTS) };
        let (bytes, about) = self.whole(&url, || self.get(&wanted, &scope))?;
        if about.is_unchanged {
            return Ok(None);
        }
        let expected = about.digest();
        Manifest::new(&url, bytes, about, expected).map(Some)
    }

    /// A blob, to be read once, in order. Its digest is for the caller to verify. `size` is what the manifest says: at
    /// most one byte more is read.
    ///
    /// # Errors
    /// When there is none, or it cannot be begun.
    pub fn blob(&self, repository: &str, digest: &Digest, size: Option<u64>) -> Result<BlobStream, RegistryError> {
        let url = self.url(&["v2", repository, "blobs", &digest.to_string()])?;
        BlobStream::open(self.clone(), Scope::Pull(repository.into()), url, size)
    }

    /// A whole blob that is small, such as a configuration, verified.
    ///
    /// # Errors
    /// When there is none, it is larger than a document may be, or has another digest.
    pub fn small_blob(&self, repository: &str, digest: &Digest) -> Result<Vec<u8>, RegistryError> {
        let url = self.url(&["v2", repository, "blobs", &digest.to_string()])?;
        let limit = self.0.options.document_bytes;
        let stream = BlobStream::open(self.clone(), Scope::Pull(repository.into()), url.clone(), None)?;
        let mut bytes = Vec::new();
        stream.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(|error| broken(&url, &error))?;
        if bytes.len() as u64 > limit {
            return Err(RegistryError::TooLarge { url: shown(&url), limit });
        }
        verified(&url, &bytes, digest.clone()).map(|_| bytes)
    }

    /// The repositories of the registry, asked for page by page as they are taken.
    pub fn repositories(&self) -> Names {
        Names::repositories(self.clone())
    }

    /// The tags of a repository, asked for page by page as they are taken.
    ///
    /// # Errors
    /// For a name that no repository can have.
    pub fn tags(&self, repository: &str) -> Result<Names, RegistryError> {
        check_repository(repository)?;
        Ok(Names::tags(self.clone(), repository))
    }

    pub(super) fn options(&self) -> &RegistryOptions {
        &self.0.options
    }

    pub(super) fn listing(&self) -> &Listing {
        &self.0.options.listing
    }

    fn manifest_url(&self, repository: &str, at: &At) -> Result<Url, RegistryError> {
        match at {
            At::Tag(tag) => {
                check_tag(tag)?;
                self.url(&["v2", repository, "manifests", tag])
            }
            At::Digest(digest) => self.url(&["v2", repository, "manifests", &digest.to_string()]),
        }
    }

    /// The address of a path. A repository's slashes are kept.
    pub(super) fn url(&self, path: &[&str]) -> Result<Url, RegistryError> {
        if let ["v2", repository, ..] = path
            && *repository != "_catalog"
        {
            check_repository(repository)?;
        }
        let base = self.0.http.base();
        base.join(&format!("/{}", path.join("/")))
            .map_err(|error| RegistryError::Answer { url: shown(base), reason: error.to_string() })
    }

    pub(super) fn body(&self, answer: Answer) -> Body {
        self.0.http.body(answer.response)
    }

    /// Asks, and logs in and tries again as it takes. The answer is 200, 206, or, where that was asked for, 304 for
    /// what is known already and 416 for a part that is not there.
    pub(super) fn get(&self, wanted: &Wanted<'_>, scope: &Scope) -> Result<Answer, RegistryError> {
        let inner = &*self.0;
        retry::run(&inner.options.retry, || {
            let header = inner.auth.header(&inner.http, scope)?;
            let mut answer = inner.http.get(wanted, header.as_ref())?;
            if answer.status() == 401 && answer.is_registrys {
                let header = self.logged_in(wanted.url, &answer, scope, header)?;
                answer = inner.http.get(wanted, Some(&header))?;
            }
            match answer.status() {
                200 | 206 => Ok(answer),
                304 if wanted.unless.is_some() && answer.is_registrys => Ok(answer),
                416 if wanted.from > 0 => Ok(answer),
                401 => Err(self.unauthorized(wanted.url, scope).into()),
                _ => Err(self.refusal(wanted.url, answer, scope).into()),
            }
        })
    }

    /// A whole document, and what its headers say. One that breaks off is begun again.
    pub(super) fn document(&self, url: &Url, accept: &str, scope: &Scope) -> Result<(Vec<u8>, About), RegistryError> {
        self.whole(url, || self.get(&Wanted::all(url, accept), scope))
    }

    /// All of what `ask` gives, and what its headers say. What breaks off is asked for again.
    pub(super) fn whole(
        &self,
        url: &Url,
        ask: impl Fn() -> Result<Answer, RegistryError>,
    ) -> Result<(Vec<u8>, About), RegistryError> {
        let limit = self.0.options.document_bytes;
        let mut times = 1;
        loop {
            let answer = ask()?;
            let about = About::of(&answer);
            match self.0.http.document(answer.response, limit) {
                Ok(Some(bytes)) => return Ok((bytes, about)),
                Ok(None) => return Err(RegistryError::TooLarge { url: shown(url), limit }),
                Err(error) if times >= MOST_TIMES => {
                    return Err(RegistryError::Cut { url: shown(url), at: 0, times, reason: error.to_string() });
                }
                Err(_) => std::thread::sleep(retry::pause(&self.0.options.retry, times, None)),
            }
            times += 1;
        }
    }

    fn logged_in(
        &self,
        url: &Url,
        answer: &Answer,
        scope: &Scope,
        used: Option<HeaderValue>,
    ) -> Result<HeaderValue, Failure> {
        let headers = answer.response.headers().get_all("www-authenticate");
        let challenge = challenge::best(headers.iter().filter_map(|value| value.to_str().ok()));
        let reason = "does not say how in a way that is known here: only Basic and Bearer are";
        let challenge =
            challenge.ok_or_else(|| RegistryError::Unauthorized { url: shown(url), reason: reason.into() })?;
        let header = self.0.auth.answer(&self.0.http, scope, challenge, used.as_ref())?;
        let header = header.filter(|header| Some(header) != used.as_ref());
        header.ok_or_else(|| self.unauthorized(url, scope).into())
    }

    pub(super) fn unauthorized(&self, url: &Url, scope: &Scope) -> RegistryError {
        let reason = if self.0.auth.knows(scope) {
            "does not take the credentials that are known; log in again"
        } else {
            "no credentials are known for it; log in"
        };
        RegistryError::Unauthorized { url: shown(url), reason: reason.into() }
    }

    /// What an answer that says no means, with what the registry says about it.
    pub(super) fn refusal(&self, url: &Url, answer: Answer, scope: &Scope) -> RegistryError {
        let status = answer.status();
        let mut bytes = Vec::new();
        let is_registrys = answer.is_registrys;
        // What cannot be read says nothing; the status says enough.
        let _ = self.body(answer).take(MOST_SAID).read_to_end(&mut bytes);
        let said = if is_registrys { said(&bytes).map(|said| self.0.auth.scrub(&said, scope)) } else { None };
        let said = match said {
            Some(said) => format!(": {said}"),
            None if is_registrys => String::new(),
            None => ", at the storage that the registry redirects to".into(),
        };
        status_error(url, status, said)
    }
}

impl Manifest {
    /// What came from `url`, if it has the digest that is expected of it, where there is one.
    fn new(url: &Url, bytes: Vec<u8>, about: About, expected: Option<Digest>) -> Result<Manifest, RegistryError> {
        let digest = match expected {
            Some(expected) => verified(url, &bytes, expected)?,
            None => Digest::of(&bytes),
        };
        Ok(Manifest { bytes, digest, media_type: about.media_type })
    }
}

/// What the status and the headers of a document say about it.
pub(super) struct About {
    /// Whether it is what the asker has already, and was not sent.
    is_unchanged: bool,
    digest: Option<String>,
    media_type: Option<String>,
    /// The `Link` headers.
    pub(super) links: Vec<String>,
    /// How many there are of what is listed, over all pages, as Harbor says it.
    pub(super) total: Option<String>,
}

impl About {
    fn of(answer: &Answer) -> About {
        let own = |name: &str| answer.header(name).map(str::to_string).filter(|text| !text.is_empty());
        let links = answer.response.headers().get_all("link").iter();
        About {
            is_unchanged: answer.status() == 304,
            digest: own("docker-content-digest"),
            media_type: own("content-type"),
            total: own("x-total-count"),
            links: links.filter_map(|value| value.to_str().ok()).map(str::to_string).collect(),
        }
    }

    /// The digest that the registry says the document has.
    fn digest(&self) -> Option<Digest> {
        self.digest.as_deref()?.parse().ok()
    }
}

/// The codes and messages of an answer that says no (distribution-spec, "Error Codes").
fn said(bytes: &[u8]) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Errors {
        errors: Vec<One>,
    }
    #[derive(serde::Deserialize)]
    struct One {
        code: Option<String>,
        message: Option<String>,
    }
    let errors: Errors = serde_json::from_slice(bytes).ok()?;
    let one = |one: &One| [&one.code, &one.message].into_iter().flatten().cloned().collect::<Vec<_>>().join(": ");
    let all: Vec<String> = errors.errors.iter().take(3).map(one).filter(|text| !text.is_empty()).collect();
    (!all.is_empty()).then(|| all.join("; "))
}

/// `digest`, where `bytes` have it.
fn verified(url: &Url, bytes: &[u8], digest: Digest) -> Result<Digest, RegistryError> {
    let mut hasher = Hasher::new(digest.algorithm());
    hasher.update(bytes);
    let found = hasher.finish();
    if found == digest {
        return Ok(digest);
    }
    Err(RegistryError::DigestMismatch { url: shown(url), expected: digest, found })
}

/// The error that a stream broke off with.
fn broken(url: &Url, error: &std::io::Error) -> RegistryError {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<RegistryError>()) {
        Some(error) => error.clone(),
        None => RegistryError::Answer { url: shown(url), reason: error.to_string() },
    }
}
