//! Harbor: its projects, their repositories, and the artifacts in those.
//!
//! Source: Harbor's REST interface v2.0 (`api/v2.0/swagger.yaml`), `listProjects`, `listRepositories`,
//! `listArtifacts` and `scanArtifact`. Read in its sources (`src/lib/q/builder.go`, `src/pkg/artifact/dao`,
//! `src/server/v2.0/handler`): artifacts are ordered by `-push_time,-id`; `q=push_time=[2026-01-31T00:00:00~]` includes
//! that second, in UTC; a `Link` has its query unescaped; children of an index are not listed apart, unless they
//! have a tag of their own, and accessories, such as signatures, never are; anonymous requests get what is public, and
//! not a 401; a robot of some projects gets those, and what is public; requests without a session need no CSRF token.

mod entries;
mod login;
mod pages;
mod unscanned;
mod wire;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use self::login::Login;
use self::pages::Bounds;
pub use self::unscanned::{ScanState, Unscanned};
use super::{Catalog, CatalogError, Coverage, Entries, Entry, Filter};
use crate::registry::{Host, LoginState, Registry, RegistryError};
use layersift_model::{Digest, parse};

/// The path of Harbor's interface.
const API: &str = "api/v2.0/projects";

/// Which projects of a Harbor are listed, and limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HarborOptions {
    /// The projects to list. If empty, all that Harbor lists for the credentials: for a robot of some projects those,
    /// and every public one.
    pub projects: Vec<String>,
    /// Whether to list projects that are proxy caches of another registry, with the images that they have cached.
    /// Projects that are named in `projects` are listed in any case.
    pub proxy_caches: bool,
    /// Items to request per page; Harbor sends at most 100.
    pub page: usize,
    /// The most pages of one listing: of projects, of a project's repositories, of a repository's artifacts.
    pub pages: usize,
    /// The most images in total.
    pub images: usize,
}

impl Default for HarborOptions {
    fn default() -> HarborOptions {
        HarborOptions { projects: Vec::new(), proxy_caches: true, page: 100, pages: 2_000, images: 5_000_000 }
    }
}

/// Counts of items that were listed and gave no entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Skipped {
    /// Images that the filter does not admit.
    pub unwanted: u64,
    /// Projects that are proxy caches of another registry.
    pub proxy_caches: u64,
    /// Items that were listed again, because pages shifted while they were read.
    pub repeated: u64,
}

#[derive(Debug, Default)]
struct Counts {
    unwanted: AtomicU64,
    proxy_caches: AtomicU64,
    repeated: AtomicU64,
}

/// Lists the images of a Harbor, newest first in each repository, and artifacts of every other type: anyone who may
/// pull a chart gets the secret in it.
///
/// Artifacts that are pushed while a repository is listed may be missing; the next sweep has them. Artifacts that are
/// deleted shift those after them to earlier pages: that shows by a smaller `X-Total-Count`, and then the pages to
/// which artifacts may have shifted are requested again. An artifact that is listed twice gives one entry.
///
/// The login is checked before the listing and after it, at a 401, and when a listing shrinks: Harbor answers a login
/// that it does not accept as it answers a stranger.
pub struct Harbor {
    shared: Arc<Shared>,
}

/// What the threads of a listing share.
struct Shared {
    registry: Registry,
    login: Login,
    options: HarborOptions,
    counts: Counts,
    coverage: Mutex<Coverage>,
}

impl Harbor {
    /// The images of the Harbor at `registry`. Nothing is requested yet. The user and password, or the access token,
    /// are sent with every request.
    pub fn new(registry: Registry, options: HarborOptions) -> Harbor {
        let login = Login::new(&registry);
        let (counts, coverage) = (Counts::default(), Mutex::default());
        Harbor { shared: Arc::new(Shared { registry, login, options, counts, coverage }) }
    }

    /// Counts of items that gave no entry, in all listings of this catalog so far.
    pub fn skipped(&self) -> Skipped {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let Counts { unwanted, proxy_caches, repeated } = &self.shared.counts;
        Skipped { unwanted: read(unwanted), proxy_caches: read(proxy_caches), repeated: read(repeated) }
    }
}

impl Shared {
    fn host(&self) -> &Host {
        self.registry.host()
    }

    fn bounds(&self) -> Bounds {
        Bounds { page: self.options.page.clamp(1, 100), pages: self.options.pages }
    }

    fn coverage(&self) -> MutexGuard<'_, Coverage> {
        self.coverage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins what the listing rests on: who asks, if Harbor accepts the login.
    fn check_login(&self) -> Result<(), RegistryError> {
        let user = self.registry.user()?;
        let login = if user.is_some() { LoginState::Accepted } else { LoginState::Anonymous };
        self.login.check()?;
        *self.coverage() = Coverage { user, login, projects: Some(0), ..Coverage::default() };
        Ok(())
    }

    /// The number of artifacts that a repository has now; 0 if there is none.
    fn artifacts_now(&self, project: &str, repository: &str) -> Result<u64, RegistryError> {
        let path = format!("{}/{}", repositories_of(project), encoded(repository_of(project, repository)));
        match self.login.page(&path, &[]) {
            Ok(page) => match parse::json::<wire::Repository>(&page.bytes) {
                Ok(repository) => Ok(repository.artifact_count.unwrap_or_default()),
                Err(error) => Err(self.login.invalid_page(&page, error)),
            },
            Err(error) if error.status() == Some(404) => Ok(0),
            Err(error) => Err(error),
        }
    }
}

impl Catalog for Harbor {
    fn hosts(&self) -> Vec<Host> {
        vec![self.shared.host().clone()]
    }

    fn entries<'c>(&'c self, filter: &'c Filter) -> Entries<'c> {
        Box::new(entries::Artifacts::new(self, filter))
    }

    fn coverage(&self) -> Option<Coverage> {
        Some(self.shared.coverage().clone())
    }

    fn still_lists(&self, entry: &Entry) -> Result<bool, CatalogError> {
        let Some((project, digest)) = entry.project.as_ref().zip(entry.digest.as_ref()) else { return Ok(true) };
        let path = format!("{}/{digest}", artifacts_of(project, &entry.repository));
        match self.shared.login.page(&path, &[]) {
            Ok(_) => Ok(true),
            Err(error) if error.status() == Some(404) => Ok(false),
            Err(error) => {
                let (host, repository) = (entry.host.clone(), entry.repository.clone());
                Err(CatalogError::Repository { host, repository, error: Arc::new(error) })
            }
        }
    }

    /// Requests a scan by the scanner of the project. A scan that is running already counts as well.
    fn request_scan(&self, entry: &Entry) -> Result<bool, CatalogError> {
        let Some((project, digest)) = entry.project.as_ref().zip(entry.digest.as_ref()) else { return Ok(false) };
        let is_own = entry.repository.strip_prefix(project).is_some_and(|rest| rest.starts_with('/'));
        if entry.host != *self.shared.host() || !is_own {
            return Ok(false);
        }
        self.scan(project, &entry.repository, digest).map(|()| true)
    }
}

impl Harbor {
    /// Requests a scan of an image by the scanner of its project. A scan that is running already counts as well.
    ///
    /// # Errors
    /// If Harbor does not take the request: the login needs the right to create scans.
    pub fn scan(&self, project: &str, repository: &str, digest: &Digest) -> Result<(), CatalogError> {
        match self.shared.registry.post(&format!("{}/{digest}/scan", artifacts_of(project, repository))) {
            Ok(_) => Ok(()),
            Err(error) if error.status() == Some(409) => Ok(()),
            Err(error) => {
                let (host, repository) = (self.shared.host().clone(), repository.to_string());
                Err(CatalogError::Scan { host, repository, error: Arc::new(error) })
            }
        }
    }
}

/// The path of a project's repositories.
fn repositories_of(project: &str) -> String {
    format!("{API}/{project}/repositories")
}

/// The path of the artifacts of a repository, whose name begins with the project's. Harbor decodes the rest of the name
/// twice, so that a slash must be encoded twice; no other character of a name has to be encoded.
fn artifacts_of(project: &str, repository: &str) -> String {
    format!("{}/{}/artifacts", repositories_of(project), encoded(repository_of(project, repository)))
}

/// The name of a repository without its project's.
fn repository_of<'n>(project: &str, repository: &'n str) -> &'n str {
    repository.strip_prefix(project).and_then(|rest| rest.strip_prefix('/')).unwrap_or(repository)
}

fn encoded(name: &str) -> String {
    name.replace('/', "%252F")
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
