//! Reads a whole log, and compares its entries with their hashes and its roots with the checkpoints.
//!
//! The tree is made from the lines. Where a line first differs from its hash, a second tree is made from the hashes:
//! the next checkpoint says which of the two is as it was.

use std::path::Path;

use crate::checkpoint::Removal;
use crate::entry::Entry;
use crate::error::AuditError;
use crate::files::{self, Segment};
use crate::known::{Known, Knowns};
use crate::note::VerifierKey;
use crate::reading::{Leaves, Line, Lines};
use crate::tree::{Hash, Range};
use crate::verify::{Change, Problem};

/// What was found in a log.
#[derive(Debug, Default)]
pub(crate) struct Walked {
    /// The tree of the lines; that of the first ones, if they were changed.
    pub(crate) range: Range,
    /// What retention removed.
    pub(crate) removal: Option<Removal>,
    pub(crate) problems: Vec<Problem>,
    /// How many checkpoints have the root of the tree of their size.
    pub(crate) compared: u64,
    /// How many are of trees whose entries were removed.
    pub(crate) unchecked: u64,
    /// The size of the last one that was compared.
    pub(crate) covered: u64,
    /// The last segment.
    pub(crate) tail: Option<Tail>,
    /// The size of the last checkpoint in `checkpoints`.
    pub(crate) last_checkpoint: Option<u64>,
    /// Where in `checkpoints` one begins that was not written whole.
    pub(crate) torn_checkpoint: Option<u64>,
}

/// How the last segment ends.
#[derive(Debug)]
pub(crate) struct Tail {
    pub(crate) segment: Segment,
    /// Where its last whole line ends.
    pub(crate) end: u64,
    /// Whether something comes after that, and does not have a hash: a write that a crash cut off.
    pub(crate) is_torn: bool,
    /// The first entry that has no hash.
    pub(crate) unhashed: Option<u64>,
    /// Whether its file of hashes ends in the middle of one.
    pub(crate) torn_leaf: bool,
}

/// A line that does not have the hash it had.
struct Mismatch {
    index: u64,
    change: Change,
    /// Where in the segment the line begins.
    place: String,
}

/// A line and a hash of the same index.
struct Pair {
    line: Option<Line>,
    /// The hash of the line, if it is a whole one.
    hash: Option<Hash>,
    leaf: Option<Hash>,
}

/// Reads the log in `directory`. Only errors of the file system are errors.
pub(crate) fn walk(directory: &Path, key: &VerifierKey, others: Vec<Known>) -> Result<Walked, AuditError> {
    // Before the segments: what is written meanwhile has no checkpoint here.
    let knowns = Knowns::new(directory, key, others)?;
    let mut walk = Walk {
        knowns,
        walked: Walked::default(),
        lines: Some(Range::default()),
        leaves: None,
        mismatch: None,
        unhashed: None,
        leaves_are_wrong: false,
        is_over: false,
    };
    let segments = walk.begin(directory, key)?;
    for (at, segment) in segments.iter().enumerate() {
        if !walk.is_over {
            walk.segment(segment, segments.get(at + 1).map(|next| next.first))?;
        }
    }
    walk.finish()
}

struct Walk {
    knowns: Knowns,
    walked: Walked,
    /// The tree of the lines, until there is none.
    lines: Option<Range>,
    /// The tree of the hashes, from the first mismatch on.
    leaves: Option<Range>,
    mismatch: Option<Mismatch>,
    unhashed: Option<u64>,
    /// A checkpoint has said so: from then on, only lines are looked at.
    leaves_are_wrong: bool,
    is_over: bool,
}

impl Walk {
    /// Takes up what retention left, and returns the segments to read.
    fn begin(&mut self, directory: &Path, key: &VerifierKey) -> Result<Vec<Segment>, AuditError> {
        let mut segments = files::segments(directory)?;
        let mut start = 0;
        if let Some(note) = files::small(&directory.join(files::REMOVED))? {
            match Removal::open(&note, key) {
                Ok(removal) => {
                    start = removal.range.size();
                    self.lines = Some(removal.range.clone());
                    self.walked.covered = start;
                    self.walked.removal = Some(removal);
                }
                Err(error) => self.walked.problems.push(Problem::Removal { reason: error.to_string() }),
            }
        }
        // A crash may have come between the record and the removal.
        segments.retain(|segment| segment.first >= start);
        self.compare(start)?;
        if let Some(first) = segments.first().filter(|segment| segment.first > start) {
            self.missing(start, first);
        }
        Ok(segments)
    }

    /// Reads a segment; `end` is the index after its last entry, if another segment says so.
    fn segment(&mut self, segment: &Segment, end: Option<u64>) -> Result<(), AuditError> {
        // The hashes before the lines: a line is written before its hash.
        let mut leaves = Leaves::open(&segment.leaves)?;
        let mut lines = Lines::open(&segment.entries)?;
        let mut tail =
            Tail { segment: segment.clone(), end: 0, is_torn: false, unhashed: None, torn_leaf: leaves.rest > 0 };
        let mut index = segment.first;
        let mut pair = Pair::read(segment, &mut lines, &mut leaves, end.is_none())?;
        while !self.is_over && (pair.line.is_some() || pair.leaf.is_some()) {
            if pair.line.is_none() && self.leaves_are_wrong {
                break;
            }
            if end == Some(index) {
                self.extra(index, segment, &pair);
                break;
            }
            if end.is_none() && pair.is_torn_write() {
                tail.is_torn = true;
                break;
            }
            let next = Pair::read(segment, &mut lines, &mut leaves, end.is_none())?;
            self.tick(index, segment, &pair, &next)?;
            index += 1;
            if let Some(line) = &pair.line {
                tail.end = line.offset + line.text.len() as u64 + 1;
            }
            pair = next;
        }
        if end.is_some()
            && let Some(index) = self.unhashed.take()
        {
            self.wrong_leaf(index);
        }
        match end {
            Some(end) if index < end => self.missing(index, segment),
            Some(end) if leaves.rest > 0 => self.wrong_leaf(end),
            Some(_) => {}
            None => {
                tail.unhashed = self.unhashed;
                self.walked.tail = Some(tail);
            }
        }
        Ok(())
    }

    /// Takes up one line and its hash.
    fn tick(&mut self, index: u64, segment: &Segment, pair: &Pair, next: &Pair) -> Result<(), AuditError> {
        let leaf = pair.leaf.filter(|_| !self.leaves_are_wrong);
        let agrees = pair.hash.is_some() && (leaf.is_none() || leaf == pair.hash);
        if self.mismatch.is_none() && !agrees {
            self.walked.range = self.lines.clone().unwrap_or_default();
            self.mismatch = Some(Mismatch { index, change: Change::of(pair, next), place: pair.place(segment) });
            self.leaves.clone_from(&self.lines);
        }
        if leaf.is_none() && !self.leaves_are_wrong && self.mismatch.is_none() {
            self.unhashed.get_or_insert(index);
        }
        push(&mut self.lines, pair.hash);
        if self.mismatch.is_some() {
            push(&mut self.leaves, leaf);
        }
        self.compare(index + 1)
    }

    /// Compares the tree of `size` leaves with the checkpoints of that size.
    fn compare(&mut self, size: u64) -> Result<(), AuditError> {
        while let Some(known) = self.knowns.due(size)? {
            if known.size < size {
                self.walked.unchecked += 1;
            } else if !self.is_over {
                self.judge(&known);
            }
        }
        Ok(())
    }

    fn judge(&mut self, known: &Known) {
        let has_root = |range: &Option<Range>| {
            range.as_ref().is_some_and(|range| range.size() == known.size && range.root() == known.root)
        };
        if has_root(&self.lines) {
            if let Some(index) = self.mismatch.take().map(|mismatch| mismatch.index).or(self.unhashed.take()) {
                self.wrong_leaf(index);
            }
            self.walked.covered = known.size;
            self.walked.compared += 1;
        } else if has_root(&self.leaves)
            && let Some(Mismatch { index, change, place }) = self.mismatch.take()
        {
            self.walked.problems.push(Problem::Entry { index, change, place, is_certain: true });
            self.is_over = true;
        } else {
            let (after, size, from) = (self.walked.covered, known.size, known.from.clone());
            self.walked.problems.push(Problem::Between { after, size, from });
            self.is_over = true;
        }
    }

    /// The hashes are not what they were, the one of `index` first; the entries are.
    fn wrong_leaf(&mut self, index: u64) {
        if !self.leaves_are_wrong {
            self.walked.problems.push(Problem::Hash { index });
        }
        self.leaves_are_wrong = true;
        self.leaves = None;
    }

    /// A segment goes on after the next one begins.
    fn extra(&mut self, index: u64, segment: &Segment, pair: &Pair) {
        match (&self.mismatch, &pair.line) {
            // Whatever was changed before this has pushed it here.
            (Some(_), _) => {}
            (None, Some(_)) => {
                let place = pair.place(segment);
                self.walked.problems.push(Problem::Entry { index, change: Change::Inserted, place, is_certain: true });
                self.is_over = true;
            }
            (None, None) => self.wrong_leaf(index),
        }
    }

    /// Neither an entry nor its hash is where it has to be.
    fn missing(&mut self, index: u64, segment: &Segment) {
        let place = segment.entries.display().to_string();
        let change = Change::Removed;
        let first = self.mismatch.take().map_or(index, |mismatch| mismatch.index);
        self.walked.problems.push(Problem::Entry { index: first, change, place, is_certain: true });
        self.is_over = true;
    }

    fn finish(mut self) -> Result<Walked, AuditError> {
        if !self.is_over {
            if let Some(Mismatch { index, change, place }) = self.mismatch.take() {
                self.walked.problems.push(Problem::Entry { index, change, place, is_certain: false });
            }
            let mut beyond: Option<Known> = None;
            while let Some(known) = self.knowns.due(u64::MAX)? {
                beyond = Some(known);
            }
            let kept = self.walked.range.size().max(self.lines.as_ref().map_or(0, Range::size));
            if let Some(Known { size, from, .. }) = beyond
                && self.walked.problems.iter().all(|problem| problem.first_bad().is_none())
            {
                self.walked.problems.push(Problem::Cut { kept, size, from });
            }
        }
        if let Some(lines) = self.lines.take().filter(|_| !self.is_over || self.walked.range.size() == 0) {
            self.walked.range = lines;
        }
        self.walked.problems.append(&mut self.knowns.problems);
        self.walked.torn_checkpoint = self.knowns.torn;
        self.walked.last_checkpoint = self.knowns.last_of_file();
        Ok(self.walked)
    }
}

impl Pair {
    fn read(segment: &Segment, lines: &mut Lines, leaves: &mut Leaves, is_last: bool) -> Result<Pair, AuditError> {
        let line = lines.next().map_err(AuditError::io("read", &segment.entries))?;
        let leaf = leaves.next().map_err(AuditError::io("read", &segment.leaves))?;
        let hash = line.as_ref().filter(|line| line.is_ended).map(Line::hash);
        // A file system may have kept the length of a file, and lost what was written last.
        let leaf = leaf.filter(|leaf| !is_last || *leaf != [0; 32]);
        Ok(Pair { line, hash, leaf })
    }

    /// A line that a crash cut off never had a hash: that is written after the line is on disk.
    fn is_torn_write(&self) -> bool {
        self.leaf.is_none() && self.line.as_ref().is_some_and(Line::is_torn)
    }

    fn place(&self, segment: &Segment) -> String {
        let path = segment.entries.display();
        self.line.as_ref().map_or_else(|| path.to_string(), |line| format!("{path} at byte {}", line.offset))
    }
}

impl Change {
    fn of(pair: &Pair, next: &Pair) -> Change {
        let is = |hash: Option<Hash>, leaf: Option<Hash>| hash.is_some() && hash == leaf;
        match (is(pair.hash, next.leaf), is(next.hash, pair.leaf)) {
            (true, true) => Change::Moved,
            (true, false) => Change::Removed,
            (false, true) => Change::Inserted,
            _ => match &pair.line {
                None => Change::Removed,
                Some(line) if serde_json::from_slice::<Entry>(&line.text).is_err() => Change::NotAnEntry,
                Some(_) => Change::Altered,
            },
        }
    }
}

fn push(range: &mut Option<Range>, leaf: Option<Hash>) {
    match leaf {
        Some(leaf) => {
            if let Some(range) = range {
                range.push(leaf);
            }
        }
        None => *range = None,
    }
}
