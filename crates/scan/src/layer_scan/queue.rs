//! The queue of windows that threads of the pool scan. It is short, so that the memory of a layer is bounded.

use std::sync::{Condvar, Mutex, PoisonError};

/// Counts the windows that are queued or being scanned.
pub(super) struct WindowQueue {
    waiting: Mutex<usize>,
    left: Condvar,
    most: usize,
}

/// The slot of a window in the queue, freed when dropped.
pub(super) struct QueueSlot<'q>(&'q WindowQueue);

impl WindowQueue {
    pub(super) fn new(most: usize) -> WindowQueue {
        WindowQueue { waiting: Mutex::new(0), left: Condvar::new(), most }
    }

    /// Enters the queue. Waits for a free slot if `may_wait` is set. Returns whether there was one.
    pub(super) fn enter(&self, may_wait: bool) -> bool {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let mut waiting = if may_wait {
            self.left.wait_while(waiting, |waiting| *waiting >= self.most).unwrap_or_else(PoisonError::into_inner)
        } else {
            waiting
        };
        let is_free = *waiting < self.most;
        *waiting += usize::from(is_free);
        is_free
    }

    /// The slot that was entered.
    pub(super) fn slot(&self) -> QueueSlot<'_> {
        QueueSlot(self)
    }
}

impl Drop for QueueSlot<'_> {
    fn drop(&mut self) {
        *self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        self.0.left.notify_one();
    }
}
