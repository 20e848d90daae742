//! DER as far as private keys use it: tags, lengths, integers and object identifiers. Source: ITU-T X.690, section 8.
//!
//! Lengths longer than needed and integers without their leading zero are read, because real keys have them; tags of
//! several bytes and indefinite lengths are not.

use std::fmt::Write as _;

use super::{Reject, effort};

/// The work of a value.
const VALUE: usize = 20;

/// Tag of an INTEGER.
pub(super) const INTEGER: u8 = 0x02;
/// Tag of a BIT STRING.
pub(super) const BIT_STRING: u8 = 0x03;
/// Tag of an OCTET STRING.
pub(super) const OCTETS: u8 = 0x04;
/// Tag of a NULL.
pub(super) const NULL: u8 = 0x05;
/// Tag of an OBJECT IDENTIFIER.
pub(super) const OID: u8 = 0x06;
/// Tag of a SEQUENCE.
pub(super) const SEQUENCE: u8 = 0x30;

/// Reads one value after another.
#[derive(Clone)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// A reader of the values in `bytes`.
    pub(super) fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { rest: bytes }
    }

    /// Whether all values were read.
    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The bytes that were not read yet.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The tag of the next value.
    pub(super) fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    /// The next value: its tag and its content.
    pub(super) fn any(&mut self) -> Result<(u8, &'a [u8]), Reject> {
        effort::charge(VALUE);
        let (tag, start, len) = header(self.rest)?;
        let end = start.checked_add(len).ok_or(Reject::Malformed)?;
        let content = self.rest.get(start..end).ok_or(Reject::Truncated)?;
        self.rest = self.rest.get(end..).unwrap_or_default();
        Ok((tag, content))
    }

    /// The content of the next value, which has to have `tag`.
    pub(super) fn expect(&mut self, tag: u8) -> Result<&'a [u8], Reject> {
        if self.peek().is_some_and(|next| next != tag) {
            return Err(Reject::NotAKey);
        }
        self.any().map(|(_, content)| content)
    }

    /// A reader of the next value, which has to be a sequence.
    pub(super) fn sequence(&mut self) -> Result<Reader<'a>, Reject> {
        self.expect(SEQUENCE).map(Reader::new)
    }

    /// The next value, an integer that is not negative: its big-endian bytes without leading zeros.
    pub(super) fn number(&mut self) -> Result<&'a [u8], Reject> {
        match self.expect(INTEGER)? {
            [] => Err(Reject::Malformed),
            bytes => Ok(trim(bytes)),
        }
    }
}

/// `bytes` without leading zeros.
pub(super) fn trim(bytes: &[u8]) -> &[u8] {
    let zeros = bytes.iter().take_while(|&&byte| byte == 0).count();
    bytes.get(zeros..).unwrap_or_default()
}

/// Tag, offset of the content and its length of the value at the start of `bytes`.
fn header(bytes: &[u8]) -> Result<(u8, usize, usize), Reject> {
    let &[tag, first, ..] = bytes else { return Err(Reject::Truncated) };
    if tag & 0x1f == 0x1f {
        return Err(Reject::Malformed);
    }
    match first {
        0..=0x7f => Ok((tag, 2, usize::from(first))),
        0x81..=0x83 => {
            let start = 2 + usize::from(first & 0x7f);
            let length = bytes.get(2..start).ok_or(Reject::Truncated)?;
            Ok((tag, start, length.iter().fold(0, |sum, &byte| sum << 8 | usize::from(byte))))
        }
        _ => Err(Reject::Malformed),
    }
}

/// A value with `tag` whose content is the concatenation of `parts`.
pub(super) fn encode(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let length = content.len().to_be_bytes();
    let mut value = vec![tag];
    match trim(&length) {
        [] => value.push(0),
        &[short] if short < 0x80 => value.push(short),
        // At most eight bytes of length, so the sum fits.
        long => {
            value.push(0x80 | long.len() as u8);
            value.extend_from_slice(long);
        }
    }
    value.extend_from_slice(&content);
    value
}

/// An integer of the big-endian bytes `number`.
pub(super) fn encode_number(number: &[u8]) -> Vec<u8> {
    let number = trim(number);
    let sign: &[u8] = if number.first().is_none_or(|&byte| byte >= 0x80) { &[0] } else { &[] };
    encode(INTEGER, &[sign, number])
}

/// The content of an object identifier as numbers with dots. Source: X.690, section 8.19.
pub(super) fn dotted(oid: &[u8]) -> String {
    let mut text = String::new();
    let mut arc = 0u64;
    for &byte in oid.iter().take(64) {
        arc = arc.wrapping_shl(7) | u64::from(byte & 0x7f);
        if byte & 0x80 != 0 {
            continue;
        }
        let written = if text.is_empty() {
            let first = (arc / 40).min(2);
            write!(text, "{first}.{}", arc - first * 40)
        } else {
            write!(text, ".{arc}")
        };
        debug_assert!(written.is_ok(), "writing to a string cannot fail");
        arc = 0;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_is_read_back() {
        for len in [0, 1, 127, 128, 255, 256, 65_535, 65_536] {
            let content = vec![7; len];
            let value = encode(OCTETS, &[&content]);
            let mut reader = Reader::new(&value);
            assert_eq!(reader.expect(OCTETS), Ok(&content[..]));
            assert!(reader.is_empty());
        }
        assert_eq!(encode_number(&[0, 0x80]), [2, 2, 0, 0x80]);
        assert_eq!(encode_number(&[]), [2, 1, 0]);
    }

    #[test]
    fn odd_lengths() {
        assert_eq!(Reader::new(&[2, 0x82, 0, 1, 9]).number(), Ok(&[9][..]));
        assert_eq!(Reader::new(&[2, 0x80, 9, 0, 0]).number(), Err(Reject::Malformed));
        assert_eq!(Reader::new(&[2, 0x83, 0xff, 0xff, 0xff, 1]).number(), Err(Reject::Truncated));
        assert_eq!(Reader::new(&[0x1f, 1, 1]).any(), Err(Reject::Malformed));
        assert_eq!(Reader::new(&[2, 0]).number(), Err(Reject::Malformed));
    }

    #[test]
    fn object_identifiers() {
        assert_eq!(dotted(&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1]), "1.2.840.113549.1.1.1");
        assert_eq!(dotted(&[0x60, 0x86, 0x48]), "2.16.840");
        assert_eq!(dotted(&[0xff; 200]), "");
    }
}
