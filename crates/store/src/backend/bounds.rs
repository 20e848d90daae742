//! How much of a store is read at once. What is in a store may have been written by somebody else, who would like to
//! decide how much memory the program takes; and what is written is never more than is read again.
//!
//! The same bounds hold for both databases. SQLite shows the sizes of a row before its columns are copied; a server is
//! asked to send the sizes of long columns, and not the columns themselves where they are too large ([`bounded`]).

use super::Value;
use crate::error::Fault;

/// The most bytes of a value, such as a compressed report. Reports are written up to [`MOST_WRITTEN`]; the rest is for
/// the other columns of the row, which SQLite counts as well.
pub(super) const MOST_VALUE: usize = 65 << 20;

/// The most bytes of a compressed report that is written.
pub(crate) const MOST_WRITTEN: usize = 64 << 20;

/// The most bytes of a text, read or written.
pub(crate) const MOST_TEXT: usize = 24 << 20;

/// The most bytes that the rows of one answer take together.
const MOST_ANSWER: usize = 65 << 20;

/// What a column takes in memory beside its bytes, and what a text or a value takes in addition.
const COLUMN: usize = 24;
const LONG: usize = 16;

/// The size of a column of a row.
#[derive(Clone, Copy, Debug)]
pub(super) enum Size {
    /// A number, or nothing.
    Fixed,
    /// A text of so many bytes.
    Text(usize),
    /// So many bytes.
    Bytes(usize),
}

/// What the rows that were read so far of one answer take.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    bytes: usize,
}

impl Answer {
    /// Takes the next row in, before its columns are copied: their names and sizes, from left to right.
    ///
    /// # Errors
    /// [`Fault::Damaged`] for a column that is too large, and for a row that makes the answer too large.
    pub(super) fn admit<'c>(&mut self, row: impl Iterator<Item = (&'c str, Size)>) -> Result<(), Fault> {
        for (name, size) in row {
            let (bytes, most, what) = match size {
                Size::Fixed => (0, 0, ""),
                Size::Text(bytes) => (bytes + LONG, MOST_TEXT + LONG, "text"),
                Size::Bytes(bytes) => (bytes + LONG, MOST_VALUE + LONG, "value"),
            };
            if bytes > most {
                return Err(too_large(what, Some(bytes - LONG), &format!("the column {name}"), most - LONG));
            }
            self.bytes = self.bytes.saturating_add(COLUMN + bytes);
        }
        if self.bytes > MOST_ANSWER {
            let most = mebibytes(MOST_ANSWER);
            return Err(Fault::Damaged(format!("rows that are too large: one answer has more than {most}")));
        }
        Ok(())
    }
}

/// A column of a statement's answer in PostgreSQL.
pub(super) enum Column {
    /// A number, which is sent as it is.
    Fixed,
    /// A text.
    Text,
    /// Bytes.
    Bytes,
}

/// `sql`, which answers with `columns`, so that a server sends nothing that [`Answer::admit`] would refuse: after the
/// columns come the sizes of those that are texts or bytes, and one is NULL where it is too large, or is in a row with
/// which the answer is. `None` where nothing in the answer can be large.
pub(super) fn bounded(sql: &str, columns: &[Column]) -> Option<String> {
    let is_long = |column: &Column| !matches!(column, Column::Fixed);
    if !columns.iter().any(is_long) {
        return None;
    }
    let each = |write: &dyn Fn(usize, &Column) -> Option<String>| -> Vec<String> {
        columns.iter().enumerate().filter_map(|(at, column)| write(at, column)).collect()
    };
    let names = each(&|at, _| Some(format!("c{at}"))).join(", ");
    // Of a value that is stored apart from its row, the size is known without reading it.
    let sizes = each(&|at, column| is_long(column).then(|| format!("pg_catalog.octet_length(c{at}) AS n{at}")));
    let sum = each(&|at, column| is_long(column).then(|| format!("COALESCE(n{at} + {LONG}, 0)::bigint"))).join(" + ");
    let sent = each(&|at, column| {
        let most = match column {
            Column::Fixed => return Some(format!("c{at}")),
            Column::Text => MOST_TEXT,
            Column::Bytes => MOST_VALUE,
        };
        Some(format!("CASE WHEN n{at} <= {most} AND so_far <= {MOST_ANSWER} THEN c{at} END"))
    });
    let sent_sizes = each(&|at, column| is_long(column).then(|| format!("n{at}")));
    Some(format!(
        "WITH answer ({names}) AS ({sql}), sized AS (SELECT *, {} FROM answer), \
         counted AS (SELECT *, sum({} + {sum}) OVER (ROWS UNBOUNDED PRECEDING) AS so_far FROM sized) \
         SELECT {}, {} FROM counted",
        sizes.join(", "),
        COLUMN * columns.len(),
        sent.join(", "),
        sent_sizes.join(", ")
    ))
}

/// Refuses what a reader would refuse.
///
/// # Errors
/// [`Fault::Refused`] for a text or bytes that are too large.
pub(super) fn check_written(values: &[Value]) -> Result<(), Fault> {
    for value in values {
        let (what, bytes, most) = match value {
            Value::Text(text) => ("a text", text.len(), MOST_TEXT),
            Value::Blob(blob) => ("a value", blob.len(), MOST_WRITTEN),
            Value::Null | Value::Int(_) => continue,
        };
        if bytes > most {
            return Err(Fault::invalid(what, format!("it has {bytes} bytes, more than {}", mebibytes(most))));
        }
    }
    Ok(())
}

/// `what` in `place` is larger than a store has it.
pub(crate) fn too_large(what: &str, bytes: Option<usize>, place: &str, most: usize) -> Fault {
    let bytes = bytes.map_or(String::new(), |bytes| format!(" of {bytes} bytes"));
    Fault::Damaged(format!("a {what}{bytes} in {place}, which is too large: more than {}", mebibytes(most)))
}

fn mebibytes(bytes: usize) -> String {
    format!("{} MiB", bytes >> 20)
}
