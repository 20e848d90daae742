//! The result of scanning one layer: a pure function of its bytes and the rules, sufficient to assemble the report of
//! an image without reading any layer again.

mod kept;

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::checksums::RecordedChecksums;
use crate::digest::Digest;
use crate::finding::{LayerFinding, Package, State};
use crate::gap::Gap;
use crate::path::{ImagePath, PathKey};

pub use kept::KeptError;

/// What a layer does to a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Touch {
    /// The layer has a directory there; the contents of lower layers remain.
    Directory,
    /// The layer has a file, link or device there.
    Other,
    /// The layer removes the path.
    Whiteout,
    /// The layer removes the contents of the directory there.
    Opaque,
    /// The layer has files below the path, and so a directory there, but no entry for it.
    Implied,
}

/// Every path that a layer adds, replaces or removes: a sorted set of 17 bytes per path.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Touched {
    sorted: Vec<(PathKey, Touch)>,
}

impl Touched {
    /// The set of `touches`, which may be unsorted and contain duplicates.
    pub fn new(mut touches: Vec<(PathKey, Touch)>) -> Touched {
        touches.sort_unstable();
        touches.dedup();
        Touched { sorted: touches }
    }

    /// The number of paths.
    pub fn len(&self) -> usize {
        self.sorted.len()
    }

    /// Whether the layer has no paths.
    pub fn is_empty(&self) -> bool {
        self.sorted.is_empty()
    }

    /// Whether the layer does `touch` to the path of `key`.
    pub fn has(&self, key: PathKey, touch: Touch) -> bool {
        self.sorted.binary_search(&(key, touch)).is_ok()
    }

    /// All that the layer does to the path of `key`.
    pub fn at(&self, key: PathKey) -> TouchesOf<'_> {
        let start = self.sorted.partition_point(|(known, _)| *known < key);
        let rest = self.sorted.get(start..).unwrap_or_default();
        let end = rest.iter().take_while(|(known, _)| *known == key).count();
        TouchesOf(rest.get(..end).unwrap_or_default())
    }
}

/// What a layer does to one path.
#[derive(Clone, Copy, Debug)]
pub struct TouchesOf<'t>(&'t [(PathKey, Touch)]);

impl TouchesOf<'_> {
    /// Whether it does any of `wanted`.
    pub fn any(self, wanted: &[Touch]) -> bool {
        self.0.iter().any(|(_, touch)| wanted.contains(touch))
    }
}

/// A hard link: another path for the contents of an existing file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HardLink {
    /// The path of the link.
    pub link: ImagePath,
    /// The index of the link's entry in the layer's tar archive, from 0.
    pub entry: u32,
    /// The file whose contents it shares.
    pub origin: Origin,
    /// Whether a later entry of the same layer overwrote or deleted it.
    pub superseded: Option<State>,
}

impl HardLink {
    /// The entry of the same layer that has the contents.
    pub fn entry_of_origin(&self) -> Option<u32> {
        match self.origin {
            Origin::Entry(entry) => Some(entry),
            Origin::Below(_) => None,
        }
    }
}

impl LayerFinding {
    /// The same finding, at the path of a hard link to its file.
    pub fn linked(&self, link: &HardLink) -> LayerFinding {
        let mut linked = self.clone();
        let note = format!("hard link to {}", self.place.path);
        linked.note = Some(match &self.note {
            Some(known) => format!("{known}; {note}"),
            None => note,
        });
        linked.place.path = link.link.clone();
        linked.entry = link.entry;
        linked.superseded = link.superseded;
        linked
    }
}

/// Where the contents of a hard link come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Origin {
    /// An entry of the same layer, by its index.
    Entry(u32),
    /// The file at this path in a lower layer.
    Below(ImagePath),
}

/// A symbolic link, which may lead to a directory: entries of higher layers below it then belong elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Symlink {
    /// The path of the link.
    pub path: ImagePath,
    /// Its target, as stored.
    pub target: Vec<u8>,
}

/// Which package owns which path, according to the package records of a layer.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Owners {
    /// Directories of npm packages, by their path.
    pub npm: HashMap<PathKey, Package>,
    /// Files listed by dpkg, apk or a Python package, as indexes into `os`.
    pub files: HashMap<PathKey, u32>,
    /// Packages that list their files.
    pub os: Vec<Package>,
    /// The checksums that packages record for their files.
    pub sums: RecordedChecksums,
    /// Versions by package name, for package managers that record them apart from the lists of files.
    pub versions: HashMap<String, String>,
}

/// The result of scanning one layer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LayerReport {
    /// The digest of the blob as it is stored.
    pub blob: Digest,
    /// The size of the blob in bytes.
    pub blob_bytes: u64,
    /// The digest of the uncompressed layer.
    pub diff_id: Digest,
    /// The size of the uncompressed layer in bytes.
    pub bytes: u64,
    /// Entries of any kind.
    pub entries: u64,
    /// Regular files.
    pub files: u64,
    /// All paths that the layer adds, replaces or removes.
    pub touched: Touched,
    /// Whiteouts, as the paths they remove; an opaque directory ends in `/`.
    pub whiteouts: Vec<String>,
    /// Hard links in archive order; links to hard links are resolved.
    pub hard_links: Vec<HardLink>,
    /// Symbolic links in archive order.
    pub symlinks: Vec<Symlink>,
    /// Whether the uncompressed layer is a tar archive. If it is not, all of its bytes are one file at the root path.
    pub is_tar: bool,
    /// The number of bytes after the end of the archive, which runtimes ignore. They are a file at the root path.
    pub bytes_after_end: u64,
    /// The work that the layer took beyond what the bytes of its blob permit, by the limits of the scan.
    pub extra_work: u64,
    /// Package records.
    pub owners: Owners,
    /// The findings.
    pub findings: Vec<LayerFinding>,
    /// The bytes that were not scanned.
    pub gaps: Vec<Gap>,
}

impl LayerReport {
    /// Whether another scan of the same layer would give the same report. Only such a report may be stored and reused.
    pub fn is_repeatable(&self) -> bool {
        !self.gaps.iter().any(|gap| gap.reason.is_transient())
    }
}
