//! Bytes in base64 and base32 (RFC 4648), however the digits are broken, and in Ascii85.

use memchr::memmem;

use super::mapped::Mapped;
use super::spelled::{Spelled, is_printable};

/// The most bytes that break a run of digits: the end of a line, and the marks of a quotation.
const LONGEST_BREAK: usize = 24;

/// The fewest digits of base32: shorter words of its digits are words.
const FEWEST_BASE32: usize = 24;

/// An encoding whose digits stand for some bits each.
#[derive(Clone, Copy, Debug)]
pub(super) struct Base {
    /// The bits of a digit.
    bits: u32,
    /// The digits of a group, which stands for whole bytes.
    group: usize,
    value: fn(u8) -> Option<u32>,
}

pub(super) const BASE64: Base = Base { bits: 6, group: 4, value: base64 };
pub(super) const BASE32: Base = Base { bits: 5, group: 8, value: base32 };

/// Whether base64 that spells printable characters may begin at `start`. Most words end this at their first letter.
pub(super) fn may_be_base64(text: &[u8], start: usize) -> bool {
    if !matches!(text.get(start), Some(b'C' | b'D' | b'I'..=b'Z' | b'a'..=b'f')) {
        return false;
    }
    let group = text.get(start..).and_then(<[u8]>::first_chunk::<4>);
    let value = |digit: u8| BASE64_VALUES.get(usize::from(digit)).copied().unwrap_or(NONE);
    group.is_some_and(|group| {
        let [first, second, third, fourth] = group.map(value);
        let bits = u32::from(first) << 18 | u32::from(second) << 12 | u32::from(third) << 6 | u32::from(fourth);
        let [_, bytes @ ..] = bits.to_be_bytes();
        (first | second | third | fourth) != NONE && bytes.into_iter().all(is_printable)
    })
}

/// Whether a word may begin a run of base32: it is long, and has digits of base32 in one case.
pub(super) fn may_be_base32(word: &[u8]) -> bool {
    word.len() >= FEWEST_BASE32
        && word.iter().all(|byte| base32(*byte).is_some())
        && !(word.iter().any(u8::is_ascii_lowercase) && word.iter().any(u8::is_ascii_uppercase))
}

/// No value of a digit.
const NONE: u8 = 0xff;

/// The values of the digits of base64 in both alphabets.
const BASE64_VALUES: [u8; 256] = {
    let mut values = [NONE; 256];
    let mut byte = 0;
    while byte < values.len() {
        let it = byte as u8;
        values[byte] = match it {
            b'A'..=b'Z' => it - b'A',
            b'a'..=b'z' => it - b'a' + 26,
            b'0'..=b'9' => it - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => NONE,
        };
        byte += 1;
    }
    values
};

/// A run of digits that was read.
#[derive(Debug)]
pub(super) struct Run {
    /// Where the run ends, or where it spells no text any more.
    pub(super) end: usize,
    /// Where it begins, if it may go on after the text.
    pub(super) open: Option<usize>,
}

impl Base {
    /// Reads the run of digits that begins at `start`, and adds what it spells.
    pub(super) fn read(self, text: &[u8], start: usize, out: &mut Mapped, offset: usize) -> Run {
        let mut spelled = Spelled::default();
        let (mut bits, mut known, mut byte_start) = (0u32, 0, start);
        let (mut at, mut piece) = (start, start);
        let mut digits = 0;
        loop {
            let Some(value) = text.get(at).and_then(|digit| (self.value)(*digit)) else {
                // What is broken within a group is two words.
                let is_whole = (at - piece) % self.group == 0;
                let end = at;
                match is_whole.then(|| length_of_break(text, at)).flatten() {
                    Some(length) if text.get(at + length).is_some_and(|digit| (self.value)(*digit).is_some()) => {
                        at += length;
                        piece = at;
                        continue;
                    }
                    Some(length) if at + length == text.len() => {
                        let open = spelled.open();
                        spelled.finish(out, offset);
                        return Run { end, open };
                    }
                    _ => {}
                }
                let open = if at == text.len() { spelled.open() } else { None };
                spelled.finish(out, offset);
                return Run { end, open };
            };
            if known == 0 {
                byte_start = at;
            }
            bits = bits << self.bits | value;
            known += self.bits;
            at += 1;
            digits += 1;
            if known >= 8 {
                known -= 8;
                let byte = (bits >> known) as u8;
                bits &= (1 << known) - 1;
                if !is_printable(byte) {
                    spelled.finish(out, offset);
                    return Run { end: at, open: None };
                }
                spelled.push(byte, byte_start, at, (&mut *out, offset));
                byte_start = at - usize::from(known > 0);
            }
            if digits % self.group == 0 {
                (bits, known) = (0, 0);
            }
        }
    }
}

/// The length of what breaks a run of digits at `at`.
pub(crate) fn length_of_break(text: &[u8], at: usize) -> Option<usize> {
    let rest = text.get(at..).unwrap_or_default();
    let is_break = |byte: &&u8| byte.is_ascii_whitespace() || b">|#*\"'\\,;".contains(byte);
    let length = rest.iter().take_while(is_break).take(LONGEST_BREAK + 1).count();
    (1..=LONGEST_BREAK).contains(&length).then_some(length)
}

pub(crate) fn base64(digit: u8) -> Option<u32> {
    BASE64_VALUES.get(usize::from(digit)).filter(|value| **value != NONE).map(|value| u32::from(*value))
}

fn base32(digit: u8) -> Option<u32> {
    let value = match digit {
        b'A'..=b'Z' => digit - b'A',
        b'a'..=b'z' => digit - b'a',
        b'2'..=b'7' => digit - b'2' + 26,
        _ => return None,
    };
    Some(u32::from(value))
}

/// Adds what is in Ascii85 between its marks.
pub(super) fn ascii85(text: &[u8], out: &mut Mapped, offset: usize) {
    let mut from = 0;
    while let Some(begin) = text.get(from..).and_then(|rest| memmem::find(rest, b"<~")) {
        let start = from + begin + 2;
        let rest = text.get(start..).unwrap_or_default();
        let is_digit = |byte: &&u8| matches!(byte, b'!'..=b'u' | b'z') || byte.is_ascii_whitespace();
        let end = start + rest.iter().take_while(is_digit).count();
        read_ascii85(text, start, end, out, offset);
        from = end.max(start);
    }
}

fn read_ascii85(text: &[u8], start: usize, end: usize, out: &mut Mapped, offset: usize) {
    let mut spelled = Spelled::default();
    let (mut group, mut starts) = ([0u8; 5], [start; 5]);
    let mut filled = 0;
    let digits =
        (start..end).filter_map(|at| Some((at, text.get(at)?)).filter(|(_, byte)| !byte.is_ascii_whitespace()));
    // The last group may be short, and is filled with the highest digit.
    let filler = std::iter::repeat_n((end, &b'u'), 4);
    for (at, digit) in digits.chain(filler) {
        if *digit == b'z' {
            spelled.finish(out, offset);
            continue;
        }
        if let (Some(place), Some(from)) = (group.get_mut(filled), starts.get_mut(filled)) {
            (*place, *from) = (digit - b'!', at);
        }
        filled += 1;
        if filled == group.len() {
            let value = group.iter().fold(0u64, |value, digit| value * 85 + u64::from(*digit));
            let bytes = u32::try_from(value).unwrap_or_default().to_be_bytes();
            let known = starts.iter().filter(|from| **from < end).count().saturating_sub(1);
            for (byte, from) in bytes.into_iter().zip(starts).take(known) {
                spelled.push(byte, from, (at + 1).min(end), (&mut *out, offset));
            }
            filled = 0;
        }
    }
    spelled.finish(out, offset);
}
