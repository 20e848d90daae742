//! Containers beyond PEM and DER: keys put into them by PuTTY, OpenSSL, GnuPG, keytool and others, and hostile bytes.
//! What comes out has to be the key that went in, wherever its PEM is among the fixtures.

use super::super::*;

type Read = fn(&[u8], usize) -> Result<PrivateKey, Reject>;

/// Name, reader, the PEM fixture with the same key, description and note.
type Fixture = (&'static str, Read, Option<&'static str>, &'static str, &'static str);

macro_rules! containers {
    ($($name:literal $read:ident $pem:expr, $what:literal, $note:literal;)*) => {
        const FIXTURES: &[Fixture] = &[$(($name, $read as Read, $pem, $what, $note)),*];
        const BYTES: &[(&str, &[u8])] = &[$(($name, include_bytes!(concat!("../fixtures/containers/", $name)))),*];
    };
}

macro_rules! pem {
    ($name:literal) => {
        Some(include_str!(concat!("../fixtures/", $name, ".pem")))
    };
}

containers! {
    "rsa1024.v2.ppk" ppk_at pem!("rsa1024.pkcs1"), "RSA private key, 1024 bits, PuTTY", "";
    "rsa1024.v3.ppk" ppk_at pem!("rsa1024.pkcs1"), "RSA private key, 1024 bits, PuTTY", "";
    "dsa1024.v2.ppk" ppk_at pem!("dsa1024.pkcs8"), "DSA private key, 1024 bits, PuTTY", "";
    "dsa1024.v3.ppk" ppk_at pem!("dsa1024.pkcs8"), "DSA private key, 1024 bits, PuTTY", "";
    "p256.v2.ppk" ppk_at pem!("p256.pkcs8"), "EC private key, P-256, PuTTY", "";
    "p256.v3.ppk" ppk_at pem!("p256.pkcs8"), "EC private key, P-256, PuTTY", "";
    "p384.v3.ppk" ppk_at pem!("p384.sec1"), "EC private key, P-384, PuTTY", "";
    "p521.v2.ppk" ppk_at pem!("p521.sec1"), "EC private key, P-521, PuTTY", "";
    "ed25519.v2.ppk" ppk_at pem!("ed25519.pkcs8"), "Ed25519 private key, PuTTY", "";
    "ed25519.v3.ppk" ppk_at pem!("ed25519.pkcs8"), "Ed25519 private key, PuTTY", "";
    "ed448.v3.ppk" ppk_at None, "Ed448 private key, PuTTY", "";
    "ed25519.v2.encrypted.ppk" ppk_at None, "Ed25519 private key, PuTTY, encrypted", "";
    "ed25519.v3.encrypted.ppk" ppk_at None, "Ed25519 private key, PuTTY, encrypted", "";
    "rsa1024.sshcom" sshcom_at pem!("rsa1024.pkcs1"), "RSA private key, 1024 bits, SSH.com form", "";
    "dsa1024.sshcom" sshcom_at pem!("dsa1024.pkcs8"), "DSA private key, 1024 bits, SSH.com form", "";
    "rsa1024.encrypted.sshcom" sshcom_at None, "RSA private key, SSH.com form, encrypted", "";
    "rsa1024.blob.hex" rsa_blob_at pem!("rsa1024.pkcs1"), "RSA private key, 1024 bits, Windows key blob", "";
    "rsa1024.jwk" jwk_at pem!("rsa1024.pkcs1"), "RSA private key, 1024 bits, JSON Web Key", "kid made up";
    "p256.jwk" jwk_at pem!("p256.pkcs8"), "EC private key, P-256, JSON Web Key", "";
    "p384.jwk" jwk_at pem!("p384.sec1"), "EC private key, P-384, JSON Web Key", "";
    "p521.jwk" jwk_at pem!("p521.sec1"), "EC private key, P-521, JSON Web Key", "";
    "secp256k1.jwk" jwk_at pem!("secp256k1.sec1"), "EC private key, secp256k1, JSON Web Key", "";
    "ed25519.jwk" jwk_at pem!("ed25519.pkcs8"), "Ed25519 private key, JSON Web Key", "";
    "ed448.jwk" jwk_at pem!("ed448.pkcs8"), "Ed448 private key, JSON Web Key", "";
    "x25519.jwk" jwk_at pem!("x25519.pkcs8"), "X25519 private key, JSON Web Key", "";
    "x448.jwk" jwk_at pem!("x448.pkcs8"), "X448 private key, JSON Web Key", "";
    "clear.p12.hex" pkcs12_at pem!("p256.pkcs8"), "EC private key, P-256, PKCS#12", "named server";
    "changeit.p12.hex" pkcs12_at None, "Private key, PKCS#12",
        "opens with the default password `changeit`, named server";
    "keytool.p12.hex" pkcs12_at None, "Private key, PKCS#12",
        "opens with the default password `changeit`, named server";
    "empty.p12.hex" pkcs12_at None, "Private key, PKCS#12", "opens with the empty password, named server";
    "sha1.p12.hex" pkcs12_at None, "Private key, PKCS#12",
        "opens with the default password `password`, named server";
    "sha512.p12.hex" pkcs12_at None, "Private key, PKCS#12",
        "opens with the default password `changeme`, named server";
    "secret.p12.hex" pkcs12_at None, "Private key, PKCS#12, encrypted", "named server";
    "no-mac.p12.hex" pkcs12_at None, "Private key, PKCS#12, encrypted", "named server";
    "changeit.jks.hex" java_keystore_at None, "Private key, Java keystore (JKS)",
        "opens with the default password `changeit`, named server";
    "secret.jks.hex" java_keystore_at None, "Private key, Java keystore (JKS), encrypted", "named server";
    "changeit.jceks.hex" java_keystore_at None, "Private key, Java keystore (JCEKS)",
        "opens with the default password `changeit`, named server";
    "secret-key.jceks.hex" java_keystore_at None, "Symmetric key, Java keystore (JCEKS)",
        "opens with the default password `changeit`, named data";
    "version1.bks.hex" bks_at None, "Private key, Bouncy Castle keystore",
        "opens with the default password `changeit`, named server";
    "version2.bks.hex" bks_at None, "Private key, Bouncy Castle keystore",
        "opens with the default password `changeit`, named server";
    "secret.bks.hex" bks_at None, "Private key, Bouncy Castle keystore, encrypted", "named server";
    "clear.bks.hex" bks_at None, "EC private key, P-256, Bouncy Castle keystore", "named server";
    "ed25519.asc" openpgp_armored_at None, "Ed25519 private key, OpenPGP", "of Made Up <a@example.invalid>";
    "rsa1024.asc" openpgp_armored_at None, "RSA private key, 1024 bits, OpenPGP", "of Made Up <b@example.invalid>";
    "nistp256.asc" openpgp_armored_at None, "EC private key, P-256, OpenPGP", "of Made Up <c@example.invalid>";
    "dsa1024.asc" openpgp_armored_at None, "DSA private key, 1024 bits, OpenPGP", "of Made Up <d@example.invalid>";
    "encrypted.asc" openpgp_armored_at None, "Ed25519 private key, OpenPGP, encrypted",
        "of Made Up <e@example.invalid>";
    "rsa1024.pgp.hex" openpgp_binary_at None, "RSA private key, 1024 bits, OpenPGP", "of Made Up <b@example.invalid>";
    // The primary key is a stub, the subkey is not.
    "subkeys.pgp.hex" openpgp_binary_at None, "X25519 private key, OpenPGP", "of Made Up <a@example.invalid>";
}

/// Stores and keys without a secret.
const NONE: &[(&str, Read, &[u8])] = &[
    ("certificates.p12.hex", pkcs12_at, include_bytes!("../fixtures/containers/certificates.p12.hex")),
    ("trust-store.p12.hex", pkcs12_at, include_bytes!("../fixtures/containers/trust-store.p12.hex")),
    ("certificates.jks.hex", java_keystore_at, include_bytes!("../fixtures/containers/certificates.jks.hex")),
    ("certificates.bks.hex", bks_at, include_bytes!("../fixtures/containers/certificates.bks.hex")),
    ("public.pgp.hex", openpgp_binary_at, include_bytes!("../fixtures/containers/public.pgp.hex")),
];

fn unhex(name: &str, bytes: &[u8]) -> Vec<u8> {
    if !name.ends_with(".hex") {
        return bytes.to_vec();
    }
    let digits: Vec<u8> = bytes.iter().copied().filter(u8::is_ascii_hexdigit).collect();
    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(pair).collect()
}

fn fixtures() -> impl Iterator<Item = (&'static Fixture, Vec<u8>)> {
    FIXTURES.iter().zip(BYTES).map(|(fixture, (name, bytes))| (fixture, unhex(name, bytes)))
}

#[test]
fn every_container_gives_its_key() {
    for ((name, read, pem, what, note), bytes) in fixtures() {
        let key = read(&bytes, 0).unwrap_or_else(|why| panic!("{name}: {why}"));
        assert_eq!(key.describe(), *what, "{name}");
        assert_eq!(key.note.as_deref().unwrap_or_default(), *note, "{name}");
        assert_eq!(key.span, 0..bytes.trim_ascii_end().len().max(key.span.end), "{name}");
        if let Some(pem) = pem {
            let expected = pem_at(pem.as_bytes(), pem.find("-----BEGIN").unwrap()).unwrap();
            assert!(key.material == expected.material, "{name} is another key than its PEM");
        }
    }
}

#[test]
fn where_a_container_stands_changes_nothing() {
    for ((name, read, ..), bytes) in fixtures() {
        let key = read(&bytes, 0).unwrap();
        let moved = [b"in front", &bytes[..], b"\n\0behind"].concat();
        let again = read(&moved, 8).unwrap_or_else(|why| panic!("{name}: {why}"));
        // What a secret key of a JCEKS store is followed by is taken for the end of the store.
        if !name.starts_with("secret-key") {
            assert_eq!((again.describe(), again.note), (key.describe(), key.note), "{name}");
            assert!(again.material == key.material, "{name}");
            assert_eq!(again.span, key.span.start + 8..key.span.end + 8, "{name}");
        }
    }
}

#[test]
fn what_holds_no_secret_is_none() {
    for (name, read, bytes) in NONE {
        let result = read(&unhex(name, bytes), 0);
        assert!(result.is_err(), "{name}: {result:?}");
    }
}

#[test]
fn what_is_cut_off_never_panics_and_is_rarely_a_key() {
    for ((name, read, ..), bytes) in fixtures() {
        let bytes = bytes.trim_ascii_end();
        for end in 0..bytes.len() {
            let key = read(&bytes[..end], 0);
            let span = key.as_ref().map_or(0..0, |key| key.span.clone());
            assert!(span.end <= end, "{name} at {end}");
            // The subkeys behind an OpenPGP key, the chain and the checksum of a Java store may be missing.
            let spares = ["jks", "jceks", "pgp.hex"].iter().any(|kind| name.contains(kind));
            assert!(spares || key.is_err(), "{name} at {end}: {key:?}");
        }
        assert!(read(bytes, bytes.len()).is_err() && read(bytes, usize::MAX).is_err(), "{name}");
    }
}

#[test]
fn changed_bytes_never_panic() {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    for ((_, read, ..), bytes) in fixtures() {
        for _ in 0..60 {
            let mut changed = bytes.clone();
            for _ in 0..3 {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                let at = (state >> 20) as usize % changed.len();
                changed[at] = (state >> 11) as u8;
            }
            drop(read(&changed, 0));
        }
    }
}

#[test]
fn a_changed_plain_ppk_does_not_fit_its_mac() {
    for ((name, read, ..), bytes) in fixtures().filter(|((_, _, pem, ..), _)| pem.is_some()) {
        if name.ends_with(".ppk") {
            let text = String::from_utf8(bytes).unwrap().replace("Comment: ", "Comment: x");
            assert_eq!(read(text.as_bytes(), 0), Err(Reject::Inconsistent), "{name}");
        }
    }
}

#[test]
fn escaped_objects_end_where_they_end() {
    for ((name, read, _, what, note), bytes) in fixtures().filter(|((name, ..), _)| name.ends_with(".jwk")) {
        let text = String::from_utf8(bytes).unwrap();
        let escaped = format!("x\"{}\\n\", {{", text.trim_end().replace('"', "\\\""));
        let key = read(escaped.as_bytes(), 2).unwrap_or_else(|why| panic!("{name}: {why}"));
        assert_eq!((&key.describe()[..], key.note.as_deref().unwrap_or_default()), (*what, *note));
        assert!(escaped[key.span.clone()].ends_with('}') && escaped[key.span.end..].starts_with("\\n\""), "{name}");
    }
}

#[test]
fn the_native_keys_of_version_6_are_read() {
    // The structure of RFC 9580, appendix A.4, with made-up bytes.
    let seed: Vec<u8> = (0..32u8).map(|n| n.wrapping_mul(37).wrapping_add(11)).collect();
    let public: Vec<u8> = (0..32u8).map(|n| n.wrapping_mul(91).wrapping_add(5)).collect();
    let body = [&[6, 0x63, 0x87, 0x7f, 0xe3, 27, 0, 0, 0, 32][..], &public, &[0], &seed].concat();
    let packet = [&[0xc5, body.len() as u8][..], &body].concat();
    let key = openpgp_binary_at(&packet, 0).unwrap();
    assert_eq!(key.describe(), "Ed25519 private key, OpenPGP");
    assert!(key.material.ends_with(&seed));
    // Argon2 and OCB, as in appendix A.5.
    let sealed = [&public[..], &seed, &seed].concat();
    let s2k = [&[253, 38, 9, 2, 20, 4][..], &seed[..16], &[1, 4, 21], &seed[..15]].concat();
    let body = [&[6, 0x63, 0x87, 0x7f, 0xe3, 27, 0, 0, 0, 32][..], &public, &s2k, &sealed[..48]].concat();
    let packet = [&[0xc5, body.len() as u8][..], &body].concat();
    assert_eq!(openpgp_binary_at(&packet, 0).unwrap().describe(), "Ed25519 private key, OpenPGP, encrypted");
}

#[test]
fn a_key_of_a_specification_is_known() {
    // RFC 7517, appendix A.2.
    let jwk = br#"{"kty":"EC","crv":"P-256","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
        "y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM","d":"870MB6gfuTJ4HtUnUvYMyJpr5eUZNP4Bk43bVdj3eAE"}"#;
    let key = jwk_at(jwk, 0).unwrap();
    let digest = layersift_model::Digest::of(&key.material);
    let rules = layersift_rules::Ruleset::built_in().unwrap();
    let known = rules.known_keys.iter().find(|known| known.sha256 == digest.hex()).unwrap();
    assert_eq!(known.source, "RFC 7517, appendix A.2");
}

#[test]
fn small_formats_are_read_to_their_end() {
    let signify = "RWRCSwAAAABnJZu9/PrLztqQTzTW0ovY/sdEYsEwyeCG9InU3hmX11NTDQ5gYmS26ZiEa5TJEZf1CdbzcZP/ag4j\
                   zqJYloamPf7GCAFFAFVWG4rbq+l4yrCR12SHxaGuBvNH+Yxop/s=";
    let samples: [(Read, &str, usize, &str); 3] = [
        (
            age_identity_at,
            "AGE-SECRET-KEY-1HHHRELUA83ASCZY84DTS8HHQ3NF7DJEQFFFLZX62SH5SWZ8JFWZQ3GK2FG",
            0,
            "X25519 private key, age identity",
        ),
        (
            wireguard_at,
            "[Interface]\nPrivateKey = aCaOXcJOPuCGhopgo262eGyO8DuzYI31MQeSUpOAjlU=",
            12,
            "X25519 private key, WireGuard",
        ),
        (signify_at, signify, 0, "Ed25519 private key, signify"),
    ];
    for (read, text, at, what) in samples {
        let key = read(text.as_bytes(), at).unwrap_or_else(|why| panic!("{what}: {why}"));
        assert_eq!((&key.describe()[..], key.span.end), (what, text.len()));
        // Base64 is read without its padding, too.
        for end in 0..text.trim_end_matches('=').len() {
            assert!(read(&text.as_bytes()[..end], at).is_err(), "{what} at {end}");
        }
    }
}
