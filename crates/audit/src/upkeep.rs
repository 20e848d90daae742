//! Retention, and reading the last entries.

use std::collections::VecDeque;
use std::fs;
use std::path::Path;

use serde::Deserialize;

use crate::checkpoint::Removal;
use crate::entry::Entry;
use crate::error::AuditError;
use crate::files::{self, Segment};
use crate::log::{AuditLog, held};
use crate::reading::{Leaves, Lines};
use crate::tree::Range;
use crate::verify::Problem;

/// Which entries may go.
#[derive(Clone, Debug)]
pub struct Retention {
    /// Those that are older than this, in milliseconds since 1970.
    pub before: u64,
    /// Of these, only those that all of these places have, as their sinks call them.
    pub shipped_to: Vec<String>,
    /// When that is, in milliseconds since 1970: now.
    pub now: u64,
}

/// What of an entry retention looks at.
#[derive(Deserialize)]
struct Time {
    time: u64,
}

impl AuditLog {
    /// Removes segments all of whose entries may go, and returns how many entries that were. What the rest is verified
    /// with is kept: the roots of the trees that they make up, signed before anything is removed.
    ///
    /// # Errors
    /// If the hashes on disk are not those of the log, or the file system refuses. What was removed before stays
    /// removed, and recorded.
    pub fn prune(&self, retention: &Retention) -> Result<u64, AuditError> {
        let _upkeep = held(&self.shared.upkeep);
        let directory = &self.shared.directory;
        // Before the segments: they have all that is in this tree.
        let (end, _, _) = held(&self.shared.writer).snapshot()?;
        let segments = files::segments(directory)?;
        let old = held_removal(self)?.map_or(0, |removal| removal.range.size());
        let mut most = held(&self.shared.checkpoints).last.unwrap_or(0);
        for place in &retention.shipped_to {
            most = most.min(self.shipped_to(place)?);
        }
        let mut cut = old;
        for pair in segments.windows(2) {
            let [segment, next] = pair else { break };
            if next.first > most || (segment.first >= old && !is_older(segment, retention.before)?) {
                break;
            }
            cut = next.first;
        }
        if cut > old {
            let removal = Removal { range: self.range_at(cut, &segments, &end)?, at: retention.now };
            let note = removal.sign(self.shared.key.verifier().name(), &self.shared.key);
            files::replace(&directory.join(files::REMOVED), note.as_bytes())?;
        }
        for segment in segments.iter().filter(|segment| segment.first < cut) {
            for path in [&segment.entries, &segment.leaves] {
                fs::remove_file(path).map_err(AuditError::io("remove", path))?;
            }
        }
        files::sync_directory(directory)?;
        Ok(cut - old)
    }

    /// The tree of the first `cut` entries, from the hashes on disk. These are only believed because they end in the
    /// tree that this process has written.
    fn range_at(&self, cut: u64, segments: &[Segment], end: &Range) -> Result<Range, AuditError> {
        let mut range = held_removal(self)?.map_or_else(Range::default, |removal| removal.range);
        let start = range.size();
        let mut found = None;
        for segment in segments.iter().filter(|segment| segment.first >= start) {
            let mut leaves = Leaves::open(&segment.leaves)?;
            while let Some(leaf) = leaves.next().map_err(AuditError::io("read", &segment.leaves))? {
                if range.size() == cut {
                    found = Some(range.clone());
                }
                if range.size() == end.size() {
                    break;
                }
                range.push(leaf);
            }
        }
        if range.size() == cut {
            found = Some(range.clone());
        }
        match found {
            Some(found) if range == *end => Ok(found),
            _ => Err(AuditError::Changed {
                directory: self.shared.directory.clone(),
                problem: Box::new(Problem::Hash { index: start }),
            }),
        }
    }
}

/// What was removed before.
fn held_removal(log: &AuditLog) -> Result<Option<Removal>, AuditError> {
    let path = log.shared.directory.join(files::REMOVED);
    let Some(note) = files::small(&path)? else { return Ok(None) };
    let removal = Removal::open(&note, log.shared.key.verifier());
    removal.map(Some).map_err(|error| AuditError::damaged(&path, 0, error.to_string()))
}

/// Whether all entries of `segment` are older than `before`.
fn is_older(segment: &Segment, before: u64) -> Result<bool, AuditError> {
    let mut lines = Lines::open(&segment.entries)?;
    while let Some(line) = lines.next().map_err(AuditError::io("read", &segment.entries))? {
        match serde_json::from_slice::<Time>(&line.text) {
            Ok(Time { time }) if time < before => {}
            Ok(_) => return Ok(false),
            Err(error) => return Err(AuditError::damaged(&segment.entries, line.offset, error.to_string())),
        }
    }
    Ok(true)
}

/// The last `most` entries in `directory` with their indexes, the oldest first. They are not verified. A line that is
/// not an entry is left out.
///
/// # Errors
/// If there is no log, or it cannot be read.
pub fn last_entries(directory: &Path, most: usize) -> Result<Vec<(u64, Entry)>, AuditError> {
    if !directory.is_dir() {
        return Err(AuditError::Absent { directory: directory.into() });
    }
    let segments = files::segments(directory)?;
    if segments.is_empty() {
        return Err(AuditError::Absent { directory: directory.into() });
    }
    let mut entries = VecDeque::new();
    for segment in segments.iter().rev() {
        let left = most.saturating_sub(entries.len());
        if left == 0 {
            break;
        }
        for entry in last_of(segment, left)?.into_iter().rev() {
            entries.push_front(entry);
        }
    }
    Ok(entries.into())
}

fn last_of(segment: &Segment, most: usize) -> Result<VecDeque<(u64, Entry)>, AuditError> {
    let mut last = VecDeque::new();
    let mut lines = Lines::open(&segment.entries)?;
    let mut index = segment.first;
    while let Some(line) = lines.next().map_err(AuditError::io("read", &segment.entries))? {
        last.push_back((index, line.text));
        if last.len() > most {
            last.pop_front();
        }
        index += 1;
    }
    let entry = |(index, text): (u64, Vec<u8>)| Some((index, serde_json::from_slice(&text).ok()?));
    Ok(last.into_iter().filter_map(entry).collect())
}
