//! The files of a log: their names, how they are replaced, and the lock.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use crate::error::AuditError;

/// All checkpoints, the oldest first.
pub(crate) const CHECKPOINTS: &str = "checkpoints";
/// The latest checkpoint.
pub(crate) const CHECKPOINT: &str = "checkpoint";
/// The signed record of what retention removed.
pub(crate) const REMOVED: &str = "removed";
/// The key that signs, and the one that verifies.
pub(crate) const KEY: &str = "key";
pub(crate) const PUBLIC_KEY: &str = "key.pub";
/// What was shipped.
pub(crate) const SHIPPED: &str = "shipped";
/// There as long as the log is open, so that it stays after a crash.
pub(crate) const WRITING: &str = "writing";
const LOCK: &str = "lock";

/// The largest file that is read as a whole: a checkpoint, a key.
const MOST_SMALL: u64 = 64 * 1024;

/// The files of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    /// The index of its first entry.
    pub(crate) first: u64,
    /// One entry a line.
    pub(crate) entries: PathBuf,
    /// The hash of each entry, one after the other.
    pub(crate) leaves: PathBuf,
}

impl Segment {
    pub(crate) fn at(directory: &Path, first: u64) -> Segment {
        let (entries, leaves) = (format!("entries-{first:020}.jsonl"), format!("leaves-{first:020}"));
        Segment { first, entries: directory.join(entries), leaves: directory.join(leaves) }
    }
}

/// The name that a checkpoint of `size` entries is shipped under.
pub(crate) fn shipped_checkpoint(size: u64) -> String {
    format!("checkpoint-{size:020}")
}

/// The segments in `directory`, the oldest first.
pub(crate) fn segments(directory: &Path) -> Result<Vec<Segment>, AuditError> {
    let numbers = numbered(directory, "entries-", ".jsonl")?;
    Ok(numbers.into_iter().map(|first| Segment::at(directory, first)).collect())
}

/// The numbers in the names of the files that begin and end so.
pub(crate) fn numbered(directory: &Path, begin: &str, end: &str) -> Result<Vec<u64>, AuditError> {
    let failed = |source| AuditError::Io { what: "list", path: directory.into(), source };
    let mut numbers = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        let digits = name.to_str().and_then(|name| name.strip_prefix(begin)?.strip_suffix(end));
        let digits = digits.filter(|digits| digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit()));
        numbers.extend(digits.and_then(|digits| digits.parse::<u64>().ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// Makes `directory`, for its owner alone, if it does not exist.
pub(crate) fn make_directory(directory: &Path) -> Result<(), AuditError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(directory);
    made.map_err(AuditError::io("make", directory))
}

/// The contents of a small file, or `None` if there is none.
pub(crate) fn small(path: &Path) -> Result<Option<Vec<u8>>, AuditError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(AuditError::io("open", path)(error)),
    };
    let mut bytes = Vec::new();
    file.take(MOST_SMALL + 1).read_to_end(&mut bytes).map_err(AuditError::io("read", path))?;
    if bytes.len() as u64 > MOST_SMALL {
        return Err(AuditError::damaged(path, MOST_SMALL, "it is too long"));
    }
    Ok(Some(bytes))
}

/// Opens a file of the log for writing, and makes it if it does not exist.
pub(crate) fn writable(path: &Path) -> Result<File, AuditError> {
    let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
    opened.map_err(AuditError::io("open", path))
}

/// Replaces a small file so that a crash leaves the old one or the new one.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<(), AuditError> {
    let new = path.with_extension("new");
    let mut file = writable(&new)?;
    file.set_len(0).and_then(|()| file.write_all(bytes)).map_err(AuditError::io("write", &new))?;
    file.sync_all().map_err(AuditError::io("write to disk", &new))?;
    fs::rename(&new, path).map_err(AuditError::io("replace", path))?;
    sync_directory(path.parent().unwrap_or(Path::new(".")))
}

/// Puts names that were made or removed in `directory` on disk.
pub(crate) fn sync_directory(directory: &Path) -> Result<(), AuditError> {
    let synced = File::open(directory).and_then(|directory| directory.sync_all());
    synced.map_err(AuditError::io("write to disk", directory))
}

/// Locks the log for this process until the file is closed. `None` if another has it.
pub(crate) fn lock(directory: &Path) -> Result<Option<File>, AuditError> {
    let path = directory.join(LOCK);
    let file = writable(&path)?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(AuditError::io("lock", &path)(error.into())),
    }
}

/// Whether a process writes the log just now.
pub(crate) fn is_locked(directory: &Path) -> bool {
    File::open(directory.join(LOCK))
        .is_ok_and(|file| rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared) == Err(Errno::WOULDBLOCK))
}
