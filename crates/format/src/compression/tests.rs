//! Tests of compressed streams: what encoders write comes out as it went in, and nothing of a stream is lost.

use std::io::Write;

use super::*;

const NO_MEMORY: &(dyn Fn(u64) -> Option<DecoderMemory> + Sync) = &|_| Some(Box::new(()));

/// The uncompressed bytes, what decompression does not give, and the error at the end, if there is one.
fn decoded(bytes: &[u8]) -> (Vec<u8>, Vec<UndecodedPart>, Option<io::Error>) {
    let (mut out, undecoded) = (Vec::new(), Undecoded::default());
    let decoding = Decoding { undecoded: &undecoded, memory: NO_MEMORY };
    let mut reader = Codec::detect(bytes).reader(bytes, decoding).unwrap();
    let error = reader.read_to_end(&mut out).err();
    drop(reader);
    (out, undecoded.take().0, error)
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::stream::encode_all(bytes, 3).unwrap()
}

fn xz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 1);
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn bzip2(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn many_members_frames_and_streams_are_read_to_the_end() {
    for encode in [gzip, zstd, xz, bzip2] {
        let whole: Vec<u8> = [&b"one "[..], b"", b"two ", b"three"].into_iter().flat_map(encode).collect();
        let (out, undecoded, error) = decoded(&whole);
        assert_eq!((&out[..], undecoded.len()), (&b"one two three"[..], 0));
        assert!(error.is_none(), "{error:?}");
    }
}

#[test]
fn large_streams_are_the_same() {
    let data: Vec<u8> = (0..3_000_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    for encode in [gzip, zstd, xz, bzip2] {
        let (out, _, error) = decoded(&encode(&data));
        assert!(error.is_none() && out == data);
    }
}

#[test]
fn zeros_after_the_last_stream_are_padding() {
    for encode in [gzip, zstd] {
        let (out, undecoded, error) = decoded(&[encode(b"data"), vec![0; 700]].concat());
        assert_eq!((&out[..], undecoded.len()), (&b"data"[..], 0));
        assert!(error.is_none(), "{error:?}");
    }
}

#[test]
fn bytes_after_the_last_stream_are_handed_on_and_an_error() {
    for encode in [gzip, zstd] {
        let (out, undecoded, error) = decoded(&[encode(b"data"), b"after".to_vec()].concat());
        assert_eq!((&out[..], &undecoded[0].bytes[..]), (&b"data"[..], &b"after"[..]));
        assert!(error.is_some());
    }
}

#[test]
fn header_fields_and_skippable_frames_are_handed_on() {
    let mut encoder = flate2::GzBuilder::new()
        .extra("extra")
        .filename("name")
        .comment("comment")
        .write(Vec::new(), flate2::Compression::default());
    encoder.write_all(b"data").unwrap();
    let (out, undecoded, error) = decoded(&encoder.finish().unwrap());
    let parts: Vec<(&str, &[u8])> = undecoded.iter().map(|part| (part.name, &part.bytes[..])).collect();
    assert!(error.is_none());
    assert_eq!(out, b"data");
    assert_eq!(parts, [("gzip extra field", &b"extra"[..]), ("gzip file name", b"name"), ("gzip comment", b"comment")]);
    let skippable = [&[0x50, 0x2a, 0x4d, 0x18, 2, 0, 0, 0, b'x', b'y'][..], &zstd(b"data")].concat();
    let (out, undecoded, error) = decoded(&skippable);
    assert!(error.is_none());
    assert_eq!((&out[..], &undecoded[0].bytes[..]), (&b"data"[..], &b"xy"[..]));
}

#[test]
fn truncated_and_damaged_streams_are_errors() {
    for encode in [gzip, zstd, xz, bzip2] {
        let whole = encode(b"some data that is longer than a few bytes");
        for length in MAGIC_BYTES + 4..whole.len() {
            assert!(decoded(&whole[..length]).2.is_some(), "{length} of {}", whole.len());
        }
    }
    let mut checksum = gzip(b"data");
    let at = checksum.len() - 8;
    checksum[at] ^= 1;
    assert!(decoded(&checksum).2.unwrap().to_string().contains("checksum"));
}

#[test]
fn a_window_beyond_the_limit_is_named() {
    let mut encoder = zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(28).unwrap();
    encoder.long_distance_matching(true).unwrap();
    encoder.write_all(b"data").unwrap();
    let error = decoded(&encoder.finish().unwrap()).2.unwrap();
    assert!(error.to_string().contains("256 MiB"), "{error}");
}
