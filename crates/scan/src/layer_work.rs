//! The work that one layer may cause, by the bytes of its blob. A few kilobytes can decompress to terabytes, and to
//! text that takes a thousand times longer to scan than other text.
//!
//! Work is counted in bytes read at full speed, never in time, and is a property of the layer: whether a window is
//! scanned depends on the work of all windows before it. The reading thread decides that. As long as the windows that
//! are being scanned could not reach the limit together it does not wait for them, so only layers near their limit are
//! scanned one window at a time ([072](../../../docs/decisions/072-bound-work-by-the-bytes-of-a-layer.md)).
//!
//! Most layers stay within what their bytes permit. What a layer takes beyond that is its extra work, which
//! `target_work` bounds for all layers of a target.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use layersift_format::compression::is_zeros;
use layersift_model::{Gap, GapReason, Limits};

use crate::confirm::keys::{effort, rounds};
use crate::waiting::wait;

/// The work of scanning a letter, a digit or a mark that differs from the byte before it, on top of that of a byte.
/// Keywords are made of them, and text that is full of one takes this many times longer than other text.
const CHARACTER: u64 = 12;

/// The work of a pattern that is begun at a keyword.
const BEGUN: u64 = 30;

/// The work of an end of a match.
const END: u64 = 20;

/// The work of a candidate that has to be confirmed.
pub(crate) const CANDIDATE: u64 = 1_000;

/// The work of a byte that an expression searches. Most take less, but those with more states than are kept, which
/// hostile text can ask for, take this much.
pub(crate) const SEARCHED: u64 = 24;

/// The work of a byte of the path of an entry or a member, which rules for paths and for names look at.
const NAME: u64 = 20;

/// The work of decompressing a byte, and of passing it on.
const DECOMPRESSED: u64 = 2;

/// How many zeros count as one byte. They are decompressed and hashed, and nothing else: a file such as `lastlog` has
/// hundreds of megabytes of them in a few kilobytes.
const ZEROS: u64 = 2;

/// The work of a byte of a package record that findings get their owners from.
pub(crate) const RECORDED: u64 = 8;

/// The work of a byte of a file whose checksums are computed.
pub(crate) const HASHED: u64 = 3;

/// The work of a finding that is repeated for a hard link to its file.
pub(crate) const LINKED: u64 = 100;

/// The work of a run of a sparse file, which is scanned by itself.
pub(crate) const RUN: u64 = 100;

/// The work of a member of an archive.
pub(crate) const MEMBER: u64 = 4_000;

/// The work of a byte of a file that may have a mark of AI.
pub(crate) const MARK: u64 = 16;

/// The work of a byte of an executable file in which a finding is located.
pub(crate) const LOCATED: u64 = 6;

/// The work of a directory in the paths of entries, which is hashed and put in order.
pub(crate) const DIRECTORY: u64 = 600;

/// Reading the packages of a layer may take one part of this many of what the rest may take. It does not take from
/// that: what is found must not depend on whether packages are read. Together they stay below what a layer may cost.
const PACKAGES: u64 = 4;

/// How many bytes for each byte of the blob are scanned without counting what the engine begins in them, which takes a
/// tenth of a scan. At the most that adds a quarter to what a layer may cost, and few layers have more bytes.
const UNCOUNTED_PER_BYTE: u64 = 4;

/// The most that counts for a byte of a window.
const MOST_PER_BYTE: u64 = 1_000;

/// The work of decompressing `bytes`.
pub(crate) fn decompressed(bytes: &[u8]) -> u64 {
    let count = bytes.len() as u64;
    if is_zeros(bytes) { count / ZEROS } else { count * DECOMPRESSED }
}

/// The work of filling in the zeros of a hole of `count` bytes in a sparse file.
pub(crate) fn filled(count: u64) -> u64 {
    count / ZEROS
}

/// The work of a file with a path of `bytes` bytes.
pub(crate) fn named(bytes: usize) -> u64 {
    bytes as u64 * NAME
}

/// The work of scanning `bytes`, in which there are `ends` of matches.
pub(crate) fn scanned(bytes: &[u8], ends: u64) -> u64 {
    bytes.len() as u64 + ends * END
}

/// The work of scanning `bytes` beyond that, in which the engine begins as many patterns as `begun`.
pub(crate) fn begun(bytes: &[u8], begun: u64) -> u64 {
    characters(bytes) * CHARACTER + begun * BEGUN
}

/// The number of characters of ASCII in `bytes`, white space apart, that differ from the byte before them. It is
/// counted in sums that fit into a byte, so the compiler makes wide instructions of it.
fn characters(bytes: &[u8]) -> u64 {
    const AT_ONCE: usize = u8::MAX as usize;
    let after = bytes.get(1..).unwrap_or_default();
    let counts = |(byte, before): (&u8, &u8)| u8::from(byte.is_ascii_graphic() & (byte != before));
    let of_chunk = |(chunk, before): (&[u8], &[u8])| chunk.iter().zip(before).map(counts).sum::<u8>();
    after.chunks(AT_ONCE).zip(bytes.chunks(AT_ONCE)).map(|pair| u64::from(of_chunk(pair))).sum()
}

/// The work of one layer so far, and its limit.
#[derive(Debug)]
pub struct LayerWork {
    /// What every layer may take, whatever its size.
    base: u64,
    per_byte: u64,
    state: Mutex<State>,
    scanned: Condvar,
}

#[derive(Debug)]
struct State {
    limit: u64,
    /// The bytes of the blob so far.
    blob_bytes: u64,
    /// The most of them that permit work.
    most_bytes: u64,
    spent: u64,
    /// The bytes in which it is not counted what the engine begins.
    uncounted: u64,
    /// The most that the windows that are being scanned, and what else is going on, can take.
    reserved: u64,
    is_exceeded: bool,
}

/// The most that the work of a window, or of a file, counts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reserved {
    most: u64,
    /// Whether the next window would have to wait for this one: the reading thread then scans it itself, because
    /// handing each window to another thread and waiting for it takes longer.
    pub(crate) is_near_limit: bool,
    /// Whether it is to be counted what the engine begins.
    pub(crate) counts_begun: bool,
}

impl LayerWork {
    /// No work yet, and what `limits` permit.
    pub fn new(limits: &Limits) -> LayerWork {
        LayerWork::permitting(limits.layer_work, limits.layer_work_per_byte)
    }

    /// No work yet, and what `limits` permit for reading the packages of a layer, beside all other work on it.
    pub(crate) fn for_packages(limits: &Limits) -> LayerWork {
        LayerWork::permitting(limits.layer_work / PACKAGES, limits.layer_work_per_byte / PACKAGES)
    }

    fn permitting(base: u64, per_byte: u64) -> LayerWork {
        let state = State {
            limit: base,
            blob_bytes: 0,
            most_bytes: u64::MAX,
            spent: 0,
            uncounted: 0,
            reserved: 0,
            is_exceeded: false,
        };
        LayerWork { base, per_byte, state: Mutex::new(state), scanned: Condvar::new() }
    }

    /// The bytes of the blob so far, or of the compressed archive that it is in.
    pub(crate) fn blob_bytes(&self) -> u64 {
        self.lock().blob_bytes
    }

    /// Counts bytes of the blob, each of which permits more work.
    pub(crate) fn add_blob_bytes(&self, count: u64) {
        let mut state = self.lock();
        let count = count.min(state.most_bytes.saturating_sub(state.blob_bytes));
        state.blob_bytes = state.blob_bytes.saturating_add(count);
        state.limit = state.limit.saturating_add(count.saturating_mul(self.per_byte));
    }

    /// At most `bytes` bytes of the blob permit work: there are no more of them, however many they are decompressed to.
    pub(crate) fn permit_at_most(&self, bytes: u64) {
        self.lock().most_bytes = bytes;
    }

    /// Counts work of the reading thread. Returns whether the layer is within its limit.
    pub(crate) fn add(&self, work: u64) -> bool {
        let mut state = self.lock();
        state.spent = state.spent.saturating_add(work);
        self.decide(state)
    }

    /// Reserves the work of scanning `bytes` bytes, of reading keys in them and of trying passwords on key stores;
    /// `None` if the layer has reached its limit.
    pub(crate) fn reserve(&self, bytes: usize) -> Option<Reserved> {
        let keys = effort::most_work(bytes).saturating_add(rounds::most_work(bytes));
        let reserved = self.reserve_most((bytes as u64).saturating_mul(MOST_PER_BYTE).saturating_add(keys))?;
        Some(Reserved { counts_begun: !self.lock().leave_uncounted(bytes as u64), ..reserved })
    }

    /// Reserves `most` work; `None` if the layer has reached its limit.
    pub(crate) fn reserve_most(&self, most: u64) -> Option<Reserved> {
        self.decide(self.lock()).then(|| self.reserve_more(most))
    }

    /// Reserves `most` work beside what was just reserved, so that it is not waited for.
    pub(crate) fn reserve_more(&self, most: u64) -> Reserved {
        let mut state = self.lock();
        state.reserved = state.reserved.saturating_add(most);
        let next = state.spent.saturating_add(state.reserved);
        Reserved { most, is_near_limit: next > state.limit, counts_begun: true }
    }

    /// Counts the work that was reserved.
    pub(crate) fn finish(&self, reserved: Reserved, work: u64) {
        let mut state = self.lock();
        state.reserved -= reserved.most;
        state.spent = state.spent.saturating_add(work.min(reserved.most));
        drop(state);
        self.scanned.notify_all();
    }

    /// The work beyond what the bytes of the blob permit.
    pub(crate) fn extra(&self) -> u64 {
        let state = self.lock();
        let by_bytes = state.limit.saturating_sub(self.base);
        // The last window may have taken more than was left.
        state.spent.saturating_sub(by_bytes).min(self.base)
    }

    /// The gap of a layer that has reached its limit.
    pub(crate) fn gap(&self) -> Option<Gap> {
        self.lock().is_exceeded.then(too_much_work)
    }

    /// Whether the layer is within its limit, whatever the windows take that are being scanned.
    fn decide<'s>(&'s self, mut state: MutexGuard<'s, State>) -> bool {
        loop {
            if state.is_exceeded || state.spent > state.limit {
                // Nothing of the layer is scanned from here on, though more bytes of the blob would permit it.
                state.is_exceeded = true;
                return false;
            }
            if state.spent.saturating_add(state.reserved) <= state.limit {
                return true;
            }
            state = wait(&self.state, state, &self.scanned, std::thread::yield_now);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whether `bytes` more may be scanned without counting what is begun in them.
    fn leave_uncounted(&mut self, bytes: u64) -> bool {
        let sum = self.uncounted.saturating_add(bytes);
        let is_permitted = sum <= self.blob_bytes.saturating_mul(UNCOUNTED_PER_BYTE);
        if is_permitted {
            self.uncounted = sum;
        }
        is_permitted
    }
}

/// The gap of what was not read because it takes too much work.
pub(crate) fn too_much_work() -> Gap {
    let detail = "the layer takes more work than one of its size may; the rest was not scanned";
    Gap::new(GapReason::LayerTooLarge, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn work(limit: u64, per_byte: u64) -> LayerWork {
        LayerWork::new(&Limits { layer_work: limit, layer_work_per_byte: per_byte, ..Limits::default() })
    }

    #[test]
    fn extra_work_is_what_the_bytes_do_not_permit() {
        let work = work(100, 10);
        work.add_blob_bytes(2);
        work.add(15);
        assert_eq!(work.extra(), 0);
        work.add(15);
        assert_eq!(work.extra(), 10);
        work.add(1_000);
        assert_eq!(work.extra(), 100, "a layer takes no more than its limit");
    }

    #[test]
    fn zeros_cost_little() {
        let mut bytes = vec![0; 5_000];
        assert_eq!(decompressed(&bytes), 2_500);
        bytes[4_999] = 1;
        assert_eq!(decompressed(&bytes), 10_000);
    }

    #[test]
    fn characters_begun_patterns_and_ends_cost_more_than_other_bytes() {
        assert_eq!(begun(b"  \n\x7f\xc3\x80 \0", 0), 0);
        assert_eq!(begun(b"0aaZ~", 0), 3 * CHARACTER);
        assert_eq!(begun(&[b'x'; 1_000], 0), 0);
        assert_eq!(characters(&b"xy".repeat(500)), 999);
        assert_eq!(begun(b"1", 3), 3 * BEGUN);
        assert_eq!(scanned(b"1", 2), 1 + 2 * END);
    }

    #[test]
    fn what_is_begun_is_counted_in_layers_of_many_more_bytes_than_their_blobs() {
        let work = work(1 << 40, 0);
        let counts = |bytes: usize| work.reserve(bytes).unwrap().counts_begun;
        assert!(counts(1));
        work.add_blob_bytes(100);
        assert!(!counts(300) && !counts(100) && counts(1));
        work.add_blob_bytes(1);
        assert!(counts(5) && !counts(4) && counts(1));
    }

    #[test]
    fn bytes_of_the_blob_permit_work() {
        let work = work(100, 10);
        assert!(work.add(100));
        work.add_blob_bytes(1);
        assert!(work.add(10));
        assert_eq!(work.gap(), None);
        assert!(!work.add(1));
        work.add_blob_bytes(100);
        assert!(!work.add(0) && work.reserve(0).is_none(), "it does not go on after its limit");
        assert_eq!(work.gap(), Some(too_much_work()));
    }

    #[test]
    fn no_more_bytes_permit_work_than_there_are() {
        let work = work(100, 10);
        work.permit_at_most(3);
        work.add_blob_bytes(2);
        work.add_blob_bytes(1_000);
        assert_eq!(work.blob_bytes(), 3);
        assert!(work.add(130) && !work.add(1));
    }

    #[test]
    fn the_decision_waits_for_windows_that_could_reach_the_limit() {
        let work = work(1_000, 0);
        let first = work.reserve_most(1_000).unwrap();
        // Together they could take more than the limit, so the second waits for the first.
        std::thread::scope(|scope| {
            let second = scope.spawn(|| work.reserve_most(1_000).is_some());
            work.finish(first, 999);
            assert!(second.join().unwrap());
        });
        let work = self::work(1_000, 0);
        let first = work.reserve_most(1_200).unwrap();
        std::thread::scope(|scope| {
            let second = scope.spawn(|| work.reserve_most(200).is_some());
            work.finish(first, 1_001);
            assert!(!second.join().unwrap());
        });
    }
}
