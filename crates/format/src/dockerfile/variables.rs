//! Variables of a Dockerfile: `$NAME`, `${NAME}`, `${NAME:-default}` and `${NAME:+other}`.

use std::collections::BTreeMap;

/// Names and values.
pub type Variables = BTreeMap<String, String>;

/// The longest text that is made of one.
const MAX_TEXT: usize = 4096;

/// Adds what an `ARG` declares to `known`: the value of a build argument, or else its default.
pub(super) fn declare(words: &str, arguments: &Variables, known: &mut Variables) {
    for word in words.split_whitespace() {
        let (name, default) = word.split_once('=').map_or((word, None), |(name, value)| (name, Some(value)));
        let default = || default.map(|value| expand(value.trim_matches(['"', '\'']), known));
        if let Some(value) = arguments.get(name).cloned().or_else(default) {
            known.insert(name.into(), value);
        }
    }
}

/// `text` with its variables replaced. A variable that is not in `known` stays as it is.
pub fn expand(text: &str, known: &Variables) -> String {
    let mut expanded = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        expanded.push_str(&rest[..at]);
        let (value, length) = variable(&rest[at..], known);
        match value {
            Some(value) if expanded.len() + value.len() <= MAX_TEXT => expanded.push_str(&value),
            _ => expanded.push_str(&rest[at..at + length]),
        }
        rest = &rest[at + length..];
    }
    expanded + rest
}

/// The value of the variable that `text` begins with, and how many bytes of `text` it takes.
fn variable(text: &str, known: &Variables) -> (Option<String>, usize) {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let Some(body) = text.strip_prefix("${") else {
        let name: &str = text.get(1..).unwrap_or_default();
        let name = &name[..name.find(|c| !is_name(c)).unwrap_or(name.len())];
        return (known.get(name).cloned(), 1 + name.len());
    };
    let Some(end) = body.find('}') else { return (None, text.len()) };
    let body = &body[..end];
    let length = "${}".len() + end;
    let (name, operation) = body.split_at(body.find(|c| !is_name(c)).unwrap_or(body.len()));
    let value = known.get(name);
    let filled = value.filter(|value| !value.is_empty());
    let result = match operation {
        "" => value.cloned(),
        _ => match (operation.get(..2), operation.get(..1)) {
            (Some(":-"), _) => Some(filled.cloned().unwrap_or_else(|| operation[2..].into())),
            (Some(":+"), _) => Some(filled.map(|_| operation[2..].into()).unwrap_or_default()),
            (_, Some("-")) => Some(value.cloned().unwrap_or_else(|| operation[1..].into())),
            (_, Some("+")) => Some(value.map(|_| operation[1..].into()).unwrap_or_default()),
            _ => None,
        },
    };
    (result, length)
}
