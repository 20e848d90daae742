//! Deflate, alone and as gzip.
//!
//! Sources: RFC 1951 and RFC 1952; zlib-ng reads both, checks the CRC and the length of gzip.

use flate2::{Decompress, FlushDecompress, Status};

use layersift_model::Gap;

use super::level::Progress;
use super::stream::{Decode, Step, damaged};

/// The largest window of Deflate, as a power of two.
const WINDOW_BITS: u8 = 15;

/// A decoder of deflate.
pub(super) struct Flate {
    stream: Decompress,
    is_gzip: bool,
}

impl Flate {
    /// With the header and the trailer of gzip.
    pub(super) fn gzip() -> Flate {
        Flate { stream: Decompress::new_gzip(WINDOW_BITS), is_gzip: true }
    }

    /// Without header and trailer.
    pub(super) fn deflate() -> Flate {
        Flate { stream: Decompress::new(false), is_gzip: false }
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
        if self.is_gzip {
            // A reset stream expects no gzip header.
            *self = Flate::gzip();
        } else {
            self.stream.reset(false);
        }
        Ok(())
    }
}
