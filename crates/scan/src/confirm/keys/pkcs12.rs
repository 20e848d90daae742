//! PKCS#12 key stores (`.p12`, `.pfx`) in DER. Source: RFC 7292, sections 4 and 5, and appendix D.
//!
//! Writers put keys into bags that are encrypted one by one, in a part that is not encrypted as a whole; a store whose
//! only content is encrypted as a whole holds certificates, as Java's trust stores do, and is not a finding.

use super::default_password::{Hash, PasswordMac};
use super::tlv::{NULL, OCTETS, OID, Reader};
use super::{Claim, Container, PrivateKey, Reject, der, printable};

/// `pkcs-7`, without the last number: 1 is data, 6 is encrypted data.
const PKCS7_DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 1];
/// `bagtypes`, without the last number.
const BAG: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 12, 10, 1];
const FRIENDLY_NAME: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 20];

const SHA1: &[u8] = &[0x2b, 0x0e, 3, 2, 0x1a];
const SHA2: &[u8] = &[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2];

const SET: u8 = 0x31;
const BMP_STRING: u8 = 0x1e;
/// `[0]`, constructed.
const CONTENT: u8 = 0xa0;

/// The greatest number of values of a sequence that are read.
const MAX_VALUES: usize = 1_000;

/// Reads the store that starts at `at` in `window`. The span is the store. The material is the key if it is
/// not encrypted, otherwise the whole store; a store that opens with a well-known password counts as not encrypted.
///
/// # Errors
/// The reason for the rejection, also for a store without a private key.
pub fn pkcs12_at(window: &[u8], at: usize) -> Result<PrivateKey, Reject> {
    let bytes = window.get(at..).ok_or(Reject::Truncated)?;
    let mut outer = Reader::new(bytes);
    let mut pfx = outer.sequence()?;
    if pfx.number()? != [3] {
        return Err(Reject::NotAKey);
    }
    let safe = data(&mut pfx)?.ok_or(Reject::NotAKey)?;
    let (key, name) = authenticated_safe(safe)?;
    let store = bytes.get(..bytes.len() - outer.rest().len()).unwrap_or_default();
    let opens = if key.encrypted { mac(pfx, safe).and_then(|mac| mac.opens_with(store.len())) } else { None };
    let material = if key.encrypted { store.to_vec() } else { key.material };
    let name = name.map(|name| format!("named {name}"));
    let note = [opens.as_ref().map(|how| format!("opens {how}")), name].into_iter().flatten().collect::<Vec<_>>();
    Ok(PrivateKey {
        container: Container::Pkcs12,
        encrypted: key.encrypted && opens.is_none(),
        span: at..at + store.len(),
        material,
        note: Some(note.join(", ")).filter(|note| !note.is_empty()),
        ..key
    })
}

/// The octets of a `ContentInfo` of type data; `None` for other types.
fn data<'a>(reader: &mut Reader<'a>) -> Result<Option<&'a [u8]>, Reject> {
    let mut info = reader.sequence()?;
    if info.expect(OID)? != PKCS7_DATA {
        return Ok(None);
    }
    Reader::new(info.expect(CONTENT)?).expect(OCTETS).map(Some)
}

/// The first key in the parts of a store, preferably one that is not encrypted, and its name.
fn authenticated_safe(safe: &[u8]) -> Result<(PrivateKey, Option<String>), Reject> {
    let mut parts = Reader::new(safe).sequence()?;
    let mut found: Result<(PrivateKey, Option<String>), Reject> = Err(Reject::NotAKey);
    let mut left = MAX_VALUES;
    for _ in 0..MAX_VALUES {
        if parts.is_empty() {
            break;
        }
        let Some(bags) = data(&mut parts)? else { continue };
        let mut bags = Reader::new(bags).sequence()?;
        while !bags.is_empty() && left > 0 {
            left -= 1;
            let bag = bag(bags.sequence()?);
            let better = match (&bag, &found) {
                (Ok((key, _)), Ok((other, _))) => other.encrypted && !key.encrypted,
                (Ok(_), Err(_)) => true,
                (Err(_), _) => false,
            };
            if better {
                found = bag;
            }
        }
    }
    found
}

/// The key in a bag, and its name.
fn bag(mut bag: Reader<'_>) -> Result<(PrivateKey, Option<String>), Reject> {
    let kind = bag.expect(OID)?.strip_prefix(BAG).ok_or(Reject::NotAKey)?;
    let value = bag.expect(CONTENT)?;
    let key = match kind {
        [1] => der::parse(value, Claim::Labelled).ok().filter(|key| !key.encrypted),
        [2] => der::parse(value, Claim::Labelled).ok().filter(|key| key.encrypted),
        _ => None,
    };
    let name = if bag.is_empty() { None } else { friendly_name(bag) };
    Ok((key.ok_or(Reject::NotAKey)?, name))
}

fn friendly_name(mut bag: Reader<'_>) -> Option<String> {
    let mut attributes = Reader::new(bag.expect(SET).ok()?);
    for _ in 0..MAX_VALUES {
        let mut attribute = attributes.sequence().ok()?;
        if attribute.expect(OID).ok()? == FRIENDLY_NAME {
            let name = Reader::new(attribute.expect(SET).ok()?).expect(BMP_STRING).ok()?;
            let units = name.chunks_exact(2).filter_map(|unit| Some(u16::from_be_bytes(unit.try_into().ok()?)));
            let name = String::from_utf16_lossy(&units.collect::<Vec<_>>());
            return Some(printable(name.as_bytes())).filter(|name| !name.is_empty());
        }
    }
    None
}

/// The integrity check after the content, if it is of a supported kind.
fn mac<'a>(mut rest: Reader<'a>, message: &'a [u8]) -> Option<PasswordMac<'a>> {
    let mut data = rest.sequence().ok()?;
    let mut digest_info = data.sequence().ok()?;
    let mut algorithm = digest_info.sequence().ok()?;
    let oid = algorithm.expect(OID).ok()?;
    if !matches!(algorithm.peek(), None | Some(NULL)) {
        return None;
    }
    let hash = match (oid, oid.strip_prefix(SHA2)) {
        (SHA1, _) => Hash::Sha1,
        (_, Some([1])) => Hash::Sha256,
        (_, Some([2])) => Hash::Sha384,
        (_, Some([3])) => Hash::Sha512,
        _ => return None,
    };
    let mac = digest_info.expect(OCTETS).ok()?;
    let salt = data.expect(OCTETS).ok()?;
    let iterations = if data.is_empty() { &[1][..] } else { data.number().ok()? };
    if iterations.len() > 4 {
        return None;
    }
    let iterations = iterations.iter().fold(0, |sum, &byte| sum << 8 | usize::from(byte));
    Some(PasswordMac { hash, salt, iterations, key_len: None, message, mac })
}
