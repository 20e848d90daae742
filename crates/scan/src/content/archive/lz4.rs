//! lz4 frames. This module reads the frames, `lz4_flex` the blocks; checksums are not verified.
//!
//! Source: "LZ4 Frame Format Description" 1.6.4. The legacy format of Linux kernels has another magic number and is not
//! read.

use layersift_model::Gap;

use super::bytes::{le32, le64, take, without_zeros};
use super::level::{Format, MemberSink, Progress};
use super::stream::damaged;

const MAGIC: u32 = 0x184d_2204;

/// The magic number of skippable frames, without its lowest four bits.
const SKIPPABLE: u32 = 0x184d_2a50;

/// The number of earlier bytes that a block may refer to.
const WINDOW: usize = 64 << 10;

/// How many bytes of the buffer are cleared with the work of one byte.
const CLEARED: u64 = 96;

/// Whether `head` begins with a frame's magic number and a descriptor of this version.
pub(super) fn is_lz4(head: &[u8]) -> bool {
    le32(head, 0) == Some(MAGIC) && matches!(descriptor(head.get(4..).unwrap_or_default()), Some(Ok(_)))
}

#[derive(Clone, Copy, Debug)]
struct Descriptor {
    is_linked: bool,
    has_block_checksum: bool,
    has_content_checksum: bool,
    has_dictionary: bool,
    content: Option<u64>,
    block_max: usize,
    /// The size of the descriptor in bytes, including its checksum.
    bytes: usize,
}

/// Parses the descriptor after the magic number; `None` if more bytes are needed.
fn descriptor(bytes: &[u8]) -> Option<Result<Descriptor, ()>> {
    let (&flags, &sizes) = (bytes.first()?, bytes.get(1)?);
    let block_max = match sizes >> 4 {
        size @ 4..=7 => 1 << (8 + 2 * size),
        _ => return Some(Err(())),
    };
    if flags & 0xc2 != 0x40 || sizes & 0x8f != 0 {
        return Some(Err(()));
    }
    let has_dictionary = flags & 1 != 0;
    let has_size = flags & 8 != 0;
    let length = 3 + 8 * usize::from(has_size) + 4 * usize::from(has_dictionary);
    bytes.get(..length)?;
    Some(Ok(Descriptor {
        is_linked: flags & 0x20 == 0,
        has_block_checksum: flags & 0x10 != 0,
        has_content_checksum: flags & 4 != 0,
        has_dictionary,
        content: if has_size { le64(bytes, 2) } else { None },
        block_max,
        bytes: length,
    }))
}

/// The bytes of the buffer for a frame: two windows, so that output is not moved at every small block.
fn room(frame: Descriptor) -> usize {
    2 * WINDOW + frame.block_max
}

enum State {
    /// At the first frame.
    First,
    /// At another frame, or at the end of the last one.
    Frame,
    /// In a skippable frame, of which this many bytes remain.
    Skip(u64),
    /// At a block.
    Block(Descriptor),
}

/// A reader of lz4 frames.
pub(super) struct Lz4 {
    state: State,
    /// The output of the last blocks, and room for that of the next one.
    output: Vec<u8>,
    /// The number of bytes in it that are output.
    filled: usize,
    is_begun: bool,
}

impl Lz4 {
    pub(super) fn new() -> Lz4 {
        Lz4 { state: State::First, output: Vec::new(), filled: 0, is_begun: false }
    }

    fn frame(&mut self, input: &mut &[u8], sink: &mut MemberSink<'_, '_>) -> Result<Option<Progress>, Gap> {
        let is_first = matches!(self.state, State::First);
        if !is_first {
            *input = without_zeros(input);
        }
        let Some(magic) = le32(input, 0) else { return Ok(Some(Progress::More)) };
        if magic & !0xf == SKIPPABLE {
            let Some(size) = le32(input, 4) else { return Ok(Some(Progress::More)) };
            take(input, 8);
            self.state = State::Skip(u64::from(size));
            return Ok(None);
        }
        if magic != MAGIC {
            return if is_first { Err(damaged("invalid frame header")) } else { Ok(Some(Progress::End)) };
        }
        let Some(descriptor) = descriptor(input.get(4..).unwrap_or_default()) else {
            return Ok(Some(Progress::More));
        };
        let Ok(descriptor) = descriptor else { return Err(damaged("invalid frame header")) };
        if descriptor.has_dictionary {
            return Err(damaged("it needs an external dictionary"));
        }
        take(input, 4 + descriptor.bytes as u64);
        sink.work(room(descriptor).saturating_sub(self.output.len()) as u64 / CLEARED);
        self.filled = 0;
        if std::mem::replace(&mut self.is_begun, true) {
            sink.count_stream();
        } else {
            sink.begin(None, descriptor.content);
        }
        self.state = State::Block(descriptor);
        Ok(None)
    }

    fn block(&mut self, frame: Descriptor, input: &mut &[u8], sink: &mut MemberSink<'_, '_>) -> Result<bool, Gap> {
        let Some(word) = le32(input, 0) else { return Ok(false) };
        let size = (word & 0x7fff_ffff) as usize;
        let checksum = if word == 0 { frame.has_content_checksum } else { frame.has_block_checksum };
        let total = 4 + size + 4 * usize::from(checksum);
        if size > frame.block_max {
            return Err(damaged("a block is larger than its frame allows"));
        }
        let Some((block, rest)) = input.split_at_checked(total) else { return Ok(false) };
        if word == 0 {
            self.state = State::Frame;
        } else {
            let data = block.get(4..4 + size).unwrap_or_default();
            let start = self.make_room(frame);
            let written = self.decode(data, word >> 31 != 0, frame)?;
            self.filled = start + written;
            sink.inflated(self.output.get(start..self.filled).unwrap_or_default());
        }
        *input = rest;
        Ok(true)
    }

    /// Makes room for the output of a block and returns its offset. Drops output that no block can refer to any more.
    fn make_room(&mut self, frame: Descriptor) -> usize {
        let size = room(frame);
        if self.output.len() < size {
            self.output.resize(size, 0);
        }
        if !frame.is_linked {
            self.filled = 0;
        } else if self.filled + frame.block_max > self.output.len() {
            let start = self.filled.saturating_sub(WINDOW);
            self.output.copy_within(start..self.filled, 0);
            self.filled -= start;
        }
        self.filled
    }

    /// Decodes a block after the existing output. Returns the number of bytes decoded.
    fn decode(&mut self, data: &[u8], is_stored: bool, frame: Descriptor) -> Result<usize, Gap> {
        let (before, room) = self.output.split_at_mut(self.filled);
        let room = room.get_mut(..frame.block_max).unwrap_or_default();
        if is_stored {
            if let Some(room) = room.get_mut(..data.len()) {
                room.copy_from_slice(data);
            }
            return Ok(data.len());
        }
        let window = before.get(before.len().saturating_sub(WINDOW)..).unwrap_or_default();
        lz4_flex::block::decompress_into_with_dict(data, room, window).map_err(damaged)
    }
}

impl Format for Lz4 {
    fn push(&mut self, input: &mut &[u8], sink: &mut MemberSink<'_, '_>) -> Result<Progress, Gap> {
        loop {
            if sink.is_stopped() {
                *input = &[];
                return Ok(Progress::More);
            }
            match &mut self.state {
                State::First | State::Frame => {
                    if let Some(progress) = self.frame(input, sink)? {
                        return Ok(progress);
                    }
                }
                State::Skip(left) => {
                    *left -= take(input, *left).len() as u64;
                    if *left > 0 {
                        return Ok(Progress::More);
                    }
                    self.state = if self.is_begun { State::Frame } else { State::First };
                }
                State::Block(frame) => {
                    let frame = *frame;
                    if !self.block(frame, input, sink)? {
                        return Ok(Progress::More);
                    }
                }
            }
        }
    }

    fn finish(&mut self, rest: &[u8], _: &mut MemberSink<'_, '_>) -> Result<(), Gap> {
        if matches!(self.state, State::Frame) && rest.is_empty() { Ok(()) } else { Err(damaged("it is truncated")) }
    }
}
