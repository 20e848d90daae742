//! Memory-mapped files, whose pages are released once they are read. The only module with `unsafe` code.
//!
//! A file may become shorter while it is mapped, or its disk may fail. What is missing then reads as zeros, and
//! [`MappedFile::check_whole`] fails from then on: whoever has read from a map asks it before the bytes count.

mod guard;

use std::fs::File;
use std::io::{self, Read};
use std::ops::{Deref, Range};
use std::path::Path;

use memmap2::{Mmap, UncheckedAdvice};
use rustix::fs::SeekFrom;

use self::guard::Guard;
use crate::holes::Extents;

/// A regular file, mapped read-only.
pub struct MappedFile {
    // Dropped before the map.
    guard: Guard,
    map: Mmap,
    file: File,
}

impl MappedFile {
    /// Maps the file at `path`.
    ///
    /// # Errors
    /// If the file cannot be opened or mapped.
    pub fn open(path: &Path) -> io::Result<MappedFile> {
        MappedFile::of(&File::open(path)?)
    }

    /// Maps an open file.
    ///
    /// # Errors
    /// If the file cannot be mapped.
    #[allow(unsafe_code)]
    pub fn of(file: &File) -> io::Result<MappedFile> {
        // SAFETY: the map is only read. If another process truncates the file meanwhile, the guard puts zeros in the
        // place of what is missing.
        let map = unsafe { Mmap::map(file)? };
        let start = map.as_ptr() as usize;
        let guard = Guard::new(start..start.saturating_add(map.len().max(1)))?;
        let _ = map.advise(memmap2::Advice::Sequential);
        Ok(MappedFile { guard, map, file: file.try_clone()? })
    }

    /// The whole file.
    pub fn region(&self) -> Region<'_> {
        Region { file: self, range: 0..self.map.len() }
    }

    /// Says whether all that was read of the map so far was in the file.
    ///
    /// # Errors
    /// If some of it was not.
    pub fn check_whole(&self) -> io::Result<()> {
        let detail = "the file was truncated while it was read, or its disk failed";
        if self.guard.is_damaged() { Err(io::Error::other(detail)) } else { Ok(()) }
    }

    /// The next byte from `from` on that is not in a hole of a sparse file; the length of the map if there is none.
    /// Bytes in a hole are zeros.
    pub fn next_data(&self, from: usize) -> usize {
        match rustix::fs::seek(&self.file, SeekFrom::Data(from as u64)) {
            Ok(at) => usize::try_from(at).unwrap_or(usize::MAX).clamp(from, self.map.len().max(from)),
            Err(rustix::io::Errno::NXIO) => self.map.len().max(from),
            // The file system does not tell.
            Err(_) => from,
        }
    }

    /// The next byte from `from` on that is in a hole of a sparse file; the length of the map if there is none.
    fn next_hole(&self, from: usize) -> usize {
        let end = self.map.len().max(from);
        match rustix::fs::seek(&self.file, SeekFrom::Hole(from as u64)) {
            Ok(at) => usize::try_from(at).unwrap_or(usize::MAX).clamp(from, end),
            Err(_) => end,
        }
    }

    /// A reader of the whole file. It fails where far more of the file is holes than it has bytes.
    pub fn into_reader(self) -> MappedReader {
        MappedReader { file: self, position: Position::default() }
    }
}

impl Deref for MappedFile {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.map
    }
}

impl AsRef<[u8]> for MappedFile {
    fn as_ref(&self) -> &[u8] {
        &self.map
    }
}

/// Part of a mapped file.
#[derive(Clone)]
pub struct Region<'a> {
    file: &'a MappedFile,
    range: Range<usize>,
}

impl<'a> Region<'a> {
    /// The part of this region in `range`, clamped to its end.
    pub fn part(&self, range: Range<usize>) -> Region<'a> {
        let end = self.range.start.saturating_add(range.end).min(self.range.end);
        let start = self.range.start.saturating_add(range.start).min(end);
        Region { file: self.file, range: start..end }
    }

    /// As [`MappedFile::next_data`], within the region.
    pub(crate) fn next_data(&self, from: usize) -> usize {
        self.within(self.file.next_data(self.range.start.saturating_add(from)))
    }

    /// The next byte from `from` on that is in a hole; the length of the region if there is none.
    pub(crate) fn next_hole(&self, from: usize) -> usize {
        self.within(self.file.next_hole(self.range.start.saturating_add(from)))
    }

    fn within(&self, at: usize) -> usize {
        at.clamp(self.range.start, self.range.end) - self.range.start
    }

    /// The bytes.
    pub fn bytes(&self) -> &'a [u8] {
        &self.file.map[self.range.clone()]
    }

    /// As [`MappedFile::check_whole`], of the whole file.
    ///
    /// # Errors
    /// If bytes of the file were missing.
    pub fn check_whole(&self) -> io::Result<()> {
        self.file.check_whole()
    }

    /// Tells the kernel to drop the pages that lie wholly inside the region, so that a file of any size is read in
    /// little memory. They may be read again: the kernel then loads them from the page cache or the file.
    #[allow(unsafe_code)]
    pub fn release(&self) {
        const PAGE: usize = 1 << 16;
        let (start, end) = (self.range.start.next_multiple_of(PAGE), self.range.end / PAGE * PAGE);
        if start < end {
            // SAFETY: the map is of a file and never written to, so dropped pages are loaded again with the same bytes.
            let _ = unsafe { self.file.map.unchecked_advise_range(UncheckedAdvice::DontNeed, start, end - start) };
        }
    }
}

impl Deref for Region<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes()
    }
}

/// Reads a region from its start, and releases the pages that were read. It fails where far more of the file is holes
/// than it has bytes.
pub struct RegionReader<'a> {
    region: Region<'a>,
    position: Position,
}

impl<'a> RegionReader<'a> {
    /// A reader at the start of `region`.
    pub fn new(region: Region<'a>) -> RegionReader<'a> {
        RegionReader { region, position: Position::default() }
    }
}

impl Read for RegionReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.position.read(&self.region, buffer)
    }
}

/// Reads a mapped file that it owns, as [`RegionReader`].
pub struct MappedReader {
    file: MappedFile,
    position: Position,
}

impl Read for MappedReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.position.read(&self.file.region(), buffer)
    }
}

/// How much of a region was read, and how much of that was released.
#[derive(Default)]
struct Position {
    taken: usize,
    released: usize,
    extents: Extents,
}

impl Position {
    fn read(&mut self, region: &Region<'_>, buffer: &mut [u8]) -> io::Result<usize> {
        const STEP: usize = 8 << 20;
        let bytes = region.bytes();
        let (count, _) = self.extents.next(region, self.taken, buffer.len().min(bytes.len() - self.taken))?;
        buffer[..count].copy_from_slice(&bytes[self.taken..self.taken + count]);
        region.check_whole()?;
        self.taken += count;
        if self.taken - self.released >= STEP {
            region.part(self.released..self.taken).release();
            self.released = self.taken;
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn released_pages_read_the_same_again() {
        let path = std::env::temp_dir().join(format!("layersift-map-{}", std::process::id()));
        let data: Vec<u8> = (0..20u32 << 20).map(|i| (i >> 12) as u8).collect();
        std::fs::write(&path, &data).unwrap();
        let map = MappedFile::open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        map.region().release();
        let mut read = Vec::new();
        RegionReader::new(map.region()).read_to_end(&mut read).unwrap();
        assert!(read == data && map[..] == data[..]);
        assert_eq!(map.region().part(5..7).bytes(), &data[5..7]);
        assert!(map.region().part(usize::MAX - 1..usize::MAX).is_empty());
    }

    #[test]
    fn a_file_that_is_truncated_reads_as_zeros_and_is_not_whole() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), vec![7; 1 << 20]).unwrap();
        let (map, other) = (MappedFile::open(file.path()).unwrap(), MappedFile::open(file.path()).unwrap());
        assert_eq!(map[1000], 7);
        file.as_file().set_len(1 << 16).unwrap();
        assert!(map.check_whole().is_ok());
        std::thread::scope(|scope| {
            for place in (1..16).map(|place| place << 16) {
                let map = &map;
                scope.spawn(move || assert_eq!(map[place], 0));
            }
        });
        assert_eq!((map[0], map[(1 << 16) - 1]), (7, 7));
        map.check_whole().unwrap_err();
        other.check_whole().unwrap();
        let mut bytes = Vec::new();
        assert!(RegionReader::new(other.region()).read_to_end(&mut bytes).is_err());
        assert!(other.into_reader().read_to_end(&mut bytes).is_err());
        drop(map);
        // The entry is used again, and knows nothing of the file before.
        std::fs::write(file.path(), vec![7; 1 << 20]).unwrap();
        let maps: Vec<_> = (0..20).map(|_| MappedFile::open(file.path()).unwrap()).collect();
        assert!(maps.iter().all(|map| map[1 << 19] == 7 && map.check_whole().is_ok()));
    }

    #[test]
    fn holes_are_found() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), b"start").unwrap();
        file.as_file().set_len(64 << 20).unwrap();
        let map = MappedFile::open(file.path()).unwrap();
        assert_eq!(map.next_data(0), 0);
        // A file system without holes says that all is data.
        assert!([32 << 20, 64 << 20].contains(&map.next_data(32 << 20)));
        assert_eq!(map.next_data(64 << 20), 64 << 20);
    }
}
