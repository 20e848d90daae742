//! SQLite, embedded.

use std::path::Path;
use std::time::Duration;

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{ErrorCode, ToSql};

use super::{Row, Value};
use crate::error::Fault;

/// How long a statement waits for another process.
const BUSY: Duration = Duration::from_secs(30);

/// How many prepared statements a connection keeps.
const STATEMENTS: usize = 256;

/// A connection to a file.
pub(crate) struct Sqlite(rusqlite::Connection);

impl Sqlite {
    /// Opens the file at `path`, or makes it.
    pub(super) fn open(path: &Path) -> Result<Sqlite, Fault> {
        make_private(path).map_err(|error| Fault::Database(format!("unable to open the file: {error}")))?;
        let connection = rusqlite::Connection::open(path).map_err(fault)?;
        connection.busy_timeout(BUSY).map_err(fault)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        let settings = "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA foreign_keys = ON; \
                        PRAGMA cache_size = -32768; PRAGMA temp_store = MEMORY;";
        connection.execute_batch(settings).map_err(fault)?;
        Ok(Sqlite(connection))
    }

    pub(super) fn query(&mut self, sql: &str, values: &[Value]) -> Result<Vec<Row>, Fault> {
        let mut statement = self.0.prepare_cached(&translated(sql)).map_err(fault)?;
        let width = statement.column_count();
        let mut rows = statement.query(rusqlite::params_from_iter(values)).map_err(fault)?;
        let mut found = Vec::new();
        while let Some(row) = rows.next().map_err(fault)? {
            let value = |column| row.get_ref(column).map_err(fault).and_then(value);
            found.push(Row((0..width).map(value).collect::<Result<_, _>>()?));
        }
        Ok(found)
    }

    pub(super) fn execute(&mut self, sql: &str, values: &[Value]) -> Result<u64, Fault> {
        let mut statement = self.0.prepare_cached(&translated(sql)).map_err(fault)?;
        let changed = statement.execute(rusqlite::params_from_iter(values)).map_err(fault)?;
        Ok(changed as u64)
    }

    pub(super) fn batch(&mut self, sql: &str) -> Result<(), Fault> {
        self.0.execute_batch(sql).map_err(fault)
    }
}

/// Makes the file for its owner alone, if there is none; SQLite gives the files beside it the same mode.
fn make_private(path: &Path) -> std::io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map(drop)
}

fn translated(sql: &str) -> String {
    sql.replace('$', "?")
}

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Value::Null => ValueRef::Null,
            Value::Int(number) => ValueRef::Integer(*number),
            Value::Text(text) => ValueRef::Text(text.as_bytes()),
            Value::Blob(bytes) => ValueRef::Blob(bytes),
        }))
    }
}

fn value(column: ValueRef<'_>) -> Result<Value, Fault> {
    Ok(match column {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(number) => Value::Int(number),
        ValueRef::Text(text) => Value::Text(String::from_utf8_lossy(text).into_owned()),
        ValueRef::Blob(bytes) => Value::Blob(bytes.to_vec()),
        ValueRef::Real(_) => return Err(Fault::Damaged("a fraction where none belongs".into())),
    })
}

fn fault(error: rusqlite::Error) -> Fault {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Fault::Conflict(error.to_string()),
        _ => Fault::Database(error.to_string()),
    }
}
