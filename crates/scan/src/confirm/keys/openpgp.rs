//! OpenPGP secret keys, armored and binary: packets and the keys that they belong to. Sources: RFC 9580, sections 4.2
//! (packet headers), 6 (armor and its CRC-24) and 10.2 (what follows a secret key); RFC 4880, section 4.2.1.

use super::fields::Fields;
use super::openpgp_packet::secret_key;
use super::{PrivateKey, Reject, effort, pem, printable};

const BEGIN: &[u8] = b"-----BEGIN ";
const LABEL: &[u8] = b"PGP PRIVATE KEY BLOCK";
const DASHES: &[u8] = b"-----";

const SECRET_KEY: u8 = 5;
const SECRET_SUBKEY: u8 = 7;
const USER_ID: u8 = 13;

/// The greatest number of packets of a key; each signature of another person is one.
const MAX_PACKETS: usize = 500;

/// Reads the key whose BEGIN label starts at `at` in `window`. The span ends after the END label. The key is the first
/// one in the block with a secret, preferably one that is not encrypted. The note names its owner.
///
/// # Errors
/// The reason for the rejection, also for a wrong CRC, and a block whose secrets are all on smartcards or removed.
pub fn openpgp_armored_at(window: &[u8], at: usize) -> Result<PrivateKey, Reject> {
    let text = window.get(at..).ok_or(Reject::Truncated)?;
    let label = [BEGIN, LABEL, DASHES].concat();
    let after = text.strip_prefix(&label[..]).ok_or(Reject::NoLabel)?;
    let (body, len, whole) = match pem::body(after, LABEL) {
        Ok((body, end)) => (body, end, true),
        // A key with many signatures is longer than the window of a parser; its secrets come first.
        Err(_) => {
            let near = after.get(..super::MAX_PEM_BODY).unwrap_or(after);
            if near.len() < super::MAX_PEM_BODY || memchr::memmem::find(near, DASHES).is_some() {
                return Err(Reject::NoEnd);
            }
            (near, near.len(), false)
        }
    };
    let block = pem::read_with(body, |text| block(text, whole))?;
    let (key, _) = transferable_key(&block)?;
    Ok(PrivateKey { span: at..at + label.len() + len, ..key })
}

/// Reads the key whose first packet starts at `at` in `window`. The span ends after its last packet.
///
/// # Errors
/// The reason for the rejection, as for an armored key.
pub fn openpgp_binary_at(window: &[u8], at: usize) -> Result<PrivateKey, Reject> {
    let bytes = window.get(at..).ok_or(Reject::Truncated)?;
    let (key, len) = transferable_key(bytes)?;
    Ok(PrivateKey { span: at..at + len, ..key })
}

/// The bytes of an armored block, whose CRC must be right if there is one.
fn block(text: &[u8], whole: bool) -> Result<Vec<u8>, Reject> {
    let (_, text) = pem::headers(text);
    let mut text = text.trim_ascii_end();
    if !whole {
        // Four digits are three bytes; lines are 64 digits and their end.
        text = text.get(..memchr::memrchr(b'\n', text).unwrap_or_default()).unwrap_or_default();
    }
    let bytes = pem::base64(text)?;
    let crc = text.last_chunk::<5>().and_then(|last| last.strip_prefix(b"="));
    if let Some(crc) = crc.filter(|_| whole) {
        let crc = pem::base64(crc)?;
        let sum = crc24(&bytes).to_be_bytes();
        if Some(&crc[..]) != sum.get(1..) {
            return Err(Reject::Inconsistent);
        }
    }
    Ok(bytes)
}

/// RFC 9580, section 6.1.1.
fn crc24(bytes: &[u8]) -> u32 {
    effort::charge(16 * bytes.len());
    bytes.iter().fold(0x00b7_04ce, |crc, &byte| {
        let step = |crc: u32, _| if crc & 0x80_0000 == 0 { crc << 1 } else { crc << 1 ^ 0x0186_4cfb };
        (0..8).fold(crc ^ u32::from(byte) << 16, step) & 0x00ff_ffff
    })
}

/// The first key with a secret at the start of `bytes`, and how long it is with all that belongs to it.
fn transferable_key(bytes: &[u8]) -> Result<(PrivateKey, usize), Reject> {
    let mut found: Result<PrivateKey, Reject> = Err(Reject::NotAKey);
    let mut owner = None;
    let mut rest = Fields::new(bytes);
    for index in 0..MAX_PACKETS {
        let mut next = rest.clone();
        let (tag, body) = match packet(&mut next) {
            Ok(packet) => packet,
            Err(why) if index == 0 => return Err(why),
            Err(_) => break,
        };
        match tag {
            SECRET_KEY | SECRET_SUBKEY if index == 0 || tag == SECRET_SUBKEY => {
                let key = secret_key(body);
                // Later packets cannot turn it into a key.
                if index == 0 && !matches!(key, Ok(_) | Err(Reject::Elsewhere)) {
                    return key.map(|key| (key, 0));
                }
                let better = matches!((&key, &found), (Ok(key), Ok(other)) if other.encrypted && !key.encrypted);
                if better || found.is_err() {
                    found = key;
                }
            }
            USER_ID if owner.is_none() => owner = Some(printable(body)),
            // Signatures, trust, user attributes, padding, and what is private or experimental.
            2 | 12 | 13 | 17 | 21 | 60..=63 if index > 0 => {}
            _ => break,
        }
        rest = next;
    }
    let note = owner.filter(|owner| !owner.is_empty()).map(|owner| format!("of {owner}"));
    found.map(|key| (PrivateKey { note, ..key }, bytes.len() - rest.rest().len()))
}

/// The type and the complete body of the next packet.
fn packet<'a>(fields: &mut Fields<'a>) -> Result<(u8, &'a [u8]), Reject> {
    let first = fields.u8()?;
    let (tag, len) = match first {
        0xc0.. => (first & 0x3f, new_length(fields)?),
        0x80.. => {
            let len = match first & 3 {
                0 => usize::from(fields.u8()?),
                1 => usize::from(fields.u16()?),
                2 => fields.len()?,
                _ => return Err(Reject::Malformed),
            };
            (first >> 2 & 0x0f, len)
        }
        _ => return Err(Reject::Malformed),
    };
    Ok((tag, fields.take(len)?))
}

/// A length in the current format; keys never have partial lengths.
fn new_length(fields: &mut Fields<'_>) -> Result<usize, Reject> {
    match fields.u8()? {
        short @ ..192 => Ok(usize::from(short)),
        first @ 192..224 => Ok(((usize::from(first) - 192) << 8) + usize::from(fields.u8()?) + 192),
        255 => fields.len(),
        _ => Err(Reject::Malformed),
    }
}
