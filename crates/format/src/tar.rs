//! Tar framing: parses 512-byte blocks into entries, for all common dialects of tar.
//!
//! Sources: POSIX.1-2017 `pax` ("ustar Interchange Format"), the GNU tar manual ("Basic Tar Format", "Storing Sparse
//! Files"). The fields of a header are decoded by the `tar` crate; the framing is our own, because a layer is read
//! in windows that are scanned in place, and because a huge extended header must not be read into memory.
//!
//! Where readers of tar differ, an entry is read as Go's `archive/tar` reads it, because container runtimes use that.
//! If other readers would find other bytes, [`Parser::take_ambiguity`] says so.
//!
//! This is a push parser: the caller feeds it blocks until it returns an entry, then consumes the entry's data itself
//! (`Entry::stored` bytes, padded to a whole block), and continues with the next block.

mod entries;
mod header;
mod sparse;

use super::pax::{self, Records};
use jiff::Timestamp;
use layersift_model::{FileAttributes, LONGEST_NAME};

pub use entries::{Entries, EntriesError, EntryData, PlacedEntry};
pub use sparse::{Contents, Run};

/// The size of a tar block in bytes.
pub const BLOCK: usize = 512;

/// The type of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file, including contiguous and sparse files.
    File,
    /// A hard link to the file of an earlier entry.
    HardLink,
    /// A symbolic link.
    Symlink,
    /// A directory.
    Directory,
    /// A device, a FIFO or anything else that has no bytes of its own.
    Special,
}

/// One entry of a tar archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The name as stored; any bytes.
    pub path: Vec<u8>,
    /// Its type.
    pub kind: Kind,
    /// The target of a link, as stored.
    pub link: Vec<u8>,
    /// Permission bits.
    pub mode: u32,
    /// The numeric ids of the owner and the group, if they are numbers.
    pub owner: (Option<u64>, Option<u64>),
    /// When the file was modified, in seconds since 1970, if that is a number.
    pub modified: Option<i64>,
    /// The number of bytes of data that follow in the archive, without padding.
    pub stored: u64,
    /// The size of the file, with the holes of a sparse file.
    pub size: u64,
    /// For a sparse file: offset and length in the file of each run of stored bytes.
    pub sparse: Option<Vec<(u64, u64)>>,
}

impl Entry {
    /// What the entry records of its file, besides its name. `number` is its number in the archive, from 0.
    pub fn attributes(&self, number: u32) -> FileAttributes {
        let (uid, gid) = self.owner;
        let modified_at = self.modified.and_then(|seconds| Timestamp::from_second(seconds).ok());
        FileAttributes { entry: number, size: self.size, mode: self.mode, uid, gid, modified_at, layer: None }
    }

    /// The number of bytes of data in the archive, including padding.
    pub fn padded(&self) -> u64 {
        self.stored.div_ceil(BLOCK as u64).saturating_mul(BLOCK as u64)
    }
}

/// The result of a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// An entry; its data follows.
    Entry(Entry),
    /// The end of the archive: two blocks of zeros.
    End,
}

/// Why a block cannot be parsed.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TarError {
    /// The checksum field does not match the block.
    #[error("the checksum of the header does not match")]
    Checksum,
    /// A numeric field does not contain a number.
    #[error("the {0} field of the header is not a number")]
    Number(&'static str),
    /// A long name or a set of PAX records exceeds the limit.
    #[error("an extended header has {0} bytes, more than the limit")]
    ExtensionTooLarge(u64),
    /// A name is longer than [`LONGEST_NAME`].
    #[error("a name has {0} bytes, more than file systems allow")]
    NameTooLong(usize),
    /// PAX records are damaged.
    #[error(transparent)]
    Pax(#[from] pax::DamagedRecord),
    /// The map of a sparse file is damaged.
    #[error("the map of a sparse file is damaged")]
    SparseMap,
}

/// Something that readers of tar read differently: a runtime other than those written in Go may see other files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Ambiguity {
    /// A global extended header names a path, a link or a size. Go ignores it.
    #[error("a global PAX header changes how entries are read, which some programs ignore")]
    GlobalRecords,
    /// Extended headers that a global header follows. Go drops them.
    #[error("a global PAX header follows the extended header of an entry, which some programs then drop")]
    DroppedRecords,
    /// A regular file whose name ends in a slash. Go reads its data, and others a directory without data.
    #[error("a regular file has data and a name that ends in a slash, which some programs read as a directory")]
    DirectoryWithData,
}

#[derive(Debug)]
enum ParserState {
    Header,
    Extension { kind: Extension, left: u64, data: Vec<u8> },
    OldSparse { entry: Entry, map: Vec<(u64, u64)> },
    NewSparse { entry: Entry, text: Vec<u8>, lines: u64 },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extension {
    LongName,
    LongLink,
    Pax,
    GlobalPax,
}

/// Parses the blocks of an archive.
#[derive(Debug)]
pub struct Parser {
    limit: u64,
    state: ParserState,
    zeros: u8,
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
    local: Option<Records>,
    ambiguity: Option<Ambiguity>,
}

impl Parser {
    /// A parser at the start of an archive. A long name or a set of PAX records may have at most `limit` bytes.
    pub fn new(limit: u64) -> Parser {
        Parser {
            limit,
            state: ParserState::Header,
            zeros: 0,
            long_name: None,
            long_link: None,
            local: None,
            ambiguity: None,
        }
    }

    /// Parses the next block. `None` means that more blocks are needed.
    ///
    /// # Errors
    /// If the block is not part of a valid archive.
    pub fn block(&mut self, block: &[u8; BLOCK]) -> Result<Option<Event>, TarError> {
        match std::mem::replace(&mut self.state, ParserState::Header) {
            ParserState::Header => self.header(block),
            ParserState::Extension { kind, left, data } => self.extension(kind, left, data, block).map(|()| None),
            ParserState::OldSparse { entry, map } => self.old_sparse(entry, map, block),
            ParserState::NewSparse { entry, text, lines } => self.new_sparse(entry, text, lines, block),
        }
    }

    /// Whether the archive may end here, between two entries.
    pub fn at_boundary(&self) -> bool {
        matches!(self.state, ParserState::Header) && !self.has_pending_records()
    }

    /// What readers of tar read differently in the blocks since the last call.
    pub fn take_ambiguity(&mut self) -> Option<Ambiguity> {
        self.ambiguity.take()
    }

    /// Whether extended headers wait for their entry.
    fn has_pending_records(&self) -> bool {
        self.local.is_some() || self.long_name.is_some() || self.long_link.is_some()
    }

    fn header(&mut self, block: &[u8; BLOCK]) -> Result<Option<Event>, TarError> {
        if block.iter().all(|&byte| byte == 0) {
            self.zeros += 1;
            return Ok((self.zeros >= 2).then_some(Event::End));
        }
        self.zeros = 0;
        let header = tar::Header::from_byte_slice(block);
        verify_checksum(header, block)?;
        let size = size_of(header)?;
        let extension = match header.entry_type() {
            tar::EntryType::GNULongName => Some(Extension::LongName),
            tar::EntryType::GNULongLink => Some(Extension::LongLink),
            tar::EntryType::XHeader => Some(Extension::Pax),
            tar::EntryType::XGlobalHeader => Some(Extension::GlobalPax),
            _ => None,
        };
        match extension {
            Some(kind) => self.begin_extension(kind, size).map(|()| None),
            None => self.entry(header, size),
        }
    }

    fn begin_extension(&mut self, kind: Extension, size: u64) -> Result<(), TarError> {
        if size > self.limit {
            return Err(TarError::ExtensionTooLarge(size));
        }
        if size == 0 {
            return self.finish_extension(kind, Vec::new());
        }
        self.state = ParserState::Extension { kind, left: size, data: Vec::new() };
        Ok(())
    }

    fn extension(
        &mut self,
        kind: Extension,
        left: u64,
        mut data: Vec<u8>,
        block: &[u8; BLOCK],
    ) -> Result<(), TarError> {
        let take = usize::try_from(left).unwrap_or(BLOCK).min(BLOCK);
        data.extend_from_slice(&block[..take]);
        let left = left - take as u64;
        if left > 0 {
            self.state = ParserState::Extension { kind, left, data };
            return Ok(());
        }
        self.finish_extension(kind, data)
    }

    fn finish_extension(&mut self, kind: Extension, mut data: Vec<u8>) -> Result<(), TarError> {
        match kind {
            Extension::LongName | Extension::LongLink => {
                data.truncate(memchr::memchr(0, &data).unwrap_or(data.len()));
                let slot = if kind == Extension::LongName { &mut self.long_name } else { &mut self.long_link };
                *slot = Some(data);
            }
            Extension::Pax => self.local = Some(Records::parse(&data)?),
            Extension::GlobalPax => self.global(&Records::parse(&data)?),
        }
        Ok(())
    }

    /// Go hands a global header to its caller, which ignores it, and forgets the extended headers before it.
    fn global(&mut self, records: &Records) {
        if records.change_reading() {
            self.ambiguity = Some(Ambiguity::GlobalRecords);
        }
        if self.has_pending_records() {
            self.ambiguity = Some(Ambiguity::DroppedRecords);
        }
        (self.local, self.long_name, self.long_link) = (None, None, None);
    }

    fn entry(&mut self, header: &tar::Header, size: u64) -> Result<Option<Event>, TarError> {
        let records = self.local.take().unwrap_or_default();
        let sparse = records.sparse();
        // An empty name is no name.
        let long_name = self.long_name.take().filter(|name| !name.is_empty());
        let long_link = self.long_link.take().filter(|name| !name.is_empty());
        let name = long_name.or(records.path).unwrap_or_else(|| header::name(header));
        let kind = kind_of(header, &name);
        let path = sparse.as_ref().and_then(|sparse| sparse.name.clone()).unwrap_or(name);
        if path.len() > LONGEST_NAME {
            return Err(TarError::NameTooLong(path.len()));
        }
        let mut link = long_link.or(records.link).unwrap_or_else(|| header::link(header));
        link.truncate(LONGEST_NAME);
        let stored = stored_bytes(kind, records.size.unwrap_or(size));
        if kind == Kind::File && stored > 0 && path.ends_with(b"/") {
            self.ambiguity = Some(Ambiguity::DirectoryWithData);
        }
        let mode = header.mode().unwrap_or(0) & 0o7777;
        let owner = (records.uid.or_else(|| header.uid().ok()), records.gid.or_else(|| header.gid().ok()));
        // The crate reads negative times, which are rare, as very large ones.
        let modified = records.modified.or_else(|| Some(header.mtime().ok()?.cast_signed()));
        let mut entry = Entry { path, kind, link, mode, owner, modified, stored, size: stored, sparse: None };
        if let (true, Some(gnu)) = (header.entry_type().is_gnu_sparse(), header.as_gnu()) {
            entry.size = gnu.real_size().unwrap_or(stored);
            let map = sparse::pairs(&gnu.sparse)?;
            if gnu.is_extended() {
                self.state = ParserState::OldSparse { entry, map };
                return Ok(None);
            }
            return Ok(Some(Event::Entry(Entry { sparse: Some(map), ..entry })));
        }
        let Some(sparse) = sparse.filter(|_| kind == Kind::File) else { return Ok(Some(Event::Entry(entry))) };
        entry.size = sparse.size.unwrap_or(stored);
        if sparse.map.is_none() {
            self.state = ParserState::NewSparse { entry, text: Vec::new(), lines: 0 };
            return Ok(None);
        }
        Ok(Some(Event::Entry(Entry { sparse: sparse.map, ..entry })))
    }

    fn old_sparse(
        &mut self,
        entry: Entry,
        mut map: Vec<(u64, u64)>,
        block: &[u8; BLOCK],
    ) -> Result<Option<Event>, TarError> {
        let mut extended = tar::GnuExtSparseHeader::new();
        *extended.as_mut_bytes() = *block;
        map.extend(sparse::pairs(extended.sparse())?);
        if map.len() as u64 > self.limit / 16 {
            return Err(TarError::SparseMap);
        }
        if extended.is_extended() {
            self.state = ParserState::OldSparse { entry, map };
            return Ok(None);
        }
        Ok(Some(Event::Entry(Entry { sparse: Some(map), ..entry })))
    }

    /// The map of PAX sparse format 1.0: decimal numbers on lines of their own, in whole blocks before the data.
    fn new_sparse(
        &mut self,
        mut entry: Entry,
        mut text: Vec<u8>,
        lines: u64,
        block: &[u8; BLOCK],
    ) -> Result<Option<Event>, TarError> {
        text.extend_from_slice(block);
        entry.stored = entry.stored.checked_sub(BLOCK as u64).ok_or(TarError::SparseMap)?;
        if text.len() as u64 > self.limit {
            return Err(TarError::SparseMap);
        }
        // Counting lines keeps this linear: the numbers are parsed once, when all lines have been read.
        let lines = lines + memchr::memchr_iter(b'\n', block).count() as u64;
        let pairs = text.split(|&byte| byte == b'\n').next().and_then(pax::number);
        // The first number ends in the first block.
        if lines == 0 {
            return Err(TarError::SparseMap);
        }
        if lines <= pairs.ok_or(TarError::SparseMap)?.saturating_mul(2) {
            self.state = ParserState::NewSparse { entry, text, lines };
            return Ok(None);
        }
        let map = sparse::numbers_map(&text).ok_or(TarError::SparseMap)?;
        Ok(Some(Event::Entry(Entry { sparse: Some(map), ..entry })))
    }
}

fn verify_checksum(header: &tar::Header, block: &[u8; BLOCK]) -> Result<(), TarError> {
    let stored = header.cksum().map_err(|_| TarError::Number("checksum"))?;
    let unsigned: u32 = block[..148].iter().chain(&block[156..]).map(|&byte| u32::from(byte)).sum();
    // Some old writers summed signed bytes.
    let signed: i32 = block[..148].iter().chain(&block[156..]).map(|&byte| i32::from(byte.cast_signed())).sum();
    let spaces = 8 * u32::from(b' ');
    let fits = stored == unsigned + spaces || i64::from(stored) == i64::from(signed) + i64::from(spaces);
    if fits { Ok(()) } else { Err(TarError::Checksum) }
}

/// The size field, which some writers leave empty for entries without data.
fn size_of(header: &tar::Header) -> Result<u64, TarError> {
    if header.as_old().size.iter().all(|byte| matches!(byte, 0 | b' ')) {
        return Ok(0);
    }
    header.entry_size().map_err(|_| TarError::Number("size"))
}

fn kind_of(header: &tar::Header, path: &[u8]) -> Kind {
    match header.entry_type() {
        // Before ustar, a trailing slash marked a directory.
        tar::EntryType::Regular if path.ends_with(b"/") && header.as_old().linkflag == [0] => Kind::Directory,
        tar::EntryType::Regular | tar::EntryType::Continuous | tar::EntryType::GNUSparse => Kind::File,
        tar::EntryType::Link => Kind::HardLink,
        tar::EntryType::Symlink => Kind::Symlink,
        tar::EntryType::Directory => Kind::Directory,
        tar::EntryType::Char | tar::EntryType::Block | tar::EntryType::Fifo => Kind::Special,
        // POSIX: an unknown type is read as a regular file, so that no bytes are skipped.
        _ => Kind::File,
    }
}

/// Links, directories and devices have no data, whatever their size field says: old writers put the size of the
/// linked file there. Container runtimes do the same.
fn stored_bytes(kind: Kind, size: u64) -> u64 {
    if kind == Kind::File { size } else { 0 }
}

#[cfg(test)]
mod tests;
