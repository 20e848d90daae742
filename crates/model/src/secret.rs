//! Secret values in memory: printed only in masked form, and compared by a keyed fingerprint.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::Sha256;

use crate::digest::hex;
use crate::key_bytes::key_bytes;
use crate::window_hash::{HEAD, WindowHash};

/// Bytes that leave the process only on request.
///
/// `Debug` and `Display` print the masked form. [`Secret::reveal`] is the only way to the bytes. The form that is
/// stored ([`Secret::redacted`]) does not contain them.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Secret {
    bytes: Box<[u8]>,
    label: Option<Box<str>>,
    /// The bytes of the fingerprint, if they are not those of the secret.
    identity: Option<Box<[u8]>>,
    redacted: Option<Box<Redacted>>,
}

/// What a store keeps of a secret, besides its masked form.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
struct Redacted {
    length: usize,
    fingerprint: String,
    /// The fingerprint of its bytes, if that is another.
    of_bytes: Option<String>,
    windows: SecretWindows,
}

/// The hashes of a secret, by which it is looked for in texts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SecretWindows {
    /// That of its first [`HEAD`] bytes.
    pub head: u16,
    /// That of all of its bytes.
    pub whole: u16,
}

impl Secret {
    /// A secret whose masked form shows a few of its characters.
    pub fn new(bytes: impl Into<Box<[u8]>>) -> Secret {
        Secret { bytes: bytes.into(), label: None, identity: None, redacted: None }
    }

    /// A secret whose masked form is `label`, for key material that has no readable characters.
    pub fn labelled(bytes: impl Into<Box<[u8]>>, label: impl Into<Box<str>>) -> Secret {
        Secret { bytes: bytes.into(), label: Some(label.into()), identity: None, redacted: None }
    }

    /// The same secret as a key of a cipher: its fingerprint is that of the bytes that it [spells](key_bytes). So it is
    /// recognised in a compiled module as in its source.
    pub fn as_key(self) -> Secret {
        let identity = key_bytes(&self.bytes).map(Into::into);
        Secret { identity, ..self }
    }

    /// The same secret as it is written in a text: its masked form and its fingerprint stay. Key material is written in
    /// an encoding.
    pub fn written_as(self, text: &[u8]) -> Secret {
        if *self.bytes == *text {
            return self;
        }
        let label = Some(self.masked().into());
        Secret { bytes: text.into(), label, identity: self.identity.or(Some(self.bytes)), redacted: self.redacted }
    }

    /// The form that may be stored: the masked form, the length and the fingerprint under `key`, without the bytes.
    pub fn redacted(&self, key: &FingerprintKey) -> Secret {
        let of_bytes = self.identity.is_some().then(|| key.fingerprint(&self.bytes));
        let windows = self.windows(&WindowHash::new(key));
        let redacted = Redacted { length: self.len(), fingerprint: self.fingerprint(key), of_bytes, windows };
        let label = Some(self.masked().into());
        Secret { bytes: Box::default(), label, identity: None, redacted: Some(Box::new(redacted)) }
    }

    /// The fingerprint under `key`. A redacted secret keeps the fingerprint under the key that it was redacted with.
    pub fn fingerprint(&self, key: &FingerprintKey) -> String {
        match &self.redacted {
            Some(redacted) => redacted.fingerprint.clone(),
            None => key.fingerprint(self.identity.as_ref().unwrap_or(&self.bytes)),
        }
    }

    /// Its hashes; of a redacted secret those under the key that it was redacted with.
    pub fn windows(&self, hash: &WindowHash) -> SecretWindows {
        match &self.redacted {
            Some(redacted) => redacted.windows,
            None => {
                SecretWindows { head: hash.of(self.bytes.get(..HEAD).unwrap_or_default()), whole: hash.of(&self.bytes) }
            }
        }
    }

    /// Whether its bytes are `bytes`, whose fingerprint is `fingerprint`.
    pub fn is(&self, bytes: &[u8], fingerprint: impl FnOnce() -> String) -> bool {
        match &self.redacted {
            Some(redacted) => *redacted.of_bytes.as_ref().unwrap_or(&redacted.fingerprint) == fingerprint(),
            None => *self.bytes == *bytes,
        }
    }

    /// The raw bytes; empty for a redacted secret. Every call is a place where a secret may leave the process.
    pub fn reveal(&self) -> &[u8] {
        &self.bytes
    }

    /// The length of the secret in bytes.
    pub fn len(&self) -> usize {
        self.redacted.as_ref().map_or(self.bytes.len(), |redacted| redacted.length)
    }

    /// Whether the secret has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The masked form: the label, if there is one. Otherwise the first four and last two characters of a secret of at
    /// least twenty, the first one of a secret of at least eight, or none.
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
        let start: String = clean.iter().take(head).collect();
        let end: String = clean.iter().skip(clean.len() - tail).collect();
        format!("{start}****{end}")
    }
}

impl Serialize for Secret {
    /// Writes the redacted form; any other secret is an error. The bytes of a secret are never serialized.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let unmasked = || serde::ser::Error::custom("only a redacted secret can be serialized");
        (self.masked(), self.redacted.as_ref().ok_or_else(unmasked)?).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Secret, D::Error> {
        let (masked, redacted) = <(Box<str>, Box<Redacted>)>::deserialize(deserializer)?;
        Ok(Secret { bytes: Box::default(), label: Some(masked), identity: None, redacted: Some(redacted) })
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
/// guessable secret can be found from its fingerprint by trying. To share reports, set a key of your own.
#[derive(Clone)]
pub struct FingerprintKey(Box<[u8]>);

impl FingerprintKey {
    /// A key from the bytes of an operator.
    pub fn new(bytes: impl Into<Box<[u8]>>) -> FingerprintKey {
        FingerprintKey(bytes.into())
    }

    /// 16 hexadecimal digits that identify the key without revealing it.
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

    /// The fingerprints that findings of `secret` may have: that of its bytes, and that of the key which they spell.
    pub fn fingerprints(&self, secret: &[u8]) -> Vec<String> {
        let spelled = key_bytes(secret).map(|bytes| self.fingerprint(&bytes));
        std::iter::once(self.fingerprint(secret)).chain(spelled).collect()
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
    fn a_redacted_secret_does_not_contain_its_bytes() {
        let (secret, key) = (Secret::new(*b"tok_0123456789abcdefghij"), FingerprintKey::default());
        assert!(serde_json::to_string(&secret).is_err());
        let kept = secret.redacted(&key);
        let text = serde_json::to_string(&kept).unwrap();
        assert!(!text.contains("0123456789abcdefghij"), "{text}");
        let again: Secret = serde_json::from_str(&text).unwrap();
        assert_eq!(again, kept);
        assert_eq!((again.masked(), again.len(), again.reveal()), (secret.masked(), secret.len(), &[][..]));
        assert_eq!(again.fingerprint(&FingerprintKey::new(*b"another key")), secret.fingerprint(&key));
    }

    #[test]
    fn a_secret_as_it_is_written_stays_the_same_secret() {
        let key = FingerprintKey::default();
        let secret = Secret::labelled(*b"\x30\x82", "EC private key");
        let written = secret.clone().written_as(b"-----BEGIN made-up");
        assert_eq!((written.masked(), written.fingerprint(&key)), (secret.masked(), secret.fingerprint(&key)));
        assert_eq!(written.reveal(), b"-----BEGIN made-up");
        let kept = written.redacted(&key);
        assert!(kept.is(b"-----BEGIN made-up", || key.fingerprint(b"-----BEGIN made-up")));
        assert_eq!(kept.fingerprint(&key), secret.fingerprint(&key));
    }

    #[test]
    fn a_redacted_secret_recognises_its_bytes() {
        let key = FingerprintKey::default();
        let hash = WindowHash::new(&key);
        for secret in
            [Secret::new(*b"tok_0123456789abcdefghij"), Secret::new(*b"00112233445566778899aabbccddeeff").as_key()]
        {
            let kept = secret.redacted(&key);
            assert_eq!(kept.windows(&hash), secret.windows(&hash));
            for (bytes, expected) in [(secret.reveal(), true), (&secret.reveal()[1..], false)] {
                assert_eq!(kept.is(bytes, || key.fingerprint(bytes)), expected);
                assert_eq!(secret.is(bytes, || key.fingerprint(bytes)), expected);
            }
        }
    }

    #[test]
    fn a_key_has_one_fingerprint_in_every_form() {
        let key = FingerprintKey::default();
        let raw: Vec<u8> = (100..116).collect();
        let hex: String = raw.iter().map(|byte| format!("{byte:02x}")).collect();
        let secret = Secret::new(hex.as_bytes()).as_key();
        assert_eq!(secret.fingerprint(&key), Secret::labelled(raw.clone(), "128-bit key").as_key().fingerprint(&key));
        assert_eq!(secret.redacted(&key).fingerprint(&key), secret.fingerprint(&key));
        assert_eq!((secret.len(), secret.reveal()), (32, hex.as_bytes()));
        assert_eq!(key.fingerprints(hex.as_bytes()), [key.fingerprint(hex.as_bytes()), key.fingerprint(&raw)]);
        assert_eq!(key.fingerprints(b"hunter2"), [key.fingerprint(b"hunter2")]);
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
