//! Listings of repositories and tags, page by page, with a bound on the pages.
//!
//! Sources: OCI distribution-spec v1.1, "Listing Tags"; distribution's "Listing Repositories"; RFC 8288 for `Link`.
//! Some registries send no `Link`: after a full page the next one is then requested with `last`. Others ignore `n` and
//! `last` and send everything at once, which shows by a page of another size, or by the same page again.

use std::collections::{HashSet, VecDeque};

use reqwest::Url;

use super::auth::Scope;
use super::client::Registry;
use super::error::{EndlessListing, ProtocolError, RegistryError, redacted};
use super::reference::{check_repository, check_tag};
use super::refusal::Refusal;
use layersift_model::Digest;

/// Names of repositories or tags, one after another. A page is requested when the names of the one before are used up.
/// An invalid name is an error, and the names after it still follow; any other error is the last item.
pub struct Names {
    registry: Registry,
    kind: Kind,
    /// Names of the current page that were not taken yet.
    page: VecDeque<String>,
    /// The page to read next.
    next: Option<Next>,
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

#[derive(serde::Deserialize)]
struct Page {
    repositories: Option<Vec<String>>,
    tags: Option<Vec<String>>,
}

impl Names {
    pub(super) fn repositories(registry: Registry) -> Names {
        Names::new(registry, Kind::Repositories)
    }

    pub(super) fn tags(registry: Registry, repository: &str) -> Names {
        Names::new(registry, Kind::Tags(repository.into()))
    }

    fn new(registry: Registry, kind: Kind) -> Names {
        let (page, next) = (VecDeque::new(), Some(Next::First));
        Names { registry, kind, page, next, seen: HashSet::new(), previous: None, taken: 0 }
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
        let (bytes, headers) = self.registry.document(&url, "application/json", &self.scope())?;
        let page: Page = serde_json::from_slice(&bytes)
            .map_err(|error| RegistryError::Protocol { url: redacted(&url), error: ProtocolError::Listing(error) })?;
        let names = match self.kind {
            Kind::Repositories => page.repositories,
            Kind::Tags(_) => page.tags,
        };
        let names = names.unwrap_or_default();
        let ends = names.first().zip(names.last());
        let ends = ends.map(|(first, last)| (first.clone(), last.clone(), names.len()));
        if ends.is_some() && ends == self.previous {
            return match next {
                // The registry ignores `last`, and has sent everything already.
                Next::After(_) => Ok(()),
                _ => Err(endless(EndlessListing::SamePage)),
            };
        }
        let link = headers.links.iter().find_map(|link| next_link(link));
        self.next = match (link, &ends) {
            (Some(link), _) => Some(Next::Linked(resolve_link(&url, &link)?)),
            (None, Some((_, last, count))) if *count == self.registry.listing_limits().page as usize => {
                Some(Next::After(last.clone()))
            }
            _ => None,
        };
        self.previous = ends;
        self.page = names.into();
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
            if let Some(name) = self.page.pop_front() {
                self.taken += 1;
                let most = self.registry.listing_limits().names;
                if self.taken > most {
                    (self.page, self.next) = (VecDeque::new(), None);
                    let url = self.url(None).map(|url| redacted(&url)).unwrap_or_default();
                    return Some(Err(RegistryError::Endless { url, reason: EndlessListing::Names(most) }));
                }
                return Some(self.check(name));
            }
            let next = self.next.take()?;
            if let Err(error) = self.read_page(next) {
                return Some(Err(error));
            }
        }
    }
}

/// The URL of a link, which must be on the same registry.
pub(super) fn resolve_link(from: &Url, link: &str) -> Result<Url, RegistryError> {
    let invalid = |_| RegistryError::Protocol { url: redacted(from), error: ProtocolError::Link };
    let mut url = from.join(link).map_err(invalid)?;
    let same = url.origin() == from.origin() && url.username().is_empty() && url.password().is_none();
    if !same {
        return Err(RegistryError::Refused { url: redacted(&url), reason: Refusal::OtherHost });
    }
    url.set_fragment(None);
    Ok(url)
}

/// The target of the link to the next page in a `Link` header.
pub(super) fn next_link(header: &str) -> Option<String> {
    let mut rest = header;
    while let Some((_, from)) = rest.split_once('<') {
        let (target, after) = from.split_once('>')?;
        let (parameters, after) = parameters(after);
        let is_next = |(name, value): &(String, String)| {
            name == "rel" && value.split_ascii_whitespace().any(|rel| rel.eq_ignore_ascii_case("next"))
        };
        if parameters.iter().any(is_next) {
            return Some(target.trim().into());
        }
        rest = after;
    }
    None
}

/// The parameters after a link's target, and the text after them.
fn parameters(text: &str) -> (Vec<(String, String)>, &str) {
    let mut found = Vec::new();
    let mut rest = text.trim_start();
    while let Some(from) = rest.strip_prefix(';') {
        let at = from.find(['=', ';', ',']).unwrap_or(from.len());
        let (name, after) = from.split_at(at);
        let (value, after) = match after.strip_prefix('=').map(str::trim_start) {
            Some(value) => match value.strip_prefix('"') {
                Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
                None => value.split_at(value.find([';', ',']).unwrap_or(value.len())),
            },
            None => ("", after),
        };
        found.push((name.trim().to_ascii_lowercase(), value.trim().to_string()));
        rest = after.trim_start();
    }
    (found, rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_to_the_next_page() {
        let next = |header: &str| next_link(header);
        assert_eq!(next(r#"</v2/_catalog?last=a&n=1>; rel="next""#), Some("/v2/_catalog?last=a&n=1".into()));
        assert_eq!(next(r#"<https://h.example/x>;rel=next"#), Some("https://h.example/x".into()));
        assert_eq!(
            next(r#"<a>; rel="prev", <b,c;d>; title="x, <z>; rel=next" ; REL="last Next""#),
            Some("b,c;d".into())
        );
        assert_eq!(next(r#"<a>; rel="prev""#), None);
        assert_eq!(next(r#"<a>; rel="nextish""#), None);
        for wrong in ["", "a; rel=next", "<a", "<a>", "<a>; rel", "<a>; rel=\"next", "<>", "<a> rel=next"] {
            assert!(next(wrong).is_none() || wrong == "<a>; rel=\"next", "{wrong}");
        }
    }

    #[test]
    fn no_text_makes_it_panic() {
        let characters: Vec<char> = "<>;,=\"\\ relnxé/".chars().collect();
        let mut random = fastrand::Rng::with_seed(1);
        for _ in 0..20_000 {
            let text: String = (0..random.usize(..24)).filter_map(|_| random.choice(&characters)).collect();
            let _ = next_link(&text);
        }
    }
}
