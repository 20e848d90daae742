//! The packages that the files of one layer record.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use layersift_format::tar::{BLOCK, Entry, Kind};
use layersift_format::{Blob, Cancellation};
use layersift_model::{
    Algorithm, Distribution, Gap, GapReason, HardLink, ImagePath, LayerReport, Limits, Origin, Owners, PackageRecord,
    State, Touched,
};
use layersift_packages::{ReadError, RecordKind, distribution};
use rayon::ThreadPool;

use crate::layer::buffer::{Bytes, Pool};
use crate::layer::read::{LayerFacts, LayerReader, Work};
use crate::layer::walk::{Overlap, Rest, Visitor};
use crate::layer_scan::entries::Entries;
use crate::memory::{ExtraMemory, MemoryBudget, MemoryLease};
use crate::observe::Observer;

/// The number of new bytes in a window.
const FRESH: usize = 1 << 20;

/// Files are collected and not matched, so their parts need not overlap.
const OVERLAP: Overlap = Overlap { before: 0, after: 0 };

/// The memory that every layer takes: windows that are read or hashed.
const LAYER_BYTES: u64 = 16 << 20;

/// The bytes that tell an executable file.
const HEAD: usize = 4;

/// Files of more bytes are read by another thread while the layer is read on.
const LARGE: usize = 64 << 10;

/// The most bytes of files that wait to be read by other threads.
const MOST_WAITING: u64 = 128 << 20;

/// The most bytes of the buffer that one file leaves to the next.
const MOST_KEPT: usize = 4 << 20;

/// The most bytes of an `os-release`.
const MAX_OS_RELEASE: u64 = 1 << 20;

/// The most packages of one layer, with those that hard links repeat.
const MAX_PACKAGES: usize = 1_000_000;

/// The packages of one layer.
pub(crate) struct LayerPackages {
    /// What else is known of the layer; it has no findings.
    pub(crate) report: LayerReport,
    /// The files with records, in archive order.
    pub(crate) files: Vec<PackageFile>,
}

/// A file with records of packages.
#[derive(Clone)]
pub(crate) struct PackageFile {
    pub(crate) path: ImagePath,
    entry: u32,
    pub(crate) packages: Vec<PackageRecord>,
    /// The distribution that it names.
    pub(crate) distribution: Option<Distribution>,
    /// Whether a later entry of the same layer overwrote or deleted it.
    pub(crate) superseded: Option<State>,
}

impl PackageFile {
    /// The file of a lower layer that records `packages`, at the path of a hard link to it.
    pub(crate) fn linked(
        link: &HardLink,
        packages: Vec<PackageRecord>,
        distribution: Option<Distribution>,
    ) -> PackageFile {
        let path = link.link.clone();
        PackageFile { path, entry: link.entry, packages, distribution, superseded: link.superseded }
    }
}

/// Reads layers, with shared buffers.
pub(crate) struct PackageReader<'r> {
    pool: Pool,
    threads: &'r ThreadPool,
    limits: &'r Limits,
    memory: MemoryBudget,
}

impl<'r> PackageReader<'r> {
    pub(crate) fn new(threads: &'r ThreadPool, limits: &'r Limits) -> PackageReader<'r> {
        PackageReader { pool: Pool::new(FRESH + BLOCK), threads, limits, memory: MemoryBudget::default() }
    }

    /// Reads a layer. `algorithm` is that of the digest in the manifest. The calling thread reads and walks the layer.
    pub(crate) fn layer(
        &self,
        blob: Blob<'_>,
        algorithm: Algorithm,
        cancellation: &Cancellation,
        observer: &dyn Observer,
    ) -> LayerPackages {
        let map;
        let blob = match blob {
            Blob::File(file) => {
                map = file;
                Blob::Mapped(map.region())
            }
            other => other,
        };
        let memory = self.memory.lease(LAYER_BYTES);
        let found = Found::default();
        let progress = |count| observer.read(count);
        let reading = LayerReader {
            pool: &self.pool,
            overlap: OVERLAP,
            limits: self.limits,
            algorithm,
            progress: &progress,
            cancellation,
            memory: &memory,
        };
        let (facts, entries) = self.threads.in_place_scope(|scope| {
            let found = &found;
            let spawn = |job: Job| scope.spawn(move |_| job.run(found));
            let mut visitor = PackageVisitor {
                found,
                spawn: &spawn,
                memory: &memory,
                entries: Entries::default(),
                file: None,
                state: FileState::Ignored,
                buffer: Vec::new(),
            };
            let facts = reading.layer(blob, &mut visitor, &mut |work| match work {
                // All bytes were passed to the visitor.
                Work::Scan(_) => {}
                Work::Hash(hasher) => scope.spawn(move |_| hasher.catch_up()),
            });
            (facts, visitor.entries)
        });
        conclude(facts, entries, found)
    }
}

/// What was found in a layer, by any thread.
#[derive(Default)]
struct Found {
    files: Mutex<Vec<PackageFile>>,
    gaps: Mutex<Vec<Gap>>,
    /// The bytes of files that wait to be read.
    waiting: AtomicU64,
}

impl Found {
    fn gap(&self, gap: Gap) {
        self.gaps.lock().unwrap_or_else(PoisonError::into_inner).push(gap);
    }

    fn file(&self, file: PackageFile) {
        self.files.lock().unwrap_or_else(PoisonError::into_inner).push(file);
    }

    fn read(&self, kind: RecordKind, path: ImagePath, entry: u32, bytes: &[u8]) {
        let read = kind.read(&path, bytes);
        if let Some(error) = read.error {
            let reason = match error {
                ReadError::Damaged(..) => GapReason::DamagedDocument,
                ReadError::TooManyPackages => GapReason::DocumentTooLarge,
                ReadError::ArchiveLimit(_) => GapReason::ArchiveTooLarge,
            };
            self.gap(Gap::new(reason, error.to_string()).at(path.to_string()));
        }
        if !read.packages.is_empty() {
            self.file(PackageFile { path, entry, packages: read.packages, distribution: None, superseded: None });
        }
    }
}

/// A file that another thread reads.
struct Job {
    kind: RecordKind,
    path: ImagePath,
    entry: u32,
    bytes: Vec<u8>,
    _memory: ExtraMemory,
}

impl Job {
    fn run(self, found: &Found) {
        found.read(self.kind, self.path, self.entry, &self.bytes);
        found.waiting.fetch_sub(self.bytes.len() as u64, Ordering::Relaxed);
    }
}

/// What is done with the bytes of the current file.
enum FileState {
    Ignored,
    /// They may be those of an executable file.
    Sniffing,
    Records(RecordKind, ExtraMemory),
    OsRelease,
}

struct CurrentFile {
    path: ImagePath,
    entry: u32,
    size: u64,
}

struct PackageVisitor<'v> {
    found: &'v Found,
    spawn: &'v dyn Fn(Job),
    memory: &'v MemoryLease,
    entries: Entries,
    file: Option<CurrentFile>,
    state: FileState,
    buffer: Vec<u8>,
}

impl PackageVisitor<'_> {
    /// Begins to collect the current file for its records, unless it is too large.
    fn collect(&mut self, kind: RecordKind) -> FileState {
        let Some(file) = &self.file else { return FileState::Ignored };
        let limit = kind.most_bytes();
        if file.size <= limit {
            return FileState::Records(kind, self.memory.grow(file.size));
        }
        // No program that Go or Rust links has such a name, but models and drivers come in libraries of gigabytes.
        if kind != RecordKind::Executable || memchr::memmem::find(file.path.name(), b".so").is_none() {
            let detail = format!("the file is larger than {limit} bytes, so the packages that it records are unknown");
            self.found.gap(Gap::new(GapReason::DocumentTooLarge, detail).at(file.path.to_string()).sized(file.size));
        }
        FileState::Ignored
    }

    fn sniff(&mut self) {
        if self.buffer.len() >= HEAD {
            self.state = match RecordKind::executable(&self.buffer) {
                Some(kind) => self.collect(kind),
                None => FileState::Ignored,
            };
        }
    }

    fn finish(&mut self, file: CurrentFile, state: FileState) {
        let CurrentFile { path, entry, .. } = file;
        match state {
            FileState::Ignored | FileState::Sniffing => {}
            FileState::OsRelease => {
                if let Some(named) = distribution(&self.buffer) {
                    let distribution = Some(named);
                    self.found.file(PackageFile { path, entry, packages: Vec::new(), distribution, superseded: None });
                }
            }
            FileState::Records(kind, memory) => {
                let is_slow = matches!(kind, RecordKind::Java | RecordKind::Rpm) && self.buffer.len() > LARGE;
                let waiting = self.found.waiting.load(Ordering::Relaxed);
                if is_slow && waiting.saturating_add(self.buffer.len() as u64) <= MOST_WAITING {
                    let bytes = std::mem::take(&mut self.buffer);
                    self.found.waiting.fetch_add(bytes.len() as u64, Ordering::Relaxed);
                    (self.spawn)(Job { kind, path, entry, bytes, _memory: memory });
                } else {
                    self.found.read(kind, path, entry, &self.buffer);
                }
            }
        }
    }
}

impl<'a> Visitor<'a> for PackageVisitor<'_> {
    /// The current file, of which there is one.
    type File = ();

    fn entry(&mut self, path: &ImagePath, entry: &Entry) -> Option<()> {
        let number = self.entries.add(path, entry);
        self.buffer.clear();
        self.buffer.shrink_to(MOST_KEPT);
        (self.file, self.state) = (None, FileState::Ignored);
        if entry.kind != Kind::File {
            return None;
        }
        self.file = Some(CurrentFile { path: path.clone(), entry: number, size: entry.size });
        self.state = match RecordKind::at(path) {
            Some(kind) => self.collect(kind),
            None if is_os_release(path) && entry.size <= MAX_OS_RELEASE => FileState::OsRelease,
            None => FileState::Sniffing,
        };
        Some(())
    }

    fn bytes(&mut self, (): &(), _offset: u64, window: &Bytes<'a>, range: Range<usize>) {
        match self.state {
            FileState::Ignored => {}
            FileState::Records(..) | FileState::OsRelease => self.buffer.extend_from_slice(&window[range]),
            FileState::Sniffing => {
                let head = range.start..range.end.min(range.start + HEAD - self.buffer.len());
                let rest = head.end..range.end;
                self.buffer.extend_from_slice(&window[head]);
                self.sniff();
                if matches!(self.state, FileState::Records(..)) {
                    self.buffer.extend_from_slice(&window[rest]);
                }
            }
        }
    }

    fn hole(&mut self, (): &(), length: u64) {
        let Some(file) = &self.file else { return };
        match self.state {
            // A hole is zeros, with which no executable file begins.
            FileState::Ignored | FileState::Sniffing => self.state = FileState::Ignored,
            FileState::Records(..) | FileState::OsRelease => {
                let room = file.size.saturating_sub(self.buffer.len() as u64);
                self.buffer.resize(self.buffer.len() + length.min(room) as usize, 0);
            }
        }
    }

    fn rest(&mut self, _rest: Rest) {
        (self.file, self.state) = (None, FileState::Ignored);
    }

    fn end(&mut self, (): ()) {
        let state = std::mem::replace(&mut self.state, FileState::Ignored);
        if let Some(file) = self.file.take() {
            self.finish(file, state);
        }
    }
}

fn is_os_release(path: &ImagePath) -> bool {
    matches!(path.as_bytes(), b"etc/os-release" | b"usr/lib/os-release")
}

fn conclude(facts: LayerFacts, mut entries: Entries, found: Found) -> LayerPackages {
    entries.sort();
    let hard_links = entries.resolved_links();
    let symlinks = entries.take_symlinks();
    let mut files = found.files.into_inner().unwrap_or_else(PoisonError::into_inner);
    files.sort_by_key(|file| file.entry);
    for file in &mut files {
        file.superseded = entries.superseded(&file.path, file.entry);
    }
    let mut gaps = facts.gaps;
    gaps.extend(found.gaps.into_inner().unwrap_or_else(PoisonError::into_inner));
    gaps.extend(entries.dropped_symlinks());
    let mut packages: usize = files.iter().map(|file| file.packages.len()).sum();
    let by_entry = files.len();
    for link in &hard_links {
        let Origin::Entry(entry) = &link.origin else { continue };
        let Ok(index) = files[..by_entry].binary_search_by_key(entry, |file| file.entry) else { continue };
        packages += files[index].packages.len();
        if packages > MAX_PACKAGES {
            let detail = format!("the layer records more than {MAX_PACKAGES} packages; the rest were dropped");
            gaps.push(Gap::new(GapReason::DocumentTooLarge, detail));
            break;
        }
        let (path, superseded) = (link.link.clone(), link.superseded);
        files.push(PackageFile { path, superseded, entry: link.entry, ..files[index].clone() });
    }
    gaps.sort();
    let report = LayerReport {
        blob: facts.blob,
        blob_bytes: facts.blob_bytes,
        diff_id: facts.diff_id,
        bytes: facts.bytes,
        entries: u64::from(entries.count()),
        files: if facts.is_tar { entries.files } else { 1 },
        touched: Touched::new(entries.touches.into_iter().map(|(key, touch, _)| (key, touch)).collect()),
        whiteouts: entries.whiteouts,
        hard_links,
        symlinks,
        is_tar: facts.is_tar,
        bytes_after_end: facts.bytes_after_end,
        owners: Owners::default(),
        findings: Vec::new(),
        gaps,
    };
    LayerPackages { report, files }
}
