//! The rounds of a hash function that passwords are tried with in one window. A store may be in another, and each is
//! read for more than one rule, so a limit for each of them bounds nothing.
//!
//! A window is scanned by one thread, so its rounds are counted there. Outside of a window they have no limit but that
//! of a store.

use std::cell::RefCell;
use std::collections::HashMap;

/// The most rounds in a window: those of eight large stores; and for each of its bytes.
const MOST: usize = 1_200_000;
const PER_BYTE: usize = 32;

/// The work of a round, in bytes that are read at full speed.
const WORK: u64 = 200;

/// What tells one store from another: its checksum, salt, iterations and length.
pub(super) type StoreIdentity = (Vec<u8>, Vec<u8>, usize, usize);

thread_local! {
    static WINDOW: RefCell<Option<Window>> = const { RefCell::new(None) };
}

struct Window {
    most: usize,
    left: usize,
    /// What was said of the stores so far, which other rules ask for again.
    known: HashMap<StoreIdentity, Option<String>>,
}

/// The rounds of the window that this thread scans, until this is dropped.
pub(crate) struct WindowRounds(());

/// The most work on passwords in a window of `bytes` bytes.
pub(crate) fn most_work(bytes: usize) -> u64 {
    most(bytes) as u64 * WORK
}

fn most(bytes: usize) -> usize {
    MOST.min(bytes.saturating_mul(PER_BYTE))
}

impl WindowRounds {
    /// Begins a window of `bytes` bytes.
    pub(crate) fn begin(bytes: usize) -> WindowRounds {
        let most = most(bytes);
        WINDOW.set(Some(Window { most, left: most, known: HashMap::new() }));
        WindowRounds(())
    }

    /// The work so far.
    pub(crate) fn work(&self) -> u64 {
        WINDOW.with_borrow(|window| window.as_ref().map_or(0, |window| (window.most - window.left) as u64 * WORK))
    }
}

impl Drop for WindowRounds {
    fn drop(&mut self) {
        WINDOW.set(None);
    }
}

/// The answer of `attempt` about a store. It is told how many passwords it may try at most, each with `rounds` rounds,
/// and returns how many it has tried, too.
pub(super) fn once(
    store: impl FnOnce() -> StoreIdentity,
    rounds: usize,
    attempt: impl FnOnce(usize) -> (Option<String>, usize),
) -> Option<String> {
    let rounds = rounds.max(1);
    let Some(mut window) = WINDOW.take() else { return attempt(usize::MAX).0 };
    let store = store();
    let answer = window.known.get(&store).cloned().unwrap_or_else(|| {
        let (answer, tried) = attempt(window.left / rounds);
        window.left = window.left.saturating_sub(tried.saturating_mul(rounds));
        window.known.insert(store, answer.clone());
        answer
    });
    WINDOW.set(Some(window));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stores_share_the_rounds_of_their_window() {
        let ask = |store: u8, rounds| {
            let mut tried = 0;
            once(
                || (vec![store], Vec::new(), 1, 1),
                rounds,
                |most| {
                    tried = most.min(16);
                    (None, tried)
                },
            );
            tried
        };
        assert_eq!(ask(0, usize::MAX), 16, "outside of a window");
        let window = WindowRounds::begin(10);
        assert_eq!((ask(1, 10), ask(1, 10)), (16, 0), "the same store is not tried again");
        assert_eq!(window.work(), 160 * WORK);
        assert_eq!((ask(2, 10), ask(3, 10)), (16, 0));
        assert_eq!(window.work(), most_work(10));
        drop(window);
        assert_eq!(ask(3, 10), 16);
        assert_eq!(most_work(1 << 30), MOST as u64 * WORK);
    }
}
