//! Logins of scans, sealed for the store: by ChaCha20-Poly1305 (RFC 8439) with a key that the store does not have,
//! which is derived from the bytes of a file (HKDF, RFC 5869). What is sealed for one task opens for no other.

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, Salt};

/// What keys are derived for.
const SALT: &[u8] = b"layersift";
const PURPOSE: &[u8] = b"logins of scans";

/// Seals and opens logins.
pub(crate) struct SealingKey(LessSafeKey);

/// Bytes of the file at least.
const LEAST: usize = 16;

/// Why a login cannot be sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SealError {
    /// The key can be guessed.
    #[error("the key for logins of scans has at least {LEAST} bytes")]
    Short,
    /// The system has no random bytes, or the cipher does not work.
    #[error("the login of a scan cannot be sealed: the system has no random bytes")]
    Cipher,
}

impl SealingKey {
    /// The key of a file with these bytes.
    ///
    /// # Errors
    /// For too few bytes.
    pub(crate) fn of(bytes: &[u8]) -> Result<SealingKey, SealError> {
        if bytes.len() < LEAST {
            return Err(SealError::Short);
        }
        let extracted = Salt::new(HKDF_SHA256, SALT).extract(bytes);
        let purpose = [PURPOSE];
        let key = extracted.expand(&purpose, &CHACHA20_POLY1305).map_err(|_| SealError::Cipher)?;
        Ok(SealingKey(LessSafeKey::new(UnboundKey::from(key))))
    }

    /// Seals the login of a task.
    ///
    /// # Errors
    /// Where the system has no random bytes.
    pub(crate) fn seal(&self, task: &str, login: &[u8]) -> Result<Vec<u8>, SealError> {
        let mut nonce = [0; NONCE_LEN];
        getrandom::fill(&mut nonce).map_err(|_| SealError::Cipher)?;
        let mut text = login.to_vec();
        let sealed = Nonce::assume_unique_for_key(nonce);
        self.0.seal_in_place_append_tag(sealed, Aad::from(task), &mut text).map_err(|_| SealError::Cipher)?;
        Ok([&nonce[..], &text].concat())
    }

    /// Opens the login of a task; `None` if it was sealed with another key, or for another task.
    pub(crate) fn open(&self, task: &str, sealed: &[u8]) -> Option<Vec<u8>> {
        let (nonce, text) = sealed.split_at_checked(NONCE_LEN)?;
        let mut text = text.to_vec();
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let opened = self.0.open_in_place(nonce, Aad::from(task), &mut text).ok()?.len();
        text.truncate(opened);
        Some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_opens_for_its_task_with_its_key_alone() {
        assert_eq!(SealingKey::of(b"fifteen bytes..").err(), Some(SealError::Short));
        let key = SealingKey::of(b"one key of sixteen bytes").unwrap();
        let sealed = key.seal("task", b"a login").unwrap();
        assert_eq!(key.open("task", &sealed).as_deref(), Some(&b"a login"[..]));
        assert_eq!(key.open("other", &sealed), None);
        assert_eq!(SealingKey::of(b"another key of that length").unwrap().open("task", &sealed), None);
        assert_ne!(key.seal("task", b"a login").unwrap(), sealed, "each time with another nonce");
        for place in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[place] ^= 1;
            assert_eq!(key.open("task", &changed), None, "{place}");
        }
        for length in 0..sealed.len() {
            assert_eq!(key.open("task", &sealed[..length]), None, "{length}");
        }
    }
}
