//! The work of the analysis of one file, and its limit: the same file always stops at the same place.
//!
//! The unit is that of [`crate::layer_work`], a byte that is read at full speed.

/// The most work for each byte of a file, for any file, and for one however large.
const PER_BYTE: u64 = 64;
const LEAST: u64 = 1 << 20;
const MOST: u64 = 256 << 20;

/// The work of an entry of a table: a section, a symbol or a relocation.
pub(super) const ENTRY: u64 = 80;
/// The work of a symbol whose name is kept or looked up.
pub(super) const NAME: u64 = 300;
/// The work of a byte of code that is searched for references.
pub(super) const SEARCHED: u64 = 2;
/// The work of looking up an address.
pub(super) const LOOKUP: u64 = 60;
/// The work of a byte of x86-64 code that is run, and of an instruction of AArch64.
pub(super) const BYTE_RUN: u64 = 50;
pub(super) const WORD_RUN: u64 = 80;
/// The work of a call of a function that matters.
pub(super) const CALL: u64 = 1_000;

/// The most work on a file of `length` bytes.
pub(super) fn most(length: usize) -> u64 {
    (length as u64).saturating_mul(PER_BYTE).saturating_add(LEAST).min(MOST)
}

/// What was spent on a file, and what is left.
#[derive(Debug)]
pub(super) struct Effort {
    most: u64,
    spent: u64,
    is_exceeded: bool,
}

impl Effort {
    pub(super) fn new(length: usize) -> Effort {
        Effort { most: most(length), spent: 0, is_exceeded: false }
    }

    /// Spends `work`. Returns whether there was as much left; if not, none is left from then on.
    pub(super) fn take(&mut self, work: u64) -> bool {
        self.is_exceeded |= work > self.most - self.spent;
        if !self.is_exceeded {
            self.spent += work;
        }
        !self.is_exceeded
    }

    pub(super) fn spent(&self) -> u64 {
        self.spent
    }

    pub(super) fn is_exceeded(&self) -> bool {
        self.is_exceeded
    }
}
