//! The log of one instance, open for writing.
//!
//! Threads that append at the same time share one write to disk: the first one leads, and writes what the others have
//! brought meanwhile when its own write is done, or another of them does. A thread of its own writes checkpoints.

use std::fs::{self, File};
use std::mem;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::checkpoint::Checkpoint;
use crate::entry::Entry;
use crate::error::AuditError;
use crate::files;
use crate::note::{SigningKey, VerifierKey};
use crate::tree::{Hash, leaf_hash};
use crate::writer::Writer;

/// The log of one instance, which this process alone writes.
pub struct AuditLog {
    pub(crate) shared: Arc<Shared>,
    checkpointer: Mutex<Option<JoinHandle<()>>>,
}

pub(crate) struct Shared {
    pub(crate) directory: PathBuf,
    pub(crate) key: SigningKey,
    pub(crate) writer: Mutex<Writer>,
    pub(crate) checkpoints: Mutex<Checkpoints>,
    /// Taken by what removes and ships segments.
    pub(crate) upkeep: Mutex<()>,
    queue: Mutex<Queue>,
    /// A group was written.
    written: Condvar,
    /// A checkpoint is due, or the log is closed.
    due: Condvar,
    checkpoint_every: Duration,
    checkpoint_entries: u64,
    /// Held as long as the log is open.
    _lock: File,
}

/// Entries that wait to be written.
#[derive(Default)]
struct Queue {
    group: Group,
    /// A thread writes a group.
    is_led: bool,
    /// Entries that were written since the last checkpoint.
    since_checkpoint: u64,
    is_closed: bool,
}

/// Entries that are written together.
#[derive(Default)]
struct Group {
    lines: Vec<u8>,
    hashes: Vec<Hash>,
    outcome: Arc<OnceLock<Result<u64, Arc<AuditError>>>>,
}

/// The files of checkpoints.
pub(crate) struct Checkpoints {
    file: File,
    length: u64,
    /// The size of the last one.
    pub(crate) last: Option<u64>,
    /// Why the last attempt to write one failed.
    failure: Option<Arc<AuditError>>,
}

/// What an open log is made of.
pub(crate) struct Parts {
    pub(crate) directory: PathBuf,
    pub(crate) key: SigningKey,
    pub(crate) writer: Writer,
    pub(crate) checkpoints: Checkpoints,
    pub(crate) checkpoint_every: Duration,
    pub(crate) checkpoint_entries: u64,
    pub(crate) lock: File,
}

impl AuditLog {
    pub(crate) fn start(parts: Parts) -> Result<AuditLog, AuditError> {
        let shared = Arc::new(Shared {
            directory: parts.directory,
            key: parts.key,
            writer: Mutex::new(parts.writer),
            checkpoints: Mutex::new(parts.checkpoints),
            upkeep: Mutex::default(),
            queue: Mutex::default(),
            written: Condvar::new(),
            due: Condvar::new(),
            checkpoint_every: parts.checkpoint_every,
            checkpoint_entries: parts.checkpoint_entries,
            _lock: parts.lock,
        });
        shared.checkpoint()?;
        let other = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("audit-checkpoints".into()).spawn(move || other.checkpoints());
        let checkpointer = Some(thread.map_err(AuditError::io("start a thread for", &shared.directory))?);
        Ok(AuditLog { shared, checkpointer: Mutex::new(checkpointer) })
    }

    /// Adds an entry, and returns its index after it is on disk. Texts that are too long are cut.
    ///
    /// # Errors
    /// If it is not in the log. After a disk was full, the next entry may be; after the system could not say what is on
    /// disk, none is until the log is opened again.
    pub fn append(&self, entry: &Entry) -> Result<u64, AuditError> {
        self.append_all(std::slice::from_ref(entry))
    }

    /// Adds entries, one after the other and with one write to disk, and returns the index of the first one after all
    /// of them are on disk.
    ///
    /// # Errors
    /// As [`AuditLog::append`]: none of them is in the log then.
    pub fn append_all(&self, entries: &[Entry]) -> Result<u64, AuditError> {
        let json = |source| AuditError::Json { subject: "an entry".into(), source };
        let lines: Result<Vec<_>, _> = entries.iter().map(|entry| entry.line().map_err(json)).collect();
        self.shared.append(&lines?)
    }

    /// The number of entries on disk since the log was begun.
    pub fn size(&self) -> u64 {
        held(&self.shared.writer).range().size()
    }

    /// The key that verifies the checkpoints.
    pub fn verifier(&self) -> &VerifierKey {
        self.shared.key.verifier()
    }

    /// Signs a checkpoint of all entries now, if there is none of them, and returns the latest as a signed note.
    ///
    /// # Errors
    /// If it cannot be written to disk.
    pub fn checkpoint(&self) -> Result<Vec<u8>, AuditError> {
        self.shared.checkpoint()?;
        self.latest_checkpoint()
    }

    /// The latest checkpoint as a signed note, to be kept elsewhere.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn latest_checkpoint(&self) -> Result<Vec<u8>, AuditError> {
        let note = files::small(&self.shared.directory.join(files::CHECKPOINT))?;
        note.ok_or_else(|| AuditError::Absent { directory: self.shared.directory.clone() })
    }

    /// Why the last attempt to write a checkpoint failed, if it did. Entries are written all the same.
    pub fn checkpoint_failure(&self) -> Option<Arc<AuditError>> {
        held(&self.shared.checkpoints).failure.clone()
    }

    /// Closes the segment that is being written, if it has entries, so that it can be shipped.
    ///
    /// # Errors
    /// If the next one cannot be begun.
    pub fn close_segment(&self) -> Result<(), AuditError> {
        held(&self.shared.writer).begin_segment()
    }

    /// Writes a last checkpoint, and closes the log. Dropping it does the same, and does not say whether it worked.
    ///
    /// # Errors
    /// As [`AuditLog::finish`].
    pub fn close(self) -> Result<(), AuditError> {
        self.finish()
    }

    /// Takes no more entries, and writes a last checkpoint. What is there may still be shipped, and no other process
    /// may write the log yet.
    ///
    /// # Errors
    /// If the checkpoint cannot be written. The entries are on disk all the same.
    pub fn finish(&self) -> Result<(), AuditError> {
        let Some(checkpointer) = held(&self.checkpointer).take() else { return Ok(()) };
        self.shared.refuse_more();
        // It does not panic; if it did, the last checkpoint is still to be written.
        let _ = checkpointer.join();
        self.shared.checkpoint()?;
        if held(&self.shared.writer).is_stopped() {
            // There may be more on disk than the log has, as after a crash.
            return Err(AuditError::Stopped { directory: self.shared.directory.clone() });
        }
        let path = self.shared.directory.join(files::WRITING);
        fs::remove_file(&path).map_err(AuditError::io("remove", &path))?;
        files::sync_directory(&self.shared.directory)
    }
}

impl Drop for AuditLog {
    fn drop(&mut self) {
        let _ = self.finish();
    }
}

impl Shared {
    fn append(&self, lines: &[Vec<u8>]) -> Result<u64, AuditError> {
        if lines.is_empty() {
            return Ok(held(&self.writer).range().size());
        }
        let hashes: Vec<Hash> = lines.iter().map(|line| leaf_hash(line)).collect();
        let mut queue = held(&self.queue);
        if queue.is_closed {
            let source = Arc::new(AuditError::Closed { directory: self.directory.clone() });
            return Err(AuditError::NotWritten { source });
        }
        let position = queue.group.hashes.len() as u64;
        for line in lines {
            queue.group.lines.extend_from_slice(line);
            queue.group.lines.push(b'\n');
        }
        queue.group.hashes.extend(hashes);
        let outcome = Arc::clone(&queue.group.outcome);
        loop {
            match outcome.get() {
                Some(Ok(first)) => return Ok(first + position),
                Some(Err(source)) => return Err(AuditError::NotWritten { source: Arc::clone(source) }),
                None if queue.is_led => queue = self.written.wait(queue).unwrap_or_else(PoisonError::into_inner),
                None => queue = self.lead(queue),
            }
        }
    }

    /// Takes no more entries, and returns when those that were handed in are on disk, or are not going to be.
    fn refuse_more(&self) {
        let mut queue = held(&self.queue);
        queue.is_closed = true;
        self.due.notify_all();
        while queue.is_led || !queue.group.hashes.is_empty() {
            queue = self.written.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Writes the group that waits.
    fn lead<'q>(&'q self, mut queue: MutexGuard<'q, Queue>) -> MutexGuard<'q, Queue> {
        queue.is_led = true;
        let group = mem::take(&mut queue.group);
        drop(queue);
        let outcome = held(&self.writer).commit(&group.lines, &group.hashes);
        let is_written = outcome.is_ok();
        // Nobody else has set it: one thread leads.
        let _ = group.outcome.set(outcome.map_err(Arc::new));
        let mut queue = held(&self.queue);
        queue.is_led = false;
        self.written.notify_all();
        if is_written {
            queue.since_checkpoint += group.hashes.len() as u64;
            if queue.since_checkpoint >= self.checkpoint_entries {
                self.due.notify_all();
            }
        }
        queue
    }

    /// Writes checkpoints until the log is closed.
    fn checkpoints(&self) {
        let mut next = Instant::now() + self.checkpoint_every;
        let mut queue = held(&self.queue);
        while !queue.is_closed {
            let now = Instant::now();
            if now < next && queue.since_checkpoint < self.checkpoint_entries {
                let waited = self.due.wait_timeout(queue, next - now);
                queue = waited.unwrap_or_else(PoisonError::into_inner).0;
                continue;
            }
            queue.since_checkpoint = 0;
            drop(queue);
            // A failure is kept for whoever asks; it is tried again.
            let _ = self.checkpoint();
            next = Instant::now() + self.checkpoint_every;
            queue = held(&self.queue);
        }
    }

    /// Signs a checkpoint of all entries, if there is none of them.
    pub(crate) fn checkpoint(&self) -> Result<(), AuditError> {
        let mut checkpoints = held(&self.checkpoints);
        let outcome = self.write_checkpoint(&mut checkpoints);
        outcome.map_err(|error| {
            let source = Arc::new(error);
            checkpoints.failure = Some(Arc::clone(&source));
            AuditError::NoCheckpoint { source }
        })
    }

    fn write_checkpoint(&self, checkpoints: &mut Checkpoints) -> Result<(), AuditError> {
        let (range, leaves, path) = held(&self.writer).snapshot()?;
        if checkpoints.last != Some(range.size()) {
            // With every checkpoint, the hashes that it covers are on disk: an entry without one is newer.
            leaves.sync_data().map_err(AuditError::io("write to disk", &path))?;
            let note = Checkpoint::of(self.key.verifier().name(), &range).sign(&self.key);
            checkpoints.add(&self.directory, note.as_bytes(), range.size())?;
        }
        checkpoints.failure = None;
        Ok(())
    }
}

impl Checkpoints {
    pub(crate) fn new(file: File, length: u64, last: Option<u64>) -> Checkpoints {
        Checkpoints { file, length, last, failure: None }
    }

    fn add(&mut self, directory: &Path, note: &[u8], size: u64) -> Result<(), AuditError> {
        let path = directory.join(files::CHECKPOINTS);
        let written = self.file.write_all_at(note, self.length).and_then(|()| self.file.sync_data());
        if let Err(error) = written {
            // A part of a checkpoint at the end is what a crash leaves, too.
            let _ = self.file.set_len(self.length);
            return Err(AuditError::io("write", &path)(error));
        }
        self.length += note.len() as u64;
        self.last = Some(size);
        files::replace(&directory.join(files::CHECKPOINT), note)
    }
}

/// What a lock guards. A thread that panicked has left it whole: it is changed after what may fail.
pub(crate) fn held<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}
