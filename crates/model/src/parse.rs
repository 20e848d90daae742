//! JSON and TOML that comes from outside, read with errors that tell where and what was expected, and never a value.
//!
//! The errors of `serde_json` and `toml` quote what they found, and the value of a field of the wrong type may be a
//! secret. `tests/architecture.rs` refuses those errors elsewhere.

use std::fmt;
use std::io::Read;
use std::ops::Range;

use serde::de::{Deserialize, DeserializeOwned};

/// What comes before the words for what was expected, which are the program's own.
const EXPECTED: [&str; 2] = [", expected ", ": expected "];

/// What messages put around a value.
const QUOTES: [char; 3] = ['`', '"', '\''];

/// The most characters of a name that is given as missing.
const LONGEST_NAME: usize = 64;

/// The most characters of a name that is given as unknown.
const LONGEST_WORD: usize = 32;

/// Why a text cannot be read, without a word of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    /// What is wrong.
    message: String,
    /// The line and the column, from 1, if they are known.
    place: Option<(usize, usize)>,
    /// Whether the bytes could not be received.
    is_io: bool,
}

/// Reads the JSON in `bytes`.
///
/// # Errors
/// If it is not JSON, or not of the form of `T`.
pub fn json<'t, T: Deserialize<'t>>(bytes: &'t (impl AsRef<[u8]> + ?Sized)) -> Result<T, ParseError> {
    Ok(serde_json::from_slice(bytes.as_ref())?)
}

/// Reads the JSON that comes from `reader`.
///
/// # Errors
/// If it is not JSON, or not of the form of `T`; those of `reader`.
pub fn json_from<T: DeserializeOwned>(reader: impl Read) -> Result<T, ParseError> {
    Ok(serde_json::from_reader(reader)?)
}

/// Reads the TOML in `text`.
///
/// # Errors
/// If it is not TOML, or not of the form of `T`.
pub fn toml<T: DeserializeOwned>(text: &str) -> Result<T, ParseError> {
    ::toml::from_str(text).map_err(|error| ParseError::in_text(error.message(), error.span(), text))
}

impl ParseError {
    /// The error of a parser that says `message` of the bytes `span` of `text`.
    pub fn in_text(message: &str, span: Option<Range<usize>>, text: &str) -> ParseError {
        let place = span.and_then(|span| text.get(..span.start)).map(|before| {
            let line = before.rsplit('\n').next().unwrap_or_default();
            (1 + before.matches('\n').count(), 1 + line.chars().count())
        });
        ParseError { message: without_values(message), place, is_io: false }
    }

    /// The error of an object without the field `name`.
    pub fn missing(name: &'static str) -> ParseError {
        ParseError { message: format!("missing field `{name}`"), place: None, is_io: false }
    }

    /// What is wrong, without the place.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The line, from 1; 0 if it is not known.
    pub fn line(&self) -> usize {
        self.place.map_or(0, |(line, _)| line)
    }

    /// The column, from 1; 0 if it is not known.
    pub fn column(&self) -> usize {
        self.place.map_or(0, |(_, column)| column)
    }

    /// Whether the bytes could not be received, so that they may be read the next time.
    pub fn is_io(&self) -> bool {
        self.is_io
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match self.place {
            Some((line, column)) => write!(f, " at line {line} column {column}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for ParseError {}

impl From<serde_json::Error> for ParseError {
    fn from(error: serde_json::Error) -> ParseError {
        let (text, place) = (error.to_string(), (error.line(), error.column()));
        let end = format!(" at line {} column {}", place.0, place.1);
        let message = text.strip_suffix(&end).unwrap_or(&text);
        // Other errors are of the syntax, in fixed words, or of a connection or a file.
        let message = if error.is_data() { without_values(message) } else { message.into() };
        ParseError { message, place: Some(place).filter(|(line, _)| *line > 0), is_io: error.is_io() }
    }
}

/// A message of a parser without what it quotes. The parts in which there may be a value are left out, rather than the
/// value searched for: it may have quotes in it.
fn without_values(message: &str) -> String {
    if ["missing field `", "duplicate field `"].iter().any(|start| message.strip_prefix(start).is_some_and(is_name)) {
        return message.into();
    }
    let (head, expected) = match EXPECTED.iter().filter_map(|word| message.rfind(word)).max() {
        // In the words for what was expected, quotes come in pairs; else they are in the middle of a value.
        Some(at) if message[at..].matches('`').count().is_multiple_of(2) => message.split_at(at),
        _ => (message, ""),
    };
    // Whoever misspells a field wants to see which one.
    let name = head.strip_prefix("unknown field `").and_then(|name| name.strip_suffix('`'));
    if name.is_some_and(is_word) {
        return head.to_string() + first_line(expected);
    }
    // After a kind of value, as in "invalid type: string", nothing stands for it.
    let hidden = if head.starts_with("invalid type") || head.starts_with("unknown") { "" } else { " …" };
    let head = QUOTES.into_iter().fold(head.to_string(), |head, quote| match (head.find(quote), head.rfind(quote)) {
        (Some(first), Some(last)) if first < last => {
            format!("{}{hidden}{}", head[..first].trim_end(), &head[last + quote.len_utf8()..])
        }
        _ => head,
    });
    first_line(&head).to_string() + first_line(expected)
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

/// Whether `text` is the name of a field and the quote after it.
fn is_name(text: &str) -> bool {
    text.strip_suffix('`').is_some_and(|name| {
        name.len() <= LONGEST_NAME && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.@$".contains(&byte))
    })
}

/// Whether `name` is made of words of small letters, as names of fields are and tokens are not.
fn is_word(name: &str) -> bool {
    (1..=LONGEST_WORD).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || b"_-".contains(&byte))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::*;

    const SECRET: &str = "made-up-secret-7341";

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "kebab-case", deny_unknown_fields)]
    #[expect(dead_code, reason = "only the errors are looked at")]
    struct Form {
        list: Option<Vec<u32>>,
        kind: Option<Kind>,
        table: Option<BTreeMap<String, bool>>,
        level: Option<Level>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "kebab-case")]
    enum Kind {
        One,
        Other,
    }

    #[derive(Debug, Deserialize)]
    #[serde(try_from = "String")]
    struct Level;

    impl TryFrom<String> for Level {
        type Error = String;

        fn try_from(text: String) -> Result<Level, String> {
            Err(format!("invalid level `{text}`: expected high or low"))
        }
    }

    #[test]
    fn errors_of_json_have_no_value() {
        for (text, expected) in [
            (r#"{"list":"S"}"#, "invalid type: string, expected a sequence at line 1 column 29"),
            (r#"{"list":["S"]}"#, "invalid type: string, expected u32 at line 1 column 30"),
            (r#"{"kind":"S"}"#, "unknown variant, expected `one` or `other` at line 1 column 29"),
            (r#"{"S":1}"#, "unknown field, expected one of `list`, `kind`, `table`, `level` at line 1 column 22"),
            (r#"{"level":"S"}"#, "invalid level …: expected high or low at line 1 column 31"),
            (r#"{"list":[7341734173417341]}"#, "invalid value: integer …, expected u32 at line 1 column 25"),
            ("{\n \"list\" \"S\"", "expected `:` at line 2 column 9"),
            (r#"{"list": S"#, "expected value at line 1 column 10"),
        ] {
            assert_eq!(json::<Form>(&text.replace('S', SECRET)).unwrap_err().to_string(), expected);
        }
        #[derive(Debug, Deserialize)]
        struct Needed {
            #[serde(rename = "apiVersion")]
            _version: String,
        }
        let error = json::<Needed>("{}").unwrap_err();
        assert_eq!(error.to_string(), "missing field `apiVersion` at line 1 column 2");
    }

    #[test]
    fn errors_of_toml_have_no_value_and_no_line_of_the_file() {
        for (text, expected) in [
            ("\nlist = 'S'", "invalid type: string, expected a sequence at line 2 column 8"),
            ("S = 1", "unknown field, expected one of `list`, `kind`, `table`, `level` at line 1 column 1"),
            ("level = 'S'", "invalid level …: expected high or low at line 1 column 9"),
            ("list = S", ""),
            ("list = 'S", ""),
            ("S = 1\nS = 2", ""),
            ("[S]\n[S]", ""),
            ("table.S = 1", ""),
            ("S", ""),
        ] {
            let error = toml::<Form>(&text.replace('S', SECRET)).unwrap_err();
            assert!(!error.to_string().contains("7341"), "{error}");
            assert!(error.line() > 0 && error.column() > 0, "{error}");
            assert!(expected.is_empty() || error.to_string() == expected, "{error}");
        }
    }

    #[test]
    fn quotes_in_a_value_hide_none_of_it() {
        for value in ["`S", "S`, expected `S", "\\\"S", "a: expected S", "'S\\nS'"] {
            for field in ["list", "kind", "level"] {
                let text = format!("{{\"{field}\":\"{}\"}}", value.replace('S', SECRET));
                let error = json::<Form>(&text).unwrap_err();
                assert!(!error.to_string().contains("7341"), "{text}: {error}");
            }
            let error = json::<Form>(&format!("{{\"{}\":1}}", value.replace('S', SECRET))).unwrap_err();
            assert!(!error.to_string().contains("7341"), "{value}: {error}");
        }
    }
}
