//! Keys made up with OpenSSL and OpenSSH, in every form that text and binaries hold them in, and hostile bytes.

mod containers;

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::*;

macro_rules! fixtures {
    ($($name:literal: $what:literal,)*) => {
        /// Name, text and description of a key.
        const FIXTURES: &[(&str, &str, &str)] =
            &[$(($name, include_str!(concat!("fixtures/", $name, ".pem")), $what)),*];
    };
}

fixtures! {
    "rsa512.pkcs1": "RSA private key, 512 bits, PKCS#1",
    "rsa768.pkcs1": "RSA private key, 768 bits, PKCS#1",
    "rsa1024.pkcs1": "RSA private key, 1024 bits, PKCS#1",
    "rsa1024.pkcs8": "RSA private key, 1024 bits, PKCS#8",
    "rsa1024.pss": "RSA private key, 1024 bits, PKCS#8",
    "rsa1024.openssh": "RSA private key, 1024 bits, OpenSSH",
    "rsa1024.openssh-encrypted": "RSA private key, 1024 bits, OpenSSH, encrypted",
    "rsa1024.encrypted": "Private key, PKCS#8, encrypted",
    "rsa1024.traditional": "RSA private key, traditional PEM, encrypted",
    "rsa1024.des3": "RSA private key, traditional PEM, encrypted",
    "rsa2048.pkcs1": "RSA private key, 2048 bits, PKCS#1",
    "rsa2048.multiprime": "RSA private key, 2048 bits, PKCS#1",
    "rsa4096.pkcs8": "RSA private key, 4096 bits, PKCS#8",
    "p224.sec1": "EC private key, P-224, SEC1",
    "p256.sec1": "EC private key, P-256, SEC1",
    "p256.pkcs8": "EC private key, P-256, PKCS#8",
    "p256.no-public": "EC private key, P-256, SEC1",
    "p256.compressed": "EC private key, P-256, SEC1",
    "p256.explicit": "EC private key, explicit parameters, SEC1",
    "p256.openssh": "EC private key, P-256, OpenSSH",
    "p256.traditional": "EC private key, unknown curve, traditional PEM, encrypted",
    "p384.sec1": "EC private key, P-384, SEC1",
    "p384.openssh": "EC private key, P-384, OpenSSH",
    "p521.sec1": "EC private key, P-521, SEC1",
    "p521.openssh": "EC private key, P-521, OpenSSH",
    "secp256k1.sec1": "EC private key, secp256k1, SEC1",
    "brainpoolP256r1.sec1": "EC private key, brainpoolP256r1, SEC1",
    "sect283k1.sec1": "EC private key, sect283k1, SEC1",
    "ed25519.pkcs8": "Ed25519 private key, PKCS#8",
    "ed25519.openssh": "Ed25519 private key, OpenSSH",
    "ed25519.openssh-encrypted": "Ed25519 private key, OpenSSH, encrypted",
    "ed448.pkcs8": "Ed448 private key, PKCS#8",
    "x25519.pkcs8": "X25519 private key, PKCS#8",
    "x448.pkcs8": "X448 private key, PKCS#8",
    "dsa1024.traditional-dsa": "DSA private key, 1024 bits, OpenSSL form",
    "dsa1024.pkcs8": "DSA private key, 1024 bits, PKCS#8",
    "dsa1024.openssh": "DSA private key, 1024 bits, OpenSSH",
    "dh.pkcs8": "Private key, algorithm 1.2.840.113549.1.3.1, PKCS#8",
}

fn fixture(name: &str) -> &'static str {
    FIXTURES.iter().find(|(fixture, ..)| *fixture == name).map(|(_, text, _)| text.trim_end()).unwrap()
}

/// The bytes between the labels of a fixture without headers.
fn der(name: &str) -> Vec<u8> {
    let base64: String = fixture(name).lines().filter(|line| !line.starts_with("-----")).collect();
    STANDARD.decode(base64).unwrap()
}

/// The only key in `text`.
fn found(text: &str) -> Result<PrivateKey, Reject> {
    pem_at(text.as_bytes(), text.find("-----BEGIN").unwrap())
}

fn xorshift(state: &mut u64) -> usize {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    (*state >> 16) as usize
}

#[test]
fn every_fixture_is_what_it_is() {
    for (name, text, what) in FIXTURES {
        let key = found(&format!("before\n{text}after")).unwrap_or_else(|why| panic!("{name}: {why}"));
        assert_eq!(key.describe(), *what, "{name}");
        assert_eq!(key.span, 7..7 + text.trim_end().len(), "{name}");
        assert_eq!(key.encrypted, what.ends_with("encrypted"), "{name}");
        assert!(!format!("{key:?}").contains("material"));
    }
    assert_eq!(found(fixture("rsa1024.openssh-encrypted")).unwrap().bits, 1024);
    assert_eq!(found(fixture("p256.explicit")).unwrap().bits, 256);
}

#[test]
fn one_key_is_one_material_in_all_containers() {
    for group in [
        &["rsa1024.pkcs1", "rsa1024.pkcs8", "rsa1024.openssh"][..],
        &["p256.sec1", "p256.pkcs8", "p256.no-public", "p256.compressed", "p256.openssh"],
        &["dsa1024.traditional-dsa", "dsa1024.pkcs8", "dsa1024.openssh"],
        &["ed25519.pkcs8", "ed25519.openssh"],
    ] {
        let first = found(fixture(group[0])).unwrap().material;
        for name in group {
            assert_eq!(found(fixture(name)).unwrap().material, first, "{name}");
        }
        let again = der_at(&first, 0).unwrap();
        assert_eq!((again.container, again.material), (Container::Pkcs8, first));
    }
}

/// A PEM text as other texts hold it.
fn forms(pem: &str) -> Vec<(&'static str, String)> {
    let lines: Vec<&str> = pem.lines().collect();
    let each =
        |before: &str, after: &str| lines.iter().map(|line| format!("{before}{line}{after}")).collect::<String>();
    let wrapped = |width: usize| match &lines[..] {
        [first, body @ .., last] if !pem.contains(':') => {
            let body = body.concat();
            let body: Vec<_> = body.as_bytes().chunks(width).map(String::from_utf8_lossy).collect();
            format!("{first}\n{}\n{last}", body.join("\n"))
        }
        _ => pem.to_owned(),
    };
    vec![
        ("as it is", pem.to_owned()),
        ("narrow", wrapped(11)),
        ("wide", wrapped(76)),
        ("one line", wrapped(1 << 20)),
        ("no newline at all", if pem.contains(':') { pem.replace('\n', " ") } else { pem.replace('\n', "") }),
        ("crlf", each("", "\r\n")),
        ("cr", each("", "\r")),
        ("blank lines", each("", "\n\n")),
        ("yaml", each("    ", "\n")),
        ("tabs", each("\t\t", " \t\r\n")),
        ("diff, added", each("+", "\n")),
        ("diff, removed", each("-", "\n")),
        ("diff of yaml", each("+    ", "\n")),
        ("mail", each("> > ", "\n")),
        ("shell comment", each("# ", "\n")),
        ("c++ comment", each("    // ", "\n")),
        ("doc comment", each("/// ", "\n")),
        ("block comment", each(" * ", "\n")),
        ("sql comment", each("-- ", "\n")),
        ("vim comment", each("\" ", "\n")),
        ("json", format!("{{\"key\": \"{}\"}}", each("", r"\n"))),
        ("json, crlf", format!("{{\"key\": \"{}\"}}", each("", r"\r\n"))),
        ("json in json", format!(r#"{{\"key\": \"{}\"}}"#, each("", r"\\n"))),
        ("json four times", each("", r"\\\\n")),
        ("json, all escaped", each("", r"\u000a").replace('/', r"\/").replace('+', r"\u002B").replace('=', r"\u003d")),
        ("json array", format!("[{}]", each("\"", "\",\n"))),
        ("javascript", each("  \"", "\\n\" +\n")),
        ("javascript, single", each("  '", "\\n'+\r\n")),
        ("template", format!("const k = `{pem}`;")),
        ("template in diff", format!("+const k = `{}", each("+", "\n"))),
        ("concatenation in diff", each("+  \"", "\\n\" +\n")),
        ("c", each("    \"", "\\n\"\n")),
        ("c, crlf", each("    \"", "\\r\\n\"\n")),
        ("c, hexadecimal", each("    \"", "\\x0a\"\n")),
        ("c, octal", each("    \"", "\\012\"\n")),
        ("c, macro", each("\"", "\\n\" \\\n")),
        ("c in json", each(r#"    \""#, r#"\\n\"\n"#)),
        ("c without newlines", each("    \"", "\"\n")),
        ("php", each("'", "'.\"\\n\".\n")),
        ("basic", each("k = k & \"", "\" & vbCrLf\n")),
        ("basic, continued", each("\"", "\" & vbCrLf & _\n")),
        ("python", each("    b\"", "\\n\"  # a line\n")),
        ("shell echo", each("echo '", "' >> key.pem\n")),
        ("dockerfile", each("", "\\n\\\n")),
        ("properties", each("", "\\\n    ")),
        ("powershell", each("", "`r`n")),
        ("variable", each("", " ")),
        ("xml", each("", "&#10;")),
        ("xml, crlf", each("", "&#xD;&#xA;")),
        ("binary", format!("\0\u{1}{pem}\0\0more")),
    ]
}

#[test]
fn every_form_of_text_gives_the_same_key() {
    for name in [
        "rsa512.pkcs1",
        "rsa1024.pkcs8",
        "rsa1024.encrypted",
        "rsa1024.traditional",
        "rsa1024.des3",
        "rsa1024.openssh",
        "p256.sec1",
        "p384.sec1",
        "ed25519.pkcs8",
        "ed25519.openssh-encrypted",
    ] {
        let pem = fixture(name);
        let expected = found(pem).unwrap();
        for (form, text) in forms(pem) {
            let key = found(&text).unwrap_or_else(|why| panic!("{name}, {form}: {why}\n{text}"));
            assert_eq!(
                (key.material.clone(), key.describe()),
                (expected.material.clone(), expected.describe()),
                "{form}"
            );
            assert!(text[key.span.clone()].starts_with("-----BEGIN "), "{form}");
            assert!(text[key.span.clone()].ends_with("PRIVATE KEY-----"), "{form}");
        }
    }
}

#[test]
fn what_is_no_key_is_nothing() {
    let public = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE";
    for (text, why) in [
        ("-----BEGIN PRIVATE KEY-----".to_owned(), Reject::Truncated),
        ("-----BEGIN PRIVATE KEY-----\n".repeat(2), Reject::NoEnd),
        (format!("-----BEGIN PRIVATE KEY-----{}", " ".repeat(40_000)), Reject::NoEnd),
        ("-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----".to_owned(), Reject::NoLabel),
        ("-----BEGIN PGP PRIVATE KEY BLOCK-----\n-----END PGP PRIVATE KEY BLOCK-----".to_owned(), Reject::NoLabel),
        ("-----BEGIN x PRIVATE KEY-----\n-----END x PRIVATE KEY-----".to_owned(), Reject::NoLabel),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----".to_owned(), Reject::NoEnd),
        ("-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIV".to_owned(), Reject::Truncated),
        ("-----BEGIN PRIVATE KEY-----\n...\n-----END PRIVATE KEY-----".to_owned(), Reject::NotBase64),
        ("-----BEGIN PRIVATE KEY-----\n\n-----END PRIVATE KEY-----".to_owned(), Reject::NotBase64),
        ("-----BEGIN PRIVATE KEY-----\nMIIE\0\n-----END PRIVATE KEY-----".to_owned(), Reject::NotBase64),
        ("-----BEGIN PRIVATE KEY-----\nyour key goes here\n-----END PRIVATE KEY-----".to_owned(), Reject::NotAKey),
        ("-----BEGIN PRIVATE KEY-----\n<redacted>\n-----END PRIVATE KEY-----".to_owned(), Reject::NotAKey),
        (format!("-----BEGIN PRIVATE KEY-----\n{public}\n-----END PRIVATE KEY-----"), Reject::Malformed),
        (fixture("rsa512.pkcs1").replace("IB", "..."), Reject::NotBase64),
    ] {
        assert_eq!(found(&text), Err(why), "{text:.80}");
    }
    assert_eq!(pem_at(b"x", 9), Err(Reject::Truncated));
    assert_eq!(der_at(b"x", 9), Err(Reject::Truncated));
    let zeros = STANDARD.encode([&der("ed25519.pkcs8")[..16], &[0; 32]].concat());
    let zeros = format!("-----BEGIN PRIVATE KEY-----\n{zeros}\n-----END PRIVATE KEY-----");
    assert_eq!(found(&zeros), Err(Reject::Placeholder));
}

#[test]
fn the_label_need_not_be_right() {
    let wrong = fixture("rsa512.pkcs1").replace("RSA PRIVATE", "PRIVATE");
    assert_eq!(found(&wrong).unwrap().container, Container::Pkcs1);
    let wrong = fixture("p256.pkcs8").replace("PRIVATE", "EC PRIVATE");
    assert_eq!(found(&wrong).unwrap().container, Container::Pkcs8);
}

#[test]
fn der_is_found_where_it_stands() {
    for (name, _, what) in FIXTURES {
        let bare = !what.contains("encrypted") && !what.contains("OpenSSH") && *name != "dh.pkcs8";
        if !bare {
            continue;
        }
        let der = der(name);
        let window = [&[0x30, 0x82, 1, 2, 3][..], &der, &[0x30; 90]].concat();
        let key = der_at(&window, 5).unwrap_or_else(|why| panic!("{name}: {why}"));
        assert_eq!((key.describe(), key.span), ((*what).to_owned(), 5..5 + der.len()));
        assert_eq!(key.material, found(fixture(name)).unwrap().material, "{name}");
    }
}

#[test]
fn der_without_a_label_has_to_be_beyond_doubt() {
    assert_eq!(der_at(&der("rsa1024.encrypted"), 0), Err(Reject::NotAKey));
    assert_eq!(der_at(&der("dh.pkcs8"), 0), Err(Reject::NotAKey));
    // A template: the first bytes of an Ed25519 key with a library's strings behind it.
    let text = *b"error: the key is not 32 bytes. ";
    let template = [&der("ed25519.pkcs8")[..16], &text].concat();
    assert_eq!(der_at(&template, 0), Err(Reject::Placeholder));
    // The same with a constant first.
    let constants = [&0xd26f_f64e_93bb_0239_2305_6aa0_8041_449e_u128.to_be_bytes()[..], b"pcelsIntegerList"].concat();
    let template = [&der("ed25519.pkcs8")[..16], &constants].concat();
    assert_eq!(der_at(&template, 0), Err(Reject::Placeholder));
    // A scalar without curve and public key is any integer 1 beside any 32 bytes.
    let scalar = tlv::encode(tlv::SEQUENCE, &[&[2, 1, 1], &tlv::encode(tlv::OCTETS, &[&der("p256.sec1")[7..39]])]);
    assert_eq!(der_at(&scalar, 0), Err(Reject::NotAKey));
    let labelled =
        format!("-----BEGIN EC PRIVATE KEY-----\n{}\n-----END EC PRIVATE KEY-----", STANDARD.encode(&scalar));
    assert_eq!(found(&labelled).unwrap().describe(), "EC private key, unknown curve, SEC1");
}

#[test]
fn the_inner_key_of_pkcs8_is_no_second_finding() {
    for (name, at) in [("rsa1024.pkcs8", 26), ("p256.pkcs8", 29), ("dsa1024.pkcs8", 0)] {
        let window = [&[0xff; 40], &der(name)[..], &[0; 8]].concat();
        assert!(der_at(&window, 40).is_ok(), "{name}");
        if at > 0 {
            assert_eq!(der_at(&window, 40 + at), Err(Reject::Inner), "{name}");
        }
    }
}

#[test]
fn numbers_have_to_belong_together() {
    for name in ["rsa512.pkcs1", "rsa1024.pkcs8", "dsa1024.pkcs8", "rsa2048.multiprime"] {
        let mut der = der(name);
        let fifth = der.len() / 5;
        der[fifth] ^= 1;
        assert_eq!(der_at(&der, 0), Err(Reject::Inconsistent), "{name}");
    }
    let mut blob = der("ed25519.openssh");
    assert!(openssh::parse(&blob).is_ok());
    let check = blob.len() - 130;
    blob[check..].reverse();
    assert!(openssh::parse(&blob).is_err());
}

#[test]
fn odd_encodings_of_real_keys_are_read() {
    let number = |bytes: &[u8]| tlv::encode(tlv::INTEGER, &[bytes]);
    let der = der("rsa512.pkcs1");
    let mut reader = tlv::Reader::new(&der).sequence().unwrap();
    let numbers: Vec<&[u8]> = std::iter::from_fn(|| reader.number().ok()).collect();
    // Integers without their leading zero, which makes them negative for a strict reader.
    let negative =
        [&[2, 1, 0][..], &numbers[1..].iter().map(|part| number(part)).collect::<Vec<_>>().concat()].concat();
    let key = der_at(&tlv::encode(tlv::SEQUENCE, &[&negative]), 0).unwrap();
    assert_eq!((key.algorithm, key.bits), (Algorithm::Rsa, 512));
    // Without the primes, as Java writes them.
    let zero = number(&[0]);
    let (n, d) = (tlv::encode_number(numbers[1]), tlv::encode_number(numbers[3]));
    let java = tlv::encode(tlv::SEQUENCE, &[&zero, &n, &zero, &d, &zero, &zero, &zero, &zero, &zero]);
    assert_eq!(der_at(&java, 0).unwrap().bits, 512);
    // Curve 25519 with the public key behind the private one, in both spellings.
    let plain = self::der("ed25519.pkcs8");
    for public in [&[&[0x81, 33, 0][..], &[7; 32]].concat(), &[&[0xa1, 35, 3, 33, 0][..], &[7; 32]].concat()] {
        let second = tlv::encode(tlv::SEQUENCE, &[&[2, 1, 1], &plain[5..], public]);
        assert_eq!(der_at(&second, 0).unwrap().material, plain);
    }
}

#[test]
fn truncated_keys_are_none() {
    for (name, text, _) in FIXTURES {
        let text = text.trim_end().as_bytes();
        for len in 0..text.len() {
            assert!(pem_at(&text[..len], 0).is_err(), "{name} cut at {len}");
        }
        if name.contains("traditional") || name.contains("des3") {
            continue;
        }
        let der = der(name);
        for len in 0..der.len() {
            assert!(der_at(&der[..len], 0).is_err(), "{name} cut at {len}");
            let parsed = openssh::parse(&der[..len]);
            // The tag of an authenticated cipher, behind the key, is not looked at.
            assert!(parsed.is_err() || (name.contains("openssh-encrypted") && len + 16 >= der.len()));
        }
    }
}

#[test]
fn mutated_keys_do_no_harm() {
    let mut state = 0x9e37_79b9_7f4a_7c15;
    let interesting =
        [0, 1, 2, 4, 0x30, 0x7f, 0x80, 0x81, 0x82, 0x83, 0x84, 0xa0, 0xff, b'\\', b'"', b'\n', b':', b'-'];
    for (name, text, _) in FIXTURES.iter().filter(|(_, text, _)| text.len() < 1_200) {
        let encoded = !(name.contains("traditional") || name.contains("des3"));
        let der = if encoded { der(name) } else { Vec::new() };
        for round in 0..400 {
            for mut bytes in [text.as_bytes().to_vec(), der.clone()] {
                for _ in 0..=round % 4 {
                    let (place, value) = (xorshift(&mut state), xorshift(&mut state));
                    let len = bytes.len().max(1);
                    if let Some(byte) = bytes.get_mut(place % len) {
                        *byte = if round % 2 == 0 { interesting[value % interesting.len()] } else { value as u8 };
                    }
                }
                for key in [pem_at(&bytes, 0), der_at(&bytes, 0), openssh::parse(&bytes)].into_iter().flatten() {
                    assert!(key.span.end <= bytes.len() && !key.describe().is_empty());
                }
            }
        }
    }
}

#[test]
fn hostile_windows_are_fast() {
    let begin = "-----BEGIN PRIVATE KEY-----";
    let end = "-----END PRIVATE KEY-----";
    let escapes = format!("{begin}{}{end}", r#"\"\u&#`"#.repeat(4_000));
    let windows = [
        begin.repeat(2_400),
        format!("{begin}\n").repeat(2_300),
        format!("{begin}{}", "-".repeat(65_000)),
        format!("{begin}{}{end}", "A: \n".repeat(8_000)),
        format!("{begin}{}{end}", "\"".repeat(32_000)),
        format!("{begin}{}{end}", "\\".repeat(32_000)),
        format!("{begin}\n{}\n{end}", "MIIE\n".repeat(6_000)),
        escapes.chars().take(32_000).collect(),
        "0\u{80}".repeat(20_000),
    ];
    let started = Instant::now();
    for window in &windows {
        for (at, _) in window.match_indices(begin).chain(window.match_indices('0').step_by(50)) {
            assert!(pem_at(window.as_bytes(), at).is_err());
            assert!(der_at(window.as_bytes(), at).is_err());
        }
    }
    // Sequences in sequences, each of which might be PKCS#8 around the next.
    let nested: Vec<u8> = [0x30, 0x82, 0x01, 0x00, 2, 1, 0, 0x30, 0, 4, 0x82, 1, 0].repeat(5_000);
    let numbers: Vec<u8> = [0x30, 0x83, 0, 0xff, 0, 2, 1, 0].into_iter().chain([2, 1, 1].repeat(20_000)).collect();
    for window in [nested, numbers, vec![0x30; 65_536], vec![0xff; 65_536]] {
        for at in 0..4_096 {
            assert!(der_at(&window, at).is_err());
        }
    }
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
}

#[test]
fn the_largest_numbers_are_fast() {
    let odd = |len: usize| vec![0xff; len];
    let (n, d, p) = (odd(2_048), odd(2_048), odd(1_024));
    let numbers = [&[], &n[..], &[3], &d, &p, &p, &p, &p, &p].map(tlv::encode_number).concat();
    let started = Instant::now();
    assert_eq!(der::rsa(&numbers, Container::Pkcs1), Err(Reject::Inconsistent));
    assert_eq!(
        der::dsa(&n[..1_024], &n[..64], &[2], &[5], Container::Dsa).map(|key| key.bits),
        Err(Reject::Inconsistent)
    );
    let rest = number::remainder(&d, &p);
    assert!(rest.is_empty());
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
}
