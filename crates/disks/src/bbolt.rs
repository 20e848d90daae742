//! bbolt databases, in which containerd, Docker, BuildKit and Podman keep their records.
//!
//! Source: `page.go`, `bucket.go` and `db.go` of go.etcd.io/bbolt 1.3 and 1.4. A database is pages of one size: two
//! meta pages, of which the valid one with the higher transaction counts, and B+ trees of branch and leaf pages. A
//! bucket is a value with the page of its tree, or with the only page itself. What the trees do not lead to is free,
//! and keeps what was written there before.

use std::collections::BTreeMap;
use std::ops::Range;

use layersift_format::{CancelReason, Cancellation};

use crate::kept::{Kept, TooLarge};

/// "bbolt", as its meta pages have it.
const MAGIC: u32 = 0xed0c_daed;

/// The version of the format since 2014.
const VERSION: u32 = 2;

/// The bytes of a page's header.
const HEADER: usize = 16;

/// The bytes of an element of a page: positions of its key and value.
const ELEMENT: usize = 16;

/// The bytes before the page of a bucket that has only one.
const BUCKET_HEADER: usize = 16;

const BRANCH: u16 = 1;
const LEAF: u16 = 2;
const META: u16 = 4;

/// The flag of an element whose value is a bucket.
const IS_BUCKET: u32 = 1;

/// The deepest tree, and the deepest bucket.
const MAX_DEPTH: usize = 40;

/// What an element of a bucket takes in memory beside its key.
const NODE: usize = 96;

/// Why a database cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BoltError {
    /// It does not begin as one.
    #[error("it is not a bbolt database")]
    NotOne,
    /// Neither of its first two pages has a valid checksum.
    #[error("both meta pages of the bbolt database are damaged")]
    Meta,
    /// A page is not what leads to it says.
    #[error("page {0} of the bbolt database is damaged")]
    Page(u64),
    /// A tree is too deep, or leads to a page again.
    #[error("the pages of the bbolt database form a circle")]
    Circle,
    /// Its pages, elements, keys and values have more bytes than it has, so they overlap.
    #[error("the keys and values of the bbolt database overlap")]
    Overlap,
    /// It has more elements than may be in memory.
    #[error("{0}")]
    Memory(#[from] TooLarge),
    /// The time is over.
    #[error("{0}")]
    Cancelled(#[from] CancelReason),
}

/// A bucket: its values, as ranges of the database's bytes, and the buckets in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bucket(BTreeMap<Vec<u8>, Node>);

/// What a key has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    /// A value, and where it is.
    Value(Range<usize>),
    /// A bucket.
    Bucket(Bucket),
}

impl Bucket {
    /// The bucket at a path of names.
    pub fn bucket(&self, path: &[&str]) -> Option<&Bucket> {
        path.iter().try_fold(self, |bucket, name| match bucket.0.get(name.as_bytes()) {
            Some(Node::Bucket(bucket)) => Some(bucket),
            _ => None,
        })
    }

    /// The bytes of a value; `bytes` are those of the database.
    pub fn value<'b>(&self, bytes: &'b [u8], key: &str) -> Option<&'b [u8]> {
        match self.0.get(key.as_bytes()) {
            Some(Node::Value(range)) => bytes.get(range.clone()),
            _ => None,
        }
    }

    /// The text of a value.
    pub fn text(&self, bytes: &[u8], key: &str) -> Option<String> {
        self.value(bytes, key).map(|value| String::from_utf8_lossy(value).into_owned())
    }

    /// All keys with what they have, in order.
    pub fn nodes(&self) -> impl Iterator<Item = (&[u8], &Node)> {
        self.0.iter().map(|(key, node)| (key.as_slice(), node))
    }

    /// The buckets in it, by names that are text.
    pub fn buckets(&self) -> impl Iterator<Item = (&str, &Bucket)> {
        self.0.iter().filter_map(|(key, node)| match node {
            Node::Bucket(bucket) => Some((std::str::from_utf8(key).ok()?, bucket)),
            Node::Value(_) => None,
        })
    }
}

/// Whether `bytes` begin as a bbolt database.
pub fn is_database(bytes: &[u8]) -> bool {
    u32_at(bytes, HEADER) == Some(MAGIC)
}

/// The root bucket of the database in `bytes`, whatever memory and time it takes.
///
/// # Errors
/// If it is damaged. Nothing of it is returned then.
pub fn read(bytes: &[u8]) -> Result<Bucket, BoltError> {
    read_within(bytes, &mut Kept::new(usize::MAX), &Cancellation::never())
}

/// The root bucket of the database in `bytes`, as far as `kept` has memory for it.
///
/// # Errors
/// If it is damaged, has too many elements, or `cancellation` is cancelled. Nothing of it is returned then.
pub(crate) fn read_within(bytes: &[u8], kept: &mut Kept, cancellation: &Cancellation) -> Result<Bucket, BoltError> {
    let meta = Meta::newest(bytes)?;
    let mut root = Bucket::default();
    Reader::of(bytes, meta.page_size, kept, cancellation).tree(meta.root, 0, 0, &mut root)?;
    Ok(root)
}

struct Meta {
    page_size: usize,
    root: u64,
    transaction: u64,
}

impl Meta {
    fn newest(bytes: &[u8]) -> Result<Meta, BoltError> {
        let first = Meta::at(bytes, 0);
        let second = match &first {
            Some(meta) => Meta::at(bytes, meta.page_size),
            // The first page has the size of pages, so without it all sizes are tried.
            None => (9..=16).find_map(|bits| Meta::at(bytes, 1 << bits).filter(|meta| meta.page_size == 1 << bits)),
        };
        match first.into_iter().chain(second).max_by_key(|meta| meta.transaction) {
            Some(meta) => Ok(meta),
            None if is_database(bytes) => Err(BoltError::Meta),
            None => Err(BoltError::NotOne),
        }
    }

    fn at(bytes: &[u8], at: usize) -> Option<Meta> {
        /// The bytes before the checksum.
        const CHECKED: usize = 56;
        let page = bytes.get(at..)?;
        let meta = page.get(HEADER..HEADER + CHECKED + 8)?;
        let page_size = usize::try_from(u32_at(meta, 8)?).ok()?;
        let is_valid = u16_at(page, 8)? & META != 0
            && u32_at(meta, 0)? == MAGIC
            && u32_at(meta, 4)? == VERSION
            && (512..=1 << 20).contains(&page_size)
            && u64_at(meta, CHECKED)? == fnv(meta.get(..CHECKED)?);
        is_valid.then_some(Meta { page_size, root: u64_at(meta, 16)?, transaction: u64_at(meta, 48)? })
    }
}

struct Reader<'b> {
    bytes: &'b [u8],
    page_size: usize,
    /// How many pages may still be read: each is part of one tree, once, with all those that it goes on in.
    pages: usize,
    /// How many bytes of headers, elements, keys and values there may still be: each byte is part of one, once.
    left: usize,
    kept: &'b mut Kept,
    cancellation: &'b Cancellation,
}

impl<'b> Reader<'b> {
    fn of(bytes: &'b [u8], page_size: usize, kept: &'b mut Kept, cancellation: &'b Cancellation) -> Reader<'b> {
        Reader { bytes, page_size, pages: bytes.len() / page_size + 1, left: bytes.len(), kept, cancellation }
    }

    /// Adds what the tree at page `id` has to `bucket`.
    fn tree(&mut self, id: u64, depth: usize, nesting: usize, bucket: &mut Bucket) -> Result<(), BoltError> {
        self.cancellation.check()?;
        if depth > MAX_DEPTH {
            return Err(BoltError::Circle);
        }
        let damaged = || BoltError::Page(id);
        let at = usize::try_from(id).ok().and_then(|id| id.checked_mul(self.page_size)).ok_or_else(damaged)?;
        let overflow = self.bytes.get(at..).and_then(|page| u32_at(page, 12)).ok_or_else(damaged)? as usize;
        let pages = overflow.checked_add(1).ok_or_else(damaged)?;
        let size = pages.checked_mul(self.page_size).ok_or_else(damaged)?;
        let end = at.checked_add(size).filter(|end| *end <= self.bytes.len()).ok_or_else(damaged)?;
        self.pages = self.pages.checked_sub(pages).ok_or(BoltError::Circle)?;
        self.count(HEADER)?;
        match u16_at(&self.bytes[at..end], 8) {
            Some(BRANCH) => {
                for child in children(&self.bytes[at..end]).ok_or_else(damaged)? {
                    self.count(ELEMENT)?;
                    self.tree(child, depth + 1, nesting, bucket)?;
                }
                Ok(())
            }
            Some(LEAF) => self.leaf(at..end, id, nesting, bucket),
            _ => Err(damaged()),
        }
    }

    /// Adds what the leaf page in `page` has to `bucket`.
    fn leaf(&mut self, page: Range<usize>, id: u64, nesting: usize, bucket: &mut Bucket) -> Result<(), BoltError> {
        let damaged = || BoltError::Page(id);
        let bytes = self.bytes.get(page.clone()).ok_or_else(damaged)?;
        for index in 0..count(bytes).ok_or_else(damaged)? {
            let (flags, key, value) = element(bytes, index).ok_or_else(damaged)?;
            self.count(ELEMENT + key.len())?;
            self.kept.keep(NODE + key.len())?;
            let key = bytes.get(key).ok_or_else(damaged)?.to_vec();
            let value = page.start + value.start..page.start + value.end;
            let node = match flags & IS_BUCKET {
                0 => {
                    self.count(value.len())?;
                    Node::Value(value)
                }
                _ => Node::Bucket(self.bucket(value, id, nesting + 1)?),
            };
            bucket.0.insert(key, node);
        }
        Ok(())
    }

    /// Counts bytes of the database that are read.
    fn count(&mut self, bytes: usize) -> Result<(), BoltError> {
        self.left = self.left.checked_sub(bytes).ok_or(BoltError::Overlap)?;
        Ok(())
    }

    /// The bucket in a value.
    fn bucket(&mut self, value: Range<usize>, id: u64, nesting: usize) -> Result<Bucket, BoltError> {
        if nesting > MAX_DEPTH {
            return Err(BoltError::Circle);
        }
        let mut bucket = Bucket::default();
        match self.bytes.get(value.clone()).and_then(|value| u64_at(value, 0)).ok_or(BoltError::Page(id))? {
            0 => {
                // Its header and those of its elements; their keys and values count by themselves.
                self.count(BUCKET_HEADER + HEADER)?;
                self.leaf(value.start + BUCKET_HEADER..value.end, id, nesting, &mut bucket)?;
            }
            root => self.tree(root, 0, nesting, &mut bucket)?,
        }
        Ok(bucket)
    }
}

/// The number of elements of a page.
fn count(page: &[u8]) -> Option<usize> {
    u16_at(page, 10).map(usize::from)
}

/// The pages that a branch page leads to.
fn children(page: &[u8]) -> Option<Vec<u64>> {
    (0..count(page)?).map(|index| u64_at(page, HEADER + index * ELEMENT + 8)).collect()
}

/// The flags of an element of a leaf page, and where its key and its value are in the page.
fn element(page: &[u8], index: usize) -> Option<(u32, Range<usize>, Range<usize>)> {
    let at = HEADER + index * ELEMENT;
    let field = |offset: usize| u32_at(page, at + offset).map(|field| field as usize);
    let start = at.checked_add(field(4)?)?;
    let middle = start.checked_add(field(8)?)?;
    let end = middle.checked_add(field(12)?).filter(|end| *end <= page.len())?;
    Some((u32_at(page, at)?, start..middle, middle..end))
}

/// FNV-1a with 64 bits.
fn fnv(bytes: &[u8]) -> u64 {
    const START: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0100_0000_01b3;
    bytes.iter().fold(START, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(PRIME))
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// A number as Go's `binary.PutUvarint` writes it.
pub(crate) fn uvarint(bytes: &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for (index, byte) in bytes.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f).checked_shl(7 * u32::try_from(index).ok()?)?;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recorded;

    /// The paths and sizes of all values, such as `v1/moby/version 1`.
    fn flat(bucket: &Bucket, path: &str, found: &mut Vec<String>) {
        for (key, node) in bucket.nodes() {
            let path = format!("{path}/{}", String::from_utf8_lossy(key));
            match node {
                Node::Value(range) => found.push(format!("{path} {}", range.len())),
                Node::Bucket(bucket) => flat(bucket, &path, found),
            }
        }
    }

    #[test]
    fn a_real_database_is_read() {
        let bytes = recorded::file("podman-4.3.1-overlay", "var/lib/containers/storage/libpod/bolt_state.db");
        let root = read(&bytes).unwrap();
        let names = root.bucket(&["name-registry"]).unwrap();
        let id = "daaefb2941290935ac40099b8d08023ccee4f259ad9ee09ab181bb007cb2d75b";
        assert_eq!(names.text(&bytes, "c1").as_deref(), Some(id));
        let config = root.bucket(&["ctr", id]).unwrap().value(&bytes, "config").unwrap();
        assert!(config.starts_with(b"{\"spec\":") && config.ends_with(b"}"));
    }

    #[test]
    fn a_damaged_database_is_an_error_or_another_database_and_never_a_hang() {
        let bytes = recorded::file(
            "containerd-2.4.2-overlayfs",
            "var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/metadata.db",
        );
        let mut whole = Vec::new();
        flat(&read(&bytes).unwrap(), "", &mut whole);
        assert!(whole.len() > 100);
        assert_eq!(read(&bytes[..40]), Err(BoltError::Meta));
        assert_eq!(read(b""), Err(BoltError::NotOne));
        for at in (0..bytes.len()).step_by(37) {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x41;
            let _ = read(&damaged);
        }
        for end in (0..bytes.len()).step_by(1009) {
            let _ = read(&bytes[..end]);
        }
    }

    #[test]
    fn the_other_meta_page_counts_if_one_is_damaged() {
        let bytes = recorded::file("docker-20.10.24-overlay2", "var/lib/docker/buildkit/cache.db");
        for page in [0, 4096] {
            let mut damaged = bytes.clone();
            damaged[page + 40] ^= 1;
            assert!(read(&damaged).is_ok(), "{page}");
            damaged[4096 - page + 40] ^= 1;
            assert_eq!(read(&damaged), Err(BoltError::Meta));
        }
    }

    #[test]
    fn a_bucket_that_contains_itself_is_a_circle() {
        let bytes = recorded::file("podman-4.3.1-overlay", "var/lib/containers/storage/libpod/bolt_state.db");
        let root = Meta::newest(&bytes).unwrap();
        let page = usize::try_from(root.root).unwrap() * root.page_size;
        let mut found = 0;
        for index in 0..count(&bytes[page..]).unwrap() {
            let (flags, _, value) = element(&bytes[page..], index).unwrap();
            if flags & IS_BUCKET != 0 {
                let mut damaged = bytes.clone();
                damaged[page + value.start..page + value.start + 8].copy_from_slice(&root.root.to_le_bytes());
                assert!(matches!(read(&damaged), Err(BoltError::Circle | BoltError::Overlap)));
                found += 1;
            }
        }
        assert!(found > 5);
    }

    /// A database of pages of `page` bytes, whose root is the third.
    fn database(page: usize, pages: usize) -> Vec<u8> {
        let mut bytes = vec![0; pages * page];
        for (index, transaction) in [(0, 1_u64), (1, 2)] {
            let mut meta = Vec::new();
            for number in [MAGIC, VERSION, page as u32, 0] {
                meta.extend(number.to_le_bytes());
            }
            for number in [2, 0, 99, 10, transaction] {
                meta.extend(number.to_le_bytes());
            }
            meta.extend(fnv(&meta).to_le_bytes());
            bytes[index * page + 8] = 4;
            bytes[index * page + HEADER..][..meta.len()].copy_from_slice(&meta);
        }
        bytes
    }

    /// A database with a branch page that leads to one leaf page `children` times, which has all other pages and
    /// `elements` without keys and values.
    fn one_leaf_for_many(children: u16, elements: u16, pages: usize) -> Vec<u8> {
        const PAGE: usize = 512;
        let leaf = 2 + (HEADER + usize::from(children) * ELEMENT).div_ceil(PAGE);
        let mut bytes = database(PAGE, pages);
        let mut header = |page: usize, kind: u16, count: u16, more: usize| {
            let at = page * PAGE;
            bytes[at + 8..at + 10].copy_from_slice(&kind.to_le_bytes());
            bytes[at + 10..at + 12].copy_from_slice(&count.to_le_bytes());
            bytes[at + 12..at + 16].copy_from_slice(&(more as u32).to_le_bytes());
        };
        header(2, BRANCH, children, leaf - 3);
        header(leaf, LEAF, elements, pages - leaf - 1);
        for index in 0..usize::from(children) {
            bytes[2 * PAGE + HEADER + index * ELEMENT + 8..][..8].copy_from_slice(&(leaf as u64).to_le_bytes());
        }
        for index in 0..usize::from(elements) {
            bytes[leaf * PAGE + HEADER + index * ELEMENT + 4..][..4].copy_from_slice(&(ELEMENT as u32).to_le_bytes());
        }
        bytes
    }

    #[test]
    fn a_database_is_read_in_proportion_to_its_size() {
        for (children, elements, pages) in [(2_000, 60_000, 2_048), (500, 1, 2_048), (2, 65_000, 4_096)] {
            let bytes = one_leaf_for_many(children, elements, pages);
            let (mut kept, never) = (Kept::new(usize::MAX), Cancellation::never());
            let mut reader = Reader::of(&bytes, 512, &mut kept, &never);
            let outcome = reader.tree(2, 0, 0, &mut Bucket::default());
            assert!(matches!(outcome, Err(BoltError::Circle | BoltError::Overlap)), "{outcome:?}");
            // Each byte of an element counts, and no page is read again with all those that it goes on in.
            assert!(kept.taken() / NODE <= bytes.len() / ELEMENT, "{} elements", kept.taken() / NODE);
        }
    }

    #[test]
    fn elements_beyond_the_memory_and_after_the_end_of_the_time_are_not_read() {
        let bytes = recorded::file("podman-4.3.1-overlay", "var/lib/containers/storage/libpod/bolt_state.db");
        let mut kept = Kept::new(5 * NODE);
        assert!(matches!(read_within(&bytes, &mut kept, &Cancellation::never()), Err(BoltError::Memory(_))));
        let cancelled = Cancellation::new();
        cancelled.cancel();
        let mut kept = Kept::new(usize::MAX);
        assert!(matches!(read_within(&bytes, &mut kept, &cancelled), Err(BoltError::Cancelled(_))));
        assert_eq!(kept.taken(), 0);
    }

    #[test]
    fn keys_and_values_that_overlap_are_refused() {
        /// The size of pages.
        const PAGE: usize = 4096;
        for (key, value) in [(3000, 0), (0, 3000), (1500, 1500)] {
            let mut bytes = database(PAGE, 3);
            bytes[2 * PAGE + 8] = 2;
            bytes[2 * PAGE + 10] = 40;
            for index in 0..40_usize {
                let at = HEADER + index * ELEMENT;
                let element = [0, 700 + index - at + HEADER, key, value];
                let element: Vec<u8> = element.iter().flat_map(|field| (*field as u32).to_le_bytes()).collect();
                bytes[2 * PAGE + at..][..ELEMENT].copy_from_slice(&element);
            }
            assert_eq!(read(&bytes), Err(BoltError::Overlap), "{key} {value}");
        }
    }

    #[test]
    fn numbers_of_go() {
        assert_eq!(uvarint(&[0xca, 0x0a]), Some(1354));
        assert_eq!(uvarint(&[0x80]), None);
        assert_eq!(uvarint(&[0xff; 12]), None);
    }
}
