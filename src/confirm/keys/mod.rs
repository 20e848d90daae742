//! Private keys: parsed, not guessed. A pattern proposes a place; what stands there is decoded and its numbers checked.
//!
//! | file | what it reads |
//! |---|---|
//! | `pem.rs` | the BEGIN and END labels, the encryption headers, and the base64 between them |
//! | `text.rs` | the text around that base64: escapes, quotes, concatenations, comment marks |
//! | `der.rs` | PKCS#1, PKCS#8, SEC1 and DSA structures, wherever they stand |
//! | `openssh.rs` | the `openssh-key-v1` format |
//! | `ec.rs`, `number.rs`, `tlv.rs` | curves, big numbers, and the DER encoding below the structures |
//!
//! The DER reader is our own, sixty lines, and not the RustCrypto crates: those stop at encodings that real keys have
//! (integers without the leading zero, longer lengths than needed, `p` and `q` left at zero, explicit curve parameters,
//! both spellings of the public key in PKCS#8), and do not say where an object ends that is followed by other bytes.

mod der;
mod ec;
mod number;
mod openssh;
mod pem;
mod text;
mod tlv;

use std::ops::Range;

pub use der::der_at;
pub use pem::pem_at;

/// How many bytes may lie between a BEGIN label and its END label.
pub const MAX_PEM_BODY: usize = 32 << 10;

/// How many bytes of a window a parser may need behind the start of the anchor, in any form of key.
pub const MAX_KEY: usize = MAX_PEM_BODY + 128;

/// A private key that was found and parsed.
#[derive(Clone, PartialEq, Eq)]
pub struct PrivateKey {
    /// What the key is for.
    pub algorithm: Algorithm,
    /// The size of the modulus, field or curve in bits; 0 where it is hidden by encryption or unknown.
    pub bits: u32,
    /// The format it stands in.
    pub container: Container,
    /// Whether a passphrase is needed to use it.
    pub encrypted: bool,
    /// Where it stands in the window, labels included.
    pub span: Range<usize>,
    /// The key in one form, whatever form it was found in: a PKCS#8 `PrivateKeyInfo` (version 0, no attributes, no
    /// public key) in DER. Of an encrypted key, and of one whose algorithm is unknown, the bytes as they were found.
    pub material: Vec<u8>,
}

/// What a private key is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// RSA, with or without PSS parameters.
    Rsa,
    /// The Digital Signature Algorithm.
    Dsa,
    /// An elliptic curve by its usual name, such as `P-256`; an object identifier where the curve is not known.
    Ec(String),
    /// Edwards curve 25519 signatures.
    Ed25519,
    /// Edwards curve 448 signatures.
    Ed448,
    /// Curve 25519 key agreement.
    X25519,
    /// Curve 448 key agreement.
    X448,
    /// Not to be seen without the passphrase.
    Hidden,
    /// Any other, by its object identifier or OpenSSH name.
    Unknown(String),
}

/// The format that a private key stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Container {
    /// `RSAPrivateKey`, RFC 8017, appendix A.1.2.
    Pkcs1,
    /// `OneAsymmetricKey`, RFC 5958, section 2.
    Pkcs8,
    /// `EncryptedPrivateKeyInfo`, RFC 5958, section 3.
    EncryptedPkcs8,
    /// `ECPrivateKey`, RFC 5915, section 3.
    Sec1,
    /// The six integers that OpenSSL writes for DSA.
    Dsa,
    /// `openssh-key-v1`, OpenSSH's PROTOCOL.key.
    OpenSsh,
    /// A PEM body encrypted as a whole, as its `DEK-Info` header says, RFC 1421, section 4.6.1.3.
    LegacyEncryptedPem,
}

/// Why something is no private key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Reject {
    /// There is no BEGIN label of a private key at the place.
    #[error("no BEGIN label of a private key")]
    NoLabel,
    /// The BEGIN label is not followed by its END label within [`MAX_PEM_BODY`].
    #[error("no END label that belongs to the BEGIN label")]
    NoEnd,
    /// The window ends before the key does.
    #[error("the window ends before the key does")]
    Truncated,
    /// What stands between the labels is not base64.
    #[error("what stands between the labels is not base64")]
    NotBase64,
    /// The bytes are not DER, nor OpenSSH's encoding.
    #[error("the bytes are not well encoded")]
    Malformed,
    /// Well encoded, but not the structure of a private key.
    #[error("the structure is not that of a private key")]
    NotAKey,
    /// The numbers do not belong together, or have sizes that no key has.
    #[error("the numbers do not make a key")]
    Inconsistent,
    /// What should be random is not.
    #[error("the secret part is a placeholder")]
    Placeholder,
    /// It is the inner part of a PKCS#8 key that starts earlier in the window.
    #[error("part of a PKCS#8 key that starts earlier")]
    Inner,
}

impl PrivateKey {
    /// What it is, for a person, such as `RSA private key, 2048 bits, PKCS#1`; never any of its bytes.
    pub fn describe(&self) -> String {
        let mut text = match &self.algorithm {
            Algorithm::Rsa => "RSA private key".to_owned(),
            Algorithm::Dsa => "DSA private key".to_owned(),
            Algorithm::Ec(curve) => format!("EC private key, {curve}"),
            Algorithm::Ed25519 => "Ed25519 private key".to_owned(),
            Algorithm::Ed448 => "Ed448 private key".to_owned(),
            Algorithm::X25519 => "X25519 private key".to_owned(),
            Algorithm::X448 => "X448 private key".to_owned(),
            Algorithm::Hidden => "Private key".to_owned(),
            Algorithm::Unknown(name) => format!("Private key, algorithm {name}"),
        };
        if matches!(self.algorithm, Algorithm::Rsa | Algorithm::Dsa) && self.bits > 0 {
            text += &format!(", {} bits", self.bits);
        }
        text += match self.container {
            Container::Pkcs1 => ", PKCS#1",
            Container::Pkcs8 | Container::EncryptedPkcs8 => ", PKCS#8",
            Container::Sec1 => ", SEC1",
            Container::Dsa => ", OpenSSL form",
            Container::OpenSsh => ", OpenSSH",
            Container::LegacyEncryptedPem => ", traditional PEM",
        };
        if self.encrypted {
            text += ", encrypted";
        }
        text
    }
}

impl std::fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PrivateKey({}, {:?})", self.describe(), self.span)
    }
}

/// How much is known of some bytes before they are parsed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Claim {
    /// A label says that they are a private key.
    Labelled,
    /// Nothing does: the structure alone has to be beyond doubt.
    Bare,
}

/// Whether `secret` cannot be a real secret. Of a labelled key only one repeated byte gives that away; of bare bytes
/// also too few different bytes, or bytes that are nearly all text or none: libraries carry the first bytes of a key as
/// a template, with anything behind it. Of random secrets of 32 bytes this refuses fewer than one in 100,000.
fn is_placeholder(secret: &[u8], claim: Claim) -> bool {
    let len = secret.len();
    let different = distinct(secret);
    let high = secret.iter().filter(|&&byte| byte >= 0x80).count();
    let looks_random = different * 8 >= len * 5 && (len..=len * 7).contains(&(high * 8));
    different < 2 || (claim == Claim::Bare && !looks_random)
}

/// How many different byte values there are in `bytes`.
fn distinct(bytes: &[u8]) -> usize {
    let mut seen = [false; 256];
    bytes.iter().for_each(|&byte| seen[usize::from(byte)] = true);
    seen.iter().filter(|&&seen| seen).count()
}

#[cfg(test)]
mod tests;
