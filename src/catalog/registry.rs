//! A whole registry of which nothing is known but the protocol: every tag of every repository.

use super::error::Failures;
use super::{Catalog, CatalogError, Entries, Entry, Filter};
use crate::source::registry::{Host, Names, Registry, RegistryError};

/// Lists every tag of every repository of a registry, as its own entry: two tags of one image are two entries, and only
/// the registry knows that they are the same. Images without tags are not listed, and nothing says when one was pushed.
pub struct WholeRegistry {
    registry: Registry,
}

impl WholeRegistry {
    /// The images of `registry`. Nothing is asked for yet.
    pub fn new(registry: Registry) -> WholeRegistry {
        WholeRegistry { registry }
    }
}

impl Catalog for WholeRegistry {
    fn hosts(&self) -> Vec<Host> {
        vec![self.registry.host().clone()]
    }

    fn entries<'c>(&'c self, filter: &'c Filter) -> Entries<'c> {
        let repositories = Some(self.registry.repositories());
        let failures = Failures::default();
        Box::new(Tags { registry: &self.registry, filter, repositories, repository: None, failures })
    }
}

struct Tags<'c> {
    registry: &'c Registry,
    filter: &'c Filter,
    /// `None` at the end.
    repositories: Option<Names>,
    /// The repository whose tags come, and those.
    repository: Option<(String, Names)>,
    failures: Failures,
}

impl Tags<'_> {
    /// Goes on to the next repository that may have something; what is wrong with one is given.
    fn turn(&mut self) -> Option<CatalogError> {
        let host = self.registry.host();
        let name = match self.repositories.as_mut()?.next() {
            None => {
                self.repositories = None;
                return None;
            }
            Some(Err(RegistryError::Reference(reason))) => {
                return Some(CatalogError::Entry { host: host.clone(), place: String::new(), reason });
            }
            Some(Err(error)) => {
                self.repositories = None;
                return Some(CatalogError::Whole { host: host.clone(), error: Box::new(error) });
            }
            Some(Ok(name)) => name,
        };
        if self.filter.admits_repository(&name) {
            match self.registry.tags(&name) {
                Ok(tags) => self.repository = Some((name, tags)),
                Err(error) => return Some(self.failed(name, error)),
            }
        }
        None
    }

    fn failed(&mut self, repository: String, error: RegistryError) -> CatalogError {
        let host = self.registry.host();
        let part = |error| CatalogError::Repository { host: host.clone(), repository, error };
        let error = self.failures.one(host, error, part);
        if error.is_whole() {
            self.repositories = None;
        }
        error
    }

    fn entry(&self, repository: &str, tag: String) -> Option<Entry> {
        self.filter.apply(Entry {
            host: self.registry.host().clone(),
            project: None,
            repository: repository.into(),
            tags: vec![tag],
            digest: None,
            pushed_at: None,
        })
    }
}

impl Iterator for Tags<'_> {
    type Item = Result<Entry, CatalogError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let Some((repository, mut tags)) = self.repository.take() else {
                self.repositories.as_ref()?;
                match self.turn() {
                    Some(error) => return Some(Err(error)),
                    None => continue,
                }
            };
            match tags.next() {
                None => self.failures.none(),
                Some(Ok(tag)) => {
                    let entry = self.entry(&repository, tag);
                    self.repository = Some((repository, tags));
                    if let Some(entry) = entry {
                        return Some(Ok(entry));
                    }
                }
                Some(Err(RegistryError::Reference(reason))) => {
                    let (host, place) = (self.registry.host().clone(), format!("/{repository}"));
                    self.repository = Some((repository, tags));
                    return Some(Err(CatalogError::Entry { host, place, reason }));
                }
                Some(Err(error)) => return Some(Err(self.failed(repository, error))),
            }
        }
    }
}
