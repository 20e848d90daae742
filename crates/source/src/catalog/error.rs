//! What goes wrong while images are listed, and what of the catalog it costs.

use std::path::PathBuf;

use crate::registry::{Host, RegistryError};

/// Why a catalog does not list something.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum CatalogError {
    /// The listing of a registry; what would have followed is not known.
    #[error("{host}: its images cannot be listed any further: {error}")]
    Whole {
        /// The registry.
        host: Host,
        /// Why not.
        error: Box<RegistryError>,
    },
    /// More images than one listing may have.
    #[error("{host}: its listing has more than {most} images; list fewer projects at a time, or raise the bound")]
    TooMany {
        /// The registry.
        host: Host,
        /// The bound.
        most: usize,
    },
    /// Nothing but failures.
    #[error("{host}: {times} failures and nothing else, so the rest of its images is left out; the last one: {error}")]
    Failing {
        /// The registry.
        host: Host,
        /// How many.
        times: usize,
        /// The last one.
        error: Box<RegistryError>,
    },
    /// A project whose repositories cannot be listed.
    #[error("{host}: project `{project}`: its repositories cannot be listed: {error}")]
    Project {
        /// The registry.
        host: Host,
        /// The project.
        project: String,
        /// Why not.
        error: Box<RegistryError>,
    },
    /// A repository whose images cannot be listed, or not to their end.
    #[error("{host}/{repository}: its images cannot be listed: {error}")]
    Repository {
        /// The registry.
        host: Host,
        /// The repository.
        repository: String,
        /// Why not.
        error: Box<RegistryError>,
    },
    /// Something in a listing that cannot be what it says.
    #[error("{host}{place}: left out of the listing: {reason}")]
    Entry {
        /// The registry.
        host: Host,
        /// The repository with a `/` in front, where it is one's; else empty.
        place: String,
        /// Why.
        reason: String,
    },
    /// A scan that the registry does not do.
    #[error("{host}/{repository}: the registry was asked to scan an image, and does not: {error}")]
    Scan {
        /// The registry.
        host: Host,
        /// The repository.
        repository: String,
        /// Why not.
        error: Box<RegistryError>,
    },
    /// A list of images that cannot be read.
    #[error("{path}: {reason}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// A line of a list that names no image.
    #[error("{path}: line {line}: {reason}")]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// Why not.
        reason: String,
    },
    /// A pattern that is none.
    #[error("`{glob}` is no pattern for repositories and tags: {reason}")]
    Glob {
        /// The pattern.
        glob: String,
        /// Why not.
        reason: String,
    },
}

impl CatalogError {
    /// What the registry did, where it is about one.
    pub fn of_registry(&self) -> Option<&RegistryError> {
        use CatalogError::{Failing, Project, Repository, Scan, Whole};
        match self {
            Whole { error, .. }
            | Failing { error, .. }
            | Project { error, .. }
            | Repository { error, .. }
            | Scan { error, .. } => Some(error),
            _ => None,
        }
    }

    /// Whether nothing follows it, so that how much is missing is not known.
    pub fn is_whole(&self) -> bool {
        matches!(self, CatalogError::Whole { .. } | CatalogError::TooMany { .. } | CatalogError::Failing { .. })
    }
}

/// Whether what failed would fail for everything else of the registry as well.
fn concerns_all(error: &RegistryError) -> bool {
    use RegistryError::{Configuration, Credentials, Tls, Token, TooManyRequests, Unauthorized, Unreachable};
    matches!(
        error,
        Configuration { .. }
            | Credentials { .. }
            | TooManyRequests { .. }
            | Tls { .. }
            | Token { .. }
            | Unauthorized { .. }
            | Unreachable { .. }
    )
}

/// Failures without a success between them at which the rest is given up: then it is not the repositories that fail.
const MOST_FAILURES: usize = 50;

/// Decides when a failure of a part is one of the whole.
#[derive(Debug, Default)]
pub(super) struct Failures(usize);

impl Failures {
    /// Something worked.
    pub(super) fn none(&mut self) {
        self.0 = 0;
    }

    /// What `error` means, which `part` names where it is only that part's.
    pub(super) fn one(
        &mut self,
        host: &Host,
        error: RegistryError,
        part: impl FnOnce(Box<RegistryError>) -> CatalogError,
    ) -> CatalogError {
        // What is closed or gone says so at once, and may be many; what fails otherwise takes all its attempts.
        let is_answer = matches!(error, RegistryError::Forbidden { .. } | RegistryError::NotFound { .. });
        self.0 += usize::from(!is_answer);
        let (host, error) = (host.clone(), Box::new(error));
        if concerns_all(&error) {
            CatalogError::Whole { host, error }
        } else if self.0 >= MOST_FAILURES && !is_answer {
            CatalogError::Failing { host, times: self.0, error }
        } else {
            part(error)
        }
    }
}
