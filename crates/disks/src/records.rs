//! The records in the databases of an engine, as files: each is scanned for itself, and belongs to what its path names.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::ops::Bound;
use std::sync::Arc;

use layersift_format::{Cancellation, MappedFile};
use layersift_model::Digest;

use crate::bbolt::{self, Bucket, Node};
use crate::directory_tar::{Content, Files, Part};
use crate::kept::{Kept, TooLarge};
use crate::root::Root;
use crate::sqlite;
use crate::unique::unique;

/// What a record takes in memory beside its path and its value.
const RECORD: usize = 128;

/// The records of one database.
pub(crate) struct Records {
    /// The path of the database below the root.
    pub(crate) name: String,
    /// The buckets of a bbolt database, and its bytes.
    pub(crate) bolt: Option<(Arc<MappedFile>, Bucket)>,
    /// The records that nothing has claimed yet, by their paths in the database.
    left: Arc<Files>,
}

/// Collects records under paths of their own.
struct Collected<'k> {
    records: BTreeMap<String, Content>,
    /// The number that the next record of a path gets.
    next: HashMap<String, u64>,
    kept: &'k mut Kept,
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
    /// The records take more memory than those of any engine.
    #[error("{0}")]
    Memory(#[from] TooLarge),
}

impl Records {
    /// The records of the database at `name`, as far as `kept` has memory for them; `None` if there is none.
    ///
    /// # Errors
    /// If it cannot be read, is damaged, or has too many records. Nothing of it is kept then.
    pub(crate) fn read(
        root: &Root,
        name: &str,
        kept: &mut Kept,
        cancellation: &Cancellation,
    ) -> Result<Option<Records>, RecordsError> {
        // An empty file cannot be mapped, and is no database.
        let is_empty = root.find(name)?.is_none_or(|(_, metadata)| !metadata.is_file() || metadata.len() == 0);
        let Some(map) = (if is_empty { None } else { root.map(name)? }) else { return Ok(None) };
        if !sqlite::is_database(&map) && !bbolt::is_database(&map) {
            map.check_whole()?;
            return Ok(None);
        }
        let before = kept.taken();
        let read = match sqlite::is_database(&map) {
            true => Records::of_sqlite(root, name, kept, cancellation),
            false => Records::of_bolt(name, map, kept, cancellation),
        };
        if read.is_err() {
            kept.back_to(before);
        }
        read.map(Some)
    }

    fn of_sqlite(
        root: &Root,
        name: &str,
        kept: &mut Kept,
        cancellation: &Cancellation,
    ) -> Result<Records, RecordsError> {
        let mut collected = Collected::of(kept);
        sqlite::read(root, name, cancellation, &mut |table, row, column, value| {
            let path = [table, row, column].map(|name| readable(name.as_bytes())).join("/");
            collected.kept.keep(value.len())?;
            collected.insert(path, Content::Bytes(value.into()))
        })?;
        Ok(Records::of(name, None, collected.records))
    }

    /// The records of a bbolt database.
    fn of_bolt(
        name: &str,
        map: MappedFile,
        kept: &mut Kept,
        cancellation: &Cancellation,
    ) -> Result<Records, RecordsError> {
        let map = Arc::new(map);
        let read = bbolt::read_within(&map, kept, cancellation);
        // Where the file is cut off, what is missing reads as zeros, which may be another database.
        map.check_whole()?;
        let bucket = read?;
        let mut collected = Collected::of(kept);
        collected.add(&bucket, "", &map)?;
        Ok(Records::of(name, Some((map, bucket)), collected.records))
    }

    fn of(name: &str, bolt: Option<(Arc<MappedFile>, Bucket)>, records: BTreeMap<String, Content>) -> Records {
        Records { name: name.into(), bolt, left: Arc::new(Files { directory: name.into(), files: records }) }
    }

    /// Forgets the buckets: only records and the check of the file are needed after this.
    pub(crate) fn forget_buckets(&mut self) {
        if let Some((_, bucket)) = &mut self.bolt {
            *bucket = Bucket::default();
        }
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
    pub(crate) fn claim(&mut self, path: &str) -> Option<Part> {
        let start = format!("{path}/");
        let left = &mut Arc::get_mut(&mut self.left)?.files;
        let below = left.range::<str, _>((Bound::Included(start.as_str()), Bound::Unbounded));
        let keys: Vec<String> = below.map(|(key, _)| key).take_while(|key| key.starts_with(&start)).cloned().collect();
        let files: BTreeMap<String, Content> = keys.iter().filter_map(|key| left.remove_entry(key.as_str())).collect();
        let directory = self.name.clone();
        (!files.is_empty()).then(|| Part::Files(Arc::new(Files { directory, files })))
    }

    /// The records that nothing has claimed, as files.
    pub(crate) fn rest(&self) -> Part {
        Part::Files(Arc::clone(&self.left))
    }
}

impl Collected<'_> {
    fn of(kept: &mut Kept) -> Collected<'_> {
        Collected { records: BTreeMap::new(), next: HashMap::new(), kept }
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
    fn insert(&mut self, path: String, content: Content) -> Result<(), TooLarge> {
        self.kept.keep(RECORD + path.len())?;
        let path = unique(&mut self.next, path, '#', |path| self.records.contains_key(path));
        self.records.insert(path, content);
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
        let mut kept = Kept::new(1 << 30);
        let mut collected = Collected::of(&mut kept);
        for path in ["a", "a#2", "a#3"] {
            collected.insert(path.into(), Content::Bytes((*b"x").into())).unwrap();
        }
        for _ in 0..20_000 {
            collected.insert("a".into(), Content::Bytes((*b"x").into())).unwrap();
        }
        assert_eq!(collected.records.len(), 20_003);
        let mut kept = Kept::new(1 << 20);
        let mut collected = Collected::of(&mut kept);
        let name = "n".repeat(1 << 10);
        let outcome = (0..2_000).try_for_each(|_| collected.insert(name.clone(), Content::Bytes((*b"x").into())));
        assert_eq!(outcome, Err(TooLarge));
    }

    #[test]
    fn values_of_sqlite_take_no_more_memory_than_is_left_in_all() {
        let disk = tempfile::tempdir().unwrap();
        let connection = rusqlite::Connection::open(disk.path().join("db.sql")).unwrap();
        let read = |size: usize, most: usize| {
            let statements = format!(
                "DROP TABLE IF EXISTS t; CREATE TABLE t (ID TEXT, b BLOB); \
                 WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 6) \
                 INSERT INTO t SELECT i, zeroblob({size}) FROM n;"
            );
            connection.execute_batch(&statements).unwrap();
            let mut kept = Kept::new(most);
            let outcome = Records::read(&Root::new(disk.path()), "db.sql", &mut kept, &Cancellation::never());
            (outcome.map(|records| records.unwrap().left.files.len()).map_err(|error| error.to_string()), kept.taken())
        };
        let (outcome, taken) = read(1 << 20, 8 << 20);
        assert!(outcome == Ok(12) && taken > 6 << 20, "{outcome:?} {taken}");
        // Six values of a MiB each, of which three fit, and one that is larger than any document.
        for (size, most) in [(1 << 20, 3 << 20), (20 << 20, usize::MAX)] {
            let (outcome, taken) = read(size, most);
            assert!(outcome.is_err() && taken == 0, "{outcome:?} {taken}");
        }
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
        let of_bolt = |name, map| Records::of_bolt(name, map, &mut Kept::new(1 << 30), &Cancellation::never());
        let whole = of_bolt("state.db", map()).unwrap();
        assert!(whole.check_whole().is_ok() && !whole.left.files.is_empty());
        let cut_off = map();
        cut();
        assert!(matches!(of_bolt("state.db", cut_off), Err(RecordsError::Read(_))));
        // Cut off after it was read: what is read again of it is not what it had.
        let later = of_bolt("state.db", map()).unwrap();
        cut();
        let is_missing = |content: &Content| {
            std::hint::black_box(content.bytes().iter().map(|byte| u64::from(*byte)).sum::<u64>());
            content.check_whole().is_err()
        };
        assert!(later.left.files.values().any(is_missing));
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
