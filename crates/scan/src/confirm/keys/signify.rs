//! Secret keys of minisign and of OpenBSD's signify: one line of base64. Sources: minisign's page, section "Secret key
//! format" (<https://jedisct1.github.io/minisign/>); signify, `signify.c`, `struct enckey`.
//!
//! | | bytes |
//! |---|---|
//! | signify | `Ed`, `BK`, rounds 4, salt 16, checksum 8, number 8, key 64 |
//! | minisign | `Ed`, `Sc` or zeros, `B2`, salt 32, limits 16, number 8, key 64, checksum 32 |
//!
//! The key is the seed and the public key. The checksum of signify is SHA-512, cut off, of the key in plain text.

use sha2::{Digest, Sha512};

use super::{Algorithm, Container, PrivateKey, Reject, der, distinct, pem};

const SIGNIFY: usize = 104;
const MINISIGN: usize = 158;

/// Reads the key whose base64 starts at `at` in `window`. The span is the base64.
///
/// # Errors
/// The reason for the rejection, also for a checksum of signify that does not fit, where the key is not encrypted.
pub fn signify_at(window: &[u8], at: usize) -> Result<PrivateKey, Reject> {
    let text = window.get(at..).ok_or(Reject::Truncated)?;
    let is_digit = |byte: &&u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=');
    let len = text.iter().take(MINISIGN.div_ceil(3) * 4 + 1).take_while(is_digit).count();
    let bytes = pem::base64(text.get(..len).unwrap_or_default())?;
    let key = match (bytes.get(..6), bytes.len()) {
        (Some([b'E', b'd', b'B', b'K', ..]), SIGNIFY) => signify(&bytes),
        (Some(b"EdScB2"), MINISIGN) => sealed(&bytes, Container::Minisign),
        (Some(b"Ed\0\0B2"), MINISIGN) => plain(bytes.get(62..126).unwrap_or_default(), Container::Minisign),
        _ => Err(Reject::NotAKey),
    }?;
    Ok(PrivateKey { span: at..at + len, ..key })
}

fn signify(bytes: &[u8]) -> Result<PrivateKey, Reject> {
    let part = |range| bytes.get(range).ok_or(Reject::Malformed);
    if part(4..8)? != [0; 4] {
        return sealed(bytes, Container::Signify);
    }
    let key = part(40..104)?;
    if !Sha512::digest(key).starts_with(part(24..32)?) {
        return Err(Reject::Inconsistent);
    }
    plain(key, Container::Signify)
}

fn plain(key: &[u8], container: Container) -> Result<PrivateKey, Reject> {
    let (seed, public) = key.split_at_checked(32).ok_or(Reject::Malformed)?;
    if distinct(public) < 16 || distinct(seed) < 16 {
        return Err(Reject::Placeholder);
    }
    der::ed25519(seed, container)
}

fn sealed(bytes: &[u8], container: Container) -> Result<PrivateKey, Reject> {
    if distinct(bytes) < 48 {
        return Err(Reject::Placeholder);
    }
    let (algorithm, material) = (Algorithm::Ed25519, bytes.to_vec());
    Ok(PrivateKey { algorithm, bits: 256, container, encrypted: true, span: 0..0, material, note: None })
}
