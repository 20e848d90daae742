//! The names in a directory, in order and in bounded memory: a directory may have millions of files.
//!
//! As many names are kept as may take a number of bytes, the first in order. When they were given, the directory is
//! read again for those that follow them.

use std::collections::BinaryHeap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::mem;
use std::path::PathBuf;
use std::vec;

use crate::root;

/// The names in a directory that were not given yet.
pub(super) struct Names {
    directory: PathBuf,
    kept: vec::IntoIter<OsString>,
    /// The last of the names that were kept, if others follow it.
    last: Option<OsString>,
    /// The bytes of the names that were kept.
    bytes: usize,
    most: usize,
}

impl Names {
    /// The names in `directory`, of which `most` bytes are kept at a time.
    ///
    /// # Errors
    /// If it cannot be read.
    pub(super) fn of(directory: PathBuf, most: usize) -> io::Result<Names> {
        let mut names = Names { directory, kept: Vec::new().into_iter(), last: None, bytes: 0, most };
        names.read(None)?;
        Ok(names)
    }

    /// The bytes of the names that are kept.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The next name.
    ///
    /// # Errors
    /// If the directory cannot be read again, whose other names are lost.
    pub(super) fn next(&mut self) -> io::Result<Option<OsString>> {
        if let Some(name) = self.kept.next() {
            return Ok(Some(name));
        }
        let Some(last) = self.last.take() else { return Ok(None) };
        self.read(Some(&last))?;
        Ok(self.kept.next())
    }

    /// Keeps the first names that come after `after`; one at least.
    fn read(&mut self, after: Option<&OsStr>) -> io::Result<()> {
        let mut kept = BinaryHeap::new();
        let mut has_more = false;
        self.bytes = 0;
        for name in root::names(&self.directory)? {
            let name = name?;
            if after.is_some_and(|after| name.as_os_str() <= after) {
                continue;
            }
            self.bytes += footprint(&name);
            kept.push(name);
            while self.bytes > self.most && kept.len() > 1 {
                self.bytes -= kept.pop().map_or(0, |name| footprint(&name));
                has_more = true;
            }
        }
        self.last = has_more.then(|| kept.peek().cloned()).flatten();
        self.kept = kept.into_sorted_vec().into_iter();
        Ok(())
    }
}

/// The bytes that a name takes in memory.
fn footprint(name: &OsString) -> usize {
    /// What an allocation takes beside its bytes.
    const ALLOCATION: usize = 16;
    mem::size_of::<OsString>() + name.capacity() + ALLOCATION
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn names_come_in_order_however_few_are_kept() {
        let directory = tempfile::tempdir().unwrap();
        let mut expected: Vec<OsString> = (0..300).map(|number: u32| format!("{:x}", number * 7919).into()).collect();
        expected.iter().for_each(|name| drop(File::create_new(directory.path().join(name)).unwrap()));
        expected.sort();
        for most in [1, 100, 2_000, 1 << 20] {
            let mut names = Names::of(directory.path().into(), most).unwrap();
            let mut found = Vec::new();
            while let Some(name) = names.next().unwrap() {
                let largest = most.max(footprint(&name));
                assert!(names.bytes() <= largest, "{} bytes are kept, of {most}", names.bytes());
                found.push(name);
            }
            assert_eq!(found, expected, "{most} bytes");
            assert!(names.next().unwrap().is_none());
        }
    }

    #[test]
    fn a_directory_that_disappears_is_an_error_once() {
        let directory = tempfile::tempdir().unwrap();
        ["a", "b"].iter().for_each(|name| drop(File::create_new(directory.path().join(name)).unwrap()));
        let mut names = Names::of(directory.path().into(), 1).unwrap();
        assert_eq!(names.next().unwrap().unwrap(), "a");
        directory.close().unwrap();
        assert!(names.next().is_err());
        assert!(names.next().unwrap().is_none());
    }
}
