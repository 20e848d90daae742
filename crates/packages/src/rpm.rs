//! The database of rpm: the form is told by its first bytes. Each package is a header; see `rpm_header.rs`.

use crate::kind::{ReadError, Records};
use crate::{berkeley_db, ndb, rpm_header, sqlite};

const NAME: &str = "rpm database";

/// Reads the headers of all packages.
pub(crate) fn read(bytes: &[u8], records: &mut Records) -> Result<(), ReadError> {
    // What is not the header of a package, such as the counter of a Berkeley DB, has no name.
    let mut damaged = 0_usize;
    let mut add = |header: &[u8]| match rpm_header::read(header) {
        Ok(record) => records.extend(record),
        Err(_) => damaged += 1,
    };
    let outcome = if bytes.is_empty() {
        // A database that was just made.
        Ok(())
    } else if sqlite::is_database(bytes) {
        sqlite::blobs(bytes, b"Packages", &mut add)
    } else if ndb::is_database(bytes) {
        ndb::blobs(bytes, &mut add)
    } else if berkeley_db::is_database(bytes) {
        berkeley_db::values(bytes, &mut add)
    } else {
        Err("it is neither a SQLite, an NDB nor a Berkeley DB file")
    };
    outcome.map_err(|what| ReadError::Damaged(NAME, what))?;
    if damaged > 0 { Err(ReadError::Damaged(NAME, "the header of a package is damaged")) } else { Ok(()) }
}
