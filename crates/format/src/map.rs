//! Memory-mapped files, whose pages are released once they are read. The only module with `unsafe` code.

use std::fs::File;
use std::io::{self, Read};
use std::ops::{Deref, Range};
use std::path::Path;

use memmap2::{Mmap, UncheckedAdvice};

/// A regular file, mapped read-only.
pub struct MappedFile(Mmap);

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
        // SAFETY: the map is only read. If another process truncates the file meanwhile, the kernel stops this process
        // with SIGBUS, as it does with any program that maps files; no verdict is given.
        let map = unsafe { Mmap::map(file)? };
        let _ = map.advise(memmap2::Advice::Sequential);
        Ok(MappedFile(map))
    }

    /// The whole file.
    pub fn region(&self) -> Region<'_> {
        Region { file: self, range: 0..self.0.len() }
    }
}

impl Deref for MappedFile {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl AsRef<[u8]> for MappedFile {
    fn as_ref(&self) -> &[u8] {
        &self.0
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

    /// The bytes.
    pub fn bytes(&self) -> &'a [u8] {
        &self.file.0[self.range.clone()]
    }

    /// Tells the kernel to drop the pages that lie wholly inside the region, so that a file of any size is read in
    /// little memory. They may be read again: the kernel then loads them from the page cache or the file.
    #[allow(unsafe_code)]
    pub fn release(&self) {
        const PAGE: usize = 1 << 16;
        let (start, end) = (self.range.start.next_multiple_of(PAGE), self.range.end / PAGE * PAGE);
        if start < end {
            // SAFETY: the map is of a file and never written to, so dropped pages are loaded again with the same bytes.
            let _ = unsafe { self.file.0.unchecked_advise_range(UncheckedAdvice::DontNeed, start, end - start) };
        }
    }
}

impl Deref for Region<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes()
    }
}

/// Reads a region from its start, and releases the pages that were read.
pub struct RegionReader<'a> {
    region: Region<'a>,
    taken: usize,
    released: usize,
}

impl<'a> RegionReader<'a> {
    /// A reader at the start of `region`.
    pub fn new(region: Region<'a>) -> RegionReader<'a> {
        RegionReader { region, taken: 0, released: 0 }
    }
}

impl Read for RegionReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        const STEP: usize = 8 << 20;
        let bytes = self.region.bytes();
        let count = buffer.len().min(bytes.len() - self.taken);
        buffer[..count].copy_from_slice(&bytes[self.taken..self.taken + count]);
        self.taken += count;
        if self.taken - self.released >= STEP {
            self.region.part(self.released..self.taken).release();
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
}
