//! Whether a body that begins with a bracket is JSON: a text may begin with `[note]`, `{{template}}` or `[MASKED
//! rule]`.
//!
//! JSON that is damaged must not be read as a text, in which data in strings are not decoded. Before its first
//! string, a document has nothing that a reader of JSON sees and a reader of text does not. So a body is a text only
//! if the grammar of JSON breaks before the first string, at what begins no value in any dialect of JSON.

use crate::json::{BYTE_ORDER_MARK, MOST_DEPTH, is_wide};

/// Values that are words, in JSON and in what some readers take for it.
const WORDS: [&[u8]; 6] = [b"null", b"true", b"false", b"NaN", b"Infinity", b"undefined"];

/// Whether `body` may be JSON, whole, cut or damaged.
pub(super) fn may_be_json(body: &[u8]) -> bool {
    if is_wide(body) {
        return true;
    }
    let body = body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(body);
    if !matches!(body.trim_ascii_start().first(), Some(b'{' | b'[')) {
        return false;
    }
    let mut opening = Opening { rest: body, open: Vec::new(), after_value: false };
    loop {
        match opening.step() {
            Step::On => {}
            Step::Json => return true,
            Step::Text => return false,
        }
    }
}

enum Step {
    On,
    Json,
    Text,
}

/// The part of a body before its first string.
struct Opening<'b> {
    rest: &'b [u8],
    /// The brackets that close what is open.
    open: Vec<u8>,
    /// Whether a value has ended right before.
    after_value: bool,
}

impl Opening<'_> {
    fn step(&mut self) -> Step {
        self.rest = self.rest.trim_ascii_start();
        let Some(first) = self.rest.first().copied() else { return Step::Json };
        match first {
            // A string, a value after one that has ended, one that is left out, or a comment. No text has NUL.
            0 | b'"' | b'\'' => return Step::Json,
            b',' if !self.after_value => return Step::Json,
            b'{' | b'[' if self.after_value || self.open.len() >= MOST_DEPTH => return Step::Json,
            b'/' if matches!(self.rest.get(1), None | Some(b'/' | b'*')) => return Step::Json,
            b'{' | b'[' => self.open.push(if first == b'{' { b'}' } else { b']' }),
            b'}' | b']' if self.open.last() == Some(&first) => {
                self.open.pop();
                self.after_value = true;
                // A whole object is JSON, whatever follows it. A text may begin with `[1]` or `[ ]`.
                if first == b'}' && self.open.is_empty() {
                    return Step::Json;
                }
            }
            b',' if self.after_value && !self.open.is_empty() => self.after_value = false,
            _ if self.after_value => return Step::Text,
            _ if self.open.last() == Some(&b'}') => return self.name(),
            _ => return self.scalar(),
        }
        self.rest = self.rest.get(1..).unwrap_or_default();
        Step::On
    }

    /// A name without quotation marks, as some dialects have it.
    fn name(&self) -> Step {
        let is_of_name = |byte: &&u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$' | 0x80..);
        let length = self.rest.iter().take_while(is_of_name).count();
        let after = self.rest.get(length..).unwrap_or_default().trim_ascii_start();
        if length > 0 && matches!(after.first(), None | Some(b':')) { Step::Json } else { Step::Text }
    }

    /// A number or a word, which has to end where a value may end.
    fn scalar(&mut self) -> Step {
        let is_of_scalar =
            |byte: &&u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.' | b'_' | b'$');
        let length = self.rest.iter().take_while(is_of_scalar).count();
        let (scalar, after) = self.rest.split_at_checked(length).unwrap_or_default();
        let unsigned = scalar.strip_prefix(b"-").or_else(|| scalar.strip_prefix(b"+")).unwrap_or(scalar);
        let is_cut = after.is_empty();
        let is_word = WORDS.iter().any(|word| *word == unsigned || (is_cut && word.starts_with(unsigned)));
        let is_number = match unsigned {
            [b'0', b'x' | b'X', digits @ ..] => digits.iter().all(u8::is_ascii_hexdigit),
            [b'0'..=b'9' | b'.', ..] => unsigned.iter().all(|byte| byte.is_ascii_digit() || b"eE+-.".contains(byte)),
            _ => false,
        };
        let next = after.trim_ascii_start().first();
        if !(is_word || is_number) || !matches!(next, None | Some(b',' | b']' | b'"' | b'\'' | b'{' | b'[')) {
            return Step::Text;
        }
        (self.rest, self.after_value) = (after, true);
        Step::On
    }
}

#[cfg(test)]
mod tests {
    use super::may_be_json;

    #[test]
    fn texts_may_begin_with_a_bracket() {
        for text in [
            "[MASKED some.rule] hello",
            "[note] do \"it\"",
            "{{template}} and {\"a\": 1}",
            "[2026-03-03 10:00:01] a line of a log",
            "[12:30] hi",
            "[1/3] step",
            "[INFO] {\"a\": \"b\"}",
            "[[link]] to it",
            "[x] done\n[ ] not yet",
            "[ ] not yet",
            "[1] The first footnote, of [2]",
            "[null pointer] exception",
            "[/INST] so",
            "{name} is \"it\"",
            "[link](https://example.org)",
            "{% if x %}",
            "[nulls, \"a\"]",
            "[{}, {}, x: \"y\"]",
            "\u{feff}[note] do it",
            "\u{feff}a text",
        ] {
            assert!(!may_be_json(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn json_is_json_however_damaged() {
        for text in [
            "{",
            "[",
            " {\n",
            "{\"",
            "{\"a",
            "{\"a\" b}",
            "[1, 2",
            "[tru",
            "[-",
            "[1.5e",
            "[true, \"a\"",
            "[1 \"a\"]",
            "{}{\"a\": 1}",
            "[] [\"a\"]",
            "[1]\n{\"a\": \"b\"}",
            "{a: \"b\"}",
            "{'a': 'b'}",
            "{ // note\n \"a\": 1}",
            "[/* x */ \"a\"]",
            "[,\"a\"]",
            "[{\"a\"",
            "[[\"a\"",
            "[NaN, \"a\"]",
            "[0x10, \"a\"]",
            "[]",
            "{}",
            "\u{feff}{\"a\"",
            "\u{feff} [1,",
            "{\0\"\0",
            "\0{",
            " \0 \0{",
            "[ \0",
        ] {
            assert!(may_be_json(text.as_bytes()), "{text}");
        }
        assert!(may_be_json("[".repeat(1_000).as_bytes()));
    }
}
