//! The pieces of a sparse file that are on the disk. A file of a terabyte takes no time to read if it has no data.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io;

use layersift_format::tar::BLOCK;
use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

/// The shortest hole that is left out.
const LEAST_HOLE: u64 = 1 << 20;

/// The bytes of holes from which on a file is read as a sparse one. Below that, the bytes of the archive do not depend
/// on how a file came to its place: copies often have no holes.
const LEAST_IN_ALL: u64 = 64 << 20;

/// The most holes of a file that are left out. The shorter ones beyond are read as zeros.
const MOST_HOLES: usize = 8 << 10;

/// Offset and length of each piece of `file`, which has `size` bytes; the whole file if it is not sparse. The file is
/// at its start afterwards.
///
/// # Errors
/// If the file cannot be read from its start.
pub(super) fn of(file: &File, size: u64) -> io::Result<Vec<(u64, u64)>> {
    let holes = holes(file, size);
    seek(file, SeekFrom::Start(0))?;
    // Where the file system cannot tell where the holes are, the file is read whole.
    Ok(holes.map_or_else(|_| vec![(0, size)], |holes| between(holes, size)))
}

/// Offset and length of the longest holes. File systems that do not know holes say so, or say that there are none.
fn holes(file: &File, size: u64) -> Result<Vec<(u64, u64)>, Errno> {
    let mut longest = BinaryHeap::new();
    let mut at = 0;
    while at < size {
        let start = seek(file, SeekFrom::Hole(at))?.max(at).min(size);
        let end = match seek(file, SeekFrom::Data(start)) {
            // A file that is written to may have lost its hole.
            Ok(data) => data.max(start).min(size),
            Err(Errno::NXIO) => size,
            Err(error) => return Err(error),
        };
        if end - start >= LEAST_HOLE {
            longest.push(Reverse((end - start, start)));
            if longest.len() > MOST_HOLES {
                longest.pop();
            }
        }
        if end <= at {
            break;
        }
        at = end;
    }
    let mut holes: Vec<_> = longest.into_iter().map(|Reverse((length, start))| (start, length)).collect();
    holes.sort_unstable();
    Ok(holes)
}

/// The pieces between `holes`, which are in order.
fn between(holes: Vec<(u64, u64)>, size: u64) -> Vec<(u64, u64)> {
    if holes.iter().map(|(_, length)| length).sum::<u64>() < LEAST_IN_ALL {
        return vec![(0, size)];
    }
    let mut pieces = Vec::new();
    let mut at = 0;
    for (start, length) in holes {
        pieces.push((at, start - at));
        at = start + length;
    }
    pieces.push((at, size - at));
    pieces.retain(|(_, length)| *length > 0);
    pieces
}

/// The map of a sparse file of `size` bytes, as it stands before its data: PAX sparse format 1.0 of GNU tar.
pub(super) fn map(pieces: &[(u64, u64)], size: u64) -> Vec<u8> {
    // A hole at the end is told by a piece without bytes.
    let end = [(size, 0)];
    let lines = pieces.iter().chain(&end).map(|(offset, length)| format!("{offset}\n{length}\n"));
    let mut text = format!("{}\n{}", pieces.len() + 1, lines.collect::<String>()).into_bytes();
    text.resize(text.len().next_multiple_of(BLOCK), 0);
    text
}

/// The extended header that announces such a map.
pub(super) fn records(name: &[u8], size: u64) -> Vec<u8> {
    let size = size.to_string();
    let fields: [(&str, &[u8]); 4] = [
        ("GNU.sparse.major", b"1"),
        ("GNU.sparse.minor", b"0"),
        ("GNU.sparse.name", name),
        ("GNU.sparse.realsize", size.as_bytes()),
    ];
    fields.into_iter().flat_map(|(key, value)| record(key, value)).collect()
}

/// A PAX record, which begins with its own length.
fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while rest + length.to_string().len() > length {
        length += 1;
    }
    [format!("{length} {key}=").as_bytes(), value, b"\n"].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn pieces_are_what_is_between_holes() {
        assert_eq!(between(vec![], 5), [(0, 5)]);
        assert_eq!(between(vec![(MIB, 63 * MIB)], 80 * MIB), [(0, 80 * MIB)], "too little to make a difference");
        assert_eq!(between(vec![(0, 64 * MIB)], 64 * MIB), []);
        assert_eq!(
            between(vec![(1, 64 * MIB), (70 * MIB, MIB)], 80 * MIB),
            [(0, 1), (1 + 64 * MIB, 6 * MIB - 1), (71 * MIB, 9 * MIB)]
        );
    }

    #[test]
    fn records_know_their_length() {
        for length in 0..120 {
            let record = record("key", &vec![b'v'; length]);
            let said: usize = String::from_utf8_lossy(&record).split(' ').next().unwrap().parse().unwrap();
            assert_eq!(said, record.len());
        }
    }
}
