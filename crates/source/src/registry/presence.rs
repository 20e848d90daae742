//! Whether a registry still serves a manifest or a blob, which is asked without reading it.

use super::auth::Scope;
use super::client::{MANIFESTS, Registry};
use super::error::RegistryError;
use super::http::Request;
use layersift_model::{Digest, parse};
use serde::de::IgnoredAny;

impl Registry {
    /// Whether the manifest with this digest is served. One that a policy of the registry blocks is there, and so is.
    ///
    /// Only the headers are asked for, which registries do not count as a pull. A condition (`If-None-Match`) would not
    /// do: Docker's registry answers that a manifest did not change if it never had it.
    ///
    /// # Errors
    /// If the registry does not say: an error other than 404, or no permission.
    pub fn serves_manifest(&self, repository: &str, digest: &Digest) -> Result<bool, RegistryError> {
        let url = self.url(&["v2", repository, "manifests", &digest.to_string()])?;
        let request = Request::fresh(&url, MANIFESTS);
        match self.serves(&Request { is_head: true, ..request.clone() }, repository) {
            // Some do not take HEAD, and some answer it with 404 for what they serve.
            Ok(false) => self.serves(&request, repository),
            Err(RegistryError::Status { response, .. }) if response.status == 405 => self.serves(&request, repository),
            answer => answer,
        }
    }

    /// Whether the host answers as a registry does at the root of the API. The 404 of another server says nothing.
    ///
    /// # Errors
    /// If it does not answer.
    pub fn is_registry(&self) -> Result<bool, RegistryError> {
        let url = self.url(&["v2/"])?;
        match self.document(&Request::whole(&url, "*/*"), &Scope::Catalog) {
            Ok((body, _)) => {
                let body = body.trim_ascii();
                Ok(body.is_empty() || parse::json::<IgnoredAny>(body).is_ok())
            }
            // It wants a login, or another one.
            Err(RegistryError::Unauthorized { .. } | RegistryError::Forbidden { .. }) => Ok(true),
            Err(RegistryError::NotFound { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whether the registry has a repository of this name, which its list of tags shows.
    ///
    /// # Errors
    /// If the registry does not say.
    pub fn has_repository(&self, repository: &str) -> Result<bool, RegistryError> {
        match self.tags(repository)?.next() {
            None | Some(Ok(_)) => Ok(true),
            Some(Err(RegistryError::NotFound { .. })) => Ok(false),
            Some(Err(error)) => Err(error),
        }
    }

    /// Whether the blob with this digest is served.
    ///
    /// # Errors
    /// As [`Registry::serves_manifest`].
    pub fn serves_blob(&self, repository: &str, digest: &Digest) -> Result<bool, RegistryError> {
        let url = self.url(&["v2", repository, "blobs", &digest.to_string()])?;
        self.serves(&Request::fresh(&url, "*/*"), repository)
    }

    fn serves(&self, request: &Request<'_>, repository: &str) -> Result<bool, RegistryError> {
        match self.get(request, &Scope::Pull(repository.into())) {
            Ok(_) | Err(RegistryError::Blocked { .. }) => Ok(true),
            // The 404 of a storage or of a proxy says nothing; an answer to HEAD has no body, and is asked for again.
            Err(RegistryError::NotFound { response, .. }) if request.is_head || response.is_of_registry() => Ok(false),
            Err(error) => Err(error),
        }
    }
}
