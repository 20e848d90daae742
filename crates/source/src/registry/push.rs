//! Writing to a registry: small blobs, manifests and indexes.
//!
//! Source: OCI distribution-spec v1.1, "Push". A blob is uploaded in one request after the one that opens the upload.
//! Nothing is sent to another host than the registry's own, wherever it says that an upload goes.

use reqwest::Url;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION};

use super::auth::{Authorization, Scope};
use super::client::{At, Registry};
use super::error::{RegistryError, redacted};
use super::http::{Message, Response};
use super::refusal::Refusal;
use layersift_model::Digest;

pub(super) const BLOB: &str = "application/octet-stream";

impl Registry {
    /// Writes a blob.
    ///
    /// # Errors
    /// If the registry does not take it.
    pub fn push_blob(&self, repository: &str, bytes: &[u8]) -> Result<Digest, RegistryError> {
        let digest = Digest::of(bytes);
        let upload = self.begin_upload(repository)?;
        self.finish_upload(repository, &upload, &digest, bytes)?;
        Ok(digest)
    }

    /// Opens an upload. Gives where its bytes go.
    pub(super) fn begin_upload(&self, repository: &str) -> Result<Url, RegistryError> {
        let start = self.url(&["v2", repository, "blobs", "uploads/"])?;
        let scope = Scope::Push(repository.into());
        let opened = self.write(&start, &scope, BLOB, HeaderMap::new(), || Message::Post(String::new()), &[202])?;
        self.upload_url(&start, &opened)
    }

    /// Ends an upload with its last bytes.
    pub(super) fn finish_upload(
        &self,
        repository: &str,
        upload: &Url,
        digest: &Digest,
        bytes: &[u8],
    ) -> Result<(), RegistryError> {
        let mut upload = upload.clone();
        upload.query_pairs_mut().append_pair("digest", &digest.to_string());
        let scope = Scope::Push(repository.into());
        self.write(&upload, &scope, BLOB, HeaderMap::new(), || Message::Put(bytes.to_vec()), &[201]).map(|_| ())
    }

    /// Writes a manifest or an index.
    ///
    /// # Errors
    /// If the registry does not take it, for example because it names something that the registry does not have.
    pub fn push_manifest(
        &self,
        repository: &str,
        at: &At,
        media_type: &str,
        bytes: &[u8],
    ) -> Result<(), RegistryError> {
        let url = self.manifest_url(repository, at)?;
        let scope = Scope::Push(repository.into());
        self.write(&url, &scope, media_type, HeaderMap::new(), || Message::Put(bytes.to_vec()), &[200, 201]).map(|_| ())
    }

    /// Where an upload goes.
    pub(super) fn upload_url(&self, start: &Url, opened: &Response) -> Result<Url, RegistryError> {
        let refused = |reason| RegistryError::Refused { url: redacted(start), reason };
        let location = opened.inner.headers().get(LOCATION).and_then(|value| value.to_str().ok());
        let location = location.ok_or_else(|| refused(Refusal::NoLocation))?;
        let upload = start.join(location).map_err(|_| refused(Refusal::InvalidLocation))?;
        if upload.origin() != self.http.base().origin() {
            return Err(RegistryError::Refused { url: redacted(&upload), reason: Refusal::OtherHost });
        }
        Ok(upload)
    }

    /// Sends a message, logs in if the registry requires it, and retries. The status is one of `expected`.
    pub(super) fn write(
        &self,
        url: &Url,
        scope: &Scope,
        media_type: &str,
        headers: HeaderMap,
        message: impl Fn() -> Message,
        expected: &[u16],
    ) -> Result<Response, RegistryError> {
        let content_type = HeaderValue::from_str(media_type);
        let content_type = content_type.unwrap_or(HeaderValue::from_static(BLOB));
        self.retrying(url, || {
            let mut used = self.auth().authorization(&self.http, scope)?;
            let send = |used: &Option<Authorization>| {
                let mut headers = headers.clone();
                headers.insert(CONTENT_TYPE, content_type.clone());
                headers.extend(used.as_ref().map(|used| (AUTHORIZATION, used.header.clone())));
                let sent = self.http.transmit(url, headers, message());
                let sent = sent.map_err(|failure| failure.of(Authorization::identity(used.as_ref())))?;
                Ok::<_, super::retry::Failure>(Response { inner: sent, is_registrys: true })
            };
            let mut response = send(&used)?;
            if response.status() == 401 {
                used = Some(self.log_in(url, response, scope, used)?);
                response = send(&used)?;
            }
            if expected.contains(&response.status()) {
                return Ok(response);
            }
            Err(self.refusal(url, response, scope, used.as_ref()).into())
        })
    }
}
