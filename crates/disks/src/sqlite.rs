//! SQLite databases, in which Podman keeps its records since version 4.8: all texts and blobs of all tables.
//!
//! SQLite writes beside a database even to read it, and what is new may be in its write-ahead log alone. So both are
//! copied to a private directory, and the copy is opened.

use std::fs::File;
use std::io;
use std::path::Path;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags};

use crate::root::Root;

/// What the name of a write-ahead log has after that of its database.
pub(crate) const LOG: &str = "-wal";

/// The most tables, and rows of one table.
const MAX_TABLES: usize = 1_000;
const MAX_ROWS: usize = 10_000_000;

/// A function that is called with a table, the name of a row, a column and the value there.
pub(crate) type OnValue<'f> = dyn FnMut(&str, &str, &str, &[u8]) + 'f;

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
    #[error("the SQLite database has too many tables or rows")]
    TooLarge,
}

/// Whether `bytes` begin as a SQLite database.
pub(crate) fn is_database(bytes: &[u8]) -> bool {
    bytes.starts_with(b"SQLite format 3\0")
}

/// Calls `found` with each text and blob of the database at `relative`: its table, its row and its column. A row is
/// called by the text in its first column.
///
/// # Errors
/// If the database cannot be copied or is damaged.
pub(crate) fn read(root: &Root, relative: &str, found: &mut OnValue<'_>) -> Result<(), SqliteError> {
    let private = tempfile::Builder::new().prefix("layersift-").tempdir()?;
    let copy = private.path().join("copy.db");
    copy_file(root, relative, &copy)?;
    copy_file(root, &format!("{relative}{LOG}"), &private.path().join(format!("copy.db{LOG}")))?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(&copy, flags)?;
    // The schema is as hostile as the rest: nothing in it may run.
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.pragma_update(None, "query_only", true)?;
    for table in tables(&connection)? {
        rows(&connection, &table, found)?;
    }
    Ok(())
}

fn copy_file(root: &Root, relative: &str, to: &Path) -> io::Result<()> {
    if let Some((path, _)) = root.find(relative).filter(|(_, metadata)| metadata.is_file()) {
        io::copy(&mut crate::root::open_file(&path)?, &mut File::create_new(to)?)?;
    }
    Ok(())
}

fn tables(connection: &Connection) -> Result<Vec<String>, SqliteError> {
    let query = "SELECT name FROM sqlite_master WHERE type = 'table' AND sql NOT LIKE 'CREATE VIRTUAL%' ORDER BY name";
    let mut statement = connection.prepare(query)?;
    let names = statement.query_map([], |row| row.get(0))?.take(MAX_TABLES + 1).collect::<Result<Vec<String>, _>>()?;
    if names.len() > MAX_TABLES { Err(SqliteError::TooLarge) } else { Ok(names) }
}

fn rows(connection: &Connection, table: &str, found: &mut OnValue<'_>) -> Result<(), SqliteError> {
    let quoted = table.replace('"', "\"\"");
    let mut statement = connection.prepare(&format!("SELECT * FROM \"{quoted}\""))?;
    let columns: Vec<String> = statement.column_names().map(str::to_string).collect();
    let mut rows = statement.query([])?;
    let mut number = 0;
    while let Some(row) = rows.next()? {
        number += 1;
        if number > MAX_ROWS {
            return Err(SqliteError::TooLarge);
        }
        let name = match row.get_ref(0)? {
            ValueRef::Text(text) => String::from_utf8_lossy(text).into_owned(),
            _ => number.to_string(),
        };
        for (index, column) in columns.iter().enumerate() {
            if let ValueRef::Text(bytes) | ValueRef::Blob(bytes) = row.get_ref(index)? {
                found(table, &name, column, bytes);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

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
        read(&root, "db.sql", &mut |table, row, column, value| {
            found.push(format!("{table}/{row}/{column}={}", String::from_utf8_lossy(value)));
        })
        .unwrap();
        assert_eq!(found, ["ContainerConfig/c1/ID=c1", "ContainerConfig/c1/JSON={}"]);
        assert_eq!(root.names("").unwrap(), ["db.sql", "db.sql-wal"]);
    }

    #[test]
    fn a_damaged_database_is_an_error() {
        let disk = tempfile::tempdir().unwrap();
        std::fs::write(disk.path().join("db.sql"), b"SQLite format 3\0 and nothing else").unwrap();
        let outcome = read(&Root::new(disk.path()), "db.sql", &mut |_, _, _, _| {});
        assert!(matches!(outcome, Err(SqliteError::Damaged(_))), "{outcome:?}");
    }
}
