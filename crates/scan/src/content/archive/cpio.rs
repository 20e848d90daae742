//! cpio: initial RAM file systems, and the payload of RPM packages.
//!
//! Sources: Linux' "initramfs buffer format" for newc (070701) and crc (070702), cpio(5) of FreeBSD for odc (070707).
//! The kernel accepts concatenated archives with zeros between them, and so does this reader. Only regular files are
//! members.

use layersift_model::{Gap, GapReason};

use super::bytes::{Body, digits, without_zeros};
use super::level::{Format, MemberSink, Progress};

/// The maximum length of a name in bytes; the kernel accepts 4096.
const LONGEST_NAME: u64 = 64 << 10;

/// The name of the entry that ends an archive.
const TRAILER: &[u8] = b"TRAILER!!!";

/// The file type bits of a mode, and the type of a symbolic link, whose data are its target.
const KIND: u64 = 0o170_000;
const SYMLINK: u64 = 0o120_000;

/// Whether `head` begins with a header of digits.
pub(super) fn is_cpio(head: &[u8]) -> bool {
    matches!(header(head), Some(Ok(_)))
}

struct Header {
    mode: u64,
    size: u64,
    name: u64,
    /// The size of the header in bytes.
    bytes: u64,
    /// The alignment in bytes.
    unit: u64,
}

/// Parses the header at the start of `bytes`; `None` if more bytes are needed.
fn header(bytes: &[u8]) -> Option<Result<Header, ()>> {
    let odc = [(18, 6), (65, 11), (59, 6)];
    let newc = [(14, 8), (54, 8), (94, 8)];
    let (fields, length, radix, unit) = match bytes.get(..6)? {
        b"070707" => (odc, 76, 8, 1),
        b"070701" | b"070702" => (newc, 110, 16, 4),
        _ => return Some(Err(())),
    };
    let header = bytes.get(..length)?;
    let field = |at: usize, count: usize| digits(header.get(at..at + count)?, radix);
    let numbers = fields.map(|(at, count)| field(at, count));
    let all_digits = digits_only(header.get(6..).unwrap_or_default(), radix);
    Some(match numbers {
        [Some(mode), Some(size), Some(name)] if all_digits && (1..=LONGEST_NAME).contains(&name) => {
            Ok(Header { mode, size, name, bytes: length as u64, unit })
        }
        _ => Err(()),
    })
}

fn digits_only(bytes: &[u8], radix: u32) -> bool {
    bytes.iter().all(|&byte| char::from(byte).is_digit(radix))
}

enum State {
    Header,
    Data(Body),
    /// After a trailer.
    Ended,
}

/// A reader of cpio.
pub(super) struct Cpio {
    state: State,
}

impl Cpio {
    pub(super) fn new() -> Cpio {
        Cpio { state: State::Header }
    }

    /// Reads a header with its name. Returns `false` if more bytes are needed.
    fn entry(&mut self, input: &mut &[u8], sink: &mut MemberSink<'_, '_>) -> Result<bool, Gap> {
        let Some(header) = header(input) else { return Ok(false) };
        let Ok(header) = header else { return Err(damaged("invalid header")) };
        let name_end = header.bytes + header.name;
        let start = name_end.next_multiple_of(header.unit);
        let Some((front, rest)) = input.split_at_checked(start as usize) else { return Ok(false) };
        let name = front.get(header.bytes as usize..name_end as usize).unwrap_or_default();
        let name = name.split(|&byte| byte == 0).next().unwrap_or(name);
        *input = rest;
        if name == TRAILER {
            self.state = State::Ended;
            return Ok(true);
        }
        if header.mode & KIND == 0o100_000 || (header.size > 0 && header.mode & KIND != SYMLINK) {
            sink.begin(Some(name), Some(header.size));
        }
        let padding = header.size.next_multiple_of(header.unit) - header.size;
        self.state = State::Data(Body::new(header.size, padding));
        Ok(true)
    }
}

impl Format for Cpio {
    fn push(&mut self, input: &mut &[u8], sink: &mut MemberSink<'_, '_>) -> Result<Progress, Gap> {
        loop {
            match &mut self.state {
                State::Header => {
                    if !self.entry(input, sink)? {
                        return Ok(Progress::More);
                    }
                }
                State::Data(body) => {
                    if !body.push(input, sink) {
                        return Ok(Progress::More);
                    }
                    self.state = State::Header;
                }
                State::Ended => {
                    *input = without_zeros(input);
                    match header(input) {
                        None => return Ok(Progress::More),
                        Some(Ok(_)) => self.state = State::Header,
                        Some(Err(())) => return Ok(Progress::End),
                    }
                }
            }
        }
    }

    fn finish(&mut self, _: &[u8], _: &mut MemberSink<'_, '_>) -> Result<(), Gap> {
        if matches!(self.state, State::Ended) { Ok(()) } else { Err(damaged("it is truncated")) }
    }
}

fn damaged(detail: &str) -> Gap {
    Gap::new(GapReason::DamagedArchive, format!("a cpio archive is damaged: {detail}"))
}
