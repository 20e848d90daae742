//! ar: Debian packages and static libraries.
//!
//! Sources: deb(5) and ar(5) for the headers of sixty bytes; "ar.h" of GNU binutils for `//` and names at an offset in
//! it; 4.4BSD's ar(5) for `#1/LENGTH`, where the data begin with the name.

use layersift_model::{Gap, GapReason};

use super::bytes::{Body, digits};
use super::level::{Format, MemberSink, Progress};

const MAGIC: &[u8] = b"!<arch>\n";
const HEADER: usize = 60;

/// The maximum length in bytes of a name before the data; a longer name is treated as damage.
const LONGEST_NAME: u64 = 64 << 10;

enum State {
    Magic,
    Header,
    /// The table of long names.
    Table(u64),
    /// The name before the data, and the size of both.
    Name {
        name: u64,
        size: u64,
    },
    Data(Body),
}

/// A reader of ar.
pub(super) struct Ar {
    state: State,
    /// GNU's long names, each followed by `/` and a line feed.
    names: Vec<u8>,
    limit: u64,
}

impl Ar {
    /// The table of long names may have at most `limit` bytes.
    pub(super) fn new(limit: u64) -> Ar {
        Ar { state: State::Magic, names: Vec::new(), limit }
    }

    fn header(&mut self, header: &[u8; HEADER], sink: &mut MemberSink<'_, '_>) -> Result<(), Gap> {
        let (name, rest) = header.split_at(16);
        let is_header = rest.ends_with(b"`\n");
        let size = rest.get(32..42).and_then(|size| digits(size.trim_ascii(), 10));
        let Some(size) = size.filter(|_| is_header) else { return Err(damaged("invalid header")) };
        let name = name.trim_ascii_end();
        if name == b"//" && size <= self.limit {
            self.state = State::Table(size);
            return Ok(());
        }
        if let Some(length) = name.strip_prefix(b"#1/").and_then(|length| digits(length, 10)) {
            if length > size || length > LONGEST_NAME {
                return Err(damaged("a name is longer than its member"));
            }
            self.state = State::Name { name: length, size };
            return Ok(());
        }
        let name = self.long_name(name).unwrap_or(name).to_vec();
        self.member(&name, size, size % 2, sink);
        Ok(())
    }

    /// The name at the offset in `/OFFSET`, or a short name without its final slash.
    fn long_name<'a>(&'a self, name: &'a [u8]) -> Option<&'a [u8]> {
        let Some(offset) = name.strip_prefix(b"/").and_then(|offset| digits(offset, 10)) else {
            return name.strip_suffix(b"/").filter(|name| !name.is_empty() && !name.ends_with(b"/"));
        };
        let from = self.names.get(usize::try_from(offset).ok()?..)?;
        let line = from.split(|&byte| byte == b'\n').next()?;
        Some(line.strip_suffix(b"/").unwrap_or(line))
    }

    fn member(&mut self, name: &[u8], size: u64, padding: u64, sink: &mut MemberSink<'_, '_>) {
        sink.begin(Some(name), Some(size));
        self.state = State::Data(Body::new(size, padding));
    }
}

impl Format for Ar {
    fn push(&mut self, input: &mut &[u8], sink: &mut MemberSink<'_, '_>) -> Result<Progress, Gap> {
        loop {
            match &mut self.state {
                State::Magic => {
                    let Some((_, rest)) = input.split_at_checked(MAGIC.len()) else { return Ok(Progress::More) };
                    *input = rest;
                    self.state = State::Header;
                }
                State::Header => {
                    let Some((header, rest)) = input.split_first_chunk::<HEADER>() else {
                        return Ok(Progress::More);
                    };
                    self.header(header, sink)?;
                    *input = rest;
                }
                State::Table(size) => {
                    let size = *size;
                    let Some((table, _)) = split(input, size) else { return Ok(Progress::More) };
                    self.names = table.to_vec();
                    // The table is scanned like any other member.
                    sink.begin_raw(Some(b"//"), Some(size));
                    self.state = State::Data(Body::new(size, size % 2));
                }
                State::Name { name, size } => {
                    let (length, size) = (*name, *size);
                    let Some((name, rest)) = split(input, length) else { return Ok(Progress::More) };
                    let name = name.split(|&byte| byte == 0).next().unwrap_or(name);
                    *input = rest;
                    self.member(name, size - length, size % 2, sink);
                }
                State::Data(body) => {
                    if !body.push(input, sink) {
                        return Ok(Progress::More);
                    }
                    self.state = State::Header;
                }
            }
        }
    }

    fn finish(&mut self, rest: &[u8], _: &mut MemberSink<'_, '_>) -> Result<(), Gap> {
        let is_whole = match &self.state {
            State::Header => rest.is_empty(),
            // Some writers omit the last byte of padding.
            State::Data(body) => body.is_in_padding(),
            _ => false,
        };
        if is_whole { Ok(()) } else { Err(damaged("it is truncated")) }
    }
}

fn split<'a>(input: &&'a [u8], count: u64) -> Option<(&'a [u8], &'a [u8])> {
    input.split_at_checked(usize::try_from(count).ok()?)
}

fn damaged(detail: &str) -> Gap {
    Gap::new(GapReason::DamagedArchive, format!("an ar archive is damaged: {detail}"))
}
