//! The images of a Harbor, one after another: its projects, their repositories, and the artifacts in those.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::pages::{Bounds, Pages};
use super::wire::{self, Artifact, Project, Repository};
use super::{API, Harbor, artifacts_of, count, repositories_of};
use crate::catalog::error::FailureCount;
use crate::catalog::{CatalogError, Entry, EntryError, Filter};
use crate::registry::{RegistryError, check_repository, check_tag};
use layersift_model::Digest;

/// The entries of a Harbor. At most one page of each of three listings is held.
pub(super) struct Artifacts<'c> {
    harbor: &'c Harbor,
    filter: &'c Filter,
    /// `None` at the end.
    projects: Option<Projects>,
    repositories: Option<(String, Pages<Repository>)>,
    artifacts: Option<(Place, Pages<Artifact>)>,
    failures: FailureCount,
    taken: usize,
}

/// Projects as they were named, or as Harbor lists them.
enum Projects {
    Named(std::vec::IntoIter<String>),
    Listed(Box<Pages<Project>>),
}

#[derive(Clone)]
struct Place {
    project: String,
    repository: String,
}

/// The result of a step: an item, or nothing yet.
type Step = Option<Result<Entry, CatalogError>>;

impl<'c> Artifacts<'c> {
    pub(super) fn new(harbor: &'c Harbor, filter: &'c Filter) -> Artifacts<'c> {
        let options = &harbor.options;
        let projects = if options.projects.is_empty() {
            let query = vec![("sort", "name".into()), ("with_detail", "false".into())];
            Projects::Listed(Box::new(Pages::new(&harbor.registry, API.into(), query, bounds(harbor))))
        } else {
            Projects::Named(options.projects.clone().into_iter())
        };
        let (projects, failures) = (Some(projects), FailureCount::default());
        Artifacts { harbor, filter, projects, repositories: None, artifacts: None, failures, taken: 0 }
    }

    fn project(&mut self) -> Step {
        let found = match self.projects.as_mut()? {
            Projects::Named(names) => names.next().map(Ok),
            Projects::Listed(pages) => match pages.next() {
                Some(Ok(project))
                    if project.registry_id.is_some_and(|id| id != 0) && !self.harbor.options.proxy_caches =>
                {
                    count(&self.harbor.counts.proxy_caches);
                    return None;
                }
                found => found.map(|found| found.map(|project| project.name)),
            },
        };
        match found {
            None => {
                self.projects = None;
                None
            }
            Some(Err(error)) => {
                self.projects = None;
                Some(Err(CatalogError::Whole { host: self.harbor.host().clone(), error: Arc::new(error) }))
            }
            Some(Ok(name)) if name.contains('/') => Some(self.invalid("", EntryError::Project(short(&name)))),
            Some(Ok(name)) => match check_repository(&name) {
                Err(_) => Some(self.invalid("", EntryError::Project(short(&name)))),
                Ok(()) => {
                    let query = vec![("sort", "name".into())];
                    let path = repositories_of(&name);
                    let pages = Pages::new(&self.harbor.registry, path, query, bounds(self.harbor));
                    self.repositories = Some((name, pages));
                    None
                }
            },
        }
    }

    fn repository(&mut self, project: String, mut pages: Pages<Repository>) -> Step {
        let name = match pages.next() {
            None => return None,
            Some(Err(error)) => {
                let host = self.harbor.host().clone();
                return self.failed(error, |error| CatalogError::Project { host, project, error });
            }
            Some(Ok(repository)) => repository.name,
        };
        let is_own = name.strip_prefix(&project).is_some_and(|rest| rest.starts_with('/'));
        self.repositories = Some((project.clone(), pages));
        if !is_own {
            let repository = short(&name);
            return Some(self.invalid("", EntryError::OtherProject { repository, project }));
        }
        if let Err(error) = check_repository(&name) {
            return Some(self.invalid("", error.into()));
        }
        if self.filter.admits_repository(&name) {
            let path = artifacts_of(&project, &name);
            let pages = Pages::new(&self.harbor.registry, path, self.query(), bounds(self.harbor));
            self.artifacts = Some((Place { project, repository: name }, pages));
        }
        None
    }

    /// The query for artifacts. The order is the same for every page. Labels, accessories and scan overviews are not
    /// requested, and thus not sent.
    fn query(&self) -> Vec<(&'static str, String)> {
        let mut query = vec![("with_tag", "true".into()), ("sort", "-push_time,-id".into())];
        query.extend(self.filter.since().map(|since| ("q", format!("push_time=[{}~]", wire::written(since)))));
        query
    }

    fn artifact(&mut self, place: Place, mut pages: Pages<Artifact>) -> Step {
        let found = pages.next();
        let repeated = std::mem::take(&mut pages.repeated);
        self.harbor.counts.repeated.fetch_add(repeated, Ordering::Relaxed);
        match found {
            None => {
                self.failures.reset();
                None
            }
            Some(Err(error)) => {
                let (host, repository) = (self.harbor.host().clone(), place.repository);
                self.failed(error, |error| CatalogError::Repository { host, repository, error })
            }
            Some(Ok(artifact)) => {
                self.artifacts = Some((place.clone(), pages));
                self.entry(place, artifact)
            }
        }
    }

    fn entry(&mut self, place: Place, artifact: Artifact) -> Step {
        let digest: Digest = match artifact.digest.parse() {
            Ok(digest) => digest,
            Err(error) => return Some(self.invalid(&place.repository, error.into())),
        };
        // An invalid tag is left out: the image is known by its digest.
        let tags = artifact.tags.unwrap_or_default().into_iter().map(|tag| tag.name);
        let tags = tags.filter(|tag| check_tag(tag).is_ok()).collect();
        let entry = self.filter.apply(Entry {
            host: self.harbor.host().clone(),
            project: Some(place.project),
            repository: place.repository,
            tags,
            digest: Some(digest),
            pushed_at: artifact.push_time.as_deref().and_then(wire::seconds),
        });
        let Some(entry) = entry else {
            count(&self.harbor.counts.unwanted);
            return None;
        };
        self.taken += 1;
        let most = self.harbor.options.images;
        if self.taken > most {
            self.end();
            return Some(Err(CatalogError::TooMany { host: self.harbor.host().clone(), most }));
        }
        Some(Ok(entry))
    }

    fn failed(&mut self, error: RegistryError, part: impl FnOnce(Arc<RegistryError>) -> CatalogError) -> Step {
        let error = self.failures.add(self.harbor.host(), error, part);
        if error.is_whole() {
            self.end();
        }
        Some(Err(error))
    }

    fn invalid(&self, repository: &str, error: EntryError) -> Result<Entry, CatalogError> {
        let place = if repository.is_empty() { String::new() } else { format!("/{repository}") };
        Err(CatalogError::Entry { host: self.harbor.host().clone(), place, error })
    }

    fn end(&mut self) {
        (self.projects, self.repositories, self.artifacts) = (None, None, None);
    }
}

impl Iterator for Artifacts<'_> {
    type Item = Result<Entry, CatalogError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let step = if let Some((place, pages)) = self.artifacts.take() {
                self.artifact(place, pages)
            } else if let Some((project, pages)) = self.repositories.take() {
                self.repository(project, pages)
            } else {
                self.projects.as_ref()?;
                self.project()
            };
            if step.is_some() {
                return step;
            }
        }
    }
}

fn bounds(harbor: &Harbor) -> Bounds {
    Bounds { page: harbor.options.page.clamp(1, 100), pages: harbor.options.pages }
}

/// An invalid name as it is shown in a message.
fn short(name: &str) -> String {
    name.chars().take(160).map(|c| if c.is_control() { '.' } else { c }).collect()
}
