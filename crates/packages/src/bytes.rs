//! Numbers and strings in binary formats. Every access is checked: the bytes are hostile.

/// The bytes of `length` from `offset` on, if they are all there.
pub(crate) fn slice(bytes: &[u8], offset: usize, length: usize) -> Option<&[u8]> {
    bytes.get(offset..offset.checked_add(length)?)
}

/// A 16-bit number, little-endian.
pub(crate) fn le16(bytes: &[u8], offset: usize) -> Option<u16> {
    Some(u16::from_le_bytes(slice(bytes, offset, 2)?.try_into().ok()?))
}

/// A 16-bit number, big-endian.
pub(crate) fn be16(bytes: &[u8], offset: usize) -> Option<u16> {
    le16(bytes, offset).map(u16::swap_bytes)
}

/// A 32-bit number, little-endian.
pub(crate) fn le32(bytes: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_le_bytes(slice(bytes, offset, 4)?.try_into().ok()?))
}

/// A 32-bit number, big-endian.
pub(crate) fn be32(bytes: &[u8], offset: usize) -> Option<u32> {
    le32(bytes, offset).map(u32::swap_bytes)
}

/// A 64-bit number, little-endian.
pub(crate) fn le64(bytes: &[u8], offset: usize) -> Option<u64> {
    Some(u64::from_le_bytes(slice(bytes, offset, 8)?.try_into().ok()?))
}
