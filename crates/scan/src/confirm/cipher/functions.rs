//! The library functions that take a symmetric key, and how their arguments say which bytes are the key.
//!
//! Sources: the manual pages of OpenSSL 3, BoringSSL's `aead.h`, the references of Mbed TLS, Libgcrypt, Nettle,
//! wolfSSL and libsodium. Arguments are counted from 0.

use KeySize::{Bits, Bytes, Cipher, Fixed};

/// Where the length of a key comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeySize {
    /// The cipher in this argument (an `EVP_CIPHER`).
    Cipher(usize),
    /// A number of bits in this argument.
    Bits(usize),
    /// A number of bytes in this argument.
    Bytes(usize),
    /// The function: it knows one size only.
    Fixed(usize),
}

/// A function that takes a key.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct KeyFunction {
    pub name: &'static str,
    /// The argument that points to the key.
    pub key: usize,
    pub size: KeySize,
}

/// A symmetric cipher, as OpenSSL names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CipherName {
    /// Such as `aes-256-gcm`.
    pub name: String,
    /// The length of its key in bytes.
    pub key: usize,
}

/// The function of this name, if it takes a key.
pub(super) fn key_function(name: &[u8]) -> Option<&'static KeyFunction> {
    let at = KEY_FUNCTIONS.binary_search_by(|function| function.name.as_bytes().cmp(name)).ok()?;
    KEY_FUNCTIONS.get(at)
}

/// The cipher that a function such as `EVP_aes_256_gcm` returns.
pub(super) fn cipher_getter(name: &[u8]) -> Option<CipherName> {
    cipher_by_name(&std::str::from_utf8(name.strip_prefix(b"EVP_")?).ok()?.replace('_', "-"))
}

/// The argument that holds the name of the cipher that a function looks up.
pub(super) fn cipher_lookup(name: &[u8]) -> Option<usize> {
    match name {
        b"EVP_get_cipherbyname" => Some(0),
        b"EVP_CIPHER_fetch" => Some(1),
        _ => None,
    }
}

/// The cipher of a name such as `AES-256-GCM`, if its keys have a length at which chance can be ruled out.
pub(super) fn cipher_by_name(name: &str) -> Option<CipherName> {
    let name = name.to_ascii_lowercase();
    let (_, key) = KEY_LENGTHS.iter().find(|(prefix, _)| name.starts_with(prefix))?;
    // XTS and SIV take two keys in one (IEEE 1619, RFC 5297).
    let double = name.ends_with("-xts") || name.ends_with("-siv");
    Some(CipherName { key: if double { 2 * key } else { *key }, name })
}

/// Key lengths in bytes by the beginning of a cipher's name.
const KEY_LENGTHS: &[(&str, usize)] = &[
    ("aes-128-", 16),
    ("aes-192-", 24),
    ("aes-256-", 32),
    ("aria-128-", 16),
    ("aria-192-", 24),
    ("aria-256-", 32),
    ("camellia-128-", 16),
    ("camellia-192-", 24),
    ("camellia-256-", 32),
    ("chacha20", 32),
    ("des-ede3", 24),
    ("des-ede", 16),
    ("idea-", 16),
    ("seed-", 16),
    ("sm4-", 16),
    ("bf-", 16),
    ("cast5-", 16),
    ("rc4", 16),
];

const fn function(name: &'static str, key: usize, size: KeySize) -> KeyFunction {
    KeyFunction { name, key, size }
}

/// By name, for a binary search.
pub(super) const KEY_FUNCTIONS: &[KeyFunction] = &[
    function("AES_set_decrypt_key", 0, Bits(1)),
    function("AES_set_encrypt_key", 0, Bits(1)),
    function("CMAC_Init", 1, Bytes(2)),
    function("Camellia_set_key", 0, Bits(1)),
    function("EVP_AEAD_CTX_init", 2, Bytes(3)),
    function("EVP_CipherInit", 2, Cipher(1)),
    function("EVP_CipherInit_ex", 3, Cipher(1)),
    function("EVP_CipherInit_ex2", 2, Cipher(1)),
    function("EVP_DecryptInit", 2, Cipher(1)),
    function("EVP_DecryptInit_ex", 3, Cipher(1)),
    function("EVP_DecryptInit_ex2", 2, Cipher(1)),
    function("EVP_EncryptInit", 2, Cipher(1)),
    function("EVP_EncryptInit_ex", 3, Cipher(1)),
    function("EVP_EncryptInit_ex2", 2, Cipher(1)),
    function("EVP_MAC_init", 1, Bytes(2)),
    function("EVP_PKEY_new_mac_key", 2, Bytes(3)),
    function("HMAC", 1, Bytes(2)),
    function("HMAC_Init", 1, Bytes(2)),
    function("HMAC_Init_ex", 1, Bytes(2)),
    function("crypto_aead_aes256gcm_beforenm", 1, Fixed(32)),
    function("crypto_aead_aes256gcm_decrypt", 8, Fixed(32)),
    function("crypto_aead_aes256gcm_encrypt", 8, Fixed(32)),
    function("crypto_aead_chacha20poly1305_decrypt", 8, Fixed(32)),
    function("crypto_aead_chacha20poly1305_encrypt", 8, Fixed(32)),
    function("crypto_aead_chacha20poly1305_ietf_decrypt", 8, Fixed(32)),
    function("crypto_aead_chacha20poly1305_ietf_encrypt", 8, Fixed(32)),
    function("crypto_aead_xchacha20poly1305_ietf_decrypt", 8, Fixed(32)),
    function("crypto_aead_xchacha20poly1305_ietf_encrypt", 8, Fixed(32)),
    function("crypto_auth", 3, Fixed(32)),
    function("crypto_secretbox", 4, Fixed(32)),
    function("crypto_secretbox_detached", 5, Fixed(32)),
    function("crypto_secretbox_easy", 4, Fixed(32)),
    function("crypto_secretbox_open", 4, Fixed(32)),
    function("crypto_secretbox_open_detached", 5, Fixed(32)),
    function("crypto_secretbox_open_easy", 4, Fixed(32)),
    function("crypto_secretstream_xchacha20poly1305_init_pull", 2, Fixed(32)),
    function("crypto_secretstream_xchacha20poly1305_init_push", 2, Fixed(32)),
    function("crypto_stream_chacha20_ietf_xor", 4, Fixed(32)),
    function("crypto_stream_chacha20_xor", 4, Fixed(32)),
    function("crypto_stream_xor", 4, Fixed(32)),
    function("gcry_cipher_setkey", 1, Bytes(2)),
    function("gcry_mac_setkey", 1, Bytes(2)),
    function("gcry_md_setkey", 1, Bytes(2)),
    function("mbedtls_aes_setkey_dec", 1, Bits(2)),
    function("mbedtls_aes_setkey_enc", 1, Bits(2)),
    function("mbedtls_ccm_setkey", 2, Bits(3)),
    function("mbedtls_chacha20_setkey", 1, Fixed(32)),
    function("mbedtls_chachapoly_setkey", 1, Fixed(32)),
    function("mbedtls_cipher_setkey", 1, Bits(2)),
    function("mbedtls_gcm_setkey", 2, Bits(3)),
    function("nettle_aes128_set_decrypt_key", 1, Fixed(16)),
    function("nettle_aes128_set_encrypt_key", 1, Fixed(16)),
    function("nettle_aes192_set_decrypt_key", 1, Fixed(24)),
    function("nettle_aes192_set_encrypt_key", 1, Fixed(24)),
    function("nettle_aes256_set_decrypt_key", 1, Fixed(32)),
    function("nettle_aes256_set_encrypt_key", 1, Fixed(32)),
    function("nettle_chacha_set_key", 1, Fixed(32)),
    function("nettle_gcm_aes128_set_key", 1, Fixed(16)),
    function("nettle_gcm_aes256_set_key", 1, Fixed(32)),
    function("wc_AesGcmSetKey", 1, Bytes(2)),
    function("wc_AesSetKey", 1, Bytes(2)),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_found() {
        assert!(KEY_FUNCTIONS.is_sorted_by(|a, b| a.name < b.name));
        for function in KEY_FUNCTIONS {
            assert_eq!(key_function(function.name.as_bytes()), Some(function));
        }
        assert_eq!(key_function(b"EVP_EncryptUpdate"), None);
    }

    #[test]
    fn ciphers_by_name() {
        let cipher = |name: &str, key| Some(CipherName { name: name.to_owned(), key });
        assert_eq!(cipher_getter(b"EVP_aes_256_gcm"), cipher("aes-256-gcm", 32));
        assert_eq!(cipher_getter(b"EVP_aes_128_xts"), cipher("aes-128-xts", 32));
        assert_eq!(cipher_getter(b"EVP_chacha20_poly1305"), cipher("chacha20-poly1305", 32));
        assert_eq!(cipher_getter(b"EVP_des_ede3_cbc"), cipher("des-ede3-cbc", 24));
        assert_eq!(cipher_getter(b"EVP_des_cbc"), None, "eight bytes are too few to tell a key");
        assert_eq!(cipher_getter(b"EVP_sha256"), None);
        assert_eq!(cipher_by_name("AES-192-CBC"), cipher("aes-192-cbc", 24));
    }
}
