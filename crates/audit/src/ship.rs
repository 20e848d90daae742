//! Copies of segments and checkpoints, kept elsewhere.
//!
//! Objects never change: closed segments with their hashes, and each checkpoint under a name of its own. What was
//! shipped where is noted in a file. If a crash comes before that, the place is asked, and has the object.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::checkpoint::Checkpoint;
use crate::error::AuditError;
use crate::files::{self, Segment};
use crate::log::{AuditLog, held};
use crate::sink::Sink;

/// What was shipped so far, by place.
#[derive(Debug, Default, Serialize, Deserialize)]
struct State {
    places: BTreeMap<String, Progress>,
}

/// What one place has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Progress {
    /// The entries before this one.
    entries: u64,
    /// The size of the last checkpoint.
    checkpoint: Option<u64>,
}

/// What one run has shipped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Shipped {
    /// Objects that were sent.
    pub sent: u64,
    /// Objects that were there already.
    pub found: u64,
    /// The entries before this one are shipped.
    pub entries: u64,
}

impl AuditLog {
    /// Brings to `sink` what it does not have: the key that verifies, closed segments, and the latest checkpoint.
    /// [`AuditLog::close_segment`] before that makes it all entries.
    ///
    /// # Errors
    /// If an object cannot be read or sent. The next run goes on there.
    pub fn ship(&self, sink: &mut dyn Sink) -> Result<Shipped, AuditError> {
        let _upkeep = held(&self.shared.upkeep);
        let (directory, place) = (&self.shared.directory, sink.place());
        let mut state = State::read(directory)?;
        let mut progress = state.of(&place);
        let mut shipped = Shipped::default();
        if progress == Progress::default() {
            shipped.object(sink, files::PUBLIC_KEY, &read(&directory.join(files::PUBLIC_KEY))?)?;
        }
        for pair in files::segments(directory)?.windows(2) {
            let [segment, next] = pair else { break };
            if segment.first >= progress.entries {
                shipped.segment(sink, segment)?;
                progress.entries = next.first;
                state.note(directory, &place, progress)?;
            }
        }
        let (note, size) = self.checkpoint_to_ship()?;
        if progress.checkpoint.is_none_or(|last| last < size) {
            shipped.object(sink, &files::shipped_checkpoint(size), &note)?;
            progress.checkpoint = Some(size);
            state.note(directory, &place, progress)?;
        }
        shipped.entries = progress.entries;
        Ok(shipped)
    }

    /// The number of entries, since the log was begun, that a place has.
    ///
    /// # Errors
    /// If the note of what was shipped cannot be read.
    pub fn shipped_to(&self, place: &str) -> Result<u64, AuditError> {
        Ok(State::read(&self.shared.directory)?.of(place).entries)
    }

    fn checkpoint_to_ship(&self) -> Result<(Vec<u8>, u64), AuditError> {
        let note = self.latest_checkpoint()?;
        let checkpoint = Checkpoint::open(&note, self.shared.key.verifier())
            .map_err(|source| AuditError::Anchor { subject: files::CHECKPOINT.into(), source })?;
        Ok((note, checkpoint.size))
    }
}

impl Shipped {
    fn segment(&mut self, sink: &mut dyn Sink, segment: &Segment) -> Result<(), AuditError> {
        for path in [&segment.entries, &segment.leaves] {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            self.object(sink, &name, &read(path)?)?;
        }
        Ok(())
    }

    fn object(&mut self, sink: &mut dyn Sink, name: &str, bytes: &[u8]) -> Result<(), AuditError> {
        let failed = |source| AuditError::Ship { name: name.into(), source };
        if sink.has(name, bytes).map_err(failed)? {
            self.found += 1;
        } else {
            sink.put(name, bytes).map_err(failed)?;
            self.sent += 1;
        }
        Ok(())
    }
}

impl State {
    fn of(&self, place: &str) -> Progress {
        self.places.get(place).copied().unwrap_or_default()
    }

    fn note(&mut self, directory: &Path, place: &str, progress: Progress) -> Result<(), AuditError> {
        self.places.insert(place.into(), progress);
        self.write(directory)
    }

    fn read(directory: &Path) -> Result<State, AuditError> {
        let path = directory.join(files::SHIPPED);
        let Some(text) = files::small(&path)? else { return Ok(State::default()) };
        serde_json::from_slice(&text).map_err(|source| AuditError::Json { subject: path.display().to_string(), source })
    }

    fn write(&self, directory: &Path) -> Result<(), AuditError> {
        let path = directory.join(files::SHIPPED);
        let text = serde_json::to_vec(self)
            .map_err(|source| AuditError::Json { subject: path.display().to_string(), source })?;
        files::replace(&path, &text)
    }
}

fn read(path: &Path) -> Result<Vec<u8>, AuditError> {
    fs::read(path).map_err(AuditError::io("read", path))
}
