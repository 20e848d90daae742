//! What scanning one layer tells: a pure function of its bytes and the rules, enough to join layers into an image
//! without the bytes of any of them.

mod kept;

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::checksums::RecordedChecksums;
use crate::digest::Digest;
use crate::finding::{LayerFinding, Package, State};
use crate::gap::Gap;
use crate::path::{ImagePath, PathKey};

pub use kept::KeptError;

/// How a layer touches a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Touch {
    /// The layer has a directory there, which leaves what is below it.
    Directory,
    /// The layer has something else there.
    Other,
    /// The layer removes what was there.
    Whiteout,
    /// The layer removes what was inside the directory there.
    Opaque,
}

/// Every path that a layer touches, in 17 bytes each, sorted once it is complete.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Touched {
    sorted: Vec<(PathKey, Touch)>,
}

impl Touched {
    /// The set of `touches`, in any order, with duplicates.
    pub fn new(mut touches: Vec<(PathKey, Touch)>) -> Touched {
        touches.sort_unstable();
        touches.dedup();
        Touched { sorted: touches }
    }

    /// Whether the layer touches `key` in the way of `touch`.
    pub fn has(&self, key: PathKey, touch: Touch) -> bool {
        self.sorted.binary_search(&(key, touch)).is_ok()
    }
}

/// A hard link: a further name for content that has another name already.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HardLink {
    /// The further name.
    pub link: ImagePath,
    /// Where in the layer the link stands, as the number of entries before it.
    pub entry: u32,
    /// Whose content it shares.
    pub origin: Origin,
    /// What a later entry of the same layer did to it.
    pub superseded: Option<State>,
}

impl LayerFinding {
    /// The same finding under a further name of its file.
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

/// Where the content of a hard link comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Origin {
    /// An entry of the same layer, by its number.
    Entry(u32),
    /// What a lower layer has at a path.
    Below(PathKey),
}

/// Which package owns which path, as far as a layer's package records say.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Owners {
    /// Directories of npm packages, by their path.
    pub npm: HashMap<PathKey, Package>,
    /// Files listed by dpkg, apk or a Python package, as indexes into `os`.
    pub files: HashMap<PathKey, u32>,
    /// Packages that list their files.
    pub os: Vec<Package>,
    /// What packages say their files are.
    pub sums: RecordedChecksums,
    /// Versions by package, where they are recorded apart from the lists of files.
    pub versions: HashMap<String, String>,
}

/// What scanning one layer tells.
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
    /// All paths touched.
    pub touched: Touched,
    /// Whiteouts, as the paths they remove; an opaque directory ends in `/`.
    pub whiteouts: Vec<String>,
    /// Hard links, in the order of the archive, those to hard links resolved.
    pub hard_links: Vec<HardLink>,
    /// Package records.
    pub owners: Owners,
    /// What was found.
    pub findings: Vec<LayerFinding>,
    /// What was not looked at.
    pub gaps: Vec<Gap>,
}

impl LayerReport {
    /// Whether another scan of the same layer would say the same. Only then may the report stand for the layer.
    pub fn is_repeatable(&self) -> bool {
        !self.gaps.iter().any(|gap| gap.reason.is_transient())
    }
}
