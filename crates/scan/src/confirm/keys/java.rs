//! Java's own key stores, JKS and JCEKS. Source: OpenJDK, `sun.security.provider.JavaKeyStore` (JKS) and
//! `com.sun.crypto.provider.JceKeyStore` (JCEKS), methods `engineStore` and `getPreKeyedHash`.
//!
//! After the magic, a version and the number of entries: a tag (1 private key, 2 certificate, 3 secret key), a name, a
//! date and the entry. The last 20 bytes are the SHA-1 of the password, `Mighty Aphrodite` and everything before.

use sha1::{Digest, Sha1};

use super::default_password::{PASSWORDS, says};
use super::fields::Fields;
use super::rounds;
use super::tlv::{OCTETS, OID, Reader};
use super::{Algorithm, Container, PrivateKey, Reject, distinct, printable};

const JKS: &[u8] = &[0xfe, 0xed, 0xfe, 0xed];
const JCEKS: &[u8] = &[0xce, 0xce, 0xce, 0xce];

/// The first bytes of a serialized Java object (Java Object Serialization Specification, section 6.4.2).
const STREAM: &[u8] = &[0xac, 0xed, 0, 5];

/// `iso.org.dod.internet.private.enterprise.sun`, the prefix of the two identifiers of Java's key protection.
const SUN: &[u8] = &[0x2b, 6, 1, 4, 1, 0x2a, 2];
/// PKCS#5 schemes, which JCEKS of other vendors uses.
const PKCS5: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 5];

const DIGEST: usize = 20;

/// The bytes of a round of SHA-1.
const BLOCK: usize = 64;

/// Reads the store whose magic is at `at` in `window`. The span is the part of the store in the window; the material is
/// its first key, still encrypted. A store that a well-known password opens counts as not encrypted, which is only
/// known if the whole store is in the window.
///
/// # Errors
/// The reason for the rejection, also for a store of certificates only.
pub fn java_keystore_at(window: &[u8], at: usize) -> Result<PrivateKey, Reject> {
    let bytes = window.get(at..).ok_or(Reject::Truncated)?;
    let container = match bytes.get(..4) {
        Some(JKS) => Container::Jks,
        Some(JCEKS) => Container::Jceks,
        _ => return Err(Reject::NoLabel),
    };
    let mut store = Fields::new(bytes.get(4..).unwrap_or_default());
    let version = store.u32()?;
    let count = store.u32()?;
    if !matches!(version, 1 | 2) || !(1..=10_000).contains(&count) {
        return Err(Reject::NotAKey);
    }
    let found = entries(&mut store, version, count, container)?;
    let (name, material) = found.key.ok_or(Reject::NotAKey)?;
    let end = if found.complete { bytes.len() - store.rest().len() + DIGEST } else { bytes.len() };
    let password = bytes.get(..end).and_then(opens_with);
    let note = password.as_ref().map(|how| format!("opens {how}, named {name}")).unwrap_or(format!("named {name}"));
    Ok(PrivateKey {
        algorithm: if found.secret { Algorithm::Symmetric } else { Algorithm::Hidden },
        bits: 0,
        container,
        encrypted: password.is_none(),
        span: at..at + end.min(bytes.len()),
        material: material.to_vec(),
        note: Some(note),
    })
}

#[derive(Default)]
struct Found<'a> {
    /// Name and bytes of the first private or secret key.
    key: Option<(String, &'a [u8])>,
    /// Whether that is a secret key.
    secret: bool,
    /// Whether all entries were read.
    complete: bool,
}

/// Reads the entries up to the first one that is incomplete.
fn entries<'a>(store: &mut Fields<'a>, version: u32, count: u32, container: Container) -> Result<Found<'a>, Reject> {
    let mut found = Found::default();
    for _ in 0..count {
        let Ok(tag) = store.u32() else { return Ok(found) };
        let Ok(name) = store.short_string() else { return Ok(found) };
        if !matches!(tag, 1..=3) || store.take(8).is_err() {
            return Ok(found);
        }
        match tag {
            1 => match private_key(store, version) {
                Ok(key) => _ = found.key.get_or_insert_with(|| (printable(name), key)),
                Err(_) => return Ok(found),
            },
            2 if certificate(store, version).is_ok() => {}
            3 if container == Container::Jceks && store.rest().starts_with(STREAM) => {
                // The format does not contain the length of the object.
                found.secret = found.key.is_none();
                let object = store.rest();
                found.key.get_or_insert_with(|| (printable(name), object));
                return Ok(found);
            }
            _ => return Ok(found),
        }
    }
    found.complete = true;
    Ok(found)
}

/// An `EncryptedPrivateKeyInfo` and the certificates that belong to it.
fn private_key<'a>(store: &mut Fields<'a>, version: u32) -> Result<&'a [u8], Reject> {
    let key = store.string()?;
    let mut info = Reader::new(key).sequence()?;
    let scheme = info.sequence()?.expect(OID)?;
    let ciphertext = info.expect(OCTETS)?;
    if !(scheme.starts_with(SUN) || scheme.starts_with(PKCS5)) || ciphertext.len() < 40 || distinct(ciphertext) < 16 {
        return Err(Reject::NotAKey);
    }
    for _ in 0..store.u32()? {
        // A chain that the window cuts off does not affect the key.
        if certificate(store, version).is_err() {
            break;
        }
    }
    Ok(key)
}

fn certificate(store: &mut Fields<'_>, version: u32) -> Result<(), Reject> {
    if version == 2 {
        store.short_string()?;
    }
    store.string().map(drop)
}

/// Which well-known password opens the store, if any.
fn opens_with(store: &[u8]) -> Option<String> {
    let (body, digest) = store.split_at_checked(store.len().checked_sub(DIGEST)?)?;
    let opens = |password: &&&str| {
        let mut hash = Sha1::new();
        password.encode_utf16().for_each(|unit| hash.update(unit.to_be_bytes()));
        hash.update(b"Mighty Aphrodite");
        hash.update(body);
        hash.finalize()[..] == *digest
    };
    let identity = || (digest.to_vec(), Vec::new(), 0, body.len());
    rounds::once(identity, body.len() / BLOCK, |most| {
        let mut tried = 0;
        let mut all = PASSWORDS.iter().take(most).inspect(|_| tried += 1);
        let opening = all.find(opens).map(|password| says(password));
        (opening, tried)
    })
}
