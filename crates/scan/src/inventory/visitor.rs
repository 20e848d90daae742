//! Collects the files of a layer that record packages or have marks of AI, while something walks the layer.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use layersift_format::Cancellation;
use layersift_format::tar::{Entry, Kind};
use layersift_model::{Gap, GapReason, ImagePath, Limits};
use layersift_packages::{AiFile, ReadError, RecordKind, distribution};

use super::kept::KeptFiles;
use super::layer::{PackageFile, Record};
use crate::allowance::Allowance;
use crate::layer::buffer::Bytes;
use crate::layer::walk::{Rest, Visitor};
use crate::layer_scan::entries::Entries;
use crate::layer_work::{LayerWork, MARK, Reserved, filled};
use crate::memory::{ExtraMemory, MemoryLease};
use layersift_model::GapList;

/// The bytes that tell an executable file.
const MAGIC: usize = 4;

/// Files of more bytes are read by another thread while the layer is read on.
const LARGE: usize = 64 << 10;

/// The most bytes of files that wait to be read by other threads.
const MOST_WAITING: u64 = 48 << 20;

/// The most memory for reading a file by another thread. Files that may take more are read one after the other.
const MOST_BESIDE: u64 = 32 << 20;

/// The bytes that are taken from the memory of the process at once for what is kept.
const STEP: u64 = 1 << 20;

/// The most bytes of the buffer that one file leaves to the next.
const MOST_KEPT: usize = 4 << 20;

/// The most bytes of an `os-release`.
const MAX_OS_RELEASE: u64 = 1 << 20;

/// What was found in a layer, by any thread.
pub(crate) struct Found {
    files: Mutex<KeptFiles>,
    gaps: Mutex<GapList>,
    /// The bytes of files that wait to be read.
    waiting: AtomicU64,
}

impl Found {
    pub(crate) fn new(limits: &Limits) -> Found {
        Found {
            files: Mutex::new(KeptFiles::new(limits.layer_package_bytes)),
            gaps: Mutex::new(GapList::new(limits.gap_bytes)),
            waiting: AtomicU64::new(0),
        }
    }

    /// The files, in archive order, and what could not be read.
    pub(crate) fn into_parts(self) -> (KeptFiles, GapList) {
        let files = self.files.into_inner().unwrap_or_else(PoisonError::into_inner);
        (files, self.gaps.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    fn files(&self) -> MutexGuard<'_, KeptFiles> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn gap(&self, gap: Gap) {
        self.gaps.lock().unwrap_or_else(PoisonError::into_inner).add(gap);
    }

    /// Reads the records of a file, and returns the work that it took.
    fn read(&self, kind: RecordKind, path: ImagePath, entry: u32, bytes: &[u8]) -> u64 {
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
            // Collected, they would stay in the memory that the packages had, of which they need a small part.
            let mut records = Vec::with_capacity(read.packages.len());
            records.extend(read.packages.into_iter().map(|record| Record::Package(Arc::new(record))));
            self.files().add(PackageFile::new(path, entry, records));
        }
        read.work
    }

    fn read_mark(&self, kind: AiFile, path: ImagePath, entry: u32, bytes: &[u8]) {
        let Some(record) = kind.read(bytes) else { return };
        self.files().add(PackageFile::new(path, entry, vec![Record::Ai(Arc::new(record))]));
    }
}

/// A file that another thread reads.
pub(crate) struct Job {
    kind: RecordKind,
    path: ImagePath,
    entry: u32,
    bytes: Vec<u8>,
    reserved: Reserved,
    _memory: [ExtraMemory; 2],
}

impl Job {
    /// Reads the file, and counts the work in `work`.
    pub(crate) fn run(self, found: &Found, work: &LayerWork) {
        let spent = found.read(self.kind, self.path, self.entry, &self.bytes);
        work.finish(self.reserved, spent);
        found.waiting.fetch_sub(self.bytes.len() as u64, Ordering::Relaxed);
    }
}

/// What is done with the bytes of the current file.
enum FileState {
    Ignored,
    /// They may be those of an executable file or of a model, or say that an AI generated the file.
    Sniffing,
    Records(RecordKind, ExtraMemory),
    OsRelease,
    /// Its first bytes may be a mark of AI.
    Mark {
        kind: AiFile,
        _memory: ExtraMemory,
    },
}

struct CurrentFile {
    path: ImagePath,
    entry: u32,
    size: u64,
}

/// Passes the files of a layer by, and collects those with records.
pub(crate) struct PackageVisitor<'v> {
    found: &'v Found,
    spawn: &'v dyn Fn(Job),
    memory: &'v MemoryLease,
    work: &'v LayerWork,
    cancellation: &'v Cancellation,
    entries: Entries,
    allowance: Allowance<'v>,
    file: Option<CurrentFile>,
    state: FileState,
    buffer: Vec<u8>,
    /// The memory of what is kept, as far as it was taken.
    held: Vec<ExtraMemory>,
}

impl<'v> PackageVisitor<'v> {
    /// A visitor that hands what takes long to `spawn`. Its work is counted in `work`.
    pub(crate) fn new(
        found: &'v Found,
        spawn: &'v dyn Fn(Job),
        limits: &Limits,
        memory: &'v MemoryLease,
        work: &'v LayerWork,
        cancellation: &'v Cancellation,
    ) -> PackageVisitor<'v> {
        PackageVisitor {
            found,
            spawn,
            memory,
            work,
            cancellation,
            entries: Entries::default(),
            allowance: Allowance::new(limits, memory, Some(work)),
            file: None,
            state: FileState::Ignored,
            buffer: Vec::new(),
            held: Vec::new(),
        }
    }

    /// Takes the memory of what is kept. Only this thread may wait for it: others are waited for.
    fn hold_kept(&mut self) {
        let kept = self.found.files().bytes();
        while self.held.len() as u64 * STEP < kept {
            self.held.push(self.memory.grow(STEP));
        }
    }

    /// The entries of the layer.
    pub(crate) fn into_entries(self) -> Entries {
        if let Some(gap) = self.allowance.gap() {
            self.found.gap(gap);
        }
        self.entries
    }

    /// Whether the layer may take more work. What is left out once it is cancelled is a gap of the reader.
    fn goes_on(&self, work: u64) -> bool {
        self.work.add(work) && !self.cancellation.is_cancelled()
    }

    /// Begins to collect the current file for its records, unless it is too large or the layer may take no more work.
    fn collect(&mut self, kind: RecordKind) -> FileState {
        let Some(file) = self.file.as_ref().filter(|_| self.goes_on(0)) else { return FileState::Ignored };
        let limit = kind.most_bytes();
        let is_small = file.size <= limit;
        if let Some(memory) = is_small.then(|| self.memory.try_grow(file.size)).flatten() {
            // Growing step by step, it might take twice its bytes.
            self.buffer.reserve_exact(file.size as usize);
            return FileState::Records(kind, memory);
        }
        // No program that Go or Rust links has such a name, but models and drivers come in libraries of gigabytes.
        if kind != RecordKind::Executable || memchr::memmem::find(file.path.name(), b".so").is_none() {
            let detail = match is_small {
                true => {
                    "the file takes more memory than a layer may, so the packages that it records are unknown".into()
                }
                false => format!("the file is larger than {limit} bytes, so the packages that it records are unknown"),
            };
            self.found.gap(Gap::new(GapReason::DocumentTooLarge, detail).at(file.path.to_string()).sized(file.size));
        }
        FileState::Ignored
    }

    /// Begins to collect the first bytes of the current file.
    fn collect_mark(&mut self, kind: AiFile) -> FileState {
        if !self.goes_on(0) {
            return FileState::Ignored;
        }
        let size = self.file.as_ref().map_or(0, |file| file.size).min(kind.most_bytes() as u64);
        let memory = self.memory.grow(size);
        // Growing step by step, it might take twice its bytes.
        self.buffer.reserve_exact((size as usize).saturating_sub(self.buffer.len()));
        FileState::Mark { kind, _memory: memory }
    }

    /// Adds bytes to those of a file that is not decided yet.
    fn sniff(&mut self, bytes: &[u8]) {
        let (magic, rest) = bytes.split_at(bytes.len().min(MAGIC.saturating_sub(self.buffer.len())));
        if !magic.is_empty() {
            self.buffer.extend_from_slice(magic);
            if self.buffer.len() >= MAGIC
                && let Some(kind) = RecordKind::executable(&self.buffer)
            {
                self.state = self.collect(kind);
                if matches!(self.state, FileState::Records(..)) {
                    self.buffer.extend_from_slice(rest);
                }
                return;
            }
        }
        let (head, rest) = rest.split_at(rest.len().min(AiFile::HEAD - self.buffer.len()));
        self.buffer.extend_from_slice(head);
        if self.buffer.len() >= AiFile::HEAD {
            self.decide_head();
            self.add_to_mark(rest);
        }
    }

    /// The head of the file is there: it is that of a model, or may say something, or is nothing.
    fn decide_head(&mut self) {
        self.state = AiFile::of_head(&self.buffer).map_or(FileState::Ignored, |kind| self.collect_mark(kind));
    }

    fn add_to_mark(&mut self, bytes: &[u8]) {
        if let FileState::Mark { kind, .. } = &self.state {
            let room = kind.most_bytes().saturating_sub(self.buffer.len());
            self.buffer.extend_from_slice(&bytes[..bytes.len().min(room)]);
        }
    }

    fn finish(&mut self, file: CurrentFile, state: FileState) {
        let (path, entry) = (file.path.clone(), file.entry);
        match state {
            FileState::Ignored | FileState::Sniffing => return,
            FileState::Mark { kind, .. } => {
                if self.work.add(self.buffer.len() as u64 * MARK) {
                    let _reading = self.memory.grow(kind.memory(self.buffer.len()));
                    self.found.read_mark(kind, path, entry, &self.buffer);
                }
            }
            FileState::OsRelease => {
                if let Some(named) = distribution(&self.buffer) {
                    let file = PackageFile::new(path, entry, Vec::new());
                    self.found.files().add(PackageFile { distribution: Some(named), ..file });
                }
            }
            FileState::Records(kind, memory) => self.finish_records(file, kind, memory),
        }
        self.hold_kept();
    }

    /// Reads the records of the file, here or by another thread, unless the layer has reached its limit of work.
    fn finish_records(&mut self, file: CurrentFile, kind: RecordKind, memory: ExtraMemory) {
        let CurrentFile { path, entry, .. } = file;
        let Some(reserved) = self.work.reserve_most(kind.most_work(self.buffer.len())) else { return };
        let needed = kind.memory(&self.buffer);
        let reading = self.memory.grow(needed);
        let is_slow = matches!(kind, RecordKind::Java | RecordKind::Rpm) && self.buffer.len() > LARGE;
        let waiting = self.found.waiting.load(Ordering::Relaxed).saturating_add(self.buffer.len() as u64);
        if is_slow && !reserved.is_near_limit && needed <= MOST_BESIDE && waiting <= MOST_WAITING {
            // What other threads hold must not count toward the limit of the layer.
            drop(memory);
            let memory = self.memory.grow(self.buffer.len() as u64);
            let bytes = std::mem::take(&mut self.buffer);
            self.found.waiting.fetch_add(bytes.len() as u64, Ordering::Relaxed);
            (self.spawn)(Job { kind, path, entry, bytes, reserved, _memory: [memory, reading] });
        } else {
            let spent = self.found.read(kind, path, entry, &self.buffer);
            self.work.finish(reserved, spent);
        }
    }
}

impl<'a> Visitor<'a> for PackageVisitor<'_> {
    /// The current file, of which there is one.
    type File = ();

    fn entry(&mut self, path: &ImagePath, entry: &Entry) -> Option<()> {
        let number = self.entries.add(path, entry, &mut self.allowance);
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
            None => AiFile::at(path).map_or(FileState::Sniffing, |kind| self.collect_mark(kind)),
        };
        Some(())
    }

    fn bytes(&mut self, (): &(), _offset: u64, window: &Bytes<'a>, range: Range<usize>) {
        match self.state {
            FileState::Ignored => {}
            FileState::Records(..) | FileState::OsRelease => self.buffer.extend_from_slice(&window[range]),
            FileState::Mark { .. } => self.add_to_mark(&window[range]),
            FileState::Sniffing => self.sniff(&window[range]),
        }
    }

    fn hole(&mut self, (): &(), length: u64) {
        let Some(file) = &self.file else { return };
        match self.state {
            // A hole is zeros, with which no executable file and no model begins, and which say nothing.
            FileState::Ignored | FileState::Sniffing => self.state = FileState::Ignored,
            FileState::Mark { .. } => {}
            FileState::Records(..) | FileState::OsRelease => {
                let zeros = file.size.saturating_sub(self.buffer.len() as u64).min(length);
                if self.goes_on(filled(zeros)) {
                    self.buffer.resize(self.buffer.len() + zeros as usize, 0);
                } else {
                    self.state = FileState::Ignored;
                }
            }
        }
    }

    fn rest(&mut self, _rest: Rest) {
        (self.file, self.state) = (None, FileState::Ignored);
    }

    fn end(&mut self, (): ()) {
        if matches!(self.state, FileState::Sniffing) {
            self.decide_head();
        }
        let state = std::mem::replace(&mut self.state, FileState::Ignored);
        if let Some(file) = self.file.take() {
            self.finish(file, state);
        }
    }
}

fn is_os_release(path: &ImagePath) -> bool {
    matches!(path.as_bytes(), b"etc/os-release" | b"usr/lib/os-release")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::MemoryBudget;

    const HOLE: u64 = 100 << 20;

    /// Begins the sparse archives of Java `numbers`, each of which is a hole.
    fn begin(visitor: &mut PackageVisitor<'_>, numbers: std::ops::Range<u32>) {
        for number in numbers {
            let name = format!("{number}.jar");
            let entry = Entry {
                path: name.clone().into_bytes(),
                kind: Kind::File,
                link: Vec::new(),
                mode: 0,
                owner: (None, None),
                modified: None,
                stored: 3,
                size: HOLE,
                sparse: None,
            };
            visitor.entry(&ImagePath::normalize(name.as_bytes()), &entry);
            visitor.hole(&(), HOLE);
        }
    }

    #[test]
    fn holes_are_work_and_are_not_filled_in_beyond_its_limit() {
        let budget = MemoryBudget::new(1 << 30);
        let lease = budget.lease(0);
        let limits = Limits { layer_work: 4 * (HOLE * 3 / 4), layer_work_per_byte: 0, ..Limits::default() };
        let (found, work) = (Found::new(&limits), LayerWork::for_packages(&limits));
        let cancellation = Cancellation::never();
        let mut visitor = PackageVisitor::new(&found, &|_| {}, &limits, &lease, &work, &cancellation);
        begin(&mut visitor, 0..1);
        assert_eq!((visitor.buffer.len() as u64, work.gap()), (HOLE, None));
        begin(&mut visitor, 1..2);
        assert!(visitor.buffer.is_empty() && work.gap().is_some());
        begin(&mut visitor, 2..3);
        assert!(visitor.buffer.capacity() <= MOST_KEPT, "what is not read needs no memory");
    }

    #[test]
    fn no_hole_is_filled_in_once_the_scan_is_cancelled() {
        let budget = MemoryBudget::new(1 << 30);
        let lease = budget.lease(0);
        let limits = Limits { layer_work: 4 * HOLE, layer_work_per_byte: 0, ..Limits::default() };
        let (found, work) = (Found::new(&limits), LayerWork::for_packages(&limits));
        let cancellation = Cancellation::new();
        let mut visitor = PackageVisitor::new(&found, &|_| {}, &limits, &lease, &work, &cancellation);
        cancellation.cancel();
        begin(&mut visitor, 0..1);
        assert!(visitor.buffer.is_empty());
    }
}
