//! PostgreSQL, over the network.

use std::collections::HashMap;
use std::error::Error;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::sync::Arc;

use postgres::fallible_iterator::FallibleIterator;
use postgres::types::{IsNull, ToSql, Type, to_sql_checked};
use postgres::{Client, NoTls, Statement};

use super::bounds::{Answer, Column, Size, bounded};
use super::{Mark, Row, Value, tls};
use crate::error::{DatabaseError, Fault};
use crate::location::Server;

/// How many prepared statements a connection keeps; when there are more, it forgets them all.
const STATEMENTS: usize = 256;

/// The advisory lock that is held while the schema is changed: any number, but always the same.
const SCHEMA_LOCK: i64 = 0x6c61_7965_7273;

/// What a connection is set to: times out instead of waiting for ever, and compiles no plans, which takes longer than
/// any of ours runs.
const SETTINGS: &str = "SET jit = off; SET lock_timeout = '60s'; SET idle_in_transaction_session_timeout = '5min'; \
                        SET client_min_messages = warning;";

/// What makes a transaction join by index, in the order that its statements are written in, with plans made once.
pub(super) const LOOKUPS: &str = "SET LOCAL enable_seqscan = off; SET LOCAL enable_hashjoin = off; \
                                  SET LOCAL enable_mergejoin = off; SET LOCAL random_page_cost = 1.1; \
                                  SET LOCAL join_collapse_limit = 1; \
                                  SET LOCAL plan_cache_mode = force_generic_plan;";

/// A connection to a server.
pub(crate) struct Postgres {
    client: Client,
    /// The statements that were prepared, by their SQL; those that answer with rows are bounded.
    statements: HashMap<String, Statement>,
    bounded: HashMap<String, Bounded>,
    /// What the marks of this connection have in common.
    session: String,
    /// The number of its last mark.
    marks: u64,
}

/// A statement that answers with rows of bounded sizes.
#[derive(Clone)]
struct Bounded {
    statement: Statement,
    /// What the columns that were asked for are called. Sizes come after them.
    names: Arc<[String]>,
}

impl Postgres {
    /// Connects to `server`.
    pub(super) fn open(server: &Server) -> Result<Postgres, Fault> {
        let connected = match tls::connector(server)? {
            Some(tls) => server.config().connect(tls),
            None => server.config().connect(NoTls),
        };
        let mut client = connected.map_err(fault)?;
        client.batch_execute(SETTINGS).map_err(fault)?;
        // Random by the operating system, so that no two connections to a server have the same.
        let random = RandomState::new();
        let session = format!("{:016x}{:016x}", random.hash_one(0), random.hash_one(std::process::id()));
        Ok(Postgres { client, statements: HashMap::new(), bounded: HashMap::new(), session, marks: 0 })
    }

    /// The mark that the transaction in progress leaves when it is committed.
    pub(super) fn next_mark(&mut self) -> Mark {
        self.marks += 1;
        Mark { session: self.session.clone(), number: self.marks }
    }

    /// Commits the transaction together with `mark`, in one message to the server. A transaction that wrote nothing
    /// leaves no mark: it may as well run again.
    pub(super) fn commit(&mut self, mark: &Mark) -> Result<(), Fault> {
        const WROTE: &str = "txid_current_if_assigned() IS NOT NULL";
        let Mark { session, number } = mark;
        // The session is of hexadecimal digits: nothing is quoted.
        self.batch(&format!(
            "INSERT INTO commits (session, number, is_void, written_at) \
             SELECT '{session}', {number}, 0, CAST(extract(epoch FROM now()) AS BIGINT) WHERE {WROTE}; \
             DELETE FROM commits WHERE session = '{session}' AND number < {number} AND {WROTE}; COMMIT"
        ))
    }

    pub(super) fn each(
        &mut self,
        sql: &str,
        values: &[Value],
        answer: &mut Answer,
        take: &mut dyn FnMut(Row) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let Bounded { statement, names } = self.bounded(sql)?;
        let mut rows = self.client.query_raw(&statement, parameters(values)).map_err(fault)?;
        while let Some(row) = rows.next().map_err(fault)? {
            let sizes = sizes(&row, names.len())?;
            answer.admit(names.iter().map(String::as_str).zip(sizes.iter().copied()))?;
            take(columns(&row, &sizes)?)?;
        }
        Ok(())
    }

    pub(super) fn execute(&mut self, sql: &str, values: &[Value]) -> Result<u64, Fault> {
        let statement = self.prepared(sql)?;
        self.client.execute(&statement, &parameters(values)).map_err(fault)
    }

    pub(super) fn batch(&mut self, sql: &str) -> Result<(), Fault> {
        self.client.batch_execute(sql).map_err(fault)
    }

    pub(super) fn lock_schema(&mut self) -> Result<(), Fault> {
        self.execute("SELECT CAST(pg_advisory_xact_lock($1) AS TEXT)", &[Value::Int(SCHEMA_LOCK)]).map(drop)
    }

    pub(super) fn is_lost(&self) -> bool {
        self.client.is_closed()
    }

    /// The statement that answers as `sql` does, without what is too large.
    fn bounded(&mut self, sql: &str) -> Result<Bounded, Fault> {
        if let Some(known) = self.bounded.get(sql) {
            return Ok(known.clone());
        }
        let plain = self.client.prepare(sql).map_err(fault)?;
        let columns = plain.columns().iter().map(kind).collect::<Result<Vec<Column>, _>>()?;
        let names = plain.columns().iter().map(|column| column.name().to_string()).collect();
        let statement = match bounded(sql, &columns) {
            Some(sql) => self.client.prepare(&sql).map_err(fault)?,
            None => plain,
        };
        if self.bounded.len() >= STATEMENTS {
            self.bounded.clear();
        }
        let known = Bounded { statement, names };
        self.bounded.insert(sql.to_string(), known.clone());
        Ok(known)
    }

    fn prepared(&mut self, sql: &str) -> Result<Statement, Fault> {
        if let Some(statement) = self.statements.get(sql) {
            return Ok(statement.clone());
        }
        if self.statements.len() >= STATEMENTS {
            self.statements.clear();
        }
        let statement = self.client.prepare(sql).map_err(fault)?;
        self.statements.insert(sql.to_string(), statement.clone());
        Ok(statement)
    }
}

fn parameters(values: &[Value]) -> Vec<&(dyn ToSql + Sync)> {
    values.iter().map(|value| value as &(dyn ToSql + Sync)).collect()
}

impl ToSql for Value {
    fn to_sql(&self, kind: &Type, out: &mut bytes::BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        match self {
            Value::Null => Ok(IsNull::Yes),
            // A comparison with a constant may make a parameter narrower than the numbers of the store.
            Value::Int(number) if *kind == Type::INT4 => i32::try_from(*number)?.to_sql(kind, out),
            Value::Int(number) => number.to_sql(kind, out),
            Value::Text(text) => text.to_sql(kind, out),
            Value::Blob(bytes) => bytes.to_sql(kind, out),
        }
    }

    fn accepts(kind: &Type) -> bool {
        [Type::INT4, Type::INT8, Type::TEXT, Type::BYTEA].contains(kind)
    }

    to_sql_checked!();
}

/// What can be in a column. A value of a type that no store has might be of any size.
fn kind(column: &postgres::Column) -> Result<Column, Fault> {
    match *column.type_() {
        Type::INT8 | Type::INT4 | Type::BOOL => Ok(Column::Fixed),
        Type::TEXT => Ok(Column::Text),
        Type::BYTEA => Ok(Column::Bytes),
        ref other => Err(Fault::Damaged(format!("the column {} of the type {other}", column.name()))),
    }
}

/// The sizes of the first `width` columns. Those of texts and bytes follow after them.
fn sizes(row: &postgres::Row, width: usize) -> Result<Vec<Size>, Fault> {
    let mut at = width;
    let mut next = || -> Result<Option<usize>, Fault> {
        let size: Option<i32> = row.try_get(at).map_err(fault)?;
        at += 1;
        Ok(size.and_then(|size| usize::try_from(size).ok()))
    };
    let size = |column: &postgres::Column| {
        Ok(match *column.type_() {
            Type::TEXT => next()?.map_or(Size::Fixed, Size::Text),
            Type::BYTEA => next()?.map_or(Size::Fixed, Size::Bytes),
            _ => Size::Fixed,
        })
    };
    row.columns().iter().take(width).map(size).collect()
}

/// The columns that have `sizes`.
fn columns(row: &postgres::Row, sizes: &[Size]) -> Result<Row, Fault> {
    let value = |(column, size): (usize, &Size)| {
        let value = value(row, column).map_err(fault)?;
        match (size, &value) {
            (Size::Text(_) | Size::Bytes(_), Value::Null) => Err(Fault::Damaged("a column that was not sent".into())),
            _ => Ok(value),
        }
    };
    sizes.iter().enumerate().map(value).collect::<Result<_, _>>().map(Row::new)
}

fn value(row: &postgres::Row, column: usize) -> Result<Value, postgres::Error> {
    match *row.columns().get(column).map_or(&Type::TEXT, |column| column.type_()) {
        Type::INT8 => row.try_get::<_, Option<i64>>(column).map(Value::from),
        Type::INT4 => row.try_get::<_, Option<i32>>(column).map(|number| number.map(i64::from).into()),
        Type::BOOL => row.try_get::<_, Option<bool>>(column).map(Value::from),
        Type::BYTEA => row.try_get::<_, Option<&[u8]>>(column).map(Value::from),
        _ => row.try_get::<_, Option<&str>>(column).map(Value::from),
    }
}

fn fault(error: postgres::Error) -> Fault {
    let is_broken = error.is_closed() || error.source().is_some_and(|source| source.is::<io::Error>());
    // The error's own text leaves out what the server answered.
    let message = match (error.as_db_error(), error.source()) {
        (Some(answer), _) => answer.message().to_string(),
        (None, Some(source)) => format!("{error}: {source}"),
        (None, None) => error.to_string(),
    };
    let code = error.code().map(|code| code.code().to_string());
    // The codes are those of PostgreSQL, appendix A.
    let fault = match code.as_deref() {
        // serialization_failure, deadlock_detected, lock_not_available; and unique_violation and foreign_key_violation,
        // which are races here: another transaction has written the same, or removed what this one refers to.
        Some("40001" | "40P01" | "55P03" | "23505" | "23503") => Fault::Conflict,
        // The server shuts down, crashed or starts, or has no connection left; class 08 are broken connections.
        Some("57P01" | "57P02" | "57P03" | "53300") => Fault::Lost,
        Some(code) if code.starts_with("08") => Fault::Lost,
        None if is_broken => Fault::Lost,
        _ => Fault::Database,
    };
    fault(DatabaseError::Postgres { message, code })
}
