//! Executables: what Go and cargo-auditable record in them.

use object::{File, Object, ObjectSection};

use crate::kind::{MAX_RECORD_BYTES, RECORDS, ReadError, Records};
use crate::work::{INFLATED, PARSED, SEARCHED};
use crate::{go, rust};

/// The most sections that are looked at. The name of each may be as long as the file.
const MAX_SECTIONS: usize = 256;

/// The bytes in memory of a list of crates while its buffer grows.
const LIST_BYTES: u64 = 2 * rust::MAX_JSON;

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
    let Ok(file) = File::parse(bytes) else { return 0 };
    let length = bytes.len() as u64;
    // The parser of Mach-O files lists all sections.
    let headers = if matches!(file, File::MachO32(_) | File::MachO64(_)) { length } else { 0 };
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
    let Ok(file) = File::parse(bytes) else { return Ok(()) };
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
