//! How a store is opened, and how long it is waited for.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::backend::Opening;

/// How a store is opened; see [`super::Store::open_with`].
#[derive(Clone)]
pub struct StoreOptions {
    /// Whether the store has to exist; otherwise it is created where there is none.
    pub must_exist: bool,
    /// How long a call waits for a PostgreSQL server that is out of reach, or that restarts, before it fails. The first
    /// connection is not waited for, so that a wrong address is told at once.
    pub patience: Duration,
    /// Ends such a wait early when it returns `true`.
    pub cancelled: Option<Arc<dyn Fn() -> bool + Send + Sync>>,
}

impl Default for StoreOptions {
    fn default() -> StoreOptions {
        // A server that is upgraded or moved to another machine is back within minutes.
        StoreOptions { must_exist: false, patience: Duration::from_secs(300), cancelled: None }
    }
}

impl StoreOptions {
    pub(super) fn opening(&self) -> Opening {
        if self.must_exist { Opening::Existing } else { Opening::Create }
    }

    pub(super) fn is_cancelled(&self) -> bool {
        self.cancelled.as_ref().is_some_and(|cancelled| cancelled())
    }
}

impl fmt::Debug for StoreOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let StoreOptions { must_exist, patience, .. } = self;
        f.debug_struct("StoreOptions")
            .field("must_exist", must_exist)
            .field("patience", patience)
            .finish_non_exhaustive()
    }
}
