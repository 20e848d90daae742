//! Bytes as numbers: decimal, hexadecimal, octal and binary ones, in lists, calls of functions, and dumps.

use layersift_model::hex_byte;

use super::mapped::Mapped;
use super::spelled::Spelled;

/// The most bytes between two numbers of a list.
const LONGEST_GAP: usize = 48;

/// Words that may stand between the numbers: functions that make characters of them, and types.
const GLUE: [&[u8]; 16] = [
    b"chr",
    b"char",
    b"chrw",
    b"chrb",
    b"fromcharcode",
    b"fromcodepoint",
    b"string",
    b"byte",
    b"unichr",
    b"nchar",
    b"int",
    b"h",
    b"x",
    b"u",
    b"b",
    b"ascii",
];

/// A way to read numbers.
#[derive(Clone, Copy, Debug)]
enum Reading {
    Decimal,
    Hex,
    /// Hexadecimal digits of words whose lowest byte comes first.
    HexLowFirst,
    Octal,
    Binary,
}

const READINGS: [Reading; 5] = [Reading::Decimal, Reading::Hex, Reading::HexLowFirst, Reading::Octal, Reading::Binary];

/// The numbers of a text, as they are read from its beginning to its end.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    spelled: [Spelled; READINGS.len()],
    /// Where the last number ended.
    end: usize,
    /// The end of the last line of a dump.
    dump_end: Option<usize>,
}

impl Numbers {
    /// Adds the word from `start` to `end`, which begins with a digit. Returns where to read on.
    pub(super) fn add(&mut self, text: &[u8], start: usize, end: usize, out: &mut Mapped, offset: usize) -> usize {
        if let Some(after) = after_offset(text, start, end) {
            return self.add_dump_line(text, start, after, out, offset);
        }
        if !text.get(self.end..start).is_some_and(is_gap) {
            self.finish(out, offset);
        }
        self.push(text, (start, end), None, out, offset);
        end
    }

    /// Ends all texts.
    pub(super) fn finish(&mut self, out: &mut Mapped, offset: usize) {
        self.spelled.iter_mut().for_each(|one| one.finish(out, offset));
        self.dump_end = None;
    }

    /// Where the numbers begin that may go on after `text`.
    pub(super) fn open(&self, text: &[u8]) -> Option<usize> {
        let is_open = match self.dump_end {
            Some(end) => text.get(end..)?.iter().filter(|byte| **byte == b'\n').count() <= 1,
            None => text.get(self.end..).is_some_and(is_gap_so_far),
        };
        let start = self.spelled.iter().filter_map(Spelled::open).min().filter(|_| is_open)?;
        // A line of a dump is told by its beginning.
        let is_dump = self.dump_end.is_some();
        let line = || text.get(..start).and_then(|before| memchr::memrchr(b'\n', before)).map_or(0, |end| end + 1);
        Some(if is_dump { line() } else { start })
    }

    /// Adds the number from `start` to `end`, whose bytes all come from `line` if that is there.
    fn push(
        &mut self,
        text: &[u8],
        (start, end): (usize, usize),
        line: Option<(usize, usize)>,
        out: &mut Mapped,
        offset: usize,
    ) {
        let word = text.get(start..end).unwrap_or_default();
        let is_after = |before: &[u8]| text.get(..start).is_some_and(|text| text.ends_with(before));
        let is_hex = is_after(b"&H") || is_after(b"&h") || is_after(b"U+");
        for (reading, spelled) in READINGS.into_iter().zip(&mut self.spelled) {
            if is_hex && !matches!(reading, Reading::Hex) {
                spelled.finish(out, offset);
                continue;
            }
            let before = spelled.len();
            let is_number = reading.bytes(word, &mut |byte, at, length| {
                let (start, end) = line.unwrap_or((start + at, start + at + length));
                spelled.push(byte, start, end, (&mut *out, offset));
            });
            if !is_number && before > 0 {
                spelled.finish(out, offset);
            }
        }
        self.end = end;
    }

    /// Adds the numbers of a line of a dump, which stand from `at` on, and returns where the line ends.
    fn add_dump_line(&mut self, text: &[u8], start: usize, mut at: usize, out: &mut Mapped, offset: usize) -> usize {
        let between = self.dump_end.and_then(|end| text.get(end..start));
        if between.is_none_or(|between| between.iter().filter(|byte| **byte == b'\n').count() != 1) {
            self.finish(out, offset);
        }
        let rest = text.get(at..).unwrap_or_default();
        let line_end = at + memchr::memchr(b'\n', rest).unwrap_or(rest.len());
        let (bytes_start, mut count) = (at, 0);
        loop {
            let rest = text.get(at..line_end).unwrap_or_default();
            let gap = rest.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
            let word = rest.iter().skip(gap).take_while(|byte| byte.is_ascii_alphanumeric()).count();
            // The text of the dump stands on its right. In the middle, there is more space in some.
            let is_text = count > 0 && (gap >= 3 || gap == 0 || (gap == 2 && count != 8));
            let is_hex = rest.get(gap..gap + word).is_some_and(|word| word.iter().all(u8::is_ascii_hexdigit));
            if is_text || word < 2 || !is_hex {
                break;
            }
            // What the line shows on its right belongs to each of its bytes.
            self.push(text, (at + gap, at + gap + word), Some((bytes_start, line_end)), out, offset);
            count += if word == 8 && is_binary(rest.get(gap..gap + word)) { 1 } else { word / 2 };
            at += gap + word;
        }
        self.dump_end = Some(line_end);
        self.end = line_end;
        line_end
    }
}

fn is_binary(word: Option<&[u8]>) -> bool {
    word.is_some_and(|word| word.iter().all(|digit| matches!(digit, b'0' | b'1')))
}

impl Reading {
    /// The bytes that a word stands for, with their places in it. Returns whether it is a number.
    fn bytes(self, word: &[u8], push: &mut dyn FnMut(u8, usize, usize)) -> bool {
        let (kind, digits, skipped) = match word {
            [b'0', b'x' | b'X', digits @ ..] => (b'x', digits, 2),
            [b'0', b'b', digits @ ..] if is_binary(Some(digits)) => (b'b', digits, 2),
            [b'0', b'o', digits @ ..] => (b'o', digits, 2),
            _ => (b' ', word, 0),
        };
        let digits = without_type(kind, digits);
        let radix = match (self, kind) {
            (Reading::Decimal, b' ') => 10,
            (Reading::Octal, b'o') => 8,
            (Reading::Octal, b' ') if digits.len() == 3 || digits.starts_with(b"0") => 8,
            (Reading::Binary, b'b' | b' ') if digits.len() >= 7 => 2,
            (Reading::Hex | Reading::HexLowFirst, b'x' | b' ') => return self.hex(digits, skipped, push),
            _ => return false,
        };
        if radix == 2 && digits.len().is_multiple_of(8) {
            for (index, byte) in digits.chunks_exact(8).enumerate() {
                let Some(value) = number(byte, 2) else { return false };
                push(value, skipped + 8 * index, 8);
            }
            return true;
        }
        let most = if radix == 2 { 8 } else { 4 };
        let Some(value) = Some(digits).filter(|digits| digits.len() <= most).and_then(|digits| number(digits, radix))
        else {
            return false;
        };
        push(value, 0, word.len());
        true
    }

    fn hex(self, digits: &[u8], skipped: usize, push: &mut dyn FnMut(u8, usize, usize)) -> bool {
        let pairs = digits.chunks_exact(2);
        if digits.is_empty() || !pairs.remainder().is_empty() || !digits.iter().all(u8::is_ascii_hexdigit) {
            return false;
        }
        let values = pairs.map(|pair| pair.first_chunk().and_then(hex_byte).unwrap_or_default());
        if matches!(self, Reading::HexLowFirst) {
            if !matches!(digits.len(), 4 | 8 | 16) {
                return false;
            }
            values.rev().for_each(|value| push(value, 0, skipped + digits.len()));
            return true;
        }
        // A character of two bytes, the upper of which is zero.
        let is_wide = digits.len() == 4 && digits.starts_with(b"00");
        let values = values.enumerate().skip(usize::from(is_wide));
        values.for_each(|(index, value)| push(value, skipped + 2 * index, 2));
        true
    }
}

/// Digits without the type that programs write after them.
fn without_type(kind: u8, digits: &[u8]) -> &[u8] {
    let ends: [&[u8]; 4] = [b"u8", b"UL", b"U", b"L"];
    let without = ends.into_iter().find_map(|end| digits.strip_suffix(end));
    // As assemblers write hexadecimal numbers.
    let without = without.or_else(|| digits.strip_suffix(b"h").filter(|_| kind == b' '));
    without.unwrap_or(digits)
}

fn number(digits: &[u8], radix: u32) -> Option<u8> {
    if digits.is_empty() {
        return None;
    }
    let value = digits.iter().try_fold(0u32, |value, digit| {
        Some((value * radix + char::from(*digit).to_digit(radix)?).min(u32::from(u16::MAX)))
    })?;
    u8::try_from(value).ok()
}

/// Where the bytes begin in a line of a dump, after the offset that is the word from `start` to `end`.
fn after_offset(text: &[u8], start: usize, end: usize) -> Option<usize> {
    if end - start < 4 || end - start > 18 {
        return None;
    }
    let indent = text.get(..start)?.iter().rev().take_while(|byte| matches!(byte, b' ' | b'\t' | b'>' | b'#')).count();
    if start != indent && text.get(start - indent - 1) != Some(&b'\n') {
        return None;
    }
    let word = text.get(start..end)?;
    let digits = word.strip_prefix(b"0x").unwrap_or(word);
    if !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let rest = text.get(end..)?;
    if let Some(rest) = rest.strip_prefix(b":") {
        return rest.starts_with(b" ").then_some(end + 1);
    }
    // Without a colon, the offset is longer than what follows.
    let gap = rest.iter().take_while(|byte| **byte == b' ').count();
    let next = rest.get(gap..)?.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    (gap > 0 && word.len() >= 6 && matches!(next, 2 | 4) && next < word.len()).then_some(end)
}

/// Whether what stands between two numbers may separate the numbers of a list.
fn is_gap(gap: &[u8]) -> bool {
    gap.len() <= LONGEST_GAP && words(gap).all(|word| GLUE.iter().any(|glue| word.eq_ignore_ascii_case(glue)))
}

/// The same of a gap that may go on.
fn is_gap_so_far(gap: &[u8]) -> bool {
    let last = gap.iter().rev().take_while(|byte| byte.is_ascii_alphanumeric()).count();
    let (gap, last) = gap.split_at_checked(gap.len() - last).unwrap_or_default();
    let digits = last.strip_prefix(b"H").or_else(|| last.strip_prefix(b"h")).unwrap_or(last);
    let may_be = |glue: &&[u8]| glue.get(..last.len()).is_some_and(|glue| glue.eq_ignore_ascii_case(last));
    is_gap(gap) && (digits.first().is_none_or(u8::is_ascii_digit) || GLUE.iter().any(may_be))
}

fn words(gap: &[u8]) -> impl Iterator<Item = &[u8]> {
    let is_of_word = |byte: &u8| byte.is_ascii_alphanumeric() || !byte.is_ascii();
    gap.split(move |byte| !is_of_word(byte)).filter(|word| !word.is_empty())
}
