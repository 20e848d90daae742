//! A layer read in windows of any size is the layer read in one: the same entries, the same bytes, and segments that
//! own every byte of every file once.
#![no_main]

use std::collections::BTreeMap;
use std::ops::Range;

use layersift_format::tar::{BLOCK, Entry};
use layersift_format::{Blob, Cancellation};
use layersift_fuzz::{choices, repair_tar, tiny_limits};
use layersift_model::{Algorithm, ImagePath};
use layersift_scan::MemoryBudget;
use layersift_scan::layer::buffer::{Bytes, Pool};
use layersift_scan::layer::read::{LayerFacts, LayerReader, Work};
use layersift_scan::layer::walk::{Overlap, Rest, Visitor};
use layersift_scan::layer_work::LayerWork;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let ([before, after, extra, flags], layer) = choices(data);
    let mut layer = layer.to_vec();
    if flags & 1 == 0 {
        repair_tar(&mut layer, 0);
    }
    let overlap = Overlap { before: before.into(), after: after.into() };
    let least = overlap.before + overlap.after + BLOCK + 1;
    let whole = read(&layer, overlap, least + layer.len());
    let parts = read(&layer, overlap, least + 8 * usize::from(extra));
    assert_eq!(whole.seen, parts.seen);
    assert_eq!(format!("{:?}", whole.facts), format!("{:?}", parts.facts));
    for read in [&whole, &parts] {
        check_segments(read, overlap);
    }
});

/// The result of reading a layer once.
struct Read {
    seen: Seen,
    facts: LayerFacts,
    /// By file: offset, bytes and owned part of each of its segments.
    segments: BTreeMap<usize, Vec<(u64, Vec<u8>, Range<usize>)>>,
}

#[derive(Debug, Default, PartialEq)]
struct Seen {
    /// The entries, and `None` for bytes that belong to none.
    entries: Vec<Option<(ImagePath, Entry)>>,
    holes: Vec<(usize, u64)>,
    files: BTreeMap<usize, Vec<u8>>,
    ended: Vec<usize>,
}

impl Seen {
    /// Whether all bytes of `file` have passed. One that the archive cuts off ends as well.
    fn is_complete(&self, file: usize) -> bool {
        let passed = self.files.get(&file).map_or(0, Vec::len) as u64;
        let is_whole = self.entries[file].as_ref().is_none_or(|(_, entry)| passed == entry.stored);
        self.ended.contains(&file) && is_whole
    }
}

impl Visitor<'_> for Seen {
    type File = usize;

    fn entry(&mut self, path: &ImagePath, entry: &Entry) -> Option<usize> {
        self.entries.push(Some((path.clone(), entry.clone())));
        Some(self.entries.len() - 1)
    }

    fn bytes(&mut self, file: &usize, offset: u64, window: &Bytes<'_>, range: Range<usize>) {
        let bytes = self.files.entry(*file).or_default();
        assert_eq!(bytes.len() as u64, offset, "bytes come in order, each once");
        bytes.extend_from_slice(&window[range]);
    }

    fn hole(&mut self, file: &usize, length: u64) {
        self.holes.push((*file, length));
    }

    fn rest(&mut self, _: Rest) -> usize {
        self.entries.push(None);
        self.entries.len() - 1
    }

    fn end(&mut self, file: usize) {
        self.ended.push(file);
    }
}

fn read(layer: &[u8], overlap: Overlap, window: usize) -> Read {
    let (pool, limits) = (Pool::new(window), tiny_limits());
    let cancellation = Cancellation::never();
    let reading = LayerReader {
        pool: &pool,
        overlap,
        limits: &limits,
        algorithm: Algorithm::Sha256,
        progress: &|_| {},
        cancellation: &cancellation,
        memory: &MemoryBudget::default().lease(0),
        work: &LayerWork::new(&limits),
        beside: None,
    };
    let mut seen = Seen::default();
    let mut segments = BTreeMap::<usize, Vec<_>>::new();
    let facts = reading.layer(Blob::Stream(Box::new(layer)), &mut seen, &mut |work: Work<'_, usize>| {
        // The reader hashes the windows itself when no other thread does.
        let Work::Scan(batch) = work else { return };
        for segment in batch.segments {
            let bytes = batch.window[segment.range].to_vec();
            segments.entry(segment.file).or_default().push((segment.offset, bytes, segment.owned));
        }
    });
    Read { seen, facts, segments }
}

/// Every byte of a complete file is owned once, by a segment with enough context.
fn check_segments(read: &Read, overlap: Overlap) {
    for (file, segments) in &read.segments {
        let data = &read.seen.files[file];
        // No context reaches across the holes of a sparse file.
        let is_sparse = read.seen.entries[*file].as_ref().is_some_and(|(_, entry)| entry.sparse.is_some());
        let mut owned_to = 0;
        for (offset, bytes, owned) in segments {
            let offset = *offset as usize;
            let end = offset + bytes.len();
            assert_eq!(&data[offset..end], &bytes[..], "a segment is that part of its file");
            assert_eq!(offset + owned.start, owned_to, "segments own without holes");
            owned_to = offset + owned.end;
            assert!(
                is_sparse || offset == 0 || owned.start >= overlap.before,
                "context in front of {owned:?} at {offset}"
            );
            assert!(
                is_sparse || end == data.len() || owned.end + overlap.after <= bytes.len(),
                "context after {owned:?} at {offset}"
            );
        }
        if read.seen.is_complete(*file) {
            assert_eq!(owned_to, data.len(), "all of a file is owned");
        }
    }
    for file in read.seen.ended.iter().filter(|file| read.seen.is_complete(**file)) {
        let bytes = read.seen.files.get(file).map_or(0, Vec::len);
        assert!(bytes == 0 || read.segments.contains_key(file), "no file is left out");
    }
}
