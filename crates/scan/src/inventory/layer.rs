//! The packages and the marks of AI that the files of one layer record.

use std::sync::Arc;

use layersift_format::tar::BLOCK;
use layersift_format::{Blob, Cancellation};
use layersift_model::{
    AiRecord, Algorithm, Distribution, Footprint, HardLink, ImagePath, LayerReport, Limits, Owners, PackageIdentity,
    PackageRecord, State, element_bytes, heap_bytes,
};
use rayon::ThreadPool;

use super::visitor::{Found, Job, PackageVisitor};
use crate::layer::buffer::Pool;
use crate::layer::read::{LayerFacts, LayerReader, Work};
use crate::layer::walk::Overlap;
use crate::layer_scan::entries::Entries;
use crate::layer_work::{LayerWork, too_much_work};
use crate::memory::MemoryBudget;
use crate::observe::Observer;
use crate::read_layers::LayerResult;

/// The number of new bytes in a window.
const FRESH: usize = 1 << 20;

/// Files are collected and not matched, so their parts need not overlap.
const OVERLAP: Overlap = Overlap { before: 0, after: 0 };

/// The memory that every layer takes: windows that are read or hashed.
const LAYER_BYTES: u64 = 16 << 20;

/// The bytes that a record takes besides its own: in its file, while layers are joined, and in the inventory.
const RECORD_PLACES: usize = 160;

/// The packages of one layer.
pub(crate) struct LayerPackages {
    /// What else is known of the layer; it has no findings.
    pub(crate) report: LayerReport,
    /// The files with records, in archive order.
    pub(crate) files: Vec<PackageFile>,
    /// The number of their records.
    pub(crate) records: u64,
    /// The bytes of its blob, or of the compressed archive that it is in, which permit work.
    pub(crate) stored_bytes: u64,
}

/// What a file says.
#[derive(Clone)]
pub(crate) enum Record {
    Package(Arc<PackageRecord>),
    Ai(Arc<AiRecord>),
}

/// What tells one record of a file from another.
#[derive(PartialEq, Eq, Hash)]
pub(crate) enum RecordIdentity<'r> {
    Package(PackageIdentity<'r>),
    Ai(&'r AiRecord),
}

impl Record {
    pub(crate) fn identity(&self) -> RecordIdentity<'_> {
        match self {
            Record::Package(record) => RecordIdentity::Package(record.identity()),
            Record::Ai(record) => RecordIdentity::Ai(record),
        }
    }

    fn footprint(&self) -> u64 {
        let record = match self {
            Record::Package(record) => record.footprint(),
            Record::Ai(record) => record.footprint(),
        };
        record + RECORD_PLACES as u64
    }
}

/// A file with records.
#[derive(Clone)]
pub(crate) struct PackageFile {
    pub(crate) path: Arc<ImagePath>,
    pub(crate) entry: u32,
    pub(crate) records: Vec<Record>,
    /// The distribution that it names.
    pub(crate) distribution: Option<Distribution>,
    /// Whether a later entry of the same layer overwrote or deleted it.
    pub(crate) superseded: Option<State>,
}

impl PackageFile {
    /// The file at `path` with `records`.
    pub(crate) fn new(path: ImagePath, entry: u32, records: Vec<Record>) -> PackageFile {
        PackageFile { path: Arc::new(path), entry, records, distribution: None, superseded: None }
    }

    /// The file of a lower layer with `records`, at the path of a hard link to it.
    pub(crate) fn linked(link: &HardLink, records: Vec<Record>, distribution: Option<Distribution>) -> PackageFile {
        let file = PackageFile::new(link.link.clone(), link.entry, records);
        PackageFile { distribution, superseded: link.superseded, ..file }
    }
}

impl Footprint for LayerPackages {
    fn footprint(&self) -> u64 {
        self.report.footprint() + self.files.iter().map(Footprint::footprint).sum::<u64>()
    }
}

/// With the records that it shares with its hard links: what is kept must not depend on which file comes first.
impl Footprint for PackageFile {
    fn footprint(&self) -> u64 {
        let file = element_bytes::<PackageFile>() + heap_bytes(self.path.as_bytes().len());
        file as u64 + self.records.iter().map(Record::footprint).sum::<u64>()
    }
}

impl LayerResult for LayerPackages {
    fn extra_work(&self) -> u64 {
        self.report.extra_work
    }

    /// Without packages: none is graver than another.
    fn reduced(&self) -> LayerPackages {
        LayerPackages { report: self.report.reduced(), files: Vec::new(), records: 0, stored_bytes: self.stored_bytes }
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
    pub(crate) fn new(threads: &'r ThreadPool, limits: &'r Limits, memory: MemoryBudget) -> PackageReader<'r> {
        PackageReader { pool: Pool::new(FRESH + BLOCK), threads, limits, memory }
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
        let (work, packages_work) = (LayerWork::new(self.limits), LayerWork::for_packages(self.limits));
        let found = Found::new(self.limits);
        let progress = |count| observer.read(count);
        let reading = LayerReader {
            pool: &self.pool,
            overlap: OVERLAP,
            limits: self.limits,
            algorithm,
            progress: &progress,
            cancellation,
            memory: &memory,
            work: &work,
            beside: Some(&packages_work),
        };
        let (facts, entries) = self.threads.in_place_scope(|scope| {
            let found = &found;
            let work = &packages_work;
            let spawn = |job: Job| scope.spawn(move |_| job.run(found, work));
            let mut visitor = PackageVisitor::new(found, &spawn, self.limits, &memory, work, cancellation);
            let facts = reading.layer(blob, &mut visitor, &mut |work| match work {
                // All bytes were passed to the visitor.
                Work::Scan(_) => {}
                Work::Hash(hasher) => scope.spawn(move |_| hasher.catch_up()),
            });
            (facts, visitor.into_entries())
        });
        let mut packages = conclude(facts, entries, found, &packages_work);
        packages.report.extra_work = work.extra().max(packages_work.extra());
        packages
    }
}

/// The packages of a layer that was walked.
pub(crate) fn conclude(facts: LayerFacts, mut entries: Entries, found: Found, work: &LayerWork) -> LayerPackages {
    let (mut kept, mut gaps) = found.into_parts();
    if !facts.gaps.contains(&too_much_work()) {
        gaps.extend(work.gap());
    }
    gaps.extend(facts.gaps);
    entries.sort();
    let (hard_links, too_long) = entries.resolved_links(work);
    gaps.extend(too_long);
    let symlinks = entries.take_symlinks();
    kept.link(&hard_links);
    let (mut files, dropped) = kept.into_parts();
    gaps.extend(dropped);
    let mut later = entries.later();
    for file in &mut files {
        file.superseded = later.superseded(&file.path, file.entry);
    }
    let mut gaps = gaps.into_gaps();
    gaps.sort();
    let report = LayerReport {
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
        owners: Owners::default(),
        findings: Vec::new(),
        gaps,
    };
    let records = files.iter().map(|file| file.records.len() as u64).sum();
    LayerPackages { report, files, records, stored_bytes: work.blob_bytes() }
}
