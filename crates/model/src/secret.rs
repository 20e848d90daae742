//! Secret values in memory: they print only masked, and are compared by a keyed fingerprint.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::Sha256;

use crate::digest::hex;

/// Bytes that must not leave the process unless someone asked for them.
///
/// `Debug` and `Display` print the masked form. [`Secret::reveal`] is the only way to the bytes. What is kept of a
/// secret from one run to the next ([`Secret::to_keep`]) has none.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Secret {
    bytes: Box<[u8]>,
    label: Option<Box<str>>,
    kept: Option<Box<Kept>>,
}

/// What is kept of a secret beside its masked form.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
struct Kept {
    length: usize,
    fingerprint: String,
}

impl Secret {
    /// A secret whose masked form shows a few of its characters.
    pub fn new(bytes: impl Into<Box<[u8]>>) -> Secret {
        Secret { bytes: bytes.into(), label: None, kept: None }
    }

    /// A secret whose masked form is `label`, for key material that has no readable characters.
    pub fn labelled(bytes: impl Into<Box<[u8]>>, label: impl Into<Box<str>>) -> Secret {
        Secret { bytes: bytes.into(), label: Some(label.into()), kept: None }
    }

    /// What may be kept of the secret: its masked form, its length and its fingerprint under `key`.
    pub fn to_keep(&self, key: &FingerprintKey) -> Secret {
        let kept = Kept { length: self.len(), fingerprint: self.fingerprint(key) };
        Secret { bytes: Box::default(), label: Some(self.masked().into()), kept: Some(Box::new(kept)) }
    }

    /// The fingerprint under `key`; of a secret that was kept, the one under the key of that time.
    pub fn fingerprint(&self, key: &FingerprintKey) -> String {
        match &self.kept {
            Some(kept) => kept.fingerprint.clone(),
            None => key.fingerprint(&self.bytes),
        }
    }

    /// The raw bytes; none of a secret that was kept. Every call is a place where a secret may leave the process.
    pub fn reveal(&self) -> &[u8] {
        &self.bytes
    }

    /// How many bytes the secret has.
    pub fn len(&self) -> usize {
        self.kept.as_ref().map_or(self.bytes.len(), |kept| kept.length)
    }

    /// Whether the secret has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
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

impl Serialize for Secret {
    /// What is kept. The bytes of a secret are never serialized.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let unmasked = || serde::ser::Error::custom("a secret is only written as what may be kept of it");
        (self.masked(), self.kept.as_ref().ok_or_else(unmasked)?).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Secret, D::Error> {
        let (masked, kept) = <(Box<str>, Box<Kept>)>::deserialize(deserializer)?;
        Ok(Secret { bytes: Box::default(), label: Some(masked), kept: Some(kept) })
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

    /// What tells this key from others, and nothing of the key itself: 16 hexadecimal digits.
    pub fn id(&self) -> String {
        self.fingerprint(b"layersift fingerprint key")[..16].to_string()
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
    fn what_is_kept_has_no_secret_in_it() {
        let (secret, key) = (Secret::new(*b"tok_0123456789abcdefghij"), FingerprintKey::default());
        assert!(serde_json::to_string(&secret).is_err());
        let kept = secret.to_keep(&key);
        let text = serde_json::to_string(&kept).unwrap();
        assert!(!text.contains("0123456789abcdefghij"), "{text}");
        let again: Secret = serde_json::from_str(&text).unwrap();
        assert_eq!(again, kept);
        assert_eq!((again.masked(), again.len(), again.reveal()), (secret.masked(), secret.len(), &[][..]));
        assert_eq!(again.fingerprint(&FingerprintKey::new(*b"another key")), secret.fingerprint(&key));
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
