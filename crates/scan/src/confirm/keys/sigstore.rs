//! Signing keys of cosign: PEM around base64 around JSON around a box. Source: `pkg/cosign/keys.go` of sigstore/cosign
//! (`SigstorePrivateKeyPemType`) and `encrypted/encrypted.go` of secure-systems-lab/go-securesystemslib.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::{Algorithm, Container, PrivateKey, Reject, distinct, pem};

const LABELS: [&[u8]; 2] = [b"ENCRYPTED SIGSTORE PRIVATE KEY", b"ENCRYPTED COSIGN PRIVATE KEY"];

#[derive(Deserialize)]
struct Sealed {
    kdf: Named,
    cipher: Named,
    ciphertext: String,
}

#[derive(Deserialize)]
struct Named {
    name: String,
}

/// Reads the key whose BEGIN label starts at `at` in `window`. The span ends after the END label.
///
/// # Errors
/// The reason for the rejection.
pub fn sigstore_at(window: &[u8], at: usize) -> Result<PrivateKey, Reject> {
    let text = window.get(at..).ok_or(Reject::Truncated)?;
    let begin = text.strip_prefix(b"-----BEGIN ").ok_or(Reject::NoLabel)?;
    let (label, after) = LABELS
        .iter()
        .find_map(|label| Some((*label, begin.strip_prefix(*label)?.strip_prefix(b"-----")?)))
        .ok_or(Reject::NoLabel)?;
    let (body, end) = pem::body(after, label)?;
    let json = pem::read_with(body, pem::base64)?;
    let sealed: Sealed = serde_json::from_slice(&json).map_err(|_| Reject::NotAKey)?;
    if sealed.kdf.name != "scrypt" || sealed.cipher.name != "nacl/secretbox" {
        return Err(Reject::NotAKey);
    }
    let material = STANDARD.decode(&sealed.ciphertext).map_err(|_| Reject::NotBase64)?;
    if material.len() < 48 || distinct(&material) < 24 {
        return Err(Reject::Placeholder);
    }
    let span = at..at + text.len() - after.len() + end;
    let (algorithm, container) = (Algorithm::Hidden, Container::Sigstore);
    Ok(PrivateKey { algorithm, bits: 0, container, encrypted: true, span, material, note: None })
}
