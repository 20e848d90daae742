//! RPM packages: a lead, two headers, and a compressed cpio archive.
//!
//! Source: the RPM manual, "Package format" (V3 and V4) and "Header format". The lead and the headers
//! are one unnamed member, because they contain scripts; the format of the payload is detected by its bytes.

use layersift_model::{Gap, GapReason};

use super::bytes::{be32, take};
use super::level::{Format, MemberSink, Progress};

const LEAD: usize = 96;
const HEADER_MAGIC: &[u8] = &[0x8e, 0xad, 0xe8, 0x01];

/// The size of a header's start: magic number, reserved bytes, number of entries, and number of data bytes.
const HEADER_INTRO: usize = 16;

/// Whether `head` begins with a lead and the magic number of the header after it.
pub(super) fn is_rpm(head: &[u8]) -> bool {
    head.starts_with(&[0xed, 0xab, 0xee, 0xdb]) && head.get(LEAD..LEAD + 4) == Some(HEADER_MAGIC)
}

enum State {
    Lead,
    /// Before the signature header.
    Signature,
    SignatureData(u64),
    /// Before the package header.
    Header,
    HeaderData(u64),
    /// In the payload; whether any of its bytes were read.
    Payload(bool),
}

/// A reader of RPM packages.
pub(super) struct Rpm {
    state: State,
}

impl Rpm {
    pub(super) fn new() -> Rpm {
        Rpm { state: State::Lead }
    }
}

/// The size in bytes of a header after its first sixteen bytes.
fn header_bytes(intro: &[u8; HEADER_INTRO]) -> Result<u64, Gap> {
    match (intro.starts_with(HEADER_MAGIC), be32(intro, 8), be32(intro, 12)) {
        (true, Some(entries), Some(data)) => Ok(u64::from(entries) * 16 + u64::from(data)),
        _ => Err(damaged("invalid header")),
    }
}

impl Format for Rpm {
    fn push(&mut self, input: &mut &[u8], sink: &mut MemberSink<'_, '_>) -> Result<Progress, Gap> {
        loop {
            match &mut self.state {
                State::Lead => {
                    let Some((lead, rest)) = input.split_at_checked(LEAD) else { return Ok(Progress::More) };
                    sink.begin_raw(None, None);
                    sink.bytes(lead);
                    *input = rest;
                    self.state = State::Signature;
                }
                State::Signature | State::Header => {
                    let Some((intro, rest)) = input.split_first_chunk() else { return Ok(Progress::More) };
                    let bytes = header_bytes(intro)?;
                    sink.bytes(intro);
                    *input = rest;
                    self.state = match self.state {
                        // Only the signature header is padded, to eight bytes.
                        State::Signature => State::SignatureData(bytes.next_multiple_of(8)),
                        _ => State::HeaderData(bytes),
                    };
                }
                State::SignatureData(left) | State::HeaderData(left) => {
                    let data = take(input, *left);
                    *left -= data.len() as u64;
                    sink.bytes(data);
                    if *left > 0 {
                        return Ok(Progress::More);
                    }
                    self.state = match self.state {
                        State::SignatureData(_) => State::Header,
                        _ => {
                            sink.begin(None, None);
                            State::Payload(false)
                        }
                    };
                }
                State::Payload(has_come) => {
                    *has_come |= !input.is_empty();
                    sink.bytes(take(input, u64::MAX));
                    return Ok(Progress::More);
                }
            }
        }
    }

    fn finish(&mut self, _: &[u8], _: &mut MemberSink<'_, '_>) -> Result<(), Gap> {
        if matches!(self.state, State::Payload(true)) { Ok(()) } else { Err(damaged("it is truncated")) }
    }
}

fn damaged(detail: &str) -> Gap {
    Gap::new(GapReason::DamagedArchive, format!("an RPM package is damaged: {detail}"))
}
