//! Keys that verify.

use std::fmt;

use ed25519_dalek::Digest as _;
use p521::ecdsa::signature::hazmat::PrehashVerifier;
use ring::signature::{self, UnparsedPublicKey, VerificationAlgorithm};
use sha2::{Sha256, Sha384, Sha512};
use x509_cert::der::asn1::{BitString, ObjectIdentifier, UintRef};
use x509_cert::der::{Any, Decode, Encode, Reader, SliceReader, Tag, Tagged};
use x509_cert::spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned};

use super::{KeyError, pem};
use crate::encoding::{base64, hex};

const PEM_LABEL: &str = "PUBLIC KEY";
const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const P384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
const P521: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.35");
const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");
/// The bytes of a signature of Ed25519, and of one of P-256 that is not in DER.
const SHORT: usize = 64;
/// The bytes of a coordinate or a scalar of P-521.
const P521_BYTES: usize = 66;

/// The algorithm of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    /// ECDSA on P-256.
    P256,
    /// ECDSA on P-384, which is only verified.
    P384,
    /// ECDSA on P-521, which is only verified.
    P521,
    /// RSA with PKCS#1 v1.5.
    Rsa,
    /// Ed25519.
    Ed25519,
}

/// A hash that messages are signed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hash {
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

impl Hash {
    /// The hash of `message`.
    pub fn of(self, message: &[u8]) -> Vec<u8> {
        match self {
            Hash::Sha256 => Sha256::digest(message).to_vec(),
            Hash::Sha384 => Sha384::digest(message).to_vec(),
            Hash::Sha512 => Sha512::digest(message).to_vec(),
        }
    }
}

/// A key that verifies.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey {
    kind: KeyKind,
    /// The SubjectPublicKeyInfo.
    spki: Vec<u8>,
    /// The point, the RSAPublicKey, or the 32 bytes of Ed25519.
    key: Vec<u8>,
}

impl PublicKey {
    /// The key in `text`, a PEM file with nothing else.
    ///
    /// # Errors
    /// If it is another file, or a key of another algorithm.
    pub fn from_pem(text: &str) -> Result<PublicKey, KeyError> {
        let section = pem::only_section(text)?;
        if section.label == PEM_LABEL {
            PublicKey::from_der(&section.bytes)
        } else {
            Err(KeyError::Label(section.label))
        }
    }

    /// The keys in `text`, a PEM file with one or more of them and nothing else in PEM, so that one key can follow
    /// another in the same file.
    ///
    /// # Errors
    /// If there is none, something else, or a key of another algorithm.
    pub fn all_from_pem(text: &str) -> Result<Vec<PublicKey>, KeyError> {
        let sections = pem::sections(text).filter(|sections| !sections.is_empty()).ok_or(KeyError::Pem)?;
        let key = |section: pem::Section| match &section.label[..] {
            PEM_LABEL => PublicKey::from_der(&section.bytes),
            _ => Err(KeyError::Label(section.label)),
        };
        sections.into_iter().map(key).collect()
    }

    /// The key in a SubjectPublicKeyInfo in DER.
    ///
    /// # Errors
    /// If it is damaged, or a key of another algorithm.
    pub fn from_der(der: &[u8]) -> Result<PublicKey, KeyError> {
        let info = SubjectPublicKeyInfoOwned::from_der(der).map_err(|_| KeyError::Public)?;
        let parameters = info.algorithm.parameters.as_ref();
        let curve = parameters.and_then(|curve| curve.decode_as::<ObjectIdentifier>().ok());
        let key = info.subject_public_key.as_bytes().ok_or(KeyError::Public)?.to_vec();
        let kind = match info.algorithm.oid {
            EC if curve == Some(P256) && is_point(&key, 32) => KeyKind::P256,
            EC if curve == Some(P384) && is_point(&key, 48) => KeyKind::P384,
            EC if curve == Some(P521) && is_point(&key, P521_BYTES) => KeyKind::P521,
            RSA if parameters.is_some_and(|any| any.tag() == Tag::Null) => KeyKind::Rsa,
            ED25519 if parameters.is_none() && key.len() == 32 => KeyKind::Ed25519,
            _ => return Err(KeyError::Public),
        };
        Ok(PublicKey { kind, spki: der.to_vec(), key })
    }

    /// The key with this uncompressed point on P-256, as tokens give it.
    ///
    /// # Errors
    /// If it is not one.
    pub fn from_p256_point(point: &[u8]) -> Result<PublicKey, KeyError> {
        PublicKey::from_parts(KeyKind::P256, point)
    }

    /// The RSA key with these big-endian numbers, as tokens give them.
    ///
    /// # Errors
    /// If they are none.
    pub fn from_rsa(modulus: &[u8], exponent: &[u8]) -> Result<PublicKey, KeyError> {
        let key = two_integers(modulus, exponent).ok_or(KeyError::Public)?;
        PublicKey::from_parts(KeyKind::Rsa, &key)
    }

    /// The key of `kind` with the bytes that `ring` gives.
    pub(super) fn from_parts(kind: KeyKind, key: &[u8]) -> Result<PublicKey, KeyError> {
        let curve = |oid: ObjectIdentifier| Any::encode_from(&oid).map(Some);
        let (oid, parameters) = match kind {
            KeyKind::P256 => (EC, curve(P256)),
            KeyKind::P384 => (EC, curve(P384)),
            KeyKind::P521 => (EC, curve(P521)),
            KeyKind::Rsa => (RSA, Ok(Some(Any::null()))),
            KeyKind::Ed25519 => (ED25519, Ok(None)),
        };
        let parameters = parameters.map_err(|_| KeyError::Public)?;
        let subject_public_key = BitString::from_bytes(key).map_err(|_| KeyError::Public)?;
        let algorithm = AlgorithmIdentifierOwned { oid, parameters };
        let info = SubjectPublicKeyInfoOwned { algorithm, subject_public_key };
        PublicKey::from_der(&info.to_der().map_err(|_| KeyError::Public)?)
    }

    /// The algorithm.
    pub fn kind(&self) -> KeyKind {
        self.kind
    }

    /// The SubjectPublicKeyInfo in DER.
    pub fn to_der(&self) -> &[u8] {
        &self.spki
    }

    /// The key as a PEM file.
    pub fn to_pem(&self) -> String {
        pem::section(PEM_LABEL, &self.spki)
    }

    /// What a bundle names the key by: the SHA-256 of the SubjectPublicKeyInfo in base64.
    pub fn hint(&self) -> String {
        base64(&Hash::Sha256.of(&self.spki))
    }

    /// The same in hexadecimal digits.
    pub fn fingerprint(&self) -> String {
        hex(&Hash::Sha256.of(&self.spki))
    }

    /// Whether `signature` is one of `message` by this key, in any of the ways in which both versions of cosign sign or
    /// verify: with SHA-256, for P-384 and P-521 also with SHA-384 and SHA-512, and both pure Ed25519 and Ed25519ph.
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        match self.kind {
            KeyKind::P256 => {
                self.verifies_hashed(Hash::Sha256, message, signature)
                    || signature.len() == SHORT && self.ring(&signature::ECDSA_P256_SHA256_FIXED, message, signature)
            }
            KeyKind::P384 => [Hash::Sha256, Hash::Sha384].iter().any(|h| self.verifies_hashed(*h, message, signature)),
            KeyKind::P521 => [Hash::Sha256, Hash::Sha512].iter().any(|h| self.verifies_hashed(*h, message, signature)),
            KeyKind::Rsa => self.verifies_hashed(Hash::Sha256, message, signature),
            KeyKind::Ed25519 => {
                signature.len() == SHORT
                    && (self.ring(&signature::ED25519, message, signature)
                        || self.verifies_ed25519ph(message, signature))
            }
        }
    }

    /// Whether `signature` is one of the `hash` of `message`: ECDSA in DER, or RSA PKCS#1 v1.5. Ed25519 is pure.
    pub fn verifies_hashed(&self, hash: Hash, message: &[u8], signature: &[u8]) -> bool {
        // A long message is not hashed for what cannot be a signature.
        if !self.may_be_signature(signature) {
            return false;
        }
        let algorithm: &dyn VerificationAlgorithm = match (self.kind, hash) {
            (KeyKind::P256, Hash::Sha256) => &signature::ECDSA_P256_SHA256_ASN1,
            (KeyKind::P256, Hash::Sha384) => &signature::ECDSA_P256_SHA384_ASN1,
            (KeyKind::P384, Hash::Sha256) => &signature::ECDSA_P384_SHA256_ASN1,
            (KeyKind::P384, Hash::Sha384) => &signature::ECDSA_P384_SHA384_ASN1,
            (KeyKind::P521, _) => return self.verifies_p521(&hash.of(message), signature).is_some(),
            (KeyKind::Rsa, Hash::Sha256) => &signature::RSA_PKCS1_2048_8192_SHA256,
            (KeyKind::Rsa, Hash::Sha384) => &signature::RSA_PKCS1_2048_8192_SHA384,
            (KeyKind::Rsa, Hash::Sha512) => &signature::RSA_PKCS1_2048_8192_SHA512,
            (KeyKind::Ed25519, _) => &signature::ED25519,
            (KeyKind::P256 | KeyKind::P384, Hash::Sha512) => return false,
        };
        self.ring(algorithm, message, signature)
    }

    fn may_be_signature(&self, signature: &[u8]) -> bool {
        match self.kind {
            KeyKind::P256 | KeyKind::P384 | KeyKind::P521 => ecdsa_integers(signature).is_some(),
            KeyKind::Rsa => signature.len() < self.key.len(),
            KeyKind::Ed25519 => signature.len() == SHORT,
        }
    }

    fn ring(&self, algorithm: &'static dyn VerificationAlgorithm, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(algorithm, &self.key).verify(message, signature).is_ok()
    }

    fn verifies_ed25519ph(&self, message: &[u8], signature: &[u8]) -> bool {
        let key = <[u8; 32]>::try_from(self.key.as_slice()).ok();
        let key = key.and_then(|key| ed25519_dalek::VerifyingKey::from_bytes(&key).ok());
        let signature = ed25519_dalek::Signature::from_slice(signature).ok();
        let (Some(key), Some(signature)) = (key, signature) else { return false };
        key.verify_prehashed_strict(Sha512::new_with_prefix(message), None, &signature).is_ok()
    }

    fn verifies_p521(&self, hash: &[u8], signature: &[u8]) -> Option<()> {
        let (r, s) = ecdsa_integers(signature)?;
        let mut scalars = [0; 2 * P521_BYTES];
        let (first, second) = scalars.split_at_mut(P521_BYTES);
        copy_to_end(first, &r)?;
        copy_to_end(second, &s)?;
        // The crate refuses hashes shorter than half the order. Zeros in front do not change the number.
        let mut padded = [0; P521_BYTES];
        copy_to_end(&mut padded, hash)?;
        let key = p521::ecdsa::VerifyingKey::from_sec1_bytes(&self.key).ok()?;
        key.verify_prehash(&padded, &p521::ecdsa::Signature::from_slice(&scalars).ok()?).ok()
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({:?} {})", self.kind, self.fingerprint())
    }
}

/// A signature of P-256 in DER, made of the two numbers that tokens give. `None` if they are none.
pub fn ecdsa_der(numbers: &[u8]) -> Option<Vec<u8>> {
    let (r, s) = numbers.split_at_checked(32)?;
    if s.len() == 32 { two_integers(r, s) } else { None }
}

/// A sequence of two integers in DER.
fn two_integers(first: &[u8], second: &[u8]) -> Option<Vec<u8>> {
    let integer = |bytes: &[u8]| UintRef::new(bytes).and_then(|integer| integer.to_der()).ok();
    let body = [integer(first)?, integer(second)?].concat();
    Any::new(Tag::Sequence, body).and_then(|sequence| sequence.to_der()).ok()
}

/// Whether `key` is an uncompressed point.
fn is_point(key: &[u8], coordinate: usize) -> bool {
    key.len() == 1 + 2 * coordinate && key.first() == Some(&4)
}

/// The two integers of a signature in DER.
fn ecdsa_integers(signature: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let mut reader = SliceReader::new(signature).ok()?;
    let integers = reader.sequence(|reader| {
        let r = UintRef::decode(reader)?.as_bytes().to_vec();
        Ok((r, UintRef::decode(reader)?.as_bytes().to_vec()))
    });
    let integers = integers.ok()?;
    reader.finish(integers).ok()
}

fn copy_to_end(target: &mut [u8], bytes: &[u8]) -> Option<()> {
    let start = target.len().checked_sub(bytes.len())?;
    target.get_mut(start..)?.copy_from_slice(bytes);
    Some(())
}
