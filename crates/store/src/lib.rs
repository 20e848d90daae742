//! The store: reports of layers and images, the tags that lead to them, and the queue of layers to read.
//!
//! One schema on two databases: SQLite in a file, the default, and PostgreSQL by URL, for several machines. A report of
//! an image is stored whole, per image and [`layersift_model::LayerKey`]. An index of it makes traces quick: layers,
//! rules and packages are stored once, a layer's finding is one row however many images share the layer, and an image
//! adds rows only where it differs. No secret is stored: only its masked form, its keyed fingerprint and its length.
//!
//! [`Store`] opens a store; its handles do the rest: [`Images`], [`Layers`], [`Tags`], [`Runs`] and [`Queue`].
//!
//! All calls block. In an asynchronous program they belong on a thread of their own (`spawn_blocking`), and so does
//! dropping the [`Store`]. Times are seconds since 1970, UTC, and come from the caller.

mod api_tokens;
mod audit_copies;
mod backend;
mod base;
mod error;
mod findings;
mod harbor_tasks;
mod ids;
mod image_reports;
mod images;
mod index;
mod intern;
mod layers;
mod location;
mod migrations;
mod notifications;
mod options;
mod page;
mod places;
mod pool;
mod process;
mod prompt_sightings;
mod queue;
mod retention;
mod room;
mod run_listings;
mod runs;
mod scan_requests;
mod service;
mod tags;
mod trace;

use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};

use self::backend::{Connection, Mode};
use self::error::Fault;
use self::location::Location;
use self::pool::Pool;

pub use self::api_tokens::{ApiToken, ApiTokens};
pub use self::audit_copies::{AuditCopies, AuditCopy};
pub use self::base::StoredBase;
pub use self::error::{DatabaseError, StoreError};
pub use self::harbor_tasks::{
    ClaimedHarborTask, HarborPhase, HarborTask, HarborTaskState, HarborTasks, NewHarborTask, SealedLogin,
};
pub use self::ids::{ImageId, NotificationId, RequestId, RunId};
pub use self::image_reports::{PackedReport, ReportEntry, StoredReport};
pub use self::images::{ImageLayer, ImageRecord, Images, StoredImage};
pub use self::layers::{LayerRecord, Layers};
pub use self::notifications::{NewNotification, NotTaken, NotificationState, Notifications, StoredNotification};
pub use self::options::StoreOptions;
pub use self::page::Page;
pub use self::prompt_sightings::{PromptSighting, PromptSightings};
pub use self::queue::{Job, JobCounts, Lease, Queue, Task};
pub use self::retention::{Pruned, Retention};
pub use self::run_listings::RunListing;
pub use self::runs::{Run, RunStatus, Runs, Scope};
pub use self::scan_requests::{
    ClaimedRequest, RequestClass, RequestLimits, RequestState, ScanRequest, ScanRequests, StoredRequest, Submitted,
};
pub use self::service::{AskedImage, ServiceState};
pub use self::tags::{CoveredTags, TagGroup, TagRepositories, TagSighting, Tags};
pub use self::trace::Query;

/// A time: seconds since the beginning of 1970, UTC.
pub type Seconds = i64;

/// The store. It may be shared by threads.
pub struct Store {
    pool: Pool,
}

impl Store {
    /// Opens the store that `text` names: the path of a SQLite file, which is created where there is none, or a
    /// `postgres://` URL. A store of an older version is brought up to date.
    ///
    /// A URL may have the options of the PostgreSQL client, with `sslmode` one of `disable`, `prefer` (the default:
    /// TLS where the server offers it), `require`, `verify-ca` and `verify-full`, and `sslrootcert`, a PEM file.
    /// Certificates are always verified in full.
    ///
    /// # Errors
    /// [`StoreError::Location`] for an invalid name, [`StoreError::Open`] where the store cannot be reached or created,
    /// and [`StoreError::Newer`] for the store of a newer version.
    pub fn open(text: impl AsRef<OsStr>) -> Result<Store, StoreError> {
        Store::open_with(text, StoreOptions::default())
    }

    /// Opens a store as [`Store::open`], or only one that exists, and says how long to wait for its server.
    ///
    /// # Errors
    /// [`StoreError::Missing`] where there is no store and there has to be one, otherwise as [`Store::open`].
    pub fn open_with(text: impl AsRef<OsStr>, options: StoreOptions) -> Result<Store, StoreError> {
        Ok(Store { pool: Pool::open(Location::parse(text.as_ref())?, options)? })
    }

    /// Opens the user's own store, [`Store::default_path`]; its directory is created where there is none.
    ///
    /// # Errors
    /// [`StoreError::Location`] where the environment names no home directory, otherwise as [`Store::open`].
    pub fn open_default() -> Result<Store, StoreError> {
        Store::open_default_with(StoreOptions::default())
    }

    /// Opens the user's own store as [`Store::open_with`] does others.
    ///
    /// # Errors
    /// [`StoreError::Missing`] where there is no store and there has to be one, otherwise as [`Store::open_default`].
    pub fn open_default_with(options: StoreOptions) -> Result<Store, StoreError> {
        let reason = "neither XDG_DATA_HOME nor HOME names a directory";
        let unknown = || StoreError::Location { store: "the default store".into(), reason: reason.into() };
        let path = Store::default_path().ok_or_else(unknown)?;
        if let (false, Some(directory)) = (options.must_exist, path.parent()) {
            create_private(directory).map_err(|source| StoreError::Open {
                store: path.display().to_string(),
                source: DatabaseError::Directory { path: directory.into(), source },
            })?;
        }
        Ok(Store { pool: Pool::open(Location::File(path), options)? })
    }

    /// Where the user's own store is: `layersift/store.db` in `$XDG_DATA_HOME`, or in `~/.local/share`.
    pub fn default_path() -> Option<PathBuf> {
        Location::default_path(|name| std::env::var_os(name).map(PathBuf::from))
    }

    /// The path or the URL of the store, without a password.
    pub fn name(&self) -> String {
        self.pool.location().to_string()
    }

    /// Copies of the logs of decisions.
    pub fn audit_copies(&self) -> AuditCopies<'_> {
        AuditCopies::new(self)
    }

    /// Images, and their reports.
    pub fn images(&self) -> Images<'_> {
        Images::new(self)
    }

    /// Reports of layers.
    pub fn layers(&self) -> Layers<'_> {
        Layers::new(self)
    }

    /// Tags that lead to images.
    pub fn tags(&self) -> Tags<'_> {
        Tags::new(self)
    }

    /// Sweeps, and what each was the first to find.
    pub fn runs(&self) -> Runs<'_> {
        Runs::new(self)
    }

    /// Images that clients of the service wait for.
    pub fn scan_requests(&self) -> ScanRequests<'_> {
        ScanRequests::new(self)
    }

    /// Scans that a Harbor asked for.
    pub fn harbor_tasks(&self) -> HarborTasks<'_> {
        HarborTasks::new(self)
    }

    /// Messages about what the service found.
    pub fn notifications(&self) -> Notifications<'_> {
        Notifications::new(self)
    }

    /// What a service keeps: its keys, the images it was asked about, and its leases.
    pub fn service(&self) -> ServiceState<'_> {
        ServiceState::new(self)
    }

    /// Tokens of clients of the service.
    pub fn api_tokens(&self) -> ApiTokens<'_> {
        ApiTokens::new(self)
    }

    /// What a service saw in prompts.
    pub fn prompt_sightings(&self) -> PromptSightings<'_> {
        PromptSightings::new(self)
    }

    /// The queue of layers to read.
    pub fn queue(&self) -> Queue<'_> {
        Queue::new(self)
    }

    /// Lets the database update its statistics, for quicker traces: worth it after a sweep that read layers.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn optimize(&self) -> Result<(), StoreError> {
        self.pool.outside(Connection::optimize)
    }

    fn read<T>(&self, work: impl FnMut(&mut Connection) -> Result<T, Fault>) -> Result<T, StoreError> {
        self.pool.run(Mode::Read, work)
    }

    fn write<T>(&self, work: impl FnMut(&mut Connection) -> Result<T, Fault>) -> Result<T, StoreError> {
        self.pool.run(Mode::Write, work)
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Store").field(self.pool.location()).finish()
    }
}

/// Creates `directory` and those above it, for the user alone.
fn create_private(directory: &Path) -> std::io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(directory)
}
