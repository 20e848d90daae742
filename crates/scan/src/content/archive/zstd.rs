//! Zstandard.
//!
//! Source: RFC 8878; section 3.1.1.1.2 asks decoders for windows of at least 8 MiB.

use layersift_format::compression::{FRAME_HEADER_BYTES, WINDOW_LOG_MAX, window};
use zstd::stream::raw::{DParameter, Decoder, InBuffer, Operation, OutBuffer};

use layersift_model::Gap;

use super::level::Progress;
use super::stream::{Decode, Step, damaged, too_much_memory};

/// The memory of a decoder with the usual window. Only `--ultra` and `--long` write larger ones.
pub(super) const MEMORY: u64 = 8 << 20;

/// A decoder of one frame, which may be skippable.
pub(super) struct Zstd {
    decoder: Decoder<'static>,
    is_at_start: bool,
}

impl Zstd {
    pub(super) fn new() -> Result<Zstd, Gap> {
        let mut decoder = Decoder::new().map_err(damaged)?;
        decoder.set_parameter(DParameter::WindowLogMax(WINDOW_LOG_MAX)).map_err(damaged)?;
        Ok(Zstd { decoder, is_at_start: true })
    }
}

impl Decode for Zstd {
    fn extra_memory(&self, input: &[u8]) -> u64 {
        if !self.is_at_start {
            return 0;
        }
        // The header of a frame is rarely cut in two; then the window may be of any size.
        let unknown = if input.len() < FRAME_HEADER_BYTES { 1 << WINDOW_LOG_MAX } else { 0 };
        window(input).unwrap_or(unknown).min(1 << WINDOW_LOG_MAX).saturating_sub(MEMORY)
    }

    fn step(&mut self, input: &[u8], output: &mut [u8]) -> Step {
        let mut from = InBuffer::around(input);
        let mut to = OutBuffer::around(output);
        self.is_at_start &= input.is_empty();
        let result = self.decoder.run(&mut from, &mut to);
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
        self.is_at_start = true;
        self.decoder.reinit().map_err(damaged)
    }
}

fn fault(error: &std::io::Error) -> Gap {
    // The errors of the library differ only in their text.
    if error.to_string().contains("too much memory") {
        too_much_memory("its window is larger than 128 MiB")
    } else {
        damaged(error)
    }
}
