//! Texts that are looked for together, in one pass over the bytes whatever their number.
//!
//! Each text is looked up by a piece of it, of eight bytes or of all that it has. That is one that as few others as
//! possible are looked up by, so that two texts with the same beginning are not compared wherever it is.

use std::collections::{BTreeMap, HashMap};

/// The most bytes of a piece.
const PIECE: usize = size_of::<u64>();

/// The most pieces of a text that are considered.
const CONSIDERED: usize = 256;

/// The bits of a filter for each piece, and the fewest in all, as powers of two.
const BITS: u32 = 4;
const FEWEST_BITS: u32 = 10;

/// Texts to look for.
#[derive(Default)]
pub(crate) struct Needles {
    texts: Vec<Vec<u8>>,
    longest: usize,
    /// By the length of pieces.
    tables: BTreeMap<usize, Table>,
}

/// The texts that are looked up by pieces of one length.
struct Table {
    /// For each piece, the texts and where it is in them.
    pieces: HashMap<u64, Vec<(usize, usize)>>,
    /// A bit for each hash of a piece: few bytes of a blob begin one.
    filter: Vec<u64>,
    shift: u32,
}

impl Needles {
    /// Looks for `texts`, of which those without bytes are never found.
    pub(crate) fn new(texts: Vec<Vec<u8>>) -> Needles {
        let mut pieces: BTreeMap<usize, HashMap<u64, Vec<(usize, usize)>>> = BTreeMap::new();
        for (index, text) in texts.iter().enumerate().filter(|(_, text)| !text.is_empty()) {
            let length = text.len().min(PIECE);
            let known = pieces.entry(length).or_default();
            let users = |at: &usize| known.get(&piece(text, *at, length)).map_or(0, Vec::len);
            let places = 0..=(text.len() - length).min(CONSIDERED);
            let place = places.clone().find(|at| users(at) == 0).or_else(|| places.min_by_key(users)).unwrap_or(0);
            known.entry(piece(text, place, length)).or_default().push((index, place));
        }
        let longest = texts.iter().map(Vec::len).max().unwrap_or(0);
        let tables = pieces.into_iter().map(|(length, pieces)| (length, Table::new(pieces))).collect();
        Needles { texts, longest, tables }
    }

    /// The number of texts.
    pub(crate) fn len(&self) -> usize {
        self.texts.len()
    }

    /// Whether nothing is looked for.
    pub(crate) fn is_empty(&self) -> bool {
        self.texts.is_empty()
    }

    /// The bytes of the longest text.
    pub(crate) fn longest(&self) -> usize {
        self.longest
    }

    /// The bytes of the text `index`.
    pub(crate) fn length(&self, index: usize) -> usize {
        self.texts.get(index).map_or(0, Vec::len)
    }

    /// Whether one of the texts is in `bytes`.
    pub(crate) fn is_in(&self, bytes: &[u8]) -> bool {
        let mut is_in = false;
        self.find(bytes, |_, _| {
            is_in = true;
            false
        });
        is_in
    }

    /// Calls `found` with each text in `bytes` and where it begins, in any order, until it returns `false`.
    pub(crate) fn find(&self, bytes: &[u8], mut found: impl FnMut(usize, usize) -> bool) {
        for (&length, table) in &self.tables {
            for at in 0..(bytes.len() + 1).saturating_sub(length) {
                for &(index, place) in table.at(piece(bytes, at, length)) {
                    let Some(start) = at.checked_sub(place) else { continue };
                    let text = &self.texts[index];
                    if bytes[start..].starts_with(text) && !found(index, start) {
                        return;
                    }
                }
            }
        }
    }
}

impl Table {
    fn new(pieces: HashMap<u64, Vec<(usize, usize)>>) -> Table {
        let bits = (pieces.len().next_power_of_two().trailing_zeros() + BITS).max(FEWEST_BITS);
        let mut table =
            Table { filter: vec![0; 1 << (bits - u64::BITS.trailing_zeros())], shift: u64::BITS - bits, pieces };
        for &piece in table.pieces.keys() {
            let (word, bit) = place(piece, table.shift);
            table.filter[word] |= bit;
        }
        table
    }

    fn at(&self, piece: u64) -> &[(usize, usize)] {
        let (word, bit) = place(piece, self.shift);
        if self.filter[word] & bit == 0 {
            return &[];
        }
        self.pieces.get(&piece).map_or(&[], Vec::as_slice)
    }
}

/// The word and the bit of a piece in a filter.
fn place(piece: u64, shift: u32) -> (usize, u64) {
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let hash = piece.wrapping_mul(FACTOR) >> shift;
    ((hash / u64::from(u64::BITS)) as usize, 1 << (hash % u64::from(u64::BITS)))
}

/// The `length` bytes at `at`, of which there are at most [`PIECE`].
fn piece(bytes: &[u8], at: usize, length: usize) -> u64 {
    if let Some(whole) = bytes[at..].first_chunk::<PIECE>() {
        let unused = u64::BITS - 8 * length as u32;
        return u64::from_le_bytes(*whole) << unused >> unused;
    }
    let mut padded = [0; PIECE];
    padded[..length].copy_from_slice(&bytes[at..at + length]);
    u64::from_le_bytes(padded)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(needles: &Needles, bytes: &[u8]) -> Vec<(usize, usize)> {
        let mut found = Vec::new();
        needles.find(bytes, |index, at| {
            found.push((index, at));
            true
        });
        found.sort_unstable();
        found
    }

    #[test]
    fn texts_that_begin_alike_are_looked_up_by_what_differs() {
        let texts = (0..1_000).map(|number| format!("token_{number:04}_with_the_same_end").into_bytes()).collect();
        let needles = Needles::new(texts);
        let table = &needles.tables[&PIECE];
        assert_eq!(table.pieces.values().map(Vec::len).max(), Some(1));
        assert!(needles.is_in(b"a token_0999_with_the_same_end"));
        assert!(!needles.is_in(b"a token_1000_with_the_same_end"));
    }

    #[test]
    fn texts_that_differ_nowhere_are_found_as_well() {
        let needles = Needles::new(vec![b"aaaaaaaaaa".to_vec(), b"aaaaaaaaaaaa".to_vec(), Vec::new(), b"a".to_vec()]);
        let found = all(&needles, b"xaaaaaaaaaaaa");
        assert_eq!(found.iter().filter(|(index, _)| *index == 0).count(), 3);
        assert_eq!(found.iter().filter(|(index, _)| *index == 1).count(), 1);
        assert_eq!(found.iter().filter(|(index, _)| *index == 3).count(), 12);
        assert!(all(&needles, b"").is_empty() && !Needles::default().is_in(b"a"));
    }

    proptest! {
        #[test]
        fn what_is_found_is_all_that_there_is(
            bytes in prop::collection::vec(b'a'..b'd', 0..200),
            texts in prop::collection::vec(prop::collection::vec(b'a'..b'd', 1..14), 0..20),
        ) {
            let expected: Vec<(usize, usize)> = texts
                .iter()
                .enumerate()
                .flat_map(|(index, text)| {
                    let starts = bytes.windows(text.len()).enumerate().filter(move |(_, window)| *window == &text[..]);
                    starts.map(move |(at, _)| (index, at))
                })
                .collect();
            prop_assert_eq!(all(&Needles::new(texts.clone()), &bytes), expected);
        }
    }
}
