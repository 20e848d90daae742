//! Images that a Harbor's scanner has no report of: those that were pushed while it was out of reach are never scanned,
//! and a scan that ended in an error is not tried again.

use std::sync::Arc;

use super::pages::Pages;
use super::wire::{Item, Project, Repository};
use super::{API, Harbor, artifacts_of, repositories_of};
use crate::catalog::CatalogError;
use crate::registry::{RegistryError, check_repository};
use layersift_model::{Digest, parse};

/// An image without a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unscanned {
    /// Its project.
    pub project: String,
    /// Its repository, with the project's name in front.
    pub repository: String,
    /// The digest of the manifest or index.
    pub digest: Digest,
}

/// Whether an image was scanned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScanState {
    /// It was never scanned.
    None,
    /// The last scan ended in an error.
    Failed,
    /// There is a report, or a scan goes on, or was stopped; or Harbor scans nothing of its type.
    Other,
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
    /// The images that Harbor's scanner has no report of: whose scan ended in an error, and in projects that are
    /// scanned automatically also those that were never scanned. `found` is given each, and may end the listing by
    /// `false`. What cannot be listed does not keep the rest from being listed.
    ///
    /// # Errors
    /// The first of those of [`super::Catalog::entries`], once the rest is listed.
    pub fn unscanned(&self, mut found: impl FnMut(Unscanned) -> bool) -> Result<(), CatalogError> {
        let host = self.shared.host().clone();
        let whole = |error: RegistryError| CatalogError::Whole { host: host.clone(), error: Arc::new(error) };
        self.shared.check_login().map_err(whole)?;
        let mut first = Ok(());
        for project in self.pages::<Project>(API.into(), vec![("sort", "name".into())]) {
            let project = project.map_err(|error| CatalogError::of_listing(&host, Arc::new(error)))?;
            if check_repository(&project.name).is_err() || project.name.contains('/') {
                continue;
            }
            match self.unscanned_of(&project, &mut found) {
                Ok(true) => {}
                Ok(false) => return first,
                Err(error) => first = first.and(Err(error)),
            }
        }
        first
    }

    /// Whether an image was scanned.
    ///
    /// # Errors
    /// If it cannot be asked about, or is not there.
    pub fn scan_state(&self, project: &str, repository: &str, digest: &Digest) -> Result<ScanState, CatalogError> {
        let path = format!("{}/{digest}", artifacts_of(project, repository));
        let failed = |error| CatalogError::Repository {
            host: self.shared.host().clone(),
            repository: repository.into(),
            error: Arc::new(error),
        };
        let page = self.shared.login.page(&path, &[("with_scan_overview", "true")]).map_err(failed)?;
        let artifact = parse::json::<Artifact>(&page.bytes);
        let artifact = artifact.map_err(|error| failed(self.shared.login.invalid_page(&page, error)))?;
        Ok(artifact.scan_state())
    }

    fn unscanned_of(&self, project: &Project, found: &mut impl FnMut(Unscanned) -> bool) -> Result<bool, CatalogError> {
        let mut first = Ok(true);
        let repositories = self.pages::<Repository>(repositories_of(&project.name), vec![("sort", "name".into())]);
        for repository in repositories {
            let repository = repository.map_err(|error| CatalogError::Project {
                host: self.shared.host().clone(),
                project: project.name.clone(),
                error: Arc::new(error),
            });
            match repository.and_then(|repository| self.unscanned_in(project, &repository.name, found)) {
                Ok(true) => {}
                Ok(false) => return Ok(false),
                Err(error) => first = first.and(Err(error)),
            }
        }
        first
    }

    fn unscanned_in(
        &self,
        project: &Project,
        repository: &str,
        found: &mut impl FnMut(Unscanned) -> bool,
    ) -> Result<bool, CatalogError> {
        if check_repository(repository).is_err() || !repository.starts_with(&format!("{}/", project.name)) {
            return Ok(true);
        }
        let query = vec![("with_scan_overview", "true".into()), ("sort", "-push_time,-id".into())];
        for artifact in self.pages::<Artifact>(artifacts_of(&project.name, repository), query) {
            let artifact = artifact.map_err(|error| CatalogError::Repository {
                host: self.shared.host().clone(),
                repository: repository.into(),
                error: Arc::new(error),
            })?;
            let is_missed = match artifact.scan_state() {
                ScanState::Failed => true,
                ScanState::None => project.is_scanned_automatically(),
                ScanState::Other => false,
            };
            let Some(digest) = is_missed.then(|| artifact.digest.parse().ok()).flatten() else { continue };
            if !found(Unscanned { project: project.name.clone(), repository: repository.to_string(), digest }) {
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
    fn scan_state(&self) -> ScanState {
        // Harbor scans nothing else.
        if !self.kind.is_empty() && self.kind != "IMAGE" {
            return ScanState::Other;
        }
        let mut statuses = self.scan_overview.iter().flatten().map(|(_, overview)| overview.scan_status.as_str());
        match statuses.next() {
            Some("Error") => ScanState::Failed,
            Some(_) => ScanState::Other,
            None => ScanState::None,
        }
    }
}
