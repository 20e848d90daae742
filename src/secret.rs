//! Secret values in memory: they print only masked, and are compared by a keyed fingerprint.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::digest::hex;

/// Bytes that must not leave the process unless someone asked for them.
///
/// `Debug` and `Display` print the masked form. [`Secret::reveal`] is the only way to the bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Secret {
    bytes: Box<[u8]>,
    label: Option<Box<str>>,
}

impl Secret {
    /// A secret whose masked form shows a few of its characters.
    pub fn new(bytes: impl Into<Box<[u8]>>) -> Secret {
        Secret { bytes: bytes.into(), label: None }
    }

    /// A secret whose masked form is `label`, for key material that has no readable characters.
    pub fn labelled(bytes: impl Into<Box<[u8]>>, label: impl Into<Box<str>>) -> Secret {
        Secret { bytes: bytes.into(), label: Some(label.into()) }
    }

    /// The raw bytes. Every call is a place where a secret may leave the process.
    pub fn reveal(&self) -> &[u8] {
        &self.bytes
    }

    /// How many bytes the secret has.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether the secret has no bytes.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// What may be shown: the label, or the first four and last two characters of a secret of twenty or more,
    /// one of a shorter one, nothing of one under eight.
    pub fn masked(&self) -> String {
        if let Some(label) = &self.label {
            return label.to_string();
        }
        let text = String::from_utf8_lossy(&self.bytes);
        let clean: Vec<char> = text.chars().map(|c| if c.is_ascii_graphic() { c } else { '.' }).collect();
        let (head, tail) = match clean.len() {
            0..8 => (0, 0),
            8..20 => (1, 0),
            _ => (4, 2),
        };
        let start: String = clean[..head].iter().collect();
        let end: String = clean[clean.len() - tail..].iter().collect();
        format!("{start}****{end}")
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({})", self.masked())
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.masked())
    }
}

/// The key that secrets are fingerprinted with.
///
/// The default key is public: it makes fingerprints comparable between machines, and it means that a short or
/// guessable secret can be found from its fingerprint by trying. Whoever hands reports on sets a key of their own.
#[derive(Clone)]
pub struct FingerprintKey(Box<[u8]>);

impl FingerprintKey {
    /// A key from the operator's own bytes.
    pub fn new(bytes: impl Into<Box<[u8]>>) -> FingerprintKey {
        FingerprintKey(bytes.into())
    }

    /// The fingerprint of `secret`: the first 16 bytes of HMAC-SHA-256 in hexadecimal digits.
    pub fn fingerprint(&self, secret: &[u8]) -> String {
        // HMAC takes a key of any length (RFC 2104, section 3), so this cannot fail.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&self.0) else { return String::new() };
        mac.update(secret);
        hex(&mac.finalize().into_bytes()[..16])
    }
}

impl Default for FingerprintKey {
    fn default() -> Self {
        FingerprintKey::new(*b"layersift fingerprint v1")
    }
}

impl fmt::Debug for FingerprintKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FingerprintKey(****)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_never_prints_its_middle() {
        let secret = Secret::new(*b"tok_0123456789abcdefghij");
        for text in [format!("{secret}"), format!("{secret:?}"), secret.masked()] {
            assert!(!text.contains("0123456789"), "{text}");
        }
        assert_eq!(secret.masked(), "tok_****ij");
        assert_eq!(Secret::new(*b"hunter2").masked(), "****");
        assert_eq!(Secret::new(*b"correcthorse").masked(), "c****");
        assert_eq!(Secret::labelled(*b"\x30\x82", "RSA private key, 2048 bits").masked(), "RSA private key, 2048 bits");
    }

    #[test]
    fn fingerprints_depend_on_the_key() {
        let ours = FingerprintKey::default();
        let theirs = FingerprintKey::new(*b"another key");
        assert_eq!(ours.fingerprint(b"x").len(), 32);
        assert_eq!(ours.fingerprint(b"x"), ours.fingerprint(b"x"));
        assert_ne!(ours.fingerprint(b"x"), theirs.fingerprint(b"x"));
    }
}
