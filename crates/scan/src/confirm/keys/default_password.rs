//! Tries well-known passwords on key stores: such a password does not protect a key.
//!
//! Only the integrity check of the store is tried, and only if it is cheap. The limit depends on the size of the store,
//! so that a file full of small stores costs no more than one big store.

use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use sha2::digest::{Digest, FixedOutputReset};
use sha2::{Sha256, Sha384, Sha512};

use super::rounds;

/// The passwords, the most likely first: Java's, the empty one, those of manuals.
pub(super) const PASSWORDS: [&str; 15] = [
    "changeit",
    "",
    "password",
    "changeme",
    "secret",
    "notasecret",
    "123456",
    "12345678",
    "test",
    "admin",
    "keystore",
    "default",
    "storepass",
    "android",
    "bcpass",
];

/// The greatest number of rounds of a hash function for one store: about 40 ms.
const MAX_ROUNDS: usize = 150_000;

/// The greatest number of rounds for each byte of a store.
const ROUNDS_A_BYTE: usize = 32;

/// A hash function that key stores use.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Hash {
    Sha1,
    Sha256,
    Sha384,
    Sha512,
}

/// The integrity check of RFC 7292, appendix B: an HMAC whose key comes from a password.
pub(super) struct PasswordMac<'a> {
    pub(super) hash: Hash,
    pub(super) salt: &'a [u8],
    pub(super) iterations: usize,
    /// The number of bytes of the derived key that are used; all if `None`.
    pub(super) key_len: Option<usize>,
    pub(super) message: &'a [u8],
    pub(super) mac: &'a [u8],
}

impl PasswordMac<'_> {
    /// The password that opens a store of `size` bytes, as named in a note.
    pub(super) fn opens_with(&self, size: usize) -> Option<String> {
        if self.salt.len() > 1_024 || self.iterations == 0 {
            return None;
        }
        // The HMAC of the message costs as much as this many rounds.
        let rounds = self.iterations.saturating_add(self.message.len() / 64);
        let affordable = MAX_ROUNDS.min(size.saturating_mul(ROUNDS_A_BYTE)) / rounds;
        let identity = || (self.mac.to_vec(), self.salt.to_vec(), self.iterations, self.message.len());
        rounds::once(identity, rounds, |most| self.attempt(affordable.min(most)))
    }

    /// Tries at most `most` passwords. Returns how many were tried, too.
    fn attempt(&self, most: usize) -> (Option<String>, usize) {
        let none = std::iter::once((Vec::new(), "without a password".to_owned()));
        let named = PASSWORDS.iter().map(|password| (bmp(password), says(password)));
        let mut tried = 0;
        let mut all = named.chain(none).take(most).inspect(|_| tried += 1);
        let opens = all.find(|(password, _)| self.fits(password)).map(|(_, says)| says);
        (opens, tried)
    }

    fn fits(&self, password: &[u8]) -> bool {
        match self.hash {
            Hash::Sha1 => self.fits_as(Sha1::new(), 64, password, Hmac::<Sha1>::new_from_slice),
            Hash::Sha256 => self.fits_as(Sha256::new(), 64, password, Hmac::<Sha256>::new_from_slice),
            Hash::Sha384 => self.fits_as(Sha384::new(), 128, password, Hmac::<Sha384>::new_from_slice),
            Hash::Sha512 => self.fits_as(Sha512::new(), 128, password, Hmac::<Sha512>::new_from_slice),
        }
    }

    fn fits_as<D, M, E>(&self, hash: D, block: usize, password: &[u8], mac: fn(&[u8]) -> Result<M, E>) -> bool
    where
        D: Digest + FixedOutputReset,
        M: Mac,
    {
        let key = derive(hash, block, password, self.salt, self.iterations);
        let key = key.get(..self.key_len.unwrap_or(key.len())).unwrap_or(&key);
        mac(key).is_ok_and(|mac| mac.chain_update(self.message).verify_slice(self.mac).is_ok())
    }
}

/// The name of a password in a note.
pub(super) fn says(password: &str) -> String {
    if password.is_empty() {
        "with the empty password".to_owned()
    } else {
        format!("with the default password `{password}`")
    }
}

/// The MAC key that RFC 7292, appendix B.2, derives with diversifier 3. It is never longer than one output of the hash
/// function, so that one block is enough.
fn derive<D>(mut hash: D, block: usize, password: &[u8], salt: &[u8], iterations: usize) -> Vec<u8>
where
    D: Digest + FixedOutputReset,
{
    let fill =
        |bytes: &[u8]| -> Vec<u8> { bytes.iter().copied().cycle().take(bytes.len().next_multiple_of(block)).collect() };
    Digest::update(&mut hash, vec![3; block]);
    Digest::update(&mut hash, fill(salt));
    Digest::update(&mut hash, fill(password));
    let mut key = hash.finalize_reset();
    for _ in 1..iterations {
        Digest::update(&mut hash, &key);
        key = hash.finalize_reset();
    }
    key.to_vec()
}

/// A password as a BMPString with its two zeros, RFC 7292, appendix B.1.
fn bmp(password: &str) -> Vec<u8> {
    password.encode_utf16().chain([0]).flat_map(u16::to_be_bytes).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_tried_only_where_the_store_is_worth_it() {
        let key = derive(Sha256::new(), 64, &bmp("changeit"), b"salt", 2_000);
        let mac = Hmac::<Sha256>::new_from_slice(&key).unwrap().chain_update(b"content").finalize().into_bytes();
        let (salt, message) = (&b"salt"[..], &b"content"[..]);
        let store = PasswordMac { hash: Hash::Sha256, salt, iterations: 2_000, key_len: None, message, mac: &mac };
        assert_eq!(store.opens_with(1_000).as_deref(), Some("with the default password `changeit`"));
        assert_eq!(store.opens_with(10), None);
        let slow = PasswordMac { iterations: usize::MAX, ..store };
        assert_eq!(slow.opens_with(usize::MAX), None);
    }
}
