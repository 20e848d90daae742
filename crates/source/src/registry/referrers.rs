//! The list of what refers to an image, as far as a registry keeps one.
//!
//! Source: OCI distribution-spec v1.1, "Listing Referrers".

use super::auth::Scope;
use super::client::Registry;
use super::error::{EndlessListing, RegistryError, redacted};
use super::http::Request;
use layersift_model::Digest;

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// Each page may be as large as a document.
const MOST_PAGES: usize = 100;

impl Registry {
    /// The indexes, one for each page, that list all manifests which refer to `subject`. `None` if the registry has no
    /// such API: whether it has one is told by a status of 200 alone, because some registries have it and do not say so
    /// in their headers.
    ///
    /// # Errors
    /// If the request fails, or access is denied.
    pub fn referrers(&self, repository: &str, subject: &Digest) -> Result<Option<Vec<Vec<u8>>>, RegistryError> {
        let first = self.url(&["v2", repository, "referrers", &subject.to_string()])?;
        let scope = Scope::Pull(repository.into());
        let mut pages = Vec::new();
        let mut next = Some(first.clone());
        while let Some(url) = next {
            if pages.len() == MOST_PAGES {
                let reason = EndlessListing::Pages(MOST_PAGES);
                return Err(RegistryError::Endless { url: redacted(&first), reason });
            }
            let (bytes, headers) = match self.document(&Request::fresh(&url, INDEX), &scope) {
                Ok(answer) => answer,
                Err(error) if pages.is_empty() && is_absence(&error) => return Ok(None),
                Err(error) => return Err(error),
            };
            pages.push(bytes);
            next = headers.next.resolve(&url)?;
        }
        Ok(Some(pages))
    }
}

/// Whether an error says that there is no such API.
fn is_absence(error: &RegistryError) -> bool {
    match error {
        RegistryError::NotFound { .. } => true,
        RegistryError::Status { response, .. } => matches!(response.status, 400 | 405 | 406 | 410 | 415 | 501),
        _ => false,
    }
}
