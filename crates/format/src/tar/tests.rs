//! Tests of the tar framing: entries written by the `tar` crate and by hand come out as they went in.

use super::*;

/// Reads a whole archive the way a caller does.
fn entries(archive: &[u8]) -> Result<Vec<(Entry, Vec<u8>)>, TarError> {
    let mut parser = Parser::new(1 << 20);
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(block) = archive.get(at..at + BLOCK) {
        at += BLOCK;
        match parser.block(block.try_into().unwrap())? {
            None => {}
            Some(Event::End) => break,
            Some(Event::Entry(entry)) => {
                let stored = entry.stored as usize;
                let data = archive[at..at + stored].to_vec();
                at += entry.padded() as usize;
                found.push((entry, data));
            }
        }
    }
    Ok(found)
}

fn header(path: &str, kind: tar::EntryType, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_path(path).unwrap();
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(0o644);
    header.set_cksum();
    header
}

fn padded(data: &[u8]) -> Vec<u8> {
    let mut out = data.to_vec();
    out.resize(data.len().div_ceil(BLOCK) * BLOCK, 0);
    out
}

fn pax(records: &[(&str, &str)]) -> Vec<u8> {
    let mut data = Vec::new();
    for (key, value) in records {
        let rest = key.len() + value.len() + 3;
        let length = (1..5).map(|digits| rest + digits).find(|n| n.to_string().len() + rest == *n).unwrap();
        data.extend(format!("{length} {key}={value}\n").into_bytes());
    }
    [header("PaxHeaders/x", tar::EntryType::XHeader, data.len() as u64).as_bytes().to_vec(), padded(&data)].concat()
}

#[test]
fn long_names_links_and_kinds() {
    let mut builder = tar::Builder::new(Vec::new());
    let long = format!("{}/file", "directory".repeat(30));
    let mut file = tar::Header::new_gnu();
    file.set_size(5);
    file.set_mode(0o4755);
    builder.append_data(&mut file, &long, &b"hello"[..]).unwrap();
    let mut link = tar::Header::new_gnu();
    link.set_entry_type(tar::EntryType::Link);
    link.set_size(0);
    builder.append_link(&mut link, "other", &long).unwrap();
    let read = entries(&builder.into_inner().unwrap()).unwrap();
    assert_eq!(read[0].0.path, long.as_bytes());
    assert_eq!((read[0].0.kind, read[0].0.mode, &read[0].1[..]), (Kind::File, 0o4755, &b"hello"[..]));
    assert_eq!((read[1].0.kind, &read[1].0.link[..]), (Kind::HardLink, long.as_bytes()));
}

#[test]
fn pax_records_win_over_the_header_and_do_not_leak_to_the_next_entry() {
    let archive = [
        pax(&[("path", "real/name"), ("size", "700")]),
        header("short", tar::EntryType::Regular, 0).as_bytes().to_vec(),
        padded(&[7; 700]),
        header("next", tar::EntryType::Regular, 3).as_bytes().to_vec(),
        padded(b"abc"),
    ]
    .concat();
    let read = entries(&archive).unwrap();
    assert_eq!((&read[0].0.path[..], read[0].1.len()), (&b"real/name"[..], 700));
    assert_eq!((&read[1].0.path[..], &read[1].1[..]), (&b"next"[..], &b"abc"[..]));
}

#[test]
fn sparse_files_of_all_three_forms() {
    let map = padded(b"2\n0\n3\n100\n4\n");
    let newest = [
        pax(&[("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0"), ("GNU.sparse.name", "s")]),
        header("GNUSparseFile.0/s", tar::EntryType::Regular, 512 + 7).as_bytes().to_vec(),
        map,
        padded(b"abcdefg"),
    ]
    .concat();
    let older = [
        pax(&[("GNU.sparse.map", "0,3,100,4"), ("GNU.sparse.name", "s"), ("GNU.sparse.size", "104")]),
        header("GNUSparseFile.0/s", tar::EntryType::Regular, 7).as_bytes().to_vec(),
        padded(b"abcdefg"),
    ]
    .concat();
    let mut oldest = header("s", tar::EntryType::GNUSparse, 7);
    let sparse = &mut oldest.as_gnu_mut().unwrap().sparse;
    for (slot, (offset, length)) in [(0, 3), (100, 4)].into_iter().enumerate() {
        sparse[slot].set_offset(offset);
        sparse[slot].set_length(length);
    }
    oldest.set_cksum();
    let oldest = [oldest.as_bytes().to_vec(), padded(b"abcdefg")].concat();
    for archive in [newest, older, oldest] {
        let read = entries(&archive).unwrap();
        let (entry, data) = &read[0];
        assert_eq!((&entry.path[..], &data[..]), (&b"s"[..], &b"abcdefg"[..]));
        assert_eq!(entry.sparse, Some(vec![(0, 3), (100, 4)]));
        assert_eq!((entry.file_offset(2), entry.file_offset(3), entry.file_offset(6)), (2, 100, 103));
    }
}

#[test]
fn owners_and_times_are_those_of_the_header_or_of_records() {
    let mut plain = header("plain", tar::EntryType::Regular, 0);
    plain.set_uid(1000);
    plain.set_gid(100);
    plain.set_mtime(1_700_000_000);
    plain.set_cksum();
    let mut broken = header("broken", tar::EntryType::Regular, 0);
    broken.as_old_mut().uid = *b"nobody\0\0";
    broken.set_cksum();
    let of_records = [("mtime", "-1.5"), ("uid", "3000000000"), ("gid", "7")];
    let archive = [
        plain.as_bytes().to_vec(),
        pax(&of_records),
        plain.as_bytes().to_vec(),
        pax(&[("mtime", "1700000001.25")]),
        plain.as_bytes().to_vec(),
        broken.as_bytes().to_vec(),
        vec![0; 1024],
    ]
    .concat();
    let read = entries(&archive).unwrap();
    let facts: Vec<_> = read.iter().map(|(entry, _)| (entry.owner, entry.modified)).collect();
    let owner = (Some(1000), Some(100));
    assert_eq!(facts[0], (owner, Some(1_700_000_000)));
    assert_eq!(facts[1], ((Some(3_000_000_000), Some(7)), Some(-2)), "rounded down");
    assert_eq!(facts[2], (owner, Some(1_700_000_001)));
    assert_eq!(facts[3].0.0, None);
}

#[test]
fn an_empty_size_field_is_zero() {
    let mut empty = header("a", tar::EntryType::Directory, 0);
    empty.as_old_mut().size = [0; 12];
    empty.set_cksum();
    assert_eq!(entries(empty.as_bytes()).unwrap()[0].0.stored, 0);
}

#[test]
fn two_zero_blocks_end_the_archive() {
    let archive = [padded(&[]), vec![0; 1024], vec![0xff; 1024]].concat();
    assert_eq!(entries(&archive).unwrap(), vec![]);
}

#[test]
fn damaged_headers_are_errors() {
    let mut block = *header("a", tar::EntryType::Regular, 0).as_bytes();
    block[0] = b'b';
    assert_eq!(Parser::new(1024).block(&block), Err(TarError::Checksum));
    let long = header("a", tar::EntryType::GNULongName, 1 << 40);
    assert_eq!(Parser::new(1024).block(long.as_bytes()), Err(TarError::ExtensionTooLarge(1 << 40)));
}

#[test]
fn a_long_name_wins_over_a_pax_path() {
    let archive = [
        pax(&[("path", "from/pax")]),
        header("././@LongLink", tar::EntryType::GNULongName, 9).as_bytes().to_vec(),
        padded(b"from/long"),
        header("x", tar::EntryType::Regular, 0).as_bytes().to_vec(),
    ]
    .concat();
    assert_eq!(entries(&archive).unwrap()[0].0.path, b"from/long");
}

#[test]
fn global_records_are_ignored_and_said() {
    let global = |records: &[(&str, &str)]| {
        let mut archive = pax(records);
        archive[156] = b'g';
        let mut first = tar::Header::new_gnu();
        first.as_mut_bytes().copy_from_slice(&archive[..BLOCK]);
        first.set_cksum();
        archive[..BLOCK].copy_from_slice(first.as_bytes());
        archive
    };
    let file = header("a", tar::EntryType::Regular, 0).as_bytes().to_vec();
    let read = |archive: Vec<u8>| {
        let mut parser = Parser::new(1 << 20);
        let mut ambiguity = None;
        for block in archive.as_chunks::<BLOCK>().0 {
            let event = parser.block(block).unwrap();
            ambiguity = ambiguity.or(parser.take_ambiguity());
            if let Some(Event::Entry(entry)) = event {
                return (entry.path, ambiguity);
            }
        }
        panic!("no entry");
    };
    assert_eq!(read([global(&[("comment", "c")]), file.clone()].concat()), (b"a".to_vec(), None));
    let renamed = [global(&[("path", "b")]), file.clone()].concat();
    assert_eq!(read(renamed), (b"a".to_vec(), Some(Ambiguity::GlobalRecords)));
    let dropped = [pax(&[("path", "b")]), global(&[("comment", "c")]), file].concat();
    assert_eq!(read(dropped), (b"a".to_vec(), Some(Ambiguity::DroppedRecords)));
}

#[test]
fn a_regular_file_with_a_slash_has_data_and_an_old_one_has_none() {
    let mut regular = header("a/", tar::EntryType::Regular, 3);
    regular.as_old_mut().linkflag = [b'0'];
    regular.set_cksum();
    let mut parser = Parser::new(1024);
    let Ok(Some(Event::Entry(entry))) = parser.block(regular.as_bytes()) else { panic!() };
    assert_eq!((entry.kind, entry.stored), (Kind::File, 3));
    assert_eq!(parser.take_ambiguity(), Some(Ambiguity::DirectoryWithData));
    regular.as_old_mut().linkflag = [0];
    regular.set_cksum();
    let Ok(Some(Event::Entry(entry))) = parser.block(regular.as_bytes()) else { panic!() };
    assert_eq!((entry.kind, entry.stored, parser.take_ambiguity()), (Kind::Directory, 0, None));
}
