//! Zip archives behind a program or a script: executable jars, self-extracting archives, data that a program carries.
//!
//! Their readers find such an archive by its end. A file that is read in one pass is searched for the header of its
//! first member instead, which is checked more than the four bytes of its signature, as programs that read zip archives
//! have these, too.

use memchr::memmem;

use super::bytes::{le16, le32};
use super::zip_record::{LOCAL, LOCAL_BYTES, NEWEST_VERSION};

/// The header of a member, and the first byte of its name.
const HEADER: usize = LOCAL_BYTES + 1;

/// The flags that no version of the format defines.
const UNDEFINED_FLAGS: u16 = 0xd780;

/// The flag of an encrypted member.
const ENCRYPTED: u16 = 1;

/// The longest name of the first member in bytes.
const LONGEST_NAME: u16 = 4096;

/// A search for the first member of a zip archive.
#[derive(Default)]
pub(crate) struct PrefixedZip {
    /// The last bytes, in which a header may begin.
    last: Vec<u8>,
}

impl PrefixedZip {
    /// A search, if the file that begins with `head` may have an archive behind its own bytes.
    pub(crate) fn behind(head: &[u8]) -> Option<PrefixedZip> {
        let is_carrier = match head {
            [b'#', b'!', ..] | [b'M', b'Z', ..] | [0x7f, b'E', b'L', b'F', ..] => true,
            // Mach-O, and several of them in one file.
            [0xcf | 0xce, 0xfa, 0xed, 0xfe, ..] | [0xca, 0xfe, 0xba, 0xbe, ..] => true,
            _ => false,
        };
        is_carrier.then(PrefixedZip::default)
    }

    /// Looks at the next `bytes` of the file. Returns the first bytes of the archive, in two pieces: those that were
    /// passed before, and those of `bytes`.
    pub(crate) fn find<'b>(&mut self, bytes: &'b [u8]) -> Option<(Vec<u8>, &'b [u8])> {
        let mut both = std::mem::take(&mut self.last);
        let before = both.len();
        both.extend_from_slice(bytes.get(..HEADER).unwrap_or(bytes));
        if let Some(at) = first_member(&both).filter(|at| *at < before) {
            return Some((both.get(at..before).unwrap_or_default().to_vec(), bytes));
        }
        if let Some(at) = first_member(bytes) {
            return Some((Vec::new(), bytes.get(at..).unwrap_or_default()));
        }
        let newest = if bytes.len() < HEADER { &both } else { bytes };
        self.last = newest.get(newest.len().saturating_sub(HEADER - 1)..).unwrap_or_default().to_vec();
        None
    }
}

/// Where the header of a member is.
fn first_member(bytes: &[u8]) -> Option<usize> {
    memmem::find_iter(bytes, &LOCAL.to_le_bytes()).find(|at| is_member(bytes.get(*at..).unwrap_or_default()))
}

/// Whether `bytes` begin with a header as writers of archives write it.
fn is_member(bytes: &[u8]) -> bool {
    let number = |at| le16(bytes, at).unwrap_or(u16::MAX);
    let (flags, method, month, name) = (number(6), number(8), number(12) >> 5 & 15, number(26));
    let is_encrypted = flags & ENCRYPTED != 0;
    bytes.len() >= HEADER
        && number(4) & 0xff <= NEWEST_VERSION
        && flags & UNDEFINED_FLAGS == 0
        && matches!(method, 0..=20 | 93..=99)
        && (method != 0 || is_encrypted || le32(bytes, 18) == le32(bytes, 22))
        && month <= 12
        && (1..=LONGEST_NAME).contains(&name)
        && bytes.get(LOCAL_BYTES).is_some_and(|first| *first >= b' ')
}
