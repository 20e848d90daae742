//! The text of an event: the strings of its JSON and the names of its members, one after another, so that one scan
//! reads all of them.
//!
//! Each word stands behind its name, as in a file of settings: some secrets are only told by the name that they are
//! assigned to. Longer text begins a line of its own, as some rules expect of a sentence. Strings that are JSON
//! themselves are taken apart as well. Data URIs, base64 and lists of bytes are decoded as the gate of the service does
//! it.
//!
//! Other secrets are only told by the JSON that they stand in, such as a private JWK. So JSON is a second text, the
//! [structure]: strings that are JSON as they stand, and objects and lists without their long strings.
//!
//! [structure]: Content::structure

use std::ops::Range;

use layersift_prompts::{Data, bytes_of_numbers, data_in};

use super::event::MOST_VALUES;
use layersift_format::json::Node;

/// How deep JSON in strings of JSON is taken apart.
const MOST_DEPTH: usize = 8;

/// The longest string in the structure, in bytes. No pattern is wider.
const LONGEST_STRING: usize = 4096;

/// The text to be checked, and where each part of it is from.
#[derive(Debug, Default)]
pub(super) struct Content {
    text: Text,
    structure: Text,
    names: Vec<Name>,
    files: Vec<EmbeddedFile>,
    /// Values that cannot be read, and why.
    unread: Vec<(NameId, &'static str)>,
}

/// A text and the parts that it consists of.
#[derive(Debug, Default)]
pub(super) struct Text {
    text: String,
    parts: Vec<Part>,
}

/// The name of a value and of all values around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NameId(usize);

/// Data that stands in a value.
#[derive(Debug)]
pub(super) struct EmbeddedFile {
    /// The name of the value.
    pub(super) name: NameId,
    pub(super) bytes: Vec<u8>,
}

/// Where a byte of a text is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) name: NameId,
    /// Whether it is in the name itself and not in its value.
    pub(super) is_in_name: bool,
    /// The line in the value, from 1; `None` for JSON that has no lines of its own.
    pub(super) line: Option<usize>,
    /// The name of the JSON around it, in the structure.
    pub(super) whole: Option<NameId>,
}

#[derive(Debug)]
struct Name {
    outer: Option<NameId>,
    text: String,
}

#[derive(Debug)]
struct Part {
    name: NameId,
    is_name: bool,
    has_lines: bool,
    whole: Option<NameId>,
    span: Range<usize>,
}

impl Content {
    /// All strings and names.
    pub(super) fn text(&self) -> &Text {
        &self.text
    }

    /// All JSON.
    pub(super) fn structure(&self) -> &Text {
        &self.structure
    }

    /// The data in values, decoded.
    pub(super) fn files(&self) -> &[EmbeddedFile] {
        &self.files
    }

    /// The names of values that cannot be read, and what they are.
    pub(super) fn unread(&self) -> &[(NameId, &'static str)] {
        &self.unread
    }

    /// Whether there is nothing to be checked.
    pub(super) fn is_empty(&self) -> bool {
        self.text.parts.iter().all(|part| part.span.is_empty()) && self.files.is_empty() && self.unread.is_empty()
    }

    /// The names of the values around a value, from the outermost to its own.
    pub(super) fn path(&self, name: NameId) -> Vec<&str> {
        let at = |name: NameId| self.names.get(name.0);
        let mut path: Vec<&str> =
            std::iter::successors(at(name), |name| name.outer.and_then(at)).map(|name| &name.text[..]).collect();
        path.reverse();
        path
    }

    /// Adds `text` as it is.
    pub(super) fn add_text(&mut self, name: &str, text: &str) {
        let name = self.name(None, name);
        if self.add_data(name, text) {
            self.text.push(name, text);
            self.text.text.push('\n');
        }
    }

    /// Adds all strings, numbers and names in `value`.
    pub(super) fn add(&mut self, name: &str, value: &Node) {
        let name = self.name(None, name);
        self.add_document(name, value, MOST_DEPTH);
    }

    /// Adds JSON, and its structure.
    fn add_document(&mut self, name: NameId, value: &Node, depth: usize) {
        let mut form = Form { whole: name, text: Text::default() };
        self.add_value(name, value, depth, &mut form);
        if matches!(value, Node::Object(_) | Node::Array(_)) {
            self.structure.append(form.text);
        }
    }

    fn add_value(&mut self, name: NameId, value: &Node, depth: usize, form: &mut Form) {
        match value {
            Node::Null => {
                self.assign(name, "");
                form.syntax("null");
            }
            Node::Bool(truth) => self.add_scalar(name, &truth.to_string(), form),
            Node::Number(number) => self.add_scalar(name, &number.to_string(), form),
            Node::String(text) => {
                form.string(name, text);
                match self.inner(name, text).filter(|_| depth > 0) {
                    Some(value) => self.add_inner(name, text, &value, depth - 1),
                    None if self.add_data(name, text) => self.assign(name, text),
                    None => self.begin(name),
                }
            }
            // A list of numbers may be the bytes of a key.
            Node::Array(items) if items.iter().all(|item| matches!(item, Node::Number(_))) => {
                let bytes = bytes_of_numbers(items.iter().map(Node::as_u64));
                self.files.extend(bytes.map(|bytes| EmbeddedFile { name, bytes }));
                // Writing numbers cannot fail.
                let text = serde_json::to_string(value).unwrap_or_default();
                self.add_scalar(name, &text, form);
            }
            Node::Array(items) => {
                form.syntax("[");
                for (index, item) in items.iter().enumerate() {
                    form.syntax(if index > 0 { "," } else { "" });
                    self.add_value(name, item, depth, form);
                }
                form.syntax("]");
            }
            Node::Object(members) => self.add_members(name, members, depth, form),
        }
    }

    fn add_members(&mut self, outer: NameId, members: &[(String, Node)], depth: usize, form: &mut Form) {
        self.begin(outer);
        form.syntax("{");
        for (index, (own, value)) in members.iter().enumerate() {
            let name = self.name(Some(outer), own);
            form.syntax(if index > 0 { "," } else { "" });
            form.name(name, own);
            self.add_value(name, value, depth, form);
        }
        form.syntax("}");
    }

    /// The object or the list that `text` is the JSON of.
    fn inner(&mut self, name: NameId, text: &str) -> Option<Node> {
        if !is_likely_inner(text) {
            return None;
        }
        let value = Node::parse_within(text.as_bytes(), MOST_VALUES).ok()?;
        if value.is_none() {
            self.unread.push((name, "JSON with too many values"));
        }
        value.filter(|value| matches!(value, Node::Object(_) | Node::Array(_)))
    }

    /// Adds the JSON `value` of the string `text`: as it stands, taken apart, and without its escapes.
    fn add_inner(&mut self, name: NameId, text: &str, value: &Node, depth: usize) {
        self.structure.push(name, text);
        self.structure.text.push('\n');
        let mut form = Form { whole: name, text: Text::default() };
        self.add_value(name, value, depth, &mut form);
        if text.contains('\\') {
            self.structure.append(form.text);
        }
    }

    fn add_scalar(&mut self, name: NameId, text: &str, form: &mut Form) {
        form.scalar(name, text);
        self.assign(name, text);
    }

    /// Adds what `text` holds as data. Returns whether it is to be scanned as it stands, too.
    fn add_data(&mut self, name: NameId, text: &str) -> bool {
        let (data, is_text) = data_in(text, false);
        match data {
            Data::None => {}
            Data::Damaged => self.unread.push((name, "data that is not valid base64")),
            Data::Bytes(bytes, _) => self.files.push(EmbeddedFile { name, bytes }),
        }
        is_text
    }

    /// Adds the name of what follows.
    fn begin(&mut self, name: NameId) {
        self.push_name(name);
        self.text.text.push_str(":\n");
    }

    /// Adds `text` behind its name.
    fn assign(&mut self, name: NameId, text: &str) {
        self.push_name(name);
        let is_word = !text.contains(char::is_whitespace);
        self.text.text.push_str(if is_word { "=" } else { ":\n" });
        self.text.push(name, text);
        self.text.text.push('\n');
    }

    fn push_name(&mut self, name: NameId) {
        if let Some(own) = self.names.get(name.0) {
            self.text.push_name(name, &own.text);
        }
    }

    fn name(&mut self, outer: Option<NameId>, text: &str) -> NameId {
        self.names.push(Name { outer, text: text.into() });
        NameId(self.names.len() - 1)
    }
}

impl Text {
    pub(super) fn bytes(&self) -> &[u8] {
        self.text.as_bytes()
    }

    /// Where the byte at `offset` is from.
    pub(super) fn place(&self, offset: usize) -> Option<Place> {
        let index = self.parts.partition_point(|part| part.span.end <= offset);
        let part = self.parts.get(index)?;
        let before = self.text.as_bytes().get(part.span.start..offset.max(part.span.start))?;
        let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
        Some(Place {
            name: part.name,
            is_in_name: part.is_name,
            line: part.has_lines.then_some(line),
            whole: part.whole,
        })
    }

    fn push(&mut self, name: NameId, text: &str) {
        self.push_part(text, Part { name, is_name: false, has_lines: true, whole: None, span: 0..0 });
    }

    fn push_name(&mut self, name: NameId, text: &str) {
        self.push_part(text, Part { name, is_name: true, has_lines: false, whole: None, span: 0..0 });
    }

    fn push_part(&mut self, text: &str, part: Part) {
        let start = self.text.len();
        self.text.push_str(text);
        self.parts.push(Part { span: start..self.text.len(), ..part });
    }

    fn append(&mut self, other: Text) {
        let start = self.text.len();
        self.text.push_str(&other.text);
        self.text.push('\n');
        let moved = |part: Part| Part { span: part.span.start + start..part.span.end + start, ..part };
        self.parts.extend(other.parts.into_iter().map(moved));
    }
}

/// The structure of JSON that is being added.
struct Form {
    /// The name of all of it.
    whole: NameId,
    text: Text,
}

impl Form {
    fn syntax(&mut self, text: &str) {
        self.text.text.push_str(text);
    }

    fn name(&mut self, name: NameId, text: &str) {
        self.quoted(name, text, true);
        self.syntax(":");
    }

    fn string(&mut self, name: NameId, text: &str) {
        // Texts of their own, which are scanned as such.
        let is_left_out = text.len() > LONGEST_STRING || text.contains(['\n', '\r']) || is_likely_inner(text);
        self.quoted(name, if is_left_out { "" } else { text }, false);
    }

    fn scalar(&mut self, name: NameId, text: &str) {
        let is_left_out = text.len() > LONGEST_STRING;
        self.text.push_part(if is_left_out { "[]" } else { text }, self.part(name, false));
    }

    fn quoted(&mut self, name: NameId, text: &str, is_name: bool) {
        self.syntax("\"");
        // Quotes only: whatever else is escaped in JSON is no part of a value.
        let text = if text.contains('"') { text.replace('"', "\\\"") } else { text.into() };
        self.text.push_part(&text, self.part(name, is_name));
        self.syntax("\"");
    }

    fn part(&self, name: NameId, is_name: bool) -> Part {
        Part { name, is_name, has_lines: false, whole: Some(self.whole), span: 0..0 }
    }
}

fn is_likely_inner(text: &str) -> bool {
    text.trim_start().starts_with(['{', '['])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> Node {
        Node::parse(text.as_bytes()).unwrap()
    }

    fn shown(content: &Content, text: &Text, what: &str) -> (String, bool, Option<usize>) {
        let place = text.place(text.text.find(what).unwrap()).unwrap();
        (content.path(place.name).join("."), place.is_in_name, place.line)
    }

    #[test]
    fn values_stand_behind_their_names_and_are_found_again() {
        let mut content = Content::default();
        let input = r#"{"command":"a\nb","password":"c","key":[1,2],"n.m":null,"ok":true,"o":{"p":{}}}"#;
        content.add("tool_input", &value(input));
        content.add("tool_output", &Node::String(r#"{"output":"d\ne","exitCode":0}"#.into()));
        let text = "tool_input:\ncommand:\na\nb\npassword=c\nkey=[1,2]\nn.m=\nok=true\no:\np:\n\
                    tool_output:\noutput:\nd\ne\nexitCode=0\n";
        assert_eq!(content.text().text, text);
        let place = |what: &str| shown(&content, content.text(), what);
        assert_eq!(place("b\n"), ("tool_input.command".into(), false, Some(2)));
        assert_eq!(place("c\n"), ("tool_input.password".into(), false, Some(1)));
        assert_eq!(place("n.m"), ("tool_input.n.m".into(), true, None));
        assert_eq!(place("p:"), ("tool_input.o.p".into(), true, None));
        assert_eq!(place("e\nexit"), ("tool_output.output".into(), false, Some(2)));
        assert_eq!(content.text().place(text.len() + 1), None);
        let structure = content.structure();
        let first = r#"{"command":"","password":"c","key":[1,2],"n.m":null,"ok":true,"o":{"p":{}}}"#;
        let second = r#"{"output":"d\ne","exitCode":0}"#;
        assert_eq!(structure.text, format!("{first}\n{second}\n{{\"output\":\"\",\"exitCode\":0}}\n"));
        assert_eq!(shown(&content, structure, "c\",").0, "tool_input.password");
        assert_eq!(shown(&content, structure, "d\\n"), ("tool_output".into(), false, Some(1)));
    }

    #[test]
    fn members_that_others_overwrite_are_read() {
        let mut content = Content::default();
        content.add("tool_input", &value(r#"{"c":"{\"a\":\"first\",\"a\":\"\"}","c":"second"}"#));
        for text in ["first", "second"] {
            assert!(content.text().text.contains(text));
        }
    }
}
