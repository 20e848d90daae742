//! What registries offer beside the protocol, such as Harbor's REST interface: documents on the registry's own host,
//! and requests to do something.
//!
//! Such an interface does not challenge. It answers strangers with less, so credentials are sent along from the first
//! request on: to the registry's own scheme, host and port, and not to where it redirects.

use reqwest::Url;
use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderMap, HeaderValue};

use super::auth::Scope;
use super::client::Registry;
use super::error::{RegistryError, shown};
use super::http::{Answer, Wanted};
use super::listing::{linked, next_of};
use super::retry;

/// What is understood.
const JSON: &str = "application/json";

/// A page of a listing that is not of the protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Its address as it may be shown: without the query.
    pub url: String,
    /// Its bytes, no more than a document may have.
    pub bytes: Vec<u8>,
    /// What `X-Total-Count` says, as it stands there.
    pub total: Option<String>,
    /// Whether a `Link` leads on to another page of the same registry.
    pub has_next: bool,
}

impl Registry {
    /// A page of the registry's own interface at `path`, which begins without `/` and is escaped already.
    ///
    /// # Errors
    /// For every status outside 200 to 299, for an answer larger than a document may be, and for a link to another
    /// host.
    pub fn page(&self, path: &str, query: &[(&str, &str)]) -> Result<Page, RegistryError> {
        let mut url = self.own(path)?;
        url.query_pairs_mut().extend_pairs(query);
        let (bytes, about) = self.whole(&url, || self.ask(&url))?;
        let link = about.links.iter().find_map(|link| next_of(link));
        if let Some(link) = &link {
            linked(&url, link)?;
        }
        Ok(Page { url: shown(&url), bytes, total: about.total, has_next: link.is_some() })
    }

    /// Asks the registry's own interface to do what is at `path`, with an empty `POST`, and gives the status of the
    /// answer where it is in 200 to 299. It may be sent more than once, and follows no redirect.
    ///
    /// # Errors
    /// For every other answer.
    pub fn post(&self, path: &str) -> Result<u16, RegistryError> {
        let url = self.own(path)?;
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static(JSON));
        headers.extend(self.0.auth.unasked()?.map(|value| (AUTHORIZATION, value)));
        retry::run(&self.options().retry, || {
            let response = self.0.http.send(&url, headers.clone(), Some(String::new()))?;
            Ok(self.good(&url, Answer { response, is_registrys: true })?.status())
        })
    }

    /// The address of a path, which must not lead elsewhere, as `//host` would.
    fn own(&self, path: &str) -> Result<Url, RegistryError> {
        let url = self.url(&[path])?;
        if url.origin() == self.0.http.base().origin() {
            return Ok(url);
        }
        Err(RegistryError::Refused { url: shown(&url), reason: "it is another host's".into() })
    }

    fn ask(&self, url: &Url) -> Result<Answer, RegistryError> {
        let header = self.0.auth.unasked()?;
        retry::run(&self.options().retry, || {
            let answer = self.0.http.get(&Wanted::all(url, JSON), header.as_ref())?;
            Ok(self.good(url, answer)?)
        })
    }

    fn good(&self, url: &Url, answer: Answer) -> Result<Answer, RegistryError> {
        match answer.status() {
            200..=299 => Ok(answer),
            401 => Err(self.unauthorized(url, &Scope::Catalog)),
            _ => Err(self.refusal(url, answer, &Scope::Catalog)),
        }
    }
}
