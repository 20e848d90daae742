//! Private keys of SSH.com's programs. Source: PuTTY, `import.c`, comment on "Code to read ssh.com private keys"; the
//! format itself was never published.
//!
//! The base64 holds a magic, the length of the whole, a type, a cipher (`none` or `3des-cbc`) and a string, which
//! begins with the length of the numbers in it; each number follows its size in bits.

use super::fields::Fields;
use super::{Algorithm, Container, PrivateKey, Reject, der, distinct, pem};

const BEGIN: &[u8] = b"---- BEGIN SSH2 ENCRYPTED PRIVATE KEY ----";
const END: &[u8] = b"---- END SSH2 ENCRYPTED PRIVATE KEY ----";
const MAGIC: u32 = 0x3f6f_f9eb;

const MAX_BODY: usize = 16 << 10;

/// Reads the key whose BEGIN label starts at `at` in `window`. The span ends after the END label. The label says
/// "encrypted" of any key.
///
/// # Errors
/// The reason for the rejection.
pub fn sshcom_at(window: &[u8], at: usize) -> Result<PrivateKey, Reject> {
    let text = window.get(at..).ok_or(Reject::Truncated)?;
    let body = text.strip_prefix(BEGIN).ok_or(Reject::NoLabel)?;
    let near = body.get(..MAX_BODY).unwrap_or(body);
    let len = memchr::memmem::find(near, b"----").ok_or(Reject::NoEnd)?;
    let (body, rest) = near.split_at_checked(len).ok_or(Reject::NoEnd)?;
    if !rest.starts_with(END) {
        return Err(Reject::NoEnd);
    }
    let blob = pem::base64(without_headers(body))?;
    let span = at..at + BEGIN.len() + len + END.len();
    Ok(PrivateKey { span, ..read(&blob)? })
}

/// The base64 after headers such as `Comment: "..."`, which go on in the next line where one ends with a backslash.
fn without_headers(mut text: &[u8]) -> &[u8] {
    let mut goes_on = false;
    for _ in 0..16 {
        text = text.trim_ascii_start();
        let end = memchr::memchr(b'\n', text).unwrap_or(text.len());
        let line = text.get(..end).unwrap_or_default();
        if !goes_on && !line.contains(&b':') {
            break;
        }
        goes_on = line.trim_ascii_end().ends_with(b"\\");
        text = text.get(end..).unwrap_or_default();
    }
    text
}

fn read(blob: &[u8]) -> Result<PrivateKey, Reject> {
    let mut fields = Fields::new(blob);
    if fields.u32()? != MAGIC || fields.len()? != blob.len() {
        return Err(Reject::NotAKey);
    }
    let kind = fields.string()?;
    let rsa = kind.starts_with(b"if-modn{sign{rsa");
    if !rsa && !kind.starts_with(b"dl-modp{sign{dsa") {
        return Err(Reject::NotAKey);
    }
    let cipher = fields.string()?;
    let sealed = fields.string()?;
    match cipher {
        b"none" if rsa => plain_rsa(Fields::new(Fields::new(sealed).string()?)),
        b"none" => plain_dsa(Fields::new(Fields::new(sealed).string()?)),
        _ if sealed.len() < 64 || !sealed.len().is_multiple_of(8) => Err(Reject::Malformed),
        _ if distinct(sealed) < 24 => Err(Reject::Placeholder),
        _ => {
            let algorithm = if rsa { Algorithm::Rsa } else { Algorithm::Dsa };
            let (container, material) = (Container::SshCom, blob.to_vec());
            Ok(PrivateKey { algorithm, bits: 0, container, encrypted: true, span: 0..0, material, note: None })
        }
    }
}

fn plain_rsa(mut fields: Fields<'_>) -> Result<PrivateKey, Reject> {
    let mut next = || number(&mut fields);
    let (e, d, n, inverse, p, q) = (next()?, next()?, next()?, next()?, next()?, next()?);
    // The inverse is that of the first prime modulo the second.
    der::rsa_of([n, e, d, q, p, inverse], Container::SshCom)
}

fn plain_dsa(mut fields: Fields<'_>) -> Result<PrivateKey, Reject> {
    fields.u32()?;
    let mut next = || number(&mut fields);
    let (p, g, q, _, x) = (next()?, next()?, next()?, next()?, next()?);
    der::dsa(p, q, g, x, Container::SshCom)
}

/// A number after its size in bits.
fn number<'a>(fields: &mut Fields<'a>) -> Result<&'a [u8], Reject> {
    let bytes = fields.len()?.div_ceil(8);
    fields.take(bytes).map(super::tlv::trim)
}
