//! SQLite, embedded.

use std::hash::{BuildHasher, RandomState};
use std::io::ErrorKind;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::limits::Limit;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{CachedStatement, ErrorCode, OpenFlags, ToSql};

use super::bounds::{Answer, MOST_VALUE, Size, too_large};
use super::{Opening, Row, Value, trusted};
use crate::error::{DatabaseError, Fault};

/// How long a statement waits for another process.
const BUSY: Duration = Duration::from_secs(30);

/// How many prepared statements a connection keeps.
const STATEMENTS: usize = 256;

/// The most bytes that SQLite allocates, for all connections of the process. Without a limit, a file that somebody else
/// wrote decides how much it takes to sort rows or to read one; the largest value that is written takes twice its size
/// while it is written, beside the pages that are kept.
const MOST_MEMORY: usize = 160 << 20;

/// A connection to a file.
pub(crate) struct Sqlite(rusqlite::Connection);

impl Sqlite {
    /// Opens the file at `path`. Where there is none it is created, if `opening` allows that.
    pub(super) fn open(path: &Path, opening: Opening) -> Result<Sqlite, Fault> {
        let mut flags = OpenFlags::default();
        // A name is the name of a file, whatever it begins with.
        flags.remove(OpenFlags::SQLITE_OPEN_URI);
        trusted::check(path)?;
        match opening {
            Opening::Create => {
                create_private(path).map_err(|error| Fault::Database(DatabaseError::Create(error)))?;
            }
            Opening::Existing => flags.remove(OpenFlags::SQLITE_OPEN_CREATE),
        }
        let connection = rusqlite::Connection::open_with_flags(path, flags).map_err(fault)?;
        connection.set_limit(Limit::SQLITE_LIMIT_LENGTH, MOST_VALUE as i32).map_err(fault)?;
        connection.busy_timeout(BUSY).map_err(fault)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        // A file remembers that it has a write-ahead log, and one that is not a store must not get one.
        if opening == Opening::Create {
            use_write_ahead_log(&connection)?;
        }
        // A connection may keep 32 MiB of pages, and all connections of the process together.
        let settings = "PRAGMA synchronous = NORMAL; PRAGMA foreign_keys = ON; PRAGMA cache_size = -32768; \
                        PRAGMA soft_heap_limit = 33554432; PRAGMA temp_store = MEMORY;";
        connection.execute_batch(settings).map_err(fault)?;
        connection.execute_batch(&format!("PRAGMA hard_heap_limit = {MOST_MEMORY};")).map_err(fault)?;
        Ok(Sqlite(connection))
    }

    pub(super) fn each(
        &mut self,
        sql: &str,
        values: &[Value],
        answer: &mut Answer,
        take: &mut dyn FnMut(Row) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let mut statement = self.bound(sql, values)?;
        let names: Vec<String> = statement.column_names().map(String::from).collect();
        let mut rows = statement.raw_query();
        while let Some(row) = rows.next().map_err(fault)? {
            let columns = (0..names.len()).map(|column| row.get_ref(column).map_err(fault));
            let columns: Vec<ValueRef<'_>> = columns.collect::<Result<_, _>>()?;
            answer.admit(names.iter().zip(&columns).map(|(name, column)| (name.as_str(), size(*column))))?;
            take(Row::new(columns.into_iter().map(value).collect::<Result<_, _>>()?))?;
        }
        Ok(())
    }

    pub(super) fn execute(&mut self, sql: &str, values: &[Value]) -> Result<u64, Fault> {
        let changed = self.bound(sql, values)?.raw_execute().map_err(fault)?;
        Ok(changed as u64)
    }

    /// The statement with its values. SQLite takes `$1` for a name, and numbers names in the order of their first use.
    fn bound(&mut self, sql: &str, values: &[Value]) -> Result<CachedStatement<'_>, Fault> {
        let mut statement = self.0.prepare_cached(sql).map_err(fault)?;
        for index in 1..=statement.parameter_count() {
            let number = statement.parameter_name(index).and_then(|name| name.strip_prefix('$')?.parse::<usize>().ok());
            let value = number.and_then(|number| values.get(number.checked_sub(1)?)).unwrap_or(&Value::Null);
            statement.raw_bind_parameter(index, value).map_err(fault)?;
        }
        Ok(statement)
    }

    pub(super) fn batch(&mut self, sql: &str) -> Result<(), Fault> {
        self.0.execute_batch(sql).map_err(fault)
    }
}

/// Gives the file a write-ahead log. Of several processes that do so at once SQLite lets one, and tells the others
/// that the file is busy without waiting (<https://sqlite.org/wal.html>, section 9): its busy handler might wait in a
/// circle.
fn use_write_ahead_log(connection: &rusqlite::Connection) -> Result<(), Fault> {
    let started = Instant::now();
    loop {
        match connection.execute_batch("PRAGMA journal_mode = WAL").map_err(fault) {
            Err(Fault::Conflict(_)) if started.elapsed() < BUSY => {
                thread::sleep(Duration::from_millis(fastrand::u64(2..20)));
            }
            done => return done,
        }
    }
}

/// Creates the file for its owner alone where there is none, and its directory where that is missing; SQLite gives the
/// files next to it the same mode.
///
/// The database file itself is never opened here: closing any descriptor of a file drops all POSIX locks that the
/// process has on it, those of SQLite too (<https://sqlite.org/howtocorrupt.html>, section 2.2). An empty file is
/// created under another name, and gets the name of the store when it is closed.
fn create_private(path: &Path) -> std::io::Result<()> {
    if path.symlink_metadata().is_ok() {
        return Ok(());
    }
    // Everybody can write to the volumes of some clusters, and not to a directory in them.
    if let Some(directory) = path.parent().filter(|parent| !parent.as_os_str().is_empty() && !parent.exists()) {
        let mut builder = std::fs::DirBuilder::new();
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(directory).or_else(|error| if directory.exists() { Ok(()) } else { Err(error) })?;
    }
    let random = RandomState::new().hash_one(std::process::id());
    let new = path.with_file_name(format!(".layersift-{random:016x}.new"));
    create_new(&new)?;
    let linked = std::fs::hard_link(&new, path);
    std::fs::remove_file(&new)?;
    match linked {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        // A file system without hard links.
        Err(_) => create_in_place(path),
        Ok(()) => Ok(()),
    }
}

/// Creates the file under its own name. The lock keeps other threads from opening it before it is closed here.
fn create_in_place(path: &Path) -> std::io::Result<()> {
    static CREATING: Mutex<()> = Mutex::new(());
    let _creating = CREATING.lock().unwrap_or_else(PoisonError::into_inner);
    match create_new(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        created => created,
    }
}

fn create_new(path: &Path) -> std::io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map(drop)
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

fn size(column: ValueRef<'_>) -> Size {
    match column {
        ValueRef::Null | ValueRef::Integer(_) | ValueRef::Real(_) => Size::Fixed,
        ValueRef::Text(text) => Size::Text(text.len()),
        ValueRef::Blob(bytes) => Size::Bytes(bytes.len()),
    }
}

fn value(column: ValueRef<'_>) -> Result<Value, Fault> {
    Ok(match column {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(number) => Value::Int(number),
        // With characters in the place of what is none, it might become three times as long.
        ValueRef::Text(text) => {
            let text = std::str::from_utf8(text).map_err(|_| Fault::Damaged("a text that is not UTF-8".into()))?;
            Value::Text(text.into())
        }
        ValueRef::Blob(bytes) => Value::Blob(bytes.to_vec()),
        ValueRef::Real(_) => return Err(Fault::Damaged("a fraction, expected a whole number".into())),
    })
}

fn fault(error: rusqlite::Error) -> Fault {
    match error.sqlite_error_code() {
        // The last of the three is a race for the write-ahead log that SQLite gave up (SQLITE_PROTOCOL).
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::FileLockingProtocolFailed) => {
            Fault::Conflict(error.into())
        }
        Some(ErrorCode::TooBig) => too_large("value", None, "a row", MOST_VALUE),
        Some(ErrorCode::OutOfMemory) => {
            let most = MOST_MEMORY >> 20;
            Fault::Memory(format!("rows that are too large: SQLite needs more than {most} MiB of memory for them"))
        }
        _ => Fault::Database(error.into()),
    }
}
