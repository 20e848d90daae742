//! Executable files: offsets are placed, and constant keys found, in whatever says it is one.
#![no_main]

use layersift_fuzz::choices;
use layersift_scan::confirm::cipher::cipher_keys;
use layersift_scan::content::binary::{Parts, is_binary, parse};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let ([head, tail], file) = choices(data);
    for key in cipher_keys(file) {
        assert!((key.offset as usize) < file.len());
        assert!([16, 24, 32, 48, 64].contains(&key.bytes.len()));
    }
    let part = |share: u8| file.len() * usize::from(share) / 255;
    let kept = Parts { head: &file[..part(head)], tail: &file[file.len() - part(tail)..], len: file.len() as u64 };
    let whole = Parts { head: file, tail: file, len: file.len() as u64 };
    for parts in [kept, whole] {
        let Some(binary) = parse(parts) else { continue };
        assert!(is_binary(parts.head));
        for offset in (0..file.len() as u64).step_by(64).chain([u64::MAX]) {
            let _ = binary.locate(offset);
        }
    }
});
