//! SQLite and PostgreSQL as one: a connection that takes the same SQL and values, and answers with the same rows.
//!
//! The parameters of a statement are `$1`, `$2`, … on both. Texts lose their NUL characters on the way in, because
//! PostgreSQL does not store them and hostile paths have some.

mod bounds;
mod postgres;
mod row;
mod sqlite;
mod tls;
mod trusted;
mod value;

use super::error::Fault;
use super::ids::ImageId;
use super::location::Location;
use super::page::Page;

pub(super) use self::bounds::{Answer, MOST_TEXT, MOST_WRITTEN, too_large};
pub(super) use self::row::{Columns, FromRow, Row, row};
pub(super) use self::value::{FromValue, Value, named};

/// What a transaction is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// It only reads, and sees one state of the store.
    Read,
    /// It may write.
    Write,
}

/// Whether a store is created where there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opening {
    /// It is created.
    Create,
    /// It has to exist.
    Existing,
}

/// What a committed transaction leaves in the table `commits`. It decides whether the transaction was committed where
/// the connection broke before the server's answer came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    /// Stands for the connection.
    session: String,
    /// Counts the transactions of the connection.
    number: u64,
}

/// How many values an `IN` list has at most.
pub(super) const LIST: usize = 1024;

/// A connection to either database.
pub(super) enum Connection {
    /// The embedded database.
    Sqlite(sqlite::Sqlite),
    /// The server.
    Postgres(Box<postgres::Postgres>),
}

impl Connection {
    /// A new connection to the store at `location`.
    pub(super) fn open(location: &Location, opening: Opening) -> Result<Connection, Fault> {
        match location {
            Location::File(path) => sqlite::Sqlite::open(path, opening).map(Connection::Sqlite),
            Location::Server(server) => {
                postgres::Postgres::open(server).map(|session| Connection::Postgres(Box::new(session)))
            }
        }
    }

    /// The rows that a statement answers with.
    pub(super) fn query<R: FromRow>(&mut self, sql: &str, values: &[Value]) -> Result<Vec<R>, Fault> {
        let mut rows = Vec::new();
        self.each(sql, values, &mut Answer::default(), |row| {
            rows.push(row);
            Ok(())
        })?;
        Ok(rows)
    }

    /// Calls `take` with each row that a statement answers with, as one after the other is read. What it keeps of them
    /// is its own affair; all of them together are bounded as what `answer` has taken in.
    pub(super) fn each<R: FromRow>(
        &mut self,
        sql: &str,
        values: &[Value],
        answer: &mut Answer,
        mut take: impl FnMut(R) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let mut take = |mut row: Row| take(R::from_row(&mut row)?);
        match self {
            Connection::Sqlite(session) => session.each(sql, values, answer, &mut take),
            Connection::Postgres(session) => session.each(sql, values, answer, &mut take),
        }
    }

    /// The first row that a statement answers with.
    pub(super) fn query_one<R: FromRow>(&mut self, sql: &str, values: &[Value]) -> Result<Option<R>, Fault> {
        Ok(self.query(sql, values)?.into_iter().next())
    }

    /// The only column of the rows that a statement answers with.
    pub(super) fn column<T: FromValue>(&mut self, sql: &str, values: &[Value]) -> Result<Vec<T>, Fault> {
        Ok(self.query(sql, values)?.into_iter().map(|(value,)| value).collect())
    }

    /// The only column of the first row that a statement answers with.
    pub(super) fn value<T: FromValue>(&mut self, sql: &str, values: &[Value]) -> Result<Option<T>, Fault> {
        Ok(self.query_one(sql, values)?.map(|(value,)| value))
    }

    /// The rows of a `SELECT` whose columns are those of `R`; `rest` begins with `FROM`.
    pub(super) fn select<R: Columns>(&mut self, rest: &str, values: &[Value]) -> Result<Vec<R>, Fault> {
        self.query(&format!("SELECT {} {rest}", R::COLUMNS), values)
    }

    /// The same for as many values as there are: `rest` is made with the parameters of an `IN` list, and run in as many
    /// steps as it takes. `first` are the values before those of the list.
    pub(super) fn select_in<R: Columns>(
        &mut self,
        rest: impl Fn(&str) -> String,
        first: &[Value],
        values: &[Value],
    ) -> Result<Vec<R>, Fault> {
        self.query_in(|list| format!("SELECT {} {}", R::COLUMNS, rest(list)), first, values)
    }

    /// The rows of a statement that is made with the parameters of an `IN` list, as [`Connection::select_in`].
    pub(super) fn query_in<R: FromRow>(
        &mut self,
        sql: impl Fn(&str) -> String,
        first: &[Value],
        values: &[Value],
    ) -> Result<Vec<R>, Fault> {
        let (mut rows, mut answer) = (Vec::new(), Answer::default());
        for some in values.chunks(LIST) {
            let (some, numbers) = list(some.iter().cloned(), first.len() + 1);
            self.each(&sql(&numbers), &[first, &some].concat(), &mut answer, |row| {
                rows.push(row);
                Ok(())
            })?;
        }
        Ok(rows)
    }

    /// The first `limit` rows of the ordered statement `sql`, which is without its `LIMIT`.
    pub(super) fn page<R: FromRow>(&mut self, sql: &str, values: &[Value], limit: usize) -> Result<Page<R>, Fault> {
        let sql = format!("{sql} LIMIT ${}", values.len() + 1);
        let values = [values, &[limit.saturating_add(1).into()]].concat();
        Ok(Page::of(self.query(&sql, &values)?, limit))
    }

    /// Runs a statement without an answer; the number of rows that it changed.
    pub(super) fn execute(&mut self, sql: &str, values: &[Value]) -> Result<u64, Fault> {
        bounds::check_written(values)?;
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

    /// A step of the schema in the words of this database. The step has `{id}` for the type of a numbered primary key
    /// and `{blob}` for that of bytes.
    pub(super) fn schema(&self, step: &str) -> String {
        let (id, blob) = match self {
            Connection::Sqlite(_) => ("INTEGER PRIMARY KEY AUTOINCREMENT", "BLOB"),
            Connection::Postgres(_) => ("BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY", "BYTEA"),
        };
        step.replace("{id}", id).replace("{blob}", blob)
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
        Ok(self.value::<i64>(sql, &[Value::from(name)])?.is_some())
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
            // Each statement sees what others have committed by then, whatever the server's default is: a row that
            // another transaction was quicker to insert is there for the next `SELECT`.
            (Connection::Postgres(_), Mode::Write) => "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE",
        };
        self.batch(sql)
    }

    /// Commits a transaction. After [`Fault::Lost`] the mark says whether it was committed; see
    /// [`Connection::was_committed`].
    pub(super) fn commit(&mut self, mark: Option<&Mark>) -> Result<(), Fault> {
        match (self, mark) {
            (Connection::Postgres(session), Some(mark)) => session.commit(mark),
            (connection, _) => connection.batch("COMMIT"),
        }
    }

    /// The mark that the transaction in progress leaves when it is committed; `None` where no connection can break.
    pub(super) fn next_mark(&mut self, mode: Mode) -> Option<Mark> {
        match (self, mode) {
            (Connection::Postgres(session), Mode::Write) => Some(session.next_mark()),
            _ => None,
        }
    }

    /// Whether the transaction with this mark, which another connection had, was committed. If not, it never will be:
    /// a row of this transaction takes the place of its mark.
    pub(super) fn was_committed(&mut self, mark: &Mark) -> Result<bool, Fault> {
        let values = [Value::from(&mark.session), mark.number.into()];
        self.begin(Mode::Write)?;
        // Waits for the end of the transaction, if it is still in progress.
        let void = "INSERT INTO commits (session, number, is_void, written_at) \
                    VALUES ($1, $2, 1, CAST(extract(epoch FROM now()) AS BIGINT)) ON CONFLICT DO NOTHING";
        self.execute(void, &values)?;
        let is_void = "SELECT is_void FROM commits WHERE session = $1 AND number = $2";
        let is_void: Option<bool> = self.value(is_void, &values)?;
        self.batch("COMMIT")?;
        Ok(is_void == Some(false))
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

    /// Makes other transactions that do the same to the image wait until this one ends.
    pub(super) fn lock_image(&mut self, image: ImageId) -> Result<(), Fault> {
        match self {
            // BEGIN IMMEDIATE holds everybody off already.
            Connection::Sqlite(_) => Ok(()),
            Connection::Postgres(_) => {
                // Weaker than FOR UPDATE: others may insert rows that refer to the image.
                let sql = "SELECT id FROM images WHERE id = $1 FOR NO KEY UPDATE";
                self.query::<(ImageId,)>(sql, &[image.into()]).map(drop)
            }
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

    /// Updates the statistics of the tables, for better plans; PostgreSQL also notes which pages have only rows that
    /// all transactions see, so that an index alone answers. Not in a transaction.
    pub(super) fn optimize(&mut self) -> Result<(), Fault> {
        match self {
            // A sample of each index is enough.
            Connection::Sqlite(file) => file.batch("PRAGMA analysis_limit = 1000; ANALYZE"),
            Connection::Postgres(session) => {
                // Of connections that ended a day ago nobody asks any more.
                session.batch(
                    "DELETE FROM commits WHERE written_at < CAST(extract(epoch FROM now()) AS BIGINT) - 86400",
                )?;
                session.batch("VACUUM (ANALYZE, SKIP_LOCKED)")
            }
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
