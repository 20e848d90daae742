//! Helpers for all formats: taking bytes, reading numbers, and passing on the body of a member.

use super::level::MemberSink;

/// Takes `count` bytes off the front of `input`, or as many as there are.
pub(super) fn take<'a>(input: &mut &'a [u8], count: u64) -> &'a [u8] {
    let count = usize::try_from(count).unwrap_or(usize::MAX).min(input.len());
    let (first, rest) = input.split_at(count);
    *input = rest;
    first
}

/// `bytes` without leading zeros.
pub(super) fn without_zeros(bytes: &[u8]) -> &[u8] {
    let start = bytes.iter().position(|&byte| byte != 0).unwrap_or(bytes.len());
    bytes.get(start..).unwrap_or_default()
}

/// The little-endian 16-bit number at offset `at`.
pub(super) fn le16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..)?.first_chunk().copied()?))
}

/// The little-endian 32-bit number at offset `at`.
pub(super) fn le32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..)?.first_chunk().copied()?))
}

/// The little-endian 64-bit number at offset `at`.
pub(super) fn le64(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..)?.first_chunk().copied()?))
}

/// The big-endian 32-bit number at offset `at`.
pub(super) fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..)?.first_chunk().copied()?))
}

/// Parses `digits` in `radix`; `None` if there is any other character.
pub(super) fn digits(digits: &[u8], radix: u32) -> Option<u64> {
    let add = |number: u64, digit: &u8| {
        let digit = char::from(*digit).to_digit(radix)?;
        number.checked_mul(u64::from(radix))?.checked_add(u64::from(digit))
    };
    if digits.is_empty() { None } else { digits.iter().try_fold(0, add) }
}

/// The bytes that remain of an uncompressed member, and of the padding after it.
#[derive(Debug)]
pub(super) struct Body {
    data: u64,
    padding: u64,
}

impl Body {
    pub(super) fn new(data: u64, padding: u64) -> Body {
        Body { data, padding }
    }

    /// Passes data on to the open member, if there is one, and ends it after its last byte. Returns whether data and
    /// padding are complete.
    pub(super) fn push(&mut self, input: &mut &[u8], sink: &mut MemberSink<'_, '_>) -> bool {
        let piece = take(input, self.data);
        self.data -= piece.len() as u64;
        sink.bytes(piece);
        if self.data > 0 {
            return false;
        }
        sink.end();
        self.padding -= take(input, self.padding).len() as u64;
        self.padding == 0
    }

    /// Whether only padding remains.
    pub(super) fn is_in_padding(&self) -> bool {
        self.data == 0
    }
}
