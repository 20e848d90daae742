//! Sparse files: maps of the stored bytes, and the contents of a file with its holes.
//!
//! Source: GNU tar manual, "Storing Sparse Files".

use std::io::{self, Read};

use super::{Entry, TarError};
use crate::holes::HoleLimit;
use crate::pax;

/// Stored bytes of a file that are adjacent in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// The offset of the first byte in the stored bytes.
    pub stored: u64,
    /// The number of bytes.
    pub length: u64,
    /// The length of the hole before it.
    pub hole: u64,
}

impl Entry {
    /// The stored bytes, as runs that are adjacent in the file. There is a hole between any two of them.
    pub fn runs(&self) -> Vec<Run> {
        let Some(map) = &self.sparse else { return vec![Run { stored: 0, length: self.stored, hole: 0 }] };
        let mut runs: Vec<Run> = Vec::new();
        let (mut stored, mut end) = (0u64, 0u64);
        for &(offset, length) in map {
            let length = length.min(self.stored.saturating_sub(stored));
            if length == 0 {
                continue;
            }
            match runs.last_mut() {
                Some(last) if offset == end => last.length += length,
                // A map out of order is damaged: its pieces are read as if a hole were between them.
                _ => runs.push(Run { stored, length, hole: offset.saturating_sub(end) }),
            }
            stored += length;
            end = offset.saturating_add(length);
        }
        // Bytes beyond the map belong to no place of the file.
        if stored < self.stored {
            runs.push(Run { stored, length: self.stored - stored, hole: self.size.saturating_sub(end) });
        }
        runs
    }

    /// The offset in the file of the stored byte `position`. The two differ only in sparse files.
    pub fn file_offset(&self, position: u64) -> u64 {
        let Some(map) = &self.sparse else { return position };
        let mut before = 0u64;
        for &(offset, length) in map {
            if position < before.saturating_add(length) {
                return offset.saturating_add(position - before);
            }
            before = before.saturating_add(length);
        }
        position
    }

    /// The contents of the file, with its holes as zeros. `data` has the stored bytes.
    pub fn contents<R: Read>(&self, data: R) -> Contents<R> {
        let map = self.sparse.clone().unwrap_or_else(|| vec![(0, self.stored)]);
        Contents { data, map: map.into_iter(), at: 0, size: self.size, piece: None, holes: None }
    }
}

/// Reads a file with its holes.
pub struct Contents<R> {
    data: R,
    map: std::vec::IntoIter<(u64, u64)>,
    /// The offset in the file of the next byte.
    at: u64,
    size: u64,
    /// Offset and length of the piece that comes next, or is being read.
    piece: Option<(u64, u64)>,
    /// What may be read of holes, if there is a limit.
    holes: Option<HoleLimit>,
}

impl<R> Contents<R> {
    /// Fails where far more of the file is holes than it has bytes.
    #[must_use]
    pub fn with_few_holes(self) -> Contents<R> {
        Contents { holes: Some(HoleLimit::default()), ..self }
    }
}

impl<R: Read> Read for Contents<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.piece.is_none() {
                self.piece = self.map.next().filter(|(_, length)| *length > 0);
            }
            let (start, end) = match self.piece {
                Some((offset, length)) => (offset, offset.saturating_add(length)),
                None if self.map.len() > 0 => continue,
                None => (self.size, self.size),
            };
            let wanted = |from: u64, to: u64| usize::try_from(to - from).unwrap_or(usize::MAX).min(buffer.len());
            if self.at < start {
                let count = wanted(self.at, start);
                self.holes.as_mut().map_or(Ok(()), |holes| holes.hole(count as u64))?;
                buffer[..count].fill(0);
                self.at += count as u64;
                return Ok(count);
            }
            if self.at >= end {
                if self.piece.take().is_none() {
                    return Ok(0);
                }
                continue;
            }
            let count = wanted(self.at, end);
            let count = self.data.read(&mut buffer[..count])?;
            self.holes.iter_mut().for_each(|holes| holes.data(count as u64));
            self.at += count as u64;
            return Ok(count);
        }
    }
}

/// The pairs of offset and length in a header of the old GNU format.
pub(super) fn pairs(headers: &[tar::GnuSparseHeader]) -> Result<Vec<(u64, u64)>, TarError> {
    let pair = |header: &tar::GnuSparseHeader| {
        let offset = header.offset().map_err(|_| TarError::SparseMap)?;
        let length = header.length().map_err(|_| TarError::SparseMap)?;
        Ok((offset, length))
    };
    headers.iter().filter(|header| !header.is_empty()).map(pair).collect()
}

/// The map of PAX sparse format 1.0; `None` if it is damaged.
pub(super) fn numbers_map(text: &[u8]) -> Option<Vec<(u64, u64)>> {
    let mut numbers = text.split(|&byte| byte == b'\n').map(pax::number);
    let count = numbers.next()??;
    (0..count).map(|_| Some((numbers.next()??, numbers.next()??))).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tar::Kind;

    fn entry(map: Vec<(u64, u64)>, stored: u64, size: u64) -> Entry {
        let (path, link) = (b"f".to_vec(), Vec::new());
        Entry {
            path,
            kind: Kind::File,
            link,
            mode: 0,
            owner: (None, None),
            modified: None,
            stored,
            size,
            sparse: Some(map),
        }
    }

    #[test]
    fn pieces_without_a_hole_between_them_are_one_run() {
        let entry = entry(vec![(0, 3), (3, 2), (10, 4), (20, 0)], 9, 20);
        let run = |stored, length, hole| Run { stored, length, hole };
        assert_eq!(entry.runs(), [run(0, 5, 0), run(5, 4, 5)]);
        assert_eq!((entry.file_offset(4), entry.file_offset(5)), (4, 10));
    }

    #[test]
    fn bytes_beyond_the_map_are_a_run_of_their_own() {
        let entry = entry(vec![(0, 3)], 9, 3);
        assert_eq!(entry.runs().len(), 2);
        assert_eq!(entry.runs().iter().map(|run| run.length).sum::<u64>(), 9);
    }

    #[test]
    fn a_terabyte_of_holes_is_not_read() {
        let entry = entry(vec![(0, 1), (1 << 40, 1)], 2, (1 << 40) + 1);
        let mut contents = entry.contents(&b"xy"[..]).with_few_holes();
        let error = io::copy(&mut contents, &mut io::sink()).unwrap_err();
        assert!(error.to_string().contains("holes"), "{error}");
        let few = self::entry(vec![(0, 1), (1 << 20, 1)], 2, (1 << 20) + 1);
        let read = io::copy(&mut few.contents(&b"xy"[..]).with_few_holes(), &mut io::sink());
        assert_eq!(read.unwrap(), (1 << 20) + 1);
    }

    proptest! {
        /// The contents are those of a file of zeros into which each piece was written.
        #[test]
        fn contents_have_every_piece_in_its_place(pieces in prop::collection::vec((0u64..20, 0u64..9), 0..8)) {
            let mut file = Vec::new();
            let mut data = Vec::new();
            let mut map = Vec::new();
            for (hole, length) in pieces {
                file.resize(file.len() + hole as usize, 0);
                map.push((file.len() as u64, length));
                let piece: Vec<u8> = (0..length).map(|i| 1 + i as u8).collect();
                data.extend_from_slice(&piece);
                file.extend_from_slice(&piece);
            }
            file.resize(file.len() + 7, 0);
            let entry = entry(map, data.len() as u64, file.len() as u64);
            let mut read = Vec::new();
            entry.contents(&data[..]).read_to_end(&mut read).unwrap();
            prop_assert_eq!(read, file);
            let runs = entry.runs();
            prop_assert_eq!(runs.iter().map(|run| run.length).sum::<u64>(), data.len() as u64);
        }
    }
}
