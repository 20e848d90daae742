//! Opens a log: begins it, or verifies it and repairs what a crash left.

use std::fmt;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::AuditError;
use crate::files;
use crate::log::{AuditLog, Checkpoints, Parts};
use crate::note::{self, SigningKey, VerifierKey};
use crate::reading::Lines;
use crate::tree::{Hash, Range};
use crate::verify::{Problem, own_checkpoints, tail_problems, too_few_checkpoints};
use crate::walk::{Tail, Walked, walk};
use crate::writer::Writer;

/// The longest name of a log in bytes.
const MOST_ORIGIN: u64 = 512;

/// How a log is written.
#[derive(Clone, Debug)]
pub struct Options {
    /// The name of the log, such as `audit.example.org/replica-1`: no other log may have it.
    pub origin: String,
    /// The key that signs checkpoints.
    pub key: KeyFrom,
    /// A segment is full when it has so many bytes. It is held in memory while it is shipped.
    pub segment_bytes: u64,
    /// A segment is full when it has so many entries.
    pub segment_entries: u64,
    /// How often a checkpoint is signed, if there are new entries.
    pub checkpoint_every: Duration,
    /// A checkpoint is signed after so many entries at the latest.
    pub checkpoint_entries: u64,
}

/// Where the key is.
#[derive(Clone, Default)]
pub enum KeyFrom {
    /// In the directory of the log, where it is made if it is missing.
    #[default]
    Directory,
    /// In a file, which has to exist.
    File(PathBuf),
    /// The key itself, as [`SigningKey::reveal`] writes it.
    Text(String),
}

impl fmt::Debug for KeyFrom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeyFrom::Directory => f.write_str("Directory"),
            KeyFrom::File(path) => f.debug_tuple("File").field(path).finish(),
            KeyFrom::Text(_) => f.write_str("Text"),
        }
    }
}

impl Options {
    /// The defaults for a log called `origin`.
    pub fn new(origin: impl Into<String>) -> Options {
        Options {
            origin: origin.into(),
            key: KeyFrom::default(),
            segment_bytes: 16 << 20,
            segment_entries: 1 << 16,
            checkpoint_every: Duration::from_secs(60),
            checkpoint_entries: 10_000,
        }
    }
}

/// A log that was opened.
pub struct Opened {
    /// The log.
    pub log: AuditLog,
    /// What was found.
    pub recovery: Recovery,
}

/// What opening a log has found and repaired.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Recovery {
    /// The log was begun.
    pub is_new: bool,
    /// The number of entries since the log was begun.
    pub entries: u64,
    /// So many bytes at the end were cut off: a crash had come in the middle of writing them, before anyone was told
    /// that they are on disk.
    pub torn_bytes: u64,
    /// So many entries were on disk without their hashes, which were added.
    pub hashed: u64,
    /// The last checkpoint was not written whole, and was cut off.
    pub torn_checkpoint: bool,
}

impl AuditLog {
    /// The key that verifies the log in `directory`, if there is one.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn verifier_in(directory: &Path) -> Result<Option<VerifierKey>, AuditError> {
        let path = directory.join(files::PUBLIC_KEY);
        let Some(text) = files::small(&path)? else { return Ok(None) };
        let key = VerifierKey::parse(&String::from_utf8_lossy(&text));
        key.map(Some).map_err(|source| AuditError::Key { subject: path.display().to_string(), source })
    }

    /// Opens the log in `directory`, or begins it. All of it is read and compared with its checkpoints.
    ///
    /// # Errors
    /// If another process writes it, if it was changed, or if the file system refuses.
    pub fn open(directory: &Path, options: &Options) -> Result<Opened, AuditError> {
        let origin = note::checked_name(&options.origin).and_then(|name| match name.len() as u64 {
            0..=MOST_ORIGIN => Ok(name),
            _ => Err(note::NoteError::Name(name.into())),
        });
        origin.map_err(|source| AuditError::Key { subject: options.origin.clone(), source })?;
        files::make_directory(directory)?;
        let lock = files::lock(directory)?.ok_or_else(|| AuditError::Locked { directory: directory.into() })?;
        let is_new = is_new(directory)?;
        let key = signing_key(directory, options, is_new)?;
        let mut recovery = Recovery { is_new, ..Recovery::default() };
        let (writer, checkpoints) =
            if is_new { begin(directory, options)? } else { resume(directory, options, &key, &mut recovery)? };
        recovery.entries = writer.range().size();
        files::replace(&directory.join(files::WRITING), b"")?;
        let parts = Parts {
            directory: directory.into(),
            key,
            writer,
            checkpoints,
            checkpoint_every: options.checkpoint_every,
            checkpoint_entries: options.checkpoint_entries.max(1),
            lock,
        };
        Ok(Opened { log: AuditLog::start(parts)?, recovery })
    }
}

/// Whether nothing was ever appended: the first checkpoint is written before that.
fn is_new(directory: &Path) -> Result<bool, AuditError> {
    if directory.join(files::CHECKPOINT).exists() || directory.join(files::REMOVED).exists() {
        return Ok(false);
    }
    if has_checkpoints(&directory.join(files::CHECKPOINTS))? {
        return Ok(false);
    }
    let segments = files::segments(directory)?;
    Ok(segments.iter().all(|segment| segment.first == 0 && segment.entries.metadata().is_ok_and(|it| it.len() == 0)))
}

/// Whether the file has more than the first checkpoint, which may be there and not yet in the file of its own.
fn has_checkpoints(path: &Path) -> Result<bool, AuditError> {
    let Ok(metadata) = path.metadata() else { return Ok(false) };
    if metadata.len() > MOST_ORIGIN * 4 {
        return Ok(true);
    }
    let text = files::small(path)?.unwrap_or_default();
    let mut lines = text.split(|byte| *byte == b'\n');
    Ok(lines.nth(1).is_some_and(|size| !matches!(size, b"" | b"0")) || lines.count() > 4)
}

fn begin(directory: &Path, options: &Options) -> Result<(Writer, Checkpoints), AuditError> {
    let path = directory.join(files::CHECKPOINTS);
    let file = files::writable(&path)?;
    file.set_len(0).map_err(AuditError::io("write", &path))?;
    let writer = Writer::new(directory, 0, 0, Range::default(), limits(options))?;
    Ok((writer, Checkpoints::new(file, 0, None)))
}

fn resume(
    directory: &Path,
    options: &Options,
    key: &SigningKey,
    recovery: &mut Recovery,
) -> Result<(Writer, Checkpoints), AuditError> {
    let (others, problems) = own_checkpoints(directory, key.verifier())?;
    let latest = others.iter().map(|known| known.size).max();
    let walked = walk(directory, key.verifier(), others)?;
    let has_crashed = directory.join(files::WRITING).exists();
    if let Some(problem) = first_problem(&walked, problems, latest, has_crashed) {
        return Err(AuditError::Changed { directory: directory.into(), problem: Box::new(problem) });
    }
    let checkpoints = repair_checkpoints(directory, &walked, recovery)?;
    let (first, length) = match &walked.tail {
        Some(tail) => repair_tail(tail, &walked.range, recovery).map(|()| (tail.segment.first, tail.end))?,
        None => (walked.range.size(), 0),
    };
    Ok((Writer::new(directory, first, length, walked.range, limits(options))?, checkpoints))
}

fn limits(options: &Options) -> (u64, u64) {
    (options.segment_bytes.max(1), options.segment_entries.max(1))
}

/// What no crash explains; of a log that was closed, whatever is wrong.
fn first_problem(walked: &Walked, others: Vec<Problem>, latest: Option<u64>, has_crashed: bool) -> Option<Problem> {
    let mut problems = walked.problems.clone();
    problems.extend(others);
    problems.extend(too_few_checkpoints(walked, latest));
    if !has_crashed {
        problems.extend(tail_problems(walked));
    }
    problems.into_iter().min_by_key(|problem| problem.first_bad().unwrap_or(u64::MAX))
}

fn repair_checkpoints(directory: &Path, walked: &Walked, recovery: &mut Recovery) -> Result<Checkpoints, AuditError> {
    let path = directory.join(files::CHECKPOINTS);
    let file = files::writable(&path)?;
    if let Some(offset) = walked.torn_checkpoint {
        cut(&file, &path, offset)?;
        recovery.torn_checkpoint = true;
    }
    let length = file.metadata().map_err(AuditError::io("read", &path))?.len();
    Ok(Checkpoints::new(file, length, walked.last_checkpoint))
}

/// Cuts off what a crash has left half written, and adds hashes that it has kept from being written. No checkpoint
/// covers any of it: the walk would have said that entries are missing.
fn repair_tail(tail: &Tail, range: &Range, recovery: &mut Recovery) -> Result<(), AuditError> {
    let path = &tail.segment.entries;
    if tail.is_torn {
        let file = files::writable(path)?;
        let length = file.metadata().map_err(AuditError::io("read", path))?.len();
        recovery.torn_bytes = length.saturating_sub(tail.end);
        cut(&file, path, tail.end)?;
    }
    let size = range.size();
    let unhashed = tail.unhashed.unwrap_or(size);
    recovery.hashed = size - unhashed;
    if recovery.hashed == 0 && !tail.torn_leaf {
        return Ok(());
    }
    let hashes = hashes_from(path, unhashed - tail.segment.first)?;
    let file = files::writable(&tail.segment.leaves)?;
    let written = file.write_all_at(&hashes.concat(), (unhashed - tail.segment.first) * 32);
    written.map_err(AuditError::io("write", &tail.segment.leaves))?;
    cut(&file, &tail.segment.leaves, (size - tail.segment.first) * 32)
}

/// The hashes of the lines of a segment, from one on.
fn hashes_from(path: &Path, from: u64) -> Result<Vec<Hash>, AuditError> {
    let mut lines = Lines::open(path)?;
    let mut hashes = Vec::new();
    let mut index = 0;
    while let Some(line) = lines.next().map_err(AuditError::io("read", path))? {
        if index >= from {
            hashes.push(line.hash());
        }
        index += 1;
    }
    Ok(hashes)
}

fn cut(file: &File, path: &Path, length: u64) -> Result<(), AuditError> {
    file.set_len(length).and_then(|()| file.sync_all()).map_err(AuditError::io("cut", path))
}

/// The key in the options. It is made only for a new log.
fn signing_key(directory: &Path, options: &Options, is_new: bool) -> Result<SigningKey, AuditError> {
    let path = match &options.key {
        KeyFrom::Directory => directory.join(files::KEY),
        KeyFrom::File(path) => path.clone(),
        KeyFrom::Text(text) => return checked(directory, options, SigningKey::parse(text), "in the settings"),
    };
    let subject = path.display().to_string();
    let key = match files::small(&path)? {
        Some(text) => SigningKey::parse(&String::from_utf8_lossy(&text)),
        None if is_new && matches!(options.key, KeyFrom::Directory) => {
            let key = SigningKey::generate(&options.origin);
            if let Ok(key) = &key {
                files::replace(&path, format!("{}\n", key.reveal()).as_bytes())?;
            }
            key
        }
        None => return Err(AuditError::io("open", &path)(std::io::ErrorKind::NotFound.into())),
    };
    checked(directory, options, key, &subject)
}

/// The key, if it is for this log, with its public half beside the log.
fn checked(
    directory: &Path,
    options: &Options,
    key: Result<SigningKey, note::NoteError>,
    subject: &str,
) -> Result<SigningKey, AuditError> {
    let key = key.map_err(|source| AuditError::Key { subject: subject.into(), source })?;
    let verifier = key.verifier();
    if verifier.name() != options.origin {
        return Err(AuditError::Origin { found: verifier.name().into(), origin: options.origin.clone() });
    }
    let path = directory.join(files::PUBLIC_KEY);
    let text = format!("{verifier}\n");
    match files::small(&path)? {
        Some(found) if found == text.as_bytes() => {}
        Some(_) => return Err(AuditError::damaged(&path, 0, "it is not the public half of the key that signs")),
        None => files::replace(&path, text.as_bytes())?,
    }
    Ok(key)
}
