//! Deflate, alone, as gzip and as zlib.
//!
//! Sources: RFC 1950 to RFC 1952; zlib-ng reads all, checks the CRC and the length of gzip, and the checksum of zlib.

use flate2::{Decompress, FlushDecompress, Status};

use layersift_model::Gap;

use super::HEAD_BYTES;
use super::level::Progress;
use super::stream::{Decode, Step, damaged};

/// The largest window of Deflate, as a power of two.
const WINDOW_BITS: u8 = 15;

/// The work of trying whether a file is a zlib stream.
pub(super) const ZLIB_TRIAL: u64 = 5_000;

/// The most bytes that such a trial decompresses.
const TRIAL_BYTES: usize = 16 << 10;

/// Whether `head` begins with a zlib stream. Its two first bytes say little, so this tries to decompress the others.
pub(super) fn is_zlib(head: &[u8]) -> bool {
    may_be_zlib(head) && decompresses(head)
}

/// Whether `head` begins with the header of zlib, without a preset dictionary.
pub(super) fn may_be_zlib(head: &[u8]) -> bool {
    let [method, flags, _, ..] = head else { return false };
    method & 15 == 8 && method >> 4 <= 7 && flags & 32 == 0 && u16::from_be_bytes([*method, *flags]) % 31 == 0
}

/// Whether `head` is a whole stream, or one that goes on behind it.
fn decompresses(head: &[u8]) -> bool {
    let mut stream = Decompress::new(true);
    let mut output = vec![0; TRIAL_BYTES];
    match stream.decompress(head, &mut output, FlushDecompress::None) {
        Ok(Status::StreamEnd) => true,
        Ok(_) => stream.total_out() > 0 && (head.len() >= HEAD_BYTES || stream.total_out() == TRIAL_BYTES as u64),
        Err(_) => false,
    }
}

/// A decoder of deflate.
pub(super) struct Flate {
    stream: Decompress,
    form: Form,
}

/// What is around the compressed bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Bare,
    Gzip,
    Zlib,
}

impl Flate {
    /// With the header and the trailer of gzip.
    pub(super) fn gzip() -> Flate {
        Flate { stream: Decompress::new_gzip(WINDOW_BITS), form: Form::Gzip }
    }

    /// Without header and trailer.
    pub(super) fn deflate() -> Flate {
        Flate { stream: Decompress::new(false), form: Form::Bare }
    }

    /// With the header and the checksum of zlib.
    pub(super) fn zlib() -> Flate {
        Flate { stream: Decompress::new(true), form: Form::Zlib }
    }
}

impl Decode for Flate {
    fn step(&mut self, input: &[u8], output: &mut [u8]) -> Step {
        let before = (self.stream.total_in(), self.stream.total_out());
        let status = self.stream.decompress(input, output, FlushDecompress::None);
        Step {
            read: (self.stream.total_in() - before.0) as usize,
            written: (self.stream.total_out() - before.1) as usize,
            state: match status {
                Ok(Status::StreamEnd) => Ok(Progress::End),
                Ok(Status::Ok | Status::BufError) => Ok(Progress::More),
                Err(error) => Err(damaged(error)),
            },
        }
    }

    fn restart(&mut self) -> Result<(), Gap> {
        match self.form {
            // A reset stream expects no gzip header.
            Form::Gzip => *self = Flate::gzip(),
            form => self.stream.reset(form == Form::Zlib),
        }
        Ok(())
    }
}
