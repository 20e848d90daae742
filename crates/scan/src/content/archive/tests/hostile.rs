//! Tests of archives that are cut off, pushed in odd pieces, nested too deep, or far larger than they look.

use proptest::prelude::*;

use super::super::*;
use super::formats::{FIXTURES, OpenedArchive, fixture, gzip, memory, opened, opened_by, tar};
use layersift_model::GapReason;

#[test]
fn what_is_cut_off_anywhere_is_a_gap() {
    for (name, archive) in FIXTURES {
        let step = if archive.len() > 3000 { 7 } else { 1 };
        for size in (0..archive.len()).step_by(step) {
            let Some(held) = opened_by(&archive[..size], 100, &Limits::default()) else { continue };
            let is_whole = held.gaps.is_empty();
            assert!(!is_whole || may_end(name, archive, size), "{name} cut to {size} bytes");
        }
    }
}

/// Where a shorter file is whole as well: between streams, between the members of an ar archive, in padding, or where
/// too little is left of an RPM package's payload to tell what it is.
fn may_end(name: &str, archive: &[u8], size: usize) -> bool {
    let rest = &archive[size..];
    let is_header = |header: Option<&[u8]>| header == Some(b"`\n");
    match name.rsplit('.').next() {
        _ if rest.iter().all(|&byte| byte == 0 || byte == b'\n') => true,
        Some("a" | "deb") => is_header(rest.get(58..60)) || is_header(rest.get(59..61)),
        Some("rpm") => (1..5).any(|back| archive[size - back..].starts_with(b"\x28\xb5\x2f\xfd")),
        Some("gz" | "apk") => rest.starts_with(&[0x1f, 0x8b]),
        Some("bz2") => rest.starts_with(b"BZh"),
        Some("xz" | "zst" | "lz4") => between_frames(archive, size),
        _ => false,
    }
}

/// Whether a cut at `size` is in what stands between two streams.
fn between_frames(archive: &[u8], size: usize) -> bool {
    let magics: [&[u8]; 4] = [b"\x53\x2a\x4d\x18", b"\x28\xb5\x2f\xfd", b"\x04\x22\x4d\x18", b"\xfd7zXZ\0"];
    let near = &archive[size.saturating_sub(14)..(size + 16).min(archive.len())];
    magics.iter().any(|magic| memchr::memmem::find(near, magic).is_some())
}

#[test]
fn pieces_of_one_byte_give_what_all_at_once_gives() {
    for (name, archive) in FIXTURES {
        let (small, large) = (opened_by(archive, 1, &Limits::default()).unwrap(), opened(archive));
        assert_eq!(small.gaps, large.gaps, "{name}");
        // How much of its header a codec took when it refused a stream depends on the pieces.
        assert!(small.members == large.members || name.starts_with("great-"), "{name}");
    }
}

/// An archive with every fixture in it, three levels deep.
fn everything() -> Vec<u8> {
    let inner = gzip(&tar(FIXTURES));
    tar(&[("all.tgz", &inner), ("one", b"plain"), ("again.tgz", &inner)])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn pieces_of_any_size_give_the_same(step in 1usize..5000) {
        let archive = everything();
        prop_assert!(opened_by(&archive, step, &Limits::default()) == Some(opened(&archive)));
    }

    #[test]
    fn damage_anywhere_does_no_harm(
        which in 0..FIXTURES.len(), at in any::<prop::sample::Index>(), with in any::<u8>(), step in 1usize..400,
    ) {
        let mut archive = FIXTURES[which].1.to_vec();
        let at = at.index(archive.len());
        archive[at] = with;
        let small = opened_by(&archive, step, &Limits::default());
        let large = opened_by(&archive, usize::MAX, &Limits::default());
        // How far a codec read when it saw the damage depends on the pieces; what is whole does not.
        if let (Some(small), Some(large)) = (small, large)
            && small.gaps.is_empty()
            && large.gaps.is_empty()
        {
            prop_assert!(small == large);
        }
    }

    #[test]
    fn noise_does_no_harm(which in 0..FIXTURES.len(), noise in prop::collection::vec(any::<u8>(), 0..300)) {
        let archive = FIXTURES[which].1;
        let kept = archive.len().min(40);
        opened_by(&[&archive[..kept], &noise].concat(), 9, &Limits::default());
    }
}

#[test]
fn every_byte_of_an_archive_may_be_any_other() {
    for (name, archive) in FIXTURES.iter().filter(|(name, _)| name.ends_with("zip") || name.ends_with("lz4")) {
        let mut changed = archive.to_vec();
        for at in 0..changed.len().min(200) {
            for with in [0, 0x7f, 0xff] {
                let before = std::mem::replace(&mut changed[at], with);
                opened_by(&changed, 64, &Limits::default());
                changed[at] = before;
            }
        }
        assert_eq!(changed, *archive, "{name}");
    }
}

/// Counts what comes and keeps nothing.
#[derive(Default)]
struct Count {
    bytes: u64,
    largest: usize,
    members: u64,
    gaps: Vec<GapReason>,
}

impl Members for Count {
    fn begin(&mut self, _: &[String], _: Option<u64>) {
        self.members += 1;
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        self.largest = self.largest.max(bytes.len());
    }

    fn end(&mut self) {}

    fn gap(&mut self, _: &[String], gap: Gap) {
        self.gaps.push(gap.reason);
    }
}

fn counted(archive: &[u8], limits: &Limits) -> Count {
    let mut count = Count::default();
    let mut opener = Opener::detect(&archive[..archive.len().min(HEAD_BYTES)], limits, &memory()).unwrap();
    opener.push(archive, &mut count);
    opener.push(archive, &mut count);
    opener.finish(&mut count);
    count
}

#[test]
fn a_bomb_ends_at_the_limit_of_bytes() {
    let limits = Limits { archive_bytes: 1 << 20, ..Limits::default() };
    let zeros = vec![0; 40 << 20];
    let nested = gzip(&gzip(&zeros));
    for bomb in [gzip(&zeros), nested, ::zstd::stream::encode_all(&zeros[..], 3).unwrap()] {
        let count = counted(&bomb, &limits);
        assert_eq!(count.gaps, [GapReason::ArchiveTooLarge]);
        assert!(count.bytes <= 1 << 20, "{}", count.bytes);
        assert!(count.largest <= 64 << 10);
    }
}

#[test]
fn very_many_members_end_at_their_limit() {
    let limits = Limits { archive_members: 100, ..Limits::default() };
    let names: Vec<String> = (0..200).map(|number| format!("file {number}")).collect();
    let files: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), &b""[..])).collect();
    let count = counted(&tar(&files), &limits);
    assert_eq!((count.members, count.gaps), (100, vec![GapReason::ArchiveTooLarge]));
    // Empty streams in a row make no members, and cost time all the same.
    let count = counted(&gzip(b"").repeat(200), &limits);
    assert_eq!(count.gaps, [GapReason::ArchiveTooLarge]);
}

#[test]
fn what_is_too_deep_is_a_gap_and_is_handed_out_as_it_is() {
    let mut nested = b"in the middle".to_vec();
    let mut levels = Vec::new();
    for _ in 0..10 {
        levels.push(nested.clone());
        nested = gzip(&nested);
    }
    let held = opened(&nested);
    assert_eq!(held.gaps, [(String::new(), GapReason::ArchiveTooDeep)]);
    assert_eq!(held.members, [(String::new(), levels[2].clone())]);
    let none = Limits { archive_depth: 0, ..Limits::default() };
    assert_eq!(opened_by(&nested, 10, &none), None::<OpenedArchive>);
}

#[test]
fn names_are_bounded() {
    let long = "ä".repeat(4000);
    let mut zip = fixture("stored.zip").to_vec();
    zip[26..28].copy_from_slice(&8000u16.to_le_bytes());
    let zip = [&zip[..30], long.as_bytes(), &zip[30 + "hello.txt".len()..]].concat();
    let held = opened(&zip);
    assert_eq!(held.members[0].0, "ä".repeat(2048));
}

#[test]
fn an_asar_that_lies_about_offsets_is_read_once() {
    let json = br#"{"files":{"a":{"size":4,"offset":"0"},"b":{"size":4,"offset":"2"},"c":{"size":2,"offset":"0"},
        "d":{"size":1,"offset":"9"},"e":{"size":9,"offset":"x"}}}"#;
    let padded = json.len().next_multiple_of(4);
    let words = [4, padded + 8, padded + 4, json.len()].map(|word| (word as u32).to_le_bytes());
    let archive = [&words.concat()[..], json, &vec![0; padded - json.len()], b"0123456789tail"].concat();
    let held = opened(&archive);
    let members: Vec<(&str, &[u8])> = held.members.iter().map(|(name, data)| (name.as_str(), &data[..])).collect();
    let expected = [("c", &b"01"[..]), ("a", b"23"), ("b", b"45"), ("", b"678"), ("d", b"9"), ("", b"tail")];
    assert_eq!(members, expected);
}
