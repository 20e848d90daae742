//! The encrypted form of cosign's key files: JSON with a PKCS#8 document in NaCl's secretbox, under a key that scrypt
//! makes of the password. Versions 2 and 3 of cosign write the same.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use crypto_secretbox::aead::{Aead, KeyInit};
use crypto_secretbox::{Key, Nonce, XSalsa20Poly1305};
use layersift_model::parse;
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::KeyError;
use crate::encoding::base64;

const KDF: &str = "scrypt";
const CIPHER: &str = "nacl/secretbox";
/// What cosign writes.
const PARAMETERS: Parameters = Parameters { n: 65536, r: 8, p: 1 };
/// The most memory that scrypt may take: 128 · N · r bytes.
const MOST_MEMORY: u64 = 1 << 30;
const MOST_PARALLEL: u32 = 16;
const NONCE_BYTES: usize = 24;

#[derive(Serialize, Deserialize)]
struct Form {
    kdf: Kdf,
    cipher: Cipher,
    ciphertext: String,
}

#[derive(Serialize, Deserialize)]
struct Kdf {
    name: String,
    params: Parameters,
    salt: String,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
struct Parameters {
    #[serde(rename = "N")]
    n: u64,
    r: u32,
    p: u32,
}

#[derive(Serialize, Deserialize)]
struct Cipher {
    name: String,
    nonce: String,
}

/// The document in the bytes of a PEM section.
pub(super) fn decrypt(bytes: &[u8], password: &[u8]) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let form: Form = parse::json(bytes).map_err(|_| KeyError::Encryption)?;
    if form.kdf.name != KDF || form.cipher.name != CIPHER {
        return Err(KeyError::Encryption);
    }
    let decode = |text: &str| BASE64_STANDARD.decode(text).map_err(|_| KeyError::Encryption);
    let nonce: [u8; NONCE_BYTES] = decode(&form.cipher.nonce)?.try_into().map_err(|_| KeyError::Encryption)?;
    let cipher = cipher(form.kdf.params, password, &decode(&form.kdf.salt)?)?;
    let document = cipher.decrypt(Nonce::from_slice(&nonce), decode(&form.ciphertext)?.as_slice());
    document.map(Zeroizing::new).map_err(|_| KeyError::Decrypt)
}

/// The bytes of a PEM section with `document`.
pub(super) fn encrypt(document: &[u8], password: &[u8]) -> Result<Vec<u8>, KeyError> {
    let (mut salt, mut nonce) = ([0; 32], [0; NONCE_BYTES]);
    let random = SystemRandom::new();
    random.fill(&mut salt).and_then(|()| random.fill(&mut nonce)).map_err(|_| KeyError::Random)?;
    let cipher = cipher(PARAMETERS, password, &salt)?;
    let ciphertext = cipher.encrypt(Nonce::from_slice(&nonce), document).map_err(|_| KeyError::Encryption)?;
    let form = Form {
        kdf: Kdf { name: KDF.into(), params: PARAMETERS, salt: base64(&salt) },
        cipher: Cipher { name: CIPHER.into(), nonce: base64(&nonce) },
        ciphertext: base64(&ciphertext),
    };
    serde_json::to_vec(&form).map_err(|_| KeyError::Encryption)
}

fn cipher(parameters: Parameters, password: &[u8], salt: &[u8]) -> Result<XSalsa20Poly1305, KeyError> {
    let Parameters { n, r, p } = parameters;
    let memory = n.checked_mul(u64::from(r)).and_then(|product| product.checked_mul(128));
    if !n.is_power_of_two() || memory.is_none_or(|memory| memory > MOST_MEMORY) || p > MOST_PARALLEL {
        return Err(KeyError::Encryption);
    }
    let log_n = u8::try_from(n.trailing_zeros()).map_err(|_| KeyError::Encryption)?;
    let parameters = scrypt::Params::new(log_n, r, p).map_err(|_| KeyError::Encryption)?;
    let mut key = Zeroizing::new([0; 32]);
    scrypt::scrypt(password, salt, &parameters, key.as_mut_slice()).map_err(|_| KeyError::Encryption)?;
    Ok(XSalsa20Poly1305::new(Key::from_slice(key.as_slice())))
}
