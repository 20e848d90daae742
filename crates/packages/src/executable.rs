//! Executables: what Go and cargo-auditable record in them.

use std::ops::Range;

use object::{Object, ObjectSection, ReadRef};

use crate::kind::{MAX_RECORD_BYTES, RECORDS, ReadError, Records};
use crate::work::{INFLATED, PARSED, SEARCHED};
use crate::{go, rust};

/// The most sections that are looked at.
const MAX_SECTIONS: usize = 256;

/// The most bytes of a name in a table of the file.
const MAX_NAME: u64 = 256;

/// The bytes in memory of a list of crates while its buffer grows.
const LIST_BYTES: u64 = 2 * rust::MAX_JSON;

/// An executable file.
pub(crate) type File<'f> = object::File<'f, Bytes<'f>>;

/// The bytes of an executable file. A name that is longer than [`MAX_NAME`] is an error: one without an end would be
/// searched for it to the end of the file, for each section that has it.
#[derive(Clone, Copy)]
pub(crate) struct Bytes<'f>(&'f [u8]);

impl<'f> ReadRef<'f> for Bytes<'f> {
    fn len(self) -> Result<u64, ()> {
        ReadRef::len(self.0)
    }

    fn read_bytes_at(self, offset: u64, size: u64) -> Result<&'f [u8], ()> {
        self.0.read_bytes_at(offset, size)
    }

    fn read_bytes_at_until(self, range: Range<u64>, delimiter: u8) -> Result<&'f [u8], ()> {
        let end = range.end.min(range.start.saturating_add(MAX_NAME));
        self.0.read_bytes_at_until(range.start..end, delimiter)
    }
}

/// The sections with records.
#[derive(Default)]
pub(crate) struct Sections<'f> {
    /// The build information of Go.
    pub(crate) go: Option<&'f [u8]>,
    /// Initialized data, in which a PE file of Go has its build information.
    pub(crate) data: Option<&'f [u8]>,
    /// The list of crates, or an error if it cannot be reached.
    pub(crate) crates: Option<Result<&'f [u8], object::Error>>,
}

/// Whether `head` begins an ELF, PE or Mach-O file.
pub(crate) fn is_executable(head: &[u8]) -> bool {
    matches!(
        head,
        [0x7f, b'E', b'L', b'F', ..]
            | [b'M', b'Z', ..]
            | [0xcf | 0xce, 0xfa, 0xed, 0xfe, ..]
            | [0xfe, 0xed, 0xfa, 0xce | 0xcf, ..]
    )
}

/// The bytes of memory that it may take to read the records of the executable `bytes`.
pub(crate) fn memory(bytes: &[u8]) -> u64 {
    let Ok(file) = File::parse(Bytes(bytes)) else { return 0 };
    let length = bytes.len() as u64;
    // The parser of Mach-O files lists all sections.
    let headers = if matches!(file, object::File::MachO32(_) | object::File::MachO64(_)) { length } else { 0 };
    // A list of crates is compressed.
    let has_crates = Sections::new(&file).crates.is_some();
    headers + if has_crates { LIST_BYTES + MAX_RECORD_BYTES } else { MAX_RECORD_BYTES.min(RECORDS * length) }
}

/// The most work on an executable of `length` bytes, without its records.
pub(crate) fn most_work(length: usize) -> u64 {
    length as u64 * (SEARCHED + PARSED + INFLATED) + rust::MAX_JSON * (INFLATED + PARSED)
}

/// Reads both records. A file that is damaged as an executable has none.
pub(crate) fn read(bytes: &[u8], records: &mut Records) -> Result<(), ReadError> {
    let Ok(file) = File::parse(Bytes(bytes)) else { return Ok(()) };
    let sections = Sections::new(&file);
    go::read(&file, &sections, records);
    rust::read(&sections, records)
}

impl<'f> Sections<'f> {
    fn new(file: &File<'f>) -> Sections<'f> {
        let mut found = Sections::default();
        for section in file.sections().take(MAX_SECTIONS) {
            match section.name() {
                Ok(".go.buildinfo" | "__go_buildinfo") => found.go = section.data().ok(),
                Ok(".data") => found.data = section.data().ok(),
                Ok(".dep-v0" | "rust-deps-v0" | "__rust_deps_v0") => found.crates = Some(section.data()),
                _ => {}
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_searched_for_their_ends_as_far_as_names_are_long() {
        let bytes = [&[b'a'; 300][..], b"\0.data\0"].concat();
        let name = |start: u64| Bytes(&bytes).read_bytes_at_until(start..bytes.len() as u64, 0);
        assert_eq!(name(0), Err(()), "it ends after 300 bytes");
        assert_eq!(name(45).map(<[u8]>::len), Ok(255));
        assert_eq!(name(301), Ok(&b".data"[..]));
        assert_eq!(name(u64::MAX), Err(()));
    }
}
