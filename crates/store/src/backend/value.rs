//! Values that go into a statement and come out of a row.

use layersift_model::{Confidence, Digest, LayerKey, Severity, State};

use crate::error::Fault;

/// A value of either database.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
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
        // U+2400 is the picture of a NUL, which PostgreSQL does not store.
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

impl From<&Digest> for Value {
    fn from(digest: &Digest) -> Value {
        Value::Text(digest.to_string())
    }
}

impl From<&LayerKey> for Value {
    fn from(key: &LayerKey) -> Value {
        Value::from(key.as_str())
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

/// What a column can be read as.
pub(crate) trait FromValue: Sized {
    /// The value of a column.
    ///
    /// # Errors
    /// [`Fault::Damaged`] for a value of another kind.
    fn from_value(value: Value) -> Result<Self, Fault>;
}

impl FromValue for Value {
    fn from_value(value: Value) -> Result<Value, Fault> {
        Ok(value)
    }
}

impl FromValue for i64 {
    fn from_value(value: Value) -> Result<i64, Fault> {
        match value {
            Value::Int(number) => Ok(number),
            other => Err(unexpected("a number", &other)),
        }
    }
}

impl FromValue for u64 {
    fn from_value(value: Value) -> Result<u64, Fault> {
        let number = i64::from_value(value)?;
        u64::try_from(number).map_err(|_| Fault::Damaged(format!("the negative number {number}")))
    }
}

impl FromValue for usize {
    fn from_value(value: Value) -> Result<usize, Fault> {
        let number = i64::from_value(value)?;
        usize::try_from(number).map_err(|_| Fault::Damaged(format!("the position {number}")))
    }
}

impl FromValue for bool {
    fn from_value(value: Value) -> Result<bool, Fault> {
        i64::from_value(value).map(|number| number != 0)
    }
}

impl FromValue for String {
    fn from_value(value: Value) -> Result<String, Fault> {
        match value {
            Value::Text(text) => Ok(text),
            other => Err(unexpected("a text", &other)),
        }
    }
}

impl FromValue for Vec<u8> {
    fn from_value(value: Value) -> Result<Vec<u8>, Fault> {
        match value {
            Value::Blob(bytes) => Ok(bytes),
            other => Err(unexpected("bytes", &other)),
        }
    }
}

impl FromValue for Digest {
    fn from_value(value: Value) -> Result<Digest, Fault> {
        Ok(String::from_value(value)?.parse()?)
    }
}

impl FromValue for LayerKey {
    fn from_value(value: Value) -> Result<LayerKey, Fault> {
        String::from_value(value).map(LayerKey::new)
    }
}

impl FromValue for Severity {
    fn from_value(value: Value) -> Result<Severity, Fault> {
        String::from_value(value)?.parse().map_err(Fault::Damaged)
    }
}

impl FromValue for Confidence {
    fn from_value(value: Value) -> Result<Confidence, Fault> {
        named(value, "confidence", [Confidence::Low, Confidence::Medium, Confidence::High], Confidence::name)
    }
}

impl FromValue for State {
    fn from_value(value: Value) -> Result<State, Fault> {
        named(value, "state", State::ALL, State::name)
    }
}

impl<T: FromValue> FromValue for Option<T> {
    fn from_value(value: Value) -> Result<Option<T>, Fault> {
        match value {
            Value::Null => Ok(None),
            value => T::from_value(value).map(Some),
        }
    }
}

/// The one of `known` whose name is the text `value`.
pub(crate) fn named<T: Copy>(
    value: Value,
    what: &str,
    known: impl IntoIterator<Item = T>,
    name: impl Fn(T) -> &'static str,
) -> Result<T, Fault> {
    let text = String::from_value(value)?;
    let found = known.into_iter().find(|known| name(*known) == text);
    found.ok_or_else(|| Fault::Damaged(format!("the unknown {what} `{text}`")))
}

fn unexpected(expected: &str, found: &Value) -> Fault {
    let found = match found {
        Value::Null => "NULL",
        Value::Int(_) => "a number",
        Value::Text(_) => "a text",
        Value::Blob(_) => "bytes",
    };
    Fault::Damaged(format!("{found}, expected {expected}"))
}
