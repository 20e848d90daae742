//! One opened archive, the member it is at, and the bounds that all levels of a file share.
//!
//! A [`Level`] holds a [`Format`] and at most one [`Node`], the member that is open. A node is undecided until its
//! first bytes are there; then it is a leaf that is handed out, or a level of its own.

use layersift_model::{Gap, GapReason, Limits};

use super::bytes::without_zeros;
use super::detect::Kind;
use super::{HEAD_BYTES, Members};
use crate::memory::{Growth, MemoryLease};

/// The longest name of a member that is kept, in bytes.
const LONGEST_NAME: usize = 4096;

/// Bytes added at once to what a format left.
const CARRY_STEP: usize = 64 << 10;

/// Whether an archive goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// More bytes are needed.
    More,
    /// The archive has ended; what is left of the input stands behind it.
    End,
}

/// A reader of one archive format.
pub(super) trait Format: Send {
    /// Takes what it can off the front of `input` and hands members to `sink`. With `More`, what is left comes again
    /// with more behind it; a format bounds what it leaves. An error ends the format, and what is left is handed out.
    fn push(&mut self, input: &mut &[u8], sink: &mut Sink<'_, '_>) -> Result<Progress, Gap>;

    /// The input has ended, and `rest` is what was left of it.
    fn finish(&mut self, rest: &[u8], sink: &mut Sink<'_, '_>) -> Result<(), Gap>;
}

/// What all levels of one file share.
pub(super) struct Shared {
    limits: Limits,
    memory: MemoryLease,
    inside: Vec<String>,
    members: u64,
    inflated: u64,
    is_leaf_open: bool,
    /// A limit was reached: nothing more is handed out.
    pub(super) stopped: bool,
}

impl Shared {
    pub(super) fn new(limits: &Limits, memory: &MemoryLease) -> Shared {
        Shared {
            limits: limits.clone(),
            memory: memory.clone(),
            inside: Vec::new(),
            members: 0,
            inflated: 0,
            is_leaf_open: false,
            stopped: false,
        }
    }
}

/// The way out: to whoever reads members, through the bounds.
pub(super) struct Out<'m> {
    pub(super) shared: &'m mut Shared,
    pub(super) members: &'m mut dyn Members,
}

impl Out<'_> {
    fn begin(&mut self, size: Option<u64>) {
        if !self.shared.stopped {
            self.shared.is_leaf_open = true;
            self.members.begin(&self.shared.inside, size);
        }
    }

    fn bytes(&mut self, bytes: &[u8]) {
        if self.shared.is_leaf_open && !bytes.is_empty() {
            self.members.bytes(bytes);
        }
    }

    fn end(&mut self) {
        if std::mem::take(&mut self.shared.is_leaf_open) {
            self.members.end();
        }
    }

    fn gap(&mut self, gap: Gap) {
        if !self.shared.stopped {
            self.members.gap(&self.shared.inside, gap);
        }
    }

    fn stop(&mut self, detail: String) {
        self.gap(Gap::new(GapReason::ArchiveTooLarge, detail));
        self.end();
        self.shared.stopped = true;
    }

    /// Counts a member or a further stream; false where that is one too many.
    fn count_member(&mut self) -> bool {
        self.shared.members += 1;
        let most = self.shared.limits.archive_members;
        if self.shared.members > most && !self.shared.stopped {
            self.stop(format!("the archives hold more than {most} members; the rest was not read"));
        }
        !self.shared.stopped
    }

    /// How many of `count` inflated bytes are within the limit.
    fn count_inflated(&mut self, count: usize) -> usize {
        let left = self.shared.limits.archive_bytes.saturating_sub(self.shared.inflated);
        self.shared.inflated = self.shared.inflated.saturating_add(count as u64);
        usize::try_from(left).unwrap_or(usize::MAX).min(count)
    }
}

/// Where a format hands its members.
pub(super) struct Sink<'a, 'm> {
    child: &'a mut Option<Box<Node>>,
    /// The depth of an archive that is a member.
    depth: usize,
    out: &'a mut Out<'m>,
}

impl Sink<'_, '_> {
    /// A member begins, which may be an archive itself. The one before ends.
    pub(super) fn begin(&mut self, name: Option<&[u8]>, size: Option<u64>) {
        self.open(name, size);
    }

    /// A member begins that is handed out as it is. The one before ends.
    pub(super) fn begin_raw(&mut self, name: Option<&[u8]>, size: Option<u64>) {
        if let Some(node) = self.open(name, size) {
            node.state = State::Leaf;
            self.out.begin(size);
        }
    }

    /// The next bytes of the open member; nothing happens where none is open.
    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        if let (Some(node), false) = (self.child.as_deref_mut(), bytes.is_empty()) {
            node.push(bytes, self.depth, self.out);
        }
    }

    /// The next bytes of the open member, which were compressed.
    pub(super) fn inflated(&mut self, bytes: &[u8]) {
        if self.out.members.is_cancelled() {
            self.out.end();
            self.out.shared.stopped = true;
        }
        let within = self.out.count_inflated(bytes.len());
        self.bytes(bytes.get(..within).unwrap_or(bytes));
        if within < bytes.len() && !self.out.shared.stopped {
            let most = self.out.shared.limits.archive_bytes;
            self.out.stop(format!("the archives inflate to more than {most} bytes; the rest was not read"));
        }
    }

    /// The open member has no more bytes.
    pub(super) fn end(&mut self) {
        if let Some(mut node) = self.child.take() {
            node.finish(self.depth, self.out);
            if node.is_named {
                self.out.shared.inside.pop();
            }
        }
    }

    /// Something was not read, of the open member or of the archive.
    pub(super) fn gap(&mut self, gap: Gap) {
        self.out.gap(gap);
    }

    /// Takes the memory of a decoder, and waits until it is there.
    pub(super) fn memory(&self, bytes: u64) -> Growth {
        self.out.shared.memory.grow(bytes)
    }

    /// Counts a further compressed stream as a member, so that very many empty ones cost no time without bound.
    pub(super) fn count_stream(&mut self) {
        self.out.count_member();
    }

    /// Whether a limit was reached, so that nothing more is handed out.
    pub(super) fn is_stopped(&self) -> bool {
        self.out.shared.stopped
    }

    fn open(&mut self, name: Option<&[u8]>, size: Option<u64>) -> Option<&mut Node> {
        self.end();
        if self.is_stopped() {
            return None;
        }
        if let Some(name) = name {
            self.out.shared.inside.push(text(name));
        }
        let node = Node { is_named: name.is_some(), size, state: State::Undecided(Vec::new()) };
        let node = self.child.insert(Box::new(node));
        self.out.count_member().then_some(node)
    }
}

/// A name as text of at most [`LONGEST_NAME`] bytes.
fn text(name: &[u8]) -> String {
    let mut text = String::from_utf8_lossy(name.get(..LONGEST_NAME).unwrap_or(name)).into_owned();
    let mut end = text.len().min(LONGEST_NAME);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text
}

/// An open member.
struct Node {
    is_named: bool,
    size: Option<u64>,
    state: State,
}

enum State {
    /// Its first bytes, as long as they are too few to tell.
    Undecided(Vec<u8>),
    Leaf,
    Level(Box<Level>),
}

impl Node {
    fn push(&mut self, bytes: &[u8], depth: usize, out: &mut Out<'_>) {
        match &mut self.state {
            State::Leaf => out.bytes(bytes),
            State::Level(level) => level.push(bytes, out),
            State::Undecided(head) => {
                if head.is_empty() && bytes.len() >= HEAD_BYTES {
                    self.decide(bytes, depth, out);
                    return self.push(bytes, depth, out);
                }
                let (first, rest) = bytes.split_at(bytes.len().min(HEAD_BYTES - head.len()));
                head.extend_from_slice(first);
                if head.len() == HEAD_BYTES {
                    let head = std::mem::take(head);
                    self.decide(&head, depth, out);
                    self.push(&head, depth, out);
                    self.push(rest, depth, out);
                }
            }
        }
    }

    fn finish(&mut self, depth: usize, out: &mut Out<'_>) {
        if let State::Undecided(head) = &mut self.state {
            let head = std::mem::take(head);
            self.decide(&head, depth, out);
            self.push(&head, depth, out);
        }
        match &mut self.state {
            State::Level(level) => level.finish(out),
            _ => out.end(),
        }
    }

    fn decide(&mut self, head: &[u8], depth: usize, out: &mut Out<'_>) {
        let head = head.get(..HEAD_BYTES).unwrap_or(head);
        match Kind::detect(head) {
            Some(kind) if depth <= out.shared.limits.archive_depth => {
                self.state = State::Level(Box::new(Level::new(kind.open(&out.shared.limits), depth)));
                return;
            }
            Some(_) => {
                let detail = format!("archives inside archives are opened {} deep", out.shared.limits.archive_depth);
                out.gap(Gap::new(GapReason::ArchiveTooDeep, detail));
            }
            None => {}
        }
        self.state = State::Leaf;
        out.begin(self.size);
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The format reads.
    Reading,
    /// The format has ended; zeros that fill up are passed over.
    Behind,
    /// What is left goes to the open member.
    Rest,
}

/// One opened archive.
pub(super) struct Level {
    format: Box<dyn Format>,
    depth: usize,
    child: Option<Box<Node>>,
    carry: Vec<u8>,
    phase: Phase,
}

impl Level {
    pub(super) fn new(format: Box<dyn Format>, depth: usize) -> Level {
        Level { format, depth, child: None, carry: Vec::new(), phase: Phase::Reading }
    }

    pub(super) fn push(&mut self, bytes: &[u8], out: &mut Out<'_>) {
        let mut rest = bytes;
        while !rest.is_empty() && !out.shared.stopped {
            rest = match self.phase {
                Phase::Reading if self.carry.is_empty() => self.read_in_place(rest, out),
                Phase::Reading => self.read_behind_carry(rest, out),
                Phase::Behind | Phase::Rest => {
                    self.behind(rest, out);
                    &[]
                }
            };
        }
    }

    pub(super) fn finish(&mut self, out: &mut Out<'_>) {
        if self.phase == Phase::Reading && !out.shared.stopped {
            let carry = std::mem::take(&mut self.carry);
            let mut sink = Sink { child: &mut self.child, depth: self.depth + 1, out };
            let result = self.format.finish(&carry, &mut sink);
            self.leave(result.err(), out);
            self.behind(&carry, out);
        }
        self.sink(out).end();
    }

    /// Reads the front of `bytes`; what is left to be read.
    fn read_in_place<'b>(&mut self, bytes: &'b [u8], out: &mut Out<'_>) -> &'b [u8] {
        let mut rest = bytes;
        let mut sink = Sink { child: &mut self.child, depth: self.depth + 1, out };
        match self.format.push(&mut rest, &mut sink) {
            Ok(Progress::More) => {
                if !out.shared.stopped {
                    self.carry.extend_from_slice(rest);
                }
                &[]
            }
            Ok(Progress::End) => {
                self.leave(None, out);
                rest
            }
            Err(gap) => {
                self.leave(Some(gap), out);
                rest
            }
        }
    }

    /// Adds to what the format left, and reads that; what is left to be read of `bytes`.
    fn read_behind_carry<'b>(&mut self, bytes: &'b [u8], out: &mut Out<'_>) -> &'b [u8] {
        let (first, rest) = bytes.split_at(bytes.len().min(CARRY_STEP));
        self.carry.extend_from_slice(first);
        let carry = std::mem::take(&mut self.carry);
        let mut left = carry.as_slice();
        let mut sink = Sink { child: &mut self.child, depth: self.depth + 1, out };
        let result = self.format.push(&mut left, &mut sink);
        let read = carry.len() - left.len();
        if result == Ok(Progress::More) {
            self.carry = carry;
            self.carry.drain(..read);
            return rest;
        }
        self.leave(result.err(), out);
        self.behind(left, out);
        rest
    }

    /// The format has ended, with a gap or without.
    fn leave(&mut self, gap: Option<Gap>, out: &mut Out<'_>) {
        self.sink(out).end();
        self.phase = Phase::Behind;
        if let Some(gap) = gap {
            out.gap(gap);
            self.phase = Phase::Rest;
        }
    }

    /// Hands out what stands behind the part that could be read: an archive where it is one and the part before was
    /// whole.
    fn behind(&mut self, bytes: &[u8], out: &mut Out<'_>) {
        let is_whole = self.phase == Phase::Behind;
        let bytes = if is_whole { without_zeros(bytes) } else { bytes };
        if bytes.is_empty() {
            return;
        }
        let mut sink = self.sink(out);
        if sink.child.is_none() {
            if is_whole { sink.begin(None, None) } else { sink.begin_raw(None, None) }
        }
        sink.bytes(bytes);
        self.phase = Phase::Rest;
    }

    fn sink<'a, 'm>(&'a mut self, out: &'a mut Out<'m>) -> Sink<'a, 'm> {
        Sink { child: &mut self.child, depth: self.depth + 1, out }
    }
}
