//! REST interfaces that registries have besides the OCI protocol, such as Harbor's.
//!
//! Such an interface sends no challenge: an anonymous request gets less. So credentials are sent with the first
//! request, to the registry's own scheme, host and port, and not to where it redirects.

use layersift_model::ParseError;
use reqwest::Url;
use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderMap, HeaderValue};

use super::auth::{Authorization, Scope};
use super::client::Registry;
use super::error::{Identity, RegistryError, redacted};
use super::form::BodyForm;
use super::http::{Request, Response};
use super::refusal::Refusal;

/// The media type of pages.
const JSON: &str = "application/json";

/// A page of a listing.
#[derive(Debug)]
pub struct Page {
    /// Its URL without the query.
    pub url: String,
    /// Its body.
    pub bytes: Vec<u8>,
    /// What the registry says that the body is.
    pub(super) form: BodyForm,
    /// The `X-Total-Count` header as it was sent.
    pub total: Option<String>,
    /// Whether a `Link` header leads to another page of the same registry; an error if that is not known, or the page
    /// is elsewhere.
    pub has_next: Result<bool, RegistryError>,
}

impl Registry {
    /// A page of the registry's own interface at `path`, which begins without `/` and is escaped already.
    ///
    /// # Errors
    /// For every status outside 200 to 299, and for a body larger than [`super::RegistryOptions::document_bytes`].
    pub fn page(&self, path: &str, query: &[(&str, &str)]) -> Result<Page, RegistryError> {
        let mut url = self.api_url(path)?;
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let (bytes, headers) = self.read_whole(&url, self.document_bytes(), || self.get_api(&url))?;
        let has_next = headers.next.resolve(&url).map(|next| next.is_some());
        Ok(Page { url: redacted(&url), bytes, form: headers.form, total: headers.total, has_next })
    }

    /// The error of a page whose body is not a listing, of which `error` is what the parser says.
    pub(crate) fn invalid_page(&self, page: &Page, error: ParseError) -> RegistryError {
        self.invalid_listing(page.url.clone(), (&page.bytes, &page.form), &Scope::Catalog, error)
    }

    /// Sends an empty `POST` to the registry's own interface at `path`, and returns the status if it is in 200 to 299.
    /// It may be sent more than once, and no redirect is followed.
    ///
    /// # Errors
    /// For every other status.
    pub fn post(&self, path: &str) -> Result<u16, RegistryError> {
        let url = self.api_url(path)?;
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static(JSON));
        let used = self.auth().preemptive(&self.http)?;
        let identity = Authorization::identity(used.as_ref());
        headers.extend(used.map(|used| (AUTHORIZATION, used.header)));
        self.retrying(&url, || {
            let response = self.http.send(&url, headers.clone(), Some(String::new()));
            let response = response.map_err(|failure| failure.of(identity))?;
            Ok(self.success(&url, Response { inner: response, is_registrys: true }, identity)?.status())
        })
    }

    /// The URL of a path, which must not lead to another host, as `//host` would.
    fn api_url(&self, path: &str) -> Result<Url, RegistryError> {
        let url = self.url(&[path])?;
        if url.origin() == self.http.base().origin() {
            return Ok(url);
        }
        Err(RegistryError::Refused { url: redacted(&url), reason: Refusal::OtherHost })
    }

    fn get_api(&self, url: &Url) -> Result<Response, RegistryError> {
        let used = self.auth().preemptive(&self.http)?;
        let identity = Authorization::identity(used.as_ref());
        self.retrying(url, || {
            let response = self.http.get(&Request::fresh(url, JSON), used.as_ref().map(|used| &used.header));
            Ok(self.success(url, response.map_err(|failure| failure.of(identity))?, identity)?)
        })
    }

    fn success(&self, url: &Url, response: Response, identity: Identity) -> Result<Response, RegistryError> {
        match response.status() {
            200..=299 => Ok(response),
            _ => Err(self.error_of(url, response, &Scope::Catalog, identity)),
        }
    }
}
