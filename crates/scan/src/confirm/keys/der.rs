//! Private keys in DER, in a file of their own, in the middle of any bytes, or decoded from PEM.
//!
//! Sources: RFC 8017, appendix A.1.2 (PKCS#1); RFC 5958, sections 2 and 3 (PKCS#8); RFC 5915, section 3 (SEC1);
//! RFC 8410, section 7 (curves 25519 and 448); RFC 3279, section 2.3.2 (DSA parameters). The traditional DSA form is
//! OpenSSL's: the integers 0, p, q, g, y, x.
//!
//! The first two values tell the structures apart, so that a key with a wrong PEM label is read too.

use super::ec::{self, EcKey};
use super::tlv::{self, INTEGER, OCTETS, Reader, SEQUENCE};
use super::{Algorithm, Claim, Container, PrivateKey, Reject, distinct, is_placeholder, number};

const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1];
const RSA_PSS: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 10];
const DSA: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x38, 4, 1];
const X25519: &[u8] = &[0x2b, 0x65, 0x6e];
const X448: &[u8] = &[0x2b, 0x65, 0x6f];
const ED25519: &[u8] = &[0x2b, 0x65, 0x70];
const ED448: &[u8] = &[0x2b, 0x65, 0x71];

/// The greatest distance from the start of a PKCS#8 structure to the inner key, with explicit curve parameters.
const MAX_PKCS8_HEADER: usize = 512;

/// Reads the private key in DER that starts at `at` in `window`. The span ends where the outer sequence ends; anything
/// may follow.
///
/// # Errors
/// The reason for the rejection. Encrypted keys, keys of unknown algorithms and bare scalars are rejected, because
/// without a label too many other structures look like them. The inner key of a PKCS#8 structure is rejected, so that
/// it is one finding and not two; for this, the window should start 512 bytes before `at`.
pub fn der_at(window: &[u8], at: usize) -> Result<PrivateKey, Reject> {
    let bytes = window.get(at..).ok_or(Reject::Truncated)?;
    let key = parse(bytes, Claim::Bare)?;
    if is_inner(window, at) {
        return Err(Reject::Inner);
    }
    Ok(PrivateKey { span: at..at + key.span.end, ..key })
}

/// Reads the private key in DER at the start of `bytes`.
pub(super) fn parse(bytes: &[u8], claim: Claim) -> Result<PrivateKey, Reject> {
    let mut outer = Reader::new(bytes);
    let content = outer.expect(SEQUENCE)?;
    let key =
        structure(content, claim).map_err(|why| if why == Reject::Truncated { Reject::Malformed } else { why })?;
    Ok(PrivateKey { span: 0..bytes.len() - outer.rest().len(), ..key })
}

/// A PKCS#8 structure in its plainest form: version 0, `algorithm` with the encoded `parameters`, and `key`.
pub(super) fn pkcs8(algorithm: &[u8], parameters: &[u8], key: &[u8]) -> Vec<u8> {
    let algorithm = tlv::encode(SEQUENCE, &[&tlv::encode(tlv::OID, &[algorithm]), parameters]);
    tlv::encode(SEQUENCE, &[&[INTEGER, 1, 0], &algorithm, &tlv::encode(OCTETS, &[key])])
}

/// The RSA key whose PKCS#1 sequence has `content`.
pub(super) fn rsa(content: &[u8], container: Container) -> Result<PrivateKey, Reject> {
    let mut reader = Reader::new(content);
    let mut next = || reader.number();
    let (version, n, e, d) = (next()?, next()?, next()?, next()?);
    let mut primes = vec![next()?, next()?];
    let derived = [next()?, next()?, next()?];
    match version {
        [] => {}
        [1] => primes.extend(other_primes(reader.sequence()?)?),
        _ => return Err(Reject::NotAKey),
    }
    if !reader.is_empty() {
        return Err(Reject::NotAKey);
    }
    let bits = number::bits(n);
    let sizes = (512..=16_384).contains(&bits) && !d.is_empty() && number::bits(d) <= bits && e.len() <= n.len();
    // For keys without primes, Java writes zeros instead of all numbers but n, d and perhaps e.
    let without_primes = primes.iter().chain(&derived).all(|number| number.is_empty());
    let exponent = number::is_odd(e) && e != [1] || e.is_empty() && without_primes;
    let product = || {
        primes.iter().try_fold(vec![1], |product, prime| {
            let fits = (32..bits).contains(&number::bits(prime)) && product.len() <= n.len();
            fits.then(|| number::product(&product, prime))
        })
    };
    if sizes && exponent && number::is_odd(n) && (without_primes || product().as_deref() == Some(n)) {
        let material = pkcs8(RSA, &[tlv::NULL, 0], &tlv::encode(SEQUENCE, &[content]));
        return Ok(plain(Algorithm::Rsa, bits, container, material));
    }
    Err(Reject::Inconsistent)
}

/// The DSA key of these numbers.
pub(super) fn dsa(p: &[u8], q: &[u8], g: &[u8], x: &[u8], container: Container) -> Result<PrivateKey, Reject> {
    let bits = number::bits(p);
    let sizes = (512..=8_192).contains(&bits) && (160..=512).contains(&number::bits(q)) && !x.is_empty();
    if !sizes
        || !number::is_less(x, q)
        || !number::is_less(g, p)
        || !number::remainder(&number::less_one(p), q).is_empty()
    {
        return Err(Reject::Inconsistent);
    }
    let parameters = [p, q, g].map(tlv::encode_number).concat();
    let material = pkcs8(DSA, &tlv::encode(SEQUENCE, &[&parameters]), &tlv::encode_number(x));
    Ok(plain(Algorithm::Dsa, bits, container, material))
}

/// The Ed25519 key with this seed.
pub(super) fn ed25519(seed: &[u8], container: Container) -> Result<PrivateKey, Reject> {
    edwards(ED25519, seed, container, Claim::Labelled)
}

/// The Ed448 key with this seed.
pub(super) fn ed448(seed: &[u8], container: Container) -> Result<PrivateKey, Reject> {
    edwards(ED448, seed, container, Claim::Labelled)
}

/// The X25519 key with this scalar.
pub(super) fn x25519(scalar: &[u8], container: Container) -> Result<PrivateKey, Reject> {
    edwards(X25519, scalar, container, Claim::Labelled)
}

/// The X448 key with this scalar.
pub(super) fn x448(scalar: &[u8], container: Container) -> Result<PrivateKey, Reject> {
    edwards(X448, scalar, container, Claim::Labelled)
}

/// The RSA key of these numbers; the two exponents that PKCS#1 has besides are worked out. `inverse` is that of `q`
/// modulo `p`.
pub(super) fn rsa_of([n, e, d, p, q, inverse]: [&[u8]; 6], container: Container) -> Result<PrivateKey, Reject> {
    if [e, d, p, q, inverse].iter().any(|part| part.len() > n.len()) || n.len() > 2_048 {
        return Err(Reject::Inconsistent);
    }
    let dp = number::remainder(d, &number::less_one(p));
    let dq = number::remainder(d, &number::less_one(q));
    let numbers = [&[], n, e, d, p, q, &dp, &dq, inverse].map(tlv::encode_number).concat();
    rsa(&numbers, container)
}

/// The elliptic curve key in the form that a container needs.
pub(super) fn on_curve(key: EcKey, container: Container) -> PrivateKey {
    let material = key.material();
    plain(key.algorithm, key.bits, container, material)
}

fn plain(algorithm: Algorithm, bits: u32, container: Container, material: Vec<u8>) -> PrivateKey {
    PrivateKey { algorithm, bits, container, encrypted: false, span: 0..0, material, note: None }
}

/// The key whose outermost sequence has `content`.
fn structure(content: &[u8], claim: Claim) -> Result<PrivateKey, Reject> {
    let reader = Reader::new(content);
    if reader.peek() == Some(SEQUENCE) {
        return encrypted(content, claim);
    }
    let mut second = reader.clone();
    second.number()?;
    match second.peek() {
        Some(SEQUENCE) => one_asymmetric_key(content, claim),
        Some(OCTETS) => Ok(on_curve(EcKey::read(reader, None, claim)?, Container::Sec1)),
        Some(INTEGER) => match traditional_dsa(reader)? {
            Some([p, q, g, _, x]) => dsa(p, q, g, x, Container::Dsa),
            None => rsa(content, Container::Pkcs1),
        },
        _ => Err(Reject::NotAKey),
    }
}

/// The five numbers of a DSA key, if there are so many and the version is 0.
fn traditional_dsa(mut reader: Reader<'_>) -> Result<Option<[&[u8]; 5]>, Reject> {
    let version = reader.number()?;
    let mut numbers = [&[][..]; 5];
    for number in &mut numbers {
        *number = reader.number()?;
    }
    Ok((version.is_empty() && reader.is_empty()).then_some(numbers))
}

fn other_primes(mut infos: Reader<'_>) -> Result<Vec<&[u8]>, Reject> {
    let mut primes = Vec::new();
    while !infos.is_empty() && primes.len() < 16 {
        primes.push(infos.sequence()?.number()?);
    }
    Ok(primes)
}

/// `OneAsymmetricKey`: version, algorithm, key, and perhaps attributes and the public key, the latter in both of the
/// forms that are found (`[1]` implicit as in the RFC, and explicit).
fn one_asymmetric_key(content: &[u8], claim: Claim) -> Result<PrivateKey, Reject> {
    let mut reader = Reader::new(content);
    let version = reader.number()?;
    let mut algorithm = reader.sequence()?;
    let oid = algorithm.expect(tlv::OID)?;
    let parameters = algorithm.rest();
    let key = reader.expect(OCTETS)?;
    while !reader.is_empty() {
        if !matches!(reader.any()?.0, 0xa0 | 0x81 | 0xa1) {
            return Err(Reject::NotAKey);
        }
    }
    if !matches!(version, [] | [1]) {
        return Err(Reject::NotAKey);
    }
    match oid {
        RSA | RSA_PSS => rsa(Reader::new(key).expect(SEQUENCE)?, Container::Pkcs8),
        ec::EC_PUBLIC_KEY => {
            let outer = Some(parameters).filter(|parameters| !parameters.is_empty());
            Ok(on_curve(EcKey::read(Reader::new(key).sequence()?, outer, claim)?, Container::Pkcs8))
        }
        DSA => {
            let mut numbers = Reader::new(parameters).sequence()?;
            let (p, q, g) = (numbers.number()?, numbers.number()?, numbers.number()?);
            dsa(p, q, g, Reader::new(key).number()?, Container::Pkcs8)
        }
        X25519 | X448 | ED25519 | ED448 => edwards(oid, Reader::new(key).expect(OCTETS)?, Container::Pkcs8, claim),
        _ => other_algorithm(oid, key, content, claim),
    }
}

/// A key of curve 25519 or 448, which consists of random bytes only.
fn edwards(oid: &[u8], seed: &[u8], container: Container, claim: Claim) -> Result<PrivateKey, Reject> {
    let (algorithm, bits, len) = match oid {
        X25519 => (Algorithm::X25519, 256, 32),
        X448 => (Algorithm::X448, 448, 56),
        ED25519 => (Algorithm::Ed25519, 256, 32),
        _ => (Algorithm::Ed448, 456, 57),
    };
    if seed.len() != len {
        return Err(Reject::Inconsistent);
    }
    if is_placeholder(seed, claim) {
        return Err(Reject::Placeholder);
    }
    Ok(plain(algorithm, bits, container, pkcs8(oid, &[], &tlv::encode(OCTETS, &[seed]))))
}

/// A PKCS#8 key of an algorithm that has no parser here, such as Diffie-Hellman or ML-DSA.
fn other_algorithm(oid: &[u8], key: &[u8], content: &[u8], claim: Claim) -> Result<PrivateKey, Reject> {
    let name = tlv::dotted(oid);
    if claim == Claim::Bare || name.is_empty() {
        return Err(Reject::NotAKey);
    }
    if key.len() < 16 || distinct(key) < 8 {
        return Err(Reject::Placeholder);
    }
    let material = tlv::encode(SEQUENCE, &[content]);
    Ok(plain(Algorithm::Unknown(name), 0, Container::Pkcs8, material))
}

/// `EncryptedPrivateKeyInfo`: an algorithm and the ciphertext.
fn encrypted(content: &[u8], claim: Claim) -> Result<PrivateKey, Reject> {
    let mut reader = Reader::new(content);
    reader.sequence()?.expect(tlv::OID)?;
    let ciphertext = reader.expect(OCTETS)?;
    if claim == Claim::Bare || !reader.is_empty() {
        return Err(Reject::NotAKey);
    }
    if ciphertext.len() < 32 || distinct(ciphertext) < 16 {
        return Err(Reject::Placeholder);
    }
    let material = tlv::encode(SEQUENCE, &[content]);
    Ok(PrivateKey { encrypted: true, ..plain(Algorithm::Hidden, 0, Container::EncryptedPkcs8, material) })
}

/// Whether the bytes at `at` are the content of a PKCS#8 key that starts before them.
fn is_inner(window: &[u8], at: usize) -> bool {
    (1..=MAX_PKCS8_HEADER.min(at)).any(|back| {
        let outer = window.get(at - back..).unwrap_or_default();
        outer.first() == Some(&SEQUENCE) && inner_offset(outer) == Ok(back) && parse(outer, Claim::Bare).is_ok()
    })
}

/// Where the inner key starts in the PKCS#8 structure at the start of `bytes`.
fn inner_offset(bytes: &[u8]) -> Result<usize, Reject> {
    let mut outer = Reader::new(bytes);
    let mut reader = outer.sequence()?;
    reader.number()?;
    reader.sequence()?;
    let key = reader.expect(OCTETS)?;
    Ok(bytes.len() - outer.rest().len() - reader.rest().len() - key.len())
}
