//! The records in the databases of an engine, as files: each is scanned for itself, and belongs to what its path names.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::ops::Bound;
use std::sync::Arc;

use layersift_format::MappedFile;
use layersift_model::Digest;

use crate::bbolt::{self, Bucket, Node};
use crate::directory_tar::{Content, Part};
use crate::root::Root;
use crate::sqlite;

/// The records of one database.
pub(crate) struct Records {
    /// The path of the database below the root.
    pub(crate) name: String,
    /// The buckets of a bbolt database, and its bytes.
    pub(crate) bolt: Option<(Arc<MappedFile>, Bucket)>,
    /// The records that nothing has claimed yet, by their paths in the database.
    left: BTreeMap<String, Content>,
}

/// Collects records under paths of their own.
struct Collected {
    records: BTreeMap<String, Content>,
    /// The number that the next record of a path gets.
    next: HashMap<String, u64>,
    /// How many bytes of paths there may still be.
    paths: usize,
}

/// Why the records of a database cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecordsError {
    /// The file cannot be read.
    #[error("{0}")]
    Read(#[from] io::Error),
    /// A bbolt database is damaged.
    #[error("{0}")]
    Bolt(#[from] bbolt::BoltError),
    /// A SQLite database cannot be read.
    #[error("{0}")]
    Sqlite(#[from] sqlite::SqliteError),
    /// The records have longer paths than any engine gives them.
    #[error("the paths of the records of the database are too long")]
    Paths,
}

impl Records {
    /// The records of the database at `name`; `None` if there is none.
    ///
    /// # Errors
    /// If it cannot be read, or is damaged.
    pub(crate) fn read(root: &Root, name: &str) -> Result<Option<Records>, RecordsError> {
        // An empty file cannot be mapped, and is no database.
        let is_empty = root.find(name)?.is_none_or(|(_, metadata)| !metadata.is_file() || metadata.len() == 0);
        let Some(map) = (if is_empty { None } else { root.map(name)? }) else { return Ok(None) };
        if sqlite::is_database(&map) {
            let mut collected = Collected::of(map.len());
            let mut outcome = Ok(());
            sqlite::read(root, name, &mut |table, row, column, value| {
                let path = [table, row, column].map(|name| readable(name.as_bytes())).join("/");
                if outcome.is_ok() {
                    outcome = collected.insert(path, Content::Bytes(value.into()));
                }
            })?;
            outcome?;
            return Ok(Some(Records { name: name.into(), bolt: None, left: collected.records }));
        }
        if !bbolt::is_database(&map) {
            map.check_whole()?;
            return Ok(None);
        }
        Records::of_bolt(name, map).map(Some)
    }

    /// The records of a bbolt database.
    fn of_bolt(name: &str, map: MappedFile) -> Result<Records, RecordsError> {
        let mut collected = Collected::of(map.len());
        let map = Arc::new(map);
        let read = bbolt::read(&map);
        // Where the file is cut off, what is missing reads as zeros, which may be another database.
        map.check_whole()?;
        let bucket = read?;
        collected.add(&bucket, "", &map)?;
        Ok(Records { name: name.into(), bolt: Some((map, bucket)), left: collected.records })
    }

    /// The bucket at a path of a bbolt database, and the bytes of the database.
    pub(crate) fn bucket(&self, path: &[&str]) -> Option<(&Bucket, &[u8])> {
        let (map, root) = self.bolt.as_ref()?;
        Some((root.bucket(path)?, map))
    }

    /// Fails if the file was cut off while something was read of it.
    ///
    /// # Errors
    /// Those of [`MappedFile::check_whole`].
    pub(crate) fn check_whole(&self) -> io::Result<()> {
        self.bolt.as_ref().map_or(Ok(()), |(map, _)| map.check_whole())
    }

    /// Takes the records below `path`, such as `v1/default/containers/c1`, as files.
    pub(crate) fn claim(&mut self, path: &str) -> Vec<Part> {
        let start = format!("{path}/");
        let below = self.left.range::<str, _>((Bound::Included(start.as_str()), Bound::Unbounded));
        let keys: Vec<String> = below.map(|(key, _)| key).take_while(|key| key.starts_with(&start)).cloned().collect();
        let taken: Vec<(String, Content)> =
            keys.iter().filter_map(|key| self.left.remove_entry(key.as_str())).collect();
        taken.into_iter().map(|(key, content)| self.file(&key, content)).collect()
    }

    /// The records that nothing has claimed, as files.
    pub(crate) fn rest(&self) -> Vec<Part> {
        self.left.iter().map(|(key, content)| self.file(key, content.clone())).collect()
    }

    fn file(&self, key: &str, content: Content) -> Part {
        Part::File { name: format!("{}/{key}", self.name), content }
    }
}

impl Collected {
    /// For a database of `size` bytes. Those of engines have paths of a few times their size.
    fn of(size: usize) -> Collected {
        const TIMES: usize = 16;
        const LEAST: usize = 1 << 20;
        let paths = size.saturating_mul(TIMES).max(LEAST);
        Collected { records: BTreeMap::new(), next: HashMap::new(), paths }
    }

    /// Adds the values below a bucket.
    fn add(&mut self, bucket: &Bucket, path: &str, map: &Arc<MappedFile>) -> Result<(), RecordsError> {
        for (key, node) in bucket.nodes() {
            let path = if path.is_empty() { readable(key) } else { format!("{path}/{}", readable(key)) };
            match node {
                Node::Bucket(bucket) => self.add(bucket, &path, map)?,
                Node::Value(range) => self.insert(path, Content::Region(Arc::clone(map), range.clone()))?,
            }
        }
        Ok(())
    }

    /// Adds a record. Two rows may have the same name.
    fn insert(&mut self, path: String, content: Content) -> Result<(), RecordsError> {
        self.paths = self.paths.checked_sub(path.len()).ok_or(RecordsError::Paths)?;
        let mut unique = path.clone();
        while self.records.contains_key(&unique) {
            let number = self.next.entry(path.clone()).or_insert(1);
            *number += 1;
            unique = format!("{path}#{number}");
        }
        self.records.insert(unique, content);
        Ok(())
    }
}

/// A key as a name in an archive, in which it stands for nothing else: bytes that are not text as hexadecimal digits,
/// and slashes and leading dots as URLs write them. A key that is longer than any name of an engine is cut, and has its
/// digest.
fn readable(key: &[u8]) -> String {
    const LONGEST: usize = 1024;
    if key.len() > LONGEST {
        let start: String = String::from_utf8_lossy(&key[..64]).chars().filter(|c| c.is_ascii_alphanumeric()).collect();
        return format!("{start}…{}", Digest::of(key).hex());
    }
    match std::str::from_utf8(key) {
        Ok(text) if !text.is_empty() && !text.chars().any(char::is_control) => {
            let name = text.replace('%', "%25").replace('/', "%2F");
            name.strip_prefix('.').map_or(name.clone(), |rest| format!("%2E{rest}"))
        }
        _ => key.iter().map(|byte| format!("{byte:02x}")).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recorded;

    #[test]
    fn records_of_one_path_are_all_kept() {
        let mut collected = Collected::of(1 << 30);
        for path in ["a", "a#2", "a#3"] {
            collected.insert(path.into(), Content::Bytes((*b"x").into())).unwrap();
        }
        for _ in 0..20_000 {
            collected.insert("a".into(), Content::Bytes((*b"x").into())).unwrap();
        }
        assert_eq!(collected.records.len(), 20_003);
        let mut collected = Collected::of(0);
        let name = "n".repeat(1 << 10);
        let outcome = (0..2_000).try_for_each(|_| collected.insert(name.clone(), Content::Bytes((*b"x").into())));
        assert!(matches!(outcome, Err(RecordsError::Paths)));
    }

    #[test]
    fn a_database_that_is_cut_off_is_an_error_and_its_records_are_checked() {
        let database = recorded::file("podman-4.3.1-overlay", "var/lib/containers/storage/libpod/bolt_state.db");
        let file = tempfile::NamedTempFile::new().unwrap();
        let map = || {
            std::fs::write(file.path(), &database).unwrap();
            MappedFile::open(file.path()).unwrap()
        };
        let cut = || file.as_file().set_len(4096).unwrap();
        let whole = Records::of_bolt("state.db", map()).unwrap();
        assert!(whole.check_whole().is_ok() && !whole.left.is_empty());
        let cut_off = map();
        cut();
        assert!(matches!(Records::of_bolt("state.db", cut_off), Err(RecordsError::Read(_))));
        // Cut off after it was read: what is read again of it is not what it had.
        let later = Records::of_bolt("state.db", map()).unwrap();
        cut();
        let is_missing = |content: &Content| {
            std::hint::black_box(content.bytes().iter().map(|byte| u64::from(*byte)).sum::<u64>());
            content.check_whole().is_err()
        };
        assert!(later.left.values().any(is_missing));
        assert!(later.check_whole().is_err());
    }

    #[test]
    fn a_long_key_is_cut_and_stays_another_name() {
        let (one, other) = (readable(&[b'k'; 40_000]), readable(&[b'k'; 40_001]));
        assert!(one.starts_with("kkk") && one.len() < 200 && one != other, "{one}");
    }

    #[test]
    fn a_key_is_one_name_that_removes_nothing() {
        for (key, expected) in [
            (&b"sha256:00"[..], "sha256:00"),
            (b"docker.io/library/app:1", "docker.io%2Flibrary%2Fapp:1"),
            (b"src/", "src%2F"),
            (b"..", "%2E."),
            (b".wh.etc", "%2Ewh.etc"),
            (b"50%", "50%25"),
            (b"\x00\x02", "0002"),
            (b"", ""),
        ] {
            assert_eq!(readable(key), expected);
        }
    }
}
