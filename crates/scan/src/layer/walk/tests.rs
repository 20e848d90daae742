//! Tests of the walk: for windows of any size, the segments of a file own each byte exactly once.

use super::*;
use crate::layer::buffer::Pool;

const OVERLAP: Overlap = Overlap { before: 16, after: 100 };

/// Collects paths, and bytes as they pass.
#[derive(Default)]
struct Collect {
    files: Vec<(String, Vec<u8>)>,
    ended: usize,
}

impl<'a> Visitor<'a> for Collect {
    type File = usize;

    fn entry(&mut self, path: &ImagePath, entry: &Entry) -> Option<usize> {
        self.files.push((path.to_string(), Vec::new()));
        (entry.kind == Kind::File).then_some(self.files.len() - 1)
    }

    fn bytes(&mut self, file: &usize, offset: u64, window: &Bytes<'a>, range: Range<usize>) {
        assert_eq!(offset, self.files[*file].1.len() as u64);
        self.files[*file].1.extend_from_slice(&window[range]);
    }

    fn end(&mut self, _: usize) {
        self.ended += 1;
    }
}

/// Sizes around everything that has an edge: blocks, overlaps, windows.
fn archive() -> (Vec<u8>, Vec<Vec<u8>>) {
    let sizes = [0, 1, 15, 16, 17, 99, 115, 116, 117, 511, 512, 513, 1023, 1500, 2047, 5000, 9999, 3, 0, 700];
    let mut builder = tar::Builder::new(Vec::new());
    let mut contents = Vec::new();
    for (number, size) in sizes.into_iter().enumerate() {
        let content: Vec<u8> = (0..size).map(|i: usize| (i * 31 + number * 7) as u8).collect();
        let mut header = tar::Header::new_gnu();
        header.set_size(size as u64);
        builder.append_data(&mut header, format!("d{}/{number}", "d".repeat(number * 9)), &content[..]).unwrap();
        contents.push(content);
    }
    (builder.into_inner().unwrap(), contents)
}

/// The owned parts of a file, with their offsets.
type Parts = Vec<(u64, Vec<u8>)>;

/// Walks `archive` in windows of `fresh` new bytes each, as a reader makes them.
fn walk(archive: &[u8], fresh: usize) -> (Collect, Vec<Parts>) {
    let mut collect = Collect::default();
    let mut owned: Vec<Parts> = vec![Vec::new(); 64];
    let mut walk = Walk::new(OVERLAP, &Limits::default());
    let pool = Pool::new(archive.len());
    let (mut start, mut end) = (0, 0);
    while end < archive.len() {
        end = (end + fresh).min(archive.len());
        let mut buffer = pool.take();
        buffer.space()[..end - start].copy_from_slice(&archive[start..end]);
        let window = buffer.seal(end - start);
        let mut segments = Vec::new();
        let keep = walk.window(&window, start as u64, &mut collect, &mut segments).unwrap() as usize;
        assert!(keep >= start && end - keep.min(end) <= OVERLAP.total() as usize + BLOCK, "keeps {}", end - keep);
        for segment in segments {
            let bytes = &window[segment.range.clone()];
            let offset = segment.offset + segment.owned.start as u64;
            owned[segment.file].push((offset, bytes[segment.owned.clone()].to_vec()));
            // What begins in the owned part has its context, or the file ends.
            assert!(segment.owned.start >= OVERLAP.before || segment.offset == 0);
        }
        start = keep.min(end);
    }
    assert!(walk.ended() && walk.at_boundary());
    (collect, owned)
}

#[test]
fn every_byte_is_seen_once_and_owned_once_whatever_the_windows() {
    let (archive, contents) = archive();
    for fresh in [129, 512, 640, 1000, 1024, 4096, 10_000, archive.len()] {
        let (collect, owned) = walk(&archive, fresh);
        assert_eq!(collect.ended, contents.len(), "windows of {fresh}");
        for (number, content) in contents.iter().enumerate() {
            assert_eq!(collect.files[number].1, *content, "file {number}, windows of {fresh}");
            let mut joined = Vec::new();
            for (offset, part) in &owned[number] {
                assert_eq!(*offset, joined.len() as u64, "file {number}, windows of {fresh}");
                joined.extend_from_slice(part);
            }
            assert_eq!(joined, *content, "file {number}, windows of {fresh}");
        }
    }
}

#[test]
fn too_many_entries_stop_the_walk() {
    let (archive, _) = archive();
    let limits = Limits { layer_entries: 3, ..Limits::default() };
    let mut walk = Walk::new(OVERLAP, &limits);
    let pool = Pool::new(archive.len());
    let mut buffer = pool.take();
    buffer.space().copy_from_slice(&archive);
    let outcome = walk.window(&buffer.seal(archive.len()), 0, &mut Collect::default(), &mut Vec::new());
    assert!(matches!(outcome, Err(WalkError::TooManyEntries(3))));
}
