//! Keys in containers other than PEM and DER: any bytes are one or not, and where a container stands changes nothing.
#![no_main]

use layersift_scan::confirm::keys;
use layersift_scan::confirm::keys::{PrivateKey, Reject};
use libfuzzer_sys::fuzz_target;

type Reader = fn(&[u8], usize) -> Result<PrivateKey, Reject>;

const READERS: [Reader; 16] = [
    keys::ppk_at,
    keys::sshcom_at,
    keys::openpgp_armored_at,
    keys::openpgp_binary_at,
    keys::jwk_at,
    keys::tink_keyset_at,
    keys::service_account_at,
    keys::sigstore_at,
    keys::pkcs12_at,
    keys::java_keystore_at,
    keys::bks_at,
    keys::age_identity_at,
    keys::wireguard_at,
    keys::openvpn_static_key_at,
    keys::signify_at,
    keys::rsa_blob_at,
];

fuzz_target!(|data: &[u8]| {
    let moved = [b"front", data].concat();
    for read in READERS {
        let Ok(key) = read(data, 0) else { continue };
        assert!(key.span.start <= key.span.end && key.span.end <= data.len());
        assert!(!key.describe().is_empty() && !key.material.is_empty());
        assert!(key.note.iter().all(|note| note.bytes().all(|byte| matches!(byte, b' '..=b'~'))));
        let again = read(&moved, 5).expect("where a key stands changes nothing");
        assert_eq!((again.span.start, again.span.end), (key.span.start + 5, key.span.end + 5));
        assert!(again.material == key.material && again.encrypted == key.encrypted);
    }
});
