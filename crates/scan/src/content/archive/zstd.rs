//! Zstandard.
//!
//! Source: RFC 8878; section 3.1.1.1.2 asks decoders for windows of at least 8 MiB.

use zstd::stream::raw::{DParameter, Decoder, InBuffer, Operation, OutBuffer};

use layersift_model::Gap;

use super::level::Progress;
use super::stream::{Decode, Step, damaged, too_much_memory};

/// The largest supported window, as a power of two: 32 MiB. Only `--ultra` and `--long` write larger ones.
pub(super) const WINDOW_LOG_MAX: u32 = 25;

/// A decoder of one frame, which may be skippable.
pub(super) struct Zstd(Decoder<'static>);

impl Zstd {
    pub(super) fn new() -> Result<Zstd, Gap> {
        let mut decoder = Decoder::new().map_err(damaged)?;
        decoder.set_parameter(DParameter::WindowLogMax(WINDOW_LOG_MAX)).map_err(damaged)?;
        Ok(Zstd(decoder))
    }
}

impl Decode for Zstd {
    fn step(&mut self, input: &[u8], output: &mut [u8]) -> Step {
        let mut from = InBuffer::around(input);
        let mut to = OutBuffer::around(output);
        let result = self.0.run(&mut from, &mut to);
        Step {
            read: from.pos(),
            written: to.pos(),
            state: match result {
                Ok(0) => Ok(Progress::End),
                Ok(_) => Ok(Progress::More),
                Err(error) => Err(fault(&error)),
            },
        }
    }

    fn restart(&mut self) -> Result<(), Gap> {
        self.0.reinit().map_err(damaged)
    }
}

fn fault(error: &std::io::Error) -> Gap {
    // The errors of the library differ only in their text.
    if error.to_string().contains("too much memory") {
        too_much_memory("its window is larger than 32 MiB")
    } else {
        damaged(error)
    }
}
