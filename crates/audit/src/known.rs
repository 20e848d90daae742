//! The checkpoints that a log is compared with, as a stream in the order of their sizes: those in the file
//! `checkpoints`, and those that come from elsewhere.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use crate::checkpoint::Checkpoint;
use crate::error::AuditError;
use crate::files;
use crate::note::{SIGNATURE, VerifierKey};
use crate::reading::Lines;
use crate::tree::Hash;
use crate::verify::Problem;

/// The lines of a checkpoint of ours: origin, size, root, nothing, signature.
const LINES: usize = 5;

/// A checkpoint, and where it is from.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) size: u64,
    pub(crate) root: Hash,
    pub(crate) from: String,
}

impl Known {
    pub(crate) fn new(checkpoint: &Checkpoint, from: impl Into<String>) -> Known {
        Known { size: checkpoint.size, root: checkpoint.root, from: from.into() }
    }
}

/// The checkpoints in a file, one after the other.
pub(crate) struct CheckpointFile {
    path: PathBuf,
    lines: Lines,
    /// How long the file was when it was opened. What is added meanwhile is not read.
    length: u64,
}

/// What is next in the file.
pub(crate) enum Next {
    Checkpoint(Checkpoint),
    /// The rest of the file, from this offset on, is not a whole checkpoint.
    Torn(u64),
    /// What begins at this offset is not a checkpoint that the key signed.
    Wrong(u64, String),
    End,
}

impl CheckpointFile {
    /// `None` if there is no such file.
    pub(crate) fn open(path: &Path) -> Result<Option<CheckpointFile>, AuditError> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(AuditError::io("open", path)(error)),
        };
        let length = file.metadata().map_err(AuditError::io("read", path))?.len();
        Ok(Some(CheckpointFile { path: path.into(), lines: Lines::new(file), length }))
    }

    pub(crate) fn next(&mut self, key: &VerifierKey) -> Result<Next, AuditError> {
        let mut note = Vec::new();
        let mut start = None;
        for _ in 0..LINES {
            let line = self.lines.next().map_err(AuditError::io("read", &self.path))?;
            let Some(line) = line.filter(|line| line.offset < self.length) else {
                return Ok(start.map_or(Next::End, Next::Torn));
            };
            let start = *start.get_or_insert(line.offset);
            if !line.is_ended {
                return Ok(Next::Torn(start));
            }
            note.extend_from_slice(&line.text);
            note.push(b'\n');
            if line.text.starts_with(SIGNATURE.as_bytes()) {
                return Ok(match Checkpoint::open(&note, key) {
                    Ok(checkpoint) => Next::Checkpoint(checkpoint),
                    Err(error) => Next::Wrong(start, error.to_string()),
                });
            }
        }
        Ok(Next::Wrong(start.unwrap_or_default(), "it is not a checkpoint".into()))
    }
}

/// All checkpoints, by size.
pub(crate) struct Knowns {
    key: VerifierKey,
    file: Option<CheckpointFile>,
    /// The next one of the file.
    next: Option<Known>,
    /// The size of the last one that was read from the file.
    last: Option<u64>,
    others: VecDeque<Known>,
    pub(crate) problems: Vec<Problem>,
    /// Where a checkpoint begins that was not written whole.
    pub(crate) torn: Option<u64>,
}

impl Knowns {
    /// The checkpoints of `directory`, and `others`.
    pub(crate) fn new(directory: &Path, key: &VerifierKey, mut others: Vec<Known>) -> Result<Knowns, AuditError> {
        others.sort_by_key(|known| known.size);
        let file = CheckpointFile::open(&directory.join(files::CHECKPOINTS))?;
        let (key, others) = (key.clone(), others.into());
        let mut knowns = Knowns { key, file, next: None, last: None, others, problems: Vec::new(), torn: None };
        knowns.advance()?;
        Ok(knowns)
    }

    /// The next checkpoint, if it has at most `size` entries.
    pub(crate) fn due(&mut self, size: u64) -> Result<Option<Known>, AuditError> {
        let from_file = self.next.as_ref().filter(|known| known.size <= size).map(|known| known.size);
        let other = self.others.front().filter(|known| known.size <= size).map(|known| known.size);
        match (from_file, other) {
            (Some(file), other) if other.is_none_or(|other| file <= other) => {
                let known = self.next.take();
                self.advance()?;
                Ok(known)
            }
            (_, Some(_)) => Ok(self.others.pop_front()),
            (_, None) => Ok(None),
        }
    }

    /// The size of the last checkpoint that was read from the file.
    pub(crate) fn last_of_file(&self) -> Option<u64> {
        self.last
    }

    fn advance(&mut self) -> Result<(), AuditError> {
        while let Some(file) = &mut self.file {
            match file.next(&self.key)? {
                Next::Checkpoint(checkpoint) if self.last.is_some_and(|last| checkpoint.size < last) => {
                    let reason = format!("a checkpoint of {} entries comes after a larger one", checkpoint.size);
                    self.problem(None, reason);
                }
                Next::Checkpoint(checkpoint) => {
                    self.last = Some(checkpoint.size);
                    self.next = Some(Known::new(&checkpoint, files::CHECKPOINTS));
                    return Ok(());
                }
                Next::Torn(offset) => {
                    self.torn = Some(offset);
                    self.file = None;
                }
                Next::Wrong(offset, reason) => self.problem(Some(offset), reason),
                Next::End => self.file = None,
            }
        }
        Ok(())
    }

    /// Only the first one is kept: where one line is missing, all that follows may be out of step.
    fn problem(&mut self, offset: Option<u64>, reason: String) {
        if self.problems.is_empty() {
            self.problems.push(Problem::Checkpoint { name: files::CHECKPOINTS.into(), offset, reason });
        }
    }
}
