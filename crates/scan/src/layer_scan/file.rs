//! One file of a layer while its segments are scanned, by any threads in any order.
//!
//! The walk, each segment and each member of an archive hold a [`FileHandle`]. Every holder ends with
//! [`FileHandle::release`], and the last release concludes the file: all its segments have been scanned, and its
//! findings are sorted, located in lines or sections, and reported.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::mem;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::found::{AllFound, FoundInFile, Positions};
use super::names::Names;
use super::program::{self, Program, ProgramTurn};
use crate::compiled_rules::CompiledRules;
use crate::confirm::{CONTEXT, Confirmed, Matches, REACH, Verification, keep_best};
use crate::content::head_tail::HeadTail;
use crate::content::{binary, text};
use crate::engine::EngineError;
use crate::layer::buffer::Bytes;
use crate::layer::walk::Segment;
use crate::layer_work::{HASHED, LayerWork, Reserved};
use layersift_format::tar::Entry;
use layersift_model::{
    BinaryPlace, FileAttributes, Gap, GapReason, ImagePath, LayerFinding, Limits, Place, RuleInfo, Secret,
};
use layersift_model::{GapList, Ranked};
use layersift_rules::FileRule;

/// The most findings in members of one archive, and their bytes in memory, before it is concluded.
const MOST_IN_MEMBERS: (usize, u64) = (20_000, 4 << 20);

/// Collects the findings and gaps of the files of a layer.
pub(super) struct FindingSink<'s> {
    pub(super) rules: &'s CompiledRules,
    pub(super) limits: &'s Limits,
    /// The work of the layer; a file that the user names has no limit.
    pub(super) work: Option<&'s LayerWork>,
    programs: ProgramTurn<'s>,
    findings: Mutex<Ranked<LayerFinding>>,
    gaps: Mutex<GapList>,
    /// Names that wait to be scanned.
    names: Mutex<Names>,
    /// The number of files that were opened and not yet concluded.
    open: AtomicUsize,
}

impl<'s> FindingSink<'s> {
    pub(super) fn new(
        rules: &'s CompiledRules,
        limits: &'s Limits,
        work: Option<&'s LayerWork>,
        programs: ProgramTurn<'s>,
    ) -> FindingSink<'s> {
        let findings = Ranked::new(limits.findings_per_layer, limits.layer_finding_bytes);
        let gaps = Mutex::new(GapList::new(limits.gap_bytes));
        FindingSink {
            rules,
            limits,
            work,
            programs,
            findings: Mutex::new(findings),
            gaps,
            names: Mutex::default(),
            open: AtomicUsize::new(0),
        }
    }

    /// Adds a finding, if it is among the gravest that fit.
    pub(super) fn add(&self, finding: LayerFinding) {
        self.findings.lock().unwrap_or_else(PoisonError::into_inner).add(finding);
    }

    /// Scans the name of an entry, and what it links to.
    pub(super) fn entry_name(&self, path: &ImagePath, link: &[u8], entry: u32) {
        self.names.lock().unwrap_or_else(PoisonError::into_inner).add(path, link, entry, self);
    }

    /// Scans the names that wait.
    pub(super) fn scan_names(&self) {
        self.names.lock().unwrap_or_else(PoisonError::into_inner).scan(self);
    }

    /// Adds a gap for a failure of the engine.
    pub(super) fn engine_gap(&self, error: &EngineError) {
        self.gap(Gap::new(GapReason::Unreadable, error.to_string()));
    }

    /// The findings and gaps of all files. A file that was not concluded is a gap, not a file without findings.
    pub(super) fn into_parts(self) -> (Ranked<LayerFinding>, GapList) {
        let open = self.open.load(Ordering::Acquire);
        if open > 0 {
            self.gap(Gap::new(
                GapReason::Unreadable,
                format!("the scan of {open} files did not end; this is a bug, please report it"),
            ));
        }
        let findings = self.findings.into_inner().unwrap_or_else(PoisonError::into_inner);
        (findings, self.gaps.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    /// The findings and gaps as lists, for a scan of one file.
    pub(super) fn into_findings(self) -> (Vec<LayerFinding>, Vec<Gap>) {
        let (findings, mut gaps) = self.into_parts();
        let (findings, dropped) = findings.into_parts();
        if dropped > 0 {
            gaps.add(Gap::new(GapReason::TooManyFindings, format!("{dropped} findings were dropped")));
        }
        (findings, gaps.into_gaps())
    }

    fn gap(&self, gap: Gap) {
        self.gaps.lock().unwrap_or_else(PoisonError::into_inner).add(gap);
    }
}

/// A file while it is scanned. The last release concludes it.
#[derive(Clone)]
pub(super) struct FileHandle<'a, 's>(Arc<OpenFile<'a, 's>>);

struct OpenFile<'a, 's> {
    sink: &'s FindingSink<'s>,
    path: ImagePath,
    number: u32,
    origin: FileOrigin<'a, 's>,
    /// The file rules for this path.
    rules: Vec<usize>,
    /// The signatures that apply only to such paths.
    local: Vec<usize>,
    state: Mutex<FileState<'a>>,
}

/// Where a file comes from.
enum FileOrigin<'a, 's> {
    /// An entry of the layer.
    Entry(Entry),
    /// A file outside of any layer, or bytes of a layer outside of all entries. The names say which.
    Standalone(Vec<String>),
    /// A member of an archive.
    Member {
        /// The archive, which is concluded after all its members.
        outer: FileHandle<'a, 's>,
        /// The names of the archive members that contain it, and its own name.
        inside: Vec<String>,
    },
}

#[derive(Default)]
struct FileState<'a> {
    found: FoundInFile,
    /// The signature whose parser has to read the whole file.
    needs_whole_file: Option<usize>,
    /// The offsets in a text file that spans windows at which new bytes and segments begin.
    marks: Vec<Mark>,
    is_text: bool,
    kept: Option<HeadTail<'a>>,
    /// Whether all bytes were passed.
    is_ended: bool,
    /// The work that may be done on the whole file once its segments were scanned.
    reserved: Option<Reserved>,
    /// The first bytes, if a file rule needs them, and the size so far.
    head: Vec<u8>,
    size: u64,
    /// The findings in members, if this is an archive.
    in_members: Option<Ranked<LayerFinding>>,
}

/// The number of line feeds before an offset, and of bytes after the last of them.
#[derive(Clone, Copy, Default)]
struct Mark {
    offset: u64,
    lines: u64,
    column: u64,
}

impl<'a, 's> FileHandle<'a, 's> {
    pub(super) fn new(sink: &'s FindingSink<'s>, path: ImagePath, number: u32, entry: Entry) -> FileHandle<'a, 's> {
        let (rules, local) = (sink.rules.files.at(path.as_bytes()), sink.rules.local.at(path.as_bytes()));
        FileHandle::open(OpenFile {
            sink,
            path,
            number,
            origin: FileOrigin::Entry(entry),
            rules,
            local,
            state: Mutex::default(),
        })
    }

    /// A file outside of any layer, or bytes of a layer outside of all entries, called `inside`.
    pub(super) fn standalone(
        sink: &'s FindingSink<'s>,
        path: ImagePath,
        number: u32,
        inside: Vec<String>,
    ) -> FileHandle<'a, 's> {
        let (rules, local) = (sink.rules.files.at(path.as_bytes()), sink.rules.local.at(path.as_bytes()));
        let origin = FileOrigin::Standalone(inside);
        FileHandle::open(OpenFile { sink, path, number, origin, rules, local, state: Mutex::default() })
    }

    fn open(file: OpenFile<'a, 's>) -> FileHandle<'a, 's> {
        file.sink.open.fetch_add(1, Ordering::AcqRel);
        FileHandle(Arc::new(file))
    }

    /// The file has no more bytes. Its last segment was not yet handed out.
    pub(super) fn end(&self) {
        self.0.state().is_ended = true;
    }

    /// Reserves the work on the whole file, if it has ended. From now on, its end must not wait for the reading thread.
    pub(super) fn reserve(&self, work: &LayerWork) {
        let mut state = self.0.state();
        if state.is_ended && state.reserved.is_none() {
            let most = state.kept.as_ref().map(|kept| program::most_work(kept) + self.0.checksum_work(kept));
            state.reserved = most.map(|most| work.reserve_more(most));
        }
    }

    /// Releases the handle. The last release concludes the file.
    pub(super) fn release(self) {
        if let Some(file) = Arc::into_inner(self.0) {
            file.conclude();
        }
    }

    /// A member of the archive that this file is; the names in `names` lead to it.
    pub(super) fn member(&self, names: Vec<String>) -> FileHandle<'a, 's> {
        let OpenFile { sink, path, number, .. } = &*self.0;
        let (sink, path, number) = (*sink, path.clone(), *number);
        let inside = [self.0.inside(), &names].concat();
        sink.names.lock().unwrap_or_else(PoisonError::into_inner).add_member(&path, &inside, number, sink);
        let full_path = full_path(&path, &inside);
        let (rules, local) = (sink.rules.files.at(&full_path), sink.rules.local.at(&full_path));
        let origin = FileOrigin::Member { outer: self.clone(), inside };
        FileHandle::open(OpenFile { sink, path, number, origin, rules, local, state: Mutex::default() })
    }

    /// The bytes of its path, with those of the archives that it is in.
    pub(super) fn path_bytes(&self) -> usize {
        self.0.full_path().len()
    }

    /// The signatures that apply to this file, and only to files at such paths.
    pub(super) fn local_signatures(&self) -> &[usize] {
        &self.0.local
    }

    /// Adds a gap in this file, or in the member of it that `names` lead to.
    pub(super) fn gap(&self, names: &[String], gap: Gap) {
        self.0.gap(&[self.0.inside(), names].concat(), gap);
    }

    /// Processes the next bytes, in order: those in `range` of `window`.
    pub(super) fn bytes(&self, offset: u64, window: &Bytes<'a>, range: Range<usize>) {
        let bytes = &window[range.clone()];
        let mut state = self.0.state();
        if offset == 0 {
            state.is_text = true;
            // The first bytes of a member may be too few to decide whether it is text.
            let is_small = self.0.stored().is_some_and(|stored| stored <= HeadTail::WHOLE);
            state.kept = (is_small || bytes.len() < 4 || program::is_program(bytes)).then(HeadTail::default);
        }
        // Segments only follow after more bytes than the sample, so this is decided by then.
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

    /// Adds the confirmed matches of a segment with these `bytes`.
    pub(super) fn found(&self, segment: &Segment<Self>, bytes: &[u8], matches: Matches) {
        let mut state = self.0.state();
        let path = self.0.full_path();
        let wanted = matches.needs_whole_file.filter(|rule| self.0.sink.rules.applies_at(*rule, Some(&path)));
        state.needs_whole_file = state.needs_whole_file.or(wanted);
        let mut confirmed = matches.confirmed;
        confirmed.retain(|one| self.0.sink.rules.applies_at(one.rule, Some(&path)));
        let positions = state.positions(bytes, segment.offset, &confirmed);
        for (index, mut one) in confirmed.into_iter().enumerate() {
            let position = positions.as_ref().map(|positions| positions[index]);
            let base = segment.offset as usize;
            one.span = base + one.span.start..base + one.span.end;
            let severity = self.0.sink.rules.severity(&one);
            state.found.add(one, severity, position);
        }
    }
}

impl FileState<'_> {
    /// Records the offset of the next bytes of a text file, and counts their lines.
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

    /// Line and column of each match in a segment of a text file that begins at `offset`, which has a mark.
    fn positions(&self, bytes: &[u8], offset: u64, matches: &[Confirmed]) -> Option<Vec<(u64, u64)>> {
        if !self.is_text {
            return None;
        }
        let mark = match self.marks.iter().find(|mark| mark.offset == offset) {
            Some(mark) => *mark,
            None if offset == 0 => Mark::default(),
            None => return None,
        };
        let starts: Vec<usize> = matches.iter().map(|one| one.span.start).collect();
        Some(text::positions(bytes, &starts, mark.lines, mark.column))
    }
}

impl<'a> OpenFile<'a, '_> {
    fn state(&self) -> std::sync::MutexGuard<'_, FileState<'a>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The stored size of the file, if known before it is read.
    fn stored(&self) -> Option<u64> {
        match &self.origin {
            FileOrigin::Entry(entry) => Some(entry.stored),
            FileOrigin::Standalone(_) | FileOrigin::Member { .. } => None,
        }
    }

    /// What the entry of the file records.
    fn attributes(&self) -> Option<Arc<FileAttributes>> {
        let FileOrigin::Entry(entry) = &self.origin else { return None };
        Some(Arc::new(entry.attributes(self.number)))
    }

    /// Whether the stored bytes are the whole file, without the holes of a sparse file.
    fn is_stored_whole(&self) -> bool {
        matches!(&self.origin, FileOrigin::Entry(entry) if entry.sparse.is_none())
    }

    /// The work of the checksums of the file, if it has some: they are for packages, whose records name whole files.
    fn checksum_work(&self, kept: &HeadTail<'_>) -> u64 {
        if self.is_stored_whole() && kept.is_whole() { kept.length() * HASHED } else { 0 }
    }

    fn inside(&self) -> &[String] {
        match &self.origin {
            FileOrigin::Entry(_) => &[],
            FileOrigin::Standalone(inside) | FileOrigin::Member { inside, .. } => inside,
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

    /// Reports the findings of the file: to its archive if it is a member, to the layer otherwise.
    fn conclude(mut self) {
        let mut state = mem::take(self.state.get_mut().unwrap_or_else(PoisonError::into_inner));
        let mut spent = 0;
        let (findings, dropped) = self.findings(&mut state, &mut spent);
        if let (Some(work), Some(reserved)) = (self.sink.work, state.reserved) {
            work.finish(reserved, spent);
        }
        let OpenFile { sink, origin, .. } = self;
        match origin {
            FileOrigin::Entry(_) | FileOrigin::Standalone(_) => {
                let mut all = sink.findings.lock().unwrap_or_else(PoisonError::into_inner);
                all.add_dropped(dropped);
                findings.into_iter().for_each(|finding| all.add(finding));
            }
            FileOrigin::Member { outer, .. } => {
                if dropped > 0 || !findings.is_empty() {
                    let mut state = outer.0.state();
                    let (most, bytes) = MOST_IN_MEMBERS;
                    let all = state.in_members.get_or_insert_with(|| Ranked::new(most, bytes));
                    all.add_dropped(dropped);
                    findings.into_iter().for_each(|finding| all.add(finding));
                }
                outer.release();
            }
        }
        sink.open.fetch_sub(1, Ordering::AcqRel);
    }

    /// The findings in the file and its members, and how many in members were dropped. Adds the work to `spent`.
    fn findings(&self, state: &mut FileState<'_>, spent: &mut u64) -> (Vec<LayerFinding>, u64) {
        let mut findings = self.misplaced(state);
        let (in_members, dropped) = state.in_members.take().map(Ranked::into_parts).unwrap_or_default();
        let found = mem::take(&mut state.found).conclude();
        let needs_parser = state.needs_whole_file.is_some();
        if findings.is_empty() && found.confirmed.is_empty() && in_members.is_empty() && !needs_parser {
            return (findings, dropped);
        }
        let kept = state.kept.take();
        // Without work reserved, code is not searched, and no checksum computed: the layer has reached its limit, or
        // ends before the file.
        let is_permitted = self.sink.work.is_none() || state.reserved.is_some();
        let parser = state.needs_whole_file.filter(|_| is_permitted);
        findings.extend(self.confirmed(parser, found, kept.as_ref(), spent));
        findings.extend(in_members);
        if !matches!(self.origin, FileOrigin::Member { .. }) {
            let hashed = |kept: &HeadTail<'_>| Some(self.checksum_work(kept)).filter(|work| is_permitted && *work > 0);
            *spent += kept.as_ref().and_then(hashed).unwrap_or(0);
            let whole = kept.filter(|kept| hashed(kept).is_some());
            let checksums = whole.map(|kept| Arc::new(checksums(&kept)));
            let attributes = self.attributes();
            for finding in &mut findings {
                finding.checksums.clone_from(&checksums);
                finding.attributes.clone_from(&attributes);
            }
            unite_members(&mut findings, self.inside().len());
        }
        (findings, dropped)
    }

    /// The findings of file rules.
    fn misplaced(&self, state: &FileState<'_>) -> Vec<LayerFinding> {
        let files = &self.sink.rules.files;
        let matching = self.rules.iter().filter(|rule| files.judge(**rule, &state.head, state.size));
        let finding = |rule: &usize| LayerFinding {
            rule: self.sink.rules.file_info(*rule),
            severity: self.sink.rules.file_info(*rule).severity,
            place: Place { path: self.path.clone(), inside: self.inside().to_vec(), ..Place::default() },
            entry: self.number,
            superseded: None,
            secret: None,
            note: None,
            checksums: None,
            attributes: None,
        };
        matching.map(finding).collect()
    }

    /// The findings of signatures.
    fn confirmed(
        &self,
        parser: Option<usize>,
        all: AllFound,
        kept: Option<&HeadTail<'_>>,
        spent: &mut u64,
    ) -> Vec<LayerFinding> {
        let AllFound { confirmed: mut found, positions, dropped } = all;
        let is_wanted = parser.is_some() || !found.is_empty();
        let program = kept.filter(|_| is_wanted).and_then(|kept| Program::new(kept, self.sink.programs));
        if let (Some(program), Some(rule)) = (&program, parser) {
            let (keys, work, gap) = program.keys(rule);
            found.extend(keys);
            *spent += work;
            gap.into_iter().for_each(|gap| self.gap(self.inside(), gap));
        }
        keep_best(&self.sink.rules.signatures, &mut found);
        self.cut(&mut found, dropped);
        let program = program.filter(|_| !found.is_empty());
        *spent += program.as_ref().map_or(0, Program::work);
        let view = program.as_ref().and_then(Program::view);
        found.into_iter().map(|one| self.finding(one, &positions, view.as_ref())).collect()
    }

    fn finding(&self, one: Confirmed, positions: &Positions, view: Option<&binary::Binary<'_>>) -> LayerFinding {
        let at = one.span.start as u64;
        let position = positions.get(&one.span.start);
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
                offset: match &self.origin {
                    FileOrigin::Entry(entry) => entry.file_offset(at),
                    FileOrigin::Standalone(_) | FileOrigin::Member { .. } => at,
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
            attributes: None,
        }
    }

    /// Drops findings of one rule beyond the limit. Others were `dropped` before.
    fn cut(&self, found: &mut Vec<Confirmed>, dropped: u64) {
        let limit = self.sink.limits.findings_per_file;
        let mut counts: HashMap<usize, usize> = HashMap::new();
        let before = found.len();
        found.retain(|one| {
            if one.verification == Verification::Damaged {
                return true;
            }
            let count = counts.entry(one.rule).or_default();
            *count += 1;
            *count <= limit
        });
        let dropped = dropped + (before - found.len()) as u64;
        if dropped > 0 {
            let detail = format!("more than {limit} findings of one rule, or too many in all; {dropped} were dropped");
            self.gap(self.inside(), Gap::new(GapReason::TooManyFindings, detail));
        }
    }
}

/// The checksums of a file that is kept whole.
fn checksums(kept: &HeadTail<'_>) -> layersift_model::FileChecksums {
    let (head, tail) = kept.pieces();
    layersift_model::FileChecksums::of(&head.chain(tail).collect::<Vec<_>>())
}

/// The path of a member: that of its archive, followed by the names of members.
fn full_path(path: &ImagePath, inside: &[String]) -> Vec<u8> {
    let mut full = path.as_bytes().to_vec();
    for member in inside {
        full.push(b'/');
        full.extend_from_slice(member.as_bytes());
    }
    full
}

/// Drops findings in the raw bytes of an archive that were also found in one of its members, which have more than
/// `depth` names.
fn unite_members(findings: &mut Vec<LayerFinding>, depth: usize) {
    let named: HashSet<(Arc<RuleInfo>, Option<Secret>)> = findings
        .iter()
        .filter(|finding| finding.place.inside.len() > depth)
        .map(|finding| (Arc::clone(&finding.rule), finding.secret.clone()))
        .collect();
    findings.retain(|finding| {
        let seen_again = || named.contains(&(Arc::clone(&finding.rule), finding.secret.clone()));
        finding.place.inside.len() > depth || finding.secret.is_none() || !seen_again()
    });
}
