//! Keys that sign, in memory.

use std::fmt;

use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{self, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RsaKeyPair};
use x509_cert::der::asn1::{BitStringRef, ContextSpecific, OctetStringRef};
use x509_cert::der::{Decode, Reader, SliceReader};
use zeroize::Zeroizing;

use super::{KeyError, KeyKind, PublicKey, SignError, Signer, encrypted, pem};

const PKCS8: &str = "PRIVATE KEY";
const SEC1: &str = "EC PRIVATE KEY";
const PKCS1: &str = "RSA PRIVATE KEY";
/// Cosign's names for its own form, the new one and the old one.
const ENCRYPTED: &str = "ENCRYPTED SIGSTORE PRIVATE KEY";
const ENCRYPTED_BEFORE: &str = "ENCRYPTED COSIGN PRIVATE KEY";
/// What PKCS#8 has before the seed of an Ed25519 key. `ring` writes a version of it that OpenSSL does not read.
const ED25519_PKCS8: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

enum Pair {
    P256(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
    Rsa(Box<RsaKeyPair>),
}

/// A key that signs.
pub struct PrivateKey {
    pair: Pair,
    public: PublicKey,
    /// What it was read from, if that is PKCS#8.
    pkcs8: Option<Zeroizing<Vec<u8>>>,
}

impl PrivateKey {
    /// A new key on P-256, which every version of cosign takes.
    ///
    /// # Errors
    /// Without random bytes.
    pub fn generate_p256() -> Result<PrivateKey, KeyError> {
        let random = SystemRandom::new();
        let document = EcdsaKeyPair::generate_pkcs8(&signature::ECDSA_P256_SHA256_ASN1_SIGNING, &random);
        PrivateKey::from_pkcs8(document.map_err(|_| KeyError::Random)?.as_ref())
    }

    /// A new Ed25519 key.
    ///
    /// # Errors
    /// Without random bytes.
    pub fn generate_ed25519() -> Result<PrivateKey, KeyError> {
        let mut document = Zeroizing::new(ED25519_PKCS8.to_vec());
        document.resize(ED25519_PKCS8.len() + 32, 0);
        let seed = document.get_mut(ED25519_PKCS8.len()..).unwrap_or_default();
        SystemRandom::new().fill(seed).map_err(|_| KeyError::Random)?;
        PrivateKey::from_pkcs8(&document)
    }

    /// Whether the key in the PEM file `text` needs a password.
    pub fn needs_password(text: &str) -> bool {
        pem::only_section(text).is_ok_and(|section| is_encrypted(&section.label))
    }

    /// The key in `text`, a PEM file: PKCS#8, SEC1, PKCS#1, or cosign's encrypted form.
    ///
    /// # Errors
    /// If it is another file, a key that cannot sign, or encrypted with another password.
    pub fn from_pem(text: &str, password: Option<&[u8]>) -> Result<PrivateKey, KeyError> {
        let section = pem::only_section(text)?;
        let bytes = Zeroizing::new(section.bytes);
        match section.label.as_str() {
            PKCS8 => PrivateKey::from_pkcs8(&bytes),
            SEC1 => PrivateKey::from_sec1(&bytes),
            PKCS1 => PrivateKey::of_rsa(RsaKeyPair::from_der(&bytes).map_err(|_| KeyError::Private)?, None),
            label if is_encrypted(label) => {
                let password = password.ok_or(KeyError::PasswordNeeded)?;
                PrivateKey::from_pkcs8(&encrypted::decrypt(&bytes, password)?)
            }
            _ => Err(KeyError::Label(section.label)),
        }
    }

    /// The key in a PKCS#8 document in DER.
    ///
    /// # Errors
    /// If it cannot sign.
    pub fn from_pkcs8(der: &[u8]) -> Result<PrivateKey, KeyError> {
        let kept = Some(Zeroizing::new(der.to_vec()));
        let random = SystemRandom::new();
        if let Ok(pair) = EcdsaKeyPair::from_pkcs8(&signature::ECDSA_P256_SHA256_ASN1_SIGNING, der, &random) {
            return PrivateKey::of_p256(pair, kept);
        }
        if let Ok(pair) = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der) {
            let public = PublicKey::from_parts(KeyKind::Ed25519, pair.public_key().as_ref())?;
            return Ok(PrivateKey { pair: Pair::Ed25519(pair), public, pkcs8: kept });
        }
        PrivateKey::of_rsa(RsaKeyPair::from_pkcs8(der).map_err(|_| KeyError::Private)?, kept)
    }

    /// The key in an ECPrivateKey of SEC1, as `openssl ecparam -genkey` writes it.
    fn from_sec1(der: &[u8]) -> Result<PrivateKey, KeyError> {
        let (private, public) = sec1(der).map_err(|_| KeyError::Private)?;
        let algorithm = &signature::ECDSA_P256_SHA256_ASN1_SIGNING;
        let pair = EcdsaKeyPair::from_private_key_and_public_key(algorithm, &private, &public, &SystemRandom::new());
        PrivateKey::of_p256(pair.map_err(|_| KeyError::Private)?, None)
    }

    fn of_p256(pair: EcdsaKeyPair, pkcs8: Option<Zeroizing<Vec<u8>>>) -> Result<PrivateKey, KeyError> {
        let public = PublicKey::from_parts(KeyKind::P256, pair.public_key().as_ref())?;
        Ok(PrivateKey { pair: Pair::P256(pair), public, pkcs8 })
    }

    fn of_rsa(pair: RsaKeyPair, pkcs8: Option<Zeroizing<Vec<u8>>>) -> Result<PrivateKey, KeyError> {
        let public = PublicKey::from_parts(KeyKind::Rsa, pair.public_key().as_ref())?;
        Ok(PrivateKey { pair: Pair::Rsa(Box::new(pair)), public, pkcs8 })
    }

    /// The key as a PEM file in cosign's encrypted form, which cosign reads.
    ///
    /// # Errors
    /// Without random bytes, and for a key that was read in another form than PKCS#8.
    pub fn to_encrypted_pem(&self, password: &[u8]) -> Result<String, KeyError> {
        let document = self.pkcs8.as_ref().ok_or(KeyError::Private)?;
        Ok(pem::section(ENCRYPTED, &encrypted::encrypt(document, password)?))
    }
}

impl Signer for PrivateKey {
    fn public_key(&self) -> &PublicKey {
        &self.public
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        let random = SystemRandom::new();
        let failed = |_| SignError("the system has no random bytes".into());
        match &self.pair {
            Pair::P256(pair) => Ok(pair.sign(&random, message).map_err(failed)?.as_ref().to_vec()),
            Pair::Ed25519(pair) => Ok(pair.sign(message).as_ref().to_vec()),
            Pair::Rsa(pair) => {
                let mut bytes = vec![0; pair.public().modulus_len()];
                pair.sign(&signature::RSA_PKCS1_SHA256, &random, message, &mut bytes).map_err(failed)?;
                Ok(bytes)
            }
        }
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PrivateKey").field(&self.public).finish()
    }
}

fn is_encrypted(label: &str) -> bool {
    label == ENCRYPTED || label == ENCRYPTED_BEFORE
}

/// The scalar and the point of an ECPrivateKey.
fn sec1(der: &[u8]) -> x509_cert::der::Result<(Zeroizing<Vec<u8>>, Vec<u8>)> {
    let mut reader = SliceReader::new(der)?;
    let parts = reader.sequence(|reader| {
        let _version = u8::decode(reader)?;
        let private = Zeroizing::new(OctetStringRef::decode(reader)?.as_bytes().to_vec());
        let _curve =
            ContextSpecific::<x509_cert::der::AnyRef<'_>>::decode_explicit(reader, x509_cert::der::TagNumber::N0)?;
        let public = ContextSpecific::<BitStringRef<'_>>::decode_explicit(reader, x509_cert::der::TagNumber::N1)?;
        Ok((private, public.map(|public| public.value.raw_bytes().to_vec()).unwrap_or_default()))
    })?;
    reader.finish(parts)
}
