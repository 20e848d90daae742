//! Reports of layers out of a store that others can write to: a report or an error, and a report can be kept again.
//!
//! The input is what is inside a kept report, without its compression, which no fuzzer finds its way through.
#![no_main]

use layersift_model::{FingerprintKey, LayerReport};
use libfuzzer_sys::fuzz_target;

/// The first byte of a kept report, and a Zstandard frame of one raw block (RFC 8878, section 3.1.1).
const FORM: u8 = 2;
const FRAME: [u8; 6] = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x58];

fuzz_target!(|data: &[u8]| {
    let data = &data[..data.len().min(100_000)];
    let block = ((data.len() as u32) << 3 | 1).to_le_bytes();
    let kept = [&[FORM], &FRAME[..], &block[..3], data].concat();
    let Ok(report) = LayerReport::from_kept(&kept) else { return };
    let again = report.to_kept(&FingerprintKey::default()).expect("what was read can be written");
    LayerReport::from_kept(&again).expect("what was kept can be read");
});
