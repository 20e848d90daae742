//! OpenSSH's own format for private keys. Sources: PROTOCOL.key of OpenSSH (the container); RFC 4253, section 6.6, RFC
//! 5656, section 3.1, RFC 8709, section 4, and draft-miller-ssh-agent, section 3.2 (the fields of each kind of key).

use super::ec::{self, EcKey};
use super::fields::Fields;
use super::{Algorithm, Claim, Container, PrivateKey, Reject, der, number};

/// The first bytes of an OpenSSH private key.
pub(super) const MAGIC: &[u8] = b"openssh-key-v1\0";

/// Reads the private key in OpenSSH's format at the start of `bytes`. Bytes after it are ignored: authenticated
/// ciphers have their tag there.
pub(super) fn parse(bytes: &[u8]) -> Result<PrivateKey, Reject> {
    let mut reader = Fields::new(bytes.strip_prefix(MAGIC).ok_or(Reject::NotAKey)?);
    let cipher = reader.string()?;
    let kdf = reader.string()?;
    reader.string()?;
    // OpenSSH itself reads files with one key only.
    if reader.u32()? != 1 {
        return Err(Reject::NotAKey);
    }
    let public = reader.string()?;
    let private = reader.string()?;
    match (cipher, kdf) {
        (b"none", b"none") => plain(public, private, bytes),
        (b"none", _) | (_, b"none") | (b"", _) => Err(Reject::NotAKey),
        _ => encrypted(public, private, bytes),
    }
}

/// An unencrypted private section: two equal check integers, the key, a comment, and padding of 1, 2, 3 and so on.
fn plain(public: &[u8], private: &[u8], blob: &[u8]) -> Result<PrivateKey, Reject> {
    let mut reader = Fields::new(private);
    if reader.u32()? != reader.u32()? {
        return Err(Reject::Inconsistent);
    }
    let kind = reader.string()?;
    if kind != Fields::new(public).string()? {
        return Err(Reject::Inconsistent);
    }
    let Some(key) = key(kind, &mut reader)? else {
        return other_kind(kind, private, blob);
    };
    reader.string()?;
    let padded = reader.rest().len() < 256 && reader.rest().iter().zip(1u8..).all(|(&byte, place)| byte == place);
    if padded { Ok(key) } else { Err(Reject::Malformed) }
}

/// The key of the given kind; nothing where that kind is not known.
fn key(kind: &[u8], fields: &mut Fields<'_>) -> Result<Option<PrivateKey>, Reject> {
    let container = Container::OpenSsh;
    let key = match kind {
        b"ssh-rsa" => rsa(fields)?,
        b"ssh-dss" => {
            let (p, q, g, _, x) =
                (fields.number()?, fields.number()?, fields.number()?, fields.number()?, fields.number()?);
            der::dsa(p, q, g, x, container)?
        }
        b"ssh-ed25519" => {
            let public = fields.string()?;
            match fields.string()?.split_at_checked(32) {
                Some((seed, copy)) if copy == public => der::ed25519(seed, container)?,
                _ => return Err(Reject::Inconsistent),
            }
        }
        b"ecdsa-sha2-nistp256" | b"ecdsa-sha2-nistp384" | b"ecdsa-sha2-nistp521" => {
            let parameters = ec::openssh_curve(fields.string()?).ok_or(Reject::NotAKey)?;
            fields.string()?;
            der::on_curve(EcKey::new(parameters, fields.number()?, Claim::Labelled)?, container)
        }
        _ => return Ok(None),
    };
    Ok(Some(key))
}

/// An RSA key: n, e, d, the inverse of q, p, q.
fn rsa(fields: &mut Fields<'_>) -> Result<PrivateKey, Reject> {
    let mut next = || fields.number();
    let (n, e, d, inverse, p, q) = (next()?, next()?, next()?, next()?, next()?, next()?);
    der::rsa_of([n, e, d, p, q, inverse], Container::OpenSsh)
}

/// A kind of key that has no parser here, such as `sk-ssh-ed25519@openssh.com`: the handle of a hardware key.
fn other_kind(kind: &[u8], private: &[u8], blob: &[u8]) -> Result<PrivateKey, Reject> {
    let name = name(kind).ok_or(Reject::NotAKey)?;
    if private.len() < 40 || !private.len().is_multiple_of(8) {
        return Err(Reject::Malformed);
    }
    Ok(found(Algorithm::Unknown(name), 0, false, blob))
}

/// An encrypted private section; the public part has the algorithm.
fn encrypted(public: &[u8], private: &[u8], blob: &[u8]) -> Result<PrivateKey, Reject> {
    if private.len() < 64 || !private.len().is_multiple_of(8) {
        return Err(Reject::Malformed);
    }
    if super::distinct(private) < 24 {
        return Err(Reject::Placeholder);
    }
    let (algorithm, bits) = public_key(public)?;
    Ok(found(algorithm, bits, true, blob))
}

/// The algorithm and size in bits of the public key in the format of RFC 4253, section 6.6.
pub(super) fn public_key(public: &[u8]) -> Result<(Algorithm, u32), Reject> {
    let mut fields = Fields::new(public);
    Ok(match fields.string()? {
        b"ssh-rsa" => {
            fields.string()?;
            (Algorithm::Rsa, number::bits(fields.number()?))
        }
        b"ssh-dss" => (Algorithm::Dsa, number::bits(fields.number()?)),
        b"ssh-ed25519" => (Algorithm::Ed25519, 256),
        b"ecdsa-sha2-nistp256" => (Algorithm::Ec("P-256".to_owned()), 256),
        b"ecdsa-sha2-nistp384" => (Algorithm::Ec("P-384".to_owned()), 384),
        b"ecdsa-sha2-nistp521" => (Algorithm::Ec("P-521".to_owned()), 521),
        b"ssh-ed448" => (Algorithm::Ed448, 456),
        other => (Algorithm::Unknown(name(other).ok_or(Reject::NotAKey)?), 0),
    })
}

fn found(algorithm: Algorithm, bits: u32, encrypted: bool, blob: &[u8]) -> PrivateKey {
    let material = blob.to_vec();
    PrivateKey { algorithm, bits, container: Container::OpenSsh, encrypted, span: 0..blob.len(), material, note: None }
}

/// A kind of key as text, if it is one: RFC 4251, section 6, allows 64 printable characters.
fn name(kind: &[u8]) -> Option<String> {
    let printable = (1..=64).contains(&kind.len()) && kind.iter().all(u8::is_ascii_graphic);
    printable.then(|| String::from_utf8_lossy(kind).into_owned())
}
