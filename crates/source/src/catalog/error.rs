//! What goes wrong while images are listed, and how much of the catalog is missing then.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::registry::{Host, ReferenceError, RegistryError};
use layersift_model::InvalidDigest;

/// Why a catalog does not list something. A message has its reasons in it, so that it can be shown alone.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CatalogError {
    /// The listing of a registry failed; how much is missing is not known.
    #[error("{host}: its images cannot be listed any further: {error}")]
    Whole {
        /// The registry.
        host: Host,
        /// The failure.
        #[source]
        error: Arc<RegistryError>,
    },
    /// The registry does not accept the login, or did not while it was asked for its images.
    #[error("{host}: what it has is not known: {error}")]
    Login {
        /// The registry.
        host: Host,
        /// What it answered.
        #[source]
        error: Arc<RegistryError>,
    },
    /// A repository that is listed with artifacts, and whose own listing has none.
    #[error("{host}/{repository}: it is listed with {count} artifacts, and its listing has none")]
    Emptied {
        /// The registry.
        host: Host,
        /// The repository.
        repository: String,
        /// The number of artifacts that it is listed with.
        count: u64,
    },
    /// More images than one listing may have.
    #[error("{host}: the listing has more than {most} images; list fewer projects at a time, or raise the limit")]
    TooMany {
        /// The registry.
        host: Host,
        /// The limit.
        most: usize,
    },
    /// Failures without a success in between.
    #[error("{host}: gave up after {times} failures in a row; the other images are not listed; the last: {error}")]
    Failing {
        /// The registry.
        host: Host,
        /// How many failures.
        times: usize,
        /// The last one.
        #[source]
        error: Arc<RegistryError>,
    },
    /// A project whose repositories cannot be listed.
    #[error("{host}: project `{project}`: its repositories cannot be listed: {error}")]
    Project {
        /// The registry.
        host: Host,
        /// The project.
        project: String,
        /// The failure.
        #[source]
        error: Arc<RegistryError>,
    },
    /// A repository whose images cannot be listed, or not to the end.
    #[error("{host}/{repository}: its images cannot be listed: {error}")]
    Repository {
        /// The registry.
        host: Host,
        /// The repository.
        repository: String,
        /// The failure.
        #[source]
        error: Arc<RegistryError>,
    },
    /// An item of a listing that is invalid, and is left out.
    #[error("{host}{place}: left out of the listing: {error}")]
    Entry {
        /// The registry.
        host: Host,
        /// The repository with a `/` in front, if the item is in one; else empty.
        place: String,
        /// What is wrong with the item.
        #[source]
        error: EntryError,
    },
    /// A scan that the registry refuses to run.
    #[error("{host}/{repository}: the registry refused to scan an image: {error}")]
    Scan {
        /// The registry.
        host: Host,
        /// The repository.
        repository: String,
        /// The failure.
        #[source]
        error: Arc<RegistryError>,
    },
    /// A list of images that cannot be read.
    #[error("{path}: {error}")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        error: ListError,
    },
    /// A line of a list that is not a reference.
    #[error("{path}: line {line}: {error}")]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        #[source]
        error: ReferenceError,
    },
    /// An invalid pattern.
    #[error("invalid pattern `{glob}`: {error}")]
    Glob {
        /// The pattern.
        glob: String,
        /// What is wrong with it.
        #[source]
        error: GlobError,
    },
}

/// What is wrong with an item of a listing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// The name of a repository or a tag.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// The digest of an artifact.
    #[error(transparent)]
    Digest(#[from] InvalidDigest),
    /// The name of a project.
    #[error("invalid project `{0}`")]
    Project(String),
    /// A repository of another project.
    #[error("`{repository}` is not in project `{project}`")]
    OtherProject {
        /// The repository.
        repository: String,
        /// The project whose repositories were listed.
        project: String,
    },
}

/// What is wrong with a list of images.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ListError {
    /// It cannot be read.
    #[error("{0}")]
    Read(#[source] Arc<io::Error>),
    /// It is not text.
    #[error("invalid UTF-8")]
    NotUtf8,
    /// It is too large; the limit in bytes.
    #[error("a list of images has at most {0} bytes; divide it")]
    TooLarge(u64),
    /// It has too many lines; the limit.
    #[error("a list of images has at most {0} of them; divide it")]
    TooMany(usize),
}

/// What is wrong with a pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GlobError {
    /// It is empty.
    #[error("it is empty; write `*` for everything")]
    Empty,
    /// Its syntax is wrong.
    #[error("{}", _0.kind())]
    Syntax(#[source] globset::Error),
}

impl CatalogError {
    /// The error of a listing that cannot go on.
    pub(super) fn of_listing(host: &Host, error: Arc<RegistryError>) -> CatalogError {
        let host = host.clone();
        if error.is_of_login() { CatalogError::Login { host, error } } else { CatalogError::Whole { host, error } }
    }

    /// The failure of the registry, if there was one.
    pub fn of_registry(&self) -> Option<&RegistryError> {
        use CatalogError::{Failing, Login, Project, Repository, Scan, Whole};
        match self {
            Whole { error, .. }
            | Login { error, .. }
            | Failing { error, .. }
            | Project { error, .. }
            | Repository { error, .. }
            | Scan { error, .. } => Some(error),
            _ => None,
        }
    }

    /// Whether no entry follows it, so that how much is missing is not known.
    pub fn is_whole(&self) -> bool {
        use CatalogError::{Failing, Login, TooMany, Whole};
        matches!(self, Whole { .. } | Login { .. } | TooMany { .. } | Failing { .. })
    }

    /// Whether the registry did not accept the login, so that what was listed is not what the login may see.
    pub fn is_of_login(&self) -> bool {
        matches!(self, CatalogError::Login { .. })
    }

    /// Whether the same listing may succeed later: the registry is out of reach or overloaded, or the listing was
    /// cancelled.
    pub fn is_temporary(&self) -> bool {
        self.of_registry().is_some_and(RegistryError::is_temporary)
    }
}

impl From<io::Error> for ListError {
    fn from(error: io::Error) -> ListError {
        ListError::Read(Arc::new(error))
    }
}

/// Whether every other request to the registry would fail as well.
fn concerns_all(error: &RegistryError) -> bool {
    use RegistryError::Unreachable;
    use RegistryError::{Cancelled, Configuration, Credentials, NoTls, Tls, Token, TooManyRequests};
    matches!(
        error,
        Cancelled { .. }
            | Configuration { .. }
            | Credentials { .. }
            | NoTls { .. }
            | TooManyRequests { .. }
            | Tls { .. }
            | Token { .. }
            | Unreachable { .. }
    )
}

/// Failures in a row after which the rest is given up: so many are not the fault of single repositories.
const MAX_FAILURES: usize = 50;

/// Counts failures in a row, and decides when the failure of one repository is one of the whole registry.
#[derive(Debug, Default)]
pub(super) struct FailureCount(usize);

impl FailureCount {
    /// Notes a success.
    pub(super) fn reset(&mut self) {
        self.0 = 0;
    }

    /// Notes a failure, and returns its error: that of `part`, if the rest of the registry can still be listed. A 401
    /// is the answer of one part: whether the login is accepted is asked for by itself.
    pub(super) fn add(
        &mut self,
        host: &Host,
        error: RegistryError,
        part: impl FnOnce(Arc<RegistryError>) -> CatalogError,
    ) -> CatalogError {
        use RegistryError::{Forbidden, NotFound, Unauthorized};
        // These answers come at once, and there may be many of them; every other failure takes all its attempts.
        let is_answer = matches!(error, Forbidden { .. } | NotFound { .. } | Unauthorized { .. }) || error.is_of_link();
        self.0 += usize::from(!is_answer);
        let error = Arc::new(error);
        if error.is_of_login() || concerns_all(&error) {
            CatalogError::of_listing(host, error)
        } else if self.0 >= MAX_FAILURES && !is_answer {
            CatalogError::Failing { host: host.clone(), times: self.0, error }
        } else {
            part(error)
        }
    }
}
