//! JSON Web Keys with their private or secret members. Sources: RFC 7517, section 4 (the object); RFC 7518, section 6
//! (RSA, EC, oct); RFC 8037, section 2 (OKP); RFC 8812, section 3.1 (secp256k1).
//!
//! A key of a set (`{"keys": [...]}`) is an object of its own, and found as one.

use base64::Engine as _;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::Deserialize;

use super::ec::{self, EcKey};
use super::{Algorithm, Claim, Container, PrivateKey, Reject, der, distinct, json, number, printable, tlv};

/// Base64url; some write the padding that RFC 7515 leaves out.
const BASE64URL: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    crv: Option<String>,
    kid: Option<String>,
    d: Option<String>,
    k: Option<String>,
    n: Option<String>,
    e: Option<String>,
    p: Option<String>,
    q: Option<String>,
    dp: Option<String>,
    dq: Option<String>,
    qi: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

/// Reads the key whose object has its brace at `at` in `window`. The span is the object.
///
/// # Errors
/// The reason for the rejection. Public keys and keys with more than two primes are rejected.
pub fn jwk_at(window: &[u8], at: usize) -> Result<PrivateKey, Reject> {
    let (jwk, end) = json::object_at::<Jwk>(window, at)?;
    let key = match jwk.kty.as_str() {
        "RSA" => jwk.rsa(),
        "EC" => jwk.ec(),
        "OKP" => jwk.okp(),
        "oct" => jwk.oct(),
        _ => Err(Reject::NotAKey),
    }?;
    let note = jwk.kid.as_deref().filter(|kid| !kid.is_empty()).map(|kid| format!("kid {}", printable(kid.as_bytes())));
    Ok(PrivateKey { span: at..end, note, ..key })
}

impl Jwk {
    fn rsa(&self) -> Result<PrivateKey, Reject> {
        let (n, e, d) = (needed(&self.n)?, needed(&self.e)?, needed(&self.d)?);
        let rest = [&self.p, &self.q, &self.dp, &self.dq, &self.qi].map(optional);
        let [p, q, dp, dq, qi] = rest;
        let numbers = [vec![], n, e, d, p?, q?, dp?, dq?, qi?];
        if numbers.iter().any(|number| number.len() > 2_048) {
            return Err(Reject::Inconsistent);
        }
        der::rsa(&numbers.map(|number| tlv::encode_number(&number)).concat(), Container::Jwk)
    }

    fn ec(&self) -> Result<PrivateKey, Reject> {
        let curve = self.crv.as_deref().unwrap_or_default();
        let (parameters, size) = ec::jwk_curve(curve).ok_or(Reject::NotAKey)?;
        let (d, x, y) = (needed(&self.d)?, needed(&self.x)?, needed(&self.y)?);
        // A number shorter than the field starts with zeros, which some writers leave out.
        if [&d, &x, &y].iter().any(|part| part.len() > size || part.len() + 4 < size) {
            return Err(Reject::Inconsistent);
        }
        Ok(der::on_curve(EcKey::new(parameters, &d, Claim::Labelled)?, Container::Jwk))
    }

    fn okp(&self) -> Result<PrivateKey, Reject> {
        let (d, x) = (needed(&self.d)?, needed(&self.x)?);
        if d.len() != x.len() {
            return Err(Reject::Inconsistent);
        }
        match self.crv.as_deref().unwrap_or_default() {
            "Ed25519" => der::ed25519(&d, Container::Jwk),
            "Ed448" => der::ed448(&d, Container::Jwk),
            "X25519" => der::x25519(&d, Container::Jwk),
            "X448" => der::x448(&d, Container::Jwk),
            _ => Err(Reject::NotAKey),
        }
    }

    fn oct(&self) -> Result<PrivateKey, Reject> {
        let k = needed(&self.k)?;
        if !(16..=1_024).contains(&k.len()) {
            return Err(Reject::Inconsistent);
        }
        if distinct(&k) < 8 {
            return Err(Reject::Placeholder);
        }
        Ok(PrivateKey {
            algorithm: Algorithm::Symmetric,
            bits: number::bits_of(&k),
            container: Container::Jwk,
            encrypted: false,
            span: 0..0,
            material: k,
            note: None,
        })
    }
}

/// The bytes of a member that has to be there.
fn needed(member: &Option<String>) -> Result<Vec<u8>, Reject> {
    let bytes = optional(member)?;
    if bytes.is_empty() { Err(Reject::NotAKey) } else { Ok(bytes) }
}

/// The bytes of a member, empty if it is missing.
fn optional(member: &Option<String>) -> Result<Vec<u8>, Reject> {
    BASE64URL.decode(member.as_deref().unwrap_or_default()).map_err(|_| Reject::NotBase64)
}
