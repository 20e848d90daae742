//! The schema, in numbered steps. A step that was released is never changed; a change is a new step.

use super::backend::{Connection, Mode, Value};
use super::error::{Fault, StoreError};

/// The steps, the first of version 1.
const MIGRATIONS: [&str; 9] = [
    include_str!("schema/1.sql"),
    include_str!("schema/2.sql"),
    include_str!("schema/3.sql"),
    include_str!("schema/4.sql"),
    include_str!("schema/5.sql"),
    include_str!("schema/6.sql"),
    include_str!("schema/7.sql"),
    include_str!("schema/8.sql"),
    include_str!("schema/9.sql"),
];

/// The newest version that this program supports.
pub(super) const NEWEST: i64 = MIGRATIONS.len() as i64;

const VERSIONS: &str = "CREATE TABLE IF NOT EXISTS schema_versions (version BIGINT PRIMARY KEY)";

/// Whether the database is a store, of whatever version.
pub(super) fn is_store(connection: &mut Connection) -> Result<bool, Fault> {
    connection.has_table("schema_versions")
}

/// Brings the store called `name` to the newest version, in one transaction, while no other process does the same.
pub(super) fn apply(connection: &mut Connection, name: &str) -> Result<(), Fault> {
    // The usual case takes no lock: a store that is in use is open at once.
    connection.begin(Mode::Read)?;
    let known = if connection.has_table("schema_versions")? { version(connection)? } else { 0 };
    connection.batch("COMMIT")?;
    if known == NEWEST {
        return Ok(());
    }
    refuse_newer(known, name)?;
    connection.begin(Mode::Write)?;
    connection.lock_schema()?;
    connection.batch(VERSIONS)?;
    let known = version(connection)?;
    refuse_newer(known, name)?;
    for (step, number) in MIGRATIONS.iter().zip(1_i64..).skip(usize::try_from(known).unwrap_or(0)) {
        connection.batch(&connection.schema(step))?;
        connection.execute("INSERT INTO schema_versions (version) VALUES ($1)", &[Value::Int(number)])?;
    }
    connection.batch("COMMIT")
}

fn version(connection: &mut Connection) -> Result<i64, Fault> {
    Ok(connection.value::<Option<i64>>("SELECT max(version) FROM schema_versions", &[])?.flatten().unwrap_or(0))
}

fn refuse_newer(found: i64, name: &str) -> Result<(), Fault> {
    if found > NEWEST {
        return Err(Fault::Refused(StoreError::Newer { store: name.to_string(), found, known: NEWEST }));
    }
    Ok(())
}
