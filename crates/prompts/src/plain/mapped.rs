//! Bytes that were made of a text, and where in it each of them comes from.

use std::ops::Range;

use crate::json::offset;

/// What stands between bytes that do not stand side by side in the text. No rule finds anything across it: white space
/// ends at it as well as what is quoted, what is in braces and what a command is piped into.
const EDGE: &[u8] = b"\n|;&<>{}\n";

/// Bytes from an offset on that come one by one from an offset of the text. There may be one for each byte.
#[derive(Clone, Copy, Debug)]
struct Origin {
    from: u32,
    origin: u32,
}

impl Origin {
    fn new(from: usize, origin: usize) -> Origin {
        Origin { from: offset(from), origin: offset(origin) }
    }

    fn from(self) -> usize {
        self.from as usize
    }

    fn origin(self) -> usize {
        self.origin as usize
    }

    /// Where the byte at an offset comes from.
    fn of(self, at: usize) -> usize {
        self.origin() + (at - self.from())
    }
}

/// Bytes with their origins in a text.
#[derive(Clone, Debug, Default)]
pub(super) struct Mapped {
    bytes: Vec<u8>,
    /// Each holds until the next.
    origins: Vec<Origin>,
    /// The pieces that edges separate.
    pieces: Vec<Piece>,
}

/// Bytes that stand side by side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// Where it begins.
    pub(super) start: usize,
    /// Whether its letters were turned around or exchanged.
    pub(super) is_turned: bool,
}

impl Mapped {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The last byte of the piece that begins at `start`.
    pub(super) fn last_from(&self, start: usize) -> Option<u8> {
        self.bytes.get(start..).and_then(<[u8]>::last).copied()
    }

    pub(super) fn push(&mut self, byte: u8, origin: usize) {
        self.extend(&[byte], origin);
    }

    /// Adds bytes that come one by one from `origin` on.
    pub(super) fn extend(&mut self, bytes: &[u8], origin: usize) {
        let at = self.bytes.len();
        if !bytes.is_empty() && self.origins.last().is_none_or(|last| last.of(at) != origin) {
            self.origins.push(Origin::new(at, origin));
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// Begins a piece that comes from elsewhere in the text: what follows is read from `next` on.
    pub(super) fn begin_piece(&mut self, next: usize, is_turned: bool) {
        let end = self.origin_of(self.bytes.len());
        if let Some((last, others)) = EDGE.split_last() {
            self.extend(others, end);
            self.push(*last, next);
        }
        self.pieces.push(Piece { start: self.bytes.len(), is_turned });
    }

    /// The pieces with their bytes.
    pub(super) fn pieces(&self) -> impl Iterator<Item = (Piece, &[u8])> {
        let ends = self.pieces.iter().skip(1).map(|next| next.start - EDGE.len()).chain([self.bytes.len()]);
        self.pieces.iter().zip(ends).map(|(piece, end)| (*piece, self.bytes.get(piece.start..end).unwrap_or_default()))
    }

    pub(super) fn origin_of(&self, at: usize) -> usize {
        let after = self.origins.partition_point(|one| one.from() <= at);
        let origin = after.checked_sub(1).and_then(|index| self.origins.get(index));
        origin.map_or(0, |one| one.of(at))
    }

    /// The bytes of the text that the bytes in `span` come from, which may have been turned around.
    pub(super) fn origin(&self, span: &Range<usize>) -> Range<usize> {
        let first = self.origin_of(span.start);
        let last = self.origin_of(span.end.saturating_sub(1).max(span.start));
        if last < first {
            return last..self.origin_of(span.start.saturating_sub(1)).max(first);
        }
        first..self.origin_after(span.end, last).max(last)
    }

    /// The origin of the first byte from `at` on that does not come from `last` as well: one place may be read as
    /// several bytes.
    fn origin_after(&self, at: usize, last: usize) -> usize {
        let next = self.origin_of(at);
        if next != last {
            return next;
        }
        let after = self.origins.partition_point(|one| one.from() <= at);
        let mut others = self.origins.iter().skip(after).map(|one| one.origin());
        others.find(|origin| *origin != last).unwrap_or(last + 1)
    }

    /// The same bytes, whose origins are those of the bytes of `inner` that they come from.
    pub(super) fn through(mut self, inner: &Mapped) -> Mapped {
        let mut origins = Vec::with_capacity(self.origins.len());
        for (index, own) in self.origins.iter().enumerate() {
            let (from, origin) = (own.from(), own.origin());
            let next = self.origins.get(index + 1).map_or(self.bytes.len(), |next| next.from());
            origins.push(Origin::new(from, inner.origin_of(origin)));
            let after = inner.origins.partition_point(|one| one.from() <= origin);
            let inside = inner.origins.iter().skip(after).take_while(|one| one.from() - origin < next - from);
            origins.extend(inside.map(|one| Origin::new(from + (one.from() - origin), one.origin())));
        }
        self.origins = origins;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_stand_apart_and_know_where_they_come_from() {
        let mut mapped = Mapped::default();
        mapped.begin_piece(3, false);
        mapped.extend(b"one", 3);
        mapped.push(b'\n', 6);
        mapped.begin_piece(20, true);
        [b'o', b'w', b't'].into_iter().zip([19, 18, 17]).for_each(|(byte, origin)| mapped.push(byte, origin));
        let pieces: Vec<&[u8]> = mapped.pieces().map(|(_, bytes)| bytes).collect();
        assert_eq!(pieces, [&b"one\n"[..], b"owt"]);
        let origin = |what: &[u8]| {
            let start = memchr::memmem::find(mapped.bytes(), what).unwrap();
            mapped.origin(&(start..start + what.len()))
        };
        assert_eq!(origin(b"ne"), 4..6);
        assert_eq!(origin(b"owt"), 17..20);
        assert_eq!(origin(b"wt"), 17..19);
    }

    #[test]
    fn a_place_belongs_to_all_bytes_that_it_is_read_as() {
        let mut mapped = Mapped::default();
        [4, 4, 4, 9, 9, 12].into_iter().for_each(|origin| mapped.push(b'x', origin));
        assert_eq!(mapped.origin(&(0..1)), 4..9);
        assert_eq!(mapped.origin(&(1..4)), 4..12);
    }

    #[test]
    fn origins_go_through_two_levels_byte_by_byte() {
        let mut inner = Mapped::default();
        inner.extend(b"ab", 10);
        inner.push(b'c', 20);
        inner.extend(b"de", 30);
        let mut outer = Mapped::default();
        outer.extend(b"bcd", 1);
        let outer = outer.through(&inner);
        assert_eq!((0..3).map(|at| outer.origin_of(at)).collect::<Vec<_>>(), [11, 20, 30]);
    }
}
