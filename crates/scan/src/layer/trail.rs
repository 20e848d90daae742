//! A digest that follows a reader: it takes the windows in their order, on whatever thread has time for it.
//!
//! Hashing takes a third of the time of reading a compressed layer, and nothing waits for it before the layer's end.
//! The reader leaves windows behind; whoever is idle catches up. Should nobody be, the reader does it itself, so that
//! only a few windows are ever held.

use std::collections::VecDeque;
use std::ops::RangeFrom;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::buffer::Bytes;
use layersift_model::{Algorithm, Digest, Hasher};

/// Windows that may wait to be hashed.
const AT_MOST: usize = 4;

/// A digest and the windows that it has still to take.
pub struct Trail<'a> {
    state: Mutex<State<'a>>,
    /// Told whenever a window was hashed.
    moved: Condvar,
}

struct State<'a> {
    waiting: VecDeque<(Bytes<'a>, RangeFrom<usize>)>,
    /// None while a thread is catching up.
    hasher: Option<Hasher>,
}

impl<'a> Trail<'a> {
    /// The digest of nothing yet.
    pub fn new(algorithm: Algorithm) -> Trail<'a> {
        let state = State { waiting: VecDeque::new(), hasher: Some(Hasher::new(algorithm)) };
        Trail { state: Mutex::new(state), moved: Condvar::new() }
    }

    /// Leaves the part of `window` behind that begins at `fresh`. Where many wait already, this hashes them, or waits
    /// for the thread that does.
    pub fn leave(&self, window: Bytes<'a>, fresh: usize) {
        let mut state = self.lock();
        state.waiting.push_back((window, fresh..));
        if state.waiting.len() <= AT_MOST {
            return;
        }
        if state.hasher.is_some() {
            drop(state);
            return self.catch_up();
        }
        let _few = self.moved.wait_while(state, |state| state.waiting.len() > AT_MOST);
    }

    /// Hashes what waits, unless another thread is at it.
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

    /// The digest of all that was left behind.
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

    fn lock(&self) -> MutexGuard<'_, State<'a>> {
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
        let trail = Trail::new(Algorithm::Sha256);
        for (window, fresh) in windows {
            trail.leave(window, fresh);
            assert!(trail.lock().waiting.len() <= AT_MOST);
        }
        assert_eq!(trail.finish(), Digest::of(&whole));
    }

    #[test]
    fn helpers_take_the_windows_in_their_order() {
        let (windows, whole) = windows();
        let trail = Trail::new(Algorithm::Sha256);
        let read = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    while !read.load(Ordering::Relaxed) {
                        trail.catch_up();
                    }
                });
            }
            for (window, fresh) in windows {
                trail.leave(window, fresh);
            }
            assert_eq!(trail.finish(), Digest::of(&whole));
            read.store(true, Ordering::Relaxed);
        });
    }
}
