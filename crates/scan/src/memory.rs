//! The memory budget that all scans of a process share.
//!
//! Work waits for memory instead of failing for lack of it, so that what is found never depends on how many layers are
//! read at once. A layer takes a [`MemoryLease`] before it is read and lets it grow for what it meets on the way, such as
//! the window of a decoder. The lease that was taken first never waits, whatever it asks for: some layer always goes on,
//! and the budget is exceeded by at most what one layer takes.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// Bytes of the default budget.
const DEFAULT_BYTES: u64 = 1 << 30;

/// How much memory scans may take, all together. A clone is the same budget.
#[derive(Clone, Debug)]
pub struct MemoryBudget(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    bytes: u64,
    state: Mutex<State>,
    freed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// What each lease holds, by its number. Numbers grow, so that the first is the oldest.
    leases: BTreeMap<u64, u64>,
    used: u64,
    next: u64,
}

impl MemoryBudget {
    /// A budget of `bytes`.
    pub fn new(bytes: u64) -> MemoryBudget {
        MemoryBudget(Arc::new(Shared { bytes, state: Mutex::default(), freed: Condvar::new() }))
    }

    /// Takes `bytes`, and waits until they are there.
    pub fn lease(&self, bytes: u64) -> MemoryLease {
        let mut state = self.lock();
        let number = state.next;
        state.next += 1;
        state.leases.insert(number, 0);
        drop(state);
        let lease = MemoryLease(Arc::new(Held { budget: self.clone(), number }));
        lease.0.take(bytes);
        lease
    }

    /// Bytes that are taken at this moment.
    pub fn used(&self) -> u64 {
        self.lock().used
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for MemoryBudget {
    fn default() -> MemoryBudget {
        MemoryBudget::new(DEFAULT_BYTES)
    }
}

/// Memory of one layer, given back when the last clone and everything that grew from it are dropped.
#[derive(Clone, Debug)]
pub struct MemoryLease(Arc<Held>);

#[derive(Debug)]
struct Held {
    budget: MemoryBudget,
    number: u64,
}

/// Memory that a lease took besides, given back when dropped.
#[derive(Debug)]
pub struct Growth {
    lease: MemoryLease,
    bytes: u64,
}

impl MemoryLease {
    /// Takes `bytes` more, and waits until they are there unless this is the oldest lease.
    pub fn grow(&self, bytes: u64) -> Growth {
        self.0.take(bytes);
        Growth { lease: self.clone(), bytes }
    }
}

impl Held {
    fn take(&self, bytes: u64) {
        let must_wait = |state: &mut State| {
            let is_oldest = state.leases.first_key_value().is_none_or(|(first, _)| *first == self.number);
            !is_oldest && state.used.saturating_add(bytes) > self.budget.0.bytes
        };
        let state = self.budget.0.freed.wait_while(self.budget.lock(), must_wait);
        let mut state = state.unwrap_or_else(PoisonError::into_inner);
        state.used = state.used.saturating_add(bytes);
        if let Some(held) = state.leases.get_mut(&self.number) {
            *held = held.saturating_add(bytes);
        }
    }
}

impl Drop for Growth {
    fn drop(&mut self) {
        let held = &self.lease.0;
        let mut state = held.budget.lock();
        state.used = state.used.saturating_sub(self.bytes);
        if let Some(all) = state.leases.get_mut(&held.number) {
            *all = all.saturating_sub(self.bytes);
        }
        held.budget.0.freed.notify_all();
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut state = self.budget.lock();
        let bytes = state.leases.remove(&self.number).unwrap_or(0);
        state.used = state.used.saturating_sub(bytes);
        self.budget.0.freed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;

    use super::*;

    #[test]
    fn a_lease_waits_until_there_is_room() {
        let budget = MemoryBudget::new(100);
        let first = budget.lease(80);
        let (sender, receiver) = mpsc::channel();
        let second = budget.clone();
        let waiting = thread::spawn(move || {
            let lease = second.lease(50);
            sender.send(second.used()).unwrap();
            drop(lease);
        });
        assert!(receiver.try_recv().is_err());
        drop(first);
        assert_eq!(receiver.recv().unwrap(), 50);
        waiting.join().unwrap();
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn the_oldest_lease_never_waits() {
        let budget = MemoryBudget::new(100);
        let oldest = budget.lease(60);
        let younger = budget.lease(30);
        let growth = oldest.grow(500);
        assert_eq!(budget.used(), 590);
        drop(growth);
        drop(oldest);
        // Now the younger one is the oldest.
        let growth = younger.grow(1_000);
        drop((younger, growth));
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn many_growing_leases_come_to_an_end() {
        let budget = MemoryBudget::new(64);
        thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        let lease = budget.lease(10);
                        let first = lease.grow(40);
                        let second = lease.grow(40);
                        drop((first, second));
                    }
                });
            }
        });
        assert_eq!(budget.used(), 0);
    }
}
