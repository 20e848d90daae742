//! `X-Layersift-Signature`: an HMAC over the time and the body, so that a receiver knows who sent both, and that they
//! were not sent long ago.

use hmac::{Hmac, KeyInit, Mac};
use layersift_model::hex;
use sha2::Sha256;

/// The value of the header for a body that is sent at `time`, in seconds since 1970.
pub(crate) fn signature(key: &[u8], time: i64, body: &[u8]) -> String {
    // A key may have any length.
    let Ok(mac) = Hmac::<Sha256>::new_from_slice(key) else { return String::new() };
    let mac = mac.chain_update(format!("{time}.")).chain_update(body).finalize().into_bytes();
    format!("sha256={}", hex(&mac))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn openssl_makes_the_same() {
        // printf '1795899545.{}' | openssl dgst -sha256 -hmac 'a made-up key'
        let expected = "sha256=7e5407b42b67e129034ea0ba25a832e2d82e186866676d908ace17ecf1ff28b3";
        assert_eq!(signature(b"a made-up key", 1_795_899_545, b"{}"), expected);
    }
}
