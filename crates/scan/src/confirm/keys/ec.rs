//! Elliptic curves by their object identifiers, and `ECPrivateKey` in its variants.
//!
//! Sources: RFC 5915, section 3 (the structure); RFC 5480, section 2.1.1.1, SEC 2 and RFC 5639 (the identifiers);
//! ANSI X9.62 by way of RFC 3279, section 2.3.5 (explicit parameters).

use super::tlv::{self, BIT_STRING, NULL, OCTETS, OID, Reader, SEQUENCE};
use super::{Algorithm, Claim, Reject, is_placeholder, number};

/// The content of the identifier `id-ecPublicKey`.
pub(super) const EC_PUBLIC_KEY: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];

/// Identifier, name and size of the order in bits.
const CURVES: [(&str, &str, u32); 30] = [
    ("1.2.840.10045.3.1.7", "P-256", 256),
    ("1.3.132.0.34", "P-384", 384),
    ("1.3.132.0.35", "P-521", 521),
    ("1.3.132.0.10", "secp256k1", 256),
    ("1.3.132.0.33", "P-224", 224),
    ("1.2.840.10045.3.1.1", "P-192", 192),
    ("1.3.132.0.8", "secp160r1", 161),
    ("1.3.132.0.9", "secp160k1", 161),
    ("1.3.132.0.30", "secp160r2", 161),
    ("1.3.132.0.31", "secp192k1", 192),
    ("1.3.132.0.32", "secp224k1", 225),
    ("1.3.132.0.1", "sect163k1", 163),
    ("1.3.132.0.15", "sect163r2", 163),
    ("1.3.132.0.26", "sect233k1", 232),
    ("1.3.132.0.27", "sect233r1", 233),
    ("1.3.132.0.16", "sect283k1", 281),
    ("1.3.132.0.17", "sect283r1", 282),
    ("1.3.132.0.36", "sect409k1", 407),
    ("1.3.132.0.37", "sect409r1", 409),
    ("1.3.132.0.38", "sect571k1", 570),
    ("1.3.132.0.39", "sect571r1", 570),
    ("1.3.36.3.3.2.8.1.1.1", "brainpoolP160r1", 160),
    ("1.3.36.3.3.2.8.1.1.3", "brainpoolP192r1", 192),
    ("1.3.36.3.3.2.8.1.1.5", "brainpoolP224r1", 224),
    ("1.3.36.3.3.2.8.1.1.7", "brainpoolP256r1", 256),
    ("1.3.36.3.3.2.8.1.1.8", "brainpoolP256t1", 256),
    ("1.3.36.3.3.2.8.1.1.9", "brainpoolP320r1", 320),
    ("1.3.36.3.3.2.8.1.1.11", "brainpoolP384r1", 384),
    ("1.3.36.3.3.2.8.1.1.13", "brainpoolP512r1", 512),
    ("1.2.156.10197.1.301", "SM2", 256),
];

/// A private key on an elliptic curve.
pub(super) struct EcKey {
    /// The curve, as an algorithm.
    pub(super) algorithm: Algorithm,
    /// The size of the curve's order, or of the scalar where the curve is not known.
    pub(super) bits: u32,
    /// The content of the curve's parameters as in an `AlgorithmIdentifier`, tag and length included.
    parameters: Vec<u8>,
    /// The scalar, as long as the order.
    scalar: Vec<u8>,
}

impl EcKey {
    /// A key on the curve whose domain parameters are the value `parameters`, tag and length included.
    pub(super) fn new(parameters: &[u8], scalar: &[u8], claim: Claim) -> Result<EcKey, Reject> {
        let scalar = tlv::trim(scalar);
        let (name, order) = curve(parameters)?;
        let bits = order.unwrap_or(number::bits(scalar).next_multiple_of(8));
        let size = bits.div_ceil(8) as usize;
        if scalar.is_empty() || scalar.len() > size || !(96..=1_024).contains(&bits) {
            return Err(Reject::Inconsistent);
        }
        if is_placeholder(scalar, claim) {
            return Err(Reject::Placeholder);
        }
        let padded = [&vec![0; size - scalar.len()], scalar].concat();
        Ok(EcKey { algorithm: Algorithm::Ec(name), bits, parameters: parameters.to_vec(), scalar: padded })
    }

    /// Reads the values of an `ECPrivateKey`. `outer` are the parameters of the PKCS#8 structure around it.
    pub(super) fn read(mut key: Reader<'_>, outer: Option<&[u8]>, claim: Claim) -> Result<EcKey, Reject> {
        if key.number()? != [1] {
            return Err(Reject::NotAKey);
        }
        let scalar = key.expect(OCTETS)?;
        let mut inner = None;
        let mut point = None;
        while let Some(tag) = key.peek() {
            let (_, content) = key.any()?;
            match tag {
                0xa0 if inner.is_none() && point.is_none() => inner = Some(content),
                0xa1 if point.is_none() => point = Some(Reader::new(content).expect(BIT_STRING)?),
                _ => return Err(Reject::NotAKey),
            }
        }
        let parameters = outer.or(inner);
        if claim == Claim::Bare && parameters.is_none() && point.is_none() {
            return Err(Reject::NotAKey);
        }
        let key = EcKey::new(parameters.unwrap_or_default(), scalar, claim)?;
        match point {
            Some(point) if !key.fits(point) => Err(Reject::Inconsistent),
            _ => Ok(key),
        }
    }

    /// The key as PKCS#8.
    pub(super) fn material(&self) -> Vec<u8> {
        let key = tlv::encode(SEQUENCE, &[&[2, 1, 1], &tlv::encode(OCTETS, &[&self.scalar])]);
        super::der::pkcs8(EC_PUBLIC_KEY, &self.parameters, &key)
    }

    /// Whether `point`, a BIT STRING of a compressed or uncompressed point, may be the public key.
    /// The field of a curve may be a few bytes longer than the order.
    fn fits(&self, point: &[u8]) -> bool {
        let coordinate = match point {
            [0, 4 | 6 | 7, both @ ..] if both.len().is_multiple_of(2) => both.len() / 2,
            [0, 2 | 3, one @ ..] => one.len(),
            _ => return false,
        };
        coordinate.abs_diff(self.scalar.len()) <= 4
    }
}

/// Name of the curve with `parameters`, which may be empty, and the size of its order in bits if it is known.
fn curve(parameters: &[u8]) -> Result<(String, Option<u32>), Reject> {
    let unnamed = || Ok(("unknown curve".to_owned(), None));
    if parameters.is_empty() {
        return unnamed();
    }
    let (tag, content) = Reader::new(parameters).any()?;
    match tag {
        OID => {
            let id = tlv::dotted(content);
            let known = CURVES.iter().find(|(oid, ..)| *oid == id);
            Ok(known.map_or((id, None), |&(_, name, bits)| (name.to_owned(), Some(bits))))
        }
        SEQUENCE => Ok(("explicit parameters".to_owned(), Some(order(content)?))),
        NULL => unnamed(),
        _ => Err(Reject::NotAKey),
    }
}

/// The size in bits of the order in explicit parameters: version, field, coefficients, base point, order, cofactor.
fn order(parameters: &[u8]) -> Result<u32, Reject> {
    let mut reader = Reader::new(parameters);
    reader.number()?;
    reader.expect(SEQUENCE)?;
    reader.expect(SEQUENCE)?;
    reader.expect(OCTETS)?;
    reader.number().map(number::bits)
}

/// The curve with this identifier, as an algorithm, and the size of its order in bits, 0 if it is unknown.
pub(super) fn named(oid: &[u8]) -> (Algorithm, u32) {
    let id = tlv::dotted(oid);
    let known = CURVES.iter().find(|(oid, ..)| *oid == id);
    known.map_or((Algorithm::Ec(id), 0), |&(_, name, bits)| (Algorithm::Ec(name.to_owned()), bits))
}

/// The parameters of the curve that OpenSSH calls `name` (RFC 5656, section 10.1).
pub(super) fn openssh_curve(name: &[u8]) -> Option<&'static [u8]> {
    match name {
        b"nistp256" => Some(&[OID, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7]),
        b"nistp384" => Some(&[OID, 5, 0x2b, 0x81, 4, 0, 0x22]),
        b"nistp521" => Some(&[OID, 5, 0x2b, 0x81, 4, 0, 0x23]),
        _ => None,
    }
}

/// The parameters of the curve with this name in JSON Web Keys (RFC 7518, section 6.2.1.1; RFC 8812, section 3.1), and
/// how many bytes its numbers have.
pub(super) fn jwk_curve(name: &str) -> Option<(&'static [u8], usize)> {
    let parameters = match name {
        "P-256" => (openssh_curve(b"nistp256")?, 32),
        "P-384" => (openssh_curve(b"nistp384")?, 48),
        "P-521" => (openssh_curve(b"nistp521")?, 66),
        "secp256k1" => (&[OID, 5, 0x2b, 0x81, 4, 0, 0x0a][..], 32),
        _ => return None,
    };
    Some(parameters)
}
