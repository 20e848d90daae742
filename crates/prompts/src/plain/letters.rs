//! Letters of a token that stand apart, in the opposite order, or exchanged (rot13).

use super::mapped::Mapped;
use super::spelled::{FEWEST, Spelled};

/// The most bytes between two letters that stand apart.
const LONGEST_SEPARATOR: usize = 4;

/// The sizes of tokens.
pub(super) const SHORTEST: usize = 18;
const LONGEST: usize = 256;

/// The most letters before the first separator of a token.
const LONGEST_PREFIX: usize = 10;

/// The fewest characters of the random part of a token.
const FEWEST_RANDOM: usize = 10;

/// What tokens begin with that have no separator.
const PREFIXES: [&[u8; 4]; 3] = [b"AKIA", b"ASIA", b"AIza"];

/// Reads characters that stand apart from `start` on, each of them followed by the same separator. Returns how far the
/// text was read, and where the characters begin if they may go on after the text.
pub(super) fn apart(text: &[u8], start: usize, out: &mut Mapped, offset: usize) -> (usize, Option<usize>) {
    let rest = text.get(start + 1..).unwrap_or_default();
    let is_separator = |byte: &&u8| byte.is_ascii() && !byte.is_ascii_alphanumeric();
    let length = rest.iter().take(LONGEST_SEPARATOR + 1).take_while(is_separator).count();
    let separator = rest.get(..length).filter(|_| length <= LONGEST_SEPARATOR).unwrap_or_default();
    if separator.is_empty() {
        return (start, None);
    }
    let mut spelled = Spelled::default();
    let (mut at, mut last, mut letters) = (start, start, 0);
    while let Some(byte) = text.get(at).filter(|byte| byte.is_ascii_graphic()) {
        letters += usize::from(byte.is_ascii_alphabetic());
        let rest = text.get(at + 1..).unwrap_or_default();
        let is_last = !rest.starts_with(separator);
        if is_last && rest.first().is_some_and(u8::is_ascii_alphanumeric) {
            // A word begins here.
            break;
        }
        spelled.push(*byte, at, at + 1, (&mut *out, offset));
        last = at;
        at += 1;
        if is_last {
            break;
        }
        at += separator.len();
    }
    let count = spelled.len();
    let is_open = at >= text.len() || text.get(at..).is_some_and(|rest| separator.starts_with(rest));
    let open = if is_open { spelled.open() } else { None };
    // Digits alone are numbers.
    if letters >= 4 && count >= FEWEST {
        spelled.finish(out, offset);
    }
    // The last one may be the first of others, with another separator.
    (last, open)
}

/// Adds the word from `start` to `end`, which has letters, digits, hyphens and underscores, in the opposite order and
/// with its letters exchanged, if it looks like a token afterwards.
pub(super) fn turned(text: &[u8], start: usize, end: usize, out: &mut Mapped, offset: usize) {
    let word = text.get(start..end).unwrap_or_default();
    if !(SHORTEST..=LONGEST).contains(&word.len()) || !is_random(word) {
        return;
    }
    if has_prefix(&mut word.iter().copied().map(rot13)) {
        out.begin_piece(offset + start, true);
        word.iter().enumerate().for_each(|(index, byte)| out.push(rot13(*byte), offset + start + index));
        out.push(b'\n', offset + end);
    }
    if has_prefix(&mut word.iter().rev().copied()) {
        out.begin_piece(offset + end, true);
        word.iter().enumerate().rev().for_each(|(index, byte)| out.push(*byte, offset + start + index));
        out.push(b'\n', offset + start);
    }
}

/// Whether a part of a word is long and has letters and digits.
fn is_random(word: &[u8]) -> bool {
    word.split(|byte| matches!(byte, b'-' | b'_')).any(|part| {
        part.len() >= FEWEST_RANDOM && part.iter().any(u8::is_ascii_digit) && part.iter().any(u8::is_ascii_alphabetic)
    })
}

/// Whether a word begins as tokens do: with a few letters and a separator, or with what is known.
fn has_prefix(word: &mut dyn Iterator<Item = u8>) -> bool {
    let (mut letters, mut known) = (0, [0; 4]);
    for byte in word.take(LONGEST_PREFIX + 1) {
        if let Some(place) = known.get_mut(letters) {
            *place = byte;
        }
        if !byte.is_ascii_alphabetic() {
            return letters >= 2 && matches!(byte, b'-' | b'_');
        }
        letters += 1;
        if letters == known.len() && PREFIXES.contains(&&known) {
            return true;
        }
    }
    false
}

fn rot13(byte: u8) -> u8 {
    match byte {
        b'a'..=b'm' | b'A'..=b'M' => byte + 13,
        b'n'..=b'z' | b'N'..=b'Z' => byte - 13,
        _ => byte,
    }
}
