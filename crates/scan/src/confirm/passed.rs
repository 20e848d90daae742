//! Whether a program passes a constant to a cipher: then it is a key, whatever it is called.

use std::collections::HashMap;
use std::ops::Range;

/// The number of bytes behind a constant that a call is looked for in.
const NEAR: usize = 4096;

/// The most bytes of the arguments of a call.
const MOST_ARGUMENTS: usize = 400;

/// The work of looking at the name before a parenthesis, of a byte of arguments, and of looking at a call again.
const NAME: u64 = 200;
const BYTE: u64 = 2;
const AGAIN: u64 = 60;

/// The most calls that are remembered.
const MOST_CALLS: usize = 20_000;

/// The longest of these names.
const LONGEST: usize = 48;

/// The last parts of the names of functions that take a key, and its place among their arguments. They are sorted.
const FUNCTIONS: [(&str, usize); 66] = [
    ("AES.new", 0),
    ("AESCCM", 0),
    ("AESGCM", 0),
    ("AES_init_ctx", 1),
    ("AES_init_ctx_iv", 1),
    ("AES_set_decrypt_key", 0),
    ("AES_set_encrypt_key", 0),
    ("AesGcm", 0),
    ("BCryptGenerateSymmetricKey", 4),
    ("BF_set_key", 2),
    ("Camellia_set_key", 0),
    ("ChaCha20Poly1305", 0),
    ("CreateDecryptor", 0),
    ("CreateEncryptor", 0),
    ("DES3.new", 0),
    ("EVP_CipherInit", 2),
    ("EVP_CipherInit_ex", 3),
    ("EVP_CipherInit_ex2", 2),
    ("EVP_DecryptInit", 2),
    ("EVP_DecryptInit_ex", 3),
    ("EVP_DecryptInit_ex2", 2),
    ("EVP_EncryptInit", 2),
    ("EVP_EncryptInit_ex", 3),
    ("EVP_EncryptInit_ex2", 2),
    ("EVP_PKEY_new_mac_key", 2),
    ("HMAC", 1),
    ("HMAC_Init_ex", 1),
    ("RC4_set_key", 2),
    ("SecretBox", 0),
    ("SecretKeySpec", 0),
    ("aes.NewCipher", 0),
    ("aes128_set_encrypt_key", 1),
    ("aes256_set_encrypt_key", 1),
    ("algorithms.AES", 0),
    ("chacha20poly1305.New", 0),
    ("chacha20poly1305.NewX", 0),
    ("createCipheriv", 1),
    ("createDecipheriv", 1),
    ("createHmac", 1),
    ("crypto_aead_aes256gcm_decrypt", 8),
    ("crypto_aead_aes256gcm_encrypt", 8),
    ("crypto_aead_chacha20poly1305_ietf_decrypt", 8),
    ("crypto_aead_chacha20poly1305_ietf_encrypt", 8),
    ("crypto_aead_xchacha20poly1305_ietf_decrypt", 8),
    ("crypto_aead_xchacha20poly1305_ietf_encrypt", 8),
    ("crypto_auth", 3),
    ("crypto_secretbox", 4),
    ("crypto_secretbox_easy", 4),
    ("crypto_secretbox_open_easy", 4),
    ("des.NewTripleDESCipher", 0),
    ("from_slice", 0),
    ("gcry_cipher_setkey", 1),
    ("gcry_md_setkey", 1),
    ("hmac.New", 1),
    ("hmac.new", 0),
    ("importKey", 1),
    ("mbedtls_aes_setkey_dec", 1),
    ("mbedtls_aes_setkey_enc", 1),
    ("mbedtls_chachapoly_setkey", 1),
    ("mbedtls_cipher_setkey", 1),
    ("mbedtls_gcm_setkey", 2),
    ("mbedtls_md_hmac", 1),
    ("new_from_slice", 0),
    ("openssl_encrypt", 2),
    ("wc_AesGcmSetKey", 1),
    ("wc_AesSetKey", 1),
];

/// The calls of functions that take a key in some bytes: where the key is, by the place of the parenthesis. Constants
/// that stand close to each other have the same calls behind them.
#[derive(Default)]
pub(crate) struct Calls {
    keys: HashMap<usize, Option<Range<usize>>>,
    /// What looking for them took.
    pub(super) work: u64,
}

impl Calls {
    /// Forgets all calls, for other bytes.
    pub(super) fn clear(&mut self) {
        self.keys.clear();
        self.work = 0;
    }

    /// Whether a call in the first bytes of `behind`, a part of `bytes`, has `name` where a function takes its key.
    pub(super) fn have_key(&mut self, name: &[u8], bytes: &[u8], behind: Range<usize>) -> bool {
        let near = behind.start..behind.end.min(behind.start + NEAR);
        let text = bytes.get(near.clone()).unwrap_or_default();
        self.work += text.len() as u64;
        memchr::memchr_iter(b'(', text).any(|open| {
            let key = self.key(bytes, near.start + open);
            let argument = key.filter(|key| key.end <= near.end).and_then(|key| bytes.get(key));
            argument.is_some_and(|argument| has_word(argument, name))
        })
    }

    /// Where the call whose parenthesis is at `open` has its key.
    fn key(&mut self, bytes: &[u8], open: usize) -> Option<Range<usize>> {
        self.work += AGAIN;
        if let Some(known) = self.keys.get(&open) {
            return known.clone();
        }
        self.work += NAME;
        let (before, after) = bytes.split_at_checked(open)?;
        let found = place(before).and_then(|place| argument(after.get(1..)?, place, &mut self.work));
        let found = found.map(|range| open + 1 + range.start..open + 1 + range.end);
        if self.keys.len() >= MOST_CALLS {
            self.keys.clear();
        }
        self.keys.insert(open, found.clone());
        found
    }
}

/// The place of the key among the arguments of the function whose name `before` ends in.
fn place(before: &[u8]) -> Option<usize> {
    let near = before.get(before.len().saturating_sub(LONGEST)..).unwrap_or_default();
    let start = near.iter().rposition(|byte| !is_part_of_name(*byte) && *byte != b'.').map_or(0, |at| at + 1);
    let name = near.get(start..)?;
    let known = |name: &[u8]| {
        let at = FUNCTIONS.binary_search_by_key(&name, |(function, _)| function.as_bytes()).ok()?;
        Some(FUNCTIONS.get(at)?.1)
    };
    // The last part, the last two, and all.
    let mut starts = memchr::memrchr_iter(b'.', name).map(|dot| dot + 1).take(2).chain([0]);
    starts.find_map(|start| known(name.get(start..)?))
}

/// Where the argument number `place` is of a call whose arguments `text` begins with.
fn argument(text: &[u8], place: usize, work: &mut u64) -> Option<Range<usize>> {
    let (mut depth, mut number, mut start) = (0_usize, 0, 0);
    for (at, byte) in text.iter().enumerate().take(MOST_ARGUMENTS) {
        *work += BYTE;
        let ends = depth == 0 && matches!(byte, b',' | b')');
        if ends && number == place {
            return Some(start..at);
        }
        match byte {
            b';' => return None,
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.checked_sub(1)?,
            b',' if depth == 0 => (number, start) = (number + 1, at + 1),
            _ => {}
        }
    }
    None
}

/// Whether `name` stands in `text` and is not part of another name.
fn has_word(text: &[u8], name: &[u8]) -> bool {
    let is_part = |at: Option<usize>| at.and_then(|at| text.get(at)).is_some_and(|byte| is_part_of_name(*byte));
    !name.is_empty()
        && memchr::memmem::find_iter(text, name)
            .any(|at| !is_part(at.checked_sub(1)) && !is_part(Some(at + name.len())))
}

fn is_part_of_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$'
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_key(name: &[u8], text: &[u8]) -> bool {
        Calls::default().have_key(name, text, 0..text.len())
    }

    #[test]
    fn functions_are_sorted_and_none_is_longer() {
        assert!(FUNCTIONS.is_sorted_by_key(|(name, _)| name.as_bytes()));
        assert!(FUNCTIONS.iter().all(|(name, _)| name.len() < LONGEST));
    }

    #[test]
    fn a_name_is_a_key_where_a_function_takes_one() {
        for text in [
            "EVP_EncryptInit_ex(c, EVP_aes_256_cbc(), NULL, k, iv);",
            "};\nint f() {\n  AES_set_encrypt_key(&k[0], 256, &schedule);",
            "crypto.createCipheriv('aes-256-gcm', Buffer.from(k), iv)",
            "cipher = AES.new(k, AES.MODE_GCM)",
            "block, err := aes.NewCipher(k[:])",
            "a = Crypto.Cipher.AES.new(k)",
            "let cipher = Aes256Gcm::new_from_slice(&k).unwrap();",
            "new SecretKeySpec(k, \"AES\")",
            "f(k); g(iv); HMAC(EVP_sha256(), k, sizeof k, data, n, out, &m);",
        ] {
            assert!(is_key(b"k", text.as_bytes()), "{text}");
        }
        for text in [
            "EVP_EncryptInit_ex(c, EVP_aes_256_cbc(), NULL, key, k);",
            "EVP_EncryptInit_ex(c, EVP_aes_256_cbc(), NULL, kk, iv);",
            "my_createCipheriv('aes-256-gcm', k, iv)",
            "f(k)",
            "createCipheriv('aes-256-gcm'; k",
            "createCipheriv(",
            "k",
        ] {
            assert!(!is_key(b"k", text.as_bytes()), "{text}");
        }
        let far = format!("{}AES.new(k)", " ".repeat(NEAR));
        assert!(!is_key(b"k", far.as_bytes()));
    }

    #[test]
    fn calls_that_do_not_end_take_what_is_read_of_them_once() {
        let text = "HMAC(".repeat(NEAR);
        let mut calls = Calls::default();
        assert!(!calls.have_key(b"k", text.as_bytes(), 0..text.len()));
        let first = calls.work;
        assert!(first > (NEAR * MOST_ARGUMENTS / 5) as u64, "{first}");
        assert!(!calls.have_key(b"k", text.as_bytes(), 0..text.len()));
        assert!(calls.work - first < first / 10);
    }
}
