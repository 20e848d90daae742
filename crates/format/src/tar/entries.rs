//! Reads the entries of an archive one after the other.

use std::io::{self, Read};

use super::{BLOCK, Entry, Event, Parser, TarError};
use crate::compression::read_full;

/// Why an archive cannot be read further.
#[derive(Debug, thiserror::Error)]
pub enum EntriesError {
    /// The archive cannot be read.
    #[error("at byte {at} of the archive")]
    Read {
        /// The offset of the byte that was to be read next.
        at: u64,
        /// The error of the reader.
        #[source]
        source: io::Error,
    },
    /// A block cannot be parsed.
    #[error("at byte {at} of the archive: {error}")]
    Block {
        /// The offset of the block.
        at: u64,
        /// What is wrong with it.
        error: TarError,
    },
}

/// An entry, and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlacedEntry {
    /// The entry.
    pub entry: Entry,
    /// Its number in the archive, from 0.
    pub number: u32,
    /// The offset of its first block, which is that of its extended headers if it has any.
    pub start: u64,
    /// The offset of its data.
    pub data: u64,
}

/// The entries of an archive, in order.
pub struct Entries<R> {
    input: R,
    limit: u64,
    parser: Parser,
    number: u32,
    at: u64,
    /// The bytes of data of the current entry that were not read, and those of its padding.
    data: u64,
    padding: u64,
    is_over: bool,
}

impl<R: Read> Entries<R> {
    /// The entries of the archive `input`. A long name or a set of PAX records may have at most `limit` bytes.
    pub fn new(input: R, limit: u64) -> Entries<R> {
        Entries { input, limit, parser: Parser::new(limit), number: 0, at: 0, data: 0, padding: 0, is_over: false }
    }

    /// The next entry; data of the one before that was not read is skipped. `None` at the end of the archive, which a
    /// missing end marker does not change.
    ///
    /// # Errors
    /// [`EntriesError`] if the archive is damaged, or cannot be read.
    pub fn next_entry(&mut self) -> Result<Option<PlacedEntry>, EntriesError> {
        if self.is_over {
            return Ok(None);
        }
        io::copy(&mut self.data(), &mut io::sink()).map_err(|source| EntriesError::Read { at: self.at, source })?;
        self.skip_padding()?;
        let start = self.at;
        loop {
            let mut block = [0; BLOCK];
            let at = self.at;
            let failed = |source| EntriesError::Read { at, source };
            match read_full(&mut self.input, &mut block).map_err(failed)? {
                0 if self.parser.at_boundary() => {
                    self.is_over = true;
                    return Ok(None);
                }
                BLOCK => {}
                _ => return Err(failed(io::ErrorKind::UnexpectedEof.into())),
            }
            self.at += BLOCK as u64;
            match self.parser.block(&block).map_err(|error| EntriesError::Block { at, error })? {
                None => {}
                Some(Event::End) => {
                    self.is_over = true;
                    return Ok(None);
                }
                Some(Event::Entry(entry)) => {
                    (self.data, self.padding) = (entry.stored, entry.padded() - entry.stored);
                    let number = self.number;
                    self.number = number.saturating_add(1);
                    return Ok(Some(PlacedEntry { entry, number, start, data: self.at }));
                }
            }
        }
    }

    /// The stored bytes of the current entry that were not read yet. An archive that ends in them is an error.
    pub fn data(&mut self) -> EntryData<'_, R> {
        EntryData { entries: self }
    }

    /// The most bytes of an extended header.
    pub fn limit(&self) -> u64 {
        self.limit
    }

    fn skip_padding(&mut self) -> Result<(), EntriesError> {
        let failed = |at: u64| move |source| EntriesError::Read { at, source };
        let skipped =
            io::copy(&mut self.input.by_ref().take(self.padding), &mut io::sink()).map_err(failed(self.at))?;
        self.at += skipped;
        if skipped < self.padding {
            return Err(failed(self.at)(io::ErrorKind::UnexpectedEof.into()));
        }
        self.padding = 0;
        Ok(())
    }
}

/// The stored bytes of an entry.
pub struct EntryData<'e, R> {
    entries: &'e mut Entries<R>,
}

impl<R: Read> Read for EntryData<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Entries { input, data, at, .. } = &mut *self.entries;
        let wanted = usize::try_from(*data).unwrap_or(usize::MAX).min(buffer.len());
        let count = input.read(&mut buffer[..wanted])?;
        if count == 0 && wanted > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        *data -= count as u64;
        *at += count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive() -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (path, data) in [("a", &b"first"[..]), ("b", b""), ("c", &[7; 1000])] {
            let mut header = tar::Header::new_gnu();
            header.set_size(data.len() as u64);
            header.set_mode(0o644);
            header.set_cksum();
            builder.append_data(&mut header, path, data).unwrap();
        }
        builder.into_inner().unwrap()
    }

    #[test]
    fn entries_come_in_order_whether_their_data_are_read_or_not() {
        for reads in [true, false] {
            let archive = archive();
            let mut entries = Entries::new(&archive[..], 1 << 20);
            let mut seen = Vec::new();
            while let Some(placed) = entries.next_entry().unwrap() {
                let mut data = Vec::new();
                if reads {
                    entries.data().read_to_end(&mut data).unwrap();
                    let start = usize::try_from(placed.data).unwrap();
                    assert_eq!(data, archive[start..start + data.len()]);
                }
                seen.push((placed.entry.path, placed.number, data.len()));
            }
            let lengths = if reads { [5, 0, 1000] } else { [0; 3] };
            let expected =
                [(b"a".to_vec(), 0, lengths[0]), (b"b".to_vec(), 1, lengths[1]), (b"c".to_vec(), 2, lengths[2])];
            assert_eq!(seen, expected);
        }
    }

    #[test]
    fn an_archive_that_is_cut_is_an_error_but_between_entries() {
        let archive = archive();
        let count = |length: usize| {
            let mut entries = Entries::new(&archive[..length], 1 << 20);
            let mut count = 0;
            while entries.next_entry()?.is_some() {
                count += 1;
            }
            Ok::<usize, EntriesError>(count)
        };
        assert_eq!(count(1024).unwrap(), 1);
        assert_eq!(count(archive.len() - 512).unwrap(), 3);
        for length in [100, 600, 1023, 1024 + 512 + 512 + 100] {
            assert!(count(length).is_err(), "{length}");
        }
    }
}
