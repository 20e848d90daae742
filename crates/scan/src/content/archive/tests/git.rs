//! Tests of what Git repositories are made of.

use std::io::Write;

use flate2::Compression;
use flate2::write::ZlibEncoder;

use super::super::*;
use super::formats::{OpenedArchive, SMALL, fixture, opened, opened_by, text, two_files};
use layersift_model::GapReason;

fn zlib(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn an_object_is_a_file_behind_a_header() {
    let object = |bytes: &[u8]| [format!("blob {}\0", bytes.len()).as_bytes(), bytes].concat();
    for text in [SMALL.to_vec(), text(), Vec::new()] {
        for step in [1, 1000, usize::MAX] {
            let held = opened_by(&zlib(&object(&text)), step, &Limits::default()).unwrap();
            assert_eq!(held.gaps, []);
            assert!(held.members == [(String::new(), text.clone())], "{} {step}", text.len());
        }
    }
    let held = opened(&zlib(&object(fixture("deflate.zip"))));
    assert_eq!((held.members, held.gaps), (two_files(), vec![]));
    assert_eq!(opened(&zlib(b"commit 10\0tree 1")).members, [(String::new(), b"commit 10\0tree 1".to_vec())]);
}

/// A pack, and the offsets of its objects.
struct Pack {
    bytes: Vec<u8>,
    offsets: Vec<usize>,
}

impl Pack {
    fn new() -> Pack {
        Pack { bytes: b"PACK\0\0\0\x02\0\0\0\0".to_vec(), offsets: Vec::new() }
    }

    fn object(mut self, kind: u8, before: &[u8], data: &[u8]) -> Pack {
        self.offsets.push(self.bytes.len());
        let mut rest = data.len() >> 4;
        self.bytes.push(kind << 4 | data.len() as u8 & 15 | if rest > 0 { 0x80 } else { 0 });
        while rest > 0 {
            let more = if rest > 0x7f { 0x80 } else { 0 };
            self.bytes.push(rest as u8 & 0x7f | more);
            rest >>= 7;
        }
        self.bytes.extend_from_slice(before);
        self.bytes.extend_from_slice(&zlib(data));
        self
    }

    fn blob(self, data: &[u8]) -> Pack {
        self.object(3, b"", data)
    }

    /// A difference to the object `base`.
    fn difference(self, base: usize, data: &[u8]) -> Pack {
        let distance = self.bytes.len() - self.offsets[base];
        // Numbers of two bytes begin at 128.
        let before = match distance {
            0..128 => vec![distance as u8],
            _ => vec![((distance - 128) >> 7) as u8 | 0x80, (distance - 128) as u8 & 0x7f],
        };
        self.object(6, &before, data)
    }

    fn finish(mut self) -> Vec<u8> {
        self.bytes[8..12].copy_from_slice(&(self.offsets.len() as u32).to_be_bytes());
        self.bytes.extend_from_slice(&[7; 20]);
        self.bytes
    }

    fn names(&self, kinds: &[&str]) -> Vec<String> {
        kinds.iter().zip(&self.offsets).map(|(kind, offset)| format!("{kind} {offset}")).collect()
    }
}

/// A difference to `base` that puts `new` in the place of its first five bytes.
fn replacing(base: &[u8], new: &[u8]) -> Vec<u8> {
    let size = |size: usize| [size as u8 & 0x7f | 0x80, (size >> 7) as u8];
    let copied = base.len() - 5;
    let copy = [0xb1, 5, copied as u8, (copied >> 8) as u8];
    [&size(base.len())[..], &size(copied + new.len()), &[new.len() as u8], new, &copy].concat()
}

#[test]
fn objects_of_a_pack_are_read_and_differences_applied() {
    let first = [&b"PASS=old\n"[..], &[b'.'; 600], b"\nthe end"].concat();
    let second = [b"PASS=new one", &first[5..]].concat();
    let pack = Pack::new().object(1, b"", b"tree 1\n").blob(&first);
    let pack = pack.difference(1, &replacing(&first, b"PASS=new one")).difference(2, &replacing(&second, b"third"));
    let names = pack.names(&["commit", "blob", "blob", "blob"]);
    let bytes = pack.finish();
    for step in [1, 100, usize::MAX] {
        let held = opened_by(&bytes, step, &Limits::default()).unwrap();
        assert_eq!(held.gaps, [], "{step}");
        let read: Vec<&String> = held.members.iter().map(|(name, _)| name).collect();
        assert_eq!(read, names.iter().collect::<Vec<_>>());
        assert_eq!((&held.members[0].1, &held.members[1].1), (&b"tree 1\n".to_vec(), &first));
        let parts: Vec<&[u8]> = held.members[2..].iter().map(|(_, bytes)| &bytes[..]).collect();
        assert!(parts[0].starts_with(b"PASS=new oneold\n...") && parts[1].starts_with(b"thirdnew oneold\n..."));
        assert!(parts.iter().all(|part| part.len() < 400 && !part.ends_with(b"the end\n")), "{parts:?}");
    }
}

#[test]
fn what_a_difference_adds_is_passed_on_where_it_cannot_be_applied() {
    let elsewhere = Pack::new().object(7, &[0xab; 20], &replacing(&[b'.'; 300], b"SECRET"));
    let other = Pack::new().blob(&[b','; 299]).difference(0, &replacing(&[b'.'; 300], b"SECRET"));
    for bytes in [elsewhere.finish(), other.finish()] {
        let OpenedArchive { members, gaps, .. } = opened(&bytes);
        assert_eq!(gaps, [(String::new(), GapReason::ArchiveTooLarge)]);
        assert!(members.last().unwrap().0.starts_with("difference ") && members.last().unwrap().1 == b"SECRET");
    }
}

#[test]
fn large_objects_of_a_pack_are_passed_on_and_not_kept() {
    let large = vec![b'x'; (1 << 20) + 5];
    let pack = Pack::new().blob(&large).blob(SMALL);
    let held = opened(&pack.finish());
    assert_eq!(held.gaps, []);
    assert!(held.members[0].1 == large && held.members[1].1 == SMALL);
}

#[test]
fn a_damaged_pack_is_a_gap() {
    let whole = Pack::new().blob(SMALL).blob(&text()).finish();
    for cut in [13, 20, 40, whole.len() - 21] {
        let held = opened(&whole[..cut]);
        assert_eq!(held.gaps.len(), 1, "{cut}: {:?}", held.gaps);
    }
    // The size is another one.
    let pack = Pack::new().blob(SMALL).finish();
    for size in [1, 3] {
        let mut other = pack.clone();
        assert_eq!(other[12] & 15, 2);
        other[12] = other[12] & 0xf0 | size;
        assert_eq!(opened(&other).gaps, [(String::new(), GapReason::DamagedArchive)], "{size}");
    }
}
