//! The memory budget that all scans of a process share.
//!
//! Work waits for memory instead of failing for lack of it, so that what is found never depends on how many layers are
//! read at once. A layer takes a [`MemoryLease`] before it is read, and grows it for decoders that need more. The
//! oldest lease never waits, so one layer can always make progress; the others leave a part of the budget to it. So the
//! budget is exceeded by less than the memory of one layer. That is bounded by a limit on each lease, which is a
//! property of the input: what exceeds it is a gap.
//!
//! What is kept of layers that were read is [retained](MemoryBudget::retain): nobody waits for it, and leases wait for
//! its end. What waits for other work, as images do for their layers, is [kept](MemoryBudget::keep) in a share of the
//! budget, so that the other work has the rest. Who waits for room in it must not hold a lease.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use layersift_format::{Cancellation, release_free_memory};

/// Bytes of the default budget: with what every process has, less than 256 MiB.
const DEFAULT_BYTES: u64 = 192 << 20;

/// The most bytes of decoders and records that one lease has at a time: a Zstandard window of 128 MiB and a little
/// more.
const LEASE_BYTES: u64 = 136 << 20;

/// What waits for other work has one part of this many of the budget.
const SHARE: u64 = 8;

/// One part of this many of the budget is left to the oldest lease.
const FOR_OLDEST: u64 = 4;

/// The growth from which on a lease returns its memory to the system when it ends. What others take of the heap is
/// elsewhere in it.
const RETURNED: u64 = 16 << 20;

/// Memory for a document that nobody has to wait for: that of ordinary images.
const UNCHARGED: u64 = 2 << 20;

/// How often a wait looks whether it is cancelled.
const TICK: Duration = Duration::from_millis(100);

/// The memory that all scans may take together. Clones share one budget.
#[derive(Clone, Debug)]
pub struct MemoryBudget(Arc<BudgetInner>);

#[derive(Debug)]
struct BudgetInner {
    bytes: u64,
    state: Mutex<BudgetState>,
    freed: Condvar,
}

#[derive(Debug, Default)]
struct BudgetState {
    /// The bytes of each lease, by its number. Numbers only increase, so the first lease is the oldest.
    leases: BTreeMap<u64, u64>,
    used: u64,
    /// The part of it that waits for other work.
    kept: u64,
    next: u64,
}

/// Memory of the process that is not part of a lease, returned when dropped.
#[derive(Debug)]
pub struct RetainedMemory {
    budget: MemoryBudget,
    bytes: u64,
    is_kept: bool,
}

impl MemoryBudget {
    /// A budget of `bytes`.
    pub fn new(bytes: u64) -> MemoryBudget {
        MemoryBudget(Arc::new(BudgetInner { bytes, state: Mutex::default(), freed: Condvar::new() }))
    }

    /// Takes `bytes`. Waits until they are available.
    pub fn lease(&self, bytes: u64) -> MemoryLease {
        let mut state = self.lock();
        let number = state.next;
        state.next += 1;
        state.leases.insert(number, 0);
        drop(state);
        let lease = MemoryLease(Arc::new(LeaseInner {
            budget: self.clone(),
            number,
            limited: AtomicU64::new(0),
            grown: AtomicU64::new(0),
        }));
        lease.0.take(bytes);
        lease.0.grown.store(0, Ordering::Relaxed);
        lease
    }

    /// Takes `bytes` for a document while it is read, with a lease of its own. Waits until they are available; `None`
    /// for as little as [ordinary documents](MemoryBudget::is_charged) take. The next one who waits has it when it was
    /// returned to the system.
    pub fn lease_for_document(&self, bytes: u64) -> Option<MemoryLease> {
        MemoryBudget::is_charged(bytes).then(|| {
            let lease = self.lease(0);
            lease.0.take(bytes);
            lease
        })
    }

    /// Whether documents that take `bytes` are charged.
    pub fn is_charged(bytes: u64) -> bool {
        bytes > UNCHARGED
    }

    /// Takes `bytes` at once, for what has to be kept whatever else goes on.
    pub fn retain(&self, bytes: u64) -> RetainedMemory {
        let mut state = self.lock();
        state.used = state.used.saturating_add(bytes);
        RetainedMemory { budget: self.clone(), bytes, is_kept: false }
    }

    /// Takes `bytes` for what waits for other work, if there is room. What waits alone always has room.
    pub fn try_keep(&self, bytes: u64) -> Option<RetainedMemory> {
        let mut state = self.lock();
        self.has_room(&state, bytes).then(|| self.kept(&mut state, bytes))
    }

    /// Takes `bytes` for what waits for other work. Waits until there is room; `None` if that is cancelled.
    pub fn keep(&self, bytes: u64, cancellation: &Cancellation) -> Option<RetainedMemory> {
        let mut state = self.lock();
        while !self.has_room(&state, bytes) {
            if cancellation.is_cancelled() {
                return None;
            }
            state = self.0.freed.wait_timeout(state, TICK).unwrap_or_else(PoisonError::into_inner).0;
        }
        Some(self.kept(&mut state, bytes))
    }

    fn has_room(&self, state: &BudgetState, bytes: u64) -> bool {
        state.kept == 0 || state.kept.saturating_add(bytes) <= self.0.bytes / SHARE
    }

    fn kept(&self, state: &mut BudgetState, bytes: u64) -> RetainedMemory {
        state.kept = state.kept.saturating_add(bytes);
        state.used = state.used.saturating_add(bytes);
        RetainedMemory { budget: self.clone(), bytes, is_kept: true }
    }

    /// The bytes that are taken at the moment.
    pub fn used(&self) -> u64 {
        self.lock().used
    }

    fn lock(&self) -> MutexGuard<'_, BudgetState> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for MemoryBudget {
    fn default() -> MemoryBudget {
        MemoryBudget::new(DEFAULT_BYTES)
    }
}

/// The memory of one layer, returned when the last clone and all its growth are dropped.
#[derive(Clone, Debug)]
pub struct MemoryLease(Arc<LeaseInner>);

#[derive(Debug)]
struct LeaseInner {
    budget: MemoryBudget,
    number: u64,
    /// The bytes of all growth that counts toward the limit of the lease.
    limited: AtomicU64,
    /// The bytes of all growth so far.
    grown: AtomicU64,
}

/// Additional memory of a lease, returned when dropped.
#[derive(Debug)]
pub struct ExtraMemory {
    lease: MemoryLease,
    bytes: u64,
    is_limited: bool,
}

impl MemoryLease {
    /// Takes `bytes` more. Waits until they are available, unless this is the oldest lease.
    pub fn grow(&self, bytes: u64) -> ExtraMemory {
        self.0.take(bytes);
        ExtraMemory { lease: self.clone(), bytes, is_limited: false }
    }

    /// Takes `bytes` more as [`MemoryLease::grow`], unless the lease would exceed its limit. Only the thread that reads
    /// the layer may call this: then the outcome does not depend on other threads.
    pub fn try_grow(&self, bytes: u64) -> Option<ExtraMemory> {
        if self.0.limited.load(Ordering::Relaxed).saturating_add(bytes) > LEASE_BYTES {
            return None;
        }
        self.0.limited.fetch_add(bytes, Ordering::Relaxed);
        self.0.take(bytes);
        Some(ExtraMemory { lease: self.clone(), bytes, is_limited: true })
    }
}

impl LeaseInner {
    fn take(&self, bytes: u64) {
        self.grown.fetch_add(bytes, Ordering::Relaxed);
        let must_wait = |state: &mut BudgetState| {
            let is_oldest = state.leases.first_key_value().is_none_or(|(first, _)| *first == self.number);
            let most = self.budget.0.bytes - self.budget.0.bytes / FOR_OLDEST;
            !is_oldest && state.used.saturating_add(bytes) > most
        };
        let state = self.budget.0.freed.wait_while(self.budget.lock(), must_wait);
        let mut state = state.unwrap_or_else(PoisonError::into_inner);
        state.used = state.used.saturating_add(bytes);
        if let Some(held) = state.leases.get_mut(&self.number) {
            *held = held.saturating_add(bytes);
        }
    }
}

impl RetainedMemory {
    /// How much it is.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for ExtraMemory {
    fn drop(&mut self) {
        let held = &self.lease.0;
        if self.is_limited {
            held.limited.fetch_sub(self.bytes, Ordering::Relaxed);
        }
        let mut state = held.budget.lock();
        state.used = state.used.saturating_sub(self.bytes);
        if let Some(all) = state.leases.get_mut(&held.number) {
            *all = all.saturating_sub(self.bytes);
        }
        held.budget.0.freed.notify_all();
    }
}

impl Drop for RetainedMemory {
    fn drop(&mut self) {
        let mut state = self.budget.lock();
        state.used = state.used.saturating_sub(self.bytes);
        if self.is_kept {
            state.kept = state.kept.saturating_sub(self.bytes);
        }
        self.budget.0.freed.notify_all();
    }
}

impl Drop for LeaseInner {
    fn drop(&mut self) {
        if self.grown.load(Ordering::Relaxed) > RETURNED {
            release_free_memory();
        }
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
        let younger = budget.lease(15);
        let growth = oldest.grow(500);
        assert_eq!(budget.used(), 575);
        drop(growth);
        drop(oldest);
        // Now the younger one is the oldest.
        let growth = younger.grow(1_000);
        drop((younger, growth));
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn a_lease_has_a_limit_and_what_is_retained_makes_others_wait() {
        let budget = MemoryBudget::new(100);
        let retained = budget.retain(90);
        let oldest = budget.lease(20);
        let growth = oldest.try_grow(LEASE_BYTES).unwrap();
        assert!(oldest.try_grow(1).is_none());
        drop(growth);
        assert!(oldest.try_grow(LEASE_BYTES).is_some());
        assert_eq!(budget.used(), 110);
        drop((retained, oldest));
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn what_waits_has_a_share_and_is_never_shut_out() {
        let budget = MemoryBudget::new(80);
        let first = budget.try_keep(50).unwrap();
        assert!(budget.try_keep(1).is_none());
        let cancelled = Cancellation::never().child();
        cancelled.cancel();
        assert!(budget.keep(1, &cancelled).is_none());
        let (sender, receiver) = mpsc::channel();
        let waiting = budget.clone();
        let thread = thread::spawn(move || sender.send(waiting.keep(60, &Cancellation::never())).unwrap());
        assert!(receiver.try_recv().is_err());
        assert_eq!(budget.used(), 50);
        drop(first);
        let second = receiver.recv().unwrap().unwrap();
        thread.join().unwrap();
        assert_eq!(budget.used(), 60);
        drop(second);
        let (one, other) = (budget.try_keep(5).unwrap(), budget.try_keep(5).unwrap());
        assert!(budget.try_keep(1).is_none());
        drop((one, other));
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
