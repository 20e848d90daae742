//! Static keys of OpenVPN (`--secret`, `--tls-auth`, `--tls-crypt`): 256 bytes in hexadecimal digits. Source: OpenVPN,
//! `src/openvpn/crypto.c`, `read_key_file` and `write_key_file`.

use super::{Algorithm, Container, PrivateKey, Reject, distinct, text};

const BEGIN: &[u8] = b"-----BEGIN OpenVPN Static key V1-----";
const END: &[u8] = b"-----END OpenVPN Static key V1-----";

const BYTES: usize = 256;

/// How much text there may be around the digits: escapes, indentation, line ends.
const MAX_BODY: usize = 2 << 10;

/// Reads the key whose BEGIN label starts at `at` in `window`. The span ends after the END label.
///
/// # Errors
/// The reason for the rejection.
pub fn openvpn_static_key_at(window: &[u8], at: usize) -> Result<PrivateKey, Reject> {
    let text = window.get(at..).ok_or(Reject::Truncated)?;
    let body = text.strip_prefix(BEGIN).ok_or(Reject::NoLabel)?;
    let near = body.get(..MAX_BODY).unwrap_or(body);
    let len = memchr::memmem::find(near, b"-----").ok_or(Reject::NoEnd)?;
    let (body, rest) = near.split_at_checked(len).ok_or(Reject::NoEnd)?;
    if !rest.starts_with(END) {
        return Err(Reject::NoEnd);
    }
    let material = digits(&text::unescape(body))?;
    if distinct(&material) < 100 {
        return Err(Reject::Placeholder);
    }
    let span = at..at + BEGIN.len() + len + END.len();
    let (algorithm, container) = (Algorithm::Symmetric, Container::OpenVpn);
    Ok(PrivateKey { algorithm, bits: 2_048, container, encrypted: false, span, material, note: None })
}

/// The bytes of the hexadecimal digits in `text`, with anything but letters and digits between them.
fn digits(text: &[u8]) -> Result<Vec<u8>, Reject> {
    let mut values = Vec::with_capacity(2 * BYTES);
    for &byte in text {
        match char::from(byte).to_digit(16) {
            Some(value) => values.push(value as u8),
            None if byte.is_ascii_alphanumeric() => return Err(Reject::Malformed),
            None => {}
        }
    }
    let bytes: Vec<u8> = values.chunks(2).map(|pair| pair.iter().fold(0, |sum, value| sum << 4 | value)).collect();
    if values.len() == 2 * BYTES { Ok(bytes) } else { Err(Reject::Malformed) }
}
