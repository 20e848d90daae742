//! bzip2.
//!
//! Source: "BZIP2: Format Specification" by Joe Tsai, 2016; the library checks the CRCs of blocks and streams.

use bzip2::{Decompress, Status};

use layersift_model::Gap;

use super::level::Progress;
use super::stream::{Decode, Step, damaged};

/// A decoder of one bzip2 stream. It uses at most 3.7 MiB of memory.
pub(super) struct Bzip2(Decompress);

impl Bzip2 {
    pub(super) fn new() -> Bzip2 {
        Bzip2(Decompress::new(false))
    }
}

impl Decode for Bzip2 {
    fn step(&mut self, input: &[u8], output: &mut [u8]) -> Step {
        let before = (self.0.total_in(), self.0.total_out());
        let status = self.0.decompress(input, output);
        Step {
            read: (self.0.total_in() - before.0) as usize,
            written: (self.0.total_out() - before.1) as usize,
            state: match status {
                Ok(Status::StreamEnd) => Ok(Progress::End),
                Ok(_) => Ok(Progress::More),
                Err(error) => Err(damaged(error)),
            },
        }
    }

    fn restart(&mut self) -> Result<(), Gap> {
        *self = Bzip2::new();
        Ok(())
    }
}
