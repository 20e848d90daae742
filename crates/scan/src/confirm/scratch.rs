//! The memory with which expressions search. A lazy automaton leaves states behind that make the next search quicker:
//! with a thousand expressions on eight threads that is half a gigabyte. So a thread borrows all of it at once, and it
//! is bounded.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use regex_automata::hybrid::regex::{Cache, Regex};
use regex_automata::nfa::thompson::backtrack::{self, BoundedBacktracker};
use regex_automata::nfa::thompson::pikevm::{self, PikeVM};

use super::passed::Calls;

/// The most bytes of states that one thread keeps: a hundred expressions of the usual size. Those of the last search
/// are kept in any case: a text may have thousands of matches of an expression that takes as much.
const MOST_BYTES: usize = 6 << 20;

/// What searches left behind.
#[derive(Default)]
pub(crate) struct Scratch {
    /// By the numbers of expressions.
    left: HashMap<usize, Left>,
    bytes: usize,
    /// Of all expressions: it is small.
    backtracking: Option<backtrack::Cache>,
    /// With the number of the expression that searched last.
    simulating: Option<(usize, pikevm::Cache)>,
    /// The work of the searches since a thread borrowed this; see [`crate::layer_work`].
    pub(super) work: u64,
    /// Whether the key that a reader found at a position is encrypted; `None` if it found none. Rules for keys that are
    /// and that are not encrypted ask for the same.
    pub(super) keys: HashMap<(usize, usize), Option<bool>>,
    /// The calls that were looked at.
    pub(super) calls: Calls,
}

/// What one expression left behind.
#[derive(Default)]
struct Left {
    states: Option<Cache>,
    /// The bytes of the states.
    bytes: usize,
    /// How many bytes were searched without states.
    searched: usize,
}

impl Scratch {
    /// Whether the expression `number` may search another `length` bytes without states, of which `most` are permitted
    /// in sum. An expression that has states uses them.
    pub(super) fn may_search_without_states(&mut self, number: usize, length: usize, most: usize) -> bool {
        let left = self.left.entry(number).or_default();
        left.searched = left.searched.saturating_add(length);
        left.states.is_none() && left.searched <= most
    }

    /// Calls `search` with the states of the expression `number`.
    pub(super) fn with_states<R>(&mut self, number: usize, regex: &Regex, search: impl FnOnce(&mut Cache) -> R) -> R {
        let left = self.left.entry(number).or_default();
        let states = left.states.get_or_insert_with(|| regex.create_cache());
        let found = search(states);
        let (forwards, backwards) = states.as_parts_mut();
        let bytes = forwards.memory_usage() + backwards.memory_usage();
        self.bytes = self.bytes - left.bytes + bytes;
        left.bytes = bytes;
        if self.bytes > MOST_BYTES {
            self.left.retain(|other, _| *other == number);
            self.bytes = bytes;
        }
        found
    }

    /// Memory for a search by `backtracker`.
    pub(super) fn backtracking(&mut self, backtracker: &BoundedBacktracker) -> &mut backtrack::Cache {
        let cache = self.backtracking.get_or_insert_with(|| backtracker.create_cache());
        cache.reset(backtracker);
        cache
    }

    /// Memory for a search by `simulation`, that of the expression `number`. As much as states may take is kept for
    /// another expression.
    pub(super) fn simulating(&mut self, number: usize, simulation: &PikeVM) -> &mut pikevm::Cache {
        let is_usable = |(last, cache): &(usize, pikevm::Cache)| *last == number || cache.memory_usage() <= MOST_BYTES;
        let left = self.simulating.take().filter(is_usable);
        let (last, cache) = self.simulating.insert(left.unwrap_or_else(|| (number, simulation.create_cache())));
        if *last != number {
            cache.reset(simulation);
            *last = number;
        }
        cache
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
    use super::*;

    #[test]
    fn what_expressions_leave_behind_is_bounded() {
        let regex = Regex::new("[a-z]{3,40}[0-9]{3,40}x").unwrap();
        let memory = |cache: &mut Cache| cache.as_parts_mut().0.memory_usage() + cache.as_parts_mut().1.memory_usage();
        let one = memory(&mut regex.create_cache());
        let expressions = 3 * MOST_BYTES / one;
        let pool = ScratchPool::default();
        for number in 0..expressions {
            pool.with(|scratch| {
                assert!(!scratch.may_search_without_states(number, 7, 6));
                assert!(scratch.with_states(number, &regex, |states| regex.find(states, "abc123x")).is_some());
                assert!(scratch.bytes <= MOST_BYTES && scratch.left.len() < expressions);
                assert!(scratch.left.contains_key(&number), "what the last search left is kept");
                assert_eq!(scratch.bytes, scratch.left.values().map(|left| left.bytes).sum::<usize>());
            });
        }
        // Threads that search one after the other share it.
        assert_eq!(pool.0.lock().unwrap().len(), 1);
    }
}
