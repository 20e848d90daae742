//! Walks the uncompressed tar archive of a layer in windows, and yields entries and segments of files.
//!
//! A layer is read in consecutive windows. Each window begins with the last bytes of the previous one, as many as the
//! walk asked for: a file that does not fit into a window is split into overlapping segments, so that no match is
//! lost at a boundary. Segments are ranges of the window: a file's bytes are never copied to be scanned.

use std::ops::Range;

use super::buffer::Bytes;
use layersift_format::tar::{BLOCK, Entry, Event, Kind, Parser, TarError};
use layersift_model::{ImagePath, Limits};

/// How the segments of a file that spans windows overlap, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overlap {
    /// The number of bytes before the owned part: context for matches that begin in it.
    pub before: usize,
    /// The number of bytes after the owned part: matches that begin in it may extend so far.
    pub after: usize,
}

impl Overlap {
    fn total(self) -> u64 {
        (self.before + self.after) as u64
    }
}

/// A part of a file in a window.
#[derive(Debug, PartialEq, Eq)]
pub struct Segment<F> {
    /// The file, as the visitor represents it.
    pub file: F,
    /// The range of the segment in the window.
    pub range: Range<usize>,
    /// The offset of the segment's first byte in the file's stored bytes.
    pub offset: u64,
    /// The part of `range` that belongs to this segment only: a match belongs to the segment that owns its first byte.
    pub owned: Range<usize>,
}

/// Receives the entries of a layer, in archive order.
pub trait Visitor<'a> {
    /// The visitor's handle of a file.
    type File: Clone;

    /// An entry begins. `None` skips its bytes, which is only right for an entry without any.
    fn entry(&mut self, path: &ImagePath, entry: &Entry) -> Option<Self::File>;

    /// The next bytes of a file: those in `range` of `window`, at `offset` in the stored bytes of the file. Each byte
    /// is passed once, in order, before the segment that owns it.
    fn bytes(&mut self, file: &Self::File, offset: u64, window: &Bytes<'a>, range: Range<usize>);

    /// The file has no more bytes. The walk has no other handle of it.
    fn end(&mut self, file: Self::File);
}

/// Why a walk stopped before the end of its layer.
#[derive(Debug, thiserror::Error)]
pub enum WalkError {
    /// A block cannot be parsed.
    #[error("at byte {at} of the uncompressed layer: {error}")]
    Tar {
        /// The offset of the block in the uncompressed layer.
        at: u64,
        /// The cause.
        error: TarError,
    },
    /// The layer has more entries than the limit.
    #[error("the layer has more than {0} entries; the rest were not read")]
    TooManyEntries(u64),
}

struct OpenFile<F> {
    file: Option<F>,
    /// The range of the file's stored bytes in the layer.
    data: Range<u64>,
    /// The end of the bytes passed to `Visitor::bytes`.
    seen: u64,
    /// The end of the bytes owned by earlier segments.
    owned: u64,
    started: bool,
}

/// The state of a walk between two windows.
pub struct Walk<F> {
    parser: Parser,
    overlap: Overlap,
    entries_left: u64,
    entries_limit: u64,
    /// The offset of the first unparsed byte of the layer.
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

    /// Processes the window that begins at byte `start` of the layer, and appends its segments to `segments`. Returns
    /// the byte of the layer at which the next window must begin.
    ///
    /// # Errors
    /// If the archive is damaged or has too many entries.
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

    /// The offset of the first unparsed byte of the layer.
    pub fn position(&self) -> u64 {
        self.at
    }

    /// Whether the archive may end here without an end marker, between two entries.
    pub fn at_boundary(&self) -> bool {
        self.open.is_none() && self.parser.at_boundary()
    }

    /// Ends the open file, if there is one, before its last byte.
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

    /// Yields the segment of the open file in the window. `Some` if the file continues after the window.
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
        // Too few bytes for a segment: they are repeated at the start of the next window.
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
