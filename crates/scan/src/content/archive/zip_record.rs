//! The records of a zip archive: headers of members, the central directory, its end.
//!
//! Source: PKWARE's APPNOTE.TXT 6.3.10, sections 4.3.7 to 4.3.16, 4.4 and 4.5.3 (zip64).

use super::bytes::{le16, le32, le64};
use super::stream::Codec;

/// Begins the header of a member.
pub(super) const LOCAL: u32 = 0x0403_4b50;
/// Begins an entry of the central directory.
pub(super) const CENTRAL: u32 = 0x0201_4b50;
/// Begins the record that ends the archive.
pub(super) const END: u32 = 0x0605_4b50;
/// Begins the zip64 form of that record.
pub(super) const END_64: u32 = 0x0606_4b50;
/// Begins the record that says where the zip64 form is.
const LOCATOR_64: u32 = 0x0706_4b50;
/// Begins the signature of the directory.
const SIGNATURE: u32 = 0x0505_4b50;
/// Begins the decryption header of an encrypted directory.
const EXTRA_DATA: u32 = 0x0806_4b50;
/// Begins the descriptor after a member, if the writer writes this optional signature.
pub(super) const DESCRIPTOR: u32 = 0x0807_4b50;

/// The fixed part of a member's header, in bytes.
pub(super) const LOCAL_BYTES: usize = 30;

/// The maximum size in bytes of records that are skipped, except entries of the directory.
const LONGEST_RECORD: u64 = 1 << 20;

/// The newest version of the format: 6.3. Bytes with a greater version are not a header.
pub(super) const NEWEST_VERSION: u16 = 63;

/// How a member is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    Stored,
    Coded(Codec),
    /// Unsupported, with its number.
    Other(u16),
}

/// The header of a member.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) name: Vec<u8>,
    pub(super) method: Method,
    pub(super) is_encrypted: bool,
    /// The sizes and the CRC follow the data, in a descriptor.
    pub(super) has_descriptor: bool,
    /// The sizes in the descriptor have eight bytes each.
    pub(super) is_zip64: bool,
    /// The number of bytes in the archive, if the header has it.
    pub(super) packed: Option<u64>,
    /// The size of the member in bytes, if the header has it.
    pub(super) size: Option<u64>,
    pub(super) crc: u32,
}

/// A record at the front of some bytes.
pub(super) enum Record {
    /// The header of a member, and its size in bytes.
    Local(Box<Member>, usize),
    /// A record of the directory: its size in bytes, and the range of its comment.
    Directory(usize, std::ops::Range<usize>),
    /// The end of the archive: its size in bytes, and the range of its comment.
    End(usize, std::ops::Range<usize>),
    /// More bytes are needed.
    More,
    /// Not a record.
    None,
}

/// Parses the record at the start of `bytes`.
pub(super) fn read(bytes: &[u8]) -> Record {
    let Some(signature) = le32(bytes, 0) else { return Record::More };
    match signature {
        LOCAL => local(bytes),
        CENTRAL => directory(bytes).unwrap_or(Record::More),
        END => end(bytes).unwrap_or(Record::More),
        END_64 => sized(bytes, le64(bytes, 4), 12),
        EXTRA_DATA => sized(bytes, le32(bytes, 4).map(u64::from), 8),
        SIGNATURE => sized(bytes, le16(bytes, 4).map(u64::from), 6),
        LOCATOR_64 => sized(bytes, Some(0), 20),
        _ => Record::None,
    }
}

/// A record of variable size: `fixed` bytes that precede `size` more.
fn sized(bytes: &[u8], size: Option<u64>, fixed: usize) -> Record {
    match size {
        None => Record::More,
        Some(size) if size > LONGEST_RECORD => Record::None,
        Some(size) => {
            let total = fixed + size as usize;
            if bytes.len() < total { Record::More } else { Record::Directory(total, total..total) }
        }
    }
}

fn directory(bytes: &[u8]) -> Option<Record> {
    let name = usize::from(le16(bytes, 28)?);
    let extra = usize::from(le16(bytes, 30)?);
    let comment = usize::from(le16(bytes, 32)?);
    if le16(bytes, 6)? & 0xff > NEWEST_VERSION {
        return Some(Record::None);
    }
    let start = 46 + name + extra;
    (bytes.len() >= start + comment).then(|| Record::Directory(start + comment, start..start + comment))
}

fn end(bytes: &[u8]) -> Option<Record> {
    let total = 22 + usize::from(le16(bytes, 20)?);
    (bytes.len() >= total).then_some(Record::End(total, 22..total))
}

fn local(bytes: &[u8]) -> Record {
    if le16(bytes, 4).is_some_and(|version| version & 0xff > NEWEST_VERSION) {
        return Record::None;
    }
    let (Some(name), Some(extra)) = (le16(bytes, 26), le16(bytes, 28)) else { return Record::More };
    let name_end = LOCAL_BYTES + usize::from(name);
    let total = name_end + usize::from(extra);
    if bytes.len() < total {
        return Record::More;
    }
    let name = bytes.get(LOCAL_BYTES..name_end).unwrap_or_default();
    let extra = bytes.get(name_end..total).unwrap_or_default();
    match member(bytes, name, extra) {
        Some(member) => Record::Local(Box::new(member), total),
        None => Record::None,
    }
}

fn member(bytes: &[u8], name: &[u8], extra: &[u8]) -> Option<Member> {
    let flags = le16(bytes, 6)?;
    let packed = le32(bytes, 18)?;
    let size = le32(bytes, 22)?;
    let large = zip64(extra);
    let has_descriptor = flags & 8 != 0;
    let method = match le16(bytes, 8)? {
        0 => Method::Stored,
        8 => Method::Coded(Codec::Deflate),
        12 => Method::Coded(Codec::Bzip2),
        93 => Method::Coded(Codec::Zstd),
        95 => Method::Coded(Codec::Xz),
        other => Method::Other(other),
    };
    let large_size = large.and_then(|field| le64(field, 0));
    let large_packed = large.and_then(|field| le64(field, 8));
    let packed = if packed == u32::MAX { large_packed? } else { u64::from(packed) };
    let size = if size == u32::MAX { large_size? } else { u64::from(size) };
    // The size in a header with a descriptor may be a guess. It is only used for data whose end is not self-evident.
    let is_known = !has_descriptor || (packed > 0 && !matches!(method, Method::Coded(_)));
    Some(Member {
        name: name.to_vec(),
        method,
        is_encrypted: flags & 0x2041 != 0,
        has_descriptor,
        is_zip64: large.is_some(),
        packed: is_known.then_some(packed),
        size: (!has_descriptor || size > 0).then_some(size),
        crc: le32(bytes, 14)?,
    })
}

/// The zip64 field among the extra fields.
fn zip64(mut extra: &[u8]) -> Option<&[u8]> {
    loop {
        let (id, length) = (le16(extra, 0)?, usize::from(le16(extra, 2)?));
        let field = extra.get(4..4 + length)?;
        if id == 1 {
            return Some(field);
        }
        extra = extra.get(4 + length..)?;
    }
}

/// The maximum size of a descriptor in bytes.
pub(super) const DESCRIPTOR_BYTES: usize = 24;

/// The descriptor after a member: CRC and sizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Descriptor {
    pub(super) crc: u32,
    /// The size of the descriptor in bytes.
    pub(super) bytes: usize,
}

impl Descriptor {
    /// Parses the descriptor at the start of `bytes`, of a member of `packed` bytes in the archive and `size` bytes
    /// decompressed, if known. The signature is optional and the numbers have four or eight bytes; the form whose
    /// numbers match is taken.
    pub(super) fn read(bytes: &[u8], packed: u64, size: Option<u64>, is_zip64: bool) -> Option<Descriptor> {
        let signed = if le32(bytes, 0) == Some(DESCRIPTOR) { &[4, 0][..] } else { &[0] };
        for &start in signed {
            let fits = |is_wide: bool| {
                let number = |at| if is_wide { le64(bytes, at) } else { le32(bytes, at).map(u64::from) };
                let second = start + if is_wide { 12 } else { 8 };
                let mask = if is_wide { u64::MAX } else { u64::from(u32::MAX) };
                let is_size = size.is_none_or(|size| number(second) == Some(size & mask));
                number(start + 4) == Some(packed & mask) && is_size
            };
            let widths = if is_zip64 { [true, false] } else { [false, true] };
            if let Some(is_wide) = widths.into_iter().find(|&is_wide| fits(is_wide)) {
                return Some(Descriptor { crc: le32(bytes, start)?, bytes: start + if is_wide { 20 } else { 12 } });
            }
        }
        None
    }
}
