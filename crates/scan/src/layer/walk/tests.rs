//! Tests of the walk: for windows of any size, the segments of a file own each byte exactly once.

use super::*;
use crate::layer::buffer::Pool;

const OVERLAP: Overlap = Overlap { before: 16, after: 100 };

/// Collects paths, and bytes as they pass.
#[derive(Default)]
struct Collect {
    files: Vec<(String, Vec<u8>)>,
    holes: Vec<(usize, u64)>,
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

    fn hole(&mut self, file: &usize, length: u64) {
        self.holes.push((*file, length));
    }

    fn rest(&mut self, rest: Rest) -> usize {
        self.files.push((format!("{rest:?}"), Vec::new()));
        self.files.len() - 1
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
    let mut last = None;
    while end < archive.len() {
        end = (end + fresh).min(archive.len());
        let mut buffer = pool.take();
        buffer.space()[..end - start].copy_from_slice(&archive[start..end]);
        let window = buffer.seal(end - start);
        let mut segments = Vec::new();
        let keep = match walk.window(&window, start as u64, &mut collect, &mut segments) {
            Ok(keep) => keep as usize,
            Err(_) => {
                walk.begin_rest(Rest::Unreadable, &mut collect);
                walk.window(&window, start as u64, &mut collect, &mut segments).unwrap() as usize
            }
        };
        assert!(keep >= start && end - keep.min(end) <= OVERLAP.total() as usize + BLOCK, "keeps {}", end - keep);
        own(&window, segments, &mut owned);
        last = Some((window, start as u64));
        start = keep.min(end);
    }
    let mut segments = Vec::new();
    if let Some((window, start)) = last {
        walk.finish(&window, start, &mut collect, &mut segments);
        own(&window, segments, &mut owned);
    }
    (collect, owned)
}

fn own(window: &Bytes<'_>, segments: Vec<Segment<usize>>, owned: &mut [Parts]) {
    for segment in segments {
        let bytes = &window[segment.range.clone()];
        let offset = segment.offset + segment.owned.start as u64;
        owned[segment.file].push((offset, bytes[segment.owned.clone()].to_vec()));
    }
}

/// Asserts that the segments own each byte of each file exactly once.
fn assert_owned_once(collect: &Collect, owned: &[Parts], fresh: usize) {
    assert_eq!(collect.ended, collect.files.len(), "windows of {fresh}");
    for (number, (path, content)) in collect.files.iter().enumerate() {
        let mut joined = Vec::new();
        for (offset, part) in &owned[number] {
            assert_eq!(*offset, joined.len() as u64, "{path}, windows of {fresh}");
            joined.extend_from_slice(part);
        }
        assert!(joined == *content, "{path}, windows of {fresh}");
    }
}

#[test]
fn every_byte_is_seen_once_and_owned_once_whatever_the_windows() {
    let (archive, contents) = archive();
    for fresh in [129, 512, 640, 1000, 1024, 4096, 10_000, archive.len()] {
        let (collect, owned) = walk(&archive, fresh);
        assert_owned_once(&collect, &owned, fresh);
        let read: Vec<&Vec<u8>> = collect.files.iter().map(|(_, content)| content).collect();
        assert_eq!(read, contents.iter().collect::<Vec<_>>(), "windows of {fresh}");
    }
}

#[test]
fn bytes_that_belong_to_no_entry_are_a_file() {
    let (archive, contents) = archive();
    let after: Vec<u8> = (0..3000).map(|i: usize| 1 + (i % 250) as u8).collect();
    let text = b"a layer that is no archive".to_vec();
    let mut damaged = archive.clone();
    damaged.truncate(archive.len() - 1024);
    damaged.extend_from_slice(&[7; 1300]);
    for (layer, rest, expected) in [
        ([archive.clone(), after.clone()].concat(), "AfterEnd", after),
        (text.clone(), "NotTar", text),
        (damaged, "Unreadable", vec![7; 1300]),
    ] {
        for fresh in [129, 512, 1000, 4096, layer.len()] {
            let (collect, owned) = walk(&layer, fresh);
            assert_owned_once(&collect, &owned, fresh);
            let (name, content) = collect.files.last().unwrap();
            assert_eq!((&name[..], content), (rest, &expected), "windows of {fresh}");
            assert!(collect.files.len() == 1 || collect.files.len() == contents.len() + 1);
        }
    }
}

#[test]
fn padding_that_is_not_zeros_is_a_file() {
    let mut builder = tar::Builder::new(Vec::new());
    for name in ["a", "b"] {
        let mut header = tar::Header::new_gnu();
        header.set_size(500);
        builder.append_data(&mut header, name, &[1; 500][..]).unwrap();
    }
    let mut archive = builder.into_inner().unwrap();
    archive[1015..1020].copy_from_slice(b"TOKEN");
    for fresh in [129, 300, 512, 4096] {
        let (collect, owned) = walk(&archive, fresh);
        assert_owned_once(&collect, &owned, fresh);
        let names: Vec<&str> = collect.files.iter().map(|(name, _)| &name[..]).collect();
        assert_eq!(names, ["a", "Padding", "b"]);
        assert!(collect.files[1].1.ends_with(b"TOKEN\0\0\0\0"));
    }
}

#[test]
fn a_truncated_file_is_passed_up_to_its_last_byte() {
    let (archive, _) = archive();
    for length in [1000, 1700, 9000, 20_000] {
        for fresh in [129, 512, 4096] {
            let (collect, owned) = walk(&archive[..length], fresh);
            assert_owned_once(&collect, &owned, fresh);
        }
    }
}

#[test]
fn pieces_of_a_sparse_file_are_segments_of_their_own() {
    let mut header = tar::Header::new_gnu();
    header.set_path("s").unwrap();
    header.set_entry_type(tar::EntryType::GNUSparse);
    header.set_size(1300);
    let gnu = header.as_gnu_mut().unwrap();
    for (slot, (offset, length)) in [(0, 600), (600, 100), (5000, 600)].into_iter().enumerate() {
        gnu.sparse[slot].set_offset(offset);
        gnu.sparse[slot].set_length(length);
    }
    header.set_cksum();
    let data: Vec<u8> = (0..1300).map(|i: usize| (i % 251) as u8).collect();
    let mut archive = [&header.as_bytes()[..], &data].concat();
    archive.resize(archive.len().next_multiple_of(BLOCK) + 1024, 0);
    for fresh in [129, 300, 512, 4096] {
        let (collect, owned) = walk(&archive, fresh);
        assert_owned_once(&collect, &owned, fresh);
        assert_eq!(collect.holes, [(0, 4300)]);
        assert!(owned[0].iter().any(|(offset, _)| *offset == 700), "no segment crosses the hole");
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

#[test]
fn runs_of_sparse_files_are_counted() {
    let record = |key: &str, value: &str| {
        let line = |length: usize| format!("{length} {key}={value}\n");
        line((1..).find(|&length| line(length).len() == length).unwrap())
    };
    let map: Vec<String> = (0..50).map(|number| format!("{},1", 2 * number)).collect();
    let records = [
        record("GNU.sparse.major", "0"),
        record("GNU.sparse.minor", "1"),
        record("GNU.sparse.name", "sparse"),
        record("GNU.sparse.size", "100"),
        record("GNU.sparse.numblocks", "50"),
        record("GNU.sparse.map", &map.join(",")),
    ]
    .concat();
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(tar::EntryType::XHeader);
    header.set_size(records.len() as u64);
    header.set_cksum();
    builder.append(&header, records.as_bytes()).unwrap();
    let mut header = tar::Header::new_ustar();
    header.set_size(50);
    builder.append_data(&mut header, "a", &[b'b'; 50][..]).unwrap();
    let archive = builder.into_inner().unwrap();
    let pool = Pool::new(archive.len());
    let mut buffer = pool.take();
    buffer.space().copy_from_slice(&archive);
    let (mut walk, mut collect) = (Walk::new(OVERLAP, &Limits::default()), Collect::default());
    walk.window(&buffer.seal(archive.len()), 0, &mut collect, &mut Vec::new()).unwrap();
    assert!(walk.take_runs() >= 50);
    assert_eq!((walk.take_runs(), collect.holes.len()), (0, 49));
}
