//! Waiting for work of other threads to end, where this thread may have to do some of it.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Waits until `ended` is told that something ended, or a little while. A thread of the pool does other work of the
/// pool meanwhile, as nobody else may be there to do it, and is `idle` if there is none.
pub(crate) fn wait<'s, S>(
    state: &'s Mutex<S>,
    held: MutexGuard<'s, S>,
    ended: &Condvar,
    idle: fn(),
) -> MutexGuard<'s, S> {
    const LONGEST: Duration = Duration::from_millis(100);
    if rayon::current_thread_index().is_some() {
        drop(held);
        if rayon::yield_now() != Some(rayon::Yield::Executed) {
            idle();
        }
        return state.lock().unwrap_or_else(PoisonError::into_inner);
    }
    ended.wait_timeout(held, LONGEST).unwrap_or_else(PoisonError::into_inner).0
}
