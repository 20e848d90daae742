//! Executables: what Go and cargo-auditable record in them.

use crate::kind::{ReadError, Records};
use crate::{go, rust};

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
    let Ok(file) = object::File::parse(bytes) else { return Ok(()) };
    go::read(&file, records);
    rust::read(&file, records)
}
