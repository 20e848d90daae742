//! Keyed hashes of the windows of a text, by which a secret is looked for whose bytes are not known any more.
//!
//! A hash has 16 bits: it says where a text may have the secret, and its fingerprint says whether it does. Under the
//! public key of fingerprints the hash tells no more than the fingerprint, which can be guessed at as well.

use crate::secret::FingerprintKey;

/// The bytes at the beginning of a secret that have a hash of their own. Shorter secrets may be ordinary words, and are
/// not looked for.
pub const HEAD: usize = 12;

/// Hashes of windows under one key: polynomials modulo 2^64, of which the upper bits count.
#[derive(Clone, Debug)]
pub struct WindowHash {
    base: u64,
    factor: u64,
}

/// The sums of a text from its start to each of its bytes: the hash of any window takes two of them.
#[derive(Debug)]
pub struct WindowSums<'h> {
    hash: &'h WindowHash,
    sums: Vec<u64>,
    powers: Vec<u64>,
}

impl WindowHash {
    /// The hash under `key`.
    pub fn new(key: &FingerprintKey) -> WindowHash {
        let number = |name: &[u8]| {
            let digits = key.fingerprint(name);
            // An even number would lose bits.
            u64::from_str_radix(digits.get(..16).unwrap_or_default(), 16).unwrap_or_default() | 1
        };
        WindowHash { base: number(b"layersift window base"), factor: number(b"layersift window factor") }
    }

    /// The hash of `bytes`.
    pub fn of(&self, bytes: &[u8]) -> u16 {
        self.short(bytes.iter().fold(0, |sum, byte| self.next(sum, *byte)))
    }

    /// Sums for windows of at most `longest` bytes.
    pub fn sums(&self, longest: usize) -> WindowSums<'_> {
        let powers = (0..longest).scan(1u64, |power, _| {
            *power = power.wrapping_mul(self.base);
            Some(*power)
        });
        WindowSums { hash: self, sums: Vec::new(), powers: std::iter::once(1).chain(powers).collect() }
    }

    fn next(&self, sum: u64, byte: u8) -> u64 {
        sum.wrapping_mul(self.base).wrapping_add(u64::from(byte) + 1)
    }

    fn short(&self, sum: u64) -> u16 {
        // The upper 16 of 64 bits.
        (sum.wrapping_mul(self.factor) >> 48) as u16
    }
}

impl WindowSums<'_> {
    /// Takes the sums of `text`, in place of those of the text before it.
    pub fn take(&mut self, text: &[u8]) {
        self.sums.clear();
        self.sums.push(0);
        let mut sum = 0;
        self.sums.extend(text.iter().map(|byte| {
            sum = self.hash.next(sum, *byte);
            sum
        }));
    }

    /// The hash of the `length` bytes at `at`; `None` if the text has fewer, or the window is longer than announced.
    pub fn window(&self, at: usize, length: usize) -> Option<u16> {
        let (start, end) = (self.sums.get(at)?, self.sums.get(at + length)?);
        Some(self.hash.short(end.wrapping_sub(start.wrapping_mul(*self.powers.get(length)?))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_has_the_hash_of_its_bytes() {
        let hash = WindowHash::new(&FingerprintKey::default());
        let text = b"the quick brown fox \xff\0 jumps over the lazy dog";
        let mut sums = hash.sums(20);
        for text in [&text[..], &text[5..]] {
            sums.take(text);
            for (at, length) in [(0, 0), (0, 1), (0, 20), (3, 12), (text.len() - 12, 12)] {
                assert_eq!(sums.window(at, length), Some(hash.of(&text[at..at + length])));
            }
            assert_eq!(sums.window(text.len() - 11, 12), None);
            assert_eq!(sums.window(0, 21), None);
        }
        let other = WindowHash::new(&FingerprintKey::new(*b"another key"));
        let differ = (0..text.len() - 12).filter(|at| hash.of(&text[*at..]) != other.of(&text[*at..])).count();
        assert!(differ > 20, "{differ}");
    }
}
