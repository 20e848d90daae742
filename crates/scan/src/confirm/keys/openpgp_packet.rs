//! The body of an OpenPGP secret key packet, versions 4 and 6. Sources: RFC 9580, sections 5.5 (keys), 3.7 (how a
//! passphrase becomes a key) and 9 (numbers of algorithms); GnuPG, `doc/DETAILS`, "GNU extensions to the S2K
//! algorithm".

use super::ec::EcKey;
use super::fields::Fields;
use super::{Algorithm, Claim, Container, PrivateKey, Reject, der, distinct, number, tlv};

/// The content of the identifier of Ed25519 as RFC 4880 had it.
const ED25519_LEGACY: &[u8] = &[0x2b, 6, 1, 4, 1, 0xda, 0x47, 0x0f, 1];
/// The content of the identifier of X25519 as RFC 4880 had it.
const X25519_LEGACY: &[u8] = &[0x2b, 6, 1, 4, 1, 0x97, 0x55, 1, 5, 1];

/// The public numbers of a key.
enum Public<'a> {
    Rsa { n: &'a [u8], e: &'a [u8] },
    Dsa { p: &'a [u8], q: &'a [u8], g: &'a [u8] },
    ElGamal { p: &'a [u8] },
    Curve { oid: &'a [u8] },
    Native { algorithm: Algorithm, len: usize },
}

/// How the secret numbers are protected.
enum Protection {
    None,
    Passphrase { iv: usize },
}

/// Reads the key in the body of a packet.
///
/// # Errors
/// The reason for the rejection; [`Reject::Elsewhere`] if the packet says that it does not contain the secret.
pub(super) fn secret_key(body: &[u8]) -> Result<PrivateKey, Reject> {
    let mut fields = Fields::new(body);
    let version = fields.u8()?;
    if !matches!(version, 4 | 6) {
        return Err(Reject::NotAKey);
    }
    fields.u32()?;
    let algorithm = fields.u8()?;
    if version == 6 {
        let len = fields.len()?;
        let mut own = Fields::new(fields.take(len)?);
        let public = public(algorithm, &mut own)?;
        return secret(public, version, fields, body);
    }
    let public = public(algorithm, &mut fields)?;
    secret(public, version, fields, body)
}

fn secret(public: Public<'_>, version: u8, mut fields: Fields<'_>, body: &[u8]) -> Result<PrivateKey, Reject> {
    match protection(&mut fields, version)? {
        Protection::None => {
            let secret = fields.rest();
            let numbers = if version == 4 { without_checksum(secret)? } else { secret };
            plain(&public, Fields::new(numbers), body)
        }
        Protection::Passphrase { iv } => {
            fields.take(iv)?;
            encrypted(&public, fields.rest(), body)
        }
    }
}

fn public<'a>(algorithm: u8, fields: &mut Fields<'a>) -> Result<Public<'a>, Reject> {
    let native = |algorithm, len| Public::Native { algorithm, len };
    let public = match algorithm {
        1..=3 => {
            let (n, e) = (mpi(fields)?, mpi(fields)?);
            if !(1_024..=16_384).contains(&number::bits(n)) || !number::is_odd(n) || !number::is_odd(e) {
                return Err(Reject::Inconsistent);
            }
            Public::Rsa { n, e }
        }
        16 | 20 => {
            let (p, g, y) = (mpi(fields)?, mpi(fields)?, mpi(fields)?);
            if !(512..=8_192).contains(&number::bits(p)) || !number::is_odd(p) || g.len().max(y.len()) > p.len() {
                return Err(Reject::Inconsistent);
            }
            Public::ElGamal { p }
        }
        17 => {
            let (p, q, g, _) = (mpi(fields)?, mpi(fields)?, mpi(fields)?, mpi(fields)?);
            Public::Dsa { p, q, g }
        }
        18 | 19 | 22 => {
            let oid = counted(fields)?;
            let point = mpi(fields)?;
            if !(3..=16).contains(&oid.len()) || point.len() < 24 {
                return Err(Reject::Inconsistent);
            }
            if algorithm == 18 {
                counted(fields)?;
            }
            Public::Curve { oid }
        }
        25 => native(Algorithm::X25519, 32),
        26 => native(Algorithm::X448, 56),
        27 => native(Algorithm::Ed25519, 32),
        28 => native(Algorithm::Ed448, 57),
        _ => return Err(Reject::NotAKey),
    };
    if let Public::Native { len, .. } = public {
        fields.take(len)?;
    }
    Ok(public)
}

/// A number after its size in bits, which must be right.
fn mpi<'a>(fields: &mut Fields<'a>) -> Result<&'a [u8], Reject> {
    let bits = u32::from(fields.u16()?);
    let bytes = fields.take(bits.div_ceil(8) as usize)?;
    if number::bits(bytes) == bits && bits > 0 { Ok(bytes) } else { Err(Reject::Malformed) }
}

/// Bytes after their number in 8 bits.
fn counted<'a>(fields: &mut Fields<'a>) -> Result<&'a [u8], Reject> {
    let len = fields.u8()?;
    fields.take(usize::from(len))
}

/// RFC 9580, section 5.5.3. Leaves the fields where the initialisation vector or the plain numbers begin.
fn protection(fields: &mut Fields<'_>, version: u8) -> Result<Protection, Reject> {
    let usage = fields.u8()?;
    if usage == 0 {
        return Ok(Protection::None);
    }
    if version == 6 {
        fields.u8()?;
    }
    let cipher = if usage >= 253 { fields.u8()? } else { usage };
    let iv = match usage {
        253 => match fields.u8()? {
            1 => 16,
            2 => 15,
            3 => 12,
            _ => return Err(Reject::NotAKey),
        },
        _ => block(cipher)?,
    };
    if usage >= 253 {
        if version == 6 && usage != 255 {
            fields.u8()?;
        }
        string_to_key(fields)?;
    }
    Ok(Protection::Passphrase { iv })
}

/// How many bytes a block of the cipher has.
fn block(cipher: u8) -> Result<usize, Reject> {
    match cipher {
        1..=4 => Ok(8),
        7..=13 => Ok(16),
        // The cipher of GnuPG's stubs is meaningless.
        0 => Ok(0),
        _ => Err(Reject::NotAKey),
    }
}

fn string_to_key(fields: &mut Fields<'_>) -> Result<(), Reject> {
    let kind = fields.u8()?;
    if kind == 4 {
        return fields.take(16 + 3).map(drop);
    }
    let hash = fields.u8()?;
    let rest = match kind {
        0 => 0,
        1 => 8,
        3 => 9,
        101 if fields.take(3)? == b"GNU" => return Err(Reject::Elsewhere),
        _ => return Err(Reject::NotAKey),
    };
    if !matches!(hash, 1..=3 | 8..=14) {
        return Err(Reject::NotAKey);
    }
    fields.take(rest).map(drop)
}

/// The numbers before the sum of their bytes.
fn without_checksum(secret: &[u8]) -> Result<&[u8], Reject> {
    let (numbers, sum) = secret.split_last_chunk::<2>().ok_or(Reject::Malformed)?;
    let expected = numbers.iter().fold(0u16, |sum, &byte| sum.wrapping_add(u16::from(byte)));
    if u16::from_be_bytes(*sum) == expected { Ok(numbers) } else { Err(Reject::Inconsistent) }
}

fn plain(public: &Public<'_>, mut fields: Fields<'_>, body: &[u8]) -> Result<PrivateKey, Reject> {
    let container = Container::OpenPgp;
    let key = match public {
        Public::Rsa { n, e } => {
            let (d, p, q) = (mpi(&mut fields)?, mpi(&mut fields)?, mpi(&mut fields)?);
            // The inverse is that of the first prime modulo the second.
            der::rsa_of([n, e, d, q, p, mpi(&mut fields)?], container)?
        }
        Public::Dsa { p, q, g } => der::dsa(p, q, g, mpi(&mut fields)?, container)?,
        Public::ElGamal { p } => {
            if mpi(&mut fields)?.len() > p.len() {
                return Err(Reject::Inconsistent);
            }
            found(Algorithm::Unknown("ElGamal".to_owned()), number::bits(p), false, body)
        }
        Public::Curve { oid } => on_curve(oid, mpi(&mut fields)?)?,
        Public::Native { algorithm, len } => {
            let seed = fields.take(*len)?;
            match algorithm {
                Algorithm::X25519 => der::x25519(seed, container),
                Algorithm::X448 => der::x448(seed, container),
                Algorithm::Ed25519 => der::ed25519(seed, container),
                _ => der::ed448(seed, container),
            }?
        }
    };
    if fields.rest().is_empty() { Ok(key) } else { Err(Reject::Malformed) }
}

/// The key on a curve. RFC 4880 stores the secrets of two curves as numbers, which drops leading zeros.
fn on_curve(oid: &[u8], scalar: &[u8]) -> Result<PrivateKey, Reject> {
    let container = Container::OpenPgp;
    if oid != ED25519_LEGACY && oid != X25519_LEGACY {
        return Ok(der::on_curve(EcKey::new(&tlv::encode(tlv::OID, &[oid]), scalar, Claim::Labelled)?, container));
    }
    let missing = 32usize.checked_sub(scalar.len()).ok_or(Reject::Inconsistent)?;
    let mut seed = [&vec![0; missing], scalar].concat();
    if oid == ED25519_LEGACY {
        return der::ed25519(&seed, container);
    }
    seed.reverse();
    der::x25519(&seed, container)
}

fn encrypted(public: &Public<'_>, ciphertext: &[u8], body: &[u8]) -> Result<PrivateKey, Reject> {
    if ciphertext.len() < 20 {
        return Err(Reject::Malformed);
    }
    if distinct(ciphertext) < 12 {
        return Err(Reject::Placeholder);
    }
    let (algorithm, bits) = match public {
        Public::Rsa { n, .. } => (Algorithm::Rsa, number::bits(n)),
        Public::Dsa { p, .. } => (Algorithm::Dsa, number::bits(p)),
        Public::ElGamal { p } => (Algorithm::Unknown("ElGamal".to_owned()), number::bits(p)),
        Public::Curve { oid } => match *oid {
            ED25519_LEGACY => (Algorithm::Ed25519, 256),
            X25519_LEGACY => (Algorithm::X25519, 256),
            _ => super::ec::named(oid),
        },
        Public::Native { algorithm, .. } => (algorithm.clone(), 0),
    };
    Ok(found(algorithm, bits, true, body))
}

fn found(algorithm: Algorithm, bits: u32, encrypted: bool, body: &[u8]) -> PrivateKey {
    let (container, material) = (Container::OpenPgp, body.to_vec());
    PrivateKey { algorithm, bits, container, encrypted, span: 0..0, material, note: None }
}
