//! tar inside files. The framing is `layersift_format::tar`; only regular files are members.
//!
//! Concatenated archives (`cat a.tar b.tar`, the segments of an Alpine package) are read as one.

use layersift_format::tar::{BLOCK, Event, Kind, Parser, TarError};
use layersift_model::{Gap, GapReason};

use super::bytes::Body;
use super::level::{Format, MemberSink, Progress};

enum State {
    /// At a header.
    Blocks,
    /// In the data of an entry.
    Data(Body),
    /// After the blocks of zeros that end an archive.
    Ended,
}

/// A reader of tar.
pub(super) struct Tar {
    parser: Parser,
    limit: u64,
    state: State,
}

impl Tar {
    /// A long name or a set of PAX records may have at most `limit` bytes.
    pub(super) fn new(limit: u64) -> Tar {
        Tar { parser: Parser::new(limit), limit, state: State::Blocks }
    }

    fn event(&mut self, event: Option<Event>, sink: &mut MemberSink<'_, '_>) {
        match event {
            None => {}
            Some(Event::End) => self.state = State::Ended,
            Some(Event::Entry(entry)) => {
                if entry.kind == Kind::File {
                    sink.begin(Some(&entry.path), Some(entry.stored));
                }
                self.state = State::Data(Body::new(entry.stored, entry.padded().saturating_sub(entry.stored)));
            }
        }
    }

    /// Handles a block after the end: zeros, or the start of another archive. Returns `false` if it is neither.
    fn after_end(&mut self, block: &[u8; BLOCK], sink: &mut MemberSink<'_, '_>) -> bool {
        if block.iter().all(|&byte| byte == 0) {
            return true;
        }
        self.parser = Parser::new(self.limit);
        let Ok(event) = self.parser.block(block) else { return false };
        self.state = State::Blocks;
        self.event(event, sink);
        true
    }
}

impl Format for Tar {
    fn push(&mut self, input: &mut &[u8], sink: &mut MemberSink<'_, '_>) -> Result<Progress, Gap> {
        loop {
            if let State::Data(body) = &mut self.state {
                if !body.push(input, sink) {
                    return Ok(Progress::More);
                }
                self.state = State::Blocks;
            }
            let Some((block, rest)) = input.split_first_chunk::<BLOCK>() else { return Ok(Progress::More) };
            if matches!(self.state, State::Ended) {
                if !self.after_end(block, sink) {
                    return Ok(Progress::End);
                }
            } else {
                let event = self.parser.block(block).map_err(damaged)?;
                self.event(event, sink);
            }
            *input = rest;
        }
    }

    fn finish(&mut self, rest: &[u8], _: &mut MemberSink<'_, '_>) -> Result<(), Gap> {
        let is_whole = match &self.state {
            State::Ended => true,
            State::Blocks => self.parser.at_boundary() && rest.iter().all(|&byte| byte == 0),
            State::Data(_) => false,
        };
        if is_whole { Ok(()) } else { Err(Gap::new(GapReason::DamagedTar, "a tar archive is truncated")) }
    }
}

fn damaged(error: TarError) -> Gap {
    Gap::new(GapReason::DamagedTar, error.to_string())
}
