//! Rows of an answer, and the structs that they are read into.

use super::value::{FromValue, Value};
use crate::error::Fault;

/// The columns of one row, taken from left to right.
#[derive(Debug)]
pub(crate) struct Row {
    columns: std::vec::IntoIter<Value>,
}

impl Row {
    /// A row of these columns.
    pub(super) fn new(columns: Vec<Value>) -> Row {
        Row { columns: columns.into_iter() }
    }

    /// The next column, which is called `name` in errors.
    pub(crate) fn next<T: FromValue>(&mut self, name: &str) -> Result<T, Fault> {
        let value = self.columns.next().ok_or_else(|| Fault::Damaged(format!("an answer without {name}")))?;
        T::from_value(value).map_err(|fault| match fault {
            Fault::Damaged(what) => Fault::Damaged(format!("{what} in {name}")),
            fault => fault,
        })
    }

    /// The columns that are left, all of one kind.
    pub(crate) fn rest<T: FromValue>(&mut self) -> Result<Vec<T>, Fault> {
        self.columns.by_ref().map(T::from_value).collect()
    }
}

/// What a row can be read as: a struct that [`row!`] makes, or a tuple of the selected columns.
pub(crate) trait FromRow: Sized {
    /// Reads the row.
    ///
    /// # Errors
    /// [`Fault::Damaged`] for columns of another kind.
    fn from_row(row: &mut Row) -> Result<Self, Fault>;
}

/// A struct that says which columns it is read from.
pub(crate) trait Columns: FromRow {
    /// What stands after `SELECT`.
    const COLUMNS: &'static str;
}

macro_rules! tuple {
    ($($column:ident),+) => {
        impl<$($column: FromValue),+> FromRow for ($($column,)+) {
            fn from_row(row: &mut Row) -> Result<Self, Fault> {
                Ok(($(row.next::<$column>("a column")?,)+))
            }
        }
    };
}

tuple!(A);
tuple!(A, B);
tuple!(A, B, C);
tuple!(A, B, C, D);

/// Defines a struct with the column that each of its fields is read from.
macro_rules! row {
    (
        $(#[$meta:meta])*
        $visibility:vis struct $name:ident {
            $(#[$first_meta:meta])* $first_visibility:vis $first:ident: $first_type:ty = $first_column:literal
            $(, $(#[$field_meta:meta])* $field_visibility:vis $field:ident: $type:ty = $column:literal)* $(,)?
        }
    ) => {
        $(#[$meta])*
        $visibility struct $name {
            $(#[$first_meta])* $first_visibility $first: $first_type
            $(, $(#[$field_meta])* $field_visibility $field: $type)*
        }

        impl $crate::backend::FromRow for $name {
            fn from_row(row: &mut $crate::backend::Row) -> Result<Self, $crate::error::Fault> {
                Ok($name { $first: row.next($first_column)? $(, $field: row.next($column)?)* })
            }
        }

        impl $crate::backend::Columns for $name {
            const COLUMNS: &'static str = concat!($first_column $(, ", ", $column)*);
        }
    };
}

pub(crate) use row;
