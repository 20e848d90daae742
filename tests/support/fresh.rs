//! What the tests of the store share: one test, run on both databases.

// Each test uses some of it.
#![allow(dead_code)]

use std::path::Path;

use super::postgres;
use layersift_store::Store;
use rusqlite::types::ValueRef;
use tempfile::TempDir;

/// A store that version 1 of the schema filled, as a SQLite file.
const VERSION_1: &str = "testdata/stores/version-1.db.zst";

/// The schema of version 1, with `{id}` and `{blob}` for types.
const SCHEMA_1: &str = include_str!("../../crates/store/src/schema/1.sql");

/// An empty store of a test, and its directory.
pub struct Fresh {
    /// The text that it is opened with.
    pub text: String,
    directory: Option<TempDir>,
}

impl Fresh {
    /// A store in a SQLite file.
    pub fn sqlite() -> Fresh {
        let directory = tempfile::tempdir().unwrap();
        let text = directory.path().join("store.db").to_str().unwrap().to_string();
        Fresh { text, directory: Some(directory) }
    }

    /// A store in a database of its own in the tests' PostgreSQL.
    pub fn postgres() -> Fresh {
        Fresh { text: postgres::database(), directory: None }
    }

    /// Another one, in the same kind of database.
    pub fn another(&self) -> Fresh {
        if self.is_file() { Fresh::sqlite() } else { Fresh::postgres() }
    }

    /// A store at this URL, which the caller keeps.
    pub fn at(url: String) -> Fresh {
        Fresh { text: url, directory: None }
    }

    /// Opens it; it can be opened more than once.
    pub fn open(&self) -> Store {
        Store::open(&self.text).unwrap()
    }

    /// Makes it the store of `testdata/stores`, before it is opened.
    pub fn fill_with_version_1(&self) {
        let packed = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(VERSION_1)).unwrap();
        let bytes = zstd::decode_all(&packed[..]).unwrap();
        if self.directory.is_some() {
            std::fs::write(&self.text, bytes).unwrap();
        } else {
            let directory = tempfile::tempdir().unwrap();
            let file = directory.path().join("version-1.db");
            std::fs::write(&file, bytes).unwrap();
            copy_version_1(&file, &self.text);
        }
    }

    /// Runs `sql` with bytes after it.
    pub fn set_bytes(&self, sql: &str, bytes: &[u8]) {
        let sql = format!("{sql} $1");
        if self.directory.is_some() {
            rusqlite::Connection::open(&self.text).unwrap().execute(&sql, [bytes]).unwrap();
        } else {
            self.postgres_client().execute(&sql, &[&bytes]).unwrap();
        }
    }

    /// How many rows a table has.
    pub fn count(&self, table: &str) -> i64 {
        let sql = format!("SELECT count(*) FROM {table}");
        if self.directory.is_some() {
            let connection = rusqlite::Connection::open(&self.text).unwrap();
            connection.query_row(&sql, [], |row| row.get(0)).unwrap()
        } else {
            self.postgres_client().query_one(&sql, &[]).unwrap().get(0)
        }
    }

    /// The rows of a query whose columns are all texts or numbers, in the order of their texts.
    pub fn rows(&self, sql: &str) -> Vec<String> {
        let mut rows = if self.is_file() {
            let connection = rusqlite::Connection::open(&self.text).unwrap();
            connection.busy_timeout(std::time::Duration::from_secs(60)).unwrap();
            let mut statement = connection.prepare(sql).unwrap();
            let width = statement.column_count();
            let text = |row: &rusqlite::Row<'_>| {
                let column = |at| match row.get_ref(at).unwrap() {
                    ValueRef::Null => "NULL".to_string(),
                    ValueRef::Integer(number) => number.to_string(),
                    other => other.as_str().unwrap().to_string(),
                };
                Ok((0..width).map(column).collect::<Vec<_>>().join("|"))
            };
            statement.query_map([], text).unwrap().map(Result::unwrap).collect::<Vec<String>>()
        } else {
            let messages = self.postgres_client().simple_query(sql).unwrap();
            let text = |message| match message {
                ::postgres::SimpleQueryMessage::Row(row) => {
                    let column = |at| row.get(at).unwrap_or("NULL").to_string();
                    Some((0..row.len()).map(column).collect::<Vec<_>>().join("|"))
                }
                _ => None,
            };
            messages.into_iter().filter_map(text).collect()
        };
        rows.sort_unstable();
        rows
    }

    /// Runs statements.
    pub fn execute(&self, sql: &str) {
        if self.is_file() {
            rusqlite::Connection::open(&self.text).unwrap().execute_batch(sql).unwrap();
        } else {
            self.postgres_client().batch_execute(sql).unwrap();
        }
    }

    /// Whether it is a SQLite file.
    pub fn is_file(&self) -> bool {
        self.directory.is_some()
    }

    fn postgres_client(&self) -> ::postgres::Client {
        ::postgres::Client::connect(&self.text, ::postgres::NoTls).unwrap()
    }
}

/// Makes an empty PostgreSQL database a store of version 1, with the rows of a SQLite file.
fn copy_version_1(file: &Path, url: &str) {
    let from = rusqlite::Connection::open(file).unwrap();
    let mut to = ::postgres::Client::connect(url, ::postgres::NoTls).unwrap();
    let id = "BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY";
    to.batch_execute(&SCHEMA_1.replace("{id}", id).replace("{blob}", "BYTEA")).unwrap();
    to.batch_execute("CREATE TABLE schema_versions (version BIGINT PRIMARY KEY)").unwrap();
    // In the order of the schema, each table refers only to those before it.
    let created = SCHEMA_1.lines().filter_map(|line| line.strip_prefix("CREATE TABLE ")?.strip_suffix(" ("));
    for table in created.chain(["schema_versions"]) {
        let mut statement = from.prepare(&format!("SELECT * FROM {table}")).unwrap();
        let columns: Vec<String> = statement.column_names().map(String::from).collect();
        let mut sink = to.copy_in(&format!("COPY {table} ({}) FROM STDIN", columns.join(", "))).unwrap();
        let mut rows = statement.query([]).unwrap();
        while let Some(row) = rows.next().unwrap() {
            let texts = (0..columns.len()).map(|column| copied(row.get_ref(column).unwrap()));
            let line = texts.collect::<Vec<_>>().join("\t") + "\n";
            std::io::Write::write_all(&mut sink, line.as_bytes()).unwrap();
        }
        sink.finish().unwrap();
        if columns.iter().any(|column| column == "id") {
            let sql = format!(
                "SELECT setval(pg_get_serial_sequence('{table}', 'id'), COALESCE(max(id), 0) + 1) \
                               FROM {table}"
            );
            to.batch_execute(&sql).unwrap();
        }
    }
}

/// A value in the form that COPY reads (PostgreSQL, COPY, "Text Format").
fn copied(value: ValueRef<'_>) -> String {
    match value {
        ValueRef::Null => "\\N".to_string(),
        ValueRef::Integer(number) => number.to_string(),
        ValueRef::Blob(bytes) => {
            let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("\\\\x{digits}")
        }
        other => other.as_str().unwrap().replace('\\', "\\\\").replace('\t', "\\t").replace('\n', "\\n"),
    }
}

/// Makes a test for each database of each function named.
#[macro_export]
macro_rules! on_both {
    ($($test:ident),+ $(,)?) => {
        mod sqlite {
            $(#[test] fn $test() { super::$test(&$crate::support::Fresh::sqlite()); })+
        }
        mod postgres {
            $(#[test] fn $test() { super::$test(&$crate::support::Fresh::postgres()); })+
        }
    };
}
