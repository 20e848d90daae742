//! Base64 as the two forms of cosign read it, and hexadecimal digits.

use base64::Engine;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use base64::prelude::BASE64_STANDARD;

/// The padding is checked before, where it matters.
const ANY_PADDING: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Which base64 a reader accepts. Line breaks are ignored by all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Base64 {
    /// The standard alphabet with padding.
    Standard,
    /// Either alphabet, with padding.
    EitherAlphabet,
    /// Either alphabet, with or without padding, as protobuf's JSON has it.
    Protobuf,
}

impl Base64 {
    /// The bytes that `text` stands for.
    pub(crate) fn decode(self, text: &str) -> Option<Vec<u8>> {
        let mut plain: Vec<u8> = text.bytes().filter(|byte| !matches!(byte, b'\r' | b'\n')).collect();
        if self != Base64::Standard {
            let has_standard = plain.iter().any(|byte| matches!(byte, b'+' | b'/'));
            let has_url = plain.iter().any(|byte| matches!(byte, b'-' | b'_'));
            if has_standard && has_url {
                return None;
            }
            for byte in &mut plain {
                *byte = match *byte {
                    b'-' => b'+',
                    b'_' => b'/',
                    other => other,
                };
            }
        }
        if self == Base64::Protobuf { ANY_PADDING.decode(plain).ok() } else { BASE64_STANDARD.decode(plain).ok() }
    }
}

/// `bytes` in base64 with padding.
pub(crate) fn base64(bytes: &[u8]) -> String {
    BASE64_STANDARD.encode(bytes)
}

/// `bytes` as lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether `text` consists of whole bytes in hexadecimal digits.
pub(crate) fn is_hex(text: &str) -> bool {
    text.len().is_multiple_of(2) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_read_as_each_form_reads_it() {
        let bytes = Some(vec![0xfb, 0xff, 0xfe, 0x01]);
        for (text, standard, either, protobuf) in [
            ("+//+AQ==", true, true, true),
            ("-__-AQ==", false, true, true),
            ("+//+AQ", false, false, true),
            ("+//+\nAQ==", true, true, true),
            ("+_/+AQ==", false, false, false),
            ("+//+AR==", false, false, false),
            ("+//+ AQ==", false, false, false),
        ] {
            for (kind, accepts) in
                [(Base64::Standard, standard), (Base64::EitherAlphabet, either), (Base64::Protobuf, protobuf)]
            {
                assert_eq!(kind.decode(text), bytes.clone().filter(|_| accepts), "{text} {kind:?}");
            }
        }
    }
}
