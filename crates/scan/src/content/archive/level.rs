//! One opened archive with its current member, and the limits that all nested archives of a file share.
//!
//! A [`Level`] holds a [`Format`] and at most one [`Node`], the member that is open. A node is undecided until
//! enough bytes are known; then it is either a leaf, whose bytes are passed on, or a level of its own.

use layersift_model::{Gap, GapReason, Limits};

use super::bytes::without_zeros;
use super::detect::Kind;
use super::prefixed::PrefixedZip;
use super::stream::too_much_memory;
use super::zip::Zip;
use super::{HEAD_BYTES, Members};
use crate::layer_work::{MEMBER, decompressed};
use crate::memory::{ExtraMemory, MemoryLease};

/// The maximum length in bytes of a member's name; longer names are truncated.
const LONGEST_NAME: usize = 4096;

/// The number of bytes that are added at once to the unread rest of a format.
const CARRY_STEP: usize = 64 << 10;

/// Whether an archive continues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// More bytes are needed.
    More,
    /// The archive has ended; the rest of the input comes after it.
    End,
}

/// A reader of one archive format.
pub(super) trait Format: Send {
    /// Reads from the front of `input`, advances it, and passes members to `sink`. After `More`, the unread rest is
    /// passed again, followed by more bytes; a format bounds that rest. After an error the format is not called
    /// again, and the rest is passed on as raw bytes.
    fn push(&mut self, input: &mut &[u8], sink: &mut MemberSink<'_, '_>) -> Result<Progress, Gap>;

    /// The input has ended with the unread bytes `rest`.
    fn finish(&mut self, rest: &[u8], sink: &mut MemberSink<'_, '_>) -> Result<(), Gap>;
}

/// The state that all levels of one file share.
pub(super) struct OpenerState {
    limits: Limits,
    memory: MemoryLease,
    inside: Vec<String>,
    members: u64,
    inflated: u64,
    is_leaf_open: bool,
    /// A limit was reached: no more members are passed on.
    pub(super) stopped: bool,
}

impl OpenerState {
    pub(super) fn new(limits: &Limits, memory: &MemoryLease) -> OpenerState {
        OpenerState {
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

/// Passes members on to the caller, within the limits.
pub(super) struct BoundedMembers<'m> {
    pub(super) shared: &'m mut OpenerState,
    pub(super) members: &'m mut dyn Members,
}

impl BoundedMembers<'_> {
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

    /// Counts a member or another compressed stream. Returns `false` beyond the limit.
    fn count_member(&mut self) -> bool {
        self.shared.members += 1;
        let limit = self.shared.limits.archive_members;
        if self.shared.members > limit && !self.shared.stopped {
            self.stop(format!("the archives hold more than {limit} members; the rest was not read"));
        }
        self.work(MEMBER) && !self.shared.stopped
    }

    /// Counts work. Returns whether the layer may take more, and stops otherwise.
    fn work(&mut self, work: u64) -> bool {
        if !self.shared.stopped && !self.members.work(work) {
            self.end();
            self.shared.stopped = true;
        }
        !self.shared.stopped
    }

    /// Counts `count` decompressed bytes. Returns how many of them are within the limit.
    fn count_inflated(&mut self, count: usize) -> usize {
        let left = self.shared.limits.archive_bytes.saturating_sub(self.shared.inflated);
        self.shared.inflated = self.shared.inflated.saturating_add(count as u64);
        usize::try_from(left).unwrap_or(usize::MAX).min(count)
    }
}

/// Receives the members of one format.
pub(super) struct MemberSink<'a, 'm> {
    child: &'a mut Option<Box<Node>>,
    /// The nesting depth of members that are archives.
    depth: usize,
    out: &'a mut BoundedMembers<'m>,
}

impl MemberSink<'_, '_> {
    /// Begins a member, which may be an archive itself, and ends the previous one.
    pub(super) fn begin(&mut self, name: Option<&[u8]>, size: Option<u64>) {
        self.open(name, size);
    }

    /// Begins a member that is not opened, and ends the previous one.
    pub(super) fn begin_raw(&mut self, name: Option<&[u8]>, size: Option<u64>) {
        if let Some(node) = self.open(name, size) {
            node.state = NodeState::Leaf;
            self.out.begin(size);
        }
    }

    /// Passes on bytes of the open member; does nothing if no member is open.
    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        if let (Some(node), false) = (self.child.as_deref_mut(), bytes.is_empty()) {
            node.push(bytes, self.depth, self.out);
        }
    }

    /// Passes on decompressed bytes of the open member, up to the limit.
    pub(super) fn inflated(&mut self, bytes: &[u8]) {
        if self.out.members.is_cancelled() {
            self.out.end();
            self.out.shared.stopped = true;
        }
        if !self.out.work(decompressed(bytes)) {
            return;
        }
        let within = self.out.count_inflated(bytes.len());
        self.bytes(bytes.get(..within).unwrap_or(bytes));
        if within < bytes.len() && !self.out.shared.stopped {
            let limit = self.out.shared.limits.archive_bytes;
            self.out.stop(format!("the archives decompress to more than {limit} bytes; the rest was not read"));
        }
    }

    /// Ends the open member.
    pub(super) fn end(&mut self) {
        if let Some(mut node) = self.child.take() {
            node.finish(self.depth, self.out);
            if node.is_named {
                self.out.shared.inside.pop();
            }
        }
    }

    /// Reports a gap in the open member or in the archive.
    pub(super) fn gap(&mut self, gap: Gap) {
        self.out.gap(gap);
    }

    /// Takes the memory of a decoder. Waits until it is available.
    ///
    /// # Errors
    /// If all decoders of the layer, one inside the other, need too much.
    pub(super) fn memory(&self, bytes: u64) -> Result<ExtraMemory, Gap> {
        let memory = self.out.shared.memory.try_grow(bytes);
        memory.ok_or_else(|| too_much_memory("that of all streams that are open in the layer is limited"))
    }

    /// Counts work. Does nothing more once a limit was reached.
    pub(super) fn work(&mut self, work: u64) {
        self.out.work(work);
    }

    /// Counts another compressed stream as a member: millions of empty streams would otherwise take unbounded time.
    pub(super) fn count_stream(&mut self) {
        self.out.count_member();
    }

    /// Whether a limit was reached, so that no more members are passed on.
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
        let node = Node { is_named: name.is_some(), size, state: NodeState::Undecided(Vec::new()) };
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
    state: NodeState,
}

enum NodeState {
    /// The first bytes, while there are too few to detect a format.
    Undecided(Vec<u8>),
    Leaf,
    /// A leaf behind which an archive may begin.
    Prefix(PrefixedZip),
    Level(Box<Level>),
}

impl Node {
    fn push(&mut self, bytes: &[u8], depth: usize, out: &mut BoundedMembers<'_>) {
        match &mut self.state {
            NodeState::Leaf => out.bytes(bytes),
            NodeState::Prefix(search) => match search.find(bytes) {
                Some((first, rest)) if depth <= out.shared.limits.archive_depth => {
                    out.bytes(bytes.get(..bytes.len() - rest.len()).unwrap_or_default());
                    out.end();
                    let mut level = Level::new(Box::new(Zip::new()), depth);
                    level.push(&first, out);
                    level.push(rest, out);
                    self.state = NodeState::Level(Box::new(level));
                }
                Some(_) => {
                    too_deep(out);
                    self.state = NodeState::Leaf;
                    out.bytes(bytes);
                }
                None => out.bytes(bytes),
            },
            NodeState::Level(level) => level.push(bytes, out),
            NodeState::Undecided(head) => {
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

    fn finish(&mut self, depth: usize, out: &mut BoundedMembers<'_>) {
        if let NodeState::Undecided(head) = &mut self.state {
            let head = std::mem::take(head);
            self.decide(&head, depth, out);
            self.push(&head, depth, out);
        }
        match &mut self.state {
            NodeState::Level(level) => level.finish(out),
            _ => out.end(),
        }
    }

    fn decide(&mut self, head: &[u8], depth: usize, out: &mut BoundedMembers<'_>) {
        let head = head.get(..HEAD_BYTES).unwrap_or(head);
        let detecting = Kind::detection_work(head);
        if detecting > 0 && !out.work(detecting) {
            self.state = NodeState::Leaf;
            return;
        }
        match Kind::detect(head) {
            Some(kind) if depth <= out.shared.limits.archive_depth => {
                self.state = NodeState::Level(Box::new(Level::new(kind.open(&out.shared.limits), depth)));
                return;
            }
            Some(_) => {
                too_deep(out);
                self.state = NodeState::Leaf;
            }
            None => self.state = PrefixedZip::behind(head).map_or(NodeState::Leaf, NodeState::Prefix),
        }
        out.begin(self.size);
    }
}

fn too_deep(out: &mut BoundedMembers<'_>) {
    let limit = out.shared.limits.archive_depth;
    let detail = format!("archives are nested deeper than the limit of {limit}; the inner one was not opened");
    out.gap(Gap::new(GapReason::ArchiveTooDeep, detail));
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The format reads its archive.
    Reading,
    /// The format has ended; zeros that pad the file are skipped.
    Ended,
    /// The rest goes to the open member.
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

    pub(super) fn push(&mut self, bytes: &[u8], out: &mut BoundedMembers<'_>) {
        let mut rest = bytes;
        while !rest.is_empty() && !out.shared.stopped {
            rest = match self.phase {
                Phase::Reading if self.carry.is_empty() => self.read_in_place(rest, out),
                Phase::Reading => self.read_after_carry(rest, out),
                Phase::Ended | Phase::Rest => {
                    self.push_trailing(rest, out);
                    &[]
                }
            };
        }
    }

    pub(super) fn finish(&mut self, out: &mut BoundedMembers<'_>) {
        if self.phase == Phase::Reading && !out.shared.stopped {
            let carry = std::mem::take(&mut self.carry);
            let mut sink = MemberSink { child: &mut self.child, depth: self.depth + 1, out };
            let result = self.format.finish(&carry, &mut sink);
            self.leave(result.err(), out);
            self.push_trailing(&carry, out);
        }
        self.sink(out).end();
    }

    /// Reads from the front of `bytes`. Returns the unread rest.
    fn read_in_place<'b>(&mut self, bytes: &'b [u8], out: &mut BoundedMembers<'_>) -> &'b [u8] {
        let mut rest = bytes;
        let mut sink = MemberSink { child: &mut self.child, depth: self.depth + 1, out };
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

    /// Appends bytes to the unread rest of the format, and reads that. Returns the unread rest of `bytes`.
    fn read_after_carry<'b>(&mut self, bytes: &'b [u8], out: &mut BoundedMembers<'_>) -> &'b [u8] {
        let (first, rest) = bytes.split_at(bytes.len().min(CARRY_STEP));
        self.carry.extend_from_slice(first);
        let carry = std::mem::take(&mut self.carry);
        let mut left = carry.as_slice();
        let mut sink = MemberSink { child: &mut self.child, depth: self.depth + 1, out };
        let result = self.format.push(&mut left, &mut sink);
        let read = carry.len() - left.len();
        if result == Ok(Progress::More) {
            self.carry = carry;
            self.carry.drain(..read);
            return rest;
        }
        self.leave(result.err(), out);
        self.push_trailing(left, out);
        rest
    }

    /// Ends the format, with or without a gap.
    fn leave(&mut self, gap: Option<Gap>, out: &mut BoundedMembers<'_>) {
        self.sink(out).end();
        self.phase = Phase::Ended;
        if let Some(gap) = gap {
            out.gap(gap);
            self.phase = Phase::Rest;
        }
    }

    /// Passes on the bytes after the part that could be read; they may be another archive if that part was complete.
    fn push_trailing(&mut self, bytes: &[u8], out: &mut BoundedMembers<'_>) {
        let is_whole = self.phase == Phase::Ended;
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

    fn sink<'a, 'm>(&'a mut self, out: &'a mut BoundedMembers<'m>) -> MemberSink<'a, 'm> {
        MemberSink { child: &mut self.child, depth: self.depth + 1, out }
    }
}
