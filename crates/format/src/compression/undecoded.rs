//! The bytes of a compressed stream that decompression does not give.

use std::sync::{Mutex, PoisonError};

/// The most bytes that are kept, in total. The table of contents of a zstd:chunked layer is the largest of them.
const MAX_BYTES: usize = 16 << 20;

/// Collects the bytes of a compressed stream that decompression does not give: the extra field, name and comment of
/// gzip, skippable frames of Zstandard, and bytes after the last stream.
#[derive(Debug, Default)]
pub struct Undecoded(Mutex<Collected>);

/// A piece of such bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UndecodedPart {
    /// What the bytes are, such as `gzip comment`.
    pub name: &'static str,
    /// The bytes.
    pub bytes: Vec<u8>,
}

#[derive(Debug, Default)]
struct Collected {
    parts: Vec<UndecodedPart>,
    bytes: usize,
    dropped: u64,
}

impl Undecoded {
    /// Takes the parts that were collected, and the number of bytes that were dropped because there were too many.
    pub fn take(&self) -> (Vec<UndecodedPart>, u64) {
        let collected = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        (collected.parts, collected.dropped)
    }

    /// Begins a part.
    pub(super) fn begin(&self, name: &'static str) {
        let mut collected = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Streams of many members often repeat the same field: small parts of one kind are joined.
        const SMALL: usize = 4 << 10;
        match collected.parts.last_mut() {
            Some(last) if last.name == name && last.bytes.len() < SMALL => last.bytes.push(b'\n'),
            _ => collected.parts.push(UndecodedPart { name, bytes: Vec::new() }),
        }
    }

    /// Adds bytes to the part that began last.
    pub(super) fn push(&self, bytes: &[u8]) {
        let mut collected = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = bytes.len().min(MAX_BYTES.saturating_sub(collected.bytes));
        collected.bytes += kept;
        collected.dropped += (bytes.len() - kept) as u64;
        if let Some(last) = collected.parts.last_mut() {
            last.bytes.extend_from_slice(&bytes[..kept]);
        }
    }
}
