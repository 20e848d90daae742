//! Members of zip archives by the central directory, as Java reads them.
//!
//! Source: PKWARE's APPNOTE.TXT 6.3.10. Bytes may come before the archive, as in an executable jar.

use std::io::Read;

use crate::bytes::{le16, le32, le64, slice};

const END: &[u8] = b"PK\x05\x06";
const END_64_LOCATOR: &[u8] = b"PK\x06\x07";
const END_64: &[u8] = b"PK\x06\x06";
const CENTRAL: &[u8] = b"PK\x01\x02";
const LOCAL: &[u8] = b"PK\x03\x04";
const END_BYTES: usize = 22;
const CENTRAL_BYTES: usize = 46;
const LOCAL_BYTES: usize = 30;
const STORED: u16 = 0;
const DEFLATED: u16 = 8;
const ENCRYPTED: u16 = 1;

/// A member of an archive.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Member<'b> {
    pub(crate) name: &'b [u8],
    method: u16,
    flags: u16,
    packed: u64,
    /// The size that the directory states.
    pub(crate) size: u64,
    offset: u64,
}

/// An archive in memory.
pub(crate) struct Archive<'b> {
    bytes: &'b [u8],
    directory: &'b [u8],
    /// The bytes before the archive, which its offsets do not count.
    before: u64,
}

impl<'b> Archive<'b> {
    /// The archive that ends with `bytes`.
    pub(crate) fn new(bytes: &'b [u8]) -> Option<Archive<'b>> {
        let tail = bytes.len().saturating_sub(END_BYTES + usize::from(u16::MAX));
        let end = tail + memchr::memmem::rfind(&bytes[tail..], END)?;
        let (mut size, mut offset) = (u64::from(le32(bytes, end + 12)?), u64::from(le32(bytes, end + 16)?));
        let mut directory_end = end as u64;
        let locator =
            end.checked_sub(20).and_then(|at| slice(bytes, at, 20)).filter(|at| at.starts_with(END_64_LOCATOR));
        if let Some(locator) = locator.filter(|_| size == u64::from(u32::MAX) || offset == u64::from(u32::MAX)) {
            let at = usize::try_from(le64(locator, 8)?).ok()?;
            let record = slice(bytes, at, 56).filter(|record| record.starts_with(END_64))?;
            (size, offset, directory_end) = (le64(record, 40)?, le64(record, 48)?, at as u64);
        }
        let start = directory_end.checked_sub(size)?;
        let before = start.checked_sub(offset)?;
        let directory = slice(bytes, usize::try_from(start).ok()?, usize::try_from(size).ok()?)?;
        Some(Archive { bytes, directory, before })
    }

    /// The members, up to the first entry of the directory that is damaged.
    pub(crate) fn members(&self) -> impl Iterator<Item = Member<'b>> + use<'b> {
        let mut left = self.directory;
        std::iter::from_fn(move || {
            let (member, rest) = member(left)?;
            left = rest;
            Some(member)
        })
    }

    /// The most bytes that are read and made for the contents of `member`.
    pub(crate) fn bytes_of(&self, member: &Member<'b>) -> u64 {
        member.packed.min(self.bytes.len() as u64).saturating_add(member.size)
    }

    /// The contents of `member`, if they can be read and have at most the bytes that the directory states.
    pub(crate) fn contents(&self, member: &Member<'b>) -> Option<Vec<u8>> {
        let at = usize::try_from(self.before.checked_add(member.offset)?).ok()?;
        let local = slice(self.bytes, at, LOCAL_BYTES).filter(|local| local.starts_with(LOCAL))?;
        let names = usize::from(le16(local, 26)?) + usize::from(le16(local, 28)?);
        let packed = slice(self.bytes, at + LOCAL_BYTES + names, usize::try_from(member.packed).ok()?)?;
        if member.flags & ENCRYPTED != 0 {
            return None;
        }
        let mut contents = Vec::new();
        let most = member.size.saturating_add(1);
        match member.method {
            STORED => packed.take(most).read_to_end(&mut contents).ok()?,
            DEFLATED => flate2::read::DeflateDecoder::new(packed).take(most).read_to_end(&mut contents).ok()?,
            _ => return None,
        };
        (contents.len() as u64 <= member.size).then_some(contents)
    }
}

/// The first member of the directory `entries`, and the rest.
fn member(entries: &[u8]) -> Option<(Member<'_>, &[u8])> {
    let fixed = slice(entries, 0, CENTRAL_BYTES).filter(|fixed| fixed.starts_with(CENTRAL))?;
    let [name, extra, comment] = [le16(fixed, 28)?, le16(fixed, 30)?, le16(fixed, 32)?].map(usize::from);
    let mut member = Member {
        name: slice(entries, CENTRAL_BYTES, name)?,
        flags: le16(fixed, 8)?,
        method: le16(fixed, 10)?,
        packed: u64::from(le32(fixed, 20)?),
        size: u64::from(le32(fixed, 24)?),
        offset: u64::from(le32(fixed, 42)?),
    };
    widen(&mut member, slice(entries, CENTRAL_BYTES + name, extra)?);
    Some((member, entries.get(CENTRAL_BYTES + name + extra + comment..)?))
}

/// Takes the 64-bit fields from the extra field that has those which do not fit into 32 bits.
fn widen(member: &mut Member<'_>, mut extra: &[u8]) {
    while let (Some(kind), Some(length)) = (le16(extra, 0), le16(extra, 2)) {
        let Some(field) = slice(extra, 4, usize::from(length)) else { return };
        extra = &extra[4 + usize::from(length)..];
        if kind != 1 {
            continue;
        }
        let mut at = 0;
        for value in [&mut member.size, &mut member.packed, &mut member.offset] {
            if *value == u64::from(u32::MAX) {
                let Some(wide) = le64(field, at) else { return };
                *value = wide;
                at += 8;
            }
        }
    }
}
