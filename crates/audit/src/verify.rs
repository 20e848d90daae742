//! Whether a log is what was written.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::checkpoint::Checkpoint;
use crate::error::AuditError;
use crate::files;
use crate::known::Known;
use crate::note::VerifierKey;
use crate::tree::Hash;
use crate::walk::{Walked, walk};

/// What to verify a log with.
#[derive(Clone, Debug, Default)]
pub struct VerifyOptions {
    /// The key of the log. Without it, the one beside the log is used, which whoever changed the log may have replaced.
    pub key: Option<VerifierKey>,
    /// Checkpoints that were kept elsewhere, with what to call them.
    pub anchors: Vec<(String, Vec<u8>)>,
    /// The directory has a copy that was shipped. It may end before the last checkpoint.
    pub is_copy: bool,
}

/// What is known of a log.
#[derive(Debug)]
#[non_exhaustive]
pub struct Verification {
    /// The index of the first entry that is there.
    pub first: u64,
    /// The number of entries since the log was begun, of which those before `first` were removed.
    pub size: u64,
    /// The root of the tree of all of them.
    pub root: Hash,
    /// How many entries the last checkpoint covers that was compared.
    pub covered: u64,
    /// How many checkpoints were compared.
    pub checkpoints: u64,
    /// What is wrong; nothing if the log is what was written.
    pub problems: Vec<Problem>,
    /// What the verification cannot know, and what else is to be said.
    pub notes: Vec<Note>,
}

impl Verification {
    /// Whether nothing is wrong.
    pub fn is_good(&self) -> bool {
        self.problems.is_empty()
    }

    /// The index of the first entry that is not what was written, as far as it is known.
    pub fn first_bad(&self) -> Option<u64> {
        self.problems.iter().filter_map(Problem::first_bad).min()
    }
}

/// What was done to an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// It is another.
    Altered,
    /// It is not there; what stands in its place is what came after it.
    Removed,
    /// It was not there; what comes after it was in its place.
    Inserted,
    /// It and the next one are in each other's place.
    Moved,
    /// What is there is not an entry at all.
    NotAnEntry,
}

/// Something that is wrong with a log.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Problem {
    /// An entry is not what was written.
    Entry {
        /// The first such entry.
        index: u64,
        /// What was done to it, as far as its neighbours tell.
        change: Change,
        /// The file, and where in it.
        place: String,
        /// Whether a checkpoint says so. Otherwise, the entry and its hash differ, and either may have been changed.
        is_certain: bool,
    },
    /// Entries, and their hashes with them, are not what was written. It is not known which.
    Between {
        /// The entries before this one are as they were.
        after: u64,
        /// One before this is not.
        size: u64,
        /// Where the checkpoint is from that says so.
        from: String,
    },
    /// The last entries are missing.
    Cut {
        /// The number of entries that are left.
        kept: u64,
        /// The number that a checkpoint has.
        size: u64,
        /// Where that checkpoint is from.
        from: String,
    },
    /// The entries are as they were, and their hashes in the files of leaves are not.
    Hash {
        /// The entry of the first such hash.
        index: u64,
    },
    /// The end of the log has entries, or half an entry, which nothing vouches for.
    Tail {
        /// The first such entry.
        index: u64,
        /// What is there.
        what: &'static str,
    },
    /// A checkpoint of the log is not what was written, or missing.
    Checkpoint {
        /// The file.
        name: String,
        /// Where in it.
        offset: Option<u64>,
        /// What is wrong.
        reason: String,
    },
    /// The record of what retention removed is not what was written.
    Removal {
        /// What is wrong.
        reason: String,
    },
}

impl Problem {
    /// The first entry that is not what was written, or not there.
    pub fn first_bad(&self) -> Option<u64> {
        match self {
            Problem::Entry { index, .. } | Problem::Tail { index, .. } => Some(*index),
            Problem::Cut { kept, .. } => Some(*kept),
            Problem::Between { after, .. } => Some(*after),
            Problem::Hash { .. } | Problem::Checkpoint { .. } | Problem::Removal { .. } => None,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Problem::Entry { index, change, place, is_certain } => {
                let what = match change {
                    Change::Altered => "was altered",
                    Change::Removed => "is missing",
                    Change::Inserted => "was inserted",
                    Change::Moved => "and the one after it have changed places",
                    Change::NotAnEntry => "is not an entry",
                };
                write!(f, "entry {index} {what} ({place})")?;
                if *is_certain { Ok(()) } else { f.write_str(", or its hash was: no checkpoint covers it yet") }
            }
            Problem::Between { after, size, from } => write!(
                f,
                "the first {size} entries are not those of the checkpoint in {from}: one or more of {after} to {} and \
                 their hashes were changed",
                size.saturating_sub(1)
            ),
            Problem::Cut { kept, size, from } => {
                write!(f, "entry {kept} and all after it are missing: the checkpoint in {from} has {size} entries")
            }
            Problem::Hash { index } => {
                write!(f, "the hash of entry {index} in the files of leaves was changed; the entries are as they were")
            }
            Problem::Tail { index, what } => write!(f, "entry {index} is {what}"),
            Problem::Checkpoint { name, offset: Some(offset), reason } => {
                write!(f, "{name} at byte {offset}: {reason}")
            }
            Problem::Checkpoint { name, offset: None, reason } => write!(f, "{name}: {reason}"),
            Problem::Removal { reason } => write!(f, "{}: {reason}", files::REMOVED),
        }
    }
}

/// Something to know about a verification.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Note {
    /// The key beside the log was used.
    KeyBesideLog,
    /// No checkpoint from elsewhere was given.
    NoAnchor,
    /// Entries were removed by retention, and a signed record says so.
    Removed {
        /// How many, from the first one on.
        entries: u64,
        /// When, in milliseconds since 1970.
        at: u64,
    },
    /// Checkpoints are of entries that were removed: only their signatures were verified.
    Unchecked {
        /// How many.
        checkpoints: u64,
    },
    /// The last entries are not covered by a checkpoint.
    Uncovered {
        /// How many.
        entries: u64,
    },
    /// The log was being written. What has just been added was not looked at.
    Written,
    /// The copy ends before the last checkpoint.
    ShortCopy {
        /// The number of entries that it has.
        kept: u64,
        /// The number that the checkpoint has.
        size: u64,
    },
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Note::KeyBesideLog => f.write_str(
                "the key beside the log was used: this proves nothing against someone who could replace it with the \
                 log",
            ),
            Note::NoAnchor => f.write_str(
                "no checkpoint from elsewhere was given: that the end of the log was cut off cannot be seen without \
                 one",
            ),
            Note::Removed { entries, .. } => {
                let last = entries.saturating_sub(1);
                write!(f, "entries 0 to {last} were removed by retention, as a signed record says")
            }
            Note::Unchecked { checkpoints } => {
                write!(f, "{checkpoints} checkpoints are of removed entries: only their signatures were verified")
            }
            Note::Uncovered { entries } => {
                write!(f, "no checkpoint covers the last {entries} entries yet")
            }
            Note::Written => f.write_str("a process is writing the log: what it has just added was not looked at"),
            Note::ShortCopy { kept, size } => {
                write!(f, "the copy ends after {kept} entries, and the last checkpoint has {size}: ship the rest")
            }
        }
    }
}

/// Reads the log in `directory`, and compares it with its checkpoints and those from elsewhere.
///
/// # Errors
/// If it cannot be read, there is none, or a key or a checkpoint from elsewhere is of no use. That the log was changed
/// is not an error but a [`Problem`].
pub fn verify(directory: &Path, options: &VerifyOptions) -> Result<Verification, AuditError> {
    let key = match &options.key {
        Some(key) => key.clone(),
        None => key_beside(directory)?,
    };
    let is_live = files::is_locked(directory);
    let (mut others, mut problems) = own_checkpoints(directory, &key)?;
    let latest = others.iter().map(|known| known.size).max();
    for (subject, note) in &options.anchors {
        let checkpoint =
            Checkpoint::open(note, &key).map_err(|source| AuditError::Anchor { subject: subject.clone(), source })?;
        others.push(Known::new(&checkpoint, subject));
    }
    let walked = walk(directory, &key, others)?;
    if !is_live {
        problems.extend(tail_problems(&walked));
    }
    if !options.is_copy {
        problems.extend(too_few_checkpoints(&walked, latest));
    }
    let mut verification = summary(walked, problems);
    if options.is_copy {
        excuse_short_copy(&mut verification);
    }
    if options.key.is_none() {
        verification.notes.insert(0, Note::KeyBesideLog);
    }
    if options.anchors.is_empty() {
        verification.notes.push(Note::NoAnchor);
    }
    if is_live {
        verification.notes.push(Note::Written);
    }
    Ok(verification)
}

/// The latest checkpoint in the file of its own, and those that were shipped.
pub(crate) fn own_checkpoints(directory: &Path, key: &VerifierKey) -> Result<(Vec<Known>, Vec<Problem>), AuditError> {
    let shipped: Vec<PathBuf> = files::numbered(directory, "checkpoint-", "")?
        .into_iter()
        .map(|size| directory.join(files::shipped_checkpoint(size)))
        .collect();
    let (mut knowns, mut problems) = (Vec::new(), Vec::new());
    let latest = directory.join(files::CHECKPOINT);
    let is_shipped = !shipped.is_empty();
    for path in shipped.into_iter().chain([latest]) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        match files::small(&path)?.map(|note| Checkpoint::open(&note, key)) {
            Some(Ok(checkpoint)) => knowns.push(Known::new(&checkpoint, name)),
            Some(Err(error)) => problems.push(Problem::Checkpoint { name, offset: None, reason: error.to_string() }),
            None if is_shipped => {}
            None => problems.push(Problem::Checkpoint { name, offset: None, reason: "it is missing".into() }),
        }
    }
    Ok((knowns, problems))
}

fn key_beside(directory: &Path) -> Result<VerifierKey, AuditError> {
    let path = directory.join(files::PUBLIC_KEY);
    let text = files::small(&path)?.ok_or_else(|| AuditError::Absent { directory: directory.into() })?;
    VerifierKey::parse(&String::from_utf8_lossy(&text))
        .map_err(|source| AuditError::Key { subject: path.display().to_string(), source })
}

/// Whether the file of checkpoints ends before the latest one, which is written there first.
pub(crate) fn too_few_checkpoints(walked: &Walked, latest: Option<u64>) -> Option<Problem> {
    let is_short = walked.problems.is_empty() && walked.last_checkpoint < latest;
    let reason = "it has fewer checkpoints than were written".into();
    is_short.then(|| Problem::Checkpoint { name: files::CHECKPOINTS.into(), offset: None, reason })
}

/// What is wrong at the ends of files. While a process writes there, and after a crash, nothing is.
pub(crate) fn tail_problems(walked: &Walked) -> Vec<Problem> {
    let mut problems = Vec::new();
    if let Some(offset) = walked.torn_checkpoint {
        let (name, reason) = (files::CHECKPOINTS.into(), "it ends in the middle of a checkpoint".into());
        problems.push(Problem::Checkpoint { name, offset: Some(offset), reason });
    }
    let Some(tail) = walked.tail.as_ref().filter(|_| walked.problems.is_empty()) else { return problems };
    if let Some(index) = tail.unhashed {
        let what = "not in the file of leaves: it was added, or the service was killed just then and has to be started";
        problems.push(Problem::Tail { index, what });
    } else if tail.is_torn {
        let what = "cut off in the middle: it was cut, or the service was killed just then and has to be started";
        problems.push(Problem::Tail { index: walked.range.size(), what });
    } else if tail.torn_leaf {
        problems.push(Problem::Hash { index: walked.range.size() });
    }
    problems
}

fn summary(walked: Walked, mut problems: Vec<Problem>) -> Verification {
    let mut notes = Vec::new();
    let (size, root, covered) = (walked.range.size(), walked.range.root(), walked.covered);
    let first = walked.removal.as_ref().map_or(0, |removal| removal.range.size());
    if let Some(removal) = &walked.removal {
        notes.push(Note::Removed { entries: first, at: removal.at });
    }
    if walked.unchecked > 0 {
        notes.push(Note::Unchecked { checkpoints: walked.unchecked });
    }
    problems.splice(0..0, walked.problems);
    if problems.is_empty() && size > covered {
        notes.push(Note::Uncovered { entries: size - covered });
    }
    Verification { first, size, root, covered, checkpoints: walked.compared, problems, notes }
}

fn excuse_short_copy(verification: &mut Verification) {
    let notes = &mut verification.notes;
    verification.problems.retain(|problem| {
        if let Problem::Cut { kept, size, .. } = problem {
            notes.push(Note::ShortCopy { kept: *kept, size: *size });
            return false;
        }
        true
    });
}
