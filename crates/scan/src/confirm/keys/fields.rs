//! Big-endian numbers and counted strings one after another: the data types of RFC 4251, section 5, which PuTTY has,
//! too, and what Java's `DataOutput` and OpenPGP write.

use super::{Reject, effort, tlv};

/// The work of a field.
const FIELD: usize = 8;

/// Reads fields in order. A missing field is [`Reject::Malformed`].
#[derive(Clone)]
pub(super) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    /// A reader of the fields in `bytes`.
    pub(super) fn new(bytes: &'a [u8]) -> Fields<'a> {
        Fields { rest: bytes }
    }

    /// The bytes that were not read yet.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The next `len` bytes.
    pub(super) fn take(&mut self, len: usize) -> Result<&'a [u8], Reject> {
        effort::charge(FIELD);
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(Reject::Malformed)?;
        self.rest = rest;
        Ok(taken)
    }

    /// The next byte.
    pub(super) fn u8(&mut self) -> Result<u8, Reject> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// The next two bytes, a number.
    pub(super) fn u16(&mut self) -> Result<u16, Reject> {
        self.array().map(u16::from_be_bytes)
    }

    /// The next four bytes, a number.
    pub(super) fn u32(&mut self) -> Result<u32, Reject> {
        self.array().map(u32::from_be_bytes)
    }

    /// The next four bytes, a number of bytes or entries.
    pub(super) fn len(&mut self) -> Result<usize, Reject> {
        usize::try_from(self.u32()?).map_err(|_| Reject::Malformed)
    }

    /// Bytes after their number in 32 bits.
    pub(super) fn string(&mut self) -> Result<&'a [u8], Reject> {
        let len = self.len()?;
        self.take(len)
    }

    /// Bytes after their number in 16 bits.
    pub(super) fn short_string(&mut self) -> Result<&'a [u8], Reject> {
        let len = self.u16()?;
        self.take(usize::from(len))
    }

    /// A number that is not negative, written as a string, without leading zeros.
    pub(super) fn number(&mut self) -> Result<&'a [u8], Reject> {
        self.string().map(tlv::trim)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Reject> {
        let (array, rest) = self.rest.split_first_chunk::<N>().ok_or(Reject::Malformed)?;
        self.rest = rest;
        Ok(*array)
    }
}
