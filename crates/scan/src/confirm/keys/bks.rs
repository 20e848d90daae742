//! Key stores of Bouncy Castle, BKS versions 1 and 2. Source: Bouncy Castle,
//! `org.bouncycastle.jcajce.provider.keystore.bc.BcKeyStoreSpi`, methods `engineStore` and `saveStore`.
//!
//! After the version: a salt, a number of iterations, entries (1 certificate, 2 key in plain text, 3 secret, 4 sealed
//! key) with a name, a date and a chain, a zero, and an HMAC-SHA-1 over the entries.

use super::default_password::{Hash, PasswordMac};
use super::fields::Fields;
use super::{Algorithm, Claim, Container, PrivateKey, Reject, der, distinct, printable};

/// The salt is as long as a SHA-1.
const SALT: usize = 20;

/// Bouncy Castle takes 1,024 to 2,047 iterations.
const MAX_ITERATIONS: usize = 10_000;

const MAX_ENTRIES: usize = 1_000;

/// The dates of entries, from 1995 to 2100, in milliseconds since 1970. No other field of the format is as unlikely to
/// match by chance.
const DATES: std::ops::Range<u64> = 788_918_400_000..4_102_444_800_000;

/// The kind of an entry.
enum Entry<'a> {
    Certificate,
    /// A key, perhaps sealed with a password of its own.
    Key {
        sealed: bool,
        symmetric: bool,
        bytes: &'a [u8],
    },
}

/// Reads the store that starts at `at` in `window`. The span is the store. The material is its first key; one that is
/// sealed counts as not encrypted if a well-known password opens the store.
///
/// # Errors
/// The reason for the rejection, also for a store of certificates only, and one that is cut off by the window.
pub fn bks_at(window: &[u8], at: usize) -> Result<PrivateKey, Reject> {
    let bytes = window.get(at..).ok_or(Reject::Truncated)?;
    let mut store = Fields::new(bytes);
    let version = store.u32()?;
    let salt = store.string()?;
    let iterations = store.len()?;
    if !matches!(version, 1 | 2) || salt.len() != SALT || !(1..=MAX_ITERATIONS).contains(&iterations) {
        return Err(Reject::NotAKey);
    }
    let body = store.rest();
    let (name, sealed, symmetric, key) = entries(&mut store)?.ok_or(Reject::NotAKey)?;
    let message = body.get(..body.len() - store.rest().len()).unwrap_or_default();
    let mac = store.take(20)?;
    // Version 1 used the number of bytes as a number of bits.
    let key_len = Some(if version == 1 { 2 } else { 20 });
    let mac = PasswordMac { hash: Hash::Sha1, salt, iterations, key_len, message, mac };
    let size = bytes.len() - store.rest().len();
    let opens = mac.opens_with(size);
    let note = opens.as_ref().map(|how| format!("opens {how}, named {name}")).unwrap_or(format!("named {name}"));
    let found = PrivateKey {
        algorithm: if symmetric { Algorithm::Symmetric } else { Algorithm::Hidden },
        bits: 0,
        container: Container::Bks,
        encrypted: sealed && opens.is_none(),
        span: at..at + size,
        material: key.to_vec(),
        note: Some(note),
    };
    if sealed || symmetric {
        return Ok(found);
    }
    let key = der::parse(key, Claim::Labelled)?;
    Ok(PrivateKey { algorithm: key.algorithm, bits: key.bits, material: key.material, ..found })
}

type FirstKey<'a> = (String, bool, bool, &'a [u8]);

/// Name, seal, kind and bytes of the first key among the entries, up to the zero after them.
fn entries<'a>(store: &mut Fields<'a>) -> Result<Option<FirstKey<'a>>, Reject> {
    let mut first = None;
    for _ in 0..MAX_ENTRIES {
        let kind = store.u8()?;
        if kind == 0 {
            return Ok(first);
        }
        let name = text(store)?;
        let date = u64::from(store.u32()?) << 32 | u64::from(store.u32()?);
        if !DATES.contains(&date) {
            return Err(Reject::NotAKey);
        }
        for _ in 0..store.u32()? {
            certificate(store)?;
        }
        // Stores also hold short values that are not keys.
        if let Entry::Key { sealed, symmetric, bytes } = entry(kind, store)?
            && bytes.len() >= 16
            && distinct(bytes) >= 8
        {
            first.get_or_insert_with(|| (printable(name), sealed, symmetric, bytes));
        }
    }
    Err(Reject::NotAKey)
}

fn entry<'a>(kind: u8, store: &mut Fields<'a>) -> Result<Entry<'a>, Reject> {
    match kind {
        1 => certificate(store).map(|()| Entry::Certificate),
        2 => clear_key(store),
        3 => Ok(Entry::Key { sealed: true, symmetric: true, bytes: store.string()? }),
        4 => sealed_key(store),
        _ => Err(Reject::NotAKey),
    }
}

/// A key that is sealed with Triple DES: a salt, a number of iterations, and blocks of ciphertext.
fn sealed_key<'a>(store: &mut Fields<'a>) -> Result<Entry<'a>, Reject> {
    let bytes = store.string()?;
    let mut fields = Fields::new(bytes);
    let salt = fields.string()?;
    let iterations = fields.len()?;
    if salt.len() != SALT || !(1..=MAX_ITERATIONS).contains(&iterations) || !fields.rest().len().is_multiple_of(8) {
        return Err(Reject::NotAKey);
    }
    Ok(Entry::Key { sealed: true, symmetric: false, bytes })
}

/// A key in plain text: 0 private, 1 public, 2 secret.
fn clear_key<'a>(store: &mut Fields<'a>) -> Result<Entry<'a>, Reject> {
    let kind = store.u8()?;
    text(store)?;
    text(store)?;
    let bytes = store.string()?;
    match kind {
        0 => Ok(Entry::Key { sealed: false, symmetric: false, bytes }),
        1 => Ok(Entry::Certificate),
        2 => Ok(Entry::Key { sealed: false, symmetric: true, bytes }),
        _ => Err(Reject::NotAKey),
    }
}

fn certificate(store: &mut Fields<'_>) -> Result<(), Reject> {
    text(store)?;
    store.string().map(drop)
}

/// A name, which is never empty and has no control characters.
fn text<'a>(store: &mut Fields<'a>) -> Result<&'a [u8], Reject> {
    let text = store.short_string()?;
    let is_text = !text.is_empty() && text.iter().all(|byte| *byte >= b' ' && *byte != 0x7f);
    if is_text { Ok(text) } else { Err(Reject::NotAKey) }
}
