//! Listings of repositories and tags, page by page, with a bound on the pages.
//!
//! Sources: OCI distribution-spec v1.1, "Listing Tags"; distribution's "Listing Repositories".
//! Some registries send no `Link`: after a full page the next one is then requested with `last`. Others ignore `n` and
//! `last` and send everything at once, which shows by a page of another size, or by the same page again.

use std::collections::HashSet;

use reqwest::Url;
use serde::{Deserialize, Deserializer};

use super::auth::Scope;
use super::client::Registry;
use super::error::{EndlessListing, ProtocolError, RegistryError, redacted};
use super::http::Request;
use super::reference::{check_repository, check_tag};
use crate::name_list::NameList;
use layersift_model::{Digest, ParseError, parse};

/// Names of repositories or tags, one after another. A page is requested when the names of the one before are used up.
/// An invalid name is an error, and the names after it still follow; any other error is the last item. One about the
/// next page comes after the names of the page before.
pub struct Names {
    registry: Registry,
    kind: Kind,
    /// Names of the current page that were not taken yet.
    page: NameList,
    /// The page to read next.
    next: Option<Next>,
    /// Why there may be a next page that cannot be requested: the last item.
    failure: Option<RegistryError>,
    /// Digests of the URLs of the pages that were read: a URL may be long.
    seen: HashSet<Digest>,
    /// The first and the last name of the previous page, and its number of names.
    previous: Option<(String, String, usize)>,
    taken: usize,
}

#[derive(Clone)]
enum Kind {
    Repositories,
    Tags(String),
}

enum Next {
    /// The first page.
    First,
    /// The page that the previous one links to.
    Linked(Url),
    /// The page after a name, without a link.
    After(String),
}

/// A page. It must have the list that was asked for, which Go writes as `null` if it is empty.
#[derive(serde::Deserialize)]
struct Page {
    #[serde(default, deserialize_with = "present")]
    repositories: Option<Option<NameList>>,
    #[serde(default, deserialize_with = "present")]
    tags: Option<Option<NameList>>,
}

fn present<'d, D: Deserializer<'d>>(list: D) -> Result<Option<Option<NameList>>, D::Error> {
    Option::deserialize(list).map(Some)
}

impl Names {
    pub(super) fn repositories(registry: Registry) -> Names {
        Names::new(registry, Kind::Repositories)
    }

    pub(super) fn tags(registry: Registry, repository: &str) -> Names {
        Names::new(registry, Kind::Tags(repository.into()))
    }

    fn new(registry: Registry, kind: Kind) -> Names {
        let (page, next) = (NameList::default(), Some(Next::First));
        Names { registry, kind, page, next, failure: None, seen: HashSet::new(), previous: None, taken: 0 }
    }

    /// Reads a page and determines the next one.
    fn read_page(&mut self, next: Next) -> Result<(), RegistryError> {
        let url = match &next {
            Next::First => self.url(None)?,
            Next::After(name) => self.url(Some(name))?,
            Next::Linked(url) => url.clone(),
        };
        let endless = |reason| RegistryError::Endless { url: redacted(&url), reason };
        if self.seen.len() >= self.registry.listing_limits().pages {
            return Err(endless(EndlessListing::Pages(self.seen.len())));
        }
        if !self.seen.insert(Digest::of(url.as_str().as_bytes())) {
            return Err(endless(EndlessListing::Circle));
        }
        let (bytes, headers) = self.registry.document(&Request::fresh(&url, "application/json"), &self.scope())?;
        let page: Page = parse::json(&bytes).map_err(|error| {
            self.registry.invalid_listing(redacted(&url), (&bytes, &headers.form), &self.scope(), error)
        })?;
        let (names, field) = match self.kind {
            Kind::Repositories => (page.repositories, "repositories"),
            Kind::Tags(_) => (page.tags, "tags"),
        };
        let missing = || RegistryError::Protocol {
            url: redacted(&url),
            error: ProtocolError::Listing(ParseError::missing(field)),
        };
        let names = names.ok_or_else(missing)?.unwrap_or_default();
        let ends = names.first_left().zip(names.last_name());
        let ends = ends.map(|(first, last)| (first.to_owned(), last.to_owned(), names.len()));
        if ends.is_some() && ends == self.previous {
            return match next {
                // The registry ignores `last`, and has sent everything already.
                Next::After(_) => Ok(()),
                _ => Err(endless(EndlessListing::SamePage)),
            };
        }
        let full = self.registry.listing_limits().page as usize;
        match (headers.next.resolve(&url), &ends) {
            (Ok(Some(next)), _) => self.next = Some(Next::Linked(next)),
            (Err(error), _) => self.failure = Some(error),
            (Ok(None), Some((_, last, count))) if *count == full => self.next = Some(Next::After(last.clone())),
            (Ok(None), _) => {}
        }
        self.previous = ends;
        self.page = names;
        Ok(())
    }

    fn url(&self, last: Option<&str>) -> Result<Url, RegistryError> {
        let mut url = match &self.kind {
            Kind::Repositories => self.registry.url(&["v2", "_catalog"])?,
            Kind::Tags(repository) => self.registry.url(&["v2", repository, "tags", "list"])?,
        };
        url.query_pairs_mut()
            .append_pair("n", &self.registry.listing_limits().page.to_string())
            .extend_pairs(last.map(|last| ("last", last)));
        Ok(url)
    }

    fn scope(&self) -> Scope {
        match &self.kind {
            Kind::Repositories => Scope::Catalog,
            Kind::Tags(repository) => Scope::Pull(repository.clone()),
        }
    }

    fn check(&self, name: String) -> Result<String, RegistryError> {
        match self.kind {
            Kind::Repositories => check_repository(&name)?,
            Kind::Tags(_) => check_tag(&name)?,
        }
        Ok(name)
    }
}

impl Iterator for Names {
    type Item = Result<String, RegistryError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(name) = self.page.next() {
                self.taken += 1;
                let most = self.registry.listing_limits().names;
                if self.taken > most {
                    (self.page, self.next, self.failure) = (NameList::default(), None, None);
                    let url = self.url(None).map(|url| redacted(&url)).unwrap_or_default();
                    return Some(Err(RegistryError::Endless { url, reason: EndlessListing::Names(most) }));
                }
                return Some(self.check(name));
            }
            let Some(next) = self.next.take() else { return self.failure.take().map(Err) };
            if let Err(error) = self.read_page(next) {
                return Some(Err(error));
            }
        }
    }
}
