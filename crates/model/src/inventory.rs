//! The inventory of an image: the packages and the marks of AI in its layers, the layer that brought each, and whether
//! it is still there.

use std::sync::Arc;

use jiff::Timestamp;

use crate::ai_mark::AiMark;
use crate::digest::Digest;
use crate::finding::State;
use crate::image_report::ImageGap;
use crate::path::ImagePath;

/// The kind of package manager, or of build tool, that recorded a package.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Ecosystem {
    /// dpkg.
    Deb,
    /// Alpine's apk.
    Apk,
    /// RPM.
    Rpm,
    /// npm.
    Npm,
    /// Python distributions.
    Pypi,
    /// Java archives.
    Maven,
    /// Modules that Go records in executables.
    Golang,
    /// Crates that cargo-auditable records in executables.
    Cargo,
}

impl Ecosystem {
    /// The type of the package URL.
    pub fn name(self) -> &'static str {
        match self {
            Ecosystem::Deb => "deb",
            Ecosystem::Apk => "apk",
            Ecosystem::Rpm => "rpm",
            Ecosystem::Npm => "npm",
            Ecosystem::Pypi => "pypi",
            Ecosystem::Maven => "maven",
            Ecosystem::Golang => "golang",
            Ecosystem::Cargo => "cargo",
        }
    }
}

/// What one record says about a package. All of it comes from the image.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PackageRecord {
    /// Which package manager recorded it.
    pub ecosystem: Ecosystem,
    /// The scope of an npm package without `@`, or the group of a Java archive.
    pub namespace: Option<String>,
    /// The name.
    pub name: String,
    /// The version, with epoch and release as the package manager writes them; without the epoch of an RPM.
    pub version: String,
    /// The epoch of an RPM.
    pub epoch: Option<String>,
    /// The architecture.
    pub architecture: Option<String>,
    /// The licence, as the record states it.
    pub licence: Option<String>,
    /// The source package, with its version after `@` if that differs.
    pub source: Option<String>,
    /// The members of nested archives that lead to the record, outermost first.
    pub inside: Vec<String>,
}

impl PackageRecord {
    /// A record of the package `name` at `version`.
    pub fn new(ecosystem: Ecosystem, name: impl Into<String>, version: impl Into<String>) -> PackageRecord {
        PackageRecord {
            ecosystem,
            namespace: None,
            name: name.into(),
            version: version.into(),
            epoch: None,
            architecture: None,
            licence: None,
            source: None,
            inside: Vec::new(),
        }
    }

    /// Whether `other` records the same package at the same version and place, whatever else the two say.
    pub fn is_same_package(&self, other: &PackageRecord) -> bool {
        self.identity() == other.identity()
    }

    /// What tells one package of a file from another.
    pub fn identity(&self) -> PackageIdentity<'_> {
        PackageIdentity {
            ecosystem: self.ecosystem,
            namespace: self.namespace.as_deref(),
            name: &self.name,
            version: &self.version,
            epoch: self.epoch.as_deref(),
            architecture: self.architecture.as_deref(),
            inside: &self.inside,
        }
    }
}

/// What tells one package of a file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PackageIdentity<'r> {
    ecosystem: Ecosystem,
    namespace: Option<&'r str>,
    name: &'r str,
    version: &'r str,
    epoch: Option<&'r str>,
    architecture: Option<&'r str>,
    inside: &'r [String],
}

/// A package in an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstalledPackage {
    /// What its record says. Layers that have the same file share it.
    pub record: Arc<PackageRecord>,
    /// The file with the record, which its records share.
    pub path: Arc<ImagePath>,
    /// The index of the layer that brought it.
    pub layer: usize,
    /// Whether it is still in the final image: deleted if its file is, and overwritten if the file has another
    /// content that does not record it any more.
    pub state: State,
    /// The index of the layer that removed it.
    pub ended_by: Option<usize>,
}

impl InstalledPackage {
    /// Whether a container of the image has it.
    pub fn is_visible(&self) -> bool {
        self.state == State::Present
    }
}

/// The distribution of an image, from its `os-release`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Distribution {
    /// `ID`, such as `debian`.
    pub id: String,
    /// `VERSION_ID`, such as `12`.
    pub version: Option<String>,
    /// `PRETTY_NAME`.
    pub title: Option<String>,
}

/// A layer in an inventory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InventoryLayer {
    /// The digest of its blob.
    pub digest: Option<Digest>,
    /// The digest of its uncompressed bytes.
    pub diff_id: Option<Digest>,
    /// The bytes of its blob that were read, or of the archive that it is in if that is compressed as a whole.
    pub stored_bytes: u64,
}

/// The packages and the marks of AI of one image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inventory {
    /// The target, as given on the command line.
    pub target: String,
    /// The name of the image.
    pub reference: Option<String>,
    /// The digest of its manifest.
    pub manifest_digest: Option<Digest>,
    /// The digest of its configuration.
    pub config_digest: Option<Digest>,
    /// `os/architecture[/variant]`.
    pub platform: Option<String>,
    /// The distribution, as the final image states it.
    pub distribution: Option<Distribution>,
    /// When the layers were read; `None` in a reproducible document.
    pub read_at: Option<Timestamp>,
    /// The version of the program; empty in a reproducible document.
    pub version: String,
    /// Its layers, base first.
    pub layers: Vec<InventoryLayer>,
    /// Its packages, visible ones first, by ecosystem, name, version and path.
    pub packages: Vec<InstalledPackage>,
    /// Marks of AI, visible ones first, by kind and path.
    pub ai: Vec<AiMark>,
    /// What was not read.
    pub gaps: Vec<ImageGap>,
}

impl Inventory {
    /// The package URL of one of the packages.
    pub fn purl(&self, package: &InstalledPackage) -> String {
        package.record.purl(self.distribution.as_ref())
    }

    /// The number of packages that a container of the image has.
    pub fn visible(&self) -> usize {
        self.packages.iter().filter(|package| package.is_visible()).count()
    }
}
