//! Small readers of bytes that every format needs: pieces, numbers, and the body of a member.

use super::level::Sink;

/// Takes `count` bytes off the front of `input`, or as many as there are.
pub(super) fn take<'a>(input: &mut &'a [u8], count: u64) -> &'a [u8] {
    let count = usize::try_from(count).unwrap_or(usize::MAX).min(input.len());
    let (first, rest) = input.split_at(count);
    *input = rest;
    first
}

/// `bytes` without the zeros that they begin with.
pub(super) fn without_zeros(bytes: &[u8]) -> &[u8] {
    let start = bytes.iter().position(|&byte| byte != 0).unwrap_or(bytes.len());
    bytes.get(start..).unwrap_or_default()
}

/// The little-endian number of two bytes at `at`.
pub(super) fn le16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..)?.first_chunk().copied()?))
}

/// The little-endian number of four bytes at `at`.
pub(super) fn le32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..)?.first_chunk().copied()?))
}

/// The little-endian number of eight bytes at `at`.
pub(super) fn le64(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..)?.first_chunk().copied()?))
}

/// The big-endian number of four bytes at `at`.
pub(super) fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..)?.first_chunk().copied()?))
}

/// The number that `digits` are in `radix`, and nothing but digits.
pub(super) fn digits(digits: &[u8], radix: u32) -> Option<u64> {
    let add = |number: u64, digit: &u8| {
        let digit = char::from(*digit).to_digit(radix)?;
        number.checked_mul(u64::from(radix))?.checked_add(u64::from(digit))
    };
    if digits.is_empty() { None } else { digits.iter().try_fold(0, add) }
}

/// What is left of a member that is stored as it is, and of the padding behind it.
#[derive(Debug)]
pub(super) struct Body {
    data: u64,
    padding: u64,
}

impl Body {
    pub(super) fn new(data: u64, padding: u64) -> Body {
        Body { data, padding }
    }

    /// Hands the data on to the open member, if there is one, and ends it; whether all is through.
    pub(super) fn push(&mut self, input: &mut &[u8], sink: &mut Sink<'_, '_>) -> bool {
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

    /// Whether all data went by, and only padding is left.
    pub(super) fn is_in_padding(&self) -> bool {
        self.data == 0
    }
}
