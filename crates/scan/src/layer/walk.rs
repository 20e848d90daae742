//! From windows of a layer's uncompressed tar to entries and segments of files.
//!
//! A layer passes as consecutive windows. A window begins with the bytes that the walk asked to keep of the one before,
//! so that a file which does not fit is seen as overlapping segments and nothing is lost at a boundary. Segments are
//! ranges of the window: a file's bytes are never copied to be scanned.

use std::ops::Range;

use super::buffer::Bytes;
use layersift_format::tar::{BLOCK, Entry, Event, Kind, Parser, TarError};
use layersift_model::{ImagePath, Limits};

/// How the segments of a file that spans windows overlap, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overlap {
    /// Bytes in front of the part that a segment owns: context for what begins there.
    pub before: usize,
    /// Bytes behind the part that a segment owns: what begins there may reach this far.
    pub after: usize,
}

impl Overlap {
    fn total(self) -> u64 {
        (self.before + self.after) as u64
    }
}

/// A part of a file, inside a window.
#[derive(Debug, PartialEq, Eq)]
pub struct Segment<F> {
    /// What the visitor made of the file.
    pub file: F,
    /// Where the segment's bytes are in the window.
    pub range: Range<usize>,
    /// The offset of the segment's first byte in the file's stored bytes.
    pub offset: u64,
    /// The part of the segment that no other segment of the file owns.
    pub owned: Range<usize>,
}

/// What is done with the entries of a layer, in the order of the archive.
pub trait Visitor<'a> {
    /// What stands for a file while its segments are on the way.
    type File: Clone;

    /// An entry begins. `None` leaves its bytes out, which only makes sense where it has none.
    fn entry(&mut self, path: &ImagePath, entry: &Entry) -> Option<Self::File>;

    /// The next bytes of a file, each byte once and in order, before the segments that hold them are handed out:
    /// those in `range` of `window`. `offset` is where in the stored bytes of the file they begin.
    fn bytes(&mut self, file: &Self::File, offset: u64, window: &Bytes<'a>, range: Range<usize>);

    /// All bytes of a file have passed, or no more will come. The walk holds no other handle of it.
    fn end(&mut self, file: Self::File);
}

/// Why a walk stopped before the end of its layer.
#[derive(Debug, thiserror::Error)]
pub enum WalkError {
    /// A block that is no tar header.
    #[error("at byte {at} of the uncompressed layer: {error}")]
    Tar {
        /// Where the block begins in the uncompressed layer.
        at: u64,
        /// What is wrong with it.
        error: TarError,
    },
    /// More entries than the limit.
    #[error("the layer has more than {0} entries")]
    TooManyEntries(u64),
}

struct OpenFile<F> {
    file: Option<F>,
    /// Where the file's stored bytes begin and end in the layer.
    data: Range<u64>,
    /// Bytes up to here went to `Visitor::bytes`.
    seen: u64,
    /// Bytes up to here are owned by segments that were handed out.
    owned: u64,
    started: bool,
}

/// The state of a walk between two windows.
pub struct Walk<F> {
    parser: Parser,
    overlap: Overlap,
    entries_left: u64,
    entries_limit: u64,
    /// The next byte of the layer that was not parsed.
    at: u64,
    open: Option<OpenFile<F>>,
    ended: bool,
}

impl<F: Clone> Walk<F> {
    /// A walk at the start of a layer.
    pub fn new(overlap: Overlap, limits: &Limits) -> Walk<F> {
        Walk {
            parser: Parser::new(limits.tar_extension_bytes),
            overlap,
            entries_left: limits.layer_entries,
            entries_limit: limits.layer_entries,
            at: 0,
            open: None,
            ended: false,
        }
    }

    /// Takes the window whose first byte is byte `start` of the layer, appends the segments in it to `segments`, and
    /// returns from which byte of the layer on the next window has to begin.
    pub fn window<'a>(
        &mut self,
        window: &Bytes<'a>,
        start: u64,
        visitor: &mut impl Visitor<'a, File = F>,
        segments: &mut Vec<Segment<F>>,
    ) -> Result<u64, WalkError> {
        let end = start + window.len() as u64;
        loop {
            if let Some(keep) = self.continue_file(window, start, visitor, segments) {
                return Ok(keep);
            }
            if self.ended || self.at + BLOCK as u64 > end {
                return Ok(if self.ended { end } else { self.at.min(end) });
            }
            self.header(window, start, visitor)?;
        }
    }

    /// Whether the archive was read to its end marker.
    pub fn ended(&self) -> bool {
        self.ended
    }

    /// The next byte of the layer that was not parsed.
    pub fn position(&self) -> u64 {
        self.at
    }

    /// Whether the archive may stop here without an end marker: no entry is half read.
    pub fn at_boundary(&self) -> bool {
        self.open.is_none() && self.parser.at_boundary()
    }

    /// Ends the open file, if there is one, although more of it may come.
    pub fn abandon<'a>(&mut self, visitor: &mut impl Visitor<'a, File = F>) {
        if let Some(file) = self.open.take().and_then(|open| open.file) {
            visitor.end(file);
        }
    }

    fn header<'a>(
        &mut self,
        window: &[u8],
        start: u64,
        visitor: &mut impl Visitor<'a, File = F>,
    ) -> Result<(), WalkError> {
        let from = (self.at - start) as usize;
        let Some(block) = window.get(from..).and_then(|rest| rest.first_chunk::<BLOCK>()) else { return Ok(()) };
        let event = self.parser.block(block).map_err(|error| WalkError::Tar { at: self.at, error })?;
        self.at += BLOCK as u64;
        match event {
            None => {}
            Some(Event::End) => self.ended = true,
            Some(Event::Entry(entry)) => {
                self.entries_left =
                    self.entries_left.checked_sub(1).ok_or(WalkError::TooManyEntries(self.entries_limit))?;
                self.begin(entry, visitor);
            }
        }
        Ok(())
    }

    fn begin<'a>(&mut self, entry: Entry, visitor: &mut impl Visitor<'a, File = F>) {
        let path = ImagePath::normalize(&entry.path);
        let file = visitor.entry(&path, &entry).filter(|_| entry.kind == Kind::File);
        let data = self.at..self.at.saturating_add(entry.stored);
        if data.is_empty() {
            if let Some(file) = file {
                visitor.end(file);
            }
            return;
        }
        self.open = Some(OpenFile { file, seen: data.start, owned: data.start, started: false, data });
        self.at = self.at.saturating_add(entry.padded());
    }

    /// Hands out what the window holds of the open file. `Some` when the file goes on behind the window.
    fn continue_file<'a>(
        &mut self,
        window: &Bytes<'a>,
        start: u64,
        visitor: &mut impl Visitor<'a, File = F>,
        segments: &mut Vec<Segment<F>>,
    ) -> Option<u64> {
        let end = start + window.len() as u64;
        let open = self.open.as_mut()?;
        let Some(file) = &open.file else {
            if end < open.data.end {
                return Some(end);
            }
            self.open = None;
            return None;
        };
        let have = open.data.end.min(end);
        let last = have == open.data.end;
        if have > open.seen {
            let fresh = (open.seen - start) as usize..(have - start) as usize;
            visitor.bytes(file, open.seen - open.data.start, window, fresh);
            open.seen = have;
        }
        // Too little of the file to stand alone: it comes again at the start of the next window.
        if !last && !open.started && have - open.data.start <= self.overlap.total() {
            return Some(open.data.start.min(end));
        }
        let from = open.data.start.max(open.owned.saturating_sub(self.overlap.before as u64)).max(start);
        let until = if last { have } else { have - self.overlap.after as u64 };
        segments.push(Segment {
            file: file.clone(),
            range: (from - start) as usize..(have - start) as usize,
            offset: from - open.data.start,
            owned: open.owned.saturating_sub(from) as usize..(until.max(open.owned) - from) as usize,
        });
        open.started = true;
        open.owned = until.max(open.owned);
        if last {
            self.abandon(visitor);
            return None;
        }
        Some(open.data.start.max(open.owned - self.overlap.before as u64))
    }
}

#[cfg(test)]
mod tests;
