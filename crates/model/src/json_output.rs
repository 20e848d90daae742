//! JSON as it is written for people and programs: a character that changes how the text around it is displayed is
//! escaped, so that a name from an image does nothing to the terminal that shows a report. It is the same JSON to a
//! parser, and nothing is lost.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter, PrettyFormatter, Serializer};

use crate::changes_display;

/// Writes `value` as indented JSON without a final line feed.
///
/// # Errors
/// Those of `out` and of the value.
pub fn write_pretty(out: impl Write, value: &(impl Serialize + ?Sized)) -> serde_json::Result<()> {
    value.serialize(&mut Serializer::with_formatter(out, Escaping(PrettyFormatter::new())))
}

/// Writes `value` as JSON on one line, without a line feed.
///
/// # Errors
/// Those of `out` and of the value.
pub fn write_line(out: impl Write, value: &(impl Serialize + ?Sized)) -> serde_json::Result<()> {
    value.serialize(&mut Serializer::with_formatter(out, Escaping(CompactFormatter)))
}

/// `value` as JSON on one line, without a line feed.
///
/// # Errors
/// Those of the value.
pub fn line(value: &(impl Serialize + ?Sized)) -> serde_json::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    write_line(&mut bytes, value)?;
    Ok(bytes)
}

/// Writes as `F` does, and escapes more in strings.
struct Escaping<F>(F);

impl<F: Formatter> Formatter for Escaping<F> {
    fn write_string_fragment<W: ?Sized + Write>(&mut self, out: &mut W, fragment: &str) -> io::Result<()> {
        let mut rest = fragment;
        while let Some((at, c)) = rest.char_indices().find(|(_, c)| changes_display(*c)) {
            out.write_all(&rest.as_bytes()[..at])?;
            // All of them are in the basic plane.
            write!(out, "\\u{:04x}", u32::from(c))?;
            rest = &rest[at + c.len_utf8()..];
        }
        out.write_all(rest.as_bytes())
    }

    fn begin_array<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.begin_array(out)
    }

    fn end_array<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.end_array(out)
    }

    fn begin_array_value<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_array_value(out, first)
    }

    fn end_array_value<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.end_array_value(out)
    }

    fn begin_object<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.begin_object(out)
    }

    fn end_object<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.end_object(out)
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_object_key(out, first)
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.begin_object_value(out)
    }

    fn end_object_value<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.end_object_value(out)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn what_steers_a_terminal_is_escaped_and_the_value_stays_the_same() {
        let hostile: String = (0..0x3000).filter_map(char::from_u32).collect();
        let value = json!({ &hostile: [hostile, {}, [], null, 1.5, "plain \u{1f511}"], "b": { "c": true } });
        for (text, plain) in [
            (written(|out| write_pretty(out, &value)), serde_json::to_string_pretty(&value).unwrap()),
            (written(|out| write_line(out, &value)), value.to_string()),
        ] {
            assert!(!text.chars().any(|c| changes_display(c) && c != '\n'));
            assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
            let same: String = plain.chars().filter(|c| !changes_display(*c) || *c == '\n').collect();
            let mut escapes = text.clone();
            for c in (0..0x3000).filter_map(char::from_u32).filter(|c| changes_display(*c) && *c > '\u{1f}') {
                escapes = escapes.replace(&format!("\\u{:04x}", u32::from(c)), "");
            }
            assert_eq!(escapes, same);
        }
    }

    fn written(write: impl FnOnce(&mut Vec<u8>) -> serde_json::Result<()>) -> String {
        let mut bytes = Vec::new();
        write(&mut bytes).unwrap();
        String::from_utf8(bytes).unwrap()
    }
}
