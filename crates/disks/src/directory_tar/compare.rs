//! Whether two files have the same content. Times are not asked, because anyone may set them.
//!
//! Many names may be one file, and a file may be one hole of a terabyte: two files are compared once, and what is a
//! hole in both is not read.

use std::collections::HashMap;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use layersift_format::Cancellation;
use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

use crate::root;

/// How many bytes are compared at once.
const STEP: usize = 256 << 10;

/// How many comparisons of files with several names are remembered.
const MOST_REMEMBERED: usize = 50_000;

/// A file by its device and its inode.
type Identity = (u64, u64);

/// Comparisons that were made.
#[derive(Default)]
pub(super) struct Comparisons {
    known: HashMap<(Identity, Identity), bool>,
}

impl Comparisons {
    /// Whether the files at `path` and `other`, which are of one type, have the same content.
    ///
    /// # Errors
    /// If one cannot be read, or `cancellation` is cancelled.
    pub(super) fn is_same(
        &mut self,
        (path, metadata): (&Path, &Metadata),
        (other, of_other): (&Path, &Metadata),
        cancellation: &Cancellation,
    ) -> io::Result<bool> {
        if metadata.is_symlink() {
            return Ok(fs::read_link(path)? == fs::read_link(other)?);
        }
        if !metadata.is_file() {
            return Ok(true);
        }
        if metadata.len() != of_other.len() {
            return Ok(false);
        }
        let identities = (identity(metadata), identity(of_other));
        if identities.0 == identities.1 {
            return Ok(true);
        }
        if let Some(is_same) = self.known.get(&identities) {
            return Ok(*is_same);
        }
        let files = [root::open_file(path)?, root::open_file(other)?];
        let is_same = has_same_bytes(&files, metadata.len(), cancellation)?;
        if metadata.nlink().max(of_other.nlink()) > 1 && self.known.len() < MOST_REMEMBERED {
            self.known.insert(identities, is_same);
        }
        Ok(is_same)
    }
}

fn identity(metadata: &Metadata) -> Identity {
    (metadata.dev(), metadata.ino())
}

/// Whether two files of `size` bytes are the same.
fn has_same_bytes(files: &[File; 2], size: u64, cancellation: &Cancellation) -> io::Result<bool> {
    let mut buffers = [vec![0; STEP], vec![0; STEP]];
    let mut at = 0;
    while at < size {
        cancellation.check()?;
        // From here to the first byte of data in either, both have zeros.
        at = data(&files[0], at, size)?.min(data(&files[1], at, size)?);
        let length = usize::try_from(size - at).unwrap_or(STEP).min(STEP);
        for (file, buffer) in files.iter().zip(&mut buffers) {
            file.read_exact_at(&mut buffer[..length], at)?;
        }
        if buffers[0][..length] != buffers[1][..length] {
            return Ok(false);
        }
        at += length as u64;
    }
    Ok(true)
}

/// Where the first byte at or after `at` is that is not in a hole. A file system that does not know says `at`.
fn data(file: &File, at: u64, size: u64) -> io::Result<u64> {
    match seek(file, SeekFrom::Data(at)) {
        Ok(data) => Ok(data.clamp(at, size)),
        Err(Errno::NXIO) => Ok(size),
        Err(Errno::INVAL | Errno::OPNOTSUPP) => Ok(at),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    /// A file of `size` bytes, all of which are a hole but the given ones.
    fn file(folder: &Path, name: &str, size: u64, data: &[(u64, &[u8])]) -> PathBuf {
        let path = folder.join(name);
        let file = File::create(&path).unwrap();
        file.set_len(size).unwrap();
        data.iter().for_each(|(at, bytes)| file.write_all_at(bytes, *at).unwrap());
        path
    }

    fn is_same(comparisons: &mut Comparisons, one: &Path, other: &Path) -> io::Result<bool> {
        let [first, second] = [one, other].map(|path| fs::metadata(path).unwrap());
        comparisons.is_same((one, &first), (other, &second), &Cancellation::never())
    }

    #[test]
    fn bytes_count_and_holes_are_zeros() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name, size, data| file(folder.path(), name, size, data);
        let [large, small] = [1 << 40, 3 << 20];
        let zeros = vec![0; 3 << 20];
        let files = [
            file("hole", large, &[]),
            file("end", large, &[(large - 1, b"a")]),
            file("same-end", large, &[(large - 1, b"a"), (5 << 20, b"\0")]),
            file("zeros", small, &[(0, &zeros)]),
            file("small-hole", small, &[]),
            file("inside", small, &[((1 << 20) + 7, b"x")]),
        ];
        let expected =
            [(0, 1, false), (1, 2, true), (0, 2, false), (3, 4, true), (3, 5, false), (4, 5, false), (0, 3, false)];
        for (one, other, expected) in expected {
            let mut comparisons = Comparisons::default();
            assert_eq!(is_same(&mut comparisons, &files[one], &files[other]).unwrap(), expected, "{one} {other}");
            assert_eq!(is_same(&mut comparisons, &files[other], &files[one]).unwrap(), expected, "{other} {one}");
        }
    }

    #[test]
    fn two_files_with_many_names_are_compared_once() {
        let folder = tempfile::tempdir().unwrap();
        let [one, other] = ["one", "other"].map(|name| file(folder.path(), name, 5, &[(0, b"bytes")]));
        let [link, of_other] = ["link", "of-other"].map(|name| folder.path().join(name));
        fs::hard_link(&one, &link).unwrap();
        fs::hard_link(&other, &of_other).unwrap();
        let mut comparisons = Comparisons::default();
        assert!(is_same(&mut comparisons, &one, &link).unwrap(), "it is one file");
        assert!(comparisons.known.is_empty());
        assert!(is_same(&mut comparisons, &one, &other).unwrap());
        assert!(is_same(&mut comparisons, &link, &of_other).unwrap());
        assert_eq!(comparisons.known.len(), 1);
    }
}
