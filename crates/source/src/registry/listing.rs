//! Listings: repositories and tags, page by page, never more pages than a registry can mean.
//!
//! Sources: OCI distribution-spec v1.1, "Listing Tags"; distribution's "Listing Repositories"; RFC 8288 for `Link`.
//! Some registries send no `Link`: after a full page the next one is then asked for with `last`. Others ignore `n` and
//! `last`, and give everything at once, which shows by a page of another size, or by the same page again.

use std::collections::{HashSet, VecDeque};

use reqwest::Url;

use super::auth::Scope;
use super::client::Registry;
use super::error::{RegistryError, shown};
use super::reference::{check_repository, check_tag};
use layersift_model::Digest;

/// Names of repositories or tags, one after another. It asks for a page when the one before is used up. A name that
/// cannot be one is an error, and the names behind it still come; any other error is the last.
pub struct Names {
    registry: Registry,
    what: What,
    /// Names of the page that was read last.
    page: VecDeque<String>,
    /// The page to read next.
    next: Option<Next>,
    /// The addresses of the pages that were read, as digests: they may be long.
    seen: HashSet<Digest>,
    /// The first and the last name of the page before, and how many it had.
    before: Option<(String, String, usize)>,
    taken: usize,
}

#[derive(Clone)]
enum What {
    Repositories,
    Tags(String),
}

enum Next {
    /// Where the listing begins.
    First,
    /// Where the page before leads.
    Linked(Url),
    /// What follows a name, which the page before did not say.
    After(String),
}

#[derive(serde::Deserialize)]
struct Page {
    repositories: Option<Vec<String>>,
    tags: Option<Vec<String>>,
}

impl Names {
    pub(super) fn repositories(registry: Registry) -> Names {
        Names::new(registry, What::Repositories)
    }

    pub(super) fn tags(registry: Registry, repository: &str) -> Names {
        Names::new(registry, What::Tags(repository.into()))
    }

    fn new(registry: Registry, what: What) -> Names {
        let (page, next) = (VecDeque::new(), Some(Next::First));
        Names { registry, what, page, next, seen: HashSet::new(), before: None, taken: 0 }
    }

    /// Reads a page and finds out where the next one is.
    fn turn(&mut self, next: Next) -> Result<(), RegistryError> {
        let url = match &next {
            Next::First => self.url(None)?,
            Next::After(name) => self.url(Some(name))?,
            Next::Linked(url) => url.clone(),
        };
        let endless = |reason: String| RegistryError::Endless { url: shown(&url), reason };
        if self.seen.len() >= self.registry.listing().pages {
            return Err(endless(format!("more than {} pages", self.seen.len())));
        }
        if !self.seen.insert(Digest::of(url.as_str().as_bytes())) {
            return Err(endless("a page leads back to one before it".into()));
        }
        let (bytes, about) = self.registry.document(&url, "application/json", &self.scope())?;
        let page: Page = serde_json::from_slice(&bytes).map_err(|error| RegistryError::Answer {
            url: shown(&url),
            reason: format!("it is no listing: {error}"),
        })?;
        let names = match self.what {
            What::Repositories => page.repositories,
            What::Tags(_) => page.tags,
        };
        let names = names.unwrap_or_default();
        let ends = || Some((names.first()?.clone(), names.last()?.clone(), names.len()));
        let ends = ends();
        if ends.is_some() && ends == self.before {
            return match next {
                // It does not know of `last`, and has given everything already.
                Next::After(_) => Ok(()),
                _ => Err(endless("two pages are the same".into())),
            };
        }
        let link = about.links.iter().find_map(|link| next_of(link));
        self.next = match (link, &ends) {
            (Some(link), _) => Some(Next::Linked(linked(&url, &link)?)),
            (None, Some((_, last, count))) if *count == self.registry.listing().page as usize => {
                Some(Next::After(last.clone()))
            }
            _ => None,
        };
        self.before = ends;
        self.page = names.into();
        Ok(())
    }

    fn url(&self, last: Option<&str>) -> Result<Url, RegistryError> {
        let mut url = match &self.what {
            What::Repositories => self.registry.url(&["v2", "_catalog"])?,
            What::Tags(repository) => self.registry.url(&["v2", repository, "tags", "list"])?,
        };
        url.query_pairs_mut()
            .append_pair("n", &self.registry.listing().page.to_string())
            .extend_pairs(last.map(|last| ("last", last)));
        Ok(url)
    }

    fn scope(&self) -> Scope {
        match &self.what {
            What::Repositories => Scope::Catalog,
            What::Tags(repository) => Scope::Pull(repository.clone()),
        }
    }

    fn check(&self, name: String) -> Result<String, RegistryError> {
        match self.what {
            What::Repositories => check_repository(&name)?,
            What::Tags(_) => check_tag(&name)?,
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
                let most = self.registry.listing().names;
                if self.taken > most {
                    (self.page, self.next) = (VecDeque::new(), None);
                    let url = self.url(None).map(|url| shown(&url)).unwrap_or_default();
                    return Some(Err(RegistryError::Endless { url, reason: format!("more than {most} names") }));
                }
                return Some(self.check(name));
            }
            let next = self.next.take()?;
            if let Err(error) = self.turn(next) {
                return Some(Err(error));
            }
        }
    }
}

/// Where a link leads: to the same registry, or nowhere.
pub(super) fn linked(from: &Url, link: &str) -> Result<Url, RegistryError> {
    let wrong = |reason: &str| RegistryError::Answer { url: shown(from), reason: reason.into() };
    let mut url = from.join(link).map_err(|_| wrong("the link to the next page is no address"))?;
    let same = url.origin() == from.origin() && url.username().is_empty() && url.password().is_none();
    if !same {
        return Err(RegistryError::Refused { url: shown(&url), reason: "the next page is on another host".into() });
    }
    url.set_fragment(None);
    Ok(url)
}

/// The target of the link to the next page in a `Link` header.
pub(super) fn next_of(header: &str) -> Option<String> {
    let mut rest = header;
    while let Some((_, from)) = rest.split_once('<') {
        let (target, after) = from.split_once('>')?;
        let (parameters, behind) = parameters(after);
        let is_next = |(name, value): &(String, String)| {
            name == "rel" && value.split_ascii_whitespace().any(|rel| rel.eq_ignore_ascii_case("next"))
        };
        if parameters.iter().any(is_next) {
            return Some(target.trim().into());
        }
        rest = behind;
    }
    None
}

/// The parameters behind a link's target, and what follows the comma behind them.
fn parameters(text: &str) -> (Vec<(String, String)>, &str) {
    let mut found = Vec::new();
    let mut rest = text.trim_start();
    while let Some(from) = rest.strip_prefix(';') {
        let at = from.find(['=', ';', ',']).unwrap_or(from.len());
        let (name, after) = from.split_at(at);
        let (value, behind) = match after.strip_prefix('=').map(str::trim_start) {
            Some(value) => match value.strip_prefix('"') {
                Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
                None => value.split_at(value.find([';', ',']).unwrap_or(value.len())),
            },
            None => ("", after),
        };
        found.push((name.trim().to_ascii_lowercase(), value.trim().to_string()));
        rest = behind.trim_start();
    }
    (found, rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_to_the_next_page() {
        let next = |header: &str| next_of(header);
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
    fn anything_is_read_without_harm() {
        let characters: Vec<char> = "<>;,=\"\\ relnxé/".chars().collect();
        let mut random = fastrand::Rng::with_seed(1);
        for _ in 0..20_000 {
            let text: String = (0..random.usize(..24)).filter_map(|_| random.choice(&characters)).collect();
            let _ = next_of(&text);
        }
    }
}
