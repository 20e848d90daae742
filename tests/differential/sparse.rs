//! Sparse files in all their forms, and in forms that only look like one.
//!
//! Source: GNU tar, "Storing Sparse Files".

use super::draft::Draft;
use super::entry::{BLOCK, Entry, extended, octal, record};

/// GNU's old form: type `S`, with a map in the header and in blocks after it.
pub fn old(draft: &mut Draft, entry: &mut Entry, _: &str) {
    let length = entry.data.len();
    let magic = *draft.vary(20, "sparse magic", &[("GNU", b"ustar  \0"), ("ustar", b"ustar\x0000")]);
    entry.set_magic(magic);
    entry.set_kind(*draft.mutate("sparse type", &[("none", b'0'), ("S", b'S')]));
    let map: Vec<(usize, usize)> = match *draft.mutate("old map", &MAPS) {
        0 => vec![(0, length)],
        1 => vec![(BLOCK, length)],
        2 => vec![(0, 0)],
        3 => vec![],
        4 => vec![(0, 10), (10, length - 10)],
        5 => vec![(0, length / 2), (0, length / 2)],
        6 => vec![(0, length), (BLOCK, 0)],
        _ => vec![(0, length + BLOCK)],
    };
    let real = map.iter().map(|(offset, length)| offset + length).max().unwrap_or(0);
    for (number, (offset, length)) in map.iter().enumerate() {
        entry.set(386 + 24 * number, 12, &octal(*offset));
        entry.set(398 + 24 * number, 12, &octal(*length));
    }
    let real =
        *draft.vary(50, "old real size", &[("right", real), ("zero", 0), ("smaller", 10), ("larger", real + 4096)]);
    entry.set(483, 12, &octal(real));
    if draft.chance(30) {
        draft.note("old map continues in a block");
        entry.set(482, 1, &[1]);
        // The block of the continued map is not part of the size.
        entry.data = [&[0; BLOCK][..], &entry.data].concat();
    }
}

const MAPS: [(&str, u8); 8] = [
    ("whole", 0),
    ("with a hole", 1),
    ("of nothing", 2),
    ("empty", 3),
    ("in two pieces", 4),
    ("overlapping", 5),
    ("with an end", 6),
    ("too long", 7),
];

/// The forms of PAX, 0.0, 0.1 and 1.0.
pub fn in_records(draft: &mut Draft, entry: &mut Entry, name: &str) {
    let length = entry.data.len();
    let mut records = Vec::new();
    let version = *draft.mutate("sparse", &VERSIONS);
    for (key, value) in version {
        records.extend(record(key, value.as_bytes()));
    }
    let maps = maps(length);
    let map = draft.vary(60, "sparse map", &maps).clone();
    let ways = [("nowhere", 0), ("in the data", 3), ("in the data", 3), ("0.0", 1), ("0.1", 2)];
    match *draft.mutate("sparse map given", &ways) {
        0 => {}
        1 => {
            records.extend(record("GNU.sparse.numblocks", map.len().to_string().as_bytes()));
            for (offset, length) in &map {
                records.extend(record("GNU.sparse.offset", offset.to_string().as_bytes()));
                records.extend(record("GNU.sparse.numbytes", length.to_string().as_bytes()));
            }
        }
        2 => {
            let numbers: Vec<String> = map.iter().map(|(offset, length)| format!("{offset},{length}")).collect();
            records.extend(record("GNU.sparse.numblocks", map.len().to_string().as_bytes()));
            records.extend(record("GNU.sparse.map", numbers.join(",").as_bytes()));
        }
        _ => {
            let pairs = map.iter().map(|(offset, length)| format!("{offset}\n{length}\n"));
            let text = format!("{}\n{}", map.len(), pairs.collect::<String>());
            let mut block = text.into_bytes();
            if draft.chance(60) {
                draft.note("text after a sparse map");
                block.extend([b"\n", &draft.line("block of a sparse map")[..]].concat());
            }
            block.resize(block.len().next_multiple_of(BLOCK), 0);
            let data = std::mem::take(&mut entry.data);
            entry.set_data([block, data].concat());
        }
    }
    let real = map.iter().map(|(offset, length)| offset + length).max().unwrap_or(0);
    match *draft.vary(60, "sparse size", &[("missing", 0), ("realsize", 1), ("size", 2), ("zero", 3), ("smaller", 4)]) {
        0 => {}
        1 => records.extend(record("GNU.sparse.realsize", real.to_string().as_bytes())),
        2 => records.extend(record("GNU.sparse.size", real.to_string().as_bytes())),
        3 => records.extend(record("GNU.sparse.realsize", b"0")),
        _ => records.extend(record("GNU.sparse.realsize", b"10")),
    }
    if draft.chance(30) {
        draft.note("sparse name");
        records.extend(record("GNU.sparse.name", b"app/sparse-name"));
        entry.set_name(format!("app/GNUSparseFile.0/{}", name.rsplit('/').next().unwrap()).as_bytes());
    }
    if draft.chance(15) {
        draft.note("sparse magic GNU");
        entry.set_magic(b"ustar  \0");
    }
    let kind = *draft.vary(20, "sparse records", &[("local", b'x'), ("global", b'g')]);
    entry.before.extend(extended(kind, &records));
}

fn maps(length: usize) -> Vec<(&'static str, Vec<(usize, usize)>)> {
    vec![
        ("whole", vec![(0, length)]),
        ("with a hole", vec![(BLOCK, length)]),
        ("of nothing", vec![(0, 0)]),
        ("empty", vec![]),
        ("in two pieces", vec![(0, 10), (10, length - 10)]),
        ("in two pieces with a hole", vec![(0, 20), (BLOCK, length - 20)]),
        ("too long", vec![(0, length + BLOCK)]),
        ("too short", vec![(0, 10)]),
    ]
}

type Records = &'static [(&'static str, &'static str)];

const VERSIONS: [(&str, Records); 14] = [
    ("no version", &[]),
    ("1.0", &[("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0")]),
    ("major 1 alone", &[("GNU.sparse.major", "1")]),
    ("minor 0 alone", &[("GNU.sparse.minor", "0")]),
    ("minor 1 alone", &[("GNU.sparse.minor", "1")]),
    ("1.9", &[("GNU.sparse.major", "1"), ("GNU.sparse.minor", "9")]),
    ("2.0", &[("GNU.sparse.major", "2"), ("GNU.sparse.minor", "0")]),
    ("0.0", &[("GNU.sparse.major", "0"), ("GNU.sparse.minor", "0")]),
    ("0.1", &[("GNU.sparse.major", "0"), ("GNU.sparse.minor", "1")]),
    ("01.00", &[("GNU.sparse.major", "01"), ("GNU.sparse.minor", "00")]),
    ("empty", &[("GNU.sparse.major", ""), ("GNU.sparse.minor", "")]),
    (
        "1.0, then 0.1",
        &[("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0"), ("GNU.sparse.major", "0"), ("GNU.sparse.minor", "1")],
    ),
    (
        "1.0, then empty",
        &[("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0"), ("GNU.sparse.major", ""), ("GNU.sparse.minor", "")],
    ),
    ("upper case", &[("gnu.sparse.major", "1"), ("gnu.sparse.minor", "0")]),
];
