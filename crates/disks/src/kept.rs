//! What may be in memory of the records of a store, in bytes. A store has any number of databases and containers, and
//! most of what they hold stays on the disk.

/// The most bytes that the records of all databases of a store take: keys, paths, and values that are not mapped.
pub(crate) const RECORDS: usize = 64 << 20;

/// The most bytes that containers, volumes, layers of images and problems take.
pub(crate) const SETS: usize = 32 << 20;

/// There is more than fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the records of the store have more keys and values than those of any engine")]
pub struct TooLarge;

/// Counts what is kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kept {
    taken: usize,
    most: usize,
}

impl Kept {
    /// Nothing yet, of `most` bytes.
    pub(crate) fn new(most: usize) -> Kept {
        Kept { taken: 0, most }
    }

    /// Counts `bytes` more.
    ///
    /// # Errors
    /// If they do not fit. They are not counted then.
    pub(crate) fn keep(&mut self, bytes: usize) -> Result<(), TooLarge> {
        let taken = self.taken.checked_add(bytes).filter(|taken| *taken <= self.most).ok_or(TooLarge)?;
        self.taken = taken;
        Ok(())
    }

    /// The bytes that are kept.
    pub(crate) fn taken(&self) -> usize {
        self.taken
    }

    /// Gives back what was kept after there were `taken`.
    pub(crate) fn back_to(&mut self, taken: usize) {
        self.taken = self.taken.min(taken);
    }
}
