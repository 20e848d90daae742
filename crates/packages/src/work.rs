//! The work of reading records, by what is read. The unit is a byte that is read at full speed, as in the scan.

/// The work of a byte that is searched for a few words.
pub(crate) const SEARCHED: u64 = 2;

/// The work of a byte of a text or of JSON.
pub(crate) const PARSED: u64 = 8;

/// The work of a byte of a database, whose pages and headers are read several times. A damaged one may have an entry in
/// every other byte.
pub(crate) const DATABASE: u64 = 40;

/// The work of a byte that is decompressed, and of one that it is decompressed from: a stream may consist of blocks
/// that hold nothing.
pub(crate) const INFLATED: u64 = 2;

/// The work of a member of an archive: its entry is read more than once.
pub(crate) const MEMBER: u64 = 200;

/// The work of a record.
pub(crate) const RECORD: u64 = 300;
