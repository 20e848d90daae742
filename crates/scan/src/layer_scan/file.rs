//! One file of a layer while its segments are scanned, on any thread and in any order.
//!
//! The walk, each segment and each member of an archive hold a [`FileHandle`]. Every holder ends with
//! [`FileHandle::release`], and the last release concludes the file: all its segments are scanned then, and what was
//! found can be sorted, placed in lines and sections, and reported.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::mem;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::compiled_rules::CompiledRules;
use crate::confirm::{CONTEXT, Confirmed, Matches, REACH, Worth, cipher, keep_best};
use crate::content::keep::Kept;
use crate::content::{binary, text};
use crate::engine::EngineError;
use crate::layer::buffer::Bytes;
use crate::layer::walk::Segment;
use layersift_format::tar::Entry;
use layersift_model::{BinaryPlace, Gap, GapReason, ImagePath, LayerFinding, Limits, Place, RuleInfo, Secret};
use layersift_rules::FileRule;

/// Findings that one file may hold before they are sorted and cut: a bound on memory only.
const FOUND_AT_ONCE: usize = 20_000;

/// Findings of one file that are named although they are no secrets as they stand.
const DAMAGED: usize = 32;

/// What the files of a layer report to.
pub(super) struct Sink<'s> {
    pub(super) rules: &'s CompiledRules,
    pub(super) limits: &'s Limits,
    findings: Mutex<Vec<LayerFinding>>,
    gaps: Mutex<Vec<Gap>>,
    /// Files that were opened and not concluded.
    open: AtomicUsize,
}

impl<'s> Sink<'s> {
    pub(super) fn new(rules: &'s CompiledRules, limits: &'s Limits) -> Sink<'s> {
        Sink { rules, limits, findings: Mutex::default(), gaps: Mutex::default(), open: AtomicUsize::new(0) }
    }

    /// Notes that the engine failed.
    pub(super) fn engine_gap(&self, error: &EngineError) {
        self.gap(Gap::new(GapReason::Unreadable, error.to_string()));
    }

    /// What all files reported. A file that nobody concluded is a gap, and never a file without findings.
    pub(super) fn into_parts(self) -> (Vec<LayerFinding>, Vec<Gap>) {
        let open = self.open.load(Ordering::Acquire);
        if open > 0 {
            self.gap(Gap::new(GapReason::Unreadable, format!("{open} files were not concluded")));
        }
        let inner = |gaps: Mutex<Vec<Gap>>| gaps.into_inner().unwrap_or_else(PoisonError::into_inner);
        (self.findings.into_inner().unwrap_or_else(PoisonError::into_inner), inner(self.gaps))
    }

    fn gap(&self, gap: Gap) {
        self.gaps.lock().unwrap_or_else(PoisonError::into_inner).push(gap);
    }
}

/// A file while it is scanned; concluded by the last release.
#[derive(Clone)]
pub(super) struct FileHandle<'a, 's>(Arc<OpenFile<'a, 's>>);

struct OpenFile<'a, 's> {
    sink: &'s Sink<'s>,
    path: ImagePath,
    number: u32,
    content: Content<'a, 's>,
    /// The file rules that speak of this path.
    rules: Vec<usize>,
    /// The signatures that hold at this path only.
    local: Vec<usize>,
    state: Mutex<State<'a>>,
}

/// What a file is.
enum Content<'a, 's> {
    /// An entry of the layer.
    Entry(Entry),
    /// A file that is in no layer.
    Loose,
    /// A member of an archive.
    Member {
        /// The entry that is the archive, which is concluded when all its members are.
        outer: FileHandle<'a, 's>,
        /// The names of the members that lead to it.
        inside: Vec<String>,
    },
}

#[derive(Default)]
struct State<'a> {
    found: Vec<Confirmed>,
    /// The signature whose parser has to read the whole file.
    needs_whole_file: Option<usize>,
    /// What is no secret as it stands: the first few, which leave the limits to the others.
    damaged: Vec<Confirmed>,
    /// Line and column of what was found, by where it begins.
    positions: HashMap<usize, (u64, u64)>,
    overflowed: bool,
    /// Where in a text file that spans windows new bytes and segments begin.
    marks: Vec<Mark>,
    is_text: bool,
    kept: Option<Kept<'a>>,
    /// The first bytes, where a rule for files wants to see them, and the size so far.
    head: Vec<u8>,
    size: u64,
    /// Findings in members, where this is an archive.
    in_members: Vec<LayerFinding>,
}

/// How many line ends, and bytes behind the last of them, come before an offset.
#[derive(Clone, Copy, Default)]
struct Mark {
    offset: u64,
    lines: u64,
    column: u64,
}

impl<'a, 's> FileHandle<'a, 's> {
    pub(super) fn new(sink: &'s Sink<'s>, path: ImagePath, number: u32, entry: Entry) -> FileHandle<'a, 's> {
        let (rules, local) = (sink.rules.files.at(path.as_bytes()), sink.rules.local.at(path.as_bytes()));
        FileHandle::open(OpenFile {
            sink,
            path,
            number,
            content: Content::Entry(entry),
            rules,
            local,
            state: Mutex::default(),
        })
    }

    /// A file that is in no layer.
    pub(super) fn loose(sink: &'s Sink<'s>, path: ImagePath) -> FileHandle<'a, 's> {
        let (rules, local) = (sink.rules.files.at(path.as_bytes()), sink.rules.local.at(path.as_bytes()));
        let content = Content::Loose;
        FileHandle::open(OpenFile { sink, path, number: 0, content, rules, local, state: Mutex::default() })
    }

    fn open(file: OpenFile<'a, 's>) -> FileHandle<'a, 's> {
        file.sink.open.fetch_add(1, Ordering::AcqRel);
        FileHandle(Arc::new(file))
    }

    /// Gives the handle back. The last one concludes the file.
    pub(super) fn release(self) {
        if let Some(file) = Arc::into_inner(self.0) {
            file.conclude();
        }
    }

    /// A member of the archive that this file is; the names in `inside` lead to it.
    pub(super) fn member(&self, inside: Vec<String>) -> FileHandle<'a, 's> {
        let OpenFile { sink, path, number, .. } = &*self.0;
        let (sink, path, number) = (*sink, path.clone(), *number);
        let full_path = full_path(&path, &inside);
        let (rules, local) = (sink.rules.files.at(&full_path), sink.rules.local.at(&full_path));
        let content = Content::Member { outer: self.clone(), inside };
        FileHandle::open(OpenFile { sink, path, number, content, rules, local, state: Mutex::default() })
    }

    /// The signatures that hold in this file, and only in files at such paths.
    pub(super) fn local_signatures(&self) -> &[usize] {
        &self.0.local
    }

    /// Notes that something in this file was not looked at.
    pub(super) fn gap(&self, inside: &[String], gap: Gap) {
        self.0.gap(inside, gap);
    }

    /// Takes the next bytes, in order: those in `range` of `window`.
    pub(super) fn bytes(&self, offset: u64, window: &Bytes<'a>, range: Range<usize>) {
        let bytes = &window[range.clone()];
        let mut state = self.0.state();
        if offset == 0 {
            state.is_text = true;
            // The first piece of a member may be too short to tell.
            let is_small = self.0.stored().is_some_and(|stored| stored <= Kept::WHOLE);
            state.kept = (is_small || bytes.len() < 4 || is_program(bytes)).then(Kept::default);
        }
        // Segments come only when more than the sample has passed, so that this is decided by then.
        if offset < text::SAMPLE as u64 {
            let sample = bytes.len().min(text::SAMPLE - offset as usize);
            state.is_text &= text::is_text(&bytes[..sample]);
        }
        if !self.0.rules.is_empty() {
            let wanted = FileRule::HEAD.saturating_sub(state.head.len()).min(bytes.len());
            state.head.extend_from_slice(&bytes[..wanted]);
        }
        state.size = offset + bytes.len() as u64;
        if state.is_text && self.0.stored().is_none_or(|stored| stored > bytes.len() as u64) {
            // The next segment begins at the cut, unless these are the last bytes.
            let cut = bytes.len().saturating_sub(CONTEXT + REACH);
            state.mark(offset, &bytes[..cut]);
            state.mark(offset + cut as u64, &bytes[cut..]);
        }
        if let Some(kept) = &mut state.kept {
            kept.push(window, range);
        }
    }

    /// Takes what was confirmed in a segment that holds `bytes`.
    pub(super) fn found(&self, segment: &Segment<Self>, bytes: &[u8], matches: Matches) {
        let mut state = self.0.state();
        let path = self.0.full_path();
        let wanted = matches.needs_whole_file.filter(|rule| self.0.sink.rules.holds_at(*rule, Some(&path)));
        state.needs_whole_file = state.needs_whole_file.or(wanted);
        for mut one in matches.confirmed.into_iter().filter(|one| self.0.sink.rules.holds_at(one.rule, Some(&path))) {
            if one.worth != Worth::Damaged && state.found.len() >= FOUND_AT_ONCE {
                state.overflowed = true;
                continue;
            }
            let position = state.position(bytes, segment.offset, one.span.start);
            let base = segment.offset as usize;
            one.span = base + one.span.start..base + one.span.end;
            if let Some(position) = position {
                state.positions.insert(one.span.start, position);
            }
            match one.worth {
                Worth::Damaged => state.add_damaged(one),
                Worth::Secret | Worth::Published => state.found.push(one),
            }
        }
    }
}

impl State<'_> {
    /// Keeps the damaged findings that come first in the file, in whichever order they are found.
    fn add_damaged(&mut self, one: Confirmed) {
        self.damaged.push(one);
        if self.damaged.len() >= 2 * DAMAGED {
            self.cut_damaged();
        }
    }

    fn cut_damaged(&mut self) {
        self.damaged.sort_by_key(|one| (one.span.start, one.rule));
        self.damaged.truncate(DAMAGED);
    }

    /// Notes where the next bytes of a text file begin, and counts the lines in them.
    fn mark(&mut self, offset: u64, bytes: &[u8]) {
        if self.marks.is_empty() {
            self.marks.push(Mark::default());
        }
        let start = self.marks.last().copied().unwrap_or_default();
        let column = match memchr::memrchr(b'\n', bytes) {
            Some(newline) => (bytes.len() - newline - 1) as u64,
            None => start.column + bytes.len() as u64,
        };
        let offset = offset + bytes.len() as u64;
        self.marks.push(Mark { offset, lines: start.lines + text::newlines(bytes), column });
    }

    /// Line and column of byte `at` of a segment that begins at `offset`, where a mark is.
    fn position(&self, bytes: &[u8], offset: u64, at: usize) -> Option<(u64, u64)> {
        if !self.is_text {
            return None;
        }
        let mark = match self.marks.iter().find(|mark| mark.offset == offset) {
            Some(mark) => *mark,
            None if offset == 0 => Mark::default(),
            None => return None,
        };
        Some(text::position(bytes, at, mark.lines, mark.column))
    }
}

impl<'a> OpenFile<'a, '_> {
    fn state(&self) -> std::sync::MutexGuard<'_, State<'a>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The size of the file as it is stored, where that is known before it is read.
    fn stored(&self) -> Option<u64> {
        match &self.content {
            Content::Entry(entry) => Some(entry.stored),
            Content::Loose | Content::Member { .. } => None,
        }
    }

    /// Whether the bytes are the file's, and not the pieces of one with holes.
    fn is_stored_whole(&self) -> bool {
        matches!(&self.content, Content::Entry(entry) if entry.sparse.is_none())
    }

    fn inside(&self) -> &[String] {
        match &self.content {
            Content::Entry(_) | Content::Loose => &[],
            Content::Member { inside, .. } => inside,
        }
    }

    /// The path that globs are matched against.
    fn full_path(&self) -> Vec<u8> {
        full_path(&self.path, self.inside())
    }

    fn gap(&self, inside: &[String], gap: Gap) {
        let path = inside.iter().fold(self.path.to_string(), |path, member| path + " ▸ " + member);
        self.sink.gap(gap.at(path));
    }

    /// Reports what was found in the file: to its archive where it is a member, to the layer otherwise.
    fn conclude(mut self) {
        let mut state = mem::take(self.state.get_mut().unwrap_or_else(PoisonError::into_inner));
        let findings = self.findings(&mut state);
        let OpenFile { sink, content, .. } = self;
        match content {
            Content::Entry(_) | Content::Loose => {
                // One more than the limit shows that there were more.
                let limit = sink.limits.findings_per_layer + 1;
                add(&mut sink.findings.lock().unwrap_or_else(PoisonError::into_inner), findings, limit);
            }
            Content::Member { outer, .. } => {
                add(&mut outer.0.state().in_members, findings, FOUND_AT_ONCE);
                outer.release();
            }
        }
        sink.open.fetch_sub(1, Ordering::AcqRel);
    }

    /// Everything that was found in the file and its members.
    fn findings(&self, state: &mut State<'_>) -> Vec<LayerFinding> {
        let mut findings = self.misplaced(state);
        state.cut_damaged();
        let damaged = mem::take(&mut state.damaged);
        state.found.extend(damaged);
        let needs_parser = state.needs_whole_file.is_some();
        if findings.is_empty() && state.found.is_empty() && state.in_members.is_empty() && !needs_parser {
            return findings;
        }
        let whole = state.kept.take().map(Whole::new).unwrap_or_default();
        findings.extend(self.confirmed(state, &whole));
        findings.append(&mut state.in_members);
        if !matches!(self.content, Content::Member { .. }) {
            let checksums = self.is_stored_whole().then(|| whole.checksums()).flatten().map(Arc::new);
            findings.iter_mut().for_each(|finding| finding.checksums.clone_from(&checksums));
            unite_members(&mut findings);
        }
        findings
    }

    /// What rules for files say of this one.
    fn misplaced(&self, state: &State<'_>) -> Vec<LayerFinding> {
        let files = &self.sink.rules.files;
        let spoken_of = self.rules.iter().filter(|rule| files.judge(**rule, &state.head, state.size));
        let finding = |rule: &usize| LayerFinding {
            rule: self.sink.rules.file_info(*rule),
            severity: self.sink.rules.file_info(*rule).severity,
            place: Place { path: self.path.clone(), inside: self.inside().to_vec(), ..Place::default() },
            entry: self.number,
            superseded: None,
            secret: None,
            note: None,
            checksums: None,
        };
        spoken_of.map(finding).collect()
    }

    /// What signatures found in this file.
    fn confirmed(&self, state: &mut State<'_>, whole: &Whole) -> Vec<LayerFinding> {
        let mut found = mem::take(&mut state.found);
        self.read_whole_file(state.needs_whole_file, &mut found, whole);
        keep_best(&self.sink.rules.signatures, &mut found);
        self.cut(&mut found, state.overflowed);
        let Whole { head, tail, length } = whole;
        let parse = || binary::parse(binary::Parts { head, tail, len: *length });
        let view = (is_program(head) && !found.is_empty()).then(parse).flatten();
        found.into_iter().map(|one| self.finding(one, state, view.as_ref())).collect()
    }

    fn finding(&self, one: Confirmed, state: &State<'_>, view: Option<&binary::Binary<'_>>) -> LayerFinding {
        let at = one.span.start as u64;
        let position = state.positions.get(&one.span.start);
        let place = view.map(|view| view.locate(at)).map(|place| BinaryPlace {
            format: place.format.into(),
            section: place.section,
            symbol: place.symbol,
            node_addon: place.node_addon,
        });
        LayerFinding {
            rule: self.sink.rules.info(&one),
            severity: self.sink.rules.severity(&one),
            place: Place {
                path: self.path.clone(),
                inside: self.inside().to_vec(),
                views: one.views.into_iter().map(Cow::Borrowed).collect(),
                offset: match &self.content {
                    Content::Entry(entry) => entry.file_offset(at),
                    Content::Loose | Content::Member { .. } => at,
                },
                line: position.map(|(line, _)| *line),
                column: position.map(|(_, column)| *column),
                binary: place,
            },
            entry: self.number,
            superseded: None,
            secret: Some(one.secret),
            note: one.note,
            checksums: None,
        }
    }

    /// Adds what the parser of `rule` finds in the whole file.
    fn read_whole_file(&self, rule: Option<usize>, found: &mut Vec<Confirmed>, whole: &Whole) {
        let Some(rule) = rule.filter(|_| whole.is_whole()) else { return };
        let whole = [&whole.head[..], &whole.tail[..]].concat();
        for key in cipher::cipher_keys(&whole) {
            let start = key.offset as usize;
            let label = format!("{}-bit key", key.bytes.len() * 8);
            let note = cipher_note(&key);
            let span = start..start + key.bytes.len();
            let secret = Secret::labelled(key.bytes, label);
            found.push(Confirmed { rule, span, secret, note: Some(note), worth: Worth::Secret, views: Vec::new() });
        }
    }

    /// Cuts what one rule found down to the limit.
    fn cut(&self, found: &mut Vec<Confirmed>, overflowed: bool) {
        let limit = self.sink.limits.findings_per_file;
        let mut counts: HashMap<usize, usize> = HashMap::new();
        let before = found.len();
        found.retain(|one| {
            if one.worth == Worth::Damaged {
                return true;
            }
            let count = counts.entry(one.rule).or_default();
            *count += 1;
            *count <= limit
        });
        if overflowed || found.len() < before {
            let detail = format!("more than {limit} findings of one rule; {} are left out", before - found.len());
            self.gap(self.inside(), Gap::new(GapReason::TooManyFindings, detail));
        }
    }
}

fn is_program(head: &[u8]) -> bool {
    head.starts_with(b"MZ") || binary::is_binary(head)
}

/// The first and the last bytes of a file, and its length. Nothing of a file that was not kept.
#[derive(Default)]
struct Whole {
    head: Vec<u8>,
    tail: Vec<u8>,
    length: u64,
}

impl Whole {
    fn new(kept: Kept<'_>) -> Whole {
        let (head, tail, length) = kept.parts();
        Whole { head, tail, length }
    }

    /// Whether there is nothing in between.
    fn is_whole(&self) -> bool {
        self.length > 0 && (self.head.len() + self.tail.len()) as u64 == self.length
    }

    fn checksums(&self) -> Option<layersift_model::FileChecksums> {
        self.is_whole().then(|| layersift_model::FileChecksums::of(&[&self.head, &self.tail]))
    }
}

/// Adds `findings` to `all`, as far as there is room.
fn add(all: &mut Vec<LayerFinding>, findings: Vec<LayerFinding>, limit: usize) {
    let room = limit.saturating_sub(all.len());
    all.extend(findings.into_iter().take(room));
}

/// The path of a member: that of its archive, and the names that lead to it.
fn full_path(path: &ImagePath, inside: &[String]) -> Vec<u8> {
    let mut full = path.as_bytes().to_vec();
    for member in inside {
        full.push(b'/');
        full.extend_from_slice(member.as_bytes());
    }
    full
}

/// Drops what was seen in the raw bytes of an archive and again, with a name, in one of its members.
fn unite_members(findings: &mut Vec<LayerFinding>) {
    let named: HashSet<(Arc<RuleInfo>, Option<Secret>)> = findings
        .iter()
        .filter(|finding| !finding.place.inside.is_empty())
        .map(|finding| (Arc::clone(&finding.rule), finding.secret.clone()))
        .collect();
    findings.retain(|finding| {
        let seen_again = || named.contains(&(Arc::clone(&finding.rule), finding.secret.clone()));
        !finding.place.inside.is_empty() || finding.secret.is_none() || !seen_again()
    });
}

/// How a cipher key was told from any other constant.
fn cipher_note(key: &cipher::CipherKey) -> String {
    let purpose = key.cipher.as_ref().map(|cipher| format!(" for {cipher}")).unwrap_or_default();
    match (key.evidence, &key.symbol) {
        (cipher::Evidence::Named, Some(symbol)) => {
            format!("named {symbol}, in a module that imports {}{purpose}", key.function)
        }
        _ => format!("passed to {}{purpose}", key.function),
    }
}
