//! Strict JSON. Parsers differ in what they make of duplicate keys, byte order marks, lone surrogates and invalid
//! UTF-8, so a signed text that has one of these could mean one thing to us and another to the next reader. It is
//! refused.

use std::collections::HashSet;

/// The deepest nesting that Go's JSON packages read.
const MOST_DEPTH: usize = 10_000;
/// Larger integers do not survive a parser that stores numbers as floating point.
const MOST_INTEGER: u64 = 1 << 53;

/// Why a text is not accepted as JSON.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JsonError {
    /// A byte order mark at the beginning.
    #[error("it begins with a byte order mark")]
    ByteOrderMark,
    /// Bytes that are not UTF-8.
    #[error("invalid UTF-8 at byte {0}")]
    Utf8(usize),
    /// Not JSON.
    #[error("invalid JSON at byte {0}")]
    Syntax(usize),
    /// Half of a surrogate pair.
    #[error("lone surrogate at byte {0}")]
    Surrogate(usize),
    /// A key that an object has twice.
    #[error("duplicate key at byte {0}")]
    DuplicateKey(usize),
    /// Objects and arrays nested too deeply.
    #[error("nested more than {MOST_DEPTH} levels deep")]
    Depth,
    /// A number that a reader may round.
    #[error("integer above 2^53 at byte {0}: write it as a string")]
    LargeInteger(usize),
}

/// Checks a text that others wrote.
pub(crate) fn check(text: &[u8]) -> Result<&str, JsonError> {
    Checker::run(text, false)
}

/// Checks a text that is to be signed: no reader may round its numbers.
pub(crate) fn check_written(text: &[u8]) -> Result<&str, JsonError> {
    Checker::run(text, true)
}

enum Level {
    Array,
    /// The keys so far.
    Object(HashSet<String>),
}

struct Checker<'t> {
    text: &'t [u8],
    at: usize,
    open: Vec<Level>,
    exact_integers: bool,
}

impl<'t> Checker<'t> {
    fn run(text: &'t [u8], exact_integers: bool) -> Result<&'t str, JsonError> {
        if text.starts_with("\u{feff}".as_bytes()) {
            return Err(JsonError::ByteOrderMark);
        }
        let valid = std::str::from_utf8(text).map_err(|error| JsonError::Utf8(error.valid_up_to()))?;
        let mut checker = Checker { text, at: 0, open: Vec::new(), exact_integers };
        loop {
            if checker.value()? {
                // An object or array was opened, and its first value follows.
                continue;
            }
            if checker.end_of_value()? {
                return Ok(valid);
            }
        }
    }

    /// Reads a scalar, an empty object or array, or the beginning of another. Whether a value follows in it.
    fn value(&mut self) -> Result<bool, JsonError> {
        self.space();
        match self.peek() {
            Some(b'{') => self.open(Level::Object(HashSet::new()), b'}'),
            Some(b'[') => self.open(Level::Array, b']'),
            Some(b'"') => self.string().map(|_| false),
            Some(b't') => self.literal(b"true"),
            Some(b'f') => self.literal(b"false"),
            Some(b'n') => self.literal(b"null"),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => Err(self.syntax()),
        }
    }

    fn open(&mut self, level: Level, end: u8) -> Result<bool, JsonError> {
        if self.open.len() == MOST_DEPTH {
            return Err(JsonError::Depth);
        }
        self.at += 1;
        self.space();
        if self.peek() == Some(end) {
            self.at += 1;
            return Ok(false);
        }
        let is_object = matches!(level, Level::Object(_));
        self.open.push(level);
        if is_object {
            self.key()?;
        }
        Ok(true)
    }

    /// What follows a value: a comma, or ends of objects and arrays. Whether it is the end of the text.
    fn end_of_value(&mut self) -> Result<bool, JsonError> {
        loop {
            self.space();
            let next = self.peek();
            let Some(level) = self.open.last() else {
                return if next.is_none() { Ok(true) } else { Err(self.syntax()) };
            };
            let (is_object, end) = match level {
                Level::Object(_) => (true, b'}'),
                Level::Array => (false, b']'),
            };
            if next == Some(b',') {
                self.at += 1;
                if is_object {
                    self.key()?;
                }
                return Ok(false);
            }
            if next != Some(end) {
                return Err(self.syntax());
            }
            self.at += 1;
            self.open.pop();
        }
    }

    fn key(&mut self) -> Result<(), JsonError> {
        self.space();
        let at = self.at;
        let key = self.string()?;
        self.space();
        if self.peek() != Some(b':') {
            return Err(self.syntax());
        }
        self.at += 1;
        let is_new = match self.open.last_mut() {
            Some(Level::Object(keys)) => keys.insert(key),
            _ => true,
        };
        if is_new { Ok(()) } else { Err(JsonError::DuplicateKey(at)) }
    }

    fn string(&mut self) -> Result<String, JsonError> {
        if self.peek() != Some(b'"') {
            return Err(self.syntax());
        }
        self.at += 1;
        let mut bytes = Vec::new();
        loop {
            match self.peek() {
                None | Some(0..0x20) => return Err(self.syntax()),
                Some(b'"') => break,
                Some(b'\\') => {
                    let mut buffer = [0; 4];
                    bytes.extend_from_slice(self.escape()?.encode_utf8(&mut buffer).as_bytes());
                }
                Some(byte) => {
                    bytes.push(byte);
                    self.at += 1;
                }
            }
        }
        self.at += 1;
        String::from_utf8(bytes).map_err(|_| self.syntax())
    }

    fn escape(&mut self) -> Result<char, JsonError> {
        let at = self.at;
        self.at += 2;
        Ok(match self.text.get(at + 1) {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.code_point(at),
            _ => return Err(JsonError::Syntax(at)),
        })
    }

    fn code_point(&mut self, at: usize) -> Result<char, JsonError> {
        let first = self.four_digits()?;
        let code = match first {
            0xd800..0xdc00 => {
                if self.text.get(self.at..self.at + 2) != Some(b"\\u") {
                    return Err(JsonError::Surrogate(at));
                }
                self.at += 2;
                let second = self.four_digits()?;
                if !(0xdc00..0xe000).contains(&second) {
                    return Err(JsonError::Surrogate(at));
                }
                0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00)
            }
            other => other,
        };
        char::from_u32(code).ok_or(JsonError::Surrogate(at))
    }

    fn four_digits(&mut self) -> Result<u32, JsonError> {
        let digits = self.text.get(self.at..self.at + 4).ok_or(JsonError::Syntax(self.at))?;
        let mut code = 0;
        for digit in digits {
            code = code * 16 + char::from(*digit).to_digit(16).ok_or(JsonError::Syntax(self.at))?;
        }
        self.at += 4;
        Ok(code)
    }

    fn literal(&mut self, word: &[u8]) -> Result<bool, JsonError> {
        if !self.text.get(self.at..).is_some_and(|rest| rest.starts_with(word)) {
            return Err(self.syntax());
        }
        self.at += word.len();
        Ok(false)
    }

    fn number(&mut self) -> Result<bool, JsonError> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        let digits = self.at;
        match self.peek() {
            Some(b'0') => self.at += 1,
            _ => self.digits()?,
        }
        let integer = self.text.get(digits..self.at).unwrap_or_default();
        let mut is_integer = true;
        if self.peek() == Some(b'.') {
            is_integer = false;
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            is_integer = false;
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        let integer = std::str::from_utf8(integer).unwrap_or_default();
        let is_exact = !is_integer || integer.parse::<u64>().is_ok_and(|value| value <= MOST_INTEGER);
        if self.exact_integers && !is_exact { Err(JsonError::LargeInteger(start)) } else { Ok(false) }
    }

    fn digits(&mut self) -> Result<(), JsonError> {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        if self.at == start { Err(self.syntax()) } else { Ok(()) }
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn syntax(&self) -> JsonError {
        JsonError::Syntax(self.at)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ambiguous_texts_are_refused() {
        assert_eq!(check(b"\xef\xbb\xbf{}"), Err(JsonError::ByteOrderMark));
        assert_eq!(check(b"[\"\xff\"]"), Err(JsonError::Utf8(2)));
        assert_eq!(check(br#"{"a":1,"a":1}"#), Err(JsonError::DuplicateKey(7)));
        assert_eq!(check(br#"{"a":1,"\u0061":1}"#), Err(JsonError::DuplicateKey(7)));
        assert_eq!(check(br#"[{"x":{"b":[],"b":{}}}]"#), Err(JsonError::DuplicateKey(14)));
        for lone in [r#"["\ud800"]"#, r#"["\ud800\u0041"]"#, r#"["\udc00"]"#, r#"["\ud800\n"]"#] {
            assert!(matches!(check(lone.as_bytes()), Err(JsonError::Surrogate(_))), "{lone}");
        }
        assert!(check(br#"["\ud83d\ude00", "\u0000"]"#).is_ok());
        let nested = |levels| "[".repeat(levels) + &"]".repeat(levels);
        assert!(check(nested(10_000).as_bytes()).is_ok());
        assert_eq!(check(nested(10_001).as_bytes()), Err(JsonError::Depth));
    }

    #[test]
    fn integers_that_a_reader_rounds_are_not_written() {
        assert!(check(b"[9007199254740993]").is_ok());
        assert!(check_written(b"[9007199254740992, -9007199254740992, 0.5, 1e9]").is_ok());
        for text in ["[9007199254740993]", "[-9007199254740993]", "[99999999999999999999]"] {
            assert_eq!(check_written(text.as_bytes()), Err(JsonError::LargeInteger(1)));
        }
    }

    proptest! {
        /// Apart from what is refused on purpose, it accepts what serde_json accepts.
        #[test]
        fn it_agrees_with_serde_json(text in r#"[\[\]{}":, 0-9eE.+\-a\\untrf]{0,24}"#) {
            let accepted = serde_json::from_str::<serde_json::Value>(&text).is_ok();
            match check(text.as_bytes()) {
                Ok(_) => prop_assert!(accepted || text.contains('e') || text.contains('E'), "{text}"),
                Err(JsonError::DuplicateKey(_) | JsonError::Surrogate(_)) => {}
                Err(_) => prop_assert!(!accepted, "{text}"),
            }
        }
    }
}
