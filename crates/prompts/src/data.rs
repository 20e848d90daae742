//! Data inside of strings: base64 and data URIs.

use base64::Engine;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use layersift_model::percent_decoded;

const CONFIG: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_padding_mode(DecodePaddingMode::Indifferent)
    .with_decode_allow_trailing_bits(true);
const STANDARD_ANY: GeneralPurpose = GeneralPurpose::new(&STANDARD, CONFIG);
const URL_ANY: GeneralPurpose = GeneralPurpose::new(&URL_SAFE, CONFIG);

/// The shortest string that is taken for base64 though nothing says that it is.
const LEAST: usize = 64;

/// The size up to which a string that was decoded is scanned as it stands, too: it may have the form of base64 by
/// chance.
pub(crate) const SCANNED_TWICE: usize = 64 << 10;

/// The fewest numbers of a list that stands for bytes.
const LEAST_NUMBERS: usize = 8;

/// What a string holds.
#[derive(Debug, PartialEq, Eq)]
pub enum Data {
    /// Decoded bytes, with the media type of a data URI.
    Bytes(Vec<u8>, Option<String>),
    /// A data URI that cannot be decoded.
    Damaged,
    /// Only text.
    None,
}

/// What a string of a conversation holds as data, and whether it is to be scanned as it stands, too. `is_announced`
/// says that the field next to it calls it base64.
pub fn data_in(text: &str, is_announced: bool) -> (Data, bool) {
    let data = decode(text, is_announced);
    let is_text = match data {
        Data::Bytes(..) => !is_announced && text.len() <= SCANNED_TWICE,
        Data::Damaged | Data::None => true,
    };
    (data, is_text)
}

/// The bytes that a list of numbers stands for, as programs write buffers in JSON; `None` if it is something else.
pub fn bytes_of_numbers(numbers: impl Iterator<Item = Option<u64>>) -> Option<Vec<u8>> {
    let bytes: Vec<u8> = numbers.map(|number| u8::try_from(number?).ok()).collect::<Option<_>>()?;
    (bytes.len() >= LEAST_NUMBERS).then_some(bytes)
}

/// Decodes a data URI, and a string that is base64 as a whole.
fn decode(text: &str, is_announced: bool) -> Data {
    if let Some((media_type, encoded, is_base64)) = data_uri(text) {
        if !is_base64 {
            return Data::Bytes(percent_decoded(encoded.as_bytes()), Some(media_type));
        }
        return match base64(encoded) {
            Some(bytes) => Data::Bytes(bytes, Some(media_type)),
            None => Data::Damaged,
        };
    }
    if !is_announced && text.len() < LEAST {
        return Data::None;
    }
    match base64(text) {
        Some(bytes) => Data::Bytes(bytes, None),
        None if is_announced => Data::Damaged,
        None => Data::None,
    }
}

/// The media type of a data URI (RFC 2397), what follows the comma, and whether that is base64.
fn data_uri(text: &str) -> Option<(String, &str, bool)> {
    let trimmed = text.trim_ascii_start();
    let rest = trimmed.get(..5).filter(|scheme| scheme.eq_ignore_ascii_case("data:")).and(trimmed.get(5..))?;
    let (head, encoded) = rest.split_once(',')?;
    // A sentence may begin with these letters.
    if head.len() > 256 || head.contains(['\n', '"']) {
        return None;
    }
    let mut fields = head.split(';').map(str::trim);
    let media_type = fields.next().unwrap_or_default().to_ascii_lowercase();
    let is_base64 = fields.any(|field| field.eq_ignore_ascii_case("base64"));
    if !(is_base64 || media_type.is_empty() || media_type.contains('/')) {
        return None;
    }
    Some((media_type, encoded, is_base64))
}

fn base64(text: &str) -> Option<Vec<u8>> {
    let bytes = text.as_bytes();
    // Most strings are prose, and end this at their first space.
    let is_base64 = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/-_=\r\n".contains(byte);
    if !bytes.iter().all(is_base64) {
        return None;
    }
    let plain: Vec<u8> = bytes.iter().copied().filter(|byte| !matches!(byte, b'\r' | b'\n')).collect();
    STANDARD_ANY.decode(&plain).or_else(|_| URL_ANY.decode(&plain)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_uris_and_base64_are_decoded() {
        let some = |bytes: &[u8], media: Option<&str>| Data::Bytes(bytes.to_vec(), media.map(String::from));
        assert_eq!(decode("data:text/plain;base64,aGVsbG8=", false), some(b"hello", Some("text/plain")));
        assert_eq!(decode("DATA:;charset=utf-8;base64,aGVsbG8", false), some(b"hello", Some("")));
        assert_eq!(decode("data:text/plain,a%20b%zz", false), some(b"a b%zz", Some("text/plain")));
        assert_eq!(decode("data:text/plain;base64,a!b", false), Data::Damaged);
        assert_eq!(decode("aGVsbG8=", true), some(b"hello", None));
        assert_eq!(decode("a GV", true), Data::Damaged);
        let long = "aGVs\r\n".repeat(20);
        assert_eq!(decode(&long, false), some("hel".repeat(20).as_bytes(), None));
        assert_eq!(decode("-_8=", true), some(&[0xfb, 0xff], None));
        for text in ["aGVsbG8=", "data: 1, 2 and 3", "Data: foo\nbar, x", "prose that is longer than a short string"] {
            assert_eq!(decode(text, false), Data::None, "{text}");
        }
    }
}
