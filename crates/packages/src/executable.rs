//! Executables: what Go and cargo-auditable record in them.

use object::{File, Object, ObjectSection};

use crate::kind::{ReadError, Records};
use crate::{go, rust};

/// The most sections that are looked at. The name of each may be as long as the file.
const MAX_SECTIONS: usize = 256;

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
