//! What a compressed stream may decompress to, by its own bytes: a few hundred kilobytes can be petabytes.
//!
//! Both sides of a decoder count. [`CompressedBytes`] knows how many bytes the decoder has taken, and [`Bounded`] ends
//! what it gives in an error. Bytes are read in whole buffers, so where that is does not depend on the pieces that a
//! pipe or a network delivers.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The work of decompressing a byte that is not zero. A row of zeros is one for each.
const WORK: u64 = 2;

/// The bytes of a compressed stream that were read so far.
#[derive(Clone, Debug, Default)]
pub struct CompressedBytes(Arc<AtomicU64>);

impl CompressedBytes {
    /// The number of bytes.
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Counts the bytes that are read from `input`.
    pub fn counting<R: Read>(&self, input: R) -> impl Read + use<R> {
        Counting { input: WholeReads::new(input), read: self.clone() }
    }
}

struct Counting<R> {
    input: WholeReads<R>,
    read: CompressedBytes,
}

impl<R: Read> Read for Counting<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(buffer)?;
        self.read.0.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

/// A decompressed stream that ends in an error once it has taken more work than its compressed bytes permit.
pub struct Bounded<R> {
    plain: R,
    compressed: CompressedBytes,
    base: u64,
    per_byte: u64,
    spent: u64,
    is_over: Arc<AtomicBool>,
}

/// The work that decompressing a layer may take whatever its size, where nothing but its bytes is looked at.
const LAYER: u64 = 512 << 20;

/// The work that each byte of it permits on top of that.
const LAYER_PER_BYTE: u64 = 1_536;

impl<R: Read> Bounded<R> {
    /// Permits what a layer may take, of which `compressed` are the bytes.
    pub fn layer(plain: R, compressed: CompressedBytes) -> Bounded<R> {
        Bounded::new(plain, compressed, LAYER, LAYER_PER_BYTE)
    }

    /// Permits `base` work, and `per_byte` for each of the bytes `compressed` that `plain` is decompressed from.
    pub fn new(plain: R, compressed: CompressedBytes, base: u64, per_byte: u64) -> Bounded<R> {
        Bounded { plain, compressed, base, per_byte, spent: 0, is_over: Arc::default() }
    }

    /// Whether it has ended in that error, once it has.
    pub fn is_over(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.is_over)
    }
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let permitted = self.compressed.count().saturating_mul(self.per_byte).saturating_add(self.base);
        if self.spent > permitted {
            self.is_over.store(true, Ordering::Relaxed);
            return Err(io::Error::other(
                "it decompresses to far more than an archive of its size may; the rest was not read",
            ));
        }
        let count = self.plain.read(buffer)?;
        let bytes = buffer.get(..count).unwrap_or_default();
        let work = if is_zeros(bytes) { count as u64 } else { WORK * count as u64 };
        self.spent = self.spent.saturating_add(work);
        Ok(count)
    }
}

/// A reader that fills whole buffers, unless its input ends or fails.
pub struct WholeReads<R> {
    input: R,
    /// The error after the bytes that were read.
    failure: Option<io::Error>,
}

impl<R: Read> WholeReads<R> {
    /// Reads `input` in whole buffers.
    pub fn new(input: R) -> WholeReads<R> {
        WholeReads { input, failure: None }
    }
}

impl<R: Read> Read for WholeReads<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Some(error) = self.failure.take() {
            return Err(error);
        }
        match read_until_error(&mut self.input, buffer) {
            (0, Some(error)) => Err(error),
            (count, failure) => {
                self.failure = failure;
                Ok(count)
            }
        }
    }
}

/// Fills `space`. Unlike [`read_full`](super::read_full), returns the bytes that were read before an error, too.
pub fn read_until_error(input: &mut (impl Read + ?Sized), space: &mut [u8]) -> (usize, Option<io::Error>) {
    let mut filled = 0;
    while let Some(rest) = space.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match input.read(rest) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (filled, Some(error)),
        }
    }
    (filled, None)
}

/// Whether all of `bytes` are zeros. Most other bytes show it early.
pub fn is_zeros(bytes: &[u8]) -> bool {
    const AT_ONCE: usize = 4096;
    bytes.chunks(AT_ONCE).all(|chunk| chunk.iter().fold(0, |all, byte| all | byte) == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives one byte at a time, and an error at the end.
    struct Pieces(Vec<u8>);

    impl Read for Pieces {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let Some(byte) = self.0.pop() else { return Err(io::Error::other("the end")) };
            buffer[0] = byte;
            Ok(1)
        }
    }

    #[test]
    fn buffers_are_filled_and_an_error_comes_after_the_bytes() {
        let compressed = CompressedBytes::default();
        let mut reader = compressed.counting(Pieces(vec![7; 5]));
        let mut buffer = [0; 4];
        assert_eq!((reader.read(&mut buffer).unwrap(), compressed.count()), (4, 4));
        assert_eq!((reader.read(&mut buffer).unwrap(), compressed.count()), (1, 5));
        assert_eq!(reader.read(&mut buffer).unwrap_err().to_string(), "the end");
    }

    #[test]
    fn what_the_compressed_bytes_permit_is_read_and_no_more() {
        for (byte, expected) in [(1, 60), (0, 120)] {
            let compressed = CompressedBytes::default();
            io::copy(&mut compressed.counting(&[0_u8; 10][..]), &mut io::sink()).unwrap();
            let mut reader = Bounded::new(io::repeat(byte), compressed, 17, 10);
            let (mut buffer, mut read) = ([0; 10], 0);
            let error = loop {
                match reader.read(&mut buffer) {
                    Ok(count) => read += count,
                    Err(error) => break error,
                }
            };
            assert_eq!(read, expected, "{error}");
            assert!(reader.read(&mut buffer).is_err());
        }
    }

    #[test]
    fn zeros_are_told() {
        assert!(is_zeros(&[]) && is_zeros(&[0; 5_000]));
        let mut bytes = vec![0; 5_000];
        bytes[4_999] = 1;
        assert!(!is_zeros(&bytes));
    }
}
