//! Time stamps of RFC 3161: an authority signs that some bytes existed at a time.
//!
//! [`Request`] makes what is posted to an authority as `application/timestamp-query`, and [`Authorities::verify`]
//! checks the answer. That is:
//!
//! - the response is granted, and its token is CMS signed data with exactly one signer;
//! - the imprint is the SHA-256, SHA-384 or SHA-512 of the bytes, and the nonce and policy are those that were asked
//!   for;
//! - the signed attributes have the type and the digest of the content, and name the signer's certificate by its hash
//!   (`signingCertificateV2`, or its predecessor with SHA-1 if that is all there is);
//! - the signature of the attributes is by that certificate: ECDSA, RSA PKCS#1 v1.5 or Ed25519;
//! - the certificate is for time stamping only, and chains to one of the given roots at the time of the stamp
//!   (`rustls-webpki` checks the chain).
//!
//! Revocation is not checked, nor is the accuracy that an authority claims.

mod request;
mod response;
mod token;

pub use request::Request;
pub use token::{Authorities, Stamp};

/// Why a time stamp does not count.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TimestampError {
    /// Not a PEM file with certificates.
    #[error("not a PEM file with certificates of time stamp authorities, roots included")]
    Certificates,
    /// Damaged, or something else.
    #[error("not a response of a time stamp authority")]
    Response(#[source] Option<x509_cert::der::Error>),
    /// The authority refused.
    #[error("the authority did not grant a time stamp, with status {0}")]
    NotGranted(u8),
    /// A stamp over other bytes.
    #[error("the time stamp is over other bytes")]
    Imprint,
    /// A stamp for another request.
    #[error("the time stamp answers another request: its nonce is another one")]
    Nonce,
    /// A stamp under another policy.
    #[error("the time stamp is under the policy {0}, which was not asked for")]
    Policy(String),
    /// Attributes that do not fit.
    #[error("the signed attributes of the time stamp do not fit its content or signer")]
    Attributes,
    /// No certificate for the signer.
    #[error("the certificate that signed the time stamp is not known")]
    Signer,
    /// A wrong signature, or an unknown algorithm.
    #[error("the signature of the time stamp is wrong, or made in an unknown way")]
    Signature,
    /// A certificate that does not chain to a root.
    #[error("the certificate that signed the time stamp is not trusted: {0}")]
    Chain(String),
    /// The system gives no random bytes.
    #[error("the system has no random bytes")]
    Random,
}
