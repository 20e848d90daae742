//! Keys: those that sign, those that verify, and the files that they are kept in.
//!
//! `ring` signs and verifies. It lacks three things, for which crates of RustCrypto are used: Ed25519ph, P-521, and the
//! encryption of cosign's key files.

mod encrypted;
mod pem;
mod private;
mod public;

pub use private::PrivateKey;
pub use public::{Hash, KeyKind, PublicKey, ecdsa_der};

pub(crate) use pem::sections;

/// Something that signs: a key in memory, or one that never leaves a token.
pub trait Signer {
    /// The key that verifies what this one signs.
    fn public_key(&self) -> &PublicKey;

    /// The signature of `message`, as cosign expects it: ECDSA in DER over SHA-256, RSA PKCS#1 v1.5 over SHA-256, or
    /// pure Ed25519.
    ///
    /// # Errors
    /// If the key cannot be used.
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError>;
}

/// Why nothing was signed.
#[derive(Debug, thiserror::Error)]
#[error("the key does not sign")]
pub struct SignError(#[source] pub Box<dyn std::error::Error + Send + Sync>);

/// Why a key is not accepted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// Not a PEM file, or one with other things.
    #[error("not a key in PEM")]
    Pem,
    /// A PEM file with something else.
    #[error("`{0}` is not a key that can be used here")]
    Label(String),
    /// Damaged, or of another algorithm.
    #[error("the public key is damaged, or neither ECDSA on P-256, P-384 or P-521, nor RSA, nor Ed25519")]
    Public,
    /// Damaged, or of another algorithm.
    #[error(
        "the private key is damaged, or cannot sign: use ECDSA on P-256, Ed25519 or RSA with 2048 to 4096 bits, with \
         the public key in the file"
    )]
    Private,
    /// An encrypted key without a password.
    #[error("the private key is encrypted, and no password was given")]
    PasswordNeeded,
    /// The password does not fit, or the file was changed.
    #[error("the private key cannot be decrypted: wrong password, or a damaged file")]
    Decrypt,
    /// An encryption that cosign does not use, or one that costs too much.
    #[error("the private key is encrypted in an unknown way")]
    Encryption,
    /// The system gives no random bytes.
    #[error("the system has no random bytes")]
    Random,
}

/// Whether a file is named as the keys that sign images are by default.
///
/// `cosign verify --key`, which checks the signature of an image, passes for an image that has only an attestation in a
/// bundle. A key that attests must therefore never be one that a policy trusts for signatures of images.
pub fn is_image_signing_name(file_name: &str) -> bool {
    let name = file_name.to_ascii_lowercase();
    let stem = name.rsplit_once('.').map_or(name.as_str(), |(stem, _)| stem);
    matches!(stem, "cosign" | "import-cosign" | "image-signing" | "image_signing" | "signing")
}
