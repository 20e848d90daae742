//! Private keys between BEGIN and END labels, in key files, source code, variables and binaries.
//!
//! Sources: RFC 7468, section 3 (labels and base64); RFC 1421, section 4.6 (the headers of encrypted bodies), as
//! OpenSSL's PEM_read_bio writes and reads them. The kind of key in the label is ignored: the body decides.

use std::ops::Range;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use memchr::memmem;

use super::{Algorithm, Claim, Container, MAX_PEM_BODY, PrivateKey, Reject, der, distinct, effort, openssh, text};
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

/// Reads the private key whose BEGIN label starts at `at` in `window`. The span ends after the END label.
///
/// # Errors
/// The reason for the rejection. A window that ends less than [`MAX_PEM_BODY`] after the label without an END label
/// gives [`Reject::Truncated`].
pub fn pem_at(window: &[u8], at: usize) -> Result<PrivateKey, Reject> {
    let begin = window.get(at..).ok_or(Reject::Truncated)?;
    let (label, after) = begin_label(begin).ok_or(Reject::NoLabel)?;
    let (body, end) = body(after, label)?;
    let span = at..at + begin.len() - after.len() + end;
    let key = read(body, label)?;
    Ok(PrivateKey { span, ..key })
}

/// The range of the PEM block that begins at `at`, if the text between its labels is as long and as random as a key in
/// base64. For blocks that [`pem_at`] rejects because they are made up, cut off, or damaged.
pub fn block_at(window: &[u8], at: usize) -> Option<Range<usize>> {
    /// The digits of the smallest key, and the least entropy in bits per digit: random base64 has six.
    const LEAST: (usize, f64) = (64, 4.8);
    let begin = window.get(at..)?;
    let (label, after) = begin_label(begin)?;
    // Other labels are those of formats with parsers of their own.
    let kind = label.strip_suffix(KIND)?.trim_ascii();
    if ![&b""[..], b"RSA", b"EC", b"DSA", b"OPENSSH"].contains(&kind) {
        return None;
    }
    let (body, end) = body(after, label).ok()?;
    let plain = text::unescape(body);
    let is_digit = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=');
    effort::charge(6 * plain.len());
    let digits: Vec<u8> = plain.iter().copied().filter(is_digit).collect();
    let is_key = digits.len() >= LEAST.0 && digits.len() * 10 >= plain.len() * 7 && shannon(&digits) >= LEAST.1;
    is_key.then_some(at..at + begin.len() - after.len() + end)
}

/// The label at the start of `text`, and the text after it.
fn begin_label(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let text = text.strip_prefix(BEGIN)?;
    let near = text.get(..MAX_LABEL + DASHES.len()).unwrap_or(text);
    let end = memmem::find(near, DASHES)?;
    let (label, after) = text.split_at_checked(end)?;
    let kind = label.strip_suffix(KIND)?;
    let allowed = kind.iter().all(|byte| matches!(byte, b'A'..=b'Z' | b'0'..=b'9' | b' '));
    allowed.then_some((label, after.get(DASHES.len()..)?))
}

/// The body before the END label, and where that label ends. The next five dashes must be those of the END label, so
/// that a window full of BEGIN labels takes linear time.
pub(super) fn body<'a>(text: &'a [u8], label: &[u8]) -> Result<(&'a [u8], usize), Reject> {
    let near = text.get(..MAX_PEM_BODY).unwrap_or(text);
    let missing = if near.len() < MAX_PEM_BODY { Reject::Truncated } else { Reject::NoEnd };
    let first = memmem::find(near, DASHES).ok_or(missing)?;
    // In a diff, there may be one more dash before the label.
    let dashes = text.iter().skip(first).take_while(|&&byte| byte == b'-').count();
    let start = first + dashes - DASHES.len();
    let end = [DASHES, b"END ", label, DASHES].concat();
    let rest = text.get(start..).unwrap_or_default();
    if rest.starts_with(&end) {
        return Ok((text.get(..start).unwrap_or_default(), start + end.len()));
    }
    Err(if end.starts_with(rest) { Reject::Truncated } else { Reject::NoEnd })
}

/// The key in a PEM body, in any reading of its text.
fn read(body: &[u8], label: &[u8]) -> Result<PrivateKey, Reject> {
    read_with(body, |text| decode(text, label))
}

/// The result of `decode` for the first reading of the body that it accepts.
pub(super) fn read_with<T>(body: &[u8], decode: impl Fn(&[u8]) -> Result<T, Reject>) -> Result<T, Reject> {
    let plain = text::unescape(body);
    let first = text::quoted(&plain).ok_or(Reject::NotBase64).and_then(|quoted| decode(&quoted));
    match first {
        Ok(key) => Ok(key),
        // If both fail, the error of the reading that got further says more.
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
            // The body is complete, but the object in it is not.
            Err(Reject::Truncated) => Err(Reject::Malformed),
            result => result,
        },
    }
}

/// The first word of `text`, and the text after it.
fn word(text: &[u8]) -> (&[u8], &[u8]) {
    let text = text.trim_ascii_start();
    let end = text.iter().position(u8::is_ascii_whitespace).unwrap_or(text.len());
    text.split_at_checked(end).unwrap_or((text, &[]))
}

/// The value of the `DEK-Info` header, if there is one, and the text after all headers. In an environment variable
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

/// The text after the first line of `text` that is not blank.
fn next_line(text: &[u8]) -> &[u8] {
    let text = text.trim_ascii_start();
    text.iter().position(|&byte| byte == b'\n').and_then(|end| text.get(end..)).unwrap_or_default()
}

/// Decodes the base64 in `text`, up to its padding.
pub(super) fn base64(text: &[u8]) -> Result<Vec<u8>, Reject> {
    effort::charge(4 * text.len());
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

/// A body that is encrypted as a whole. It cannot be parsed, but `cipher` must be the name of a cipher and an
/// initialisation vector, and the bytes must be blocks of possible ciphertext.
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
