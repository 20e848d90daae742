//! Writes groups of entries to the last segment, and begins the next one when it is full.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::AuditError;
use crate::files::{self, Segment};
use crate::tree::{Hash, Range};

/// The end of the log.
pub(crate) struct Writer {
    directory: PathBuf,
    segment: Segment,
    entries: File,
    leaves: Arc<File>,
    /// How long the file of entries is.
    length: u64,
    /// The tree of all entries that are on disk.
    range: Range,
    /// Hashes of such entries that could not be written yet.
    unwritten: Vec<u8>,
    most_bytes: u64,
    most_entries: u64,
    /// The next segment is to be begun, and its files may exist already: this one must not grow any more.
    is_full: bool,
    /// A write to disk has failed. What the system has in memory may differ from what is on disk, and it does not tell
    /// a second time.
    is_stopped: bool,
}

impl Writer {
    /// Goes on with the segment that begins with entry `first`, after `length` bytes of it, or begins it.
    pub(crate) fn new(
        directory: &Path,
        first: u64,
        length: u64,
        range: Range,
        (most_bytes, most_entries): (u64, u64),
    ) -> Result<Writer, AuditError> {
        let segment = Segment::at(directory, first);
        let (entries, leaves) = open(directory, &segment)?;
        let directory = directory.into();
        Ok(Writer {
            directory,
            segment,
            entries,
            leaves,
            length,
            range,
            unwritten: Vec::new(),
            most_bytes,
            most_entries,
            is_full: false,
            is_stopped: false,
        })
    }

    /// The tree of all entries that are on disk.
    pub(crate) fn range(&self) -> &Range {
        &self.range
    }

    /// Whether nothing can be written until the log is opened again.
    pub(crate) fn is_stopped(&self) -> bool {
        self.is_stopped
    }

    /// Puts `lines` with these hashes on disk, and returns the index of the first one. After an error, none is in the
    /// log.
    pub(crate) fn commit(&mut self, lines: &[u8], hashes: &[Hash]) -> Result<u64, AuditError> {
        if self.is_stopped {
            return Err(AuditError::Stopped { directory: self.directory.clone() });
        }
        self.write_hashes()?;
        if self.is_full || self.length >= self.most_bytes || self.range.size() - self.segment.first >= self.most_entries
        {
            self.begin_segment()?;
        }
        self.write(lines)?;
        let first = self.range.size();
        self.length += lines.len() as u64;
        for hash in hashes {
            self.range.push(*hash);
            self.unwritten.extend_from_slice(hash);
        }
        // The entries are on disk, and their hashes follow from them: if these cannot be written, the next group tries
        // again, or opening the log does.
        let _ = self.write_hashes();
        Ok(first)
    }

    /// The tree of what is on disk, and its file of hashes, which may not be.
    pub(crate) fn snapshot(&mut self) -> Result<(Range, Arc<File>, PathBuf), AuditError> {
        self.write_hashes()?;
        Ok((self.range.clone(), Arc::clone(&self.leaves), self.segment.leaves.clone()))
    }

    /// Begins the next segment, if there are entries in this one.
    pub(crate) fn begin_segment(&mut self) -> Result<(), AuditError> {
        if self.length == 0 {
            return Ok(());
        }
        self.is_full = true;
        self.write_hashes()?;
        self.leaves.sync_all().map_err(AuditError::io("write to disk", &self.segment.leaves))?;
        let segment = Segment::at(&self.directory, self.range.size());
        (self.entries, self.leaves) = open(&self.directory, &segment)?;
        (self.segment, self.length, self.is_full) = (segment, 0, false);
        Ok(())
    }

    fn write(&mut self, lines: &[u8]) -> Result<(), AuditError> {
        let path = &self.segment.entries;
        if let Err(error) = self.entries.write_all_at(lines, self.length) {
            // The disk is full, say. What was written of the group goes, so that the log may go on later.
            self.is_stopped = self.entries.set_len(self.length).is_err();
            return Err(AuditError::io("write", path)(error));
        }
        self.entries.sync_data().map_err(|error| {
            self.is_stopped = true;
            let _ = self.entries.set_len(self.length);
            AuditError::io("write to disk", path)(error)
        })
    }

    fn write_hashes(&mut self) -> Result<(), AuditError> {
        if self.unwritten.is_empty() {
            return Ok(());
        }
        let offset = (self.range.size() - self.segment.first) * 32 - self.unwritten.len() as u64;
        let written = self.leaves.write_all_at(&self.unwritten, offset);
        written.map_err(AuditError::io("write", &self.segment.leaves))?;
        self.unwritten.clear();
        Ok(())
    }
}

/// The files of a segment, whose names are on disk afterwards.
fn open(directory: &Path, segment: &Segment) -> Result<(File, Arc<File>), AuditError> {
    let (entries, leaves) = (files::writable(&segment.entries)?, files::writable(&segment.leaves)?);
    files::sync_directory(directory)?;
    Ok((entries, Arc::new(leaves)))
}
