//! The two databases behind the store, as one: a connection that takes the same SQL, values and rows for both.
//!
//! Statements are written for PostgreSQL's `$1`, `$2`, … and read by SQLite as `?1`, `?2`, …; a `$` has no other use in
//! them. Texts lose their NUL characters on the way in, because PostgreSQL stores none and hostile paths have some.

mod postgres;
mod sqlite;
mod tls;

use super::error::Fault;
use super::location::Location;

/// A value that goes into a statement or comes out of a row.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    /// SQL's NULL.
    Null,
    /// A whole number of 64 bits.
    Int(i64),
    /// A text without NUL characters.
    Text(String),
    /// Bytes.
    Blob(Vec<u8>),
}

impl From<i64> for Value {
    fn from(number: i64) -> Value {
        Value::Int(number)
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Value {
        Value::Int(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl From<usize> for Value {
    fn from(number: usize) -> Value {
        Value::from(number as u64)
    }
}

impl From<bool> for Value {
    fn from(truth: bool) -> Value {
        Value::Int(i64::from(truth))
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Value {
        // U+2400 is the picture of a NUL.
        Value::Text(if text.contains('\0') { text.replace('\0', "\u{2400}") } else { text.to_string() })
    }
}

impl From<&String> for Value {
    fn from(text: &String) -> Value {
        Value::from(text.as_str())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Value {
        Value::from(text.as_str())
    }
}

impl From<&layersift_model::Digest> for Value {
    fn from(digest: &layersift_model::Digest) -> Value {
        Value::Text(digest.to_string())
    }
}

impl From<&[u8]> for Value {
    fn from(bytes: &[u8]) -> Value {
        Value::Blob(bytes.to_vec())
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Value {
        value.map_or(Value::Null, Into::into)
    }
}

/// A row of an answer.
#[derive(Clone, Debug)]
pub(super) struct Row(Vec<Value>);

impl Row {
    /// The number in a column.
    pub(super) fn int(&self, column: usize) -> Result<i64, Fault> {
        self.maybe_int(column)?.ok_or_else(|| wrong(column, "nothing where a number belongs"))
    }

    /// The number in a column that is never negative.
    pub(super) fn count(&self, column: usize) -> Result<u64, Fault> {
        u64::try_from(self.int(column)?).map_err(|_| wrong(column, "a number below zero"))
    }

    /// The number in a column, if there is one.
    pub(super) fn maybe_int(&self, column: usize) -> Result<Option<i64>, Fault> {
        match self.0.get(column) {
            Some(Value::Int(number)) => Ok(Some(*number)),
            Some(Value::Null) => Ok(None),
            _ => Err(wrong(column, "something other than a number")),
        }
    }

    /// The text in a column.
    pub(super) fn text(&self, column: usize) -> Result<String, Fault> {
        self.maybe_text(column)?.ok_or_else(|| wrong(column, "nothing where a text belongs"))
    }

    /// The text in a column, if there is one.
    pub(super) fn maybe_text(&self, column: usize) -> Result<Option<String>, Fault> {
        match self.0.get(column) {
            Some(Value::Text(text)) => Ok(Some(text.clone())),
            Some(Value::Null) => Ok(None),
            _ => Err(wrong(column, "something other than a text")),
        }
    }

    /// The digest in a column.
    pub(super) fn digest(&self, column: usize) -> Result<layersift_model::Digest, Fault> {
        Ok(self.text(column)?.parse()?)
    }

    /// The digest in a column, if there is one.
    pub(super) fn maybe_digest(&self, column: usize) -> Result<Option<layersift_model::Digest>, Fault> {
        Ok(self.maybe_text(column)?.map(|text| text.parse()).transpose()?)
    }

    /// The bytes in a column.
    pub(super) fn blob(&self, column: usize) -> Result<Vec<u8>, Fault> {
        match self.0.get(column) {
            Some(Value::Blob(bytes)) => Ok(bytes.clone()),
            _ => Err(wrong(column, "something other than bytes")),
        }
    }
}

fn wrong(column: usize, what: &str) -> Fault {
    Fault::Damaged(format!("{what} in column {column} of an answer"))
}

/// What a transaction is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// It only reads, and sees one state of the store.
    Read,
    /// It may write.
    Write,
}

/// A connection to either database.
pub(super) enum Connection {
    /// The embedded database.
    Sqlite(sqlite::Sqlite),
    /// The server.
    Postgres(Box<postgres::Postgres>),
}

impl Connection {
    /// A new connection to the store at `location`.
    pub(super) fn open(location: &Location) -> Result<Connection, Fault> {
        match location {
            Location::File(path) => sqlite::Sqlite::open(path).map(Connection::Sqlite),
            Location::Server(server) => {
                postgres::Postgres::open(server).map(|session| Connection::Postgres(Box::new(session)))
            }
        }
    }

    /// The rows that a statement answers with.
    pub(super) fn query(&mut self, sql: &str, values: &[Value]) -> Result<Vec<Row>, Fault> {
        match self {
            Connection::Sqlite(session) => session.query(sql, values),
            Connection::Postgres(session) => session.query(sql, values),
        }
    }

    /// The first row that a statement answers with.
    pub(super) fn query_one(&mut self, sql: &str, values: &[Value]) -> Result<Option<Row>, Fault> {
        Ok(self.query(sql, values)?.into_iter().next())
    }

    /// Runs a statement without an answer; the number of rows that it changed.
    pub(super) fn execute(&mut self, sql: &str, values: &[Value]) -> Result<u64, Fault> {
        match self {
            Connection::Sqlite(session) => session.execute(sql, values),
            Connection::Postgres(session) => session.execute(sql, values),
        }
    }

    /// Runs several statements, separated by semicolons.
    pub(super) fn batch(&mut self, sql: &str) -> Result<(), Fault> {
        match self {
            Connection::Sqlite(session) => session.batch(sql),
            Connection::Postgres(session) => session.batch(sql),
        }
    }

    /// Inserts `rows` of `width` values each: `before` ends where `VALUES` begins, `after` follows them.
    pub(super) fn insert(&mut self, before: &str, width: usize, rows: &[Value], after: &str) -> Result<u64, Fault> {
        // Few sizes of statements, so that they are prepared once; and fewer values than either database takes.
        const SIZES: [usize; 4] = [64, 16, 4, 1];
        let mut left = rows;
        let mut changed = 0;
        for size in SIZES {
            while left.len() >= size * width && width > 0 {
                let (now, later) = left.split_at(size * width);
                changed += self.execute(&format!("{before} VALUES {} {after}", groups(size, width)), now)?;
                left = later;
            }
        }
        Ok(changed)
    }

    /// What the schema is written with: the type of a numbered primary key, and that of bytes.
    pub(super) fn dialect(&self) -> [(&'static str, &'static str); 2] {
        match self {
            Connection::Sqlite(_) => [("{id}", "INTEGER PRIMARY KEY AUTOINCREMENT"), ("{blob}", "BLOB")],
            Connection::Postgres(_) => {
                [("{id}", "BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY"), ("{blob}", "BYTEA")]
            }
        }
    }

    /// What makes a `SELECT` take rows for itself and pass over those that another transaction has taken. SQLite has
    /// one writer at a time, and needs nothing.
    pub(super) fn skip_locked(&self) -> &'static str {
        match self {
            Connection::Sqlite(_) => "",
            Connection::Postgres(_) => "FOR UPDATE SKIP LOCKED",
        }
    }

    /// Whether there is a table called `name`.
    pub(super) fn has_table(&mut self, name: &str) -> Result<bool, Fault> {
        let sql = match self {
            Connection::Sqlite(_) => "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = $1",
            Connection::Postgres(_) => "SELECT 1 WHERE to_regclass($1) IS NOT NULL",
        };
        Ok(self.query_one(sql, &[Value::from(name)])?.is_some())
    }

    /// Waits until no other process changes the schema, to the end of the transaction.
    pub(super) fn lock_schema(&mut self) -> Result<(), Fault> {
        match self {
            // BEGIN IMMEDIATE holds everybody off already.
            Connection::Sqlite(_) => Ok(()),
            Connection::Postgres(session) => session.lock_schema(),
        }
    }

    /// Begins a transaction.
    pub(super) fn begin(&mut self, mode: Mode) -> Result<(), Fault> {
        let sql = match (&self, mode) {
            (Connection::Sqlite(_), Mode::Read) => "BEGIN DEFERRED",
            (Connection::Sqlite(_), Mode::Write) => "BEGIN IMMEDIATE",
            (Connection::Postgres(_), Mode::Read) => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
            (Connection::Postgres(_), Mode::Write) => "BEGIN",
        };
        self.batch(sql)
    }

    /// The rows of `findings f` under `condition`, looked up anew for each row in front of this join. PostgreSQL would
    /// rather read all findings that a part of the condition admits, where it takes that for a few.
    pub(super) fn findings_of_each(&self, condition: &str) -> String {
        match self {
            Connection::Sqlite(_) => format!("CROSS JOIN findings f ON {condition}"),
            Connection::Postgres(_) => {
                format!("CROSS JOIN LATERAL (SELECT * FROM findings f WHERE {condition} OFFSET 0) AS f")
            }
        }
    }

    /// The same as [`NOT_EXCEPTED`], for findings `f` of which `condition` holds. SQLite looks for each; PostgreSQL is
    /// quicker with all that any image says of such findings at hand.
    pub(super) fn is_not_excepted(&self, condition: &str) -> String {
        match self {
            Connection::Sqlite(_) => NOT_EXCEPTED.into(),
            Connection::Postgres(_) => format!(
                "(il.image_id, il.position, f.id) NOT IN (SELECT x.image_id, x.position, x.finding \
                 FROM findings f CROSS JOIN image_findings x WHERE {condition} AND (f.shared = 0 OR f.excepted = 1) \
                 AND x.finding = f.id)"
            ),
        }
    }

    /// Makes the transaction look rows up one by one: what a trace joins is few rows of large tables, and a planner
    /// that reads whole tables instead is right for small ones only.
    pub(super) fn prefer_lookups(&mut self) -> Result<(), Fault> {
        match self {
            Connection::Sqlite(_) => Ok(()),
            Connection::Postgres(session) => session.batch(postgres::LOOKUPS),
        }
    }

    /// Lets the database look at its tables anew, for better plans; PostgreSQL also notes which pages hold only rows
    /// that everyone sees, so that an index alone answers. Not in a transaction.
    pub(super) fn tidy(&mut self) -> Result<(), Fault> {
        match self {
            // A sample of each index is enough.
            Connection::Sqlite(file) => file.batch("PRAGMA analysis_limit = 1000; ANALYZE"),
            Connection::Postgres(session) => session.batch("VACUUM (ANALYZE, SKIP_LOCKED)"),
        }
    }

    /// Whether the connection cannot be used any more.
    pub(super) fn is_lost(&self) -> bool {
        match self {
            Connection::Sqlite(_) => false,
            Connection::Postgres(session) => session.is_lost(),
        }
    }
}

/// A condition on a layer `il` of an image and a finding `f` in it: the image says nothing else of it.
pub(super) const NOT_EXCEPTED: &str = "NOT EXISTS (SELECT 1 FROM image_findings x WHERE x.image_id = il.image_id \
                                       AND x.finding = f.id AND x.position = il.position)";

/// `size` groups of `width` numbered parameters: `($1,$2),($3,$4)`.
fn groups(size: usize, width: usize) -> String {
    let group = |row: usize| {
        let numbers: Vec<String> = (1..=width).map(|column| format!("${}", row * width + column)).collect();
        format!("({})", numbers.join(","))
    };
    (0..size).map(group).collect::<Vec<_>>().join(",")
}

/// `values` for an `IN` list, and its parameters from `$first` on. The last is repeated up to a power of two, so that
/// few different statements are prepared. An empty list gets one value that nothing equals.
pub(super) fn list(values: impl IntoIterator<Item = Value>, first: usize) -> (Vec<Value>, String) {
    let mut values: Vec<Value> = values.into_iter().collect();
    let last = values.last().cloned().unwrap_or(Value::Null);
    values.resize(values.len().max(1).next_power_of_two(), last);
    let numbers: Vec<String> = (first..first + values.len()).map(|number| format!("${number}")).collect();
    (values, numbers.join(","))
}
