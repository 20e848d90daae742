//! Hashing in the background: a digest is computed over windows in order, on any idle thread.
//!
//! Hashing takes a third of the time of reading a compressed layer, and its result is only needed at the end. The
//! reading thread queues windows, and an idle thread hashes them. If no thread is idle, the reading thread hashes
//! them itself, so that the queue stays short.

use std::collections::VecDeque;
use std::ops::RangeFrom;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::buffer::Bytes;
use layersift_model::{Algorithm, Digest, Hasher};

/// The maximum number of windows in the queue.
const MAX_QUEUED: usize = 4;

/// A digest, and the queue of windows to be hashed.
pub struct BackgroundHasher<'a> {
    state: Mutex<HashState<'a>>,
    /// Notified whenever a window was hashed.
    moved: Condvar,
}

struct HashState<'a> {
    waiting: VecDeque<(Bytes<'a>, RangeFrom<usize>)>,
    /// `None` while a thread is hashing.
    hasher: Option<Hasher>,
}

impl<'a> BackgroundHasher<'a> {
    /// A hasher for `algorithm`, with an empty queue.
    pub fn new(algorithm: Algorithm) -> BackgroundHasher<'a> {
        let state = HashState { waiting: VecDeque::new(), hasher: Some(Hasher::new(algorithm)) };
        BackgroundHasher { state: Mutex::new(state), moved: Condvar::new() }
    }

    /// Queues the part of `window` from offset `fresh` on. If the queue is full, hashes it, or waits for the thread
    /// that does.
    pub fn push(&self, window: Bytes<'a>, fresh: usize) {
        let mut state = self.lock();
        state.waiting.push_back((window, fresh..));
        if state.waiting.len() <= MAX_QUEUED {
            return;
        }
        if state.hasher.is_some() {
            drop(state);
            return self.catch_up();
        }
        let _few = self.moved.wait_while(state, |state| state.waiting.len() > MAX_QUEUED);
    }

    /// Hashes the queued windows, unless another thread does.
    pub fn catch_up(&self) {
        let mut state = self.lock();
        let Some(mut hasher) = state.hasher.take() else { return };
        while let Some((window, fresh)) = state.waiting.pop_front() {
            drop(state);
            hasher.update(&window[fresh]);
            self.moved.notify_all();
            state = self.lock();
        }
        state.hasher = Some(hasher);
        self.moved.notify_all();
    }

    /// Hashes the rest, and returns the digest of all windows.
    pub fn finish(&self) -> Digest {
        self.catch_up();
        let mut state = self.lock();
        loop {
            if let Some(hasher) = &state.hasher {
                return hasher.clone().finish();
            }
            state = self.moved.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashState<'a>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::layer::buffer::Pool;

    /// Windows of differing sizes that overlap, and all of their bytes in a row.
    fn windows() -> (Vec<(Bytes<'static>, usize)>, Vec<u8>) {
        let pool = Pool::new(1000);
        let mut whole = Vec::new();
        let window = |number: usize| {
            let (length, fresh) = (1 + number * 37 % 1000, number % 7);
            let mut buffer = pool.take();
            for (at, byte) in buffer.space()[..length].iter_mut().enumerate() {
                *byte = (number * 31 + at) as u8;
            }
            let window = buffer.seal(length);
            let fresh = fresh.min(window.len());
            whole.extend_from_slice(&window[fresh..]);
            (window, fresh)
        };
        ((0..200).map(window).collect(), whole)
    }

    #[test]
    fn a_reader_without_help_hashes_by_itself() {
        let (windows, whole) = windows();
        let hasher = BackgroundHasher::new(Algorithm::Sha256);
        for (window, fresh) in windows {
            hasher.push(window, fresh);
            assert!(hasher.lock().waiting.len() <= MAX_QUEUED);
        }
        assert_eq!(hasher.finish(), Digest::of(&whole));
    }

    #[test]
    fn helpers_take_the_windows_in_their_order() {
        let (windows, whole) = windows();
        let hasher = BackgroundHasher::new(Algorithm::Sha256);
        let read = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    while !read.load(Ordering::Relaxed) {
                        hasher.catch_up();
                    }
                });
            }
            for (window, fresh) in windows {
                hasher.push(window, fresh);
            }
            assert_eq!(hasher.finish(), Digest::of(&whole));
            read.store(true, Ordering::Relaxed);
        });
    }
}
