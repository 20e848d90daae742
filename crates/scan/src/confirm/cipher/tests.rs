//! Tests of keys found in compiled code: fixtures with known keys, and damaged ones that must do no harm.

use super::*;
use layersift_rules::Signature;

/// The fixtures, by file, each once built from `fixtures/addon.c`.
const MODULES: [(&str, &[u8]); 6] = [
    ("x86_64-o0.so", include_bytes!("fixtures/x86_64-o0.so")),
    ("x86_64-o2-stripped.so", include_bytes!("fixtures/x86_64-o2-stripped.so")),
    ("x86_64-o2-ibt-stripped.so", include_bytes!("fixtures/x86_64-o2-ibt-stripped.so")),
    ("x86_64-o2-noplt-stripped.so", include_bytes!("fixtures/x86_64-o2-noplt-stripped.so")),
    ("aarch64-o0-bti.so", include_bytes!("fixtures/aarch64-o0-bti.so")),
    ("aarch64-o2-stripped.so", include_bytes!("fixtures/aarch64-o2-stripped.so")),
];

/// The keys of `addon.c`: first and last byte, length, function, cipher, the symbol as it is in every build, evidence.
type Expected = (u8, u8, usize, &'static str, Option<&'static str>, Option<&'static str>, Evidence);
const KEYS: [Expected; 6] = [
    (0x54, 0x32, 32, "EVP_EncryptInit_ex2", Some("aes-256-ctr"), None, Evidence::Argument),
    (0x5d, 0xdf, 32, "EVP_EncryptInit_ex", Some("aes-256-gcm"), None, Evidence::Argument),
    (0x81, 0xa3, 16, "EVP_DecryptInit_ex", Some("aes-128-cbc"), Some("shared_constant"), Evidence::Argument),
    (0x9e, 0x2f, 32, "crypto_aead_xchacha20poly1305_ietf_encrypt", None, None, Evidence::Argument),
    (0xc4, 0x9e, 24, "", None, Some("licence_key"), Evidence::Named),
    (0xf1, 0xae, 16, "AES_set_encrypt_key", None, None, Evidence::Argument),
];

#[test]
fn every_key_of_the_module_is_found_and_nothing_else() {
    for (file, bytes) in MODULES {
        let Analysis { mut keys, work, is_whole } = analyze(bytes);
        assert!(is_whole && (bytes.len() as u64 / 10..most_work(bytes.len())).contains(&work), "{file}: {work}");
        assert!(keys.is_sorted_by_key(|key| key.offset), "{file}");
        keys.sort_by_key(|key| key.bytes.clone());
        assert_eq!(keys.len(), KEYS.len(), "{file}");
        for (key, (first, last, length, function, cipher, symbol, evidence)) in keys.iter().zip(KEYS) {
            let bounds = (key.bytes.first().copied(), key.bytes.last().copied(), key.bytes.len());
            assert_eq!(bounds, (Some(first), Some(last), length), "{file}");
            assert_eq!((key.cipher.as_deref(), key.evidence), (cipher, evidence), "{file}: {first:#x}");
            assert!(symbol.is_none() || symbol == key.symbol.as_deref(), "{file}: {first:#x}");
            assert!(function.is_empty() || function == key.function, "{file}: {first:#x}");
        }
    }
}

#[test]
fn symbols_name_keys_that_are_local_to_the_module() {
    let keys = cipher_keys(MODULES[0].1);
    assert!(keys.iter().any(|key| key.symbol.as_deref() == Some("session_key") && key.evidence == Evidence::Argument));
}

#[test]
fn the_offset_is_that_of_the_constant() {
    for (file, bytes) in MODULES {
        let at = |key: &CipherKey| bytes.get(key.offset as usize..).is_some_and(|rest| rest.starts_with(&key.bytes));
        let in_one_piece = cipher_keys(bytes).iter().filter(|key| at(key)).count();
        // GCC without optimisation puts the local key together from two halves in the code of x86-64.
        let expected = if file == "x86_64-o0.so" { KEYS.len() - 1 } else { KEYS.len() };
        assert_eq!(in_one_piece, expected, "{file}");
    }
}

#[test]
fn names_that_tell_and_names_that_do_not() {
    for name in ["aes_key", "kSecret", "session_cipher", "_ZL10master_key", "AES256"] {
        assert!(is_telling(name.as_bytes()), "{name}");
    }
    for name in ["public_key", "keywords", "aes_sbox", "key_hash", "_ZTS9AesCipher", "monday", "secret_label"] {
        assert!(!is_telling(name.as_bytes()), "{name}");
    }
}

#[test]
fn the_anchor_matches_exactly_the_functions_of_the_table() {
    #[derive(serde::Deserialize)]
    struct File {
        signature: Vec<Signature>,
    }
    let file: File = toml::from_str(include_str!("../../../../../signatures/keys/cipher-constants.toml")).unwrap();
    let signature = &file.signature[0];
    let pattern = regex::bytes::RegexBuilder::new(&signature.pattern).unicode(false).build().unwrap();
    for function in functions::KEY_FUNCTIONS {
        assert!(pattern.is_match(format!("\0{}\0", function.name).as_bytes()), "{}", function.name);
        assert!(signature.keywords.iter().any(|keyword| function.name.contains(keyword)), "{}", function.name);
    }
    for other in ["EVP_EncryptUpdate", "EVP_EncryptInit_ex3", "crypto_stream_salsa", "aes_set_key"] {
        assert!(!pattern.is_match(format!("\0{other}\0").as_bytes()), "{other}");
    }
    for (file, bytes) in MODULES {
        assert!(pattern.is_match(bytes), "{file}");
    }
}

#[test]
fn other_files_hold_none() {
    assert!(cipher_keys(b"").is_empty());
    assert!(cipher_keys(b"\x7fELF").is_empty());
    assert!(cipher_keys(include_bytes!("fixtures/elf32-little.o")).is_empty(), "its functions have no dynamic table");
    assert!(cipher_keys(include_bytes!("fixtures/addon.c")).is_empty());
}

#[test]
fn damaged_files_do_no_harm() {
    let mut state = 7u64;
    let mut random = move |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    for (_, bytes) in MODULES {
        for length in (0..bytes.len()).step_by(13) {
            cipher_keys(&bytes[..length]);
        }
        for _ in 0..1500 {
            let mut damaged = bytes.to_vec();
            for _ in 0..1 + random(8) {
                let at = random(damaged.len());
                damaged[at] = [0, 0xff, 0x80, random(256) as u8][random(4)];
            }
            cipher_keys(&damaged);
        }
    }
}
