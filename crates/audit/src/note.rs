//! Signed notes and their keys, as C2SP's signed-note describes them (<https://c2sp.org/signed-note>), with Ed25519.
//! Go's `golang.org/x/mod/sumdb/note` reads the same notes and keys.

use std::fmt;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};

use crate::tree::hash;

/// What the line of a signature begins with: an em dash and a space.
pub(crate) const SIGNATURE: &str = "\u{2014} ";

/// The signature type of Ed25519.
const ALGORITHM: u8 = 1;
const PRIVATE: &str = "PRIVATE+KEY+";

/// Why a key or a note is of no use.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NoteError {
    /// A name that the format does not allow.
    #[error("the name `{0}` of a key is empty or too long, or has spaces, plus signs or control characters")]
    Name(String),
    /// A key of another form.
    #[error("it is not an Ed25519 key in the form of a signed note")]
    Key,
    /// The system gives no random bytes.
    #[error("the system has no random bytes")]
    Random,
    /// A note of another form.
    #[error("it is not a signed note")]
    Form,
    /// A note without a signature by the key.
    #[error("it has no signature by the key {0}")]
    NotSigned(String),
    /// A note that was changed after it was signed.
    #[error("its signature by the key {0} is wrong")]
    Forged(String),
}

/// A key that signs.
pub struct SigningKey {
    seed: [u8; 32],
    pair: Ed25519KeyPair,
    verifier: VerifierKey,
}

/// A key that signatures are verified with: `name+hash+base64`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifierKey {
    name: String,
    public: [u8; 32],
}

impl SigningKey {
    /// A new key called `name`.
    ///
    /// # Errors
    /// For a name that notes cannot have, and without random bytes.
    pub fn generate(name: &str) -> Result<SigningKey, NoteError> {
        let mut seed = [0; 32];
        SystemRandom::new().fill(&mut seed).map_err(|_| NoteError::Random)?;
        SigningKey::of(name, seed)
    }

    /// The key that `text` has, in the form of Go's `note.NewSigner`: `PRIVATE+KEY+name+hash+base64`.
    ///
    /// # Errors
    /// If it is another text.
    pub fn parse(text: &str) -> Result<SigningKey, NoteError> {
        let (name, id, seed) = parts(text.trim_end().strip_prefix(PRIVATE).ok_or(NoteError::Key)?)?;
        let key = SigningKey::of(name, seed)?;
        if key.verifier.id() == id { Ok(key) } else { Err(NoteError::Key) }
    }

    fn of(name: &str, seed: [u8; 32]) -> Result<SigningKey, NoteError> {
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).map_err(|_| NoteError::Key)?;
        let public = pair.public_key().as_ref().try_into().map_err(|_| NoteError::Key)?;
        Ok(SigningKey { seed, pair, verifier: VerifierKey { name: checked_name(name)?.into(), public } })
    }

    /// The key as text, for a file that only its owner may read.
    pub fn reveal(&self) -> String {
        format!("{PRIVATE}{}", written(&self.verifier, &self.seed))
    }

    /// The key that verifies what this one signs.
    pub fn verifier(&self) -> &VerifierKey {
        &self.verifier
    }

    /// `text`, which ends with a newline, with the signature of this key.
    pub(crate) fn sign(&self, text: &str) -> String {
        let mut bytes = self.verifier.id().to_vec();
        bytes.extend_from_slice(self.pair.sign(text.as_bytes()).as_ref());
        format!("{text}\n{SIGNATURE}{} {}\n", self.verifier.name, BASE64_STANDARD.encode(bytes))
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SigningKey").field(&self.verifier).finish()
    }
}

impl VerifierKey {
    /// The key that `text` has.
    ///
    /// # Errors
    /// If it is another text.
    pub fn parse(text: &str) -> Result<VerifierKey, NoteError> {
        let (name, id, public) = parts(text.trim_end())?;
        let key = VerifierKey { name: checked_name(name)?.into(), public };
        if key.id() == id { Ok(key) } else { Err(NoteError::Key) }
    }

    /// The name, which is the origin of the log.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The text of `note`, if it is signed by this key. Signatures of other keys are not looked at.
    ///
    /// # Errors
    /// If it is not a note, or not signed.
    pub(crate) fn open<'n>(&self, note: &'n str) -> Result<&'n str, NoteError> {
        let split = note.rfind("\n\n").ok_or(NoteError::Form)?;
        let (text, signatures) = (note.get(..=split), note.get(split + 2..));
        let (Some(text), Some(signatures)) = (text, signatures.and_then(|lines| lines.strip_suffix('\n'))) else {
            return Err(NoteError::Form);
        };
        let mut is_signed = false;
        for line in signatures.split('\n') {
            is_signed |= self.verify(text, line)?;
        }
        if is_signed { Ok(text) } else { Err(NoteError::NotSigned(self.name.clone())) }
    }

    /// Whether `line` is a signature of `text` by this key.
    fn verify(&self, text: &str, line: &str) -> Result<bool, NoteError> {
        let (name, signature) =
            line.strip_prefix(SIGNATURE).and_then(|line| line.split_once(' ')).ok_or(NoteError::Form)?;
        let bytes = BASE64_STANDARD.decode(signature).map_err(|_| NoteError::Form)?;
        let (id, signature) = bytes.split_at_checked(4).ok_or(NoteError::Form)?;
        if name != self.name || id != self.id() {
            return Ok(false);
        }
        let key = UnparsedPublicKey::new(&ED25519, &self.public);
        key.verify(text.as_bytes(), signature).map(|()| true).map_err(|_| NoteError::Forged(self.name.clone()))
    }

    /// The four bytes that a signature line names the key by.
    fn id(&self) -> [u8; 4] {
        let [a, b, c, d, ..] = hash(&[self.name.as_bytes(), b"\n", &[ALGORITHM], &self.public]);
        [a, b, c, d]
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&written(self, &self.public))
    }
}

fn written(key: &VerifierKey, bytes: &[u8; 32]) -> String {
    let data = [&[ALGORITHM][..], bytes].concat();
    format!("{}+{:08x}+{}", key.name, u32::from_be_bytes(key.id()), BASE64_STANDARD.encode(data))
}

/// Name, id and key of `name+hash+base64`. The base64 may have plus signs itself.
fn parts(text: &str) -> Result<(&str, [u8; 4], [u8; 32]), NoteError> {
    let mut parts = text.splitn(3, '+');
    let (Some(name), Some(id), Some(data)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(NoteError::Key);
    };
    let id = u32::from_str_radix(id, 16).map_err(|_| NoteError::Key)?.to_be_bytes();
    let data = BASE64_STANDARD.decode(data).map_err(|_| NoteError::Key)?;
    match data.split_first() {
        Some((&ALGORITHM, key)) => Ok((name, id, key.try_into().map_err(|_| NoteError::Key)?)),
        _ => Err(NoteError::Key),
    }
}

/// `name`, if it can be that of a key.
pub(crate) fn checked_name(name: &str) -> Result<&str, NoteError> {
    let is_wrong = |c: char| c.is_whitespace() || c.is_control() || c == '+';
    if name.is_empty() || name.contains(is_wrong) { Err(NoteError::Name(name.into())) } else { Ok(name) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From the documentation of Go's `golang.org/x/mod/sumdb/note`.
    const GO_KEY: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
    const GO_SIGNER: &str = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz";
    const GO_NOTE: &str = "If you think cryptography is the answer to your problem,\n\
        then you don't know what your problem is.\n\n\
        \u{2014} PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb\
         6KE6RyyBwJnAM=\n";

    #[test]
    fn keys_and_notes_are_those_of_go() {
        let key = VerifierKey::parse(GO_KEY).unwrap();
        assert_eq!(key.to_string(), GO_KEY);
        let text = key.open(GO_NOTE).unwrap();
        let signer = SigningKey::parse(GO_SIGNER).unwrap();
        assert_eq!((signer.reveal(), signer.verifier()), (GO_SIGNER.into(), &key));
        assert_eq!(signer.sign(text), GO_NOTE);
        assert!(!format!("{signer:?}").contains("AYEK"));
    }

    #[test]
    fn changed_notes_and_keys_are_refused() {
        let key = VerifierKey::parse(GO_KEY).unwrap();
        for at in 0..GO_NOTE.len() {
            let mut bytes = GO_NOTE.as_bytes().to_vec();
            bytes[at] ^= 1;
            let note = String::from_utf8(bytes);
            assert!(note.is_err() || key.open(&note.unwrap()).is_err(), "{at}");
        }
        for at in 0..GO_KEY.len() {
            let mut bytes = GO_KEY.as_bytes().to_vec();
            bytes[at] ^= 1;
            assert!(VerifierKey::parse(std::str::from_utf8(&bytes).unwrap()).is_err(), "{at}");
        }
        for name in ["", "a b", "a+b", "a\n"] {
            assert!(SigningKey::generate(name).is_err(), "{name}");
        }
        let other = SigningKey::generate("audit.example.org/one").unwrap();
        assert!(matches!(other.verifier().open(GO_NOTE), Err(NoteError::NotSigned(_))));
        let both = format!("{GO_NOTE}{}", other.sign(key.open(GO_NOTE).unwrap()).lines().last().unwrap()) + "\n";
        assert_eq!(other.verifier().open(&both).unwrap(), key.open(GO_NOTE).unwrap());
    }
}
