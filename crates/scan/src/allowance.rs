//! What the report of a layer may take, while the layer is read: bytes of memory, and work on paths.
//!
//! Both are properties of the input, so what does not fit is the same in every scan: a gap, with a count.

use layersift_model::{Gap, GapReason, Limits};

use crate::layer_work::{DIRECTORY, LayerWork};
use crate::memory::{ExtraMemory, MemoryLease};

/// The bytes that are taken from the memory of the process at once.
const STEP: u64 = 1 << 20;

/// The directories of paths that are decided in one layer: more than a report has room for, and about a second of work.
const DIRECTORIES: u64 = 4_000_000;

/// The bytes and the work that are left for the entries of one layer.
pub(crate) struct Allowance<'m> {
    memory: &'m MemoryLease,
    work: Option<&'m LayerWork>,
    held: Vec<ExtraMemory>,
    held_bytes: u64,
    limit: u64,
    used: u64,
    directories: u64,
    dropped: u64,
}

impl<'m> Allowance<'m> {
    /// What `limits` allow for one layer, whose memory is `memory`. Work on its paths is counted in `work`, too.
    pub(crate) fn new(limits: &Limits, memory: &'m MemoryLease, work: Option<&'m LayerWork>) -> Allowance<'m> {
        let limit = limits.layer_record_bytes;
        let held = Vec::new();
        Allowance { memory, work, held, held_bytes: 0, limit, used: 0, directories: DIRECTORIES, dropped: 0 }
    }

    /// Takes `bytes` for something that is kept, and waits until the process has them. If they do not fit, it is to be
    /// dropped, and is counted.
    pub(crate) fn take(&mut self, bytes: u64) -> bool {
        let used = self.used.saturating_add(bytes);
        let fits = used <= self.limit && self.hold(used);
        if fits {
            self.used = used;
        } else {
            self.dropped += 1;
        }
        fits
    }

    /// Takes memory from the lease until `bytes` are held, if it has them.
    fn hold(&mut self, bytes: u64) -> bool {
        while bytes > self.held_bytes {
            let Some(memory) = self.memory.try_grow(STEP) else { return false };
            self.held.push(memory);
            self.held_bytes += STEP;
        }
        true
    }

    /// Returns `bytes` of something that is not kept any more.
    pub(crate) fn give_back(&mut self, bytes: u64) {
        self.used = self.used.saturating_sub(bytes);
    }

    /// Whether there is work left to decide about `count` directories of a path. Otherwise, they are to be dropped, and
    /// are counted.
    pub(crate) fn has_directories(&mut self, count: u64) -> bool {
        let is_left = self.directories >= count;
        if !is_left {
            self.dropped += count;
        }
        is_left
    }

    /// Takes the work of `count` directories that were decided.
    pub(crate) fn decided(&mut self, count: u64) {
        self.directories = self.directories.saturating_sub(count);
        if let Some(work) = self.work.filter(|_| count > 0) {
            work.add(count.saturating_mul(DIRECTORY));
        }
    }

    /// The gap of what was dropped.
    pub(crate) fn gap(&self) -> Option<Gap> {
        let Allowance { dropped, limit, .. } = self;
        let detail = format!(
            "paths, links, whiteouts and package records of the layer take more than {limit} bytes; {dropped} were \
             dropped, so which files were changed, and to which package they belong, is not fully known"
        );
        (*dropped > 0).then(|| Gap::new(GapReason::TooManyEntries, detail))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::MemoryBudget;

    #[test]
    fn what_does_not_fit_is_counted_and_memory_is_charged() {
        let budget = MemoryBudget::new(1 << 30);
        let lease = budget.lease(0);
        let limits = Limits { layer_record_bytes: 10 << 20, ..Limits::default() };
        let mut allowance = Allowance::new(&limits, &lease, None);
        assert!(allowance.take(1));
        assert_eq!(budget.used(), STEP);
        assert!(allowance.take(9 << 20));
        assert_eq!(budget.used(), 10 * STEP);
        assert!(!allowance.take(1 << 20));
        assert!(allowance.gap().unwrap().detail.contains("10485760 bytes; 1 were dropped"));
        allowance.give_back(9 << 20);
        assert!(allowance.take(1 << 20));
        drop(allowance);
        assert_eq!(budget.used(), 0);
    }
}
