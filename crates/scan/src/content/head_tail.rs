//! Keeps the first and last bytes of a streamed file, for parsers that read tables at either end.

use std::collections::VecDeque;
use std::ops::Range;

use crate::layer::buffer::Bytes;

/// Bytes kept from the start of a file.
const HEAD: u64 = 2 << 20;

/// Bytes kept from the end of a file. Together with [`HEAD`], a file of up to 8 MiB is kept whole.
const TAIL: u64 = 6 << 20;

struct Piece<'a> {
    offset: u64,
    window: Bytes<'a>,
    range: Range<usize>,
}

/// The first and last bytes of a file, as references to their windows, without copying.
///
/// The bytes kept depend only on the file and not on windows, so that a finding names the same symbol however the
/// image is packaged.
#[derive(Default)]
pub struct HeadTail<'a> {
    head: Vec<Piece<'a>>,
    tail: VecDeque<Piece<'a>>,
    length: u64,
}

impl<'a> HeadTail<'a> {
    /// The size in bytes up to which a file is kept whole.
    pub const WHOLE: u64 = HEAD + TAIL;

    /// Adds the next bytes of the file: those in `range` of `window`.
    pub fn push(&mut self, window: &Bytes<'a>, range: Range<usize>) {
        let offset = self.length;
        self.length += range.len() as u64;
        let in_head = HEAD.saturating_sub(offset).min(range.len() as u64) as usize;
        let middle = range.start + in_head;
        if in_head > 0 {
            self.head.push(Piece { offset, window: window.clone(), range: range.start..middle });
        }
        if middle < range.end {
            let offset = offset + in_head as u64;
            self.tail.push_back(Piece { offset, window: window.clone(), range: middle..range.end });
        }
        while self.tail.front().is_some_and(|piece| piece.offset + piece.range.len() as u64 + TAIL <= self.length) {
            self.tail.pop_front();
        }
    }

    /// The first bytes, the last bytes, and the length of the file. If the parts are together as long as the file, they
    /// are the whole file.
    pub fn parts(&self) -> (Vec<u8>, Vec<u8>, u64) {
        let mut head = Vec::new();
        for piece in &self.head {
            head.extend_from_slice(&piece.window[piece.range.clone()]);
        }
        let mut tail = Vec::new();
        for piece in &self.tail {
            let end = piece.offset + piece.range.len() as u64;
            let skip = (self.length - TAIL.min(self.length)).saturating_sub(piece.offset).min(end - piece.offset);
            tail.extend_from_slice(&piece.window[piece.range.start + skip as usize..piece.range.end]);
        }
        (head, tail, self.length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::buffer::Pool;

    fn kept(length: usize, step: usize) -> (Vec<u8>, Vec<u8>, u64) {
        let file: Vec<u8> = (0..length).map(|i| (i / 1024) as u8).collect();
        let pool = Pool::new(step);
        let mut kept = HeadTail::default();
        for piece in file.chunks(step) {
            let mut buffer = pool.take();
            buffer.space()[..piece.len()].copy_from_slice(piece);
            kept.push(&buffer.seal(piece.len()), 0..piece.len());
        }
        kept.parts()
    }

    #[test]
    fn a_file_of_eight_mebibytes_is_whole() {
        let (head, tail, length) = kept(8 << 20, 300_000);
        assert_eq!(head.len() + tail.len(), 8 << 20);
        assert_eq!(length, 8 << 20);
        assert!([head, tail].concat().iter().enumerate().all(|(i, &byte)| byte == (i / 1024) as u8));
    }

    #[test]
    fn what_is_kept_does_not_depend_on_the_pieces() {
        assert_eq!(kept(20 << 20, 1 << 20), kept(20 << 20, 777_777));
        let (head, tail, _) = kept(20 << 20, 1 << 20);
        assert_eq!((head.len() as u64, tail.len() as u64), (HEAD, TAIL));
    }
}
