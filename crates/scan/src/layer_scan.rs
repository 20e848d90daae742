//! Scanning one layer: a pure function of its bytes and the rules.
//!
//! The calling thread reads, decompresses and walks the layer. The threads of the pool scan windows of files and
//! compute the digest of the uncompressed bytes. The number of queued windows is bounded.

mod both;
pub(crate) mod entries;
mod file;
mod found;
mod links;
mod names;
mod program;
mod queue;
mod unpack;

use std::io::{self, Read};
use std::ops::Range;
use std::sync::Mutex;

use layersift_format::tar::{BLOCK, Entry, Kind};
use layersift_format::{Blob, Cancellation};
use layersift_model::{Algorithm, Gap, GapReason, ImagePath, LayerFinding, LayerReport, Limits, Owners};
use rayon::ThreadPool;

use self::both::Both;
use self::entries::Entries;
use self::file::{FileHandle, FindingSink};
use self::links::with_linked;
use self::program::ProgramTurn;
use self::queue::WindowQueue;
use self::unpack::{Dispatch, FileUnpacker, Packing, Unpacking};
use crate::allowance::Allowance;
use crate::compiled_rules::CompiledRules;
use crate::confirm::keys::effort::WindowEffort;
use crate::confirm::keys::rounds::WindowRounds;
use crate::confirm::{CONTEXT, Matches, REACH};
use crate::content::records::Record;
use crate::inventory::layer::{LayerPackages, conclude};
use crate::inventory::visitor::{Found, Job, PackageVisitor};
use crate::layer::buffer::{Bytes, Pool};
use crate::layer::read::{Batch, LayerFacts, LayerReader, Work, unreadable};
use crate::layer::walk::{Overlap, Rest, Segment, Visitor};
use crate::layer_work::{LayerWork, RECORDED, Reserved, filled, named, too_much_work};
use crate::masking;
use crate::memory::{ExtraMemory, MemoryBudget, MemoryLease};
use crate::observe::Observer;
use crate::worker::ScanWorker;

/// The number of new bytes in a window.
pub(crate) const WINDOW: usize = 1 << 20;

/// How segments of one file overlap: a match has at most [`crate::engine::MAX_WIDTH`] bytes, and parsers read further.
const OVERLAP: Overlap = Overlap { before: CONTEXT, after: REACH };

/// The bytes of holes in a sparse archive that are read as zeros.
const MAX_HOLES: u64 = 1 << 30;

/// The bytes of headers that are scanned together.
const HEADERS: usize = 256 << 10;

/// The memory that every layer takes: the current window, windows queued for scanning or hashing, and the first and
/// last bytes of an executable.
const LAYER_BYTES: u64 = 24 << 20;

/// The memory of a small file that is scanned by itself: one window, and what is found.
const SMALL_FILE_BYTES: u64 = 4 << 20;

/// How many bytes of a layer each byte of a small file counts for: what expressions take is counted as the most that
/// they may take, and texts of people have many candidates.
const SMALL_FILE_WORK: u64 = 16;

/// Scans layers with shared buffers and a bounded queue of windows.
pub(crate) struct LayerScanner {
    pool: Pool,
    queue: WindowQueue,
    /// Held while an executable file is in memory.
    program: Mutex<()>,
}

/// The rules, limits and resources of a scan.
#[derive(Clone, Copy)]
pub(crate) struct LayerContext<'c> {
    pub(crate) rules: &'c CompiledRules,
    pub(crate) limits: &'c Limits,
    pub(crate) threads: &'c ThreadPool,
    pub(crate) memory: &'c MemoryBudget,
    pub(crate) cancellation: &'c Cancellation,
    pub(crate) observer: &'c dyn Observer,
}

impl LayerScanner {
    pub(crate) fn new(threads: usize) -> LayerScanner {
        let pool = Pool::new(WINDOW + OVERLAP.before + OVERLAP.after + BLOCK);
        LayerScanner { pool, queue: WindowQueue::new(2 * threads), program: Mutex::default() }
    }

    /// Scans a layer. `algorithm` is that of the digest in the manifest. The calling thread reads and walks the
    /// layer.
    pub(crate) fn layer(&self, context: LayerContext<'_>, blob: Blob<'_>, algorithm: Algorithm) -> LayerReport {
        self.read(context, blob, algorithm, None).0
    }

    /// Scans a layer and reads its packages, as [`LayerScanner::layer`].
    pub(crate) fn layer_with_packages(
        &self,
        context: LayerContext<'_>,
        blob: Blob<'_>,
        algorithm: Algorithm,
    ) -> (LayerReport, LayerPackages) {
        let (found, work) = (Found::new(context.limits), LayerWork::for_packages(context.limits));
        let (report, facts, entries) = self.read(context, blob, algorithm, Some((&found, &work)));
        let mut packages = conclude(facts, entries, found, &work);
        packages.report.extra_work = work.extra();
        (report, packages)
    }

    /// Scans a layer, and collects its packages, whose work is counted by itself, so that what is found does not depend
    /// on whether they are collected. The entries that they saw are returned, too.
    fn read(
        &self,
        context: LayerContext<'_>,
        blob: Blob<'_>,
        algorithm: Algorithm,
        packages: Option<(&Found, &LayerWork)>,
    ) -> (LayerReport, LayerFacts, Entries) {
        let map;
        let blob = match blob {
            Blob::File(file) => {
                map = file;
                Blob::Mapped(map.region())
            }
            other => other,
        };
        let region = blob.region().cloned();
        let memory = context.memory.lease(LAYER_BYTES);
        let work = LayerWork::new(context.limits);
        let sink = self.sink(context, Some(&work));
        let progress = |count| context.observer.read(count);
        let reading = LayerReader {
            pool: &self.pool,
            overlap: OVERLAP,
            limits: context.limits,
            algorithm,
            progress: &progress,
            cancellation: context.cancellation,
            memory: &memory,
            work: &work,
            beside: packages.map(|(_, work)| work),
        };
        let (mut facts, scanned, collected) = context.threads.in_place_scope(|scope| {
            let (sink, work) = (&sink, &work);
            let dispatch = |batch| self.dispatch(scope, sink, batch);
            let spawn = |job: Job| {
                if let Some((found, work)) = packages {
                    scope.spawn(move |_| job.run(found, work));
                }
            };
            let mut visitor = Both {
                scan: LayerVisitor::new(sink, self.packing(context, &memory, work, &dispatch)),
                packages: packages.map(|(found, work)| {
                    PackageVisitor::new(found, &spawn, context.limits, &memory, work, context.cancellation)
                }),
            };
            let mut facts = reading.layer(blob, &mut visitor, &mut |work| match work {
                Work::Scan(batch) => dispatch(batch),
                Work::Hash(hasher) => scope.spawn(move |_| hasher.catch_up()),
            });
            let Both { scan: mut visitor, packages } = visitor;
            visitor.scan_headers();
            facts.gaps.extend(visitor.allowance.gap());
            for part in facts.undecoded.drain(..) {
                visitor.whole(part.name, &part.bytes);
            }
            sink.scan_names();
            let collected = packages.map(PackageVisitor::into_entries).unwrap_or_default();
            (facts, (visitor.entries, visitor.owners), collected)
        });
        if !facts.gaps.contains(&too_much_work()) {
            facts.gaps.extend(work.gap());
        }
        // Other threads have read the windows by now.
        facts.gaps.extend(region.and_then(|region| region.check_whole().err()).map(|error| unreadable(&error)));
        let (entries, owners) = scanned;
        let mut report = report(facts.clone(), entries, owners, sink, &work);
        report.extra_work = work.extra();
        (report, facts, collected)
    }

    /// Scans a file outside of any layer, which is counted in `work`; a file that the user names has no limit. The
    /// calling thread reads it, unless the scan is cancelled. Its memory is part of `lease`, if the caller has one: who
    /// holds one must not wait for another.
    pub(crate) fn file(
        &self,
        context: LayerContext<'_>,
        path: &ImagePath,
        mut input: impl Read,
        work: Option<&LayerWork>,
        lease: Option<MemoryLease>,
    ) -> io::Result<(Vec<LayerFinding>, Vec<Gap>)> {
        let _held = lease.as_ref().map(|lease| lease.grow(LAYER_BYTES));
        let memory = lease.unwrap_or_else(|| context.memory.lease(LAYER_BYTES));
        let unlimited = LayerWork::new(&without_work_limit(context.limits));
        let sink = self.sink(context, work);
        let read = context.threads.in_place_scope(|scope| {
            let sink = &sink;
            let dispatch = |batch| self.dispatch(scope, sink, batch);
            let packing = self.packing(context, &memory, work.unwrap_or(&unlimited), &dispatch);
            let mut unpacker = FileUnpacker::new(FileHandle::standalone(sink, path.clone(), 0, Vec::new()), packing);
            let mut buffer = vec![0; 64 << 10];
            let outcome = loop {
                if context.cancellation.is_cancelled() {
                    break Ok(());
                }
                match input.read(&mut buffer) {
                    Ok(0) => break Ok(()),
                    Ok(count) => {
                        packing.work.add_blob_bytes(count as u64);
                        unpacker.bytes(&buffer[..count]);
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => break Err(error),
                }
            };
            unpacker.finish();
            sink.scan_names();
            outcome
        });
        read.map(|()| sink.into_findings())
    }

    /// Scans a file outside of any layer on the calling thread alone, for files so small that handing them to other
    /// threads takes longer than the scan.
    pub(crate) fn small_file(
        &self,
        context: LayerContext<'_>,
        path: &ImagePath,
        bytes: &[u8],
    ) -> (Vec<LayerFinding>, Vec<Gap>) {
        let memory = context.memory.lease(SMALL_FILE_BYTES);
        let work = LayerWork::new(context.limits);
        work.add_blob_bytes(bytes.len() as u64 * SMALL_FILE_WORK);
        let sink = self.sink(context, Some(&work));
        let dispatch = |batch| {
            if let Some(scan) = reserve(&sink, batch) {
                scan.run(&sink);
            }
        };
        let packing = self.packing(context, &memory, &work, &dispatch);
        let mut unpacker = FileUnpacker::new(FileHandle::standalone(&sink, path.clone(), 0, Vec::new()), packing);
        unpacker.bytes(bytes);
        unpacker.finish();
        sink.scan_names();
        let (findings, mut gaps) = sink.into_findings();
        gaps.extend(work.gap());
        (findings, gaps)
    }

    fn sink<'s>(&'s self, context: LayerContext<'s>, work: Option<&'s LayerWork>) -> FindingSink<'s> {
        let programs = ProgramTurn { turn: &self.program, memory: context.memory };
        FindingSink::new(context.rules, context.limits, work, programs)
    }

    fn packing<'d, 'a, 's>(
        &'d self,
        context: LayerContext<'d>,
        memory: &'d MemoryLease,
        work: &'d LayerWork,
        dispatch: Dispatch<'d, 'a, 's>,
    ) -> Packing<'d, 'a, 's> {
        Packing {
            pool: &self.pool,
            overlap: OVERLAP,
            limits: context.limits,
            memory,
            work,
            cancellation: context.cancellation,
            dispatch,
        }
    }

    /// Queues `batch` for a thread of the pool, if there is room in the queue. Otherwise, a thread of the pool scans it
    /// itself, and any other thread waits, so that a scan never uses more processors than the pool has threads. Nothing
    /// is scanned once the layer has reached its limit of work.
    fn dispatch<'scope>(
        &'scope self,
        scope: &rayon::Scope<'scope>,
        sink: &'scope FindingSink<'scope>,
        batch: Batch<'scope, FileHandle<'scope, 'scope>>,
    ) {
        let Some(scan) = reserve(sink, batch) else { return };
        let is_near_limit = scan.reserved.is_some_and(|reserved| reserved.is_near_limit);
        if is_near_limit || !self.queue.enter(rayon::current_thread_index().is_none()) {
            return scan.run(sink);
        }
        scope.spawn(move |_| {
            let _slot = self.queue.slot();
            scan.run(sink);
        });
    }
}

/// A window whose scan was permitted.
struct PermittedScan<'a, 's> {
    batch: Batch<'a, FileHandle<'a, 's>>,
    reserved: Option<Reserved>,
}

/// Reserves the work of scanning `batch`, and of what is done with the files that end in it; `None` if the layer has
/// reached its limit.
fn reserve<'a, 's>(sink: &FindingSink<'s>, batch: Batch<'a, FileHandle<'a, 's>>) -> Option<PermittedScan<'a, 's>> {
    let Some(work) = sink.work else { return Some(PermittedScan { batch, reserved: None }) };
    let reserved = work.reserve(batch.segments.iter().map(|segment| segment.range.len()).sum());
    if reserved.is_none() {
        batch.segments.into_iter().for_each(|segment| segment.file.release());
        return None;
    }
    batch.segments.iter().for_each(|segment| segment.file.reserve(work));
    Some(PermittedScan { batch, reserved })
}

impl<'s> PermittedScan<'_, 's> {
    /// Scans the window, and counts the work that it took.
    fn run(self, sink: &'s FindingSink<'s>) {
        let counts_begun = self.reserved.is_some_and(|reserved| reserved.counts_begun);
        let spent = scan_batch(sink, self.batch, counts_begun);
        if let (Some(work), Some(reserved)) = (sink.work, self.reserved) {
            work.finish(reserved, spent);
        }
    }
}

/// Scans a window, and returns the work that it took.
fn scan_batch<'a, 's>(sink: &'s FindingSink<'s>, batch: Batch<'a, FileHandle<'a, 's>>, counts_begun: bool) -> u64 {
    let mut worker = sink.rules.worker().map_err(|error| sink.engine_gap(&error)).ok();
    if let Some(worker) = &mut worker {
        worker.count_begun(counts_begun);
    }
    let mut matches = Matches::default();
    let bytes = batch.segments.iter().map(|segment| segment.range.len()).sum();
    let (rounds, _effort) = (WindowRounds::begin(bytes), WindowEffort::begin(bytes));
    for segment in batch.segments {
        if let Some(worker) = &mut worker {
            scan_segment(sink, worker, &batch.window, &segment, &mut matches);
        }
        segment.file.release();
    }
    worker.map_or(0, |worker| worker.work()).saturating_add(rounds.work())
}

/// The limits for a file that the user names, which is no layer of somebody else.
fn without_work_limit(limits: &Limits) -> Limits {
    Limits { layer_work: u64::MAX, ..limits.clone() }
}

fn scan_segment<'a, 's>(
    sink: &'s FindingSink<'s>,
    worker: &mut ScanWorker<'_>,
    window: &Bytes<'a>,
    segment: &Segment<FileHandle<'a, 's>>,
    matches: &mut Matches,
) {
    let bytes = &window[segment.range.clone()];
    match worker.scan(bytes, &segment.owned, matches) {
        Ok(None) => {}
        Ok(Some(gap)) => segment.file.gap(&[], gap),
        Err(error) => sink.engine_gap(&error),
    }
    for rule in segment.file.local_signatures() {
        worker.search(*rule, bytes, &segment.owned, matches);
    }
    if !matches.is_empty() {
        segment.file.found(segment, bytes, std::mem::take(matches));
    }
}

struct LayerVisitor<'d, 'a, 's> {
    sink: &'s FindingSink<'s>,
    packing: Packing<'d, 'a, 's>,
    entries: Entries,
    /// What entries and package records may take.
    allowance: Allowance<'d>,
    owners: Owners,
    /// The package record that is being read, and its memory.
    record: Option<(Record, Vec<u8>, ExtraMemory)>,
    /// The current file, if it is an archive or may be one.
    unpacking: Unpacking<'d, 'a, 's>,
    /// The bytes of the current file that were not read yet.
    left: u64,
    /// The bytes of holes in the current file that were passed to archives as zeros.
    holes: u64,
    /// Headers of entries that wait to be scanned. Only rules that are made of values are for them: what a user is
    /// called is no secret, but may be the one that is looked for.
    headers: Vec<u8>,
}

impl<'d, 'a, 's> LayerVisitor<'d, 'a, 's> {
    fn new(sink: &'s FindingSink<'s>, packing: Packing<'d, 'a, 's>) -> LayerVisitor<'d, 'a, 's> {
        LayerVisitor {
            sink,
            packing,
            entries: Entries::default(),
            allowance: Allowance::new(packing.limits, packing.memory, Some(packing.work)),
            owners: Owners::default(),
            record: None,
            unpacking: Unpacking::Plain,
            left: 0,
            holes: 0,
            headers: Vec::new(),
        }
    }

    /// Scans the headers that were collected since the last time.
    fn scan_headers(&mut self) {
        let mut headers = std::mem::take(&mut self.headers);
        if !headers.is_empty() {
            // With a byte in front of them they are not taken for an archive.
            headers.insert(0, b'\n');
            self.whole("headers of entries", &headers);
        }
    }

    /// Scans bytes of the blob that are in no entry, under the name `name`.
    fn whole(&self, name: &str, bytes: &[u8]) {
        let file = FileHandle::standalone(self.sink, ImagePath::default(), self.entries.count(), vec![name.into()]);
        let mut unpacker = FileUnpacker::new(file, self.packing);
        unpacker.bytes(bytes);
        unpacker.finish();
    }
}

impl<'a, 's> Visitor<'a> for LayerVisitor<'_, 'a, 's>
where
    's: 'a,
{
    type File = FileHandle<'a, 's>;

    fn entry(&mut self, path: &ImagePath, entry: &Entry) -> Option<Self::File> {
        let number = self.entries.add(path, entry, &mut self.allowance);
        self.sink.entry_name(path, &entry.link, number);
        self.packing.work.add(named(path.as_bytes().len()));
        self.record = None;
        if entry.kind != Kind::File {
            return None;
        }
        let file = FileHandle::new(self.sink, path.clone(), number, entry.clone());
        if let Some(record) = Record::at(path) {
            let limit = self.sink.limits.document_bytes;
            let most = entry.size.min(limit);
            if let Some(memory) = (entry.stored <= limit).then(|| self.packing.memory.try_grow(most)).flatten() {
                // Growing step by step, it might take twice its bytes.
                self.record = Some((record, Vec::with_capacity(most as usize), memory));
            } else {
                let detail = format!(
                    "the package record is larger than {limit} bytes, or takes more memory than the layer may, so it \
                     was not read and its packages are unknown"
                );
                file.gap(&[], Gap::new(GapReason::DocumentTooLarge, detail).sized(entry.stored));
            }
        }
        (self.unpacking, self.left, self.holes) = (Unpacking::Sniffing(Vec::new()), entry.stored, 0);
        Some(file)
    }

    fn rest(&mut self, rest: Rest) -> Self::File {
        let name = match rest {
            Rest::NotTar => None,
            Rest::AfterEnd => Some("bytes after the end of the archive"),
            Rest::Unreadable => Some("bytes after damage of the archive"),
            Rest::Padding => Some("padding of an entry"),
        };
        self.record = None;
        // What cannot be read as the archive that it is in is not opened as another one.
        let is_opened = rest != Rest::Unreadable;
        self.unpacking = if is_opened { Unpacking::Sniffing(Vec::new()) } else { Unpacking::Plain };
        (self.left, self.holes) = (u64::MAX, 0);
        let inside = name.map(String::from).into_iter().collect();
        FileHandle::standalone(self.sink, ImagePath::default(), self.entries.count(), inside)
    }

    fn hole(&mut self, file: &Self::File, length: u64) {
        const ZEROS: [u8; 4096] = [0; 4096];
        if let Some((_, bytes, _)) = &mut self.record {
            let zeros = self.sink.limits.document_bytes.saturating_sub(bytes.len() as u64).min(length);
            if self.packing.goes_on(filled(zeros)) {
                bytes.resize(bytes.len() + zeros as usize, 0);
            } else {
                self.record = None;
            }
        }
        let mut left = length.min(MAX_HOLES.saturating_sub(self.holes));
        self.holes = self.holes.saturating_add(length);
        while left > 0 && !matches!(self.unpacking, Unpacking::Plain) {
            let count = left.min(ZEROS.len() as u64);
            if !self.packing.goes_on(filled(count)) {
                return std::mem::replace(&mut self.unpacking, Unpacking::Plain).finish();
            }
            self.unpacking.bytes(file, &ZEROS[..count as usize], false, self.packing);
            left -= count;
        }
        if self.holes > MAX_HOLES && matches!(self.unpacking, Unpacking::Open(_)) {
            let detail = format!("a sparse archive has holes of more than {MAX_HOLES} bytes; the rest was not opened");
            file.gap(&[], Gap::new(GapReason::ArchiveTooLarge, detail));
            std::mem::replace(&mut self.unpacking, Unpacking::Plain).finish();
        }
    }

    fn bytes(&mut self, file: &Self::File, offset: u64, window: &Bytes<'a>, range: Range<usize>) {
        if let Some((_, bytes, _)) = &mut self.record {
            bytes.extend_from_slice(&window[range.clone()]);
        }
        self.left = self.left.saturating_sub(range.len() as u64);
        self.unpacking.bytes(file, &window[range.clone()], self.left == 0, self.packing);
        file.bytes(offset, window, range);
    }

    fn end(&mut self, file: Self::File) {
        // A file of unknown size may be too short to have been decided.
        self.unpacking.bytes(&file, &[], true, self.packing);
        std::mem::replace(&mut self.unpacking, Unpacking::Plain).finish();
        if let Some((record, bytes, _memory)) = self.record.take()
            && self.packing.goes_on(bytes.len() as u64 * RECORDED)
        {
            record.read(&bytes, &mut self.owners, &mut self.allowance);
        }
        file.end();
        file.release();
    }

    fn header(&mut self, block: &[u8], is_last: bool) {
        if self.sink.rules.holds_values {
            self.headers.extend_from_slice(block);
            if is_last && self.headers.len() >= HEADERS {
                self.scan_headers();
            }
        }
    }
}

fn report(
    facts: LayerFacts,
    mut entries: Entries,
    owners: Owners,
    sink: FindingSink<'_>,
    work: &LayerWork,
) -> LayerReport {
    let limits = sink.limits;
    let (found, mut gaps) = sink.into_parts();
    gaps.extend(facts.gaps);
    entries.sort();
    let (hard_links, too_long) = entries.resolved_links(work);
    gaps.extend(too_long);
    let symlinks = entries.take_symlinks();
    let (mut findings, dropped) = with_linked(found, &hard_links, limits, work);
    entries.supersede(&mut findings);
    findings.sort_by(|a, b| {
        let key = |f: &LayerFinding| (f.entry, f.place.offset);
        let paths = a.place.path.cmp(&b.place.path).then_with(|| a.place.inside.cmp(&b.place.inside));
        paths.then_with(|| key(a).cmp(&key(b))).then_with(|| a.rule.id.cmp(&b.rule.id))
    });
    if dropped > 0 {
        let detail = format!("the layer has too many findings; {dropped} were dropped, the least grave first");
        gaps.add(Gap::new(GapReason::TooManyFindings, detail));
    }
    let mut gaps = gaps.into_gaps();
    gaps.sort();
    let mut report = LayerReport {
        blob: facts.blob,
        blob_bytes: facts.blob_bytes,
        diff_id: facts.diff_id,
        bytes: facts.bytes,
        entries: u64::from(entries.count()),
        files: if facts.is_tar { entries.files } else { 1 },
        touched: entries.take_touched(),
        whiteouts: entries.whiteouts,
        hard_links,
        symlinks,
        is_tar: facts.is_tar,
        bytes_after_end: facts.bytes_after_end,
        extra_work: 0,
        owners,
        findings,
        gaps,
    };
    masking::mask_layer(&mut report);
    report
}
