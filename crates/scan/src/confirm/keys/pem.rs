//! Private keys between BEGIN and END labels, wherever text ends up: files, source code, variables, binaries.
//!
//! Sources: RFC 7468, section 3 (labels and base64); RFC 1421, section 4.6 (the headers of encrypted bodies), as
//! OpenSSL's PEM_read_bio writes and reads them. What the label calls the key is not relied upon: the body says.

use std::ops::Range;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use memchr::memmem;

use super::{Algorithm, Claim, Container, MAX_PEM_BODY, PrivateKey, Reject, der, distinct, openssh, text};
use crate::confirm::entropy::shannon;

const DASHES: &[u8] = b"-----";
const BEGIN: &[u8] = b"-----BEGIN ";
const KIND: &[u8] = b"PRIVATE KEY";

/// The longest label, without `BEGIN`.
const MAX_LABEL: usize = 24 + KIND.len();

/// The headers that a body may have; real ones have two.
const MAX_HEADERS: usize = 16;

/// Base64 whose padding may be missing and whose last bits may be set.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Reads the private key whose BEGIN label starts at `at` in `window`. The span ends behind the END label.
///
/// # Errors
/// Why it is none. A window that ends less than [`MAX_PEM_BODY`] behind the label without the END label gives
/// [`Reject::Truncated`].
pub fn pem_at(window: &[u8], at: usize) -> Result<PrivateKey, Reject> {
    let begin = window.get(at..).ok_or(Reject::Truncated)?;
    let (label, behind) = begin_label(begin).ok_or(Reject::NoLabel)?;
    let (body, end) = body(behind, label)?;
    let span = at..at + begin.len() - behind.len() + end;
    let key = read(body, label)?;
    Ok(PrivateKey { span, ..key })
}

/// Where the PEM block that begins at `at` is, if what stands between its labels is as long and as disorderly as a key
/// is in base64. For blocks that [`pem_at`] makes nothing of: made up, cut off, or damaged.
pub fn block_at(window: &[u8], at: usize) -> Option<Range<usize>> {
    /// Digits that the smallest of keys has, and the bits of a random one: base64 has six.
    const LEAST: (usize, f64) = (64, 4.8);
    let begin = window.get(at..)?;
    let (label, behind) = begin_label(begin)?;
    // Others are containers of their own kind, which other readers know.
    let kind = label.strip_suffix(KIND)?.trim_ascii();
    if ![&b""[..], b"RSA", b"EC", b"DSA", b"OPENSSH"].contains(&kind) {
        return None;
    }
    let (body, end) = body(behind, label).ok()?;
    let plain = text::unescape(body);
    let is_digit = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=');
    let digits: Vec<u8> = plain.iter().copied().filter(is_digit).collect();
    let is_key = digits.len() >= LEAST.0 && digits.len() * 10 >= plain.len() * 7 && shannon(&digits) >= LEAST.1;
    is_key.then_some(at..at + begin.len() - behind.len() + end)
}

/// The label at the start of `text`, and the text behind it.
fn begin_label(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let text = text.strip_prefix(BEGIN)?;
    let near = text.get(..MAX_LABEL + DASHES.len()).unwrap_or(text);
    let end = memmem::find(near, DASHES)?;
    let (label, behind) = text.split_at_checked(end)?;
    let kind = label.strip_suffix(KIND)?;
    let allowed = kind.iter().all(|byte| matches!(byte, b'A'..=b'Z' | b'0'..=b'9' | b' '));
    allowed.then_some((label, behind.get(DASHES.len()..)?))
}

/// The body in front of the END label, and where that label ends. The next five dashes have to be the END label's, so
/// a window full of BEGIN labels costs no more than one look at each.
pub(super) fn body<'a>(text: &'a [u8], label: &[u8]) -> Result<(&'a [u8], usize), Reject> {
    let near = text.get(..MAX_PEM_BODY).unwrap_or(text);
    let missing = if near.len() < MAX_PEM_BODY { Reject::Truncated } else { Reject::NoEnd };
    let first = memmem::find(near, DASHES).ok_or(missing)?;
    // In a diff, one more dash may stand in front.
    let dashes = text.iter().skip(first).take_while(|&&byte| byte == b'-').count();
    let start = first + dashes - DASHES.len();
    let end = [DASHES, b"END ", label, DASHES].concat();
    let rest = text.get(start..).unwrap_or_default();
    if rest.starts_with(&end) {
        return Ok((text.get(..start).unwrap_or_default(), start + end.len()));
    }
    Err(if end.starts_with(rest) { Reject::Truncated } else { Reject::NoEnd })
}

/// The key in a PEM body, in whichever way of reading its text there is one.
fn read(body: &[u8], label: &[u8]) -> Result<PrivateKey, Reject> {
    read_with(body, |text| decode(text, label))
}

/// What `decode` makes of a body, in whichever way of reading its text it makes something of it.
pub(super) fn read_with<T>(body: &[u8], decode: impl Fn(&[u8]) -> Result<T, Reject>) -> Result<T, Reject> {
    let plain = text::unescape(body);
    let first = text::quoted(&plain).ok_or(Reject::NotBase64).and_then(|quoted| decode(&quoted));
    match first {
        Ok(key) => Ok(key),
        // Where both fail, the reading that came further has more to say.
        Err(Reject::NotBase64) => decode(&text::marked(&plain)),
        Err(why) => decode(&text::marked(&plain)).map_err(|_| why),
    }
}

/// The key in a body of headers and base64.
fn decode(text: &[u8], label: &[u8]) -> Result<PrivateKey, Reject> {
    let (cipher, text) = headers(text);
    let bytes = base64(text)?;
    match cipher {
        Some(cipher) => traditional(cipher, bytes, label),
        None if bytes.starts_with(openssh::MAGIC) => openssh::parse(&bytes),
        None => match der::parse(&bytes, Claim::Labelled) {
            // The body is complete, the object in it is not.
            Err(Reject::Truncated) => Err(Reject::Malformed),
            result => result,
        },
    }
}

/// What stands between whitespace at the start of `text`, and the text behind it.
fn word(text: &[u8]) -> (&[u8], &[u8]) {
    let text = text.trim_ascii_start();
    let end = text.iter().position(u8::is_ascii_whitespace).unwrap_or(text.len());
    text.split_at_checked(end).unwrap_or((text, &[]))
}

/// The value of the `DEK-Info` header, if there is one, and the text behind all headers. In an environment variable
/// the headers and the base64 are all on one line, so these two headers are known by their names.
pub(super) fn headers(mut text: &[u8]) -> (Option<&[u8]>, &[u8]) {
    let mut cipher = None;
    for _ in 0..MAX_HEADERS {
        let (first, rest) = word(text);
        let Some(colon) = first.iter().position(|&byte| byte == b':') else { break };
        let (name, value) = first.split_at_checked(colon + 1).unwrap_or((first, &[]));
        let (value, rest) = if value.is_empty() { word(rest) } else { (value, rest) };
        match name {
            b"DEK-Info:" => (cipher, text) = (Some(value), rest),
            b"Proc-Type:" => text = rest,
            _ => text = next_line(text),
        }
    }
    (cipher, text)
}

/// The text behind the first line of `text` that is not blank.
fn next_line(text: &[u8]) -> &[u8] {
    let text = text.trim_ascii_start();
    text.iter().position(|&byte| byte == b'\n').and_then(|end| text.get(end..)).unwrap_or_default()
}

/// The bytes that the base64 in `text` stands for, up to its padding.
pub(super) fn base64(text: &[u8]) -> Result<Vec<u8>, Reject> {
    let mut digits = Vec::with_capacity(text.len());
    for &byte in text {
        match byte {
            b'=' => break,
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'+' | b'/' => digits.push(byte),
            b' ' | b'\t'..=b'\r' | b'!'..=b'*' | b',' | b'-' | b';'..=b'>' | b'['..=b'`' | b'{'..=b'~' => {}
            _ => return Err(Reject::NotBase64),
        }
    }
    if digits.is_empty() {
        return Err(Reject::NotBase64);
    }
    BASE64.decode(&digits).map_err(|_| Reject::NotBase64)
}

/// A body that is encrypted as a whole. Nothing can be parsed, but `cipher` has to be a cipher's name and an
/// initialisation vector, and the bytes have to be blocks of what may be ciphertext.
fn traditional(cipher: &[u8], bytes: Vec<u8>, label: &[u8]) -> Result<PrivateKey, Reject> {
    let comma = cipher.iter().position(|&byte| byte == b',').ok_or(Reject::NotAKey)?;
    let (name, iv) = cipher.split_at_checked(comma).ok_or(Reject::NotAKey)?;
    let iv = iv.get(1..).unwrap_or_default();
    let named = !name.is_empty() && name.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-');
    if !named || !matches!(iv.len(), 16 | 32) || !iv.iter().all(u8::is_ascii_hexdigit) {
        return Err(Reject::NotAKey);
    }
    if bytes.len() < 48 || !bytes.len().is_multiple_of(8) {
        return Err(Reject::Malformed);
    }
    if distinct(&bytes) < 24 {
        return Err(Reject::Placeholder);
    }
    let algorithm = match label.strip_suffix(KIND).unwrap_or_default().trim_ascii() {
        b"RSA" => Algorithm::Rsa,
        b"DSA" => Algorithm::Dsa,
        b"EC" => Algorithm::Ec("unknown curve".to_owned()),
        _ => Algorithm::Hidden,
    };
    let container = Container::LegacyEncryptedPem;
    Ok(PrivateKey { algorithm, bits: 0, container, encrypted: true, span: 0..0, material: bytes, note: None })
}
