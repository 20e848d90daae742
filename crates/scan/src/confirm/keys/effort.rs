//! The work of reading keys, which is counted where it is done: bytes that are decoded, values that are read, numbers
//! that are divided. Overlapping keys in a few kilobytes are read again from each of their beginnings, so the
//! expression that proposes them says nothing about it.
//!
//! The unit is that of [`crate::layer_work`], a byte that is read at full speed. A window is scanned by one thread, so
//! its work is counted there, and bounded: it is the same wherever the window is scanned.

use std::cell::Cell;

/// The work that every window may take, and what each of its bytes permits: a key of 2,048 bits takes some 50,000.
const BASE: u64 = 8 << 20;
const PER_BYTE: u64 = 256;

/// The most work of a window.
const MOST: u64 = 256 << 20;

thread_local! {
    static WORK: Cell<u64> = const { Cell::new(0) };
    static LEFT: Cell<Option<u64>> = const { Cell::new(None) };
}

/// The work on keys of the window that this thread scans, until this is dropped.
pub(crate) struct WindowEffort(());

/// The most work on keys in a window of `bytes` bytes.
pub(crate) fn most_work(bytes: usize) -> u64 {
    BASE.saturating_add((bytes as u64).saturating_mul(PER_BYTE)).min(MOST)
}

impl WindowEffort {
    /// Begins a window of `bytes` bytes, unless this thread has begun one that it is in.
    pub(crate) fn begin(bytes: usize) -> Option<WindowEffort> {
        let is_outermost = LEFT.get().is_none();
        is_outermost.then(|| {
            LEFT.set(Some(most_work(bytes)));
            WindowEffort(())
        })
    }
}

impl Drop for WindowEffort {
    fn drop(&mut self) {
        LEFT.set(None);
    }
}

/// Counts work.
pub(super) fn charge(work: usize) {
    WORK.set(WORK.get().saturating_add(work as u64));
}

/// The work since the last call.
pub(crate) fn take() -> u64 {
    let work = WORK.take();
    LEFT.set(LEFT.get().map(|left| left.saturating_sub(work)));
    work
}

/// Whether the window has no work left.
pub(crate) fn is_spent() -> bool {
    LEFT.get() == Some(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_has_its_work_once() {
        assert!(!is_spent(), "outside of a window");
        let window = WindowEffort::begin(0);
        assert!(WindowEffort::begin(1 << 20).is_none());
        charge(5);
        assert_eq!((take(), take(), is_spent()), (5, 0, false));
        charge(BASE as usize);
        take();
        assert!(is_spent());
        drop(window);
        assert!(!is_spent());
        assert_eq!(most_work(usize::MAX), MOST);
    }
}
