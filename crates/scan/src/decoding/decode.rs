//! Decoding the run of bytes around an encoded keyword.

use std::ops::Range;

use layersift_model::hex_byte;
use layersift_rules::Encoding;

/// The number of encoded bytes before an encoded keyword that are decoded: the overlap of windows.
const BEFORE: usize = 480;

/// The number of encoded bytes after the start of an encoded keyword that are decoded.
const AFTER: usize = 36 << 10;

/// A decoded run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decoded {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// The offset of each decoded byte in the encoded bytes.
    starts: Vec<u32>,
    /// The range of the run in the encoded bytes.
    pub span: Range<usize>,
    /// Whether the run continues after the span.
    pub cut: bool,
}

impl Decoded {
    /// The range in the encoded bytes of the decoded bytes in `range`.
    pub fn origin(&self, range: &Range<usize>) -> Range<usize> {
        let start = |at: usize| self.starts.get(at).map_or(self.span.end, |&start| start as usize);
        start(range.start)..start(range.end)
    }

    fn new(start: usize) -> Decoded {
        Decoded { bytes: Vec::new(), starts: Vec::new(), span: start..start, cut: false }
    }

    fn push(&mut self, byte: u8, at: usize) {
        self.bytes.push(byte);
        self.starts.push(at as u32);
    }
}

/// Decodes the run in `text` around `keyword`, which is encoded in `encoding`. In base64 it begins on the line of the
/// keyword: a word on the line before would be decoded to bytes that stand in front of a token.
pub fn decode(text: &[u8], keyword: &Range<usize>, encoding: Encoding) -> Decoded {
    decode_from(text, keyword, encoding, false)
}

/// The same, from lines before that of the keyword on, for values that are known and may begin there.
pub(crate) fn decode_lines(text: &[u8], keyword: &Range<usize>, encoding: Encoding) -> Decoded {
    decode_from(text, keyword, encoding, true)
}

fn decode_from(text: &[u8], keyword: &Range<usize>, encoding: Encoding, from_lines_before: bool) -> Decoded {
    let floor = keyword.start.saturating_sub(BEFORE);
    let ceiling = text.len().min(keyword.start.saturating_add(AFTER));
    let text = &text[..ceiling];
    let mut decoded = match encoding {
        Encoding::Base64 { digit } => base64(text, floor, keyword.start, digit, from_lines_before),
        Encoding::Hex => pairs(text, floor, keyword.start, hex_byte),
        Encoding::Utf16Le => utf16(text, floor, keyword.start, true),
        Encoding::Utf16Be => utf16(text, floor, keyword.start, false),
        Encoding::Backslash => escaped(text, floor, keyword, ends_string, backslash),
        Encoding::Percent => escaped(text, floor, keyword, ends_address, percent),
        Encoding::Entity => escaped(text, floor, keyword, ends_attribute, entity),
        Encoding::ByteList => byte_list(text, floor, keyword.start),
    };
    decoded.cut = decoded.span.end == ceiling;
    decoded
}

fn base64_value(digit: u8) -> Option<u32> {
    let value = match digit {
        b'A'..=b'Z' => digit - b'A',
        b'a'..=b'z' => digit - b'a' + 26,
        b'0'..=b'9' => digit - b'0' + 52,
        b'+' | b'-' => 62,
        b'/' | b'_' => 63,
        _ => return None,
    };
    Some(u32::from(value))
}

/// Decodes from the group of four digits that contains the encoded keyword, and from all groups before it on its line,
/// or on lines before as well. Lines may end with a line break or an escaped one (`\n`), with white space on either
/// side.
fn base64(text: &[u8], floor: usize, keyword: usize, digit: u8, from_lines_before: bool) -> Decoded {
    let is_digit = |at: &usize| base64_value(text[*at]).is_some();
    let mut digits = digits_before(text, floor, keyword, from_lines_before);
    let before = digits.clone().count();
    // The digits before the group of the encoded keyword are whole groups, unless the run began within one.
    let usable =
        if before >= usize::from(digit) { (before - usize::from(digit)) / 4 * 4 + usize::from(digit) } else { before };
    let mut at = usable.checked_sub(1).and_then(|last| digits.nth(last)).unwrap_or(keyword);
    let mut decoded = Decoded::new(at);
    let mut group = Group::starting_at((usize::from(digit) + 4 * usable - usable) % 4);
    while at < text.len() {
        if let Some(value) = base64_value(text[at]) {
            group.push(value, at, &mut decoded);
            at += 1;
        } else if let Some(length) = line_break(&text[at..]).filter(|length| at + length < text.len()) {
            if !is_digit(&(at + length)) {
                break;
            }
            at += length;
        } else {
            break;
        }
        decoded.span.end = at;
    }
    decoded
}

/// Where the digits before `keyword` are that belong to its run, the nearest first.
fn digits_before(
    text: &[u8],
    floor: usize,
    keyword: usize,
    from_lines_before: bool,
) -> impl Iterator<Item = usize> + Clone {
    let is_digit = |at: usize| base64_value(text[at]).is_some();
    let before = move |at: usize| {
        if at == floor || is_digit(at - 1) || !from_lines_before {
            return (at > floor).then(|| at - 1);
        }
        let is_space = |at: &usize| matches!(text[*at], b'\r' | b'\n' | b'\t' | b' ');
        let end = at - (floor..at).rev().take_while(is_space).count();
        (end > floor && text[end..at].contains(&b'\n')).then(|| end - 1)
    };
    std::iter::successors(before(keyword), move |at| before(*at)).take_while(move |at| is_digit(*at))
}

/// A group of four digits that is not complete.
struct Group {
    bits: u32,
    known: u32,
    starts: [usize; 4],
    digit: usize,
}

impl Group {
    /// A run that begins at `digit` of a group: the bits of the digits before it are unknown.
    fn starting_at(digit: usize) -> Group {
        Group { bits: 0, known: 0, starts: [0; 4], digit }
    }

    fn push(&mut self, value: u32, at: usize, decoded: &mut Decoded) {
        self.bits = self.bits << 6 | value;
        self.known += 6;
        self.starts[self.digit] = at;
        // The second, third and fourth digits of a group each complete a byte.
        if self.digit > 0 {
            let left = 6 - 2 * self.digit as u32;
            if self.known >= 8 + left {
                decoded.push((self.bits >> left) as u8, self.starts[self.digit - 1]);
            }
        }
        self.digit = (self.digit + 1) % 4;
        if self.digit == 0 {
            (self.bits, self.known) = (0, 0);
        }
    }
}

/// The length of a line break, which may be escaped, with the white space around it; `None` if there is none.
fn line_break(text: &[u8]) -> Option<usize> {
    const MOST: usize = 40;
    let text = &text[..text.len().min(MOST)];
    let mut at = 0;
    let mut breaks = 0;
    while at < text.len() {
        match text[at] {
            b'\r' | b'\n' => (at, breaks) = (at + 1, breaks + 1),
            b' ' | b'\t' => at += 1,
            b'\\' if matches!(text.get(at + 1), Some(b'n' | b'r')) => (at, breaks) = (at + 2, breaks + 1),
            b'\\' if matches!(text.get(at + 1), Some(b'\n')) => (at, breaks) = (at + 2, breaks + 1),
            _ => break,
        }
    }
    (breaks > 0).then_some(at)
}

/// Decodes units of two bytes, each for one byte, aligned to the encoded keyword.
fn pairs(text: &[u8], floor: usize, keyword: usize, value: fn(&[u8; 2]) -> Option<u8>) -> Decoded {
    let unit = |at: usize| value(text.get(at..)?.first_chunk::<2>()?);
    let mut start = keyword;
    while start >= floor + 2 && unit(start - 2).is_some() {
        start -= 2;
    }
    let mut decoded = Decoded::new(start);
    let mut at = start;
    while let Some(byte) = unit(at) {
        decoded.push(byte, at);
        at += 2;
        decoded.span.end = at;
    }
    decoded
}

/// ASCII in UTF-16 can be read in the other byte order as well, shifted by one byte. The longer run is the right one;
/// of two equal runs, the one with the low byte first, which is the usual order.
fn utf16(text: &[u8], floor: usize, keyword: usize, low_first: bool) -> Decoded {
    let run = |at: usize, low_first: bool| {
        let low = |unit: &[u8; 2]| ascii(unit[0], unit[1]);
        let high = |unit: &[u8; 2]| ascii(unit[1], unit[0]);
        pairs(text, floor, at, if low_first { low } else { high })
    };
    let this = run(keyword, low_first);
    let length = |at: usize| run(at, !low_first).bytes.len();
    let is_other = if low_first {
        keyword > floor && length(keyword - 1) > this.bytes.len()
    } else {
        length(keyword + 1) >= this.bytes.len()
    };
    if is_other { Decoded::new(keyword) } else { this }
}

fn ascii(low: u8, high: u8) -> Option<u8> {
    (high == 0 && (matches!(low, b' '..=b'~') || matches!(low, b'\t' | b'\n' | b'\r'))).then_some(low)
}

/// Up to four decoded bytes, their number, and the number of encoded bytes.
type Piece = ([u8; 4], usize, usize);

fn one(byte: u8, length: usize) -> Piece {
    ([byte, 0, 0, 0], 1, length)
}

fn character(code: u32, length: usize) -> Piece {
    let c = char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
    let mut bytes = [0; 4];
    let count = c.encode_utf8(&mut bytes).len();
    (bytes, count, length)
}

/// Decodes a run that extends on both sides to a byte for which `ends` is true. `escape` decodes an escape sequence.
fn escaped(
    text: &[u8],
    floor: usize,
    keyword: &Range<usize>,
    ends: fn(&[u8], usize) -> bool,
    escape: fn(&[u8]) -> Option<Piece>,
) -> Decoded {
    let start = (floor..keyword.start).rev().find(|&at| ends(text, at)).map_or(floor, |at| at + 1);
    let end = (keyword.end..text.len()).find(|&at| ends(text, at)).unwrap_or(text.len());
    let mut decoded = Decoded::new(start);
    decoded.span.end = end;
    let mut at = start;
    while at < end {
        let (bytes, count, length) = escape(&text[at..end]).unwrap_or_else(|| one(text[at], 1));
        for &byte in &bytes[..count] {
            decoded.push(byte, at);
        }
        at += length.max(1);
    }
    decoded
}

/// A string ends at an unescaped quotation mark, or at the end of its line.
fn ends_string(text: &[u8], at: usize) -> bool {
    let is_escaped = || text[..at].iter().rev().take_while(|&&byte| byte == b'\\').count() % 2 == 1;
    match text[at] {
        b'\n' | 0 => true,
        b'"' | b'\'' | b'`' => !is_escaped(),
        _ => false,
    }
}

fn ends_address(text: &[u8], at: usize) -> bool {
    !text[at].is_ascii_graphic() || matches!(text[at], b'"' | b'\'' | b'<' | b'>' | b'`')
}

fn ends_attribute(text: &[u8], at: usize) -> bool {
    matches!(text[at], b'"' | b'<' | b'>' | b'\n' | 0)
}

fn backslash(text: &[u8]) -> Option<Piece> {
    let (b'\\', code) = (*text.first()?, *text.get(1)?) else { return None };
    let digits = |from: usize, count: usize, radix: u32| {
        let digits = std::str::from_utf8(text.get(from..from + count)?).ok()?;
        digits.bytes().all(|byte| byte.is_ascii_hexdigit()).then(|| u32::from_str_radix(digits, radix).ok())?
    };
    let piece = match code {
        b'x' => one(digits(2, 2, 16)? as u8, 4),
        b'u' => character(digits(2, 4, 16)?, 6),
        b'0'..=b'3' => digits(1, 3, 8).map_or_else(|| one(0, 2), |value| one(value as u8, 4)),
        b'n' => one(b'\n', 2),
        b'r' => one(b'\r', 2),
        b't' => one(b'\t', 2),
        other => one(other, 2),
    };
    Some(piece)
}

fn percent(text: &[u8]) -> Option<Piece> {
    let [b'%', high, low] = *text.first_chunk::<3>()? else { return None };
    hex_byte(&[high, low]).map(|byte| one(byte, 3))
}

fn entity(text: &[u8]) -> Option<Piece> {
    const NAMES: [(&[u8], u8); 5] =
        [(b"&amp;", b'&'), (b"&quot;", b'"'), (b"&apos;", b'\''), (b"&lt;", b'<'), (b"&gt;", b'>')];
    if let Some((name, byte)) = NAMES.iter().find(|(name, _)| text.starts_with(name)) {
        return Some(one(*byte, name.len()));
    }
    let number = text.strip_prefix(b"&#")?;
    let (digits, radix, prefix) = match number.strip_prefix(b"x").or_else(|| number.strip_prefix(b"X")) {
        Some(digits) => (digits, 16, 3),
        None => (number, 10, 2),
    };
    let end = digits.iter().take(8).position(|&byte| byte == b';')?;
    let code = u32::from_str_radix(std::str::from_utf8(&digits[..end]).ok()?, radix).ok()?;
    Some(character(code, prefix + end + 1))
}

/// `0x41, 0x42`: from the encoded keyword on, with commas, white space and line ends between the bytes.
fn byte_list(text: &[u8], floor: usize, keyword: usize) -> Decoded {
    let is_list =
        |byte: u8| byte.is_ascii_hexdigit() || matches!(byte, b'x' | b'X' | b',') || byte.is_ascii_whitespace();
    let mut at = (floor..keyword).rev().take_while(|&at| is_list(text[at])).last().unwrap_or(keyword);
    let mut decoded = Decoded::new(at);
    while at < text.len() && is_list(text[at]) {
        let byte = text.get(at..).and_then(|rest| rest.first_chunk::<4>());
        match byte {
            Some([b'0', b'x' | b'X', high, low]) if hex_byte(&[*high, *low]).is_some() => {
                decoded.push(hex_byte(&[*high, *low]).unwrap_or_default(), at);
                at += 4;
            }
            _ => at += 1,
        }
        decoded.span.end = at;
    }
    decoded
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is decoded around the first `keyword` in `text`.
    fn decoded(text: &str, keyword: &str, encoding: Encoding) -> String {
        let at = text.find(keyword).unwrap();
        String::from_utf8_lossy(&decode(text.as_bytes(), &(at..at + keyword.len()), encoding).bytes).into_owned()
    }

    #[test]
    fn base64_from_any_digit_and_across_lines() {
        // "token ghp_abc"
        let text = "dG9rZW4gZ2hwX2FiYw==";
        assert_eq!(decoded(text, "Z2hwX", Encoding::Base64 { digit: 0 }), "token ghp_abc");
        assert_eq!(decoded(&format!("=={text}"), "Z2hwX", Encoding::Base64 { digit: 0 }), "token ghp_abc");
        let wrapped = "dG9rZW4gZ2hw\r\n    X2FiYw==";
        assert_eq!(decoded(wrapped, "Z2hw", Encoding::Base64 { digit: 0 }), "token ghp_abc");
        // "xghp_abc" and "xxghp_abc", with a stray digit in front
        assert_eq!(decoded("eGdocF9hYmM=", "docF9", Encoding::Base64 { digit: 2 }), "xghp_abc");
        assert_eq!(decoded("eHhnaHBfYWJj", "naHBf", Encoding::Base64 { digit: 3 }), "xxghp_abc");
        assert_eq!(decoded("AeHhnaHBfYWJj", "naHBf", Encoding::Base64 { digit: 3 }), "xxghp_abc");
    }

    #[test]
    fn a_run_that_begins_within_a_group() {
        // Without its first digit the first byte is lost, and nothing else.
        assert!(decoded("GdocF9hYmM=", "docF9", Encoding::Base64 { digit: 2 }).ends_with("ghp_abc"));
        assert!(decoded("docF9hYmM=", "docF9", Encoding::Base64 { digit: 2 }).ends_with("hp_abc"));
    }

    #[test]
    fn the_other_encodings() {
        assert_eq!(decoded("x=6768705f41 ", "6768705f", Encoding::Hex), "ghp_A");
        assert_eq!(decoded("\x01g\0h\0p\0_\0A\0\x02", "g\0h\0", Encoding::Utf16Le), "ghp_A");
        assert_eq!(decoded("\x01\0g\0h\0p\0_\0A\x02", "\0g\0h", Encoding::Utf16Be), "ghp_A");
        assert_eq!(decoded(r#"u="https:\/\/a:b@c" "#, r":\/\/", Encoding::Backslash), "https://a:b@c");
        assert_eq!(decoded(r#""{\"k\": \"v\u0041\x42\103\"}""#, r#"\": \""#, Encoding::Backslash), r#"{"k": "vABC"}"#);
        assert_eq!(decoded("q=https%3A%2F%2Fa%3Ab%40c ", "%3A%2F%2F", Encoding::Percent), "q=https://a:b@c");
        assert_eq!(decoded("<a href=\"?a=1&amp;X-B=&#x41;&#66;\">", "&amp;X-", Encoding::Entity), "?a=1&X-B=AB");
        assert_eq!(decoded("{0x01, 0x67, 0x68,\n 0x70};", "0x67, 0x68", Encoding::ByteList), "\x01ghp");
    }

    #[test]
    fn origins_are_offsets_of_the_encoded_bytes() {
        let text = b"__6768705f41";
        let run = decode(text, &(2..10), Encoding::Hex);
        assert_eq!(run.origin(&(1..3)), 4..8);
        assert_eq!(run.origin(&(4..5)), 10..12);
    }
}
