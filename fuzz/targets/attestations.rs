//! Statements, envelopes, bundles, tokens of time stamp authorities and keys: any bytes are one or not, and what is one
//! is the same after it was written and read again.
#![no_main]

use std::sync::LazyLock;

use layersift_attest::keys::PublicKey;
use layersift_attest::timestamp::Authorities;
use layersift_attest::{Bundle, Envelope, Statement};
use layersift_fuzz::choices;
use libfuzzer_sys::fuzz_target;

const CHAIN: &str = "test-only-tsa-chain.pem";

/// The authority that the seeds are by.
static AUTHORITIES: LazyLock<Option<Authorities>> = LazyLock::new(|| {
    let keys: serde_json::Value =
        serde_json::from_str(include_str!("../../crates/attest/tests/data/keys.json")).ok()?;
    Authorities::from_pem(keys[CHAIN].as_str()?).ok()
});

fuzz_target!(|data: &[u8]| {
    let ([which], bytes) = choices(data);
    match which % 5 {
        0 => {
            let Ok(statement) = Statement::parse(bytes) else { return };
            let written = statement.to_bytes().unwrap();
            let again = Statement::parse(&written).unwrap();
            assert_eq!(again.subjects(), statement.subjects());
            assert_eq!(again.predicate(), statement.predicate());
        }
        1 => {
            let Ok(envelope) = Envelope::parse(bytes) else { return };
            let written = envelope.to_json().unwrap();
            assert_eq!(Envelope::parse(written.as_bytes()).unwrap(), envelope);
        }
        2 => {
            let Ok(bundle) = Bundle::parse(bytes) else { return };
            let written = bundle.to_json().unwrap();
            assert_eq!(Bundle::parse(written.as_bytes()).unwrap(), bundle);
        }
        3 => {
            let _ = AUTHORITIES.as_ref().unwrap().verify(bytes, b"a message");
        }
        _ => {
            let Ok(key) = PublicKey::from_der(bytes) else { return };
            assert_eq!(PublicKey::from_pem(&key.to_pem()).unwrap(), key);
            let _ = key.verifies(b"a message", bytes);
        }
    }
});
