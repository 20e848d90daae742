//! The store: what is known of layers, images, tags and findings, and the queue of layers to read.
//!
//! One schema on two databases: SQLite in a file, the default, and PostgreSQL by URL, for several machines. Layers,
//! rules and packages are stored once; a layer's finding is one row however many images share the layer, and an image
//! adds rows only where it differs. Nothing holds a secret: only its masked form, its keyed fingerprint, its length.
//!
//! All calls block. In an asynchronous program they belong on a thread of their own (`spawn_blocking`), and so does
//! dropping the [`Store`]. Times are seconds since 1970 and come from the caller.

mod backend;
mod error;
mod findings;
mod holdings;
mod images;
mod intern;
mod location;
mod migrations;
mod pool;
mod queue;
mod record;
mod reports;
mod runs;
mod tags;
mod trace;

use std::fmt;
use std::path::{Path, PathBuf};

use self::backend::{Connection, Mode};
use self::error::Fault;
use self::location::Location;
use self::pool::Pool;

pub use self::error::StoreError;
pub use self::findings::{FindingRecord, PackageRecord, RuleRecord, SecretRecord, Summary};
pub use self::holdings::{FindingLine, Held, HeldLayer};
pub use self::images::{ImageId, ImageLayer, ImageLine, ImageRecord};
pub use self::queue::{Counts, Job, Lease, Task};
pub use self::record::Assembled;
pub use self::reports::ReportRecord;
pub use self::runs::{News, Run, RunId, RunSums, Scope, Status};
pub use self::tags::{Repository, TagLine, TagSighting};
pub use self::trace::{Base, Holder, Query, Trace};

/// A time: seconds since the beginning of 1970, UTC.
pub type Seconds = i64;

/// The store. It may be shared by threads.
pub struct Store {
    pool: Pool,
}

impl Store {
    /// Opens the store that `text` names: the path of a SQLite file, which is made where there is none, or a
    /// `postgres://` URL. A store of an older version is brought up to date.
    ///
    /// A URL may have the options of the PostgreSQL client, with `sslmode` one of `disable`, `prefer` (the default:
    /// TLS where the server offers it), `require`, `verify-ca` and `verify-full`, and `sslrootcert`, a PEM file.
    /// Certificates are always verified in full.
    ///
    /// # Errors
    /// [`StoreError::Location`] for what names no store, [`StoreError::Open`] where it cannot be reached or made, and
    /// [`StoreError::Newer`] for the store of a newer version.
    pub fn open(text: &str) -> Result<Store, StoreError> {
        Ok(Store { pool: Pool::open(Location::parse(text)?)? })
    }

    /// Opens the user's own store, [`Store::default_path`]; its directory is made where there is none.
    ///
    /// # Errors
    /// [`StoreError::Location`] where the environment names no home directory, otherwise as [`Store::open`].
    pub fn open_default() -> Result<Store, StoreError> {
        let reason = "neither XDG_DATA_HOME nor HOME names a directory";
        let unknown = || StoreError::Location { store: "the default store".into(), reason: reason.into() };
        let path = Store::default_path().ok_or_else(unknown)?;
        if let Some(directory) = path.parent() {
            make_private(directory)
                .map_err(|error| StoreError::Open { store: path.display().to_string(), reason: error.to_string() })?;
        }
        Ok(Store { pool: Pool::open(Location::File(path))? })
    }

    /// Where the user's own store is: `layersift/store.db` in `$XDG_DATA_HOME`, or in `~/.local/share`.
    pub fn default_path() -> Option<PathBuf> {
        Location::default_path(|name| std::env::var_os(name).map(PathBuf::from))
    }

    /// The path or the URL of the store, without a password.
    pub fn name(&self) -> String {
        self.pool.location().to_string()
    }

    /// Lets the database look at its tables again, for quicker traces: worth it after a sweep that read layers.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn tidy(&self) -> Result<(), StoreError> {
        self.pool.outside(Connection::tidy)
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

/// Makes `directory` and those above it, for the user alone.
fn make_private(directory: &Path) -> std::io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(directory)
}
