//! A whole registry by the OCI protocol alone: every tag of every repository.

use std::collections::VecDeque;
use std::iter::Peekable;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use super::error::FailureCount;
use super::{Catalog, CatalogError, Entries, Entry, Filter};
use crate::registry::{Host, Names, Registry, RegistryError};

/// Lists every tag of every repository of a registry as an entry. Two tags of one image are two entries, because a
/// listing has no digests. Images without tags are not listed, and when an image was pushed is not known.
pub struct WholeRegistry {
    registry: Registry,
}

impl WholeRegistry {
    /// The images of `registry`. Nothing is requested yet.
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
        let (upcoming, failures) = (VecDeque::new(), FailureCount::default());
        Box::new(Tags { registry: &self.registry, filter, repositories, upcoming, repository: None, failures })
    }
}

/// Repositories whose tags are requested at the same time, because a registry is slow to answer.
const PREFETCHED: usize = 8;

type Repository = (String, Peekable<Names>);

struct Tags<'c> {
    registry: &'c Registry,
    filter: &'c Filter,
    /// `None` at the end.
    repositories: Option<Names>,
    /// Repositories whose first tags are being requested, each on a thread of its own.
    upcoming: VecDeque<Result<JoinHandle<Repository>, CatalogError>>,
    /// The repository whose tags are being taken.
    repository: Option<Repository>,
    failures: FailureCount,
}

impl Tags<'_> {
    /// The next repository with its first tags, while those of the following ones are requested.
    fn next_upcoming(&mut self) -> Option<Result<Repository, CatalogError>> {
        while self.upcoming.len() < PREFETCHED
            && let Some(next) = self.next_repository()
        {
            let request = |(name, mut tags): Repository| {
                thread::spawn(move || {
                    tags.peek();
                    (name, tags)
                })
            };
            self.upcoming.push_back(next.map(request));
        }
        let joined = |thread: JoinHandle<_>| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        self.upcoming.pop_front().map(|next| next.map(joined))
    }

    /// The next repository that the filter admits, or an error.
    fn next_repository(&mut self) -> Option<Result<Repository, CatalogError>> {
        let host = self.registry.host();
        let names = self.repositories.as_mut()?;
        let next = names.find(|name| name.as_ref().map_or(true, |name| self.filter.admits_repository(name)));
        match next {
            None => {
                self.repositories = None;
                None
            }
            Some(Err(RegistryError::Reference(error))) => {
                Some(Err(CatalogError::Entry { host: host.clone(), place: String::new(), error: error.into() }))
            }
            Some(Err(error)) => {
                self.repositories = None;
                Some(Err(CatalogError::Whole { host: host.clone(), error: Arc::new(error) }))
            }
            Some(Ok(name)) => match self.registry.tags(&name) {
                Ok(tags) => Some(Ok((name, tags.peekable()))),
                Err(error) => Some(Err(self.failed(name, error))),
            },
        }
    }

    fn failed(&mut self, repository: String, error: RegistryError) -> CatalogError {
        let host = self.registry.host();
        let part = |error| CatalogError::Repository { host: host.clone(), repository, error };
        let error = self.failures.add(host, error, part);
        if error.is_whole() {
            self.repositories = None;
            self.upcoming.clear();
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
                match self.next_upcoming()? {
                    Ok(next) => self.repository = Some(next),
                    Err(error) => return Some(Err(error)),
                }
                continue;
            };
            match tags.next() {
                None => self.failures.reset(),
                Some(Ok(tag)) => {
                    let entry = self.entry(&repository, tag);
                    self.repository = Some((repository, tags));
                    if let Some(entry) = entry {
                        return Some(Ok(entry));
                    }
                }
                Some(Err(RegistryError::Reference(error))) => {
                    let (host, place) = (self.registry.host().clone(), format!("/{repository}"));
                    self.repository = Some((repository, tags));
                    return Some(Err(CatalogError::Entry { host, place, error: error.into() }));
                }
                Some(Err(error)) => return Some(Err(self.failed(repository, error))),
            }
        }
    }
}
