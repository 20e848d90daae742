//! Identities of age: `AGE-SECRET-KEY-1` and the key in Bech32. Sources: age's specification, section "X25519
//! recipient stanza" (<https://age-encryption.org/v1>); BIP 173, section "Bech32" (digits and checksum).

use super::{Container, PrivateKey, Reject, der};

const PREFIX: &[u8] = b"age-secret-key-";
const DIGITS: &[u8] = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l";

/// The digits of 32 bytes and the checksum after the `1`.
const LEN: usize = 52 + CHECKSUM;
const CHECKSUM: usize = 6;

/// Reads the identity that starts at `at` in `window`. The span ends after its last digit.
///
/// # Errors
/// The reason for the rejection, usually a wrong checksum.
pub fn age_identity_at(window: &[u8], at: usize) -> Result<PrivateKey, Reject> {
    let end = at.saturating_add(PREFIX.len() + 1 + LEN);
    let text = window.get(at..end).ok_or(Reject::Truncated)?;
    // Mixed case is not allowed.
    if text.iter().any(u8::is_ascii_lowercase) && text.iter().any(u8::is_ascii_uppercase) {
        return Err(Reject::Malformed);
    }
    let text = text.to_ascii_lowercase();
    let digits = text.strip_prefix(PREFIX).and_then(|text| text.strip_prefix(b"1")).ok_or(Reject::NoLabel)?;
    let values: Option<Vec<u8>> = digits.iter().map(|digit| value(*digit)).collect();
    let values = values.ok_or(Reject::Malformed)?;
    if polymod(&values) != 1 {
        return Err(Reject::Inconsistent);
    }
    let key = der::x25519(&bytes(values.get(..LEN - CHECKSUM).unwrap_or_default()), Container::Age)?;
    Ok(PrivateKey { span: at..end, ..key })
}

fn value(digit: u8) -> Option<u8> {
    DIGITS.iter().position(|known| *known == digit).and_then(|value| u8::try_from(value).ok())
}

/// The checksum over prefix and digits, which is 1 if it is right.
fn polymod(values: &[u8]) -> u32 {
    const GENERATOR: [u32; 5] = [0x3b6a_57b2, 0x2650_8e6d, 0x1ea1_19fa, 0x3d42_33dd, 0x2a14_62b3];
    let high = PREFIX.iter().map(|byte| byte >> 5);
    let low = PREFIX.iter().map(|byte| byte & 31);
    high.chain([0]).chain(low).chain(values.iter().copied()).fold(1, |sum, value| {
        let top = sum >> 25;
        let next = (sum & 0x01ff_ffff) << 5 ^ u32::from(value);
        GENERATOR.iter().enumerate().filter(|(bit, _)| top >> bit & 1 == 1).fold(next, |sum, (_, term)| sum ^ term)
    })
}

/// The whole bytes in values of five bits.
fn bytes(values: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let (mut pending, mut bits) = (0u32, 0);
    for &value in values {
        pending = (pending << 5 | u32::from(value)) & 0xfff;
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            bytes.push((pending >> bits) as u8);
        }
    }
    bytes
}
