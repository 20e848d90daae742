//! Compressed streams: detects the codec by the first bytes of a stream, and decompresses it.
//!
//! A stream of many gzip members, Zstandard frames, or xz or bzip2 streams is read to its end. Bytes that the format
//! allows and that decompression does not give, such as a comment, are handed to [`Undecoded`].

mod bounded;
mod gzip;
mod undecoded;
mod zstandard;

use std::any::Any;
use std::fmt;
use std::io::{self, BufReader, Read};

pub use bounded::{Bounded, CompressedBytes, WholeReads, is_zeros, read_until_error};
pub use undecoded::{Undecoded, UndecodedPart};
pub use zstandard::{FRAME_HEADER_BYTES, WINDOW_LOG_MAX, window};

/// The compression of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    /// Not compressed.
    Plain,
    /// gzip.
    Gzip,
    /// Zstandard.
    Zstd,
    /// xz.
    Xz,
    /// bzip2.
    Bzip2,
}

/// The number of bytes that [`Codec::detect`] needs at most.
pub const MAGIC_BYTES: usize = 6;

/// The memory limit of an xz decoder in bytes: a dictionary of 64 MiB, which `xz -9` uses, and tables.
const XZ_MEMORY: u64 = 66 << 20;

/// The memory of a bzip2 decoder in bytes.
const BZIP2_MEMORY: u64 = 4 << 20;

/// Input that is read ahead of a decoder.
const INPUT_BUFFER: usize = 128 << 10;

/// Memory that a decoder holds until it is dropped.
pub type DecoderMemory = Box<dyn Any + Send>;

impl Decoding<'_> {
    fn take(&self, bytes: u64) -> io::Result<DecoderMemory> {
        let refused = || io::Error::new(io::ErrorKind::Unsupported, "it needs more memory than one layer may have");
        (self.memory)(bytes).ok_or_else(refused)
    }
}

/// What a decoder works with besides its input.
#[derive(Clone, Copy)]
pub struct Decoding<'d> {
    /// Receives the bytes that decompression does not give.
    pub undecoded: &'d Undecoded,
    /// Called with the number of bytes of memory that the decoder is about to take beyond a few megabytes. May wait.
    /// `None` refuses them.
    pub memory: &'d (dyn Fn(u64) -> Option<DecoderMemory> + Sync),
}

impl Codec {
    /// Detects the codec of a stream that begins with `head`.
    pub fn detect(head: &[u8]) -> Codec {
        match head {
            [0x1f, 0x8b, 8, ..] => Codec::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Codec::Zstd,
            // A skippable frame: zstd:chunked and pzstd may begin with one.
            [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Codec::Zstd,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Codec::Xz,
            [b'B', b'Z', b'h', b'1'..=b'9', 0x31, 0x41, ..] | [b'B', b'Z', b'h', b'1'..=b'9', 0x17, 0x72, ..] => {
                Codec::Bzip2
            }
            _ => Codec::Plain,
        }
    }

    /// A reader of the uncompressed bytes of `input`.
    ///
    /// # Errors
    /// Errors of the decoder's initialization.
    pub fn reader<'a>(
        self,
        input: impl Read + Send + 'a,
        decoding: Decoding<'a>,
    ) -> io::Result<Box<dyn Read + Send + 'a>> {
        if self == Codec::Plain {
            return Ok(Box::new(input));
        }
        let input = BufReader::with_capacity(INPUT_BUFFER, input);
        Ok(match self {
            Codec::Plain => Box::new(input),
            Codec::Gzip => Box::new(gzip::GzipReader::new(input, decoding.undecoded)),
            Codec::Zstd => Box::new(zstandard::ZstdReader::new(input, decoding)?),
            Codec::Xz => {
                let stream = liblzma::stream::Stream::new_stream_decoder(XZ_MEMORY, liblzma::stream::CONCATENATED)?;
                let decoder = liblzma::bufread::XzDecoder::new_stream(input, stream);
                Box::new(WithMemory { decoder, _memory: decoding.take(XZ_MEMORY)? })
            }
            Codec::Bzip2 => {
                let decoder = bzip2::bufread::MultiBzDecoder::new(input);
                Box::new(WithMemory { decoder, _memory: decoding.take(BZIP2_MEMORY)? })
            }
        })
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Codec::Plain => "plain",
            Codec::Gzip => "gzip",
            Codec::Zstd => "zstd",
            Codec::Xz => "xz",
            Codec::Bzip2 => "bzip2",
        })
    }
}

/// A decoder and its memory.
struct WithMemory<R> {
    decoder: R,
    _memory: DecoderMemory,
}

impl<R: Read> Read for WithMemory<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.decoder.read(buffer)
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
mod tests;
