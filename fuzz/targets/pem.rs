//! Private keys between labels, at every place where a label begins.
#![no_main]

use layersift_scan::confirm::keys::pem_at;
use libfuzzer_sys::fuzz_target;

const BEGIN: &[u8] = b"-----BEGIN ";

fuzz_target!(|data: &[u8]| {
    for at in places(data).chain([data.len(), data.len() + 1]) {
        let Ok(key) = pem_at(data, at) else { continue };
        assert!(key.span.start == at && key.span.end <= data.len());
        assert!(data[key.span.clone()].ends_with(b"-----"));
        assert!(!key.material.is_empty());
        let alone = pem_at(&data[key.span.clone()], 0).expect("a key needs nothing around it");
        assert_eq!(alone.material, key.material);
    }
});

fn places(data: &[u8]) -> impl Iterator<Item = usize> {
    data.windows(BEGIN.len()).enumerate().filter(|(_, bytes)| *bytes == BEGIN).map(|(at, _)| at)
}
