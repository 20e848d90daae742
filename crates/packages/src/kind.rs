//! Which files have records of packages, and the one function that reads them all.

use layersift_model::{Footprint, ImagePath, PackageRecord};

use crate::work::{DATABASE, PARSED, RECORD, SEARCHED};
use crate::{apk, dpkg, executable, java, npm, python, rpm};

/// The most packages of one file. No distribution has as many.
const MAX_PACKAGES: usize = 200_000;

/// The most bytes in memory of the records of one file: many times those of the largest database.
pub(crate) const MAX_RECORD_BYTES: u64 = 24 << 20;

/// The bytes in memory that a byte of a file may become: the shortest records of a text have eight.
pub(crate) const RECORDS: u64 = 32;

/// The fewest bytes of a file that are a record; the last may lack the line feed at its end.
const SHORTEST: usize = 8;

/// The bytes in memory of the one record of a file that has no more, with texts of full length.
const ONE_RECORD: u64 = 16 << 10;

/// The most bytes of a file that is read for its records.
const MAX_BYTES: u64 = 256 << 20;

/// The most bytes of a text record.
const MAX_TEXT_BYTES: u64 = 64 << 20;

/// The most bytes of a JSON document: its tree takes many times as much memory.
const MAX_JSON_BYTES: u64 = 8 << 20;

/// What kind of records a file has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordKind {
    /// dpkg's status file, or a file of the directory that distroless images have instead.
    Dpkg,
    /// apk's database.
    Apk,
    /// The database of rpm, in any of its forms.
    Rpm,
    /// `package.json`.
    Npm,
    /// The metadata of an installed Python distribution.
    Python,
    /// A Java archive.
    Java,
    /// An executable file or a shared library.
    Executable,
}

/// What a file says about packages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Read {
    /// The packages, in the order of the file.
    pub packages: Vec<PackageRecord>,
    /// Why these may not be all.
    pub error: Option<ReadError>,
    /// The work that it took, in bytes that are read at full speed.
    pub work: u64,
}

/// Why the records of a file could not be read, or not all of them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The file is damaged, or has a form that this version does not know.
    #[error("the {0} cannot be read: {1}")]
    Damaged(&'static str, &'static str),
    /// The file has more packages than the limit.
    #[error(
        "the file records more than {MAX_PACKAGES} packages, or {MAX_RECORD_BYTES} bytes of them; the rest were dropped"
    )]
    TooManyPackages,
    /// Archives in archives are nested deeper, or have more bytes or members, than the limit.
    #[error("the Java archive exceeds the limit of {0}; the rest was not read")]
    ArchiveLimit(&'static str),
}

impl RecordKind {
    /// The kind of records of the file at `path`, if its name says that it has some.
    pub fn at(path: &ImagePath) -> Option<RecordKind> {
        let bytes = path.as_bytes();
        match path.name() {
            b"status" if ends(bytes, b"lib/dpkg/status") => return Some(RecordKind::Dpkg),
            b"installed" if ends(bytes, b"lib/apk/db/installed") => return Some(RecordKind::Apk),
            b"package.json" => return Some(RecordKind::Npm),
            b"METADATA" if parent_ends(path, b".dist-info") => return Some(RecordKind::Python),
            b"PKG-INFO" if parent_ends(path, b".egg-info") || parent_ends(path, b"EGG-INFO") => {
                return Some(RecordKind::Python);
            }
            b"Packages" | b"Packages.db" | b"rpmdb.sqlite" if is_rpm(path) => return Some(RecordKind::Rpm),
            name if name.ends_with(b".egg-info") => return Some(RecordKind::Python),
            name if java::is_archive(name) => return Some(RecordKind::Java),
            _ => {}
        }
        is_distroless(path).then_some(RecordKind::Dpkg)
    }

    /// The kind of a file that begins with `head`, if it is an executable file.
    pub fn executable(head: &[u8]) -> Option<RecordKind> {
        executable::is_executable(head).then_some(RecordKind::Executable)
    }

    /// The most bytes of such a file that are read.
    pub fn most_bytes(self) -> u64 {
        match self {
            RecordKind::Npm => MAX_JSON_BYTES,
            RecordKind::Dpkg | RecordKind::Apk | RecordKind::Python => MAX_TEXT_BYTES,
            RecordKind::Rpm | RecordKind::Java | RecordKind::Executable => MAX_BYTES,
        }
    }

    /// The bytes of memory that it may take to read the records in `bytes`, besides these themselves.
    pub fn memory(self, bytes: &[u8]) -> u64 {
        match self {
            RecordKind::Npm => ONE_RECORD + bytes.len() as u64,
            RecordKind::Python => ONE_RECORD,
            RecordKind::Java => java::memory(bytes),
            RecordKind::Executable => executable::memory(bytes),
            RecordKind::Dpkg | RecordKind::Apk | RecordKind::Rpm => MAX_RECORD_BYTES.min(RECORDS * bytes.len() as u64),
        }
    }

    /// The most work that it may take to read the records in a file of `length` bytes.
    pub fn most_work(self, length: usize) -> u64 {
        let records = MAX_PACKAGES.min(length.div_ceil(SHORTEST)) as u64 * RECORD;
        match self {
            RecordKind::Java => java::most_work(length),
            RecordKind::Executable => executable::most_work(length) + MAX_PACKAGES as u64 * RECORD,
            _ => self.work_of_bytes(length) + records,
        }
    }

    /// The work of reading a file of `length` bytes once, without what it holds compressed.
    fn work_of_bytes(self, length: usize) -> u64 {
        let of_byte = match self {
            RecordKind::Dpkg | RecordKind::Apk | RecordKind::Python | RecordKind::Npm => PARSED,
            RecordKind::Rpm => DATABASE,
            RecordKind::Java | RecordKind::Executable => SEARCHED,
        };
        length as u64 * of_byte
    }

    /// Reads the records in `bytes`, the contents of the file at `path`.
    pub fn read(self, path: &ImagePath, bytes: &[u8]) -> Read {
        let mut records = Records { work: self.work_of_bytes(bytes.len()), ..Records::default() };
        let outcome = match self {
            RecordKind::Dpkg => {
                dpkg::read(bytes, &mut records);
                Ok(())
            }
            RecordKind::Apk => {
                apk::read(bytes, &mut records);
                Ok(())
            }
            RecordKind::Python => {
                python::read(bytes, &mut records);
                Ok(())
            }
            RecordKind::Npm => npm::read(bytes, &mut records),
            RecordKind::Rpm => rpm::read(bytes, &mut records),
            RecordKind::Java => java::read(path.name(), bytes, &mut records),
            RecordKind::Executable => executable::read(bytes, &mut records),
        };
        let error = outcome.err().or(records.overflowed.then_some(ReadError::TooManyPackages));
        Read { packages: records.packages, error, work: records.work }
    }
}

fn ends(path: &[u8], end: &[u8]) -> bool {
    path.strip_suffix(end).is_some_and(|rest| rest.is_empty() || rest.ends_with(b"/"))
}

fn parent_ends(path: &ImagePath, end: &[u8]) -> bool {
    path.parent().is_some_and(|parent| parent.name().ends_with(end))
}

fn is_rpm(path: &ImagePath) -> bool {
    let directories: [&[u8]; 3] = [b"var/lib/rpm", b"usr/lib/sysimage/rpm", b"usr/share/rpm"];
    path.parent().is_some_and(|parent| directories.iter().any(|end| ends(parent.as_bytes(), end)))
}

/// Distroless images have the lists of checksums beside the paragraphs.
fn is_distroless(path: &ImagePath) -> bool {
    path.parent().is_some_and(|parent| ends(parent.as_bytes(), b"lib/dpkg/status.d"))
        && !path.name().ends_with(b".md5sums")
        && !path.name().ends_with(b".preinst")
}

/// The packages of a file, up to a limit.
#[derive(Default)]
pub(crate) struct Records {
    packages: Vec<PackageRecord>,
    bytes: u64,
    overflowed: bool,
    /// The work that reading them took so far.
    pub(crate) work: u64,
}

impl Records {
    /// Adds a package. One without a name is none.
    pub(crate) fn add(&mut self, record: PackageRecord) {
        if record.name.is_empty() {
            return;
        }
        self.work += RECORD;
        self.bytes = self.bytes.saturating_add(record.footprint());
        // One that is dropped leaves no room for others after it.
        if self.packages.len() < MAX_PACKAGES && self.bytes <= MAX_RECORD_BYTES {
            self.packages.push(record);
        } else {
            self.overflowed = true;
        }
    }

    /// Adds a package if there is one.
    pub(crate) fn extend(&mut self, record: Option<PackageRecord>) {
        if let Some(record) = record {
            self.add(record);
        }
    }

    /// Takes the packages and the work of others.
    pub(crate) fn append(&mut self, others: Records) {
        self.overflowed |= others.overflowed;
        let work = self.work + others.work;
        others.packages.into_iter().for_each(|record| self.add(record));
        // A record counts once.
        self.work = work;
    }

    #[cfg(test)]
    pub(crate) fn into_packages(self) -> Vec<PackageRecord> {
        self.packages
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(path: &str) -> Option<RecordKind> {
        RecordKind::at(&ImagePath::normalize(path.as_bytes()))
    }

    #[test]
    fn records_are_told_by_their_paths() {
        let cases = [
            ("var/lib/dpkg/status", RecordKind::Dpkg),
            ("srv/root/var/lib/dpkg/status", RecordKind::Dpkg),
            ("var/lib/dpkg/status.d/tzdata", RecordKind::Dpkg),
            ("usr/lib/apk/db/installed", RecordKind::Apk),
            ("usr/lib/sysimage/rpm/Packages.db", RecordKind::Rpm),
            ("app/node_modules/@a/b/package.json", RecordKind::Npm),
            ("usr/lib/python3/dist-packages/a-1.dist-info/METADATA", RecordKind::Python),
            ("usr/lib/python3/dist-packages/a.egg-info", RecordKind::Python),
            ("opt/a.egg/EGG-INFO/PKG-INFO", RecordKind::Python),
            ("app/app.WAR", RecordKind::Java),
        ];
        for (path, kind) in cases {
            assert_eq!(at(path), Some(kind), "{path}");
        }
        for path in [
            "mylib/dpkg/status",
            "var/lib/dpkg/status-old",
            "var/lib/dpkg/status.d/a.md5sums",
            "etc/Packages",
            "a/METADATA",
        ] {
            assert_eq!(at(path), None, "{path}");
        }
    }
}
