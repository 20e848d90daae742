//! Compressed streams: whatever the bytes are, reading ends or gives an error, and small reads
//! give what large ones do.
#![no_main]

use std::io::Read;

use layersift_format::compression::{Codec, Decoding, Undecoded};
use layersift_fuzz::choices;
use libfuzzer_sys::fuzz_target;

/// More output than this is not asked for.
const OUTPUT: u64 = 1 << 20;

fuzz_target!(|data: &[u8]| {
    let ([step], stream) = choices(data);
    let (large, error) = undo(stream, 64 << 10);
    let (small, small_error) = undo(stream, 1 + usize::from(step));
    assert!(large.len() as u64 <= OUTPUT);
    // Before an error a decoder may hand out more or less, but never something else. Whether it sees the error may also
    // depend: libzstd overlooks a wrong content size where a frame ends in an empty block and is not read at once.
    let common = large.len().min(small.len());
    assert_eq!(large[..common], small[..common]);
    assert!(error || small_error || large.len() == small.len());
});

/// The output, and whether it ended in an error.
fn undo(stream: &[u8], step: usize) -> (Vec<u8>, bool) {
    let mut out = Vec::new();
    let undecoded = Undecoded::default();
    let decoding = Decoding { undecoded: &undecoded, memory: &|_| Some(Box::new(())) };
    let Ok(reader) = Codec::detect(stream).reader(stream, decoding) else { return (out, true) };
    let mut reader = reader.take(OUTPUT);
    let mut buffer = vec![0; step];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return (out, false),
            Ok(count) => out.extend_from_slice(&buffer[..count]),
            Err(_) => return (out, true),
        }
    }
}
