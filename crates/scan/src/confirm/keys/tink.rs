//! Keysets of Google's Tink in JSON. Source: `proto/tink.proto` of Tink (`Keyset`, `EncryptedKeyset`), in the JSON
//! mapping of protocol buffers, as `tinkey` writes it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::{Algorithm, Container, PrivateKey, Reject, distinct, json, printable};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Keyset {
    primary_key_id: Option<u32>,
    #[serde(default)]
    key: Vec<Key>,
    encrypted_keyset: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Key {
    key_data: KeyData,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct KeyData {
    type_url: String,
    value: String,
    key_material_type: String,
}

/// Reads the keyset whose object has its brace at `at` in `window`. The span is the object; the material are the keys
/// with secrets, one after another.
///
/// # Errors
/// The reason for the rejection. Keysets of public keys only, or of keys in a key service, are rejected.
pub fn tink_keyset_at(window: &[u8], at: usize) -> Result<PrivateKey, Reject> {
    let (keyset, end) = json::object_at::<Keyset>(window, at)?;
    let key = match &keyset.encrypted_keyset {
        Some(ciphertext) if keyset.key.is_empty() => encrypted(ciphertext),
        _ => plain(&keyset),
    }?;
    Ok(PrivateKey { span: at..end, ..key })
}

fn plain(keyset: &Keyset) -> Result<PrivateKey, Reject> {
    if keyset.primary_key_id.is_none() {
        return Err(Reject::NotAKey);
    }
    let mut first = None;
    let mut material = Vec::new();
    for key in &keyset.key {
        let KeyData { type_url, value, key_material_type } = &key.key_data;
        let value = STANDARD.decode(value).map_err(|_| Reject::NotBase64)?;
        // Only the first secret of a keyset names it.
        let algorithm = match key_material_type.as_str() {
            "SYMMETRIC" => Algorithm::Symmetric,
            "ASYMMETRIC_PRIVATE" => Algorithm::Hidden,
            _ => continue,
        };
        if !type_url.starts_with("type.googleapis.com/") || value.len() < 16 {
            return Err(Reject::NotAKey);
        }
        if distinct(&value) < 12 {
            return Err(Reject::Placeholder);
        }
        let name = type_url.rsplit(['.', '/']).next().unwrap_or_default();
        first.get_or_insert_with(|| (algorithm, format!("of type {}", printable(name.as_bytes()))));
        material.extend_from_slice(&value);
    }
    let (algorithm, note) = first.ok_or(Reject::NotAKey)?;
    Ok(PrivateKey { note: Some(note), ..found(algorithm, false, material) })
}

fn encrypted(ciphertext: &str) -> Result<PrivateKey, Reject> {
    let material = STANDARD.decode(ciphertext).map_err(|_| Reject::NotBase64)?;
    if material.len() < 32 || distinct(&material) < 24 {
        return Err(Reject::Placeholder);
    }
    Ok(found(Algorithm::Hidden, true, material))
}

fn found(algorithm: Algorithm, encrypted: bool, material: Vec<u8>) -> PrivateKey {
    PrivateKey { algorithm, bits: 0, container: Container::Tink, encrypted, span: 0..0, material, note: None }
}
