//! Private keys: parsed, not guessed. A pattern proposes a position; the bytes there are decoded and the numbers
//! checked.
//!
//! | file | what it reads |
//! |---|---|
//! | `pem.rs` | the BEGIN and END labels, the encryption headers, and the base64 between them |
//! | `text.rs` | the text around that base64: escapes, quotes, concatenations, comment marks |
//! | `der.rs` | PKCS#1, PKCS#8, SEC1 and DSA structures, anywhere in a file |
//! | `openssh.rs` | the `openssh-key-v1` format |
//! | `putty.rs`, `sshcom.rs` | the text files of PuTTY and of SSH.com's programs |
//! | `openpgp.rs`, `openpgp_packet.rs` | OpenPGP secret keys, armored and binary |
//! | `jwk.rs`, `tink.rs`, `service_account.rs`, `sigstore.rs` | keys in JSON; `json.rs` reads the objects |
//! | `pkcs12.rs`, `java.rs`, `bks.rs` | key stores; `default_password.rs` tries well-known passwords |
//! | `age.rs`, `wireguard.rs`, `openvpn.rs`, `signify.rs`, `rsa_blob.rs` | one small format each |
//! | `ec.rs`, `number.rs`, `tlv.rs`, `fields.rs` | curves, big numbers, and the encodings below the structures |
//! | `effort.rs`, `rounds.rs` | the work of all that, which is bounded |
//!
//! The DER reader is our own, in sixty lines, because the RustCrypto crates reject encodings that real keys have
//! (integers without the leading zero, longer lengths than needed, `p` and `q` left at zero, explicit curve parameters,
//! both spellings of the public key in PKCS#8), and do not report where an object ends if other bytes follow it.

mod age;
mod bks;
mod default_password;
mod der;
mod ec;
pub(crate) mod effort;
mod fields;
mod java;
mod json;
mod jwk;
mod number;
mod openpgp;
mod openpgp_packet;
mod openssh;
mod openvpn;
mod pem;
mod pkcs12;
mod putty;
pub(crate) mod rounds;
mod rsa_blob;
mod service_account;
mod signify;
mod sigstore;
mod sshcom;
mod text;
mod tink;
mod tlv;
mod wireguard;

use std::ops::Range;

pub use age::age_identity_at;
pub use bks::bks_at;
pub use der::der_at;
pub use java::java_keystore_at;
pub use jwk::jwk_at;
pub use openpgp::{openpgp_armored_at, openpgp_binary_at};
pub use openvpn::openvpn_static_key_at;
pub use pem::{block_at, pem_at};
pub use pkcs12::pkcs12_at;
pub use putty::ppk_at;
pub use rsa_blob::rsa_blob_at;
pub use service_account::service_account_at;
pub use signify::signify_at;
pub use sigstore::sigstore_at;
pub use sshcom::sshcom_at;
pub use tink::tink_keyset_at;
pub use wireguard::wireguard_at;

/// The greatest number of bytes between a BEGIN label and its END label.
pub const MAX_PEM_BODY: usize = 32 << 10;

/// The greatest number of bytes, from the start of the match on, that a parser needs for any kind of key.
pub const MAX_KEY: usize = MAX_PEM_BODY + 128;

/// A private key that was found and parsed.
#[derive(Clone, PartialEq, Eq)]
pub struct PrivateKey {
    /// What the key is for.
    pub algorithm: Algorithm,
    /// The size of the modulus, field or curve in bits; 0 if it is encrypted or unknown.
    pub bits: u32,
    /// The format of the key.
    pub container: Container,
    /// Whether a passphrase is needed to use it.
    pub encrypted: bool,
    /// The range of the key in the window, including labels.
    pub span: Range<usize>,
    /// The key in a canonical form: a PKCS#8 `PrivateKeyInfo` (version 0, no attributes, no public key) in DER. For an
    /// encrypted key, or an unknown algorithm, the bytes as they were found.
    pub material: Vec<u8>,
    /// More about the key: its owner, or the well-known password that opens it. Printable ASCII without secrets.
    pub note: Option<String>,
}

/// What a private key is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// RSA, with or without PSS parameters.
    Rsa,
    /// The Digital Signature Algorithm.
    Dsa,
    /// An elliptic curve by its usual name, such as `P-256`; an object identifier if the curve is unknown.
    Ec(String),
    /// Edwards curve 25519 signatures.
    Ed25519,
    /// Edwards curve 448 signatures.
    Ed448,
    /// Curve 25519 key agreement.
    X25519,
    /// Curve 448 key agreement.
    X448,
    /// A symmetric key of a cipher or a message authentication code.
    Symmetric,
    /// Unknown without the passphrase.
    Hidden,
    /// Another algorithm, by its object identifier or OpenSSH name.
    Unknown(String),
}

/// The format of a private key.
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
    /// PuTTY's `.ppk`, versions 2 and 3.
    Putty,
    /// The format of SSH.com's programs.
    SshCom,
    /// An OpenPGP transferable secret key, RFC 9580, section 10.2.
    OpenPgp,
    /// A JSON Web Key, RFC 7517.
    Jwk,
    /// A PFX, RFC 7292.
    Pkcs12,
    /// Sun's Java keystore.
    Jks,
    /// The Java keystore of the Java cryptography extension.
    Jceks,
    /// The keystore of Bouncy Castle.
    Bks,
    /// An age identity.
    Age,
    /// A line of a WireGuard configuration.
    WireGuard,
    /// The key file of a Google service account.
    ServiceAccount,
    /// A keyset of Tink.
    Tink,
    /// A static key of OpenVPN.
    OpenVpn,
    /// A key of cosign.
    Sigstore,
    /// A secret key of minisign.
    Minisign,
    /// A secret key of OpenBSD's signify.
    Signify,
    /// Windows' `PRIVATEKEYBLOB`.
    RsaBlob,
}

/// Why bytes are not a private key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Reject {
    /// There is no BEGIN label of a private key at the position.
    #[error("no BEGIN label of a private key")]
    NoLabel,
    /// The BEGIN label is not followed by its END label within [`MAX_PEM_BODY`].
    #[error("no END label after the BEGIN label")]
    NoEnd,
    /// The window ends before the key does.
    #[error("the window ends before the key does")]
    Truncated,
    /// The text between the labels is not base64.
    #[error("the text between the labels is not base64")]
    NotBase64,
    /// The bytes are neither DER nor in OpenSSH's encoding.
    #[error("invalid encoding")]
    Malformed,
    /// The encoding is valid, but the structure is not that of a private key.
    #[error("the structure is not that of a private key")]
    NotAKey,
    /// The numbers do not belong together, or do not have the sizes of a key.
    #[error("the numbers do not form a key")]
    Inconsistent,
    /// The secret part is not random.
    #[error("the secret part is a placeholder")]
    Placeholder,
    /// The format says that the secret part is somewhere else, such as on a smartcard.
    #[error("the secret part is somewhere else")]
    Elsewhere,
    /// It is the inner part of a PKCS#8 key that starts earlier in the window.
    #[error("part of a PKCS#8 key that starts earlier")]
    Inner,
}

impl PrivateKey {
    /// A description for reports, such as `RSA private key, 2048 bits, PKCS#1`, without any bytes of the key.
    pub fn describe(&self) -> String {
        let mut text = match &self.algorithm {
            Algorithm::Rsa => "RSA private key".to_owned(),
            Algorithm::Dsa => "DSA private key".to_owned(),
            Algorithm::Ec(curve) => format!("EC private key, {curve}"),
            Algorithm::Ed25519 => "Ed25519 private key".to_owned(),
            Algorithm::Ed448 => "Ed448 private key".to_owned(),
            Algorithm::X25519 => "X25519 private key".to_owned(),
            Algorithm::X448 => "X448 private key".to_owned(),
            Algorithm::Symmetric => "Symmetric key".to_owned(),
            Algorithm::Hidden => "Private key".to_owned(),
            Algorithm::Unknown(name) => format!("Private key, algorithm {name}"),
        };
        if matches!(self.algorithm, Algorithm::Rsa | Algorithm::Dsa | Algorithm::Symmetric) && self.bits > 0 {
            text += &format!(", {} bits", self.bits);
        }
        text += ", ";
        text += self.container.name();
        if self.encrypted {
            text += ", encrypted";
        }
        text
    }
}

impl Container {
    /// The name of the format in reports.
    pub fn name(self) -> &'static str {
        match self {
            Container::Pkcs1 => "PKCS#1",
            Container::Pkcs8 | Container::EncryptedPkcs8 => "PKCS#8",
            Container::Sec1 => "SEC1",
            Container::Dsa => "OpenSSL form",
            Container::OpenSsh => "OpenSSH",
            Container::LegacyEncryptedPem => "traditional PEM",
            Container::Putty => "PuTTY",
            Container::SshCom => "SSH.com form",
            Container::OpenPgp => "OpenPGP",
            Container::Jwk => "JSON Web Key",
            Container::Pkcs12 => "PKCS#12",
            Container::Jks => "Java keystore (JKS)",
            Container::Jceks => "Java keystore (JCEKS)",
            Container::Bks => "Bouncy Castle keystore",
            Container::Age => "age identity",
            Container::WireGuard => "WireGuard",
            Container::ServiceAccount => "Google service account",
            Container::Tink => "Tink keyset",
            Container::OpenVpn => "OpenVPN static key",
            Container::Sigstore => "sigstore",
            Container::Minisign => "minisign",
            Container::Signify => "signify",
            Container::RsaBlob => "Windows key blob",
        }
    }
}

impl std::fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PrivateKey({}, {:?})", self.describe(), self.span)
    }
}

/// What is known about bytes before they are parsed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Claim {
    /// A label says that they are a private key.
    Labelled,
    /// There is no label, so that the structure alone must be beyond doubt.
    Bare,
}

/// Whether `secret` cannot be a real secret. A labelled key is only rejected if it repeats one byte; bare bytes also if
/// too few of them differ, or nearly all or none of them are ASCII: libraries contain the first bytes of a key as a
/// template, followed by other data. Rejects fewer than one in 100,000 random secrets of 32 bytes.
fn is_placeholder(secret: &[u8], claim: Claim) -> bool {
    let len = secret.len();
    let different = distinct(secret);
    let high = secret.iter().filter(|&&byte| byte >= 0x80).count();
    let looks_random = different * 8 >= len * 5 && (len..=len * 7).contains(&(high * 8));
    different < 2 || (claim == Claim::Bare && (!looks_random || has_text(secret)))
}

/// Whether a quarter of the bytes of a secret, and 16 at least, is text, as in one of a million random keys of 32
/// bytes. After the template of a key, a program has its other constants.
fn has_text(secret: &[u8]) -> bool {
    let is_printable = |byte: &u8| matches!(byte, b' '..=b'~');
    secret.windows((secret.len() / 4).max(16)).any(|run| run.iter().all(is_printable))
}

/// At most 100 characters of `text`, which comes from the image, with `?` for those that are not printable.
fn printable(text: &[u8]) -> String {
    let shown = text.iter().take(100).map(|&byte| if matches!(byte, b' '..=b'~') { char::from(byte) } else { '?' });
    shown.collect()
}

/// The number of distinct byte values in `bytes`.
fn distinct(bytes: &[u8]) -> usize {
    let mut seen = [false; 256];
    bytes.iter().for_each(|&byte| seen[usize::from(byte)] = true);
    seen.iter().filter(|&&seen| seen).count()
}

#[cfg(test)]
mod tests;
