//! Compressed streams: detects the codec by the first bytes of a stream, and decompresses it.
//!
//! Sources: RFC 1952 (gzip), RFC 8878 (Zstandard), and the magic numbers of bzip2, xz and lz4, so that errors
//! can name them. A gzip stream of many members and a Zstandard stream of many frames are read to their end.

use std::fmt;
use std::io::{self, BufReader, Read};

/// The compression of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    /// Not compressed.
    Plain,
    /// gzip.
    Gzip,
    /// Zstandard.
    Zstd,
    /// A compression that is recognized but not supported.
    Unsupported(&'static str),
}

/// The number of bytes that [`Codec::detect`] needs at most.
pub const MAGIC_BYTES: usize = 6;

/// The largest supported Zstandard window, as a power of two: 128 MiB, which `zstd --ultra -22` writes.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;

impl Codec {
    /// Detects the codec of a stream that begins with `head`.
    pub fn detect(head: &[u8]) -> Codec {
        match head {
            [0x1f, 0x8b, 8, ..] => Codec::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Codec::Zstd,
            // A skippable frame: zstd:chunked and pzstd may begin with one.
            [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Codec::Zstd,
            [b'B', b'Z', b'h', b'1'..=b'9', ..] => Codec::Unsupported("bzip2"),
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Codec::Unsupported("xz"),
            [0x04, 0x22, 0x4d, 0x18, ..] => Codec::Unsupported("lz4"),
            _ => Codec::Plain,
        }
    }

    /// A reader of the uncompressed bytes of `input`.
    ///
    /// # Errors
    /// `ErrorKind::Unsupported` for an unsupported codec, and errors of the decoder's initialization.
    pub fn reader<'a>(self, input: impl Read + Send + 'a) -> io::Result<Box<dyn Read + Send + 'a>> {
        const INPUT_BUFFER: usize = 128 << 10;
        match self {
            Codec::Plain => Ok(Box::new(input)),
            Codec::Gzip => {
                let input = BufReader::with_capacity(INPUT_BUFFER, input);
                Ok(Box::new(flate2::bufread::MultiGzDecoder::new(input)))
            }
            Codec::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::new(input)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
                Ok(Box::new(decoder))
            }
            Codec::Unsupported(name) => {
                Err(io::Error::new(io::ErrorKind::Unsupported, format!("{name} compression is not supported")))
            }
        }
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Codec::Plain => "plain",
            Codec::Gzip => "gzip",
            Codec::Zstd => "zstd",
            Codec::Unsupported(name) => name,
        })
    }
}

/// Reads from `input` until `buffer` is full or the input ends. Returns the number of bytes read.
///
/// # Errors
/// Any error of `input` except an interruption; the bytes read before it are lost.
pub fn read_full(input: &mut (impl Read + ?Sized), buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match input.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn undone(bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        Codec::detect(bytes).reader(bytes).unwrap().read_to_end(&mut out).unwrap();
        out
    }

    #[test]
    fn many_members_and_frames_are_read_to_the_end() {
        let mut gzip = Vec::new();
        let mut zstd = Vec::new();
        for part in [&b"one "[..], b"two ", b"three"] {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            encoder.write_all(part).unwrap();
            gzip.extend(encoder.finish().unwrap());
            zstd.extend(zstd::stream::encode_all(part, 3).unwrap());
        }
        assert_eq!(undone(&gzip), b"one two three");
        assert_eq!(undone(&zstd), b"one two three");
        let skippable = [&[0x50, 0x2a, 0x4d, 0x18, 2, 0, 0, 0, b'x', b'y'], &zstd[..]].concat();
        assert_eq!(undone(&skippable), b"one two three");
    }

    #[test]
    fn unsupported_codecs_are_named() {
        let error = Codec::detect(b"BZh91AY").reader(&b""[..]).err().unwrap();
        assert!(error.to_string().contains("bzip2"));
    }
}
