//! The text of an event: the strings of its JSON, one after another, so that one scan reads all of them.
//!
//! Each word stands behind its name, as in a file of settings: some secrets are only told by the name that they are
//! assigned to. Longer text begins a line of its own, as some rules expect of a sentence. Strings that are JSON
//! themselves are taken apart as well. Data URIs, base64 and lists of bytes are decoded as the
//! gate of the service does it.

use std::fmt::Write as _;
use std::ops::Range;

use layersift_prompts::{Data, bytes_of_numbers, data_in};
use serde_json::Value;

/// How deep JSON in strings of JSON is taken apart.
const MOST_DEPTH: usize = 8;

/// The text to be checked, and where each part of it is from.
#[derive(Debug, Default)]
pub(super) struct Content {
    text: String,
    parts: Vec<Part>,
    files: Vec<EmbeddedFile>,
    /// The names of values that say they are data and cannot be decoded.
    damaged: Vec<String>,
}

/// Data that stands in a value.
#[derive(Debug)]
pub(super) struct EmbeddedFile {
    /// The name of the value.
    pub(super) name: String,
    pub(super) bytes: Vec<u8>,
}

#[derive(Debug)]
struct Part {
    name: String,
    span: Range<usize>,
}

impl Content {
    /// All text.
    pub(super) fn bytes(&self) -> &[u8] {
        self.text.as_bytes()
    }

    /// The data in values, decoded.
    pub(super) fn files(&self) -> &[EmbeddedFile] {
        &self.files
    }

    /// The names of values with data that cannot be decoded.
    pub(super) fn damaged(&self) -> &[String] {
        &self.damaged
    }

    /// Adds `text` as it is.
    pub(super) fn add_text(&mut self, name: &str, text: &str) {
        if self.add_data(name, text) {
            self.add_part(name, text);
        }
    }

    /// Adds all strings and numbers in `value`.
    pub(super) fn add(&mut self, name: &str, value: &Value) {
        self.add_value(name, value, MOST_DEPTH);
    }

    /// The name of the part at `offset`, and the line in it, from 1.
    pub(super) fn place(&self, offset: usize) -> Option<(&str, usize)> {
        let index = self.parts.partition_point(|part| part.span.end <= offset);
        let part = self.parts.get(index)?;
        let before = self.text.as_bytes().get(part.span.start..offset.max(part.span.start))?;
        Some((&part.name, 1 + before.iter().filter(|byte| **byte == b'\n').count()))
    }

    fn add_value(&mut self, name: &str, value: &Value, depth: usize) {
        match value {
            Value::Null => {}
            Value::Bool(_) | Value::Number(_) => self.assign(name, &value.to_string()),
            Value::String(text) => match inner(text).filter(|_| depth > 0) {
                Some(value) => self.add_value(name, &value, depth - 1),
                None if self.add_data(name, text) => self.assign(name, text),
                None => {}
            },
            // A list of numbers may be the bytes of a key.
            Value::Array(items) if items.iter().all(Value::is_number) => {
                let bytes = bytes_of_numbers(items.iter().map(Value::as_u64));
                self.files.extend(bytes.map(|bytes| EmbeddedFile { name: name.into(), bytes }));
                self.assign(name, &value.to_string());
            }
            Value::Array(items) => items.iter().for_each(|item| self.add_value(name, item, depth)),
            Value::Object(fields) => {
                for (field, value) in fields {
                    self.add_value(&format!("{name}.{field}"), value, depth);
                }
            }
        }
    }

    /// Adds what `text` holds as data. Returns whether it is to be scanned as it stands, too.
    fn add_data(&mut self, name: &str, text: &str) -> bool {
        let (data, is_text) = data_in(text, false);
        match data {
            Data::None => {}
            Data::Damaged => self.damaged.push(name.into()),
            Data::Bytes(bytes, _) => self.files.push(EmbeddedFile { name: name.into(), bytes }),
        }
        is_text
    }

    /// Adds `text` behind the last part of `name`.
    fn assign(&mut self, name: &str, text: &str) {
        let last = name.rsplit('.').next().unwrap_or(name);
        // Writing to a String cannot fail.
        let is_word = !text.contains(char::is_whitespace);
        let _ = if is_word { write!(self.text, "{last}=") } else { writeln!(self.text, "{last}:") };
        self.add_part(name, text);
    }

    fn add_part(&mut self, name: &str, text: &str) {
        let start = self.text.len();
        self.text.push_str(text);
        self.parts.push(Part { name: name.into(), span: start..self.text.len() });
        self.text.push('\n');
    }
}

/// The object or the list that `text` is the JSON of.
pub(super) fn inner(text: &str) -> Option<Value> {
    let is_likely = text.trim_start().starts_with(['{', '[']);
    let value: Value = if is_likely { serde_json::from_str(text).ok()? } else { return None };
    Some(value).filter(|value| value.is_object() || value.is_array())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_stand_behind_their_names_and_are_found_again() {
        let mut content = Content::default();
        content.add("tool_input", &json!({"command": "a\nb", "password": "c", "key": [1, 2], "n": null, "ok": true}));
        content.add("tool_output", &json!("{\"output\":\"d\\ne\",\"exitCode\":0}"));
        let text = String::from_utf8_lossy(content.bytes()).into_owned();
        assert_eq!(text, "command:\na\nb\nkey=[1,2]\nok=true\npassword=c\nexitCode=0\noutput:\nd\ne\n");
        let place = |what: &str| content.place(text.find(what).unwrap());
        assert_eq!(place("b\n"), Some(("tool_input.command", 2)));
        assert_eq!(place("c\n"), Some(("tool_input.password", 1)));
        assert_eq!(place("d\n"), Some(("tool_output.output", 1)));
        assert_eq!(content.place(text.find("\ne\n").unwrap() + 1), Some(("tool_output.output", 2)));
        assert_eq!(content.place(text.len() + 1), None);
    }
}
