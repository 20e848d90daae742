//! Zstandard streams of any number of frames.
//!
//! Source: RFC 8878, section 3.1. The decoder allocates the window of a frame when the frame begins, so memory is asked
//! for frame by frame.

use std::io::{self, BufRead, Read};

use zstd::stream::raw::{DParameter, Decoder, InBuffer, Operation, OutBuffer};

use super::{DecoderMemory, Decoding};

/// The largest supported window of Zstandard, as a power of two: 128 MiB, which `zstd --ultra -22` writes.
pub const WINDOW_LOG_MAX: u32 = 27;

/// Windows up to this size are part of what every layer may take.
const FREE_WINDOW: u64 = 8 << 20;

/// The most bytes of the header of a Zstandard frame.
pub const FRAME_HEADER_BYTES: usize = 18;

/// Reads the uncompressed bytes of a Zstandard stream.
pub(super) struct ZstdReader<'d, R> {
    input: R,
    decoding: Decoding<'d>,
    decoder: Decoder<'static>,
    /// Bytes that were read ahead, and how many of them were taken since.
    ahead: Vec<u8>,
    taken: usize,
    state: State,
    has_frames: bool,
    _memory: Option<DecoderMemory>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Between,
    Frame,
    End,
}

impl<'d, R: BufRead> ZstdReader<'d, R> {
    pub(super) fn new(input: R, decoding: Decoding<'d>) -> io::Result<ZstdReader<'d, R>> {
        let mut decoder = Decoder::new()?;
        decoder.set_parameter(DParameter::WindowLogMax(WINDOW_LOG_MAX))?;
        Ok(ZstdReader {
            input,
            decoding,
            decoder,
            ahead: Vec::new(),
            taken: 0,
            state: State::Between,
            has_frames: false,
            _memory: None,
        })
    }

    /// Reads ahead until `count` bytes of the input are known, or it ends.
    fn peek(&mut self, count: usize) -> io::Result<&[u8]> {
        self.ahead.drain(..self.taken);
        self.taken = 0;
        let known = self.ahead.len();
        if known < count {
            self.ahead.resize(count, 0);
            let read = super::read_full(&mut self.input, &mut self.ahead[known..])?;
            self.ahead.truncate(known + read);
        }
        Ok(&self.ahead)
    }

    /// The next bytes of the input; empty at its end.
    fn chunk(&mut self) -> io::Result<&[u8]> {
        if self.taken < self.ahead.len() { Ok(&self.ahead[self.taken..]) } else { self.input.fill_buf() }
    }

    /// Takes `count` bytes of the last chunk.
    fn consume(&mut self, count: usize) {
        if self.taken < self.ahead.len() {
            self.taken += count;
        } else {
            self.input.consume(count);
        }
    }

    /// Reads the beginning of the next frame, or a skippable frame to its end.
    fn between(&mut self) -> io::Result<State> {
        let head = self.peek(FRAME_HEADER_BYTES)?.to_vec();
        match head[..] {
            [] if self.has_frames => return Ok(State::End),
            [0x50..=0x5f, 0x2a, 0x4d, 0x18, a, b, c, d, ..] => {
                self.has_frames = true;
                self.taken = 8;
                self.skippable(u64::from(u32::from_le_bytes([a, b, c, d])))?;
                return Ok(State::Between);
            }
            [0x28, 0xb5, 0x2f, 0xfd, ..] => {}
            _ => return self.trailing(),
        }
        self.has_frames = true;
        self._memory = None;
        let window = window(&head).unwrap_or(0);
        if window > 1 << WINDOW_LOG_MAX {
            let mib = window.div_ceil(1 << 20);
            let reason = format!("its window of {mib} MiB is larger than the limit of 128 MiB");
            return Err(io::Error::new(io::ErrorKind::Unsupported, reason));
        }
        if window > FREE_WINDOW {
            self._memory = Some(self.decoding.take(window)?);
        }
        self.decoder.reinit()?;
        Ok(State::Frame)
    }

    /// Hands on the contents of a skippable frame, which are `left` bytes.
    fn skippable(&mut self, mut left: u64) -> io::Result<()> {
        let undecoded = self.decoding.undecoded;
        undecoded.begin("skippable frame of Zstandard");
        while left > 0 {
            let chunk = self.chunk()?;
            if chunk.is_empty() {
                return Err(truncated());
            }
            let count = usize::try_from(left).unwrap_or(usize::MAX).min(chunk.len());
            undecoded.push(&chunk[..count]);
            self.consume(count);
            left -= count as u64;
        }
        Ok(())
    }

    /// The rest of the input is no frame: zeros are padding, and anything else is handed on.
    fn trailing(&mut self) -> io::Result<State> {
        let undecoded = self.decoding.undecoded;
        let mut is_padding = self.has_frames;
        loop {
            let chunk = self.chunk()?;
            if chunk.is_empty() {
                break;
            }
            if is_padding && chunk.iter().any(|&byte| byte != 0) {
                is_padding = false;
                undecoded.begin("bytes after the Zstandard stream");
            }
            if !is_padding {
                undecoded.push(chunk);
            }
            let length = chunk.len();
            self.consume(length);
        }
        if is_padding {
            return Ok(State::End);
        }
        Err(io::Error::new(io::ErrorKind::InvalidData, "there are bytes after the end of the stream"))
    }

    /// Decompresses into `buffer`. Returns 0 at the end of the frame.
    fn frame(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let is_ahead = self.taken < self.ahead.len();
            let input = if is_ahead { &self.ahead[self.taken..] } else { self.input.fill_buf()? };
            let is_at_end = input.is_empty();
            let mut from = InBuffer::around(input);
            let mut to = OutBuffer::around(&mut *buffer);
            let hint = self.decoder.run(&mut from, &mut to)?;
            let (read, written) = (from.pos(), to.pos());
            self.consume(read);
            if hint == 0 {
                self.state = State::Between;
                return Ok(written);
            }
            if written > 0 {
                return Ok(written);
            }
            if is_at_end {
                return Err(truncated());
            }
        }
    }
}

impl<R: BufRead> Read for ZstdReader<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            match self.state {
                State::Between => self.state = self.between()?,
                State::End => return Ok(0),
                State::Frame => {
                    let count = self.frame(buffer)?;
                    if count > 0 {
                        return Ok(count);
                    }
                }
            }
        }
    }
}

/// The window size in bytes that the Zstandard frame beginning with `head` asks for; `None` if `head` is too short, or
/// the frame is skippable.
pub fn window(head: &[u8]) -> Option<u64> {
    let descriptor = *head.get(4).filter(|_| head.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]))?;
    let is_single = descriptor & 0x20 != 0;
    if !is_single {
        let window = *head.get(5)?;
        let base = 1u64 << (10 + u32::from(window >> 3));
        return Some(base + base / 8 * u64::from(window & 7));
    }
    let dictionary = [0, 1, 2, 4][usize::from(descriptor & 3)];
    let field = head.get(5 + dictionary..)?;
    Some(match descriptor >> 6 {
        0 => u64::from(*field.first()?),
        1 => u64::from(u16::from_le_bytes(*field.first_chunk()?)) + 256,
        2 => u64::from(u32::from_le_bytes(*field.first_chunk()?)),
        _ => u64::from_le_bytes(*field.first_chunk()?),
    })
}

fn truncated() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the stream is truncated")
}
