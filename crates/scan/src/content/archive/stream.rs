//! Compressed streams: drives a decoder over pushed bytes, for any number of concatenated streams.

use layersift_model::{Gap, GapReason};

use super::bytes::without_zeros;
use super::level::{Format, MemberSink, Progress};
use super::{bzip2, flate, xz, zstd};
use crate::memory::ExtraMemory;

/// The size of the output buffer in bytes.
const BUFFER: usize = 64 << 10;

/// A supported compression format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Codec {
    /// gzip, RFC 1952.
    Gzip,
    /// Deflate without a header, RFC 1951, as in zip archives.
    Deflate,
    /// zlib, RFC 1950.
    Zlib,
    /// bzip2.
    Bzip2,
    /// xz.
    Xz,
    /// The older ".lzma" format.
    Lzma,
    /// Zstandard.
    Zstd,
}

impl Codec {
    /// A decoder at the start of a stream.
    pub(super) fn decoder(self) -> Result<Box<dyn Decode>, Gap> {
        Ok(match self {
            Codec::Gzip => Box::new(flate::Flate::gzip()),
            Codec::Deflate => Box::new(flate::Flate::deflate()),
            Codec::Zlib => Box::new(flate::Flate::zlib()),
            Codec::Bzip2 => Box::new(bzip2::Bzip2::new()),
            Codec::Xz => Box::new(xz::Lzma::xz()?),
            Codec::Lzma => Box::new(xz::Lzma::alone()?),
            Codec::Zstd => Box::new(zstd::Zstd::new()?),
        })
    }

    /// The usual memory of a decoder in bytes.
    fn memory(self) -> u64 {
        match self {
            Codec::Gzip | Codec::Deflate | Codec::Zlib => 64 << 10,
            Codec::Bzip2 => 4 << 20,
            Codec::Xz | Codec::Lzma => xz::MEMORY,
            Codec::Zstd => zstd::MEMORY,
        }
    }

    /// The work of beginning a stream, beside that of a member: tables are cleared, and memory comes from the system.
    pub(super) fn start_work(self) -> u64 {
        match self {
            Codec::Gzip | Codec::Deflate | Codec::Zlib => 0,
            Codec::Bzip2 => 45_000,
            Codec::Xz | Codec::Lzma => 30_000,
            Codec::Zstd => 15_000,
        }
    }

    /// Whether another stream begins at `bytes`; `None` if more bytes are needed.
    fn goes_on(self, bytes: &[u8]) -> Option<bool> {
        let magic: &[u8] = match self {
            Codec::Gzip => &[0x1f, 0x8b, 8],
            Codec::Bzip2 => b"BZh",
            Codec::Xz => &[0xfd, b'7', b'z', b'X', b'Z', 0],
            Codec::Zstd if bytes.first().is_some_and(|byte| byte & 0xf0 == 0x50) => {
                return (bytes.len() >= 4).then(|| bytes.get(1..4) == Some(&[0x2a, 0x4d, 0x18]));
            }
            Codec::Zstd => &[0x28, 0xb5, 0x2f, 0xfd],
            Codec::Deflate | Codec::Zlib | Codec::Lzma => return Some(false),
        };
        if magic.starts_with(bytes) && bytes.len() < magic.len() { None } else { Some(bytes.starts_with(magic)) }
    }
}

/// The result of one step of a decoder.
pub(super) struct Step {
    /// The number of input bytes read.
    pub(super) read: usize,
    /// The number of output bytes written.
    pub(super) written: usize,
    /// Whether the stream continues. The output is valid even if it does not.
    pub(super) state: Result<Progress, Gap>,
}

/// A decoder of one compressed stream.
pub(super) trait Decode: Send {
    /// The memory in bytes that the stream beginning with `input` needs beyond the usual.
    fn extra_memory(&self, _input: &[u8]) -> u64 {
        0
    }
    /// The memory in bytes that the decoder needs in all to go on, if it has too little.
    fn wanted_memory(&self) -> Option<u64> {
        None
    }
    /// Allows `bytes` of memory in all.
    fn allow_memory(&mut self, _bytes: u64) -> Result<(), Gap> {
        Ok(())
    }
    /// Decompresses `input` to `output` until one of them is used up.
    fn step(&mut self, input: &[u8], output: &mut [u8]) -> Step;
    /// Prepares the decoder for a new stream.
    fn restart(&mut self) -> Result<(), Gap>;
}

/// The gap of a damaged stream.
pub(super) fn damaged(detail: impl std::fmt::Display) -> Gap {
    Gap::new(GapReason::DamagedCompression, format!("a compressed stream is damaged: {detail}"))
}

/// The gap of a stream that needs more memory than the limit.
pub(super) fn too_much_memory(detail: impl std::fmt::Display) -> Gap {
    Gap::new(GapReason::UnsupportedCompression, format!("a compressed stream needs too much memory: {detail}"))
}

/// A decoder with its buffer and counters.
pub(super) struct Inflater {
    /// Its compression format.
    pub(super) codec: Codec,
    decoder: Box<dyn Decode>,
    buffer: Vec<u8>,
    /// The number of compressed bytes read.
    pub(super) read: u64,
    /// The number of bytes decompressed.
    pub(super) written: u64,
    /// The CRC-32 of the output, if requested.
    pub(super) crc: Option<crc32fast::Hasher>,
    /// The usual memory of the decoder, and what the stream needs beyond it.
    _memory: ExtraMemory,
    extra_memory: Option<ExtraMemory>,
}

impl Inflater {
    pub(super) fn new(codec: Codec, sink: &mut MemberSink<'_, '_>) -> Result<Inflater, Gap> {
        sink.work(codec.start_work());
        let memory = sink.memory(codec.memory() + BUFFER as u64)?;
        let (decoder, buffer) = (codec.decoder()?, vec![0; BUFFER]);
        Ok(Inflater { codec, decoder, buffer, read: 0, written: 0, crc: None, _memory: memory, extra_memory: None })
    }

    /// Decompresses from the front of `input` into the open member, to the end of the input or of the stream.
    pub(super) fn run(&mut self, input: &mut &[u8], sink: &mut MemberSink<'_, '_>) -> Result<Progress, Gap> {
        loop {
            if sink.is_stopped() {
                *input = &[];
                return Ok(Progress::More);
            }
            let extra = self.decoder.extra_memory(input);
            if self.read == 0 && extra > 0 {
                self.extra_memory = None;
                self.extra_memory = Some(sink.memory(extra)?);
            }
            let step = self.decoder.step(input, &mut self.buffer);
            *input = input.get(step.read..).unwrap_or_default();
            let made = self.buffer.get(..step.written).unwrap_or_default();
            self.read += step.read as u64;
            self.written += made.len() as u64;
            if let Some(crc) = &mut self.crc {
                crc.update(made);
            }
            sink.inflated(made);
            if step.state? == Progress::End {
                return Ok(Progress::End);
            }
            let was_short = self.decoder.wanted_memory().is_some();
            while let Some(bytes) = self.decoder.wanted_memory() {
                self.extra_memory = None;
                self.extra_memory = Some(sink.memory(bytes.saturating_sub(self.codec.memory()))?);
                self.decoder.allow_memory(bytes)?;
            }
            if was_short {
                continue;
            }
            if input.is_empty() && step.written < BUFFER {
                return Ok(Progress::More);
            }
            if step.read == 0 && step.written == 0 {
                return Err(damaged("the decoder makes no progress"));
            }
        }
    }

    /// Prepares the decoder for a new stream, and resets the counters.
    pub(super) fn restart(&mut self, sink: &mut MemberSink<'_, '_>) -> Result<(), Gap> {
        sink.work(self.codec.start_work());
        (self.read, self.written, self.crc) = (0, 0, None);
        self.decoder.restart()
    }
}

enum State {
    Start,
    Inside(Inflater),
    /// After a stream: padding zeros or another stream may follow.
    Between(Inflater),
}

/// A file of one or more streams of one compression format.
pub(super) struct Stream {
    codec: Codec,
    state: State,
}

impl Stream {
    pub(super) fn new(codec: Codec) -> Stream {
        Stream { codec, state: State::Start }
    }

    fn between(&mut self, input: &mut &[u8], sink: &mut MemberSink<'_, '_>) -> Result<Option<Progress>, Gap> {
        *input = without_zeros(input);
        match self.codec.goes_on(input) {
            None => Ok(Some(Progress::More)),
            Some(false) => Ok(Some(Progress::End)),
            Some(true) => {
                sink.count_stream();
                if let State::Between(mut inflater) = std::mem::replace(&mut self.state, State::Start) {
                    inflater.restart(sink)?;
                    self.state = State::Inside(inflater);
                }
                Ok(None)
            }
        }
    }
}

impl Format for Stream {
    fn push(&mut self, input: &mut &[u8], sink: &mut MemberSink<'_, '_>) -> Result<Progress, Gap> {
        loop {
            match &mut self.state {
                State::Start => {
                    self.state = State::Inside(Inflater::new(self.codec, sink)?);
                    sink.begin(None, None);
                }
                State::Inside(inflater) => {
                    if inflater.run(input, sink)? == Progress::More {
                        return Ok(Progress::More);
                    }
                    if let State::Inside(inflater) = std::mem::replace(&mut self.state, State::Start) {
                        self.state = State::Between(inflater);
                    }
                }
                State::Between(_) => {
                    if let Some(progress) = self.between(input, sink)? {
                        return Ok(progress);
                    }
                }
            }
        }
    }

    fn finish(&mut self, rest: &[u8], _: &mut MemberSink<'_, '_>) -> Result<(), Gap> {
        match self.state {
            // The rest between streams is the start of a magic number.
            State::Between(_) if rest.is_empty() => Ok(()),
            _ => Err(damaged("it is truncated")),
        }
    }
}
