//! Private keys in DER: any bytes are a key or not, and what a key becomes is read as the same key again.
#![no_main]

use layersift_scan::confirm::keys::{Algorithm, der_at};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(key) = der_at(data, 0) else { return };
    assert!(key.span.start == 0 && key.span.end <= data.len());
    assert!(!key.describe().is_empty());
    // Without its curve and its point, a key is not known from any other bytes.
    if key.algorithm != Algorithm::Ec("unknown curve".into()) {
        let again = der_at(&key.material, 0).expect("the material of a key is a key");
        assert_eq!((again.algorithm, again.material), (key.algorithm.clone(), key.material.clone()));
    }
    assert!(!matches!(key.algorithm, Algorithm::Hidden | Algorithm::Unknown(_)));
    let shifted = [b"front", data].concat();
    let moved = der_at(&shifted, 5).expect("where a key stands changes nothing");
    assert_eq!((moved.span.start, moved.span.end, moved.material), (5, 5 + key.span.end, key.material));
});
