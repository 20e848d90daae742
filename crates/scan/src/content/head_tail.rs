//! Keeps the first and last bytes of a streamed file, for parsers that read tables at either end.

use std::collections::VecDeque;
use std::ops::Range;

use crate::layer::buffer::Bytes;

/// Bytes kept from the start of a file.
const HEAD: u64 = 2 << 20;

/// Bytes kept from the end of a file. Together with [`HEAD`], a file of up to 8 MiB is kept whole.
const TAIL: u64 = 6 << 20;

/// The bytes that tell whether a file may be executable.
const FIRST: usize = 4;

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

    /// The length of the file.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// The number of bytes that are kept.
    pub fn kept(&self) -> u64 {
        self.length.min(HeadTail::WHOLE)
    }

    /// Whether all of the file is kept.
    pub fn is_whole(&self) -> bool {
        self.length <= HeadTail::WHOLE
    }

    /// The first bytes, as many as tell the format of the file. They are zeros where it has fewer.
    pub fn first(&self) -> [u8; FIRST] {
        let mut first = [0; FIRST];
        let bytes = self.head.iter().flat_map(|piece| &piece.window[piece.range.clone()]);
        first.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        first
    }

    /// The bytes that are kept, in pieces: those of the first and those of the last bytes.
    pub fn pieces(&self) -> (impl Iterator<Item = &[u8]>, impl Iterator<Item = &[u8]>) {
        let head = self.head.iter().map(|piece| &piece.window[piece.range.clone()]);
        let start = self.length - TAIL.min(self.length);
        let tail = self.tail.iter().map(move |piece| {
            let skip = start.saturating_sub(piece.offset).min(piece.range.len() as u64);
            &piece.window[piece.range.start + skip as usize..piece.range.end]
        });
        (head, tail)
    }

    /// The first and last bytes, one after the other, and how many are the first. If they are as many as the file has,
    /// they are the whole file.
    pub fn parts(&self) -> (Vec<u8>, usize) {
        let mut bytes = Vec::with_capacity(self.kept() as usize);
        let (head, tail) = self.pieces();
        head.for_each(|piece| bytes.extend_from_slice(piece));
        let first = bytes.len();
        tail.for_each(|piece| bytes.extend_from_slice(piece));
        (bytes, first)
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
        let (mut head, first) = kept.parts();
        let tail = head.split_off(first);
        (head, tail, kept.length())
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
