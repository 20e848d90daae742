//! Images that a Harbor's scanner has no report of: those that were pushed while it was out of reach are never scanned,
//! and a scan that ended in an error is not tried again.

use std::sync::Arc;

use super::pages::Pages;
use super::wire::{Item, Project, Repository};
use super::{API, Harbor, artifacts_of, repositories_of};
use crate::catalog::CatalogError;
use crate::registry::{Host, RegistryError, check_repository};
use layersift_model::Digest;

/// An image without a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unscanned {
    /// Its project.
    pub project: String,
    /// Its repository, with the project's name in front.
    pub repository: String,
    /// The digest of the manifest or index.
    pub digest: Digest,
    /// Whether a scan ended in an error; otherwise there was none.
    pub has_failed: bool,
}

/// An artifact, as far as it says whether it was scanned.
#[derive(serde::Deserialize)]
struct Artifact {
    digest: String,
    #[serde(rename = "type", default)]
    kind: String,
    /// By media type of the report.
    #[serde(default)]
    scan_overview: Option<std::collections::BTreeMap<String, Overview>>,
}

#[derive(serde::Deserialize)]
struct Overview {
    #[serde(default)]
    scan_status: String,
}

impl Item for Artifact {
    fn key(&self) -> &str {
        &self.digest
    }
}

impl Harbor {
    /// The images that Harbor's scanner has no report of: whose scan ended in an error, and in projects that are scanned
    /// automatically also those that were never scanned. `found` is given each, and may end the listing by `false`.
    ///
    /// # Errors
    /// As [`super::Catalog::entries`].
    pub fn unscanned(&self, mut found: impl FnMut(Unscanned) -> bool) -> Result<(), CatalogError> {
        let host = self.shared.host().clone();
        let whole = |error: RegistryError| CatalogError::Whole { host: host.clone(), error: Arc::new(error) };
        self.shared.check_login().map_err(whole)?;
        for project in self.pages::<Project>(API.into(), vec![("sort", "name".into())]) {
            let project = project.map_err(|error| CatalogError::of_listing(&host, Arc::new(error)))?;
            if check_repository(&project.name).is_err() || project.name.contains('/') {
                continue;
            }
            let of_project = |error: RegistryError| CatalogError::Project {
                host: host.clone(),
                project: project.name.clone(),
                error: Arc::new(error),
            };
            let repositories = self.pages::<Repository>(repositories_of(&project.name), vec![("sort", "name".into())]);
            for repository in repositories {
                let repository = repository.map_err(of_project)?.name;
                if !self.unscanned_in(&project, &repository, &mut found, &host)? {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn unscanned_in(
        &self,
        project: &Project,
        repository: &str,
        found: &mut impl FnMut(Unscanned) -> bool,
        host: &Host,
    ) -> Result<bool, CatalogError> {
        if check_repository(repository).is_err() || !repository.starts_with(&format!("{}/", project.name)) {
            return Ok(true);
        }
        let query = vec![("with_scan_overview", "true".into()), ("sort", "-push_time,-id".into())];
        for artifact in self.pages::<Artifact>(artifacts_of(&project.name, repository), query) {
            let artifact = artifact.map_err(|error| CatalogError::Repository {
                host: host.clone(),
                repository: repository.into(),
                error: Arc::new(error),
            })?;
            let Some(has_failed) = artifact.is_unscanned(project.is_scanned_automatically()) else { continue };
            let Ok(digest) = artifact.digest.parse() else { continue };
            let (project, repository) = (project.name.clone(), repository.to_string());
            if !found(Unscanned { project, repository, digest, has_failed }) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn pages<T: Item + for<'d> serde::Deserialize<'d>>(
        &self,
        path: String,
        query: Vec<(&'static str, String)>,
    ) -> Pages<T> {
        Pages::new(&self.shared.login, path, query, self.shared.bounds())
    }
}

impl Artifact {
    /// `None` where there is a report, or will be one; otherwise whether a scan ended in an error.
    fn is_unscanned(&self, is_scanned_automatically: bool) -> Option<bool> {
        // Harbor scans nothing else.
        if !self.kind.is_empty() && self.kind != "IMAGE" {
            return None;
        }
        let mut statuses = self.scan_overview.iter().flatten().map(|(_, overview)| overview.scan_status.as_str());
        match statuses.next() {
            Some("Error") => Some(true),
            Some(_) => None,
            None => is_scanned_automatically.then_some(false),
        }
    }
}
