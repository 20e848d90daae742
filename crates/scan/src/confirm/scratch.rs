//! The memory with which expressions search. A search leaves states behind that make the next one quicker, for each
//! expression: with a thousand expressions on eight threads that is half a gigabyte. So a thread borrows all of it at
//! once, and it is bounded.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::passed::Calls;
use regex_automata::meta::{Cache, Regex};
use regex_automata::util::captures::Captures;

/// The most bytes that one thread keeps: a hundred expressions of the usual size. What the last search left is kept in
/// any case: a text may have thousands of matches of an expression that takes as much.
const MOST_BYTES: usize = 6 << 20;

/// What expressions left behind, by their numbers.
#[derive(Default)]
pub(crate) struct Scratch {
    left: HashMap<usize, Left>,
    bytes: usize,
    /// The work of the searches since a thread borrowed this; see [`crate::layer_work`].
    pub(super) work: u64,
    /// Whether the key that a reader found at a position is encrypted; `None` if it found none. Rules for keys that are
    /// and that are not encrypted ask for the same.
    pub(super) keys: HashMap<(usize, usize), Option<bool>>,
    /// The calls that were looked at.
    pub(super) calls: Calls,
}

/// What one expression left behind.
struct Left {
    cache: Cache,
    captures: Captures,
    bytes: usize,
}

impl Scratch {
    /// Calls `search` with what the expression `number` left behind.
    pub(super) fn with<R>(
        &mut self,
        number: usize,
        regex: &Regex,
        search: impl FnOnce(&mut Cache, &mut Captures) -> R,
    ) -> R {
        let new = || Left { cache: regex.create_cache(), captures: regex.create_captures(), bytes: 0 };
        let left = self.left.entry(number).or_insert_with(new);
        let found = search(&mut left.cache, &mut left.captures);
        let bytes = left.cache.memory_usage();
        self.bytes = self.bytes - left.bytes + bytes;
        left.bytes = bytes;
        if self.bytes > MOST_BYTES {
            self.left.retain(|other, _| *other == number);
            self.bytes = bytes;
        }
        found
    }
}

/// The memory of all threads that search with one set of expressions.
#[derive(Default)]
pub(super) struct ScratchPool(Mutex<Vec<Scratch>>);

impl ScratchPool {
    /// Calls `work` with memory that no other thread has meanwhile.
    pub(super) fn with<R>(&self, work: impl FnOnce(&mut Scratch) -> R) -> R {
        let lock = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut scratch = lock().pop().unwrap_or_default();
        scratch.work = 0;
        scratch.keys.clear();
        scratch.calls.clear();
        let done = work(&mut scratch);
        lock().push(scratch);
        done
    }
}

#[cfg(test)]
mod tests {
    use regex_automata::Input;

    use super::*;

    #[test]
    fn what_expressions_leave_behind_is_bounded() {
        let regex = Regex::new("[a-z]{3,40}[0-9]{3,40}x").unwrap();
        let one = regex.create_cache().memory_usage();
        let expressions = 3 * MOST_BYTES / one;
        let pool = ScratchPool::default();
        for number in 0..expressions {
            pool.with(|scratch| {
                let input = Input::new("abc123x");
                assert!(scratch.with(number, &regex, |cache, _| regex.search_half_with(cache, &input)).is_some());
                assert!(scratch.bytes <= MOST_BYTES && scratch.left.len() < expressions);
                assert!(scratch.left.contains_key(&number), "what the last search left is kept");
                assert_eq!(scratch.bytes, scratch.left.values().map(|left| left.bytes).sum::<usize>());
            });
        }
        // Threads that search one after the other share it.
        assert_eq!(pool.0.lock().unwrap().len(), 1);
    }
}
