//! JSON as Harbor's Go reads it, with the words of its errors: invalid UTF-8 and lone surrogates become U+FFFD, numbers
//! are floating-point, names of fields match in any case, and more than 10,000 levels are an error.

use serde_json::{Map, Number, Value};

const MOST_LEVELS: usize = 10_000;

/// The document, or Go's words about what is wrong with it.
pub fn decode(bytes: &[u8]) -> Result<Value, String> {
    let mut decoder = Decoder { bytes, at: 0, level: 0 };
    let value = decoder.value()?;
    match decoder.next() {
        None => Ok(value),
        Some(byte) => Err(invalid(byte, "after top-level value")),
    }
}

/// A field, whose name Go matches in any case where there is none that matches exactly.
pub fn field<'v>(object: &'v Map<String, Value>, name: &str) -> &'v Value {
    let other = || object.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value);
    object.get(name).or_else(other).unwrap_or(&Value::Null)
}

/// An object's fields; `None` for null. `place` is `Go value` or `Go struct field X.y`, and `kind` the Go type.
pub fn object<'v>(value: &'v Value, place: &str, kind: &str) -> Result<Option<&'v Map<String, Value>>, String> {
    match value {
        Value::Null => Ok(None),
        Value::Object(fields) => Ok(Some(fields)),
        other => Err(unfit(other, place, kind)),
    }
}

/// A text, empty for null.
pub fn text(value: &Value, place: &str, kind: &str) -> Result<String, String> {
    match value {
        Value::Null => Ok(String::new()),
        Value::String(text) => Ok(text.clone()),
        other => Err(unfit(other, place, kind)),
    }
}

/// A number; `None` for null.
pub fn number(value: &Value, place: &str) -> Result<Option<f64>, String> {
    match value {
        Value::Null => Ok(None),
        Value::Number(number) => Ok(number.as_f64()),
        other => Err(unfit(other, place, "float64")),
    }
}

/// The items of a list; none for null.
pub fn list<'v>(value: &'v Value, place: &str, kind: &str) -> Result<&'v [Value], String> {
    match value {
        Value::Null => Ok(&[]),
        Value::Array(items) => Ok(items),
        other => Err(unfit(other, place, kind)),
    }
}

/// Texts.
pub fn texts(value: &Value, place: &str) -> Result<Vec<String>, String> {
    list(value, place, "[]string")?.iter().map(|item| text(item, place, "string")).collect()
}

fn unfit(value: &Value, place: &str, kind: &str) -> String {
    let found = match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    format!("json: cannot unmarshal {found} into {place} of type {kind}")
}

fn invalid(byte: u8, context: &str) -> String {
    let quoted = match byte {
        b'\'' => r"\'".to_string(),
        b'\\' => r"\\".to_string(),
        // Go takes the byte as a character.
        byte => char::from(byte).to_string(),
    };
    format!("invalid character '{quoted}' {context}")
}

fn ended() -> String {
    "unexpected end of JSON input".into()
}

struct Decoder<'b> {
    bytes: &'b [u8],
    at: usize,
    level: usize,
}

impl Decoder<'_> {
    /// The next byte that is no blank, which is not passed.
    fn next(&mut self) -> Option<u8> {
        while matches!(self.bytes.get(self.at), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
        self.bytes.get(self.at).copied()
    }

    fn value(&mut self) -> Result<Value, String> {
        match self.next().ok_or_else(ended)? {
            b'{' => self.deeper(b'{', Self::fields),
            b'[' => self.deeper(b'[', Self::items),
            b'"' => self.string().map(Value::String),
            b't' => self.word("true", Value::Bool(true)),
            b'f' => self.word("false", Value::Bool(false)),
            b'n' => self.word("null", Value::Null),
            b'-' | b'0'..=b'9' => self.number(),
            other => Err(invalid(other, "looking for beginning of value")),
        }
    }

    fn deeper(&mut self, byte: u8, read: fn(&mut Self) -> Result<Value, String>) -> Result<Value, String> {
        self.at += 1;
        self.level += 1;
        if self.level > MOST_LEVELS {
            return Err(invalid(byte, "exceeded max depth"));
        }
        let value = read(self);
        self.level -= 1;
        value
    }

    fn fields(&mut self) -> Result<Value, String> {
        let mut fields = Map::new();
        if self.next() == Some(b'}') {
            self.at += 1;
            return Ok(Value::Object(fields));
        }
        loop {
            match self.next().ok_or_else(ended)? {
                b'"' => {}
                other => return Err(invalid(other, "looking for beginning of object key string")),
            }
            let name = self.string()?;
            match self.next().ok_or_else(ended)? {
                b':' => self.at += 1,
                other => return Err(invalid(other, "after object key")),
            }
            let value = self.value()?;
            fields.insert(name, value);
            match self.next().ok_or_else(ended)? {
                b',' => self.at += 1,
                b'}' => {
                    self.at += 1;
                    return Ok(Value::Object(fields));
                }
                other => return Err(invalid(other, "after object key:value pair")),
            }
        }
    }

    fn items(&mut self) -> Result<Value, String> {
        let mut items = Vec::new();
        if self.next() == Some(b']') {
            self.at += 1;
            return Ok(Value::Array(items));
        }
        loop {
            items.push(self.value()?);
            match self.next().ok_or_else(ended)? {
                b',' => self.at += 1,
                b']' => {
                    self.at += 1;
                    return Ok(Value::Array(items));
                }
                other => return Err(invalid(other, "after array element")),
            }
        }
    }

    fn word(&mut self, word: &str, value: Value) -> Result<Value, String> {
        for (place, expected) in word.bytes().enumerate() {
            let found = *self.bytes.get(self.at + place).ok_or_else(ended)?;
            if found != expected {
                let wanted = char::from(expected);
                return Err(invalid(found, &format!("in literal {word} (expecting '{wanted}')")));
            }
        }
        self.at += word.len();
        Ok(value)
    }

    fn number(&mut self) -> Result<Value, String> {
        let rest = &self.bytes[self.at..];
        let is_part = |byte: &u8| matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9');
        let length = rest.iter().position(|byte| !is_part(byte)).unwrap_or(rest.len());
        let text = String::from_utf8_lossy(&rest[..length]).into_owned();
        self.at += length;
        let float: f64 = text.parse().map_err(|_| invalid(text.as_bytes()[0], "in numeric literal"))?;
        // What a float holds exactly is written without a fraction, as Go does.
        let number = match float.fract() == 0.0 && float.abs() < 9.0e15 {
            true => Some(Number::from(float as i64)),
            false => Number::from_f64(float),
        };
        number.map(Value::Number).ok_or_else(|| format!("json: cannot unmarshal number {text}"))
    }

    /// A string, at whose opening quote this is.
    fn string(&mut self) -> Result<String, String> {
        self.at += 1;
        let mut bytes = Vec::new();
        loop {
            let byte = *self.bytes.get(self.at).ok_or_else(ended)?;
            self.at += 1;
            match byte {
                b'"' => return Ok(replaced(&bytes)),
                b'\\' => self.escape(&mut bytes)?,
                byte if byte < b' ' => return Err(invalid(byte, "in string literal")),
                byte => bytes.push(byte),
            }
        }
    }

    fn escape(&mut self, bytes: &mut Vec<u8>) -> Result<(), String> {
        let byte = *self.bytes.get(self.at).ok_or_else(ended)?;
        self.at += 1;
        let plain = match byte {
            b'"' | b'\\' | b'/' => byte,
            b'b' => 8,
            b'f' => 12,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => {
                let first = self.unit()?;
                let character = match first {
                    0xd800..0xdc00 => self.second(first),
                    unit => char::from_u32(unit),
                };
                let character = character.unwrap_or(char::REPLACEMENT_CHARACTER);
                bytes.extend(character.encode_utf8(&mut [0; 4]).bytes());
                return Ok(());
            }
            other => return Err(invalid(other, "in string escape code")),
        };
        bytes.push(plain);
        Ok(())
    }

    fn unit(&mut self) -> Result<u32, String> {
        let digits = self.bytes.get(self.at..self.at + 4).ok_or_else(ended)?;
        let wrong = |_| invalid(digits[0], r"in \u hexadecimal character escape");
        let unit = u32::from_str_radix(&String::from_utf8_lossy(digits), 16).map_err(wrong)?;
        self.at += 4;
        Ok(unit)
    }

    /// The character of two surrogates, if there is a second one.
    fn second(&mut self, first: u32) -> Option<char> {
        let rest = self.bytes.get(self.at..self.at + 6)?.strip_prefix(br"\u")?;
        let second = u32::from_str_radix(std::str::from_utf8(rest).ok()?, 16).ok()?;
        let low = second.checked_sub(0xdc00).filter(|low| *low < 0x400)?;
        self.at += 6;
        char::from_u32(0x10000 + ((first - 0xd800) << 10) + low)
    }
}

/// The text, with U+FFFD for each byte that is not part of a character.
fn replaced(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.utf8_chunks() {
        text += chunk.valid();
        text.extend(chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER));
    }
    text
}
