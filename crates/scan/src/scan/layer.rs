//! Scanning one layer: a pure function of its bytes and the rules.
//!
//! One thread inflates and walks the layer. Windows with files are handed to idle threads as long as few are waiting,
//! and are scanned at once by the walking thread otherwise. The digest of the uncompressed bytes follows likewise. So
//! the cores stay busy, and memory stays bounded.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use super::file::{FileHandle, Sink};
use super::rules::Rules;
use super::unpack::{Packing, Unpacking};
use crate::confirm::{CONTEXT, REACH};
use crate::content::records::Record;
use crate::layer::buffer::{Bytes, Pool};
use crate::layer::read::{Batch, Facts, Reading, Work};
use crate::layer::walk::{Overlap, Visitor};
use crate::layer::whiteout::Whiteout;
use layersift_format::Blob;
use layersift_format::tar::{BLOCK, Entry, Kind};
use layersift_model::{
    Algorithm, Gap, GapReason, HardLink, ImagePath, LayerFinding, LayerReport, Limits, Origin, Owners, PathKey, State,
    Touch, Touched,
};

/// New bytes in a window.
const FRESH: usize = 1 << 20;

/// How segments of one file overlap: a match is at most [`crate::engine::MAX_WIDTH`] long, and a parser reads on.
const OVERLAP: Overlap = Overlap { before: CONTEXT, after: REACH };

/// What all layers of a scan share.
pub(super) struct LayerScanner<'r> {
    rules: &'r Rules,
    limits: &'r Limits,
    pool: Pool,
    /// Windows handed to other threads and not done.
    waiting: AtomicUsize,
    waiting_at_most: usize,
}

impl<'r> LayerScanner<'r> {
    pub(super) fn new(rules: &'r Rules, limits: &'r Limits, threads: usize) -> LayerScanner<'r> {
        let pool = Pool::new(FRESH + OVERLAP.before + OVERLAP.after + BLOCK);
        LayerScanner { rules, limits, pool, waiting: AtomicUsize::new(0), waiting_at_most: 2 * threads }
    }

    /// Scans a layer. `algorithm` is that of the digest which the manifest names.
    pub(super) fn scan(&self, blob: Blob<'_>, algorithm: Algorithm, progress: &(dyn Fn(u64) + Sync)) -> LayerReport {
        let map;
        let blob = match blob {
            Blob::File(file) => {
                map = file;
                Blob::Mapped(map.region())
            }
            other => other,
        };
        let sink = Sink { rules: self.rules, limits: self.limits, findings: Mutex::default(), gaps: Mutex::default() };
        let reading = Reading { pool: &self.pool, overlap: OVERLAP, limits: self.limits, algorithm, progress };
        let (facts, entries, owners) = rayon::in_place_scope(|scope| {
            let sink = &sink;
            let dispatch = |batch| {
                if self.waiting.fetch_add(1, Ordering::Relaxed) < self.waiting_at_most {
                    scope.spawn(move |_| {
                        scan_batch(sink, batch);
                        self.waiting.fetch_sub(1, Ordering::Relaxed);
                    });
                } else {
                    self.waiting.fetch_sub(1, Ordering::Relaxed);
                    scan_batch(sink, batch);
                }
            };
            let packing = Packing { pool: &self.pool, overlap: OVERLAP, limits: self.limits, dispatch: &dispatch };
            let mut visitor = LayerVisitor::new(sink, packing);
            let facts = reading.layer(blob, &mut visitor, &mut |work| match work {
                Work::Scan(batch) => dispatch(batch),
                Work::Hash(trail) => scope.spawn(move |_| trail.catch_up()),
            });
            (facts, visitor.entries, visitor.owners)
        });
        report(facts, entries, owners, sink)
    }
}

fn scan_batch<'a, 's>(sink: &'s Sink<'s>, batch: Batch<'a, FileHandle<'a, 's>>) {
    let mut hands = match sink.rules.hands() {
        Ok(hands) => hands,
        Err(error) => return engine_gap(sink, &error),
    };
    let mut confirmed = Vec::new();
    for segment in batch.segments {
        let bytes = &batch.window[segment.range.clone()];
        match hands.scan(bytes, &segment.owned, &mut confirmed) {
            Ok(true) => {}
            Ok(false) => segment.file.gap(&[], too_much_encoded()),
            Err(error) => engine_gap(sink, &error),
        }
        for rule in segment.file.local_signatures() {
            sink.rules.search(*rule, bytes, &segment.owned, &mut confirmed);
        }
        if !confirmed.is_empty() {
            segment.file.found(&segment, bytes, std::mem::take(&mut confirmed));
        }
    }
}

fn too_much_encoded() -> Gap {
    Gap::new(GapReason::TooMuchEncoded, "more is written in disguise, over and over, than is decoded")
}

fn engine_gap(sink: &Sink<'_>, error: &crate::engine::EngineError) {
    let gap = Gap::new(GapReason::Unreadable, error.to_string());
    sink.gaps.lock().unwrap_or_else(PoisonError::into_inner).push(gap);
}

/// The paths of a layer.
#[derive(Default)]
struct Entries {
    /// Every touch with the number of its entry; sorted once the layer is read.
    touches: Vec<(PathKey, Touch, u32)>,
    links: Vec<(u32, ImagePath, PathKey)>,
    whiteouts: Vec<String>,
    files: u64,
    count: u32,
}

struct LayerVisitor<'d, 'a, 's> {
    sink: &'s Sink<'s>,
    packing: Packing<'d, 'a, 's>,
    entries: Entries,
    owners: Owners,
    /// The package record that is passing by.
    record: Option<(Record, Vec<u8>)>,
    /// The archive that is passing by, if it is one.
    unpacking: Unpacking<'d, 'a, 's>,
    /// Bytes of the file that have not passed yet.
    left: u64,
}

impl<'d, 'a, 's> LayerVisitor<'d, 'a, 's> {
    fn new(sink: &'s Sink<'s>, packing: Packing<'d, 'a, 's>) -> LayerVisitor<'d, 'a, 's> {
        let (entries, owners) = (Entries::default(), Owners::default());
        LayerVisitor { sink, packing, entries, owners, record: None, unpacking: Unpacking::Plain, left: 0 }
    }
}

impl<'a, 's> Visitor<'a> for LayerVisitor<'_, 'a, 's>
where
    's: 'a,
{
    type File = FileHandle<'a, 's>;

    fn entry(&mut self, path: &ImagePath, entry: &Entry) -> Option<Self::File> {
        let number = self.entries.add(path, entry);
        self.record = None;
        if entry.kind != Kind::File {
            return None;
        }
        if entry.stored <= self.sink.limits.document_bytes {
            self.record = Record::at(path).map(|record| (record, Vec::new()));
        }
        (self.unpacking, self.left) = (Unpacking::Sniffing(Vec::new()), entry.stored);
        Some(FileHandle::new(self.sink, path.clone(), number, entry.clone()))
    }

    fn bytes(&mut self, file: &Self::File, offset: u64, window: &Bytes<'a>, range: Range<usize>) {
        if let Some((_, bytes)) = &mut self.record {
            bytes.extend_from_slice(&window[range.clone()]);
        }
        self.left = self.left.saturating_sub(range.len() as u64);
        self.unpacking.bytes(file, &window[range.clone()], self.left == 0, self.packing);
        file.bytes(offset, window, range);
    }

    fn end(&mut self, _: &Self::File) {
        std::mem::replace(&mut self.unpacking, Unpacking::Plain).finish();
        if let Some((record, bytes)) = self.record.take() {
            record.read(&bytes, &mut self.owners);
        }
    }
}

impl Entries {
    /// Notes an entry and returns its number.
    fn add(&mut self, path: &ImagePath, entry: &Entry) -> u32 {
        let number = self.count;
        self.count += 1;
        match Whiteout::of(path) {
            Some(Whiteout::Path(target)) => {
                self.whiteouts.push(target.to_string());
                self.touches.push((target.key(), Touch::Whiteout, number));
                return number;
            }
            Some(Whiteout::Opaque(target)) => {
                self.whiteouts.push(format!("{target}/"));
                self.touches.push((target.key(), Touch::Opaque, number));
                return number;
            }
            None => {}
        }
        let touch = if entry.kind == Kind::Directory { Touch::Directory } else { Touch::Other };
        self.touches.push((path.key(), touch, number));
        match entry.kind {
            Kind::HardLink => self.links.push((number, path.clone(), ImagePath::normalize(&entry.link).key())),
            Kind::File => self.files += 1,
            Kind::Symlink | Kind::Directory | Kind::Special => {}
        }
        number
    }

    /// The last entry at `key` that is no directory and comes before entry `number`.
    fn before(&self, key: PathKey, number: u32) -> Option<u32> {
        let behind = self.touches.partition_point(|touch| *touch < (key, Touch::Other, number));
        let (found, touch, earlier) = *self.touches.get(behind.checked_sub(1)?)?;
        (found == key && touch == Touch::Other).then_some(earlier)
    }

    /// Whether an entry at `key` that touches it as `touch` comes after entry `number`.
    fn after(&self, key: PathKey, touch: Touch, number: u32) -> bool {
        let behind = self.touches.partition_point(|known| *known <= (key, touch, number));
        self.touches.get(behind).is_some_and(|known| (known.0, known.1) == (key, touch))
    }

    /// What later entries of the same layer did to the file at `path`, entry `number`.
    fn superseded(&self, path: &ImagePath, number: u32) -> Option<State> {
        let key = path.key();
        if self.after(key, Touch::Other, number) || self.after(key, Touch::Directory, number) {
            return Some(State::Overwritten);
        }
        let hidden = path.ancestors().any(|above| self.after(above.key(), Touch::Other, number));
        hidden.then_some(State::Deleted)
    }

    /// The hard links, each with the entry or the lower path that its content comes from in the end.
    fn resolved_links(&self) -> Vec<HardLink> {
        let mut origins: HashMap<u32, Origin> = HashMap::new();
        let mut links = Vec::new();
        for (number, link, target) in &self.links {
            let origin = match self.before(*target, *number) {
                Some(earlier) => origins.get(&earlier).copied().unwrap_or(Origin::Entry(earlier)),
                None => Origin::Below(*target),
            };
            origins.insert(*number, origin);
            let superseded = self.superseded(link, *number);
            links.push(HardLink { link: link.clone(), entry: *number, origin, superseded });
        }
        links
    }
}

fn report(facts: Facts, mut entries: Entries, owners: Owners, sink: Sink<'_>) -> LayerReport {
    entries.touches.sort_unstable();
    let hard_links = entries.resolved_links();
    let mut findings = sink.findings.into_inner().unwrap_or_else(PoisonError::into_inner);
    for finding in &mut findings {
        finding.superseded = entries.superseded(&finding.place.path, finding.entry);
    }
    let limit = sink.limits.findings_per_layer;
    let complete = add_linked(&mut findings, &hard_links, limit) && findings.len() <= limit;
    findings.sort_by(|a, b| {
        let key = |f: &LayerFinding| (f.entry, f.place.offset);
        let paths = a.place.path.cmp(&b.place.path).then_with(|| a.place.inside.cmp(&b.place.inside));
        paths.then_with(|| key(a).cmp(&key(b))).then_with(|| a.rule.id.cmp(&b.rule.id))
    });
    findings.truncate(limit);
    let mut gaps = facts.gaps;
    if !complete {
        let detail = format!("more than {limit} findings in one layer; the rest are left out");
        gaps.push(Gap::new(GapReason::TooManyFindings, detail));
    }
    gaps.extend(sink.gaps.into_inner().unwrap_or_else(PoisonError::into_inner));
    gaps.sort();
    LayerReport {
        blob: facts.blob,
        blob_bytes: facts.blob_bytes,
        diff_id: facts.diff_id,
        bytes: facts.bytes,
        entries: u64::from(entries.count),
        files: entries.files,
        touched: Touched::new(entries.touches.into_iter().map(|(key, touch, _)| (key, touch)).collect()),
        whiteouts: entries.whiteouts,
        hard_links,
        owners,
        findings,
        gaps,
    }
}

/// What is in a file is also under the further names that its layer gives it. Stops, and says so, at `limit`.
fn add_linked(findings: &mut Vec<LayerFinding>, links: &[HardLink], limit: usize) -> bool {
    let mut by_entry: HashMap<u32, Vec<LayerFinding>> = HashMap::new();
    for finding in findings.iter() {
        by_entry.entry(finding.entry).or_default().push(finding.clone());
    }
    for link in links {
        let Origin::Entry(entry) = link.origin else { continue };
        for original in by_entry.get(&entry).into_iter().flatten() {
            if findings.len() >= limit {
                return false;
            }
            findings.push(original.linked(link));
        }
    }
    true
}
