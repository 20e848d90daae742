//! Harbor: its projects, their repositories, and the artifacts in those.
//!
//! Source: Harbor's REST interface v2.0 (`api/v2.0/swagger.yaml`), `listProjects`, `listRepositories`,
//! `listArtifacts` and `scanArtifact`. Read in its sources (`src/lib/q/builder.go`, `src/pkg/artifact/dao`,
//! `src/server/v2.0/handler`): artifacts are ordered by `-push_time,-id`; `q=push_time=[2026-01-31T00:00:00~]` includes
//! that second, in UTC; a `Link` has its query unescaped; children of an index are not listed apart, unless they
//! have a tag of their own; strangers get what is public, and not a 401; a robot of some projects gets
//! those, and what is public; requests without a session need no token against forgery.

mod entries;
mod pages;
mod wire;

use std::sync::atomic::{AtomicU64, Ordering};

use super::{Catalog, CatalogError, Entries, Entry, Filter};
use crate::registry::{Host, Registry, RegistryError};

/// Where Harbor's interface begins.
const API: &str = "api/v2.0/projects";

/// What is listed of a Harbor, and how much at most.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HarborOptions {
    /// The projects to list. Where there are none, all that Harbor lists for these credentials: for a robot of some
    /// projects those, and every public one.
    pub projects: Vec<String>,
    /// Whether to list projects that are caches of another registry. What is listed of one is what it has cached.
    /// Projects that are named in `projects` are listed in any case.
    pub proxy_caches: bool,
    /// Items to ask for at a time; Harbor gives 100 at most.
    pub page: usize,
    /// Pages of one listing: of projects, of a project's repositories, of a repository's artifacts.
    pub pages: usize,
    /// Images in all.
    pub images: usize,
}

impl Default for HarborOptions {
    fn default() -> HarborOptions {
        HarborOptions { projects: Vec::new(), proxy_caches: true, page: 100, pages: 2_000, images: 5_000_000 }
    }
}

/// What was listed and is no entry, so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Skipped {
    /// Artifacts that are no images: charts, signatures, lists of components, and whatever Harbor does not know.
    pub other_types: u64,
    /// Images that the filter does not want.
    pub unwanted: u64,
    /// Projects that are caches of another registry.
    pub proxy_caches: u64,
    /// Items that came again, because pages shifted while they were listed.
    pub repeated: u64,
}

#[derive(Debug, Default)]
struct Counts {
    other_types: AtomicU64,
    unwanted: AtomicU64,
    proxy_caches: AtomicU64,
    repeated: AtomicU64,
}

/// Lists the images of a Harbor, newest first in each repository.
///
/// Artifacts that appear while a repository is listed may be missing; the next sweep has them. Artifacts that
/// disappear shift those behind them to earlier pages: that shows by a smaller `X-Total-Count`, and then the pages that
/// may have got some are asked for again. What comes twice is given once.
pub struct Harbor {
    registry: Registry,
    options: HarborOptions,
    counts: Counts,
}

impl Harbor {
    /// The images of the Harbor at `registry`. Nothing is asked for yet. Its user and password, or its access token,
    /// are sent along with every request.
    pub fn new(registry: Registry, options: HarborOptions) -> Harbor {
        Harbor { registry, options, counts: Counts::default() }
    }

    /// What was no entry, in all listings of this one so far.
    pub fn skipped(&self) -> Skipped {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let Counts { other_types, unwanted, proxy_caches, repeated } = &self.counts;
        Skipped {
            other_types: read(other_types),
            unwanted: read(unwanted),
            proxy_caches: read(proxy_caches),
            repeated: read(repeated),
        }
    }

    fn host(&self) -> &Host {
        self.registry.host()
    }
}

impl Catalog for Harbor {
    fn hosts(&self) -> Vec<Host> {
        vec![self.host().clone()]
    }

    fn entries<'c>(&'c self, filter: &'c Filter) -> Entries<'c> {
        Box::new(entries::Artifacts::new(self, filter))
    }

    /// Asks for a scan by the scanner of the project. One that is running already will do.
    fn request_scan(&self, entry: &Entry) -> Result<bool, CatalogError> {
        let Some((project, digest)) = entry.project.as_ref().zip(entry.digest.as_ref()) else { return Ok(false) };
        let is_own = entry.repository.strip_prefix(project).is_some_and(|rest| rest.starts_with('/'));
        if entry.host != *self.host() || !is_own {
            return Ok(false);
        }
        match self.registry.post(&format!("{}/{digest}/scan", artifacts_of(project, &entry.repository))) {
            Ok(_) | Err(RegistryError::Status { status: 409, .. }) => Ok(true),
            Err(error) => {
                let (host, repository) = (entry.host.clone(), entry.repository.clone());
                Err(CatalogError::Scan { host, repository, error: Box::new(error) })
            }
        }
    }
}

/// Where the repositories of a project are listed.
fn repositories_of(project: &str) -> String {
    format!("{API}/{project}/repositories")
}

/// Where the artifacts of a repository are, whose name begins with the project's. Harbor decodes the rest of the name
/// twice, so that a slash must be encoded twice; no other character of a name needs it.
fn artifacts_of(project: &str, repository: &str) -> String {
    let rest = repository.strip_prefix(project).and_then(|rest| rest.strip_prefix('/')).unwrap_or(repository);
    format!("{}/{}/artifacts", repositories_of(project), rest.replace('/', "%252F"))
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
