//! Tests of every archive format, on files of the usual tools (`testdata/archives/make.py`).

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::super::*;
use crate::memory::MemoryBudget;
use layersift_model::GapReason;

/// Memory for one file.
pub(super) fn memory() -> MemoryLease {
    MemoryBudget::default().lease(0)
}

/// The members of an archive: names joined by `!`, and bytes.
#[derive(Default, Debug, PartialEq, Eq)]
pub(super) struct OpenedArchive {
    pub(super) members: Vec<(String, Vec<u8>)>,
    pub(super) gaps: Vec<(String, GapReason)>,
    is_open: bool,
}

impl Members for OpenedArchive {
    fn begin(&mut self, inside: &[String], _: Option<u64>) {
        assert!(!self.is_open, "a member begins in another: {inside:?}");
        self.is_open = true;
        self.members.push((inside.join("!"), Vec::new()));
    }

    fn bytes(&mut self, bytes: &[u8]) {
        assert!(self.is_open);
        self.members.last_mut().unwrap().1.extend_from_slice(bytes);
    }

    fn end(&mut self) {
        assert!(self.is_open);
        self.is_open = false;
    }

    fn gap(&mut self, inside: &[String], gap: Gap) {
        self.gaps.push((inside.join("!"), gap.reason));
    }
}

/// Opens `archive`, pushed in pieces of `step` bytes.
pub(super) fn opened_by(archive: &[u8], step: usize, limits: &Limits) -> Option<OpenedArchive> {
    let head = &archive[..archive.len().min(HEAD_BYTES)];
    let mut opener = Opener::detect(head, limits, &memory())?;
    let mut held = OpenedArchive::default();
    for piece in archive.chunks(step) {
        opener.push(piece, &mut held);
    }
    opener.finish(&mut held);
    assert!(!held.is_open, "the last member did not end");
    Some(held)
}

pub(super) fn opened(archive: &[u8]) -> OpenedArchive {
    opened_by(archive, usize::MAX, &Limits::default()).expect("no archive")
}

pub(super) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub(super) fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = ::tar::Builder::new(Vec::new());
    for (name, data) in files {
        let mut header = ::tar::Header::new_ustar();
        header.set_size(data.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, *data).unwrap();
    }
    archive.into_inner().unwrap()
}

pub(super) const SMALL: &[u8] = b"hello from a file\n";

pub(super) fn lines() -> Vec<u8> {
    (0..40).map(|number| format!("line {number} of a member\n")).collect::<String>().into_bytes()
}

pub(super) fn text() -> Vec<u8> {
    (0..8000).map(|number| format!("line {} of a long text\n", number % 97)).collect::<String>().into_bytes()
}

macro_rules! fixtures {
    ($($name:literal),* $(,)?) => {
        /// Every fixture that has members, with its name.
        pub(super) const FIXTURES: &[(&str, &[u8])] =
            &[$(($name, include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/archives/", $name)))),*];
    };
}

fixtures!(
    "aes.zip",
    "bzip2.zip",
    "deflate.zip",
    "deflate64.zip",
    "encrypted.zip",
    "files.7z",
    "files.asar",
    "files.crc.cpio",
    "files.newc.cpio",
    "files.odc.cpio",
    "files.tar.gz",
    "gnu-long.a",
    "gnu.a",
    "great-dictionary.xz",
    "great-window.zst",
    "methods.zip",
    "sample.apk",
    "sample.deb",
    "sample.rpm",
    "stored.zip",
    "streamed-64.zip",
    "streamed.zip",
    "text.bz2",
    "text.gz",
    "text.independent.lz4",
    "text.linked.lz4",
    "text.lzma",
    "text.xz",
    "text.zst",
    "unseekable-stored.zip",
    "unseekable.zip",
);

pub(super) fn fixture(name: &str) -> &'static [u8] {
    FIXTURES.iter().find(|(own, _)| *own == name).unwrap_or_else(|| panic!("{name}")).1
}

pub(super) fn two_files() -> Vec<(String, Vec<u8>)> {
    vec![("hello.txt".into(), SMALL.to_vec()), ("dir/lines.txt".into(), lines())]
}

#[test]
fn streams_of_every_codec_hold_their_text() {
    let names = ["gz", "bz2", "xz", "lzma", "zst", "linked.lz4", "independent.lz4"];
    for name in names {
        let held = opened(fixture(&format!("text.{name}")));
        assert_eq!(held.gaps, [], "{name}");
        assert!(held.members == [(String::new(), text())], "{name}");
    }
}

#[test]
fn archives_hold_two_files() {
    let names = [
        "bzip2.zip",
        "deflate.zip",
        "files.asar",
        "files.crc.cpio",
        "files.newc.cpio",
        "files.odc.cpio",
        "files.tar.gz",
        "methods.zip",
        "stored.zip",
        "unseekable-stored.zip",
        "unseekable.zip",
    ];
    for name in names {
        let mut held = opened(fixture(name));
        // asar lists its files by name.
        held.members.sort_by_key(|(name, _)| name.len());
        assert_eq!(held.gaps, [], "{name}");
        assert_eq!(held.members, two_files(), "{name}");
    }
}

#[test]
fn a_zip_of_a_pipe_holds_its_text() {
    for name in ["streamed.zip", "streamed-64.zip"] {
        let held = opened(fixture(name));
        assert_eq!(held.gaps, [], "{name}");
        assert!(held.members == [("-".to_string(), text())], "{name}");
    }
}

#[test]
fn an_ar_archive_has_short_and_long_names() {
    let held = opened(fixture("gnu.a"));
    // Both names are written without their folders.
    assert_eq!(held.members, [("hello.txt".to_string(), SMALL.to_vec()), ("lines.txt".to_string(), lines())]);
    let long = opened(fixture("gnu-long.a"));
    let names: Vec<&str> = long.members.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["//", "a-name-of-more-than-sixteen-bytes.txt", "hello.txt"]);
    assert_eq!(long.members[1].1, SMALL);
    assert_eq!((held.gaps, long.gaps), (vec![], vec![]));
}

#[test]
fn a_name_in_front_of_the_data_is_read() {
    // 4.4BSD's ar(5): the size counts the name.
    let header = format!("{:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", "#1/20", 0, 0, 0, 644, 25);
    let archive = [b"!<arch>\n", header.as_bytes(), b"a longer name.txt\0\0\0", b"bytes\n"].concat();
    assert_eq!(opened(&archive).members, [("a longer name.txt".to_string(), b"bytes".to_vec())]);
}

#[test]
fn packages_are_opened_to_their_files() {
    let deb = opened(fixture("sample.deb"));
    let names: Vec<&str> = deb.members.iter().map(|(name, _)| name.as_str()).collect();
    let expected =
        ["debian-binary", "control.tar.xz!./control", "data.tar.xz!./dir/lines.txt", "data.tar.xz!./hello.txt"];
    assert_eq!((names, deb.gaps), (expected.to_vec(), vec![]));

    let rpm = opened(fixture("sample.rpm"));
    assert_eq!((rpm.members.len(), &rpm.gaps), (3, &vec![]));
    assert!(memchr::memmem::find(&rpm.members[0].1, b"echo installed").is_some());
    assert!(rpm.members[1..].contains(&("./hello.txt".into(), SMALL.to_vec())));
    assert!(rpm.members[1..].contains(&("./dir/lines.txt".into(), lines())));

    let alpine = opened(fixture("sample.apk"));
    assert_eq!(alpine.gaps, []);
    assert_eq!(alpine.members[0].0, ".PKGINFO");
    assert_eq!(alpine.members[1..], two_files());
}

#[test]
fn archives_are_opened_inside_archives() {
    let inner = tar(&[("in.zip", fixture("deflate.zip")), ("plain", b"x")]);
    let outer = tar(&[("first", b""), ("inner.tgz", &gzip(&inner)), ("app.bin", fixture("text.xz"))]);
    let held = opened(&outer);
    assert_eq!(held.gaps, []);
    let names: Vec<&str> = held.members.iter().map(|(name, _)| name.as_str()).collect();
    let expected =
        ["first", "inner.tgz!in.zip!hello.txt", "inner.tgz!in.zip!dir/lines.txt", "inner.tgz!plain", "app.bin"];
    assert_eq!(names, expected);
    assert_eq!(held.members[4].1, text());
}

#[test]
fn what_is_encrypted_is_a_gap_and_is_handed_out_as_it_is() {
    for name in ["encrypted.zip", "aes.zip"] {
        let mut held = opened(fixture(name));
        held.gaps.sort();
        let gap = |name: &str| (name.to_string(), GapReason::EncryptedMember);
        assert_eq!(held.gaps, [gap("dir/lines.txt"), gap("hello.txt")], "{name}");
        assert_eq!(held.members.len(), 2, "{name}");
        assert!(held.members.iter().all(|(_, bytes)| memchr::memmem::find(fixture(name), bytes).is_some()));
    }
}

#[test]
fn what_is_not_read_is_a_gap_and_is_handed_out_as_it_is() {
    let held = opened(fixture("files.7z"));
    assert_eq!(held.gaps, [(String::new(), GapReason::UnsupportedArchive)]);
    assert_eq!(held.members, [(String::new(), fixture("files.7z").to_vec())]);
    let rar = b"Rar!\x1a\x07\x01\0 and so on";
    assert_eq!(opened(rar).members, [(String::new(), rar.to_vec())]);
    let held = opened(fixture("deflate64.zip"));
    assert!(held.gaps.contains(&("dir/lines.txt".to_string(), GapReason::UnsupportedCompression)));
    assert_eq!(held.members.len(), 2);
    for name in ["great-window.zst", "great-dictionary.xz"] {
        let held = opened(fixture(name));
        assert_eq!(held.gaps, [(String::new(), GapReason::UnsupportedCompression)], "{name}");
    }
}

#[test]
fn a_zip_with_a_prefix_is_read() {
    for prefix in [&b"#!/usr/bin/env python3\n"[..], b"JM\x01\0"] {
        let held = opened(&[prefix, fixture("deflate.zip")].concat());
        assert_eq!(held.members[0], (String::new(), prefix.to_vec()));
        assert_eq!((&held.members[1..], &held.gaps[..]), (&two_files()[..], &[][..]));
    }
}

#[test]
fn a_zip_behind_a_program_or_a_script_is_read() {
    let script = [&b"#!/bin/bash\n# PK\x03\x04 no header\n"[..], &[b'#'; 3000], b"\nexit 0\n"].concat();
    let program = [&b"\x7fELF\x02\x01\x01"[..], &[0; 5000], b"PK\x03\x04\xff\xff\xff\xff", &[1; 40]].concat();
    for prefix in [&script, &program] {
        for step in [1, 29, 30, 31, 1000, usize::MAX] {
            let inner = [&prefix[..], fixture("deflate.zip")].concat();
            let held = opened_by(&tar(&[("app", &inner), ("last", b"x")]), step, &Limits::default()).unwrap();
            let names: Vec<&str> = held.members.iter().map(|(name, _)| name.as_str()).collect();
            assert_eq!(names, ["app", "app!hello.txt", "app!dir/lines.txt", "last"], "{step}");
            assert!(held.members[0].1.starts_with(prefix), "{step}");
            assert_eq!((&held.members[2].1, held.gaps), (&lines(), vec![]), "{step}");
        }
    }
    // The archive is not opened, and its bytes are those of a file.
    let inner = [&script[..], fixture("deflate.zip")].concat();
    let shallow = Limits { archive_depth: 1, ..Limits::default() };
    let held = opened_by(&tar(&[("app", &inner)]), 100, &shallow).unwrap();
    assert_eq!(held.gaps, [("app".to_string(), GapReason::ArchiveTooDeep)]);
    assert_eq!(held.members, [("app".to_string(), inner)]);
}

#[test]
fn bytes_between_the_records_of_a_zip_are_handed_out() {
    let zip = fixture("deflate.zip");
    let directory = memchr::memmem::find(zip, b"PK\x01\x02").unwrap();
    let block = b"APK Sig Block PK and PK\x03\x04\xff\xff no record";
    let held = opened(&[&zip[..directory], block, &zip[directory..]].concat());
    assert_eq!(held.gaps, []);
    assert_eq!(held.members[2], (String::new(), block.to_vec()));
}

#[test]
fn a_damaged_member_of_a_zip_does_not_hide_the_others() {
    for name in ["unseekable.zip", "deflate.zip", "bzip2.zip", "methods.zip"] {
        let mut zip = fixture(name).to_vec();
        let at = memchr::memmem::find(&zip, b"dir/lines.txt").unwrap() + 40;
        zip[at] ^= 0xff;
        let held = opened(&[&zip[..], fixture("stored.zip")].concat());
        assert!(!held.gaps.is_empty(), "{name}");
        let last: Vec<_> = held.members.iter().rev().take(2).rev().cloned().collect();
        assert_eq!(last, two_files(), "{name}");
    }
}

#[test]
fn data_after_an_archive_are_opened_too() {
    // As an initial RAM file system: microcode as it is, then a compressed archive.
    let held = opened(&[fixture("files.newc.cpio"), &[0; 700], &gzip(fixture("files.odc.cpio"))].concat());
    assert_eq!(held.gaps, []);
    assert_eq!(held.members, [two_files(), two_files()].concat());
    let held = opened(&[&gzip(b"one")[..], b"behind"].concat());
    assert_eq!(held.members, [(String::new(), b"one".to_vec()), (String::new(), b"behind".to_vec())]);
    let twice = [tar(&[("a", b"1")]), tar(&[("b", b"2")])].concat();
    assert_eq!(opened(&twice).members, [("a".to_string(), b"1".to_vec()), ("b".to_string(), b"2".to_vec())]);
}

#[test]
fn what_cannot_be_inflated_is_handed_out_as_it_is() {
    let mut stream = gzip(&text());
    let at = stream.len() - 3;
    stream[at] ^= 1;
    let held = opened(&stream);
    assert_eq!(held.gaps, [(String::new(), GapReason::DamagedCompression)]);
    assert_eq!(held.members[0].1, text());

    let tar = [&tar(&[("a", b"1")])[..1024], &[b'x'; 2000]].concat();
    let held = opened(&tar);
    assert_eq!(held.gaps, [(String::new(), GapReason::DamagedTar)]);
    assert_eq!(held.members[1], (String::new(), vec![b'x'; 2000]));
}

#[test]
fn files_are_no_archives_by_chance() {
    let not = [
        &b""[..],
        b"\x1f\x8b is not enough for gzip",
        b"BZh9 for bzip2",
        b"PK is a magic number",
        b"\x78\x9c as zlib begins",
        b"x^2 + y^2, where fixed codes would begin",
        b"blob 12 of git",
        b"PK\x05\x06 without an end",
        b"070701 and text in a cpio archive",
        b"!<arch> of ar",
        b"]\0\0\x80\0\xff\xff\xff\xff\xff\xff\xff\xff\0 not lzma at all, because nothing decodes it",
        b"\x04\x00\x00\x00\x10\x00\x00\x00\x0c\x00\x00\x00\x08\x00\x00\x00{\"a\":1}",
    ];
    for head in not {
        assert!(Opener::detect(head, &Limits::default(), &memory()).is_none(), "{head:?}");
    }
    assert!(Opener::detect(&[b' '; 1024], &Limits::default(), &memory()).is_none());
    assert!(Opener::detect(&[0; 1024], &Limits::default(), &memory()).is_none());
}

/// Counts work.
#[derive(Default)]
struct Counted(u64);

impl Members for Counted {
    fn begin(&mut self, _: &[String], _: Option<u64>) {}

    fn bytes(&mut self, _: &[u8]) {}

    fn end(&mut self) {}

    fn gap(&mut self, _: &[String], _: Gap) {}

    fn work(&mut self, work: u64) -> bool {
        self.0 += work;
        true
    }
}

/// The work of opening `archive`.
fn work_of(archive: &[u8]) -> u64 {
    let mut counted = Counted(Opener::detection_work(archive));
    if let Some(mut opener) = Opener::detect(archive, &Limits::default(), &memory()) {
        opener.push(archive, &mut counted);
        opener.finish(&mut counted);
    }
    counted.0
}

#[test]
fn beginning_a_stream_is_work_by_its_codec() {
    use liblzma::stream::{LzmaOptions, Stream};
    use liblzma::write::XzEncoder;
    let mut bzip2 = ::bzip2::write::BzEncoder::new(Vec::new(), ::bzip2::Compression::best());
    bzip2.write_all(b"a").unwrap();
    let bzip2 = bzip2.finish().unwrap();
    let lzma_of = |stream| {
        let mut encoder = XzEncoder::new_stream(Vec::new(), stream);
        encoder.write_all(b"a").unwrap();
        encoder.finish().unwrap()
    };
    let xz = lzma_of(Stream::new_easy_encoder(1, liblzma::stream::Check::None).unwrap());
    let lzma = lzma_of(Stream::new_lzma_encoder(&LzmaOptions::new_preset(1).unwrap()).unwrap());
    let zstd = ::zstd::encode_all(&b"a"[..], 1).unwrap();
    let lz4 = [&b"\x04\x22\x4d\x18\x40\x70\xdf\x01\0\0\x80a"[..], &[0; 4]].concat();
    for (name, stream, expected) in [
        ("bzip2", &bzip2, 45_000),
        ("xz", &xz, 30_000),
        ("lzma", &lzma, 60_000),
        ("zstd", &zstd, 15_000),
        ("lz4", &lz4, 40_000),
    ] {
        let work = work_of(stream);
        assert!((expected..expected + 10_000).contains(&work), "{name}: {work}");
        // The decoder begins again.
        let twice = work_of(&stream.repeat(2));
        assert!(name == "lzma" || name == "lz4" || twice > work + expected, "{name}: {twice}");
    }
    assert!(work_of(&gzip(b"a")) < 10_000);
    // What looks like a stream is decoded before it is taken for one. This one has no bytes.
    let empty = [&lzma[..5], &[0; 40]].concat();
    assert!(Opener::detect(&empty, &Limits::default(), &memory()).is_none());
    assert_eq!(work_of(&empty), 30_000);
}
