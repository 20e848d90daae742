//! The files of a directory that could not be read.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use layersift_model::{Gap, GapList, Limits};

/// The files that could not be read, as many as a layer may list, shared with the source, which reports them after the
/// archive was read.
#[derive(Clone, Debug)]
pub struct Unreadable(Arc<Mutex<GapList>>);

impl Default for Unreadable {
    fn default() -> Unreadable {
        Unreadable(Arc::new(Mutex::new(GapList::new(Limits::default().gap_bytes))))
    }
}

impl Unreadable {
    /// The gaps in order.
    pub fn gaps(&self) -> Vec<Gap> {
        self.lock().clone().into_gaps()
    }

    pub(super) fn add(&self, gap: Gap) {
        self.lock().add(gap);
    }

    fn lock(&self) -> MutexGuard<'_, GapList> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
