//! gzip streams of any number of members.
//!
//! Source: RFC 1952. Zeros after the last member are padding, as the `gzip` program reads them.

use std::io::{self, BufRead, Read};

use flate2::{Crc, Decompress, FlushDecompress, Status};

use super::undecoded::Undecoded;

/// Flags of a header, RFC 1952, section 2.3.1.
const HEADER_CRC: u8 = 2;
const EXTRA: u8 = 4;
const NAME: u8 = 8;
const COMMENT: u8 = 16;

/// The longest name or comment in bytes; a longer one is damage.
const LONGEST_TEXT: u64 = 1 << 20;

/// Reads the uncompressed bytes of a gzip stream.
pub(super) struct GzipReader<'d, R> {
    input: R,
    undecoded: &'d Undecoded,
    inflate: Decompress,
    crc: Crc,
    state: State,
    has_members: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Header,
    Body,
    End,
}

impl<'d, R: BufRead> GzipReader<'d, R> {
    pub(super) fn new(input: R, undecoded: &'d Undecoded) -> GzipReader<'d, R> {
        let inflate = Decompress::new(false);
        GzipReader { input, undecoded, inflate, crc: Crc::new(), state: State::Header, has_members: false }
    }

    /// Reads the header of the next member, or the end of the stream.
    fn header(&mut self) -> io::Result<State> {
        let Some(first) = self.next_after_padding()? else {
            return if self.has_members { Ok(State::End) } else { Err(truncated()) };
        };
        let mut magic = [first, 0];
        let length = 1 + super::read_full(&mut self.input, &mut magic[1..])?;
        if magic != [0x1f, 0x8b] {
            return Err(self.trailing(&magic[..length])?);
        }
        let mut fixed = [0; 8];
        self.input.read_exact(&mut fixed)?;
        let [method, flags, ..] = fixed;
        if method != 8 {
            return Err(damaged("unknown compression method"));
        }
        if flags & EXTRA != 0 {
            let mut length = [0; 2];
            self.input.read_exact(&mut length)?;
            let mut field = vec![0; usize::from(u16::from_le_bytes(length))];
            self.input.read_exact(&mut field)?;
            self.keep("gzip extra field", &field);
        }
        for (flag, name) in [(NAME, "gzip file name"), (COMMENT, "gzip comment")] {
            if flags & flag != 0 {
                let text = self.text()?;
                self.keep(name, &text);
            }
        }
        if flags & HEADER_CRC != 0 {
            // Not checked: a wrong one changes nothing about the data, and some readers ignore it.
            self.input.read_exact(&mut [0; 2])?;
        }
        self.inflate.reset(false);
        self.crc = Crc::new();
        self.has_members = true;
        Ok(State::Body)
    }

    /// The next byte, after zeros if a member came before.
    fn next_after_padding(&mut self) -> io::Result<Option<u8>> {
        loop {
            let buffer = self.input.fill_buf()?;
            let zeros = if self.has_members { buffer.iter().take_while(|&&byte| byte == 0).count() } else { 0 };
            match buffer.get(zeros) {
                Some(&byte) => {
                    self.input.consume(zeros + 1);
                    return Ok(Some(byte));
                }
                None if zeros == 0 => return Ok(None),
                None => self.input.consume(zeros),
            }
        }
    }

    /// Hands on the rest of the input, which is not gzip, and begins with `start`. Returns the error for it.
    fn trailing(&mut self, start: &[u8]) -> io::Result<io::Error> {
        self.keep("bytes after the gzip stream", start);
        loop {
            let buffer = self.input.fill_buf()?;
            if buffer.is_empty() {
                return Ok(damaged("there are bytes after the end of the stream"));
            }
            self.undecoded.push(buffer);
            let length = buffer.len();
            self.input.consume(length);
        }
    }

    /// A text that ends with a zero.
    fn text(&mut self) -> io::Result<Vec<u8>> {
        let mut text = Vec::new();
        self.input.by_ref().take(LONGEST_TEXT).read_until(0, &mut text)?;
        if text.pop() == Some(0) { Ok(text) } else { Err(damaged("a text of the header does not end")) }
    }

    fn keep(&self, name: &'static str, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.undecoded.begin(name);
            self.undecoded.push(bytes);
        }
    }

    /// Decompresses into `buffer`. Returns 0 at the end of the member, whose checksum and length are verified.
    fn body(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let input = self.input.fill_buf()?;
            let is_at_end = input.is_empty();
            let before = (self.inflate.total_in(), self.inflate.total_out());
            let flush = if is_at_end { FlushDecompress::Finish } else { FlushDecompress::None };
            let status = self.inflate.decompress(input, buffer, flush).map_err(|error| damaged(&error.to_string()))?;
            let read = (self.inflate.total_in() - before.0) as usize;
            let written = (self.inflate.total_out() - before.1) as usize;
            self.input.consume(read);
            self.crc.update(&buffer[..written]);
            match status {
                Status::StreamEnd => {
                    self.state = State::Header;
                    self.trailer()?;
                    return Ok(written);
                }
                _ if written > 0 => return Ok(written),
                _ if is_at_end => return Err(truncated()),
                _ => {}
            }
        }
    }

    fn trailer(&mut self) -> io::Result<()> {
        let mut trailer = [0; 8];
        self.input.read_exact(&mut trailer)?;
        let [a, b, c, d, e, f, g, h] = trailer;
        if u32::from_le_bytes([a, b, c, d]) != self.crc.sum() {
            return Err(damaged("the checksum does not match"));
        }
        // The length is stored modulo 2^32, as `amount` counts it.
        if u32::from_le_bytes([e, f, g, h]) != self.crc.amount() {
            return Err(damaged("the length does not match"));
        }
        Ok(())
    }
}

impl<R: BufRead> Read for GzipReader<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            match self.state {
                State::Header => self.state = self.header()?,
                State::End => return Ok(0),
                State::Body => {
                    let count = self.body(buffer)?;
                    if count > 0 {
                        return Ok(count);
                    }
                }
            }
        }
    }
}

fn damaged(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

fn truncated() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the stream is truncated")
}
