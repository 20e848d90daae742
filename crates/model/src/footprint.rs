//! How many bytes values take in memory. Limits on memory count in these estimates: they are properties of the input,
//! and do not depend on an allocator.

use std::mem::size_of;

use crate::ai_mark::AiRecord;
use crate::checksums::{FileChecksums, RecordedChecksum};
use crate::finding::{BinaryPlace, DocumentLocation, FileAttributes, Finding, LayerFinding, Location, Package};
use crate::gap::Gap;
use crate::image_report::ImageGap;
use crate::inventory::PackageRecord;
use crate::layer_report::{HardLink, LayerReport, Origin, Owners, Symlink, Touch};
use crate::path::{ImagePath, PathKey};

/// The bytes of an entry of a hash map besides its key and value: control bytes, and the part that is empty.
const MAP_ENTRY: usize = 16;

/// The bytes of the label or the fingerprint of a secret.
const SECRET_BYTES: usize = 64;

/// What takes memory.
pub trait Footprint {
    /// The bytes that the value takes, with what it owns on the heap. What it shares with others does not count.
    fn footprint(&self) -> u64;
}

impl Footprint for Gap {
    fn footprint(&self) -> u64 {
        sum([size_of::<Gap>(), self.detail.len(), self.path.as_ref().map_or(0, String::len)])
    }
}

impl Footprint for ImageGap {
    fn footprint(&self) -> u64 {
        self.gap.footprint() + size_of::<ImageGap>() as u64
    }
}

impl Footprint for LayerFinding {
    fn footprint(&self) -> u64 {
        let place = &self.place;
        let inside = place.inside.iter().map(|name| size_of::<String>() + string_bytes(name)).sum();
        let views = place.views.len() * size_of::<String>();
        let binary =
            place.binary.as_ref().map_or(0, |BinaryPlace { section, symbol, .. }| text(section) + text(symbol));
        // The same for a secret and its redacted form: what is kept of an image must not depend on a cache.
        let secret = self.secret.as_ref().map_or(0, |secret| secret.len() + SECRET_BYTES);
        let file = self.checksums.as_ref().map_or(0, |_| size_of::<FileChecksums>())
            + self.attributes.as_ref().map_or(0, |_| size_of::<FileAttributes>());
        sum([size_of::<LayerFinding>(), path(&place.path), inside, views, binary, secret, file, text(&self.note)])
    }
}

impl Footprint for DocumentLocation {
    fn footprint(&self) -> u64 {
        let inside = self.inside.iter().map(|name| size_of::<String>() + string_bytes(name)).sum();
        let texts = text(&self.document.media_type) + text(&self.document.json_path);
        sum([size_of::<DocumentLocation>(), inside, self.views.len() * size_of::<String>(), texts])
    }
}

/// Of findings in files and in the configuration, only what every finding has.
impl Footprint for Finding {
    fn footprint(&self) -> u64 {
        let secret = self.secret.as_ref();
        let secret = secret.map_or(0, |secret| secret.masked.len() + secret.value.as_ref().map_or(0, |one| one.len()));
        let place = if let Location::Document(place) = &self.location { place.footprint() } else { 0 };
        sum([size_of::<Finding>(), string_bytes(&self.id), secret + SECRET_BYTES, text(&self.note)]) + place
    }
}

impl Footprint for PackageRecord {
    fn footprint(&self) -> u64 {
        let optional = |text: &Option<String>| text.as_ref().map_or(0, |text| string_bytes(text));
        let PackageRecord { namespace, name, version, epoch, architecture, licence, source, inside, .. } = self;
        let inside: usize = inside.iter().map(|name| size_of::<String>() + string_bytes(name)).sum();
        let other = [namespace, epoch, architecture, licence, source].into_iter().map(optional).sum::<usize>();
        (size_of::<PackageRecord>() + string_bytes(name) + string_bytes(version) + other + inside) as u64
    }
}

impl Footprint for AiRecord {
    fn footprint(&self) -> u64 {
        let name = self.name.as_ref().map_or(0, |name| string_bytes(name));
        (size_of::<AiRecord>() + name + string_bytes(&self.detail)) as u64
    }
}

impl Footprint for HardLink {
    fn footprint(&self) -> u64 {
        let origin = match &self.origin {
            Origin::Entry(_) => 0,
            Origin::Below(below) => path(below),
        };
        sum([element_bytes::<HardLink>(), path(&self.link), origin])
    }
}

impl Footprint for Symlink {
    fn footprint(&self) -> u64 {
        sum([element_bytes::<Symlink>(), path(&self.path), heap_bytes(self.target.len())])
    }
}

impl Footprint for Package {
    fn footprint(&self) -> u64 {
        let version = self.version.as_ref().map_or(0, |version| string_bytes(version));
        sum([element_bytes::<Package>(), string_bytes(&self.name), version])
    }
}

impl Footprint for Owners {
    fn footprint(&self) -> u64 {
        let key = size_of::<PathKey>() + MAP_ENTRY;
        let npm = self.npm.values().map(|package| key as u64 + package.footprint()).sum::<u64>();
        let os = self.os.iter().map(Footprint::footprint).sum::<u64>();
        let versions = self
            .versions
            .iter()
            .map(|(name, version)| 2 * size_of::<String>() + string_bytes(name) + string_bytes(version));
        let (files, sums) = (self.files.len() * Owners::FILE_BYTES, self.sums.len() * Owners::SUM_BYTES);
        npm + os + sum([files, sums, versions.map(|bytes| bytes + MAP_ENTRY).sum()])
    }
}

impl Owners {
    /// The bytes that the owner of one path takes.
    pub const FILE_BYTES: usize = size_of::<(PathKey, u32)>() + MAP_ENTRY;
    /// The bytes that the checksum of one path takes.
    pub const SUM_BYTES: usize = size_of::<(PathKey, RecordedChecksum)>() + MAP_ENTRY;
}

impl Footprint for LayerReport {
    fn footprint(&self) -> u64 {
        let touched = self.touched.len() * size_of::<(PathKey, Touch)>();
        let whiteouts = self.whiteouts.iter().map(|name| element_bytes::<String>() + heap_bytes(name.len())).sum();
        sum([size_of::<LayerReport>(), touched, whiteouts])
            + all(&self.hard_links)
            + all(&self.symlinks)
            + self.owners.footprint()
            + all(&self.findings)
            + all(&self.gaps)
    }
}

fn all<T: Footprint>(values: &[T]) -> u64 {
    values.iter().map(Footprint::footprint).sum()
}

fn path(path: &ImagePath) -> usize {
    heap_bytes(path.as_bytes().len())
}

/// The bytes of an element of a vector, which may have room for as many again.
pub const fn element_bytes<T>() -> usize {
    2 * size_of::<T>()
}

/// What `bytes` bytes on the heap take: glibc adds 8, and gives multiples of 16 that are 32 at least.
pub const fn heap_bytes(bytes: usize) -> usize {
    match bytes {
        0 => 0,
        1..=24 => 32,
        _ => (bytes + 8).next_multiple_of(16),
    }
}

/// The bytes of a short text on the heap, with those that an allocator adds.
fn string_bytes(text: &str) -> usize {
    heap_bytes(text.len())
}

fn text(text: &Option<String>) -> usize {
    text.as_ref().map_or(0, |text| string_bytes(text))
}

fn sum<const N: usize>(parts: [usize; N]) -> u64 {
    parts.iter().sum::<usize>() as u64
}
