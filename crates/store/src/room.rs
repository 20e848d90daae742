//! Room in memory for the texts of an answer.

/// What one thing takes beside its texts, roughly.
const ONE: usize = 1 << 10;

/// How many bytes an answer may still take.
#[derive(Debug)]
pub(super) struct Room {
    left: usize,
}

impl Room {
    /// Room for `bytes`.
    pub(super) fn new(bytes: usize) -> Room {
        Room { left: bytes }
    }

    /// Takes room for one thing with texts of `bytes`; `false` where there is not enough.
    pub(super) fn take(&mut self, bytes: usize) -> bool {
        match self.left.checked_sub(bytes.saturating_add(ONE)) {
            Some(left) => {
                self.left = left;
                true
            }
            None => false,
        }
    }
}
