//! JSON with the place of every value in the text, so that a copy can replace a string and leave all other bytes alone.
//!
//! Readers differ in what they make of duplicate keys, half surrogates, byte order marks and invalid UTF-8. A gate that
//! reads one thing while the model reads another is open, so such a text is refused.

use std::borrow::Cow;
use std::ops::Range;

/// The byte order mark of UTF-8, which some servers and readers of events drop.
pub(crate) const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The deepest nesting of objects and arrays. Schemas of tools nest about twenty levels deep.
pub(crate) const MOST_DEPTH: usize = 128;

/// The most values of a document, without the numbers in lists of numbers. A chat of a million tokens with all its
/// tools has some tens of thousands. Each takes up to 256 bytes until the body was checked.
pub(crate) const MOST_VALUES: usize = 250_000;

/// The most bytes of a document, whatever the policy allows: places in it have 32 bits.
const MOST_BYTES: usize = 1 << 30;

/// Why a body cannot be read. No variant has anything of the body in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unreadable {
    /// The text begins with a byte order mark.
    #[error("it begins with a byte order mark")]
    ByteOrderMark,
    /// The text is UTF-16 or UTF-32, which some servers read as JSON: its first characters have NUL in them.
    #[error("it begins with NUL, as UTF-16 and UTF-32 do")]
    Wide,
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
    TooDeep,
    /// Too many values, which take far more memory than text does.
    #[error("it has more than {MOST_VALUES} values besides the numbers in lists of numbers")]
    TooManyValues,
    /// The body is larger than the policy allows.
    #[error("it has more than {0} bytes")]
    TooLarge(usize),
    /// A form of HTML that cannot be taken apart in one way only, with the byte.
    #[error("invalid multipart/form-data at byte {1}: {0}")]
    Multipart(&'static str, usize),
    /// The document is not of the form that it was announced as.
    #[error("it is not {0}")]
    Form(&'static str),
}

/// A range of the bytes of a document. There are many of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) start: u32,
    pub(crate) end: u32,
}

impl Span {
    pub(crate) fn of(range: Range<usize>) -> Span {
        Span { start: offset(range.start), end: offset(range.end) }
    }

    pub(crate) fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }
}

/// An offset, of which no document has more than fit.
pub(crate) fn offset(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

/// A value, and the bytes of the text that it takes.
#[derive(Debug)]
pub(crate) struct Node<'a> {
    pub(crate) span: Span,
    pub(crate) value: Value<'a>,
}

#[derive(Debug)]
pub(crate) enum Value<'a> {
    /// `null`, `true` or `false`.
    Literal,
    /// As it is written.
    Number(&'a str),
    String(Cow<'a, str>),
    /// A list of numbers, or of nothing, as it is written between its brackets: numbers are not kept one by one.
    Numbers(&'a str),
    Array(Box<[Node<'a>]>),
    Object(Box<[Member<'a>]>),
}

#[derive(Debug)]
pub(crate) struct Member<'a> {
    pub(crate) key: Cow<'a, str>,
    /// Where the key begins in the document.
    pub(crate) key_at: u32,
    pub(crate) node: Node<'a>,
}

impl<'a> Node<'a> {
    /// The member of an object with this key.
    pub(crate) fn get(&self, key: &str) -> Option<&Node<'a>> {
        let Value::Object(members) = &self.value else { return None };
        members.iter().find(|member| member.key == key).map(|member| &member.node)
    }

    /// The text of a string.
    pub(crate) fn text(&self) -> Option<&str> {
        if let Value::String(text) = &self.value { Some(text) } else { None }
    }

    /// Whether numbers are among the items of an array.
    pub(crate) fn has_numbers(&self) -> bool {
        match &self.value {
            Value::Numbers(list) => !list.trim().is_empty(),
            Value::Array(items) => items.iter().any(|item| matches!(item.value, Value::Number(_))),
            _ => false,
        }
    }

    /// The items of an array that are no list of numbers; none for any other value.
    pub(crate) fn items(&self) -> &[Node<'a>] {
        if let Value::Array(items) = &self.value { items } else { &[] }
    }

    /// The value of a number that is a small index.
    pub(crate) fn small_number(&self) -> Option<u64> {
        if let Value::Number(text) = &self.value { text.parse().ok() } else { None }
    }

    /// The text of the member `key`, if that is a string.
    pub(crate) fn text_of(&self, key: &str) -> Option<&str> {
        self.get(key)?.text()
    }
}

/// Whether a text begins as an object or a list does.
pub(crate) fn is_opening(text: &str) -> bool {
    text.trim_start().starts_with(['{', '['])
}

/// Reads a whole document.
pub(crate) fn parse(bytes: &[u8]) -> Result<Node<'_>, Unreadable> {
    let text = std::str::from_utf8(bytes).map_err(|error| Unreadable::Utf8(error.valid_up_to()))?;
    if text.starts_with('\u{feff}') {
        return Err(Unreadable::ByteOrderMark);
    }
    if is_wide(bytes) {
        return Err(Unreadable::Wide);
    }
    if text.len() > MOST_BYTES {
        return Err(Unreadable::TooLarge(MOST_BYTES));
    }
    let mut reader = Reader { text, at: 0, depth: 0, values: 0 };
    let node = reader.value()?;
    reader.space();
    if reader.at < text.len() { Err(Unreadable::Syntax(reader.at)) } else { Ok(node) }
}

/// The string that begins at a quotation mark of a document.
pub(crate) fn string_at(text: &str, at: u32) -> Cow<'_, str> {
    Reader { text, at: at as usize, depth: 0, values: 0 }.string().unwrap_or_default()
}

/// The bytes of a JSON string, with its quotes, that write the bytes in `range` of its text.
pub(crate) fn written(string: &str, range: &Range<usize>) -> Range<usize> {
    let last = string.len().saturating_sub(1);
    let mut reader = Reader { text: string, at: 1, depth: 0, values: 0 };
    // Bytes of the text before the reader, and where the range begins.
    let (mut length, mut start) = (0, 1);
    while reader.at < last && length < range.end {
        if length <= range.start {
            start = reader.at;
        }
        let next = if length < range.start { range.start } else { range.end };
        let plain = string.as_bytes().get(reader.at..last).unwrap_or_default();
        let plain = plain.get(..next - length).unwrap_or(plain);
        match memchr::memchr(b'\\', plain).unwrap_or(plain.len()) {
            0 => length += reader.escape().map_or(1, char::len_utf8),
            run => {
                length += run;
                reader.at += run;
            }
        }
    }
    if length <= range.start {
        start = reader.at;
    }
    start..reader.at.max(start).min(last.max(1))
}

/// The numbers of a list of numbers, as far as they are small.
pub(crate) fn small_numbers(list: &str) -> impl Iterator<Item = Option<u64>> {
    list.split(',').map(|number| number.trim_ascii().parse().ok())
}

/// Whether a text is UTF-16 or UTF-32 without a byte order mark, if it is JSON: the first character of JSON is ASCII
/// (RFC 4627, section 3). Servers that detect the encoding so look at the first four bytes.
pub(crate) fn is_wide(bytes: &[u8]) -> bool {
    bytes.iter().take(4).any(|byte| *byte == 0)
}

/// `text` as a JSON string with its quotes, as JSON encoders of other languages write it.
pub(crate) fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if u32::from(c) < 0x20 => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
    values: usize,
}

impl<'a> Reader<'a> {
    fn value(&mut self) -> Result<Node<'a>, Unreadable> {
        self.space();
        self.values += 1;
        if self.values > MOST_VALUES {
            return Err(Unreadable::TooManyValues);
        }
        let start = self.at;
        let value = match self.peek() {
            Some(b'"') => Value::String(self.string()?),
            Some(b'{') => self.nested(Reader::object)?,
            Some(b'[') => self.nested(Reader::array)?,
            Some(b'-' | b'0'..=b'9') => self.number()?,
            _ => self.literal()?,
        };
        Ok(Node { span: Span::of(start..self.at), value })
    }

    fn nested(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<Value<'a>, Unreadable>,
    ) -> Result<Value<'a>, Unreadable> {
        if self.depth >= MOST_DEPTH {
            return Err(Unreadable::TooDeep);
        }
        self.depth += 1;
        self.at += 1;
        let value = read(self)?;
        self.depth -= 1;
        Ok(value)
    }

    fn object(&mut self) -> Result<Value<'a>, Unreadable> {
        let mut members: Vec<Member<'a>> = Vec::new();
        self.space();
        if self.take(b'}') {
            return Ok(Value::Object(Box::default()));
        }
        loop {
            self.space();
            let start = self.at;
            if self.peek() != Some(b'"') {
                return self.wrong();
            }
            let key = self.string()?;
            self.space();
            self.expect(b':')?;
            let node = self.value()?;
            members.push(Member { key, key_at: offset(start), node });
            self.space();
            if !self.take(b',') {
                self.expect(b'}')?;
                return match duplicate(&members) {
                    Some(member) => Err(Unreadable::DuplicateKey(member.key_at as usize)),
                    None => Ok(Value::Object(members.into())),
                };
            }
        }
    }

    fn array(&mut self) -> Result<Value<'a>, Unreadable> {
        let start = self.at;
        if let Some(list) = self.numbers() {
            return Ok(Value::Numbers(list));
        }
        self.at = start;
        let mut items = Vec::new();
        loop {
            items.push(self.value()?);
            self.space();
            if !self.take(b',') {
                self.expect(b']')?;
                return Ok(Value::Array(items.into()));
            }
        }
    }

    /// A list of numbers or of nothing, to its end; `None` if it is another list.
    fn numbers(&mut self) -> Option<&'a str> {
        let start = self.at;
        self.space();
        if !self.take(b']') {
            loop {
                self.space();
                self.peek().filter(|byte| matches!(byte, b'-' | b'0'..=b'9'))?;
                self.number().ok()?;
                self.space();
                if self.take(b']') {
                    break;
                }
                self.expect(b',').ok()?;
            }
        }
        Some(self.slice(start, self.at - 1))
    }

    fn string(&mut self) -> Result<Cow<'a, str>, Unreadable> {
        self.at += 1;
        let start = self.at;
        let mut owned: Option<String> = None;
        // Where the bytes begin that were not yet copied.
        let mut from = start;
        loop {
            match self.peek() {
                Some(b'"') => {
                    let rest = self.slice(from, self.at);
                    self.at += 1;
                    return Ok(match owned {
                        None => Cow::Borrowed(rest),
                        Some(text) => {
                            let mut text = text + rest;
                            text.shrink_to_fit();
                            Cow::Owned(text)
                        }
                    });
                }
                Some(b'\\') => {
                    let rest = self.slice(from, self.at);
                    let text = owned.get_or_insert_with(String::new);
                    text.push_str(rest);
                    let decoded = self.escape()?;
                    owned.get_or_insert_with(String::new).push(decoded);
                    from = self.at;
                }
                Some(0..0x20) | None => return self.wrong(),
                Some(_) => self.at += 1,
            }
        }
    }

    fn escape(&mut self) -> Result<char, Unreadable> {
        let start = self.at;
        self.at += 1;
        let kind = self.peek();
        self.at += 1;
        Ok(match kind {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.unicode(start),
            _ => return Err(Unreadable::Syntax(start)),
        })
    }

    fn unicode(&mut self, start: usize) -> Result<char, Unreadable> {
        let first = self.hex(start)?;
        if !(0xd800..0xe000).contains(&first) {
            return char::from_u32(first).ok_or(Unreadable::Surrogate(start));
        }
        if first >= 0xdc00 || !self.text.as_bytes()[self.at..].starts_with(b"\\u") {
            return Err(Unreadable::Surrogate(start));
        }
        self.at += 2;
        let second = self.hex(start)?;
        if !(0xdc00..0xe000).contains(&second) {
            return Err(Unreadable::Surrogate(start));
        }
        char::from_u32(0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00)).ok_or(Unreadable::Surrogate(start))
    }

    fn hex(&mut self, start: usize) -> Result<u32, Unreadable> {
        let digits = self.text.as_bytes().get(self.at..self.at + 4).ok_or(Unreadable::Syntax(start))?;
        let mut value = 0;
        for digit in digits {
            value = value << 4 | char::from(*digit).to_digit(16).ok_or(Unreadable::Syntax(start))?;
        }
        self.at += 4;
        Ok(value)
    }

    fn number(&mut self) -> Result<Value<'a>, Unreadable> {
        let start = self.at;
        self.take(b'-');
        if !self.take(b'0') {
            self.digits()?;
        }
        if self.take(b'.') {
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(Value::Number(self.slice(start, self.at)))
    }

    fn digits(&mut self) -> Result<(), Unreadable> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at == start { self.wrong() } else { Ok(()) }
    }

    fn literal(&mut self) -> Result<Value<'a>, Unreadable> {
        for word in ["null", "true", "false"] {
            if self.text.as_bytes()[self.at..].starts_with(word.as_bytes()) {
                self.at += word.len();
                return Ok(Value::Literal);
            }
        }
        self.wrong()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> bool {
        let is_there = self.peek() == Some(byte);
        self.at += usize::from(is_there);
        is_there
    }

    fn expect(&mut self, byte: u8) -> Result<(), Unreadable> {
        if self.take(byte) { Ok(()) } else { self.wrong() }
    }

    fn wrong<T>(&self) -> Result<T, Unreadable> {
        Err(Unreadable::Syntax(self.at))
    }

    /// The text between two offsets at ASCII bytes, which are always boundaries of characters.
    fn slice(&self, start: usize, end: usize) -> &'a str {
        self.text.get(start..end).unwrap_or_default()
    }
}

/// A member whose key an earlier one of an object has.
fn duplicate<'m, 'a>(members: &'m [Member<'a>]) -> Option<&'m Member<'a>> {
    let mut sorted: Vec<&Member<'a>> = members.iter().collect();
    sorted.sort_unstable_by(|a, b| a.key.cmp(&b.key).then(a.key_at.cmp(&b.key_at)));
    sorted.windows(2).find_map(|two| match two {
        [first, second] if first.key == second.key => Some(*second),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(text: &str) -> Vec<String> {
        fn collect(node: &Node<'_>, all: &mut Vec<String>) {
            match &node.value {
                Value::String(text) => all.push(text.to_string()),
                Value::Array(items) => items.iter().for_each(|item| collect(item, all)),
                Value::Object(members) => members.iter().for_each(|member| {
                    all.push(member.key.to_string());
                    collect(&member.node, all);
                }),
                Value::Literal | Value::Number(_) | Value::Numbers(_) => {}
            }
        }
        let mut all = Vec::new();
        collect(&parse(text.as_bytes()).unwrap(), &mut all);
        all
    }

    #[test]
    fn strings_are_those_of_serde_json() {
        let text = r#" {"a":"x\n\u00e9\ud83d\ude00\/", "b" : [1, -2.5e+3, true, null, {"c":""}], "d\"":"\\"} "#;
        assert_eq!(strings(text), ["a", "x\né😀/", "b", "c", "", "d\"", "\\"]);
        let value: serde_json::Value = serde_json::from_str(text).unwrap();
        assert_eq!(value["a"], "x\né😀/");
    }

    #[test]
    fn a_quoted_string_is_read_back() {
        let text = "a\"\\\n\t\r\u{1}é😀\u{2028}";
        assert_eq!(serde_json::from_str::<String>(&quote(text)).unwrap(), text);
        assert_eq!(strings(&quote(text)), [text]);
    }

    #[test]
    fn what_two_readers_understand_in_two_ways_is_refused() {
        let error = |bytes: &[u8]| parse(bytes).unwrap_err();
        assert_eq!(error(br#"{"a":1,"a":2}"#), Unreadable::DuplicateKey(7));
        assert_eq!(error(br#"{"a":1,"\u0061":2}"#), Unreadable::DuplicateKey(7));
        assert_eq!(error(br#""\ud800""#), Unreadable::Surrogate(1));
        assert_eq!(error(br#""\udc00\ud800""#), Unreadable::Surrogate(1));
        assert_eq!(error(b"\"\xff\""), Unreadable::Utf8(1));
        assert_eq!(error("\u{feff}{}".as_bytes()), Unreadable::ByteOrderMark);
        for text in [&b"{\0}\0"[..], b"\0{\0}", b"\0\0\0{\0\0\0}", b" \0{\0}\0"] {
            assert_eq!(error(text), Unreadable::Wide);
        }
        assert_eq!(error(b"{} {}"), Unreadable::Syntax(3));
        assert_eq!(error("[".repeat(200).as_bytes()), Unreadable::TooDeep);
        for text in ["", "{", "[1,]", "{\"a\" 1}", "01", "1.", "nul", "\"a", "\"\\x\"", "\"\n\"", "{a:1}", "'a'"] {
            assert!(matches!(error(text.as_bytes()), Unreadable::Syntax(_)), "{text}");
        }
    }

    #[test]
    fn numbers_in_lists_are_not_kept_one_by_one() {
        let list = |text: &'static str| match parse(text.as_bytes()).unwrap().value {
            Value::Numbers(list) => small_numbers(list).collect::<Vec<_>>(),
            other => panic!("{other:?}"),
        };
        assert_eq!(list("[1, 2.5,-3 ]"), [Some(1), None, None]);
        let many = |item: &str, count: usize| format!("[{}]", vec![item; count].join(","));
        assert!(parse(many("0", 2 * MOST_VALUES).as_bytes()).is_ok());
        assert!(parse(many("[]", MOST_VALUES - 1).as_bytes()).is_ok());
        for text in [many("[]", MOST_VALUES), many("0,\"\"", MOST_VALUES / 2), many("0", 2 * MOST_VALUES) + "x"] {
            assert!(matches!(parse(text.as_bytes()), Err(Unreadable::TooManyValues | Unreadable::Syntax(_))));
        }
        assert!(matches!(parse(b"[1,2"), Err(Unreadable::Syntax(4))));
    }

    #[test]
    fn many_keys_are_compared_too() {
        let keys = (0..40).map(|i| format!("\"k{i}\":0")).collect::<Vec<_>>().join(",");
        assert!(parse(format!("{{{keys}}}").as_bytes()).is_ok());
        let again = format!("{{{keys},\"k3\":0}}");
        assert!(matches!(parse(again.as_bytes()), Err(Unreadable::DuplicateKey(_))));
    }
}
