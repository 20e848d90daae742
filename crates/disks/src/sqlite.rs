//! SQLite databases, in which Podman keeps its records since version 4.8: all texts and blobs of all tables.
//!
//! SQLite writes beside a database even to read it, and what is new may be in its write-ahead log alone. So both are
//! copied to a private directory, and the copy is opened.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use layersift_format::{CancelReason, Cancellation};
use rusqlite::limits::Limit;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags};

use crate::kept::TooLarge;
use crate::root::Root;
use crate::store::DOCUMENT;

/// What the name of a write-ahead log has after that of its database.
pub(crate) const LOG: &str = "-wal";

/// The most tables.
const MAX_TABLES: usize = 1_000;

/// The most bytes of a database or its log. Those of engines have some MiB.
const MOST_BYTES: u64 = 256 << 20;

/// The bytes that SQLite needs for names and statements, however small the database is.
const SMALLEST_LENGTH: usize = 1 << 20;

/// A function that is called with a table, the name of a row, a column and the value there. An error ends the reading.
pub(crate) type OnValue<'f> = dyn FnMut(&str, &str, &str, &[u8]) -> Result<(), TooLarge> + 'f;

/// Why a database cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SqliteError {
    /// It cannot be copied.
    #[error("the SQLite database cannot be copied to a private directory: {0}")]
    Copy(#[from] io::Error),
    /// It is damaged.
    #[error("the SQLite database is damaged: {0}")]
    Damaged(#[from] rusqlite::Error),
    /// It has more than any engine writes.
    #[error("the SQLite database has more than {MAX_TABLES} tables")]
    Tables,
    /// Its rows and values have more bytes than it has, so they are no values of their own.
    #[error("the rows of the SQLite database have more bytes than the database")]
    Overlap,
    /// Its values have more bytes than may be in memory.
    #[error("{0}")]
    Memory(#[from] TooLarge),
    /// The time is over.
    #[error("{0}")]
    Cancelled(#[from] CancelReason),
}

/// Whether `bytes` begin as a SQLite database.
pub(crate) fn is_database(bytes: &[u8]) -> bool {
    bytes.starts_with(b"SQLite format 3\0")
}

/// Calls `found` with each text and blob of the database at `relative`: its table, its row and its column. A row is
/// called by the text in its first column.
///
/// # Errors
/// If the database cannot be copied or is damaged, if `found` fails, or if `cancellation` is cancelled.
pub(crate) fn read(
    root: &Root,
    relative: &str,
    cancellation: &Cancellation,
    found: &mut OnValue<'_>,
) -> Result<(), SqliteError> {
    cancellation.check()?;
    let private = tempfile::Builder::new().prefix("layersift-").tempdir()?;
    let copy = private.path().join("copy.db");
    let mut size = copy_file(root, relative, &copy)?;
    size += copy_file(root, &format!("{relative}{LOG}"), &private.path().join(format!("copy.db{LOG}")))?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(&copy, flags)?;
    // The schema is as hostile as the rest: nothing in it may run.
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.pragma_update(None, "query_only", true)?;
    // No value is longer than the database, unless something computes it, or than a document of an engine.
    let longest = usize::try_from(size.min(DOCUMENT)).unwrap_or(usize::MAX).max(SMALLEST_LENGTH);
    connection.set_limit(Limit::SQLITE_LIMIT_LENGTH, i32::try_from(longest).unwrap_or(i32::MAX))?;
    let mut left = size;
    for table in tables(&connection)? {
        rows(&connection, &table, &mut left, cancellation, found)?;
    }
    Ok(())
}

/// Copies a file, and returns its size; 0 if there is none.
fn copy_file(root: &Root, relative: &str, to: &Path) -> io::Result<u64> {
    let Some(path) = root.file(relative)? else { return Ok(0) };
    let file = crate::root::open_file(&path)?;
    let size = file.metadata()?.len();
    if size > MOST_BYTES {
        return Err(io::Error::other(format!("it has more than {MOST_BYTES} bytes")));
    }
    copy(&mut file.take(MOST_BYTES), &mut File::create_new(to)?, size)
}

/// Copies a file that had `size` bytes when it was opened.
fn copy(file: &mut impl io::Read, to: &mut impl io::Write, size: u64) -> io::Result<u64> {
    match io::copy(file, to)? {
        copied if copied < size => Err(io::Error::other("the file was truncated while it was read")),
        copied => Ok(copied),
    }
}

fn tables(connection: &Connection) -> Result<Vec<String>, SqliteError> {
    // Virtual tables and views compute what they have.
    let query = "SELECT name FROM pragma_table_list WHERE schema = 'main' AND type IN ('table', 'shadow') \
                 AND name <> 'sqlite_schema' ORDER BY name";
    let mut statement = connection.prepare(query)?;
    let names = statement.query_map([], |row| row.get(0))?.take(MAX_TABLES + 1).collect::<Result<Vec<String>, _>>()?;
    if names.len() > MAX_TABLES { Err(SqliteError::Tables) } else { Ok(names) }
}

/// The columns whose values the table has. Those of other columns are computed when they are read.
fn stored_columns(connection: &Connection, table: &str) -> Result<Vec<String>, SqliteError> {
    // 1 is a column of a virtual table, 2 one that is computed, 3 one that was computed when the row was written.
    let query = "SELECT name FROM pragma_table_xinfo(?1) WHERE hidden IN (0, 3) ORDER BY cid";
    let mut statement = connection.prepare(query)?;
    Ok(statement.query_map([table], |row| row.get(0))?.collect::<Result<_, _>>()?)
}

/// Calls `found` with the values of a table. `left` is how many bytes of rows there may still be in the database: a row
/// has at least a byte, and values are stored once.
fn rows(
    connection: &Connection,
    table: &str,
    left: &mut u64,
    cancellation: &Cancellation,
    found: &mut OnValue<'_>,
) -> Result<(), SqliteError> {
    let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    let columns = stored_columns(connection, table)?;
    if columns.is_empty() {
        return Ok(());
    }
    let list = columns.iter().map(|column| quoted(column)).collect::<Vec<_>>().join(", ");
    // An index may be on an expression.
    let mut statement = connection.prepare(&format!("SELECT {list} FROM main.{} NOT INDEXED", quoted(table)))?;
    let mut rows = statement.query([])?;
    let mut number = 0;
    let mut count = |bytes: usize| {
        *left = left.checked_sub(bytes as u64).ok_or(SqliteError::Overlap)?;
        Ok::<(), SqliteError>(())
    };
    while let Some(row) = rows.next()? {
        number += 1;
        count(1)?;
        cancellation.check()?;
        let name = match row.get_ref(0)? {
            ValueRef::Text(text) => String::from_utf8_lossy(text).into_owned(),
            _ => number.to_string(),
        };
        for (index, column) in columns.iter().enumerate() {
            if let ValueRef::Text(bytes) | ValueRef::Blob(bytes) = row.get_ref(index)? {
                count(bytes.len())?;
                found(table, &name, column, bytes)?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_cut_off_is_not_copied() {
        let mut out = Vec::new();
        assert!(copy(&mut &b"four"[..], &mut out, 5).is_err());
        assert_eq!(copy(&mut &b"fives"[..], &mut out, 5).unwrap(), 5);
    }

    #[test]
    fn rows_that_are_only_in_the_log_are_read_and_nothing_is_written() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("db.sql");
        let connection = Connection::open(&path).unwrap();
        connection.pragma_update(None, "journal_mode", "wal").unwrap();
        connection.pragma_update(None, "wal_autocheckpoint", 0).unwrap();
        let batch = "CREATE TABLE ContainerConfig (ID TEXT PRIMARY KEY, JSON TEXT NOT NULL); \
                     INSERT INTO ContainerConfig VALUES ('c1', '{}');";
        connection.execute_batch(batch).unwrap();
        // The engine was killed: its log is left, and so are the names of its files.
        let disk = tempfile::tempdir().unwrap();
        for name in ["db.sql", "db.sql-wal"] {
            std::fs::copy(directory.path().join(name), disk.path().join(name)).unwrap();
        }
        let mut found = Vec::new();
        let root = Root::new(disk.path());
        read(&root, "db.sql", &Cancellation::never(), &mut |table, row, column, value| {
            found.push(format!("{table}/{row}/{column}={}", String::from_utf8_lossy(value)));
            Ok(())
        })
        .unwrap();
        assert_eq!(found, ["ContainerConfig/c1/ID=c1", "ContainerConfig/c1/JSON={}"]);
        assert_eq!(root.names("").unwrap(), ["db.sql", "db.sql-wal"]);
    }

    /// A database that these statements make, and what is read of it.
    fn read_of(statements: &str) -> (Result<(), SqliteError>, Vec<String>) {
        let disk = tempfile::tempdir().unwrap();
        Connection::open(disk.path().join("db.sql")).unwrap().execute_batch(statements).unwrap();
        let mut found = Vec::new();
        let outcome =
            read(&Root::new(disk.path()), "db.sql", &Cancellation::never(), &mut |table, row, column, value| {
                found.push(format!("{table}/{row}/{column} {}", value.len()));
                Ok(())
            });
        (outcome, found)
    }

    #[test]
    fn what_is_computed_is_not_read() {
        let (outcome, found) = read_of(
            "CREATE TABLE t (ID TEXT, a TEXT GENERATED ALWAYS AS (hex(zeroblob(400000000))) VIRTUAL, \
                             b TEXT GENERATED ALWAYS AS (ID || 'x') STORED); \
             CREATE VIEW v AS SELECT hex(zeroblob(400000000)) AS c; \
             CREATE INDEX i ON t (length(ID)); \
             CREATE TABLE \"q\"\"t\" (ID TEXT, \"c\"\"1\" BLOB); \
             INSERT INTO t (ID) VALUES ('one'); INSERT INTO \"q\"\"t\" VALUES ('two', x'00');",
        );
        outcome.unwrap();
        assert_eq!(found, ["q\"t/two/ID 3", "q\"t/two/c\"1 1", "t/one/ID 3", "t/one/b 4"]);
    }

    #[test]
    fn rows_that_have_more_bytes_than_the_database_are_refused() {
        // Each row has the default, which is stored once.
        let default = "x".repeat(20_000);
        let statements = format!(
            "CREATE TABLE t (ID TEXT); \
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500) \
             INSERT INTO t SELECT i FROM n; ALTER TABLE t ADD COLUMN d TEXT DEFAULT '{default}';"
        );
        let (outcome, found) = read_of(&statements);
        assert!(matches!(outcome, Err(SqliteError::Overlap)), "{outcome:?}");
        assert!(found.len() < 100, "{}", found.len());
        // Two tables with one tree.
        let (outcome, _) = read_of(
            "CREATE TABLE t (ID INTEGER, b BLOB); INSERT INTO t VALUES (1, zeroblob(20000)); \
             CREATE TABLE u (ID INTEGER, b BLOB); PRAGMA writable_schema = on; \
             UPDATE sqlite_schema SET rootpage = 2 WHERE name = 'u';",
        );
        assert!(matches!(outcome, Err(SqliteError::Overlap)), "{outcome:?}");
    }

    #[test]
    fn a_database_that_is_larger_than_any_is_not_copied() {
        let disk = tempfile::tempdir().unwrap();
        let path = disk.path().join("db.sql");
        std::fs::write(&path, b"SQLite format 3\0").unwrap();
        File::options().write(true).open(&path).unwrap().set_len(200 << 30).unwrap();
        let outcome = read(&Root::new(disk.path()), "db.sql", &Cancellation::never(), &mut |_, _, _, _| Ok(()));
        assert!(matches!(outcome, Err(SqliteError::Copy(_))), "{outcome:?}");
    }

    #[test]
    fn a_damaged_database_is_an_error() {
        let disk = tempfile::tempdir().unwrap();
        std::fs::write(disk.path().join("db.sql"), b"SQLite format 3\0 and nothing else").unwrap();
        let outcome = read(&Root::new(disk.path()), "db.sql", &Cancellation::never(), &mut |_, _, _, _| Ok(()));
        assert!(matches!(outcome, Err(SqliteError::Damaged(_))), "{outcome:?}");
    }
}
