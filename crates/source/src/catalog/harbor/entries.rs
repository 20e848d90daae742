//! The images of a Harbor, one after another: its projects, their repositories, and the artifacts in those.
//!
//! ```text
//! projects      one page at a time, each confirmed to be what the login may see
//! repositories  the first pages of the next projects are requested ahead
//! artifacts     the first pages of the next repositories are requested ahead
//! ```

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::pages::{Asking, Pages};
use super::wire::{self, Artifact, Project, Repository};
use super::{API, Harbor, Shared, artifacts_of, count, repositories_of, repository_of};
use crate::catalog::ahead::Ahead;
use crate::catalog::error::FailureCount;
use crate::catalog::{CatalogError, Entry, EntryError, Filter, ListedGroup, ListedRepositories};
use crate::registry::{RegistryError, check_repository, check_tag};
use layersift_model::Digest;

/// Projects whose first repositories are requested at the same time.
const PROJECTS: usize = 4;

/// The most tags of one image.
const MOST_TAGS: usize = 10_000;

/// Repositories whose first artifacts are requested at the same time.
const REPOSITORIES: usize = 8;

/// The entries of a Harbor. Only pages are held: one of the projects, and those that were requested ahead.
pub(super) struct Artifacts<'c> {
    harbor: &'c Harbor,
    filter: &'c Filter,
    /// What was listed, in its order; `None` before the first entry is taken.
    found: Option<Found<'c>>,
    artifacts: Option<(Place, Pages<Artifact>)>,
    /// Repositories of the current project whose images are not all known.
    unseen: Vec<String>,
    failures: FailureCount,
    taken: usize,
    is_at_end: bool,
}

type Found<'c> = Box<dyn Iterator<Item = Step> + Send + 'c>;

/// A step through the listings.
enum Step {
    /// A repository, with its first artifacts.
    Repository(Place, Box<Pages<Artifact>>),
    /// The repositories of a project were all listed.
    ProjectEnd(String),
    /// The projects cannot be listed any further.
    ProjectsFailed(Box<RegistryError>),
    /// The repositories of a project cannot be listed any further.
    ProjectFailed(String, Box<RegistryError>),
    /// An item that is invalid.
    Invalid(EntryError),
}

#[derive(Clone)]
struct Place {
    project: String,
    repository: String,
    /// The number of artifacts that it is listed with.
    count: Option<u64>,
}

/// The parameters of a listing.
type Query = Vec<(&'static str, String)>;

/// The result of taking a step: an entry or an error, or nothing yet.
type Taken = Option<Result<Entry, CatalogError>>;

impl<'c> Artifacts<'c> {
    pub(super) fn new(harbor: &'c Harbor, filter: &'c Filter) -> Artifacts<'c> {
        let (unseen, failures) = (Vec::new(), FailureCount::default());
        Artifacts { harbor, filter, found: None, artifacts: None, unseen, failures, taken: 0, is_at_end: false }
    }

    /// Begins the listing, once the login is known to be accepted.
    fn begin(&mut self) -> Taken {
        let shared = &self.harbor.shared;
        if let Err(error) = shared.check_login() {
            return self.failed(error, |error| CatalogError::Whole { host: shared.host().clone(), error });
        }
        self.found = Some(found(shared, self.filter, self.query()));
        None
    }

    /// Ends the listing: it only counts if the login is still accepted.
    fn finish(&mut self) -> Taken {
        self.is_at_end = true;
        let shared = &self.harbor.shared;
        if let Err(error) = shared.login.check() {
            return self.failed(error, |error| CatalogError::Whole { host: shared.host().clone(), error });
        }
        shared.coverage().is_checked = true;
        None
    }

    fn take(&mut self, step: Step) -> Taken {
        let shared = &self.harbor.shared;
        let host = shared.host();
        match step {
            Step::Repository(place, pages) => {
                shared.coverage().repositories += 1;
                self.artifacts = Some((place, *pages));
                None
            }
            Step::ProjectEnd(project) => {
                let repositories = ListedRepositories::AllBut(std::mem::take(&mut self.unseen));
                shared.coverage().listed.push(ListedGroup { project: Some(project), repositories });
                None
            }
            Step::ProjectFailed(project, error) => {
                self.unseen.clear();
                self.failed(*error, |error| CatalogError::Project { host: host.clone(), project, error })
            }
            Step::ProjectsFailed(error) => {
                self.end();
                Some(Err(CatalogError::of_listing(host, Arc::from(error))))
            }
            Step::Invalid(error) => Some(self.invalid("", error)),
        }
    }

    /// The query for artifacts. The order is the same for every page. Labels, accessories and scan overviews are not
    /// requested, and thus not sent.
    fn query(&self) -> Query {
        let mut query = vec![("with_tag", "true".into()), ("sort", "-push_time,-id".into())];
        query.extend(self.filter.since().map(|since| ("q", format!("push_time=[{}~]", wire::written(since)))));
        query
    }

    fn artifact(&mut self, place: Place, mut pages: Pages<Artifact>) -> Taken {
        let found = pages.next();
        let shared = &self.harbor.shared;
        shared.counts.repeated.fetch_add(std::mem::take(&mut pages.repeated), Ordering::Relaxed);
        match found {
            None => {
                self.failures.reset();
                self.repository_end(&place, &pages)
            }
            Some(Err(error)) => {
                self.unseen.push(inside(&place));
                let (host, repository) = (shared.host().clone(), place.repository);
                self.failed(error, |error| CatalogError::Repository { host, repository, error })
            }
            Some(Ok(artifact)) => {
                self.artifacts = Some((place.clone(), pages));
                self.entry(place, artifact)
            }
        }
    }

    /// Notes what changed while a repository was listed. One that was listed with artifacts, and has none, was emptied
    /// meanwhile, or its listing is not to be believed.
    fn repository_end(&mut self, place: &Place, pages: &Pages<Artifact>) -> Taken {
        let shared = &self.harbor.shared;
        let repository = &place.repository;
        for (changed, how) in [(pages.grown, "pushed to"), (pages.shrunk, "deleted from")] {
            if changed > 0 {
                let were = if changed == 1 { "artifact was" } else { "artifacts were" };
                shared.coverage().note(format!("{changed} {were} {how} {repository} while it was listed"));
            }
        }
        let count = place.count.filter(|count| *count > 0 && pages.listed() == 0 && self.filter.since().is_none())?;
        match shared.artifacts_now(&place.project, repository) {
            Ok(0) => {
                shared.coverage().note(format!("{repository} was emptied or deleted while the images were listed"));
                None
            }
            Ok(_) => {
                self.unseen.push(inside(place));
                Some(Err(CatalogError::Emptied { host: shared.host().clone(), repository: repository.clone(), count }))
            }
            Err(error) => {
                self.unseen.push(inside(place));
                let (host, repository) = (shared.host().clone(), repository.clone());
                self.failed(error, |error| CatalogError::Repository { host, repository, error })
            }
        }
    }

    fn entry(&mut self, place: Place, artifact: Artifact) -> Taken {
        let digest: Digest = match artifact.digest.parse() {
            Ok(digest) => digest,
            Err(error) => {
                self.unseen.push(inside(&place));
                return Some(self.invalid(&place.repository, error.into()));
            }
        };
        // An invalid tag is left out: the image is known by its digest.
        let tags = artifact.tags.unwrap_or_default().0;
        if tags.len() > MOST_TAGS {
            // Those that are not seen here must not count as gone.
            self.unseen.push(inside(&place));
            let (count, repository) = (tags.len(), &place.repository);
            let note = format!("{repository}@{digest} has {count} tags, of which {MOST_TAGS} were read");
            self.harbor.shared.coverage().note(note);
        }
        let tags = tags.take(MOST_TAGS).filter(|tag| check_tag(tag).is_ok()).collect();
        let entry = self.filter.apply(Entry {
            host: self.harbor.shared.host().clone(),
            project: Some(place.project),
            repository: place.repository,
            tags,
            digest: Some(digest),
            pushed_at: artifact.push_time.as_deref().and_then(wire::seconds),
        });
        let Some(entry) = entry else {
            count(&self.harbor.shared.counts.unwanted);
            return None;
        };
        self.taken += 1;
        let most = self.harbor.shared.options.images;
        if self.taken > most {
            self.end();
            return Some(Err(CatalogError::TooMany { host: self.harbor.shared.host().clone(), most }));
        }
        Some(Ok(entry))
    }

    fn failed(&mut self, error: RegistryError, part: impl FnOnce(Arc<RegistryError>) -> CatalogError) -> Taken {
        let error = self.failures.add(self.harbor.shared.host(), error, part);
        if error.is_whole() {
            self.end();
        }
        Some(Err(error))
    }

    fn invalid(&self, repository: &str, error: EntryError) -> Result<Entry, CatalogError> {
        let place = if repository.is_empty() { String::new() } else { format!("/{repository}") };
        Err(CatalogError::Entry { host: self.harbor.shared.host().clone(), place, error })
    }

    fn end(&mut self) {
        (self.found, self.artifacts, self.is_at_end) = (None, None, true);
    }
}

impl Iterator for Artifacts<'_> {
    type Item = Result<Entry, CatalogError>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.is_at_end {
            let taken = if let Some((place, pages)) = self.artifacts.take() {
                self.artifact(place, pages)
            } else if let Some(found) = &mut self.found {
                match found.next() {
                    Some(step) => self.take(step),
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

/// What is listed, in its order, of which the first pages are requested ahead.
fn found<'c>(shared: &Arc<Shared>, filter: &'c Filter, query: Query) -> Found<'c> {
    let (of_projects, of_repositories) = (Arc::clone(shared), Arc::clone(shared));
    let repositories = projects(shared).map(move |project| {
        let shared = Arc::clone(&of_projects);
        move || {
            let (project, count) = project?;
            let query = vec![("sort", "name".into())];
            let mut pages = Pages::new(&shared.login, repositories_of(&project), query, shared.bounds());
            pages.read_ahead();
            Ok((project, count, pages))
        }
    });
    let steps = Ahead::new(repositories, PROJECTS).flat_map(move |project| repositories_in(project, filter));
    let artifacts = steps.map(move |step| {
        let (shared, query) = (Arc::clone(&of_repositories), query.clone());
        move || match step {
            Ok(place) => {
                let path = artifacts_of(&place.project, &place.repository);
                let mut pages = Pages::new(&shared.login, path, query, shared.bounds());
                pages.read_ahead();
                Step::Repository(place, Box::new(pages))
            }
            Err(step) => step,
        }
    });
    Box::new(Ahead::new(artifacts, REPOSITORIES))
}

/// A project's name, and the number of repositories that it is listed with.
type CountedProject = (String, Option<u64>);

/// The projects to list.
fn projects(shared: &Arc<Shared>) -> Box<dyn Iterator<Item = Result<CountedProject, Step>> + Send> {
    let shared = Arc::clone(shared);
    let valid = |name: String, count| match check_repository(&name) {
        Ok(()) if !name.contains('/') => Ok((name, count)),
        _ => Err(Step::Invalid(EntryError::Project(short(&name)))),
    };
    let named = shared.options.projects.clone();
    if !named.is_empty() {
        let counted = move |_: &String| shared.coverage().add_project();
        return Box::new(named.into_iter().inspect(counted).map(move |name| valid(name, None)));
    }
    let query = vec![("sort", "name".into()), ("with_detail", "false".into())];
    let pages = Pages::<Project>::new(&shared.login, API.into(), query, shared.bounds()).asking(Asking::Confirmed);
    Box::new(pages.filter_map(move |project| match project {
        Ok(project) if project.registry_id.is_some_and(|id| id != 0) && !shared.options.proxy_caches => {
            count(&shared.counts.proxy_caches);
            None
        }
        Ok(project) => {
            shared.coverage().add_project();
            Some(valid(project.name, project.repo_count))
        }
        Err(error) => Some(Err(Step::ProjectsFailed(Box::new(error)))),
    }))
}

/// The repositories of a project that the filter admits, and its end.
fn repositories_in(
    project: Result<(String, Option<u64>, Pages<Repository>), Step>,
    filter: &Filter,
) -> Box<dyn Iterator<Item = Result<Place, Step>> + Send + '_> {
    let (project, count, mut pages) = match project {
        Ok(listed) => listed,
        Err(step) => return Box::new(std::iter::once(Err(step))),
    };
    let mut is_at_end = false;
    Box::new(std::iter::from_fn(move || {
        while !is_at_end {
            let step = match pages.next() {
                None => {
                    is_at_end = true;
                    // A project that is listed with repositories, and has none, is not believed to be empty.
                    match count.filter(|count| *count > 0 && pages.listed() == 0) {
                        Some(total) => Err(Step::ProjectFailed(project.clone(), Box::new(pages.short_of(total)))),
                        None => Err(Step::ProjectEnd(project.clone())),
                    }
                }
                Some(Err(error)) => {
                    is_at_end = true;
                    Err(Step::ProjectFailed(project.clone(), Box::new(error)))
                }
                Some(Ok(repository)) => match place(&project, repository) {
                    Ok(place) if !filter.admits_repository(&place.repository) => continue,
                    place => place,
                },
            };
            return Some(step);
        }
        None
    }))
}

fn place(project: &str, Repository { name, artifact_count }: Repository) -> Result<Place, Step> {
    let project = project.to_string();
    if !name.strip_prefix(&project).is_some_and(|rest| rest.starts_with('/')) {
        return Err(Step::Invalid(EntryError::OtherProject { repository: short(&name), project }));
    }
    match check_repository(&name) {
        Ok(()) => Ok(Place { project, repository: name, count: artifact_count }),
        Err(error) => Err(Step::Invalid(error.into())),
    }
}

/// The name of a repository without its project.
fn inside(place: &Place) -> String {
    repository_of(&place.project, &place.repository).to_string()
}

/// An invalid name as it is shown in a message.
fn short(name: &str) -> String {
    name.chars().take(160).map(|c| if c.is_control() { '.' } else { c }).collect()
}
