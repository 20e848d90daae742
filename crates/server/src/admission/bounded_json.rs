//! A stream of JSON whose depth, strings and length are bounded before a parser sees them, so that its memory is too.
//!
//! A parser keeps a whole string before it asks anybody whether it is wanted, and one byte for each open bracket. Here
//! the rest of a long string is dropped while it passes: whoever wants a string of at most `n` bytes still sees one of
//! more than `n`, and whoever skips it does not notice.

use std::io::{self, Read};

/// The longest form of a byte in a string: `\u003c`.
const LONGEST_ESCAPE: usize = 6;

/// A bound that a stream goes over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OverBound {
    /// It has too many bytes.
    #[error("the body has more than {0} bytes")]
    Bytes(u64),
    /// Its objects and lists are nested too deeply.
    #[error("the body is nested more than {0} levels deep")]
    Depth(usize),
    /// A string has `\u` without four hexadecimal digits.
    #[error("the body has an invalid escape sequence")]
    Escape,
}

/// Passes JSON on, and at most as much of each string as `text_bytes` decoded bytes and one more can take.
pub(crate) struct BoundedJson<R> {
    inner: R,
    most_bytes: u64,
    most_depth: usize,
    most_string: usize,
    bytes: u64,
    depth: usize,
    string: Option<InString>,
    over: Option<OverBound>,
}

/// The state inside a string.
#[derive(Default)]
struct InString {
    passed: usize,
    is_dropped: bool,
    after_backslash: bool,
    hex_digits_left: u8,
}

impl<R: Read> BoundedJson<R> {
    pub(crate) fn new(inner: R, bytes: u64, depth: usize, text_bytes: usize) -> BoundedJson<R> {
        BoundedJson {
            inner,
            most_bytes: bytes,
            most_depth: depth,
            most_string: text_bytes.saturating_add(1).saturating_mul(LONGEST_ESCAPE),
            bytes: 0,
            depth: 0,
            string: None,
            over: None,
        }
    }

    /// The bound that the stream went over, after an error.
    pub(crate) fn over_bound(&self) -> Option<OverBound> {
        self.over
    }

    /// Moves what is passed on to the front of `buffer`, and returns how much it is. It ends where the stream goes over
    /// a bound: what is before is passed on.
    fn pass(&mut self, buffer: &mut [u8]) -> usize {
        let mut kept = 0;
        for at in 0..buffer.len() {
            let byte = buffer[at];
            match self.is_kept(byte) {
                Ok(true) => {
                    buffer[kept] = byte;
                    kept += 1;
                }
                Ok(false) => {}
                Err(over) => {
                    self.over = Some(over);
                    break;
                }
            }
        }
        kept
    }

    fn is_kept(&mut self, byte: u8) -> Result<bool, OverBound> {
        let Some(string) = &mut self.string else {
            self.outside(byte)?;
            return Ok(true);
        };
        let is_end = string.is_end(byte, self.most_string)?;
        let is_kept = is_end || !string.is_dropped;
        if is_end {
            self.string = None;
        }
        Ok(is_kept)
    }

    fn outside(&mut self, byte: u8) -> Result<(), OverBound> {
        match byte {
            b'"' => self.string = Some(InString::default()),
            b'{' | b'[' => {
                self.depth += 1;
                if self.depth > self.most_depth {
                    return Err(OverBound::Depth(self.most_depth));
                }
            }
            b'}' | b']' => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
        Ok(())
    }
}

impl InString {
    /// Takes the next byte, and returns whether it ends the string.
    fn is_end(&mut self, byte: u8, most: usize) -> Result<bool, OverBound> {
        let is_in_escape = self.after_backslash || self.hex_digits_left > 0;
        // Not in the middle of an escape sequence or of a character.
        if self.passed >= most && !is_in_escape && byte & 0xc0 != 0x80 {
            self.is_dropped = true;
        }
        self.passed += 1;
        if self.hex_digits_left > 0 {
            if !byte.is_ascii_hexdigit() {
                return Err(OverBound::Escape);
            }
            self.hex_digits_left -= 1;
        } else if self.after_backslash {
            self.after_backslash = false;
            self.hex_digits_left = if byte == b'u' { 4 } else { 0 };
        } else {
            self.after_backslash = byte == b'\\';
            return Ok(byte == b'"');
        }
        Ok(false)
    }
}

impl<R: Read> Read for BoundedJson<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some(over) = self.over {
                return Err(io::Error::other(over));
            }
            // One byte over the bound tells that there are more.
            let left = usize::try_from(self.most_bytes - self.bytes).unwrap_or(usize::MAX).saturating_add(1);
            let most = buffer.len().min(left);
            let mut read = self.inner.read(&mut buffer[..most])?;
            if read == 0 {
                return Ok(0);
            }
            if read == left {
                self.over = Some(OverBound::Bytes(self.most_bytes));
                read -= 1;
            }
            self.bytes += read as u64;
            let passed = self.pass(&mut buffer[..read]);
            // Nothing is the end, and not what only had dropped bytes.
            if passed > 0 {
                return Ok(passed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn bounded(text: &str, depth: usize, text_bytes: usize) -> (io::Result<Vec<u8>>, Option<OverBound>) {
        let mut stream = BoundedJson::new(text.as_bytes(), 10_000, depth, text_bytes);
        let mut out = Vec::new();
        let read = stream.read_to_end(&mut out).map(|_| out);
        (read, stream.over_bound())
    }

    #[test]
    fn the_rest_of_a_long_string_is_dropped_and_what_follows_stays() {
        let text = json!({"a": "<".repeat(5_000), "b\\": ["\\", "\"]", "ä".repeat(3_000)], "c": 1}).to_string();
        let escaped = text.replace('<', "\\u003c");
        let mut stream = BoundedJson::new(escaped.as_bytes(), 1 << 20, 10, 10);
        let mut out = String::new();
        stream.read_to_string(&mut out).unwrap();
        let value: Value = serde_json::from_str(&out).unwrap();
        assert_eq!(value["c"], 1);
        assert_eq!(value["b\\"][1], "\"]");
        assert!((11..=70).contains(&value["a"].as_str().unwrap().len()), "{value}");
        assert!(out.len() < 300);
    }

    #[test]
    fn depth_length_and_escapes_are_bounded() {
        assert_eq!(bounded("[[[]]]", 3, 10).0.unwrap(), b"[[[]]]");
        assert_eq!(bounded("[[[]]]", 2, 10).1, Some(OverBound::Depth(2)));
        assert_eq!(bounded(&"[".repeat(5_000), 100, 10).1, Some(OverBound::Depth(100)));
        assert_eq!(bounded("[\"[[[{{{\"]", 1, 10).1, None, "brackets in strings do not count");
        assert_eq!(bounded(&" ".repeat(10_001), 1, 10).1, Some(OverBound::Bytes(10_000)));
        assert_eq!(bounded("\"\\u12\",\"\"", 1, 10).1, Some(OverBound::Escape));
    }

    /// Gives one byte at a time.
    struct Slowly<'a>(&'a [u8]);

    impl Read for Slowly<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let some = buffer.len().min(1);
            self.0.read(&mut buffer[..some])
        }
    }

    proptest! {
        #[test]
        fn short_strings_pass_unchanged_in_pieces_of_any_size(
            text in "(\\[|\\]|\\{|\\}|\"[a-z\\\\/é🔑]{0,9}\"|,|:| ){0,60}",
        ) {
            let whole = bounded(&text, 100, 100);
            let mut out = Vec::new();
            let mut slow = BoundedJson::new(Slowly(text.as_bytes()), 10_000, 100, 100);
            let read = slow.read_to_end(&mut out).map(|_| out);
            prop_assert_eq!(slow.over_bound(), whole.1);
            if let (Ok(read), Ok(whole)) = (read, whole.0) {
                prop_assert_eq!(&read, &whole);
                prop_assert_eq!(&whole[..], text.as_bytes());
            }
        }

        #[test]
        fn what_is_cut_is_still_valid_and_too_long(text in "\\PC{0,200}", most in 0usize..40) {
            let written = json!([&text, 7]).to_string();
            let (read, over) = bounded(&written, 10, most);
            prop_assert_eq!(over, None);
            let value: Value = serde_json::from_slice(&read.unwrap()).unwrap();
            prop_assert_eq!(&value[1], 7);
            let seen = value[0].as_str().unwrap();
            prop_assert!(seen == text || (seen.len() > most && text.starts_with(seen)), "{:?}", seen);
        }
    }
}
