//! Keys and signatures of openssl and cosign.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use layersift_attest::Envelope;
use layersift_attest::keys::{KeyError, KeyKind, PrivateKey, PublicKey, Signer, is_image_signing_name};

use crate::support::{fixture, text};

#[test]
fn signatures_of_openssl_are_verified_in_the_ways_that_cosign_has() {
    let fixture = fixture("signatures.json");
    let message = text(&fixture["message"]).as_bytes();
    let accepted = ["p256 sha256", "p384 sha256", "p384 sha384", "p521 sha256", "p521 sha512", "ed25519 pure"];
    let accepted = accepted.iter().chain(&["rsa2048 sha256", "rsa3072 sha256", "rsa4096 sha256"]);
    let accepted: Vec<String> = accepted.map(|way| (*way).into()).collect();
    let mut verified = 0;
    for (name, key) in fixture["keys"].as_object().unwrap() {
        let public = PublicKey::from_pem(text(&key["public"])).unwrap();
        assert_eq!(public.to_pem(), text(&key["public"]), "{name}");
        for (way, signature) in key["signatures"].as_object().unwrap() {
            let signature = BASE64_STANDARD.decode(text(signature)).unwrap();
            let verifies = public.verifies(message, &signature);
            assert_eq!(verifies, accepted.contains(&format!("{name} {way}")), "{name} {way}");
            assert!(!public.verifies(b"another message", &signature), "{name} {way}");
            verified += usize::from(verifies);
        }
    }
    assert_eq!(verified, accepted.len());
}

#[test]
fn private_keys_of_openssl_sign() {
    let fixture = fixture("signatures.json");
    for (name, form) in
        [("p256", "private"), ("p256", "sec1"), ("rsa2048", "private"), ("rsa2048", "pkcs1"), ("ed25519", "private")]
    {
        let key = &fixture["keys"][name];
        let private = PrivateKey::from_pem(text(&key[form]), None).unwrap();
        assert_eq!(private.public_key().to_pem(), text(&key["public"]), "{name} {form}");
        let signature = private.sign(b"a message").unwrap();
        assert!(private.public_key().verifies(b"a message", &signature), "{name} {form}");
        assert!(!format!("{private:?}").contains("seed"));
    }
}

#[test]
fn encrypted_keys_of_both_cosigns_are_read() {
    let keys = fixture("keys.json");
    let password = text(&keys["password"]).as_bytes();
    for name in ["v2-generated", "v3-generated", "v2-imported-ed25519"] {
        let pem = text(&keys[&format!("{name}.key")]);
        assert!(PrivateKey::needs_password(pem));
        let private = PrivateKey::from_pem(pem, Some(password)).unwrap();
        assert_eq!(private.public_key().to_pem(), text(&keys[&format!("{name}.pub")]), "{name}");
    }
    let pem = text(&keys["v2-generated.key"]);
    assert!(matches!(PrivateKey::from_pem(pem, None), Err(KeyError::PasswordNeeded)));
    assert!(matches!(PrivateKey::from_pem(pem, Some(b"another")), Err(KeyError::Decrypt)));
}

#[test]
fn generated_keys_come_back_from_cosigns_form() {
    let key = PrivateKey::generate_p256().unwrap();
    let pem = key.to_encrypted_pem(b"a password").unwrap();
    assert!(pem.starts_with("-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\n"));
    assert!(pem.lines().all(|line| line.len() <= 64));
    let read = PrivateKey::from_pem(&pem, Some(b"a password")).unwrap();
    assert_eq!(read.public_key(), key.public_key());
    let ed25519 = PrivateKey::generate_ed25519().unwrap();
    assert_eq!(ed25519.public_key().kind(), KeyKind::Ed25519);
    assert_ne!(ed25519.public_key(), PrivateKey::generate_ed25519().unwrap().public_key());
}

#[test]
fn an_encryption_that_takes_all_memory_is_refused() {
    let section = |parameters: &str| {
        let json = format!(
            r#"{{"kdf":{{"name":"scrypt","params":{parameters},"salt":"AAAA"}},
            "cipher":{{"name":"nacl/secretbox","nonce":"{}"}},"ciphertext":"AAAA"}}"#,
            BASE64_STANDARD.encode([0; 24])
        );
        let label = "ENCRYPTED COSIGN PRIVATE KEY";
        format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", BASE64_STANDARD.encode(json))
    };
    let read = |parameters| PrivateKey::from_pem(&section(parameters), Some(b"x"));
    assert!(matches!(read(r#"{"N":1024,"r":8,"p":1}"#), Err(KeyError::Decrypt)));
    for costly in [r#"{"N":1099511627776,"r":8,"p":1}"#, r#"{"N":1024,"r":4294967295,"p":1}"#, r#"{"N":0,"r":8,"p":1}"#]
    {
        assert!(matches!(read(costly), Err(KeyError::Encryption)), "{costly}");
    }
}

#[test]
fn ed25519ph_of_both_cosigns_is_verified() {
    let keys = fixture("keys.json");
    for row in fixture("ed25519ph.json").as_array().unwrap() {
        let writer = text(&row["writer"]);
        let key = PublicKey::from_pem(text(&keys[&format!("{writer}-imported-ed25519.pub")])).unwrap();
        let envelope = Envelope::parse(row["envelope"].to_string().as_bytes()).unwrap();
        assert!(envelope.is_signed_by(&key), "{writer}");
        assert!(!envelope.is_signed_by(&PublicKey::from_pem(text(&keys["handmade-ed25519.pub"])).unwrap()));
    }
}

#[test]
fn other_files_are_not_keys() {
    let fixture = fixture("signatures.json");
    let (public, private) = (text(&fixture["keys"]["p256"]["public"]), text(&fixture["keys"]["p256"]["private"]));
    assert!(matches!(PublicKey::from_pem(private), Err(KeyError::Label(_))));
    assert!(matches!(PrivateKey::from_pem(public, None), Err(KeyError::Label(_))));
    for changed in [format!("x{public}"), format!("{public}{public}"), public.replace("END", "ENC"), String::new()] {
        assert!(PublicKey::from_pem(&changed).is_err(), "{changed}");
    }
}

#[test]
fn names_of_keys_for_images_are_known() {
    assert!(["cosign.key", "cosign.pub", "Cosign.KEY", "image-signing.pem"].iter().all(|n| is_image_signing_name(n)));
    assert!(!["layersift.key", "attest.pem", "cosign-attest.key"].iter().any(|name| is_image_signing_name(name)));
}
