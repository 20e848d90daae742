//! Walks the uncompressed tar archive of a layer in windows, and yields entries and segments of files.
//!
//! A layer is read in consecutive windows. Each window begins with the last bytes of the previous one, as many as the
//! walk asked for: a file that does not fit into a window is split into overlapping segments, so that no match is
//! lost at a boundary. Segments are ranges of the window: a file's bytes are never copied to be scanned.
//!
//! Bytes that belong to no entry are a file as well: those after the end of the archive, and those after a place at
//! which it cannot be read.

use std::ops::Range;

use super::buffer::Bytes;
use layersift_format::tar::{Ambiguity, BLOCK, Entry, Event, Kind, Parser, Run, TarError};
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

    /// A hole of `length` bytes in a sparse file comes before its next bytes.
    fn hole(&mut self, file: &Self::File, length: u64);

    /// Bytes that belong to no entry begin; they have the form of a file of unknown size.
    fn rest(&mut self, rest: Rest) -> Self::File;

    /// The file has no more bytes. The walk has no other handle of it.
    fn end(&mut self, file: Self::File);

    /// A block of the headers of an entry, extended headers among them. `is_last` is set for the last block.
    fn header(&mut self, _block: &[u8], _is_last: bool) {}
}

/// Bytes that belong to no entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    /// The layer is not a tar archive: all of its bytes.
    NotTar,
    /// The bytes from the first that is not zero after the end of the archive.
    AfterEnd,
    /// The bytes from a place on at which the archive cannot be read.
    Unreadable,
    /// Bytes after the data of an entry that pad it to a whole block, and are not zeros as they should be.
    Padding,
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
    /// The offset in the layer of the file's first stored byte.
    base: u64,
    /// The range in the layer of stored bytes that are adjacent in the file: all of them, but for a sparse file.
    data: Range<u64>,
    /// The runs of a sparse file that follow, the next one last.
    runs: Vec<Run>,
    /// The end in the layer of the padding after the data.
    padded: u64,
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
    /// The padding of the last entry, until it was seen.
    padding: Range<u64>,
    ended: bool,
    /// Whether the zeros after the end of the archive are being skipped.
    is_skipping: bool,
    /// The offset of the bytes that belong to no entry.
    rest: Option<u64>,
    /// Where readers of tar differ, one place of each kind.
    ambiguities: Vec<(u64, Ambiguity)>,
    /// The runs of sparse files that nobody asked for yet.
    runs: u64,
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
            padding: 0..0,
            ended: false,
            is_skipping: false,
            rest: None,
            ambiguities: Vec::new(),
            runs: 0,
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
            // The next run of a sparse file.
            if self.open.is_some() {
                continue;
            }
            if !self.padding.is_empty() {
                if self.padding.end > end {
                    return Ok(self.padding.start.min(end));
                }
                self.pad(window, start, visitor, segments);
            }
            if self.is_skipping {
                let from = self.at.saturating_sub(start).min(window.len() as u64) as usize;
                match window[from..].iter().position(|&byte| byte != 0) {
                    Some(zeros) => {
                        self.at = start + (from + zeros) as u64;
                        self.begin_rest(Rest::AfterEnd, visitor);
                        continue;
                    }
                    None => {
                        self.at = end;
                        return Ok(end);
                    }
                }
            }
            if self.at + BLOCK as u64 > end {
                return Ok(self.at.min(end));
            }
            self.header(window, start, visitor)?;
        }
    }

    /// Passes the padding of the last entry as a file, unless it is zeros.
    fn pad<'a>(
        &mut self,
        window: &Bytes<'a>,
        start: u64,
        visitor: &mut impl Visitor<'a, File = F>,
        segments: &mut Vec<Segment<F>>,
    ) {
        let padding = std::mem::take(&mut self.padding);
        let inside = |at: u64| at.saturating_sub(start).min(window.len() as u64) as usize;
        let range = inside(padding.start)..inside(padding.end);
        if window[range.clone()].iter().all(|&byte| byte == 0) {
            return;
        }
        let file = visitor.rest(Rest::Padding);
        visitor.bytes(&file, 0, window, range.clone());
        let owned = 0..range.len();
        segments.push(Segment { file: file.clone(), range, offset: 0, owned });
        visitor.end(file);
    }

    /// Passes the bytes from here on as a file. The entry that is open, if there is one, ends.
    pub fn begin_rest<'a>(&mut self, rest: Rest, visitor: &mut impl Visitor<'a, File = F>) {
        self.abandon(visitor);
        self.is_skipping = false;
        self.rest = Some(self.at);
        let data = self.at..u64::MAX;
        self.open = Some(OpenFile {
            file: Some(visitor.rest(rest)),
            base: data.start,
            seen: data.start,
            owned: data.start,
            started: false,
            runs: Vec::new(),
            padded: data.end,
            data,
        });
        self.at = u64::MAX;
    }

    /// The layer ends after the window that begins at byte `start`, the last that was walked. Bytes that are open there
    /// end, and those that are too few for a block are passed as a file.
    pub fn finish<'a>(
        &mut self,
        window: &Bytes<'a>,
        start: u64,
        visitor: &mut impl Visitor<'a, File = F>,
        segments: &mut Vec<Segment<F>>,
    ) {
        let end = start + window.len() as u64;
        if !self.padding.is_empty() {
            self.pad(window, start, visitor, segments);
        }
        if self.open.is_none() && !self.ended && self.at < end {
            let rest = if self.at == 0 { Rest::NotTar } else { Rest::Unreadable };
            self.begin_rest(rest, visitor);
        }
        let Some(open) = &mut self.open else { return };
        if open.data.start >= end {
            return self.abandon(visitor);
        }
        open.data.end = open.data.end.min(end);
        open.runs.clear();
        self.continue_file(window, start, visitor, segments);
    }

    /// The offset of the first byte that belongs to no entry, if there is one.
    pub fn rest(&self) -> Option<u64> {
        self.rest
    }

    /// Where readers of tar differ, one place of each kind.
    pub fn ambiguities(&self) -> &[(u64, Ambiguity)] {
        &self.ambiguities
    }

    /// The number of runs of sparse files since the last call.
    pub fn take_runs(&mut self) -> u64 {
        std::mem::take(&mut self.runs)
    }

    /// Whether the archive was read to its end marker.
    pub fn ended(&self) -> bool {
        self.ended
    }

    /// The offset of the first byte of the layer that was not parsed as part of an archive.
    pub fn position(&self) -> u64 {
        self.rest.unwrap_or(self.at)
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
        if let Some(ambiguity) = self.parser.take_ambiguity()
            && !self.ambiguities.iter().any(|(_, known)| *known == ambiguity)
        {
            self.ambiguities.push((self.at, ambiguity));
        }
        self.at += BLOCK as u64;
        visitor.header(block, event.is_some());
        match event {
            None => {}
            Some(Event::End) => (self.ended, self.is_skipping) = (true, true),
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
        let base = self.at;
        if entry.stored == 0 {
            if let Some(file) = file {
                visitor.end(file);
            }
            return;
        }
        self.at = self.at.saturating_add(entry.padded());
        let data = base..base.saturating_add(entry.stored);
        let padded = self.at;
        let mut open = OpenFile { file, base, data, seen: base, owned: base, started: false, runs: Vec::new(), padded };
        if entry.sparse.is_some() {
            open.runs = entry.runs();
            open.runs.reverse();
            self.runs += open.runs.len() as u64;
        }
        self.open = Some(open);
        if entry.sparse.is_some() {
            self.next_run(visitor);
        }
    }

    /// Goes on to the next run of the open file, or ends it.
    fn next_run<'a>(&mut self, visitor: &mut impl Visitor<'a, File = F>) {
        let Some(open) = &mut self.open else { return };
        let Some(run) = open.runs.pop() else {
            self.padding = open.data.end..open.padded;
            return self.abandon(visitor);
        };
        if let Some(file) = open.file.as_ref().filter(|_| run.hole > 0) {
            visitor.hole(file, run.hole);
        }
        let first = open.base.saturating_add(run.stored);
        open.data = first..first.saturating_add(run.length);
        (open.seen, open.owned, open.started) = (first, first, false);
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
            self.next_run(visitor);
            return None;
        };
        // The next run of a sparse file may begin after the window.
        if open.data.start >= end && open.data.start < open.data.end {
            return Some(end);
        }
        let have = open.data.end.min(end);
        let last = have == open.data.end;
        if have > open.seen {
            let fresh = (open.seen - start) as usize..(have - start) as usize;
            visitor.bytes(file, open.seen - open.base, window, fresh);
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
            offset: from - open.base,
            owned: open.owned.saturating_sub(from) as usize..(until.max(open.owned) - from) as usize,
        });
        open.started = true;
        open.owned = until.max(open.owned);
        if last {
            self.next_run(visitor);
            return None;
        }
        Some(open.data.start.max(open.owned - self.overlap.before as u64))
    }
}

#[cfg(test)]
mod tests;
