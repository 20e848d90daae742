//! How many bytes of holes are read. They take no room in a file, or in an archive, so that a few bytes may be
//! terabytes. What a reader may spend on them is bounded by the bytes that are there.

use std::io;
use std::ops::Range;

use crate::map::Region;

/// The bytes of holes that may be read whatever there is besides.
const BASE: u64 = 256 << 20;

/// The bytes of holes that may be read for each other byte.
const PER_BYTE: u64 = 256;

/// The bytes of holes that may still be read.
#[derive(Clone, Debug)]
pub struct HoleLimit {
    left: u64,
}

impl Default for HoleLimit {
    fn default() -> HoleLimit {
        HoleLimit { left: BASE }
    }
}

impl HoleLimit {
    /// `count` bytes are read that are in no hole.
    pub fn data(&mut self, count: u64) {
        self.left = self.left.saturating_add(count.saturating_mul(PER_BYTE));
    }

    /// `count` bytes of a hole are read.
    ///
    /// # Errors
    /// If that is more than may be.
    pub fn hole(&mut self, count: u64) -> io::Result<()> {
        let detail = "far more of it is holes than a sparse file of its size may have; the rest was not read";
        let left = self.left.checked_sub(count).ok_or_else(|| io::Error::other(detail));
        self.left = *left.as_ref().unwrap_or(&0);
        left.map(drop)
    }
}

/// Where the holes of a mapped file are, for somebody who reads it.
#[derive(Debug, Default)]
pub struct Extents {
    /// The last part that was looked at, and whether it is a hole.
    known: Range<usize>,
    is_hole: bool,
    limit: HoleLimit,
}

impl Extents {
    /// Counts at most `most` bytes of `region` from byte `at` on, which are about to be read. Returns how many they
    /// are, none where the region ends, and whether they are in a hole; all are or none is.
    ///
    /// # Errors
    /// If more bytes of holes were read than may be.
    pub fn next(&mut self, region: &Region<'_>, at: usize, most: usize) -> io::Result<(usize, bool)> {
        if !self.known.contains(&at) {
            let data = region.next_data(at);
            self.is_hole = data > at;
            self.known = at..if self.is_hole { data } else { region.next_hole(at) };
        }
        let count = most.min(self.known.end.saturating_sub(at));
        match self.is_hole {
            true => self.limit.hole(count as u64)?,
            false => self.limit.data(count as u64),
        }
        Ok((count, self.is_hole))
    }

    /// Counts all bytes of `region` in `range`. Returns how many of them are in no hole.
    ///
    /// # Errors
    /// As for [`Extents::next`].
    pub fn all(&mut self, region: &Region<'_>, range: Range<usize>) -> io::Result<u64> {
        let (mut at, mut data) = (range.start, 0);
        while at < range.end {
            let (count, is_hole) = self.next(region, at, range.end - at)?;
            if count == 0 {
                break;
            }
            at += count;
            data += if is_hole { 0 } else { count as u64 };
        }
        Ok(data)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Seek, SeekFrom, Write};

    use super::*;
    use crate::map::{MappedFile, RegionReader};

    /// A file of `bytes` bytes, with data at its start and at its end.
    fn sparse(bytes: u64) -> (tempfile::NamedTempFile, MappedFile) {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&[7; 1 << 16]).unwrap();
        file.as_file().set_len(bytes).unwrap();
        file.seek(SeekFrom::Start(bytes - (1 << 16))).unwrap();
        file.write_all(&[8; 1 << 16]).unwrap();
        let map = MappedFile::open(file.path()).unwrap();
        (file, map)
    }

    #[test]
    fn a_few_holes_are_read_as_zeros() {
        let (_file, map) = sparse(8 << 20);
        let region = map.region();
        let mut read = Vec::new();
        RegionReader::new(region.clone()).read_to_end(&mut read).unwrap();
        assert!(read == region[..]);
        let data = Extents::default().all(&region, 0..usize::MAX).unwrap();
        // A file system without holes says that all is data.
        assert!([2 << 16, 8 << 20].contains(&data), "{data}");
    }

    #[test]
    fn a_terabyte_of_holes_is_not_read() {
        let (_file, map) = sparse(1 << 40);
        if map.next_data(1 << 20) == 1 << 20 {
            return;
        }
        let most = BASE + PER_BYTE * (1 << 16);
        let mut reader = RegionReader::new(map.region());
        let (mut buffer, mut read) = (vec![0; 1 << 16], 0);
        let error = loop {
            match reader.read(&mut buffer) {
                Ok(count) => read += count as u64,
                Err(error) => break error,
            }
        };
        assert!(error.to_string().contains("holes") && (1 << 16..=most + (1 << 16)).contains(&read), "{error} {read}");
        assert!(reader.read(&mut buffer).is_err(), "it does not go on");
        assert!(Extents::default().all(&map.region(), 0..1 << 40).is_err());
    }
}
