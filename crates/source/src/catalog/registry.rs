//! A whole registry by the OCI protocol alone: every tag of every repository.

use std::iter::Peekable;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::ahead::Ahead;
use super::error::FailureCount;
use super::{Catalog, CatalogError, Coverage, Entries, Entry, Filter, ListedGroup, ListedRepositories};
use crate::registry::{Host, LoginState, Names, Registry, RegistryError, RegistryErrorCode};

/// Lists every tag of every repository of a registry as an entry. Two tags of one image are two entries, because a
/// listing has no digests. Images without tags are not listed, and when an image was pushed is not known.
///
/// The login is checked before the listing and after it, and when a repository refuses: many registries list less for a
/// stranger.
pub struct WholeRegistry {
    registry: Registry,
    coverage: Mutex<Coverage>,
}

impl WholeRegistry {
    /// The images of `registry`. Nothing is requested yet.
    pub fn new(registry: Registry) -> WholeRegistry {
        WholeRegistry { registry, coverage: Mutex::default() }
    }

    fn noted(&self) -> MutexGuard<'_, Coverage> {
        self.coverage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Catalog for WholeRegistry {
    fn hosts(&self) -> Vec<Host> {
        vec![self.registry.host().clone()]
    }

    fn entries<'c>(&'c self, filter: &'c Filter) -> Entries<'c> {
        let failures = FailureCount::default();
        let (found, repository, listed) = (None, None, Vec::new());
        let (has_tags, has_invalid_tags, is_at_end) = (false, false, false);
        let catalog = self;
        Box::new(Tags { catalog, filter, found, repository, has_tags, has_invalid_tags, listed, failures, is_at_end })
    }

    fn coverage(&self) -> Option<Coverage> {
        Some(self.noted().clone())
    }

    fn still_lists(&self, entry: &Entry) -> Result<bool, CatalogError> {
        let Some(tag) = entry.tags.first() else { return Ok(true) };
        let failed = |error| {
            let (host, repository) = (entry.host.clone(), entry.repository.clone());
            CatalogError::Repository { host, repository, error: Arc::new(error) }
        };
        let mut others = 0;
        for name in self.registry.tags(&entry.repository).map_err(failed)? {
            match name {
                Ok(name) if name == *tag => return Ok(true),
                Ok(_) | Err(RegistryError::Reference(_)) => others += 1,
                Err(error) if is_unknown_name(&error) => return Ok(true),
                Err(error) => return Err(failed(error)),
            }
        }
        // A registry may show a repository empty to somebody who has no access to it.
        Ok(others == 0)
    }
}

/// Repositories whose tags are requested at the same time, because a registry is slow to answer.
const AHEAD: usize = 8;

type Repository = (String, Peekable<Names>);

type Found<'c> = Box<dyn Iterator<Item = Result<Repository, Failed>> + Send + 'c>;

/// What cannot be listed: a repository, or what follows in the listing of repositories.
struct Failed(Option<String>, Box<RegistryError>);

struct Tags<'c> {
    catalog: &'c WholeRegistry,
    filter: &'c Filter,
    /// Repositories with their first tags; `None` before the first entry is taken.
    found: Option<Found<'c>>,
    /// The repository whose tags are being taken.
    repository: Option<Repository>,
    /// Whether it has a tag, and whether one of its tags is invalid, so that not all are known.
    has_tags: bool,
    has_invalid_tags: bool,
    /// Repositories whose tags are all known.
    listed: Vec<String>,
    failures: FailureCount,
    is_at_end: bool,
}

/// The result of a step: an entry or an error, or nothing yet.
type Taken = Option<Result<Entry, CatalogError>>;

impl<'c> Tags<'c> {
    fn host(&self) -> &'c Host {
        self.catalog.registry.host()
    }

    /// Begins the listing, once the login is known not to be refused.
    fn begin(&mut self) -> Taken {
        let registry = &self.catalog.registry;
        *self.catalog.noted() = Coverage::default();
        match registry.user().and_then(|user| Ok((user, registry.check_login()?))) {
            Ok((user, login)) => {
                (self.catalog.noted().user, self.catalog.noted().login) = (user, login);
                self.found = Some(found(registry, self.filter));
                None
            }
            Err(error) => self.unlisted(error),
        }
    }

    /// Ends the listing: it only counts if the login is still accepted.
    fn finish(&mut self) -> Taken {
        self.is_at_end = true;
        let before = self.catalog.noted().login;
        if before == LoginState::Accepted
            && let Err(error) = self.catalog.registry.check_login()
        {
            return self.unlisted(error);
        }
        let repositories = ListedRepositories::Only(std::mem::take(&mut self.listed));
        let mut coverage = self.catalog.noted();
        coverage.listed.push(ListedGroup { project: None, repositories });
        coverage.is_checked = true;
        None
    }

    fn take(&mut self, found: Result<Repository, Failed>) -> Taken {
        match found {
            Ok(repository) => {
                self.catalog.noted().repositories += 1;
                (self.repository, self.has_tags, self.has_invalid_tags) = (Some(repository), false, false);
                None
            }
            Err(Failed(Some(repository), error)) => self.failed(repository, *error),
            Err(Failed(None, error)) => match *error {
                RegistryError::Reference(error) => {
                    let host = self.host().clone();
                    Some(Err(CatalogError::Entry { host, place: String::new(), error: error.into() }))
                }
                error => self.unlisted(error),
            },
        }
    }

    fn tag(&mut self, (repository, mut tags): Repository) -> Taken {
        match tags.next() {
            None => {
                self.failures.reset();
                // A registry that does not show a repository to everyone may show it empty.
                match (self.has_invalid_tags, self.has_tags) {
                    (true, _) => {}
                    (false, true) => self.listed.push(repository),
                    (false, false) => self.catalog.noted().note(format!("{repository} is listed, and has no tags")),
                }
                None
            }
            Some(Ok(tag)) => {
                self.has_tags = true;
                let entry = self.entry(&repository, tag);
                self.repository = Some((repository, tags));
                entry.map(Ok)
            }
            Some(Err(RegistryError::Reference(error))) => {
                let (host, place) = (self.host().clone(), format!("/{repository}"));
                self.has_invalid_tags = true;
                self.repository = Some((repository, tags));
                Some(Err(CatalogError::Entry { host, place, error: error.into() }))
            }
            // A registry goes on listing repositories that have lost their last tag. Any other 404 may as well mean
            // that these credentials have no access.
            Some(Err(error)) if is_unknown_name(&error) => {
                self.catalog.noted().note(format!("{repository} is listed, and the registry does not know it"));
                None
            }
            Some(Err(error)) => self.failed(repository, error),
        }
    }

    fn failed(&mut self, repository: String, error: RegistryError) -> Taken {
        let host = self.host();
        // Is it this repository, or the login?
        if error.status() == Some(401)
            && let Err(error) = self.catalog.registry.check_login()
        {
            return self.unlisted(error);
        }
        let part = |error| CatalogError::Repository { host: host.clone(), repository, error };
        let error = self.failures.add(host, error, part);
        if error.is_whole() {
            self.end();
        }
        Some(Err(error))
    }

    /// The failure of the whole listing.
    fn unlisted(&mut self, error: RegistryError) -> Taken {
        self.end();
        Some(Err(CatalogError::of_listing(self.host(), Arc::new(error))))
    }

    fn end(&mut self) {
        (self.found, self.repository, self.is_at_end) = (None, None, true);
    }

    fn entry(&self, repository: &str, tag: String) -> Option<Entry> {
        self.filter.apply(Entry {
            host: self.host().clone(),
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
        while !self.is_at_end {
            let taken = if let Some(repository) = self.repository.take() {
                self.tag(repository)
            } else if let Some(found) = &mut self.found {
                match found.next() {
                    Some(found) => self.take(found),
                    None => self.finish(),
                }
            } else {
                self.begin()
            };
            if taken.is_some() {
                return taken;
            }
        }
        None
    }
}

/// The repositories that the filter admits, of which the first tags are requested ahead.
fn found<'c>(registry: &'c Registry, filter: &'c Filter) -> Found<'c> {
    let is_admitted =
        |name: &Result<String, RegistryError>| name.as_ref().map_or(true, |name| filter.admits_repository(name));
    let jobs = registry.repositories().filter(is_admitted).map(|name| {
        let registry = registry.clone();
        move || {
            let name = name.map_err(|error| Failed(None, Box::new(error)))?;
            let mut tags = match registry.tags(&name) {
                Ok(tags) => tags.peekable(),
                Err(error) => return Err(Failed(Some(name), Box::new(error))),
            };
            tags.peek();
            Ok((name, tags))
        }
    });
    Box::new(Ahead::new(jobs, AHEAD))
}

/// Whether a registry says that it has no repository of that name (distribution-spec v1.1, error codes).
fn is_unknown_name(error: &RegistryError) -> bool {
    error.status() == Some(404) && error.codes().contains(&RegistryErrorCode::NameUnknown)
}
