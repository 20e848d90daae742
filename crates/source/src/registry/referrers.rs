//! What refers to a manifest of a registry: the referrers API, and the tags that stand in for it.
//!
//! Sources: OCI distribution-spec v1.1, "Listing Referrers" and "Unavailable Referrers API"; cosign,
//! `specs/SIGNATURE_SPEC.md`. cosign names its signatures, attestations and bills of materials by tags whether or not a
//! registry has the API, so these tags are always asked for.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{OnceLock, PoisonError};
use std::thread;

use layersift_format::manifest::is_index;
use layersift_format::{ReferrerList, Referrers, unread_reason};
use layersift_model::{Digest, Gap};

use super::auth::Scope;
use super::client::{At, Manifest, Registry};
use super::error::{EndlessListing, ProtocolError, RegistryError, redacted};
use super::http::Request;
use super::reference::check_tag;
use super::response::RegistryErrorCode;
use super::source::RegistrySource;

/// The media type of a list of referrers.
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// The most pages and bytes of one list. An entry takes some hundred bytes, and a thousand referrers are read.
const MAX_PAGES: usize = 1_000;
const MAX_BYTES: u64 = 2 << 20;

/// The most tags of a repository that are listed, to know which of them stand for referrers.
const MAX_TAGS: usize = 20_000;

/// The ends of the tags that cosign writes.
const COSIGN: [&str; 3] = [".sig", ".att", ".sbom"];

/// What is known of the referrers of a repository.
#[derive(Default)]
pub(super) struct Lookups {
    /// Whether the registry said that it does not have the API.
    is_unsupported: AtomicBool,
    /// Manifests that were looked up.
    count: AtomicUsize,
    /// The tags that stand for referrers; `None` if they are not known.
    tags: OnceLock<Option<HashSet<String>>>,
}

/// The pages of a list of referrers, and why there are no more.
struct Pages {
    pages: Vec<Vec<u8>>,
    failure: Option<RegistryError>,
}

impl RegistrySource {
    /// What refers to the manifest with this digest.
    pub(super) fn look_up(&self, digest: &Digest) -> Referrers {
        let mut found = Referrers::default();
        let is_supported = self.ask_api(digest, &mut found);
        let tag = tag_of(digest);
        let list = (!is_supported).then(|| tag.clone());
        let tags = COSIGN.iter().map(|end| format!("{tag}{end}")).chain(list);
        let tags: Vec<String> = tags.filter(|tag| check_tag(tag).is_ok() && self.may_exist(tag)).collect();
        self.referrers.count.fetch_add(1, Ordering::Relaxed);
        for (tag, manifest) in self.manifests_of(&tags) {
            match manifest {
                Ok(manifest) if !COSIGN.iter().any(|end| tag.ends_with(end)) => {
                    self.add_list(&tag, digest, manifest, &mut found);
                }
                Ok(manifest) => {
                    found.manifests.push(manifest.digest.clone());
                    self.keep(manifest);
                }
                Err(RegistryError::NotFound { .. }) => {}
                Err(error) => found.gaps.push(gap(&error).at(tag)),
            }
        }
        found
    }

    /// Adds what the API lists. `false` if the registry does not have it.
    fn ask_api(&self, digest: &Digest, found: &mut Referrers) -> bool {
        let is_unsupported = &self.referrers.is_unsupported;
        if is_unsupported.load(Ordering::Relaxed) {
            return false;
        }
        match self.registry.referrer_pages(&self.reference.repository, digest) {
            Ok(Some(Pages { pages, failure })) => {
                found.lists.extend(pages.into_iter().map(|bytes| ReferrerList { bytes, digest: None }));
                found.gaps.extend(failure.map(|error| gap(&error)));
                true
            }
            Ok(None) => {
                is_unsupported.store(true, Ordering::Relaxed);
                false
            }
            // The tag may have what the API does not say.
            Err(error) => {
                found.gaps.push(gap(&error));
                false
            }
        }
    }

    /// Adds the list of referrers that `tag` names. After `cosign copy` it names the image itself.
    fn add_list(&self, tag: &str, subject: &Digest, manifest: Manifest, found: &mut Referrers) {
        if manifest.digest == *subject {
            return;
        }
        if is_index(&manifest.bytes) {
            found.lists.push(ReferrerList { digest: Some(manifest.digest), bytes: manifest.bytes });
        } else {
            found.notes.push(format!(
                "the tag {tag}, which is for lists of referrers, names {}, which is not a list and was not read",
                manifest.digest
            ));
        }
    }

    /// Whether the repository may have a tag. Three requests for the first manifest cost less than a listing; for more
    /// manifests the listing does.
    fn may_exist(&self, tag: &str) -> bool {
        let lookups = &self.referrers;
        if lookups.count.load(Ordering::Relaxed) == 0 {
            return true;
        }
        let tags = lookups.tags.get_or_init(|| self.tags_of_referrers());
        tags.as_ref().is_none_or(|tags| tags.contains(tag))
    }

    /// The tags of the repository that may stand for referrers; `None` if they cannot be listed, or are many.
    fn tags_of_referrers(&self) -> Option<HashSet<String>> {
        let mut tags = HashSet::new();
        for (count, tag) in self.registry.tags(&self.reference.repository).ok()?.enumerate() {
            let tag = tag.ok().filter(|_| count < MAX_TAGS)?;
            if tag.starts_with("sha256-") || tag.starts_with("sha512-") {
                tags.insert(tag);
            }
        }
        Some(tags)
    }

    /// The manifests that `tags` name, which are requested at the same time.
    fn manifests_of(&self, tags: &[String]) -> Vec<(String, Result<Manifest, RegistryError>)> {
        let ask = |tag: &String| (tag.clone(), self.manifest(&At::Tag(tag.clone())));
        let [first, others @ ..] = tags else { return Vec::new() };
        thread::scope(|scope| {
            let asking: Vec<_> = others.iter().map(|tag| (tag, scope.spawn(move || ask(tag)))).collect();
            let mut answers = vec![ask(first)];
            answers.extend(asking.into_iter().map(|(tag, thread)| thread.join().unwrap_or_else(|_| ask(tag))));
            answers
        })
    }

    /// Keeps a manifest until it is opened.
    fn keep(&self, manifest: Manifest) {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).insert(manifest.digest, manifest.bytes);
    }
}

impl Registry {
    /// The indexes, one for each page, that list all manifests which refer to `subject`. `None` if the registry has no
    /// such lists.
    ///
    /// # Errors
    /// If the list cannot be read to its end, or access is denied.
    pub fn referrers(&self, repository: &str, subject: &Digest) -> Result<Option<Vec<Vec<u8>>>, RegistryError> {
        match self.referrer_pages(repository, subject)? {
            None => Ok(None),
            Some(Pages { pages, failure: None }) => Ok(Some(pages)),
            Some(Pages { failure: Some(error), .. }) => Err(error),
        }
    }

    /// The list of what refers to the manifest with this digest, in pages; `None` if the registry has no such lists.
    fn referrer_pages(&self, repository: &str, digest: &Digest) -> Result<Option<Pages>, RegistryError> {
        let scope = Scope::Pull(repository.into());
        let mut url = self.url(&["v2", repository, "referrers", &digest.to_string()])?;
        let (mut pages, mut seen, mut bytes) = (Vec::<Vec<u8>>::new(), HashSet::new(), 0_u64);
        let endless = |url, reason| RegistryError::Endless { url: redacted(url), reason };
        let failure = loop {
            if !seen.insert(Digest::of(url.as_str().as_bytes())) {
                break Some(endless(&url, EndlessListing::Circle));
            }
            if pages.len() >= MAX_PAGES || bytes >= MAX_BYTES {
                break Some(endless(&url, EndlessListing::Pages(pages.len())));
            }
            let (page, headers) = match self.document_within(&Request::fresh(&url, INDEX), &scope, MAX_BYTES - bytes) {
                Ok(answer) => answer,
                Err(error) if pages.is_empty() && is_unsupported(&error) => return Ok(None),
                Err(error) if pages.is_empty() => return Err(error),
                Err(error) => break Some(error),
            };
            if !is_index(&page) {
                // Servers in front of a registry answer what they do not know with a page of their own.
                if pages.is_empty() && !headers.media_type.as_deref().is_some_and(|text| text.starts_with(INDEX)) {
                    return Ok(None);
                }
                let error = ProtocolError::Form { expected: "a list of referrers", received: headers.form };
                let error = RegistryError::Protocol { url: redacted(&url), error };
                if pages.is_empty() {
                    return Err(error);
                }
                break Some(error);
            }
            bytes += page.len() as u64;
            pages.push(page);
            match headers.next.resolve(&url) {
                Ok(Some(next)) => url = next,
                Ok(None) => break None,
                Err(error) => break Some(error),
            }
        };
        Ok(Some(Pages { pages, failure }))
    }
}

/// Whether the answer says that the registry has no lists of referrers: no such path, or one for other methods.
fn is_unsupported(error: &RegistryError) -> bool {
    match error.status() {
        Some(400 | 404 | 405 | 406 | 410 | 415 | 501) => true,
        Some(400..=499) => error.codes().contains(&RegistryErrorCode::Unsupported),
        _ => false,
    }
}

/// The gap of referrers that cannot be listed because of `error`.
fn gap(error: &RegistryError) -> Gap {
    Gap::new(unread_reason(error), format!("what refers to the image is not known: {error}"))
}

/// The tag of a list of referrers: the digest, in the characters and the length of a tag.
fn tag_of(digest: &Digest) -> String {
    let hex: String = digest.hex().chars().take(64).collect();
    format!("{}-{hex}", digest.algorithm().name())
}
