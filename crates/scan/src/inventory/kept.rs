//! The files with records that are kept of a layer: the first, up to a limit of bytes and of marks.
//!
//! Threads find files in any order. What is kept is the same in every order: once a file does not fit, no file of a
//! later entry is kept.

use std::collections::BTreeMap;

use layersift_model::{Footprint, Gap, GapReason, HardLink};

use super::layer::{PackageFile, Record};

/// The most marks of AI in one layer.
const MAX_MARKS: usize = 10_000;

/// Marks of AI have one part of this many of the limit.
const MARKS_SHARE: u64 = 6;

/// The files of one layer, by their entries.
pub(crate) struct KeptFiles {
    packages: Kept,
    /// Files with a mark of AI, of which there may be one in every file.
    marks: Kept,
}

/// The first files up to a limit.
struct Kept {
    files: BTreeMap<u32, PackageFile>,
    bytes: u64,
    most_bytes: u64,
    most_files: usize,
    /// The first entry that did not fit.
    cutoff: u32,
    /// The records of files that were dropped.
    dropped: u64,
}

impl KeptFiles {
    /// At most `limit` bytes.
    pub(crate) fn new(limit: u64) -> KeptFiles {
        let kept = |most_bytes, most_files| Kept {
            files: BTreeMap::new(),
            bytes: 0,
            most_bytes,
            most_files,
            cutoff: u32::MAX,
            dropped: 0,
        };
        let marks = limit / MARKS_SHARE;
        KeptFiles { packages: kept(limit - marks, usize::MAX), marks: kept(marks, MAX_MARKS) }
    }

    /// Keeps `file`, or drops it if files before it leave no room.
    pub(crate) fn add(&mut self, file: PackageFile) {
        let is_mark = matches!(file.records.first(), Some(Record::Ai(_)));
        if is_mark { &mut self.marks } else { &mut self.packages }.add(file);
    }

    /// The bytes that are kept.
    pub(crate) fn bytes(&self) -> u64 {
        self.packages.bytes + self.marks.bytes
    }

    /// Adds the files that hard links to kept ones are, as long as they fit.
    pub(crate) fn link(&mut self, links: &[HardLink]) {
        self.packages.link(links);
        self.marks.link(links);
    }

    /// The files in the order of the archive, and the gaps of those that were dropped.
    pub(crate) fn into_parts(self) -> (Vec<PackageFile>, Vec<Gap>) {
        let KeptFiles { packages, marks } = self;
        let gaps = [packages.gap("packages"), marks.gap("marks of AI")].into_iter().flatten().collect();
        let mut files: Vec<PackageFile> = packages.files.into_values().chain(marks.files.into_values()).collect();
        files.sort_by_key(|file| file.entry);
        (files, gaps)
    }
}

impl Kept {
    fn add(&mut self, file: PackageFile) {
        if file.entry >= self.cutoff {
            self.dropped += file.records.len() as u64;
            return;
        }
        self.bytes += file.footprint();
        self.files.insert(file.entry, file);
        while self.bytes > self.most_bytes || self.files.len() > self.most_files {
            let Some((entry, last)) = self.files.pop_last() else { return };
            self.bytes -= last.footprint();
            self.dropped += last.records.len() as u64;
            self.cutoff = entry;
        }
    }

    /// The links come in the order of their entries, so the first that does not fit ends it.
    fn link(&mut self, links: &[HardLink]) {
        for link in links {
            let original = link.entry_of_origin().and_then(|entry| self.files.get(&entry));
            let Some(PackageFile { records, distribution, .. }) = original else { continue };
            if link.entry >= self.cutoff {
                self.dropped += records.len() as u64;
                continue;
            }
            let linked = PackageFile::linked(link, records.clone(), distribution.clone());
            self.add(linked);
        }
    }

    fn gap(&self, what: &str) -> Option<Gap> {
        let detail = format!(
            "the files of the layer record more {what} than are kept; {} were dropped, those of the last files, and \
             what hard links to these files repeat",
            self.dropped
        );
        (self.dropped > 0).then(|| Gap::new(GapReason::DocumentTooLarge, detail))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use layersift_model::{Ecosystem, ImagePath, PackageRecord};

    use super::*;

    fn file(entry: u32, records: usize) -> PackageFile {
        let record = Record::Package(Arc::new(PackageRecord::new(Ecosystem::Deb, "a", "1")));
        PackageFile::new(ImagePath::normalize(b"var/lib/dpkg/status"), entry, vec![record; records])
    }

    #[test]
    fn the_first_files_are_kept_in_any_order() {
        // A file that does not fit, and small ones before and after it.
        let sizes = [2, 3, 40, 1, 2];
        let limit = (file(0, 2).footprint() + file(1, 3).footprint() + file(2, 1).footprint()) * 6 / 5;
        for order in [[0, 1, 2, 3, 4], [4, 3, 2, 1, 0], [2, 0, 4, 1, 3], [3, 4, 0, 2, 1]] {
            let mut kept = KeptFiles::new(limit);
            order.iter().for_each(|&entry| kept.add(file(entry, sizes[entry as usize])));
            assert!(kept.bytes() <= limit);
            let (files, gaps) = kept.into_parts();
            assert_eq!(files.iter().map(|file| file.entry).collect::<Vec<_>>(), [0, 1], "{order:?}");
            assert!(gaps[0].detail.contains("43 were dropped"), "{order:?} {}", gaps[0].detail);
        }
    }
}
