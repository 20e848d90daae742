//! A text as it reads without what hides a secret from the rules and not from whoever gets it.
//!
//! The engine decodes the run around an encoded keyword. It does not see a token that stands right behind an escape
//! (`\n` before it is then a letter `n`), one in which a few characters are escaped, invisible or look-alikes, and one
//! that is broken over lines. A plain text has the lines in which any of these stand, with all of them undone at once.
//! It is scanned besides the text itself, never in its place.
//!
//! ```text
//! escapes     \n  \x41  \u0041  \/  %41  =41  &#65;  &lowbar;  and a line break after \ or =
//! characters  invisible ones are left out, look-alikes of ASCII become ASCII
//! joiners     "a" + "b"  'a' . 'b'  "a" "b"  "a"'b'  ["a", "b"].join("")
//! numbers     103, 108, 112  0x67, 0x6c  67 6c 70  01100111  chr(103).chr(108)  and dumps of hexdump, od and xxd
//! digits      base64 of base64 of base64 or broken by marks, base32, Ascii85
//! letters     g l p a t  taplg  and rot13
//! prefixes    numbers of lines, and marks of differences, quotations and comments
//! ```

mod characters;
mod digits;
mod escapes;
mod joiners;
mod letters;
mod mapped;
mod numbers;
mod prefixes;
mod spelled;

use std::ops::Range;

use self::characters::{Reading, reading};
use self::joiners::Lists;
use self::mapped::Mapped;

pub(crate) use self::digits::{base64 as base64_value, length_of_break};
pub(crate) use self::spelled::open as open_run;

/// How often what was undone is undone again: JSON in a URL in HTML takes three.
const MOST_ROUNDS: usize = 3;

/// What of a text differs from it once disguises are undone.
#[derive(Debug, Default)]
pub struct PlainText {
    mapped: Mapped,
    /// The size of the text that it was made of.
    size: usize,
}

impl PlainText {
    /// `text` with what was undone in it, with what was undone in that, and so on.
    pub fn rounds(text: &[u8]) -> impl Iterator<Item = PlainText> {
        let mut next = PlainText::of(text);
        let rounds = std::iter::from_fn(move || {
            let current = next.take()?;
            next = current.again();
            Some(current)
        });
        rounds.take(MOST_ROUNDS)
    }

    /// What was undone in `text`; `None` if that is nothing.
    fn of(text: &[u8]) -> Option<PlainText> {
        let mut mapped = Mapped::default();
        undo(text, 0, true, &mut mapped);
        (!mapped.is_empty()).then_some(PlainText { mapped, size: text.len() })
    }

    /// The same of what is left: escapes may stand in escapes.
    fn again(&self) -> Option<PlainText> {
        let mut mapped = Mapped::default();
        for (piece, bytes) in self.mapped.pieces() {
            undo(bytes, piece.start, !piece.is_turned, &mut mapped);
        }
        (!mapped.is_empty()).then(|| PlainText { mapped: mapped.through(&self.mapped), size: self.size })
    }

    /// Whether a finding of a rule counts in a plain text: an invisible character that is written as an escape is
    /// visible.
    pub fn counts(rule: &str) -> bool {
        rule != "prompt.invisible-text"
    }

    /// The bytes, which need not be UTF-8.
    pub fn bytes(&self) -> &[u8] {
        self.mapped.bytes()
    }

    /// The bytes of the text that the bytes in `span` come from.
    pub fn origin(&self, span: &Range<usize>) -> Range<usize> {
        let Range { start, end } = self.mapped.origin(span);
        start.min(self.size)..end.min(self.size)
    }
}

/// Adds what is undone in `text`, which begins at `offset` of what is mapped. Words that were turned around are
/// what they were once they are turned again, so that is done only if `is_turned`.
fn undo(text: &[u8], offset: usize, is_turned: bool, out: &mut Mapped) {
    let mut lines = Lines { text, offset, out: &mut *out, lists: Lists::default(), added: None };
    let mut start = 0;
    while start < text.len() {
        start = lines.undo(start);
    }
    spelled::add(text, offset, is_turned, out);
    prefixes::add(text, offset, out);
}

/// The lines of a text in which escapes, characters and joiners are undone.
struct Lines<'t, 'o> {
    text: &'t [u8],
    offset: usize,
    out: &'o mut Mapped,
    lists: Lists,
    /// Where the last line ended that was added.
    added: Option<usize>,
}

impl Lines<'_, '_> {
    /// Adds the line that begins at `start` if something in it is undone, and returns where it ends. What is undone may
    /// continue it on the next line.
    fn undo(&mut self, start: usize) -> usize {
        let text = self.text;
        let (mut at, mut line) = (start, None);
        // What was not copied yet.
        let mut from = start;
        loop {
            let rest = text.get(at..).unwrap_or_default();
            at += rest.iter().position(|byte| is_mark(*byte)).unwrap_or(rest.len());
            let Some(mark) = text.get(at).filter(|mark| **mark != b'\n') else { break };
            let before =
                if at > from { text.get(at - 1).copied() } else { line.and_then(|line| self.out.last_from(line)) };
            let (length, reading) = match mark {
                quote if joiners::is_quote(*quote) => match joiners::joiner(text, at, &mut self.lists) {
                    Some(length) => (length, Reading::Nothing),
                    None => (1, Reading::AsItIs),
                },
                _ => next(text.get(at..).unwrap_or_default(), before),
            };
            let reading = match reading {
                Reading::Byte(b'@') if *mark == b'%' && is_in_url(text.get(start..at).unwrap_or_default()) => {
                    Reading::Byte(b' ')
                }
                other => other,
            };
            if reading != Reading::AsItIs {
                line.get_or_insert_with(|| self.begin_line(start));
                self.copy(from, at);
                let origin = self.offset + at;
                match reading {
                    Reading::Byte(byte) => self.out.push(byte, origin),
                    Reading::Character(character) => {
                        character.encode_utf8(&mut [0; 4]).bytes().for_each(|byte| self.out.push(byte, origin));
                    }
                    Reading::AsItIs | Reading::Nothing => {}
                }
                from = at + length;
            }
            at += length;
        }
        let end = text.len().min(at + 1);
        if line.is_some() {
            self.copy(from, at);
            self.out.push(b'\n', self.offset + at);
            self.added = Some(end);
        }
        end
    }

    /// Begins a line, on a piece of its own unless the line before it was added. Returns where it begins.
    fn begin_line(&mut self, start: usize) -> usize {
        if self.added != Some(start) {
            self.out.begin_piece(self.offset + start, false);
        }
        self.out.bytes().len()
    }

    fn copy(&mut self, from: usize, to: usize) {
        self.out.extend(self.text.get(from..to).unwrap_or_default(), self.offset + from);
    }
}

/// Whether something to be undone may begin with a byte, or a line ends with it.
fn is_mark(byte: u8) -> bool {
    const MARKS: [bool; 256] = {
        let mut marks = [false; 256];
        let mut byte = 0;
        while byte < marks.len() {
            let it = byte as u8;
            marks[byte] = escapes::may_begin(it) || matches!(it, b'\n' | b'"' | b'\'' | b'`');
            byte += 1;
        }
        marks
    };
    MARKS[usize::from(byte)]
}

/// Whether the last word of `before` is a URL. An encoded `@` in its password is none that ends the password.
fn is_in_url(before: &[u8]) -> bool {
    const LONGEST: usize = 256;
    let near = before.get(before.len().saturating_sub(LONGEST)..).unwrap_or_default();
    let word = near.rsplit(|byte| byte.is_ascii_whitespace() || matches!(byte, b'"' | b'\'')).next();
    word.is_some_and(|word| memchr::memmem::find(word, b"://").is_some())
}

/// How many bytes of `rest` are read as one, and as what. `before` is the last byte that was read of the line.
fn next(rest: &[u8], before: Option<u8>) -> (usize, Reading) {
    match rest.first() {
        Some(b'\\') => escapes::backslash(rest),
        Some(b'%') => escapes::percent(rest),
        Some(b'=') => escapes::quoted_printable(rest, before),
        Some(b'&') => escapes::entity(rest),
        Some(0x1b) => escapes::terminal(rest),
        Some(byte) if byte.is_ascii() => {
            // A line break or a tab is none.
            let is_invisible = byte.is_ascii_control() && !byte.is_ascii_whitespace();
            (1, if is_invisible { Reading::Nothing } else { Reading::AsItIs })
        }
        _ => match first_character(rest) {
            Some(character) => {
                let after = rest.get(character.len_utf8()..).unwrap_or_default();
                (character.len_utf8(), reading(character, before, after.first().copied()))
            }
            None => (1, Reading::AsItIs),
        },
    }
}

fn first_character(bytes: &[u8]) -> Option<char> {
    (1..=4).find_map(|length| std::str::from_utf8(bytes.get(..length)?).ok()?.chars().next())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The pieces of a plain text, each in brackets.
    fn plain(text: &str) -> String {
        let pieces = |plain: PlainText| {
            let pieces = plain.mapped.pieces().map(|(_, piece)| format!("[{}]", String::from_utf8_lossy(piece)));
            pieces.collect()
        };
        PlainText::of(text.as_bytes()).map_or_else(String::new, pieces)
    }

    #[test]
    fn only_lines_with_something_to_undo_are_there() {
        assert_eq!(plain("a plain line\nand\\tone with an escape\nand a last"), "[and\tone with an escape\n]");
        for text in ["", "nothing = here; 100 % & more", "a\n\nb", "stra\u{df}e f\u{fc}r \u{f6}l", "\\d+\\w"] {
            assert_eq!(plain(text), "", "{text}");
        }
    }

    #[test]
    fn lines_stand_side_by_side_only_if_they_did() {
        assert_eq!(plain("a\\tb\nc\\td\ne\nf\\tg"), "[a\tb\nc\td\n][f\tg\n]");
    }

    #[test]
    fn lines_may_be_broken() {
        assert_eq!(plain("a to=\nken\nb"), "[a token\n]");
        assert_eq!(plain("a to\\\r\nken"), "[a token\n]");
    }

    #[test]
    fn many_backslashes_are_read_once() {
        let text = "\\".repeat(8 << 20);
        assert_eq!(plain(&format!("{text}q{text}")), "");
    }

    #[test]
    fn what_was_undone_is_undone_again_and_is_found_in_the_text() {
        let text = "see %26%2335%3bx and \\u0026#95;key so";
        let once = PlainText::of(text.as_bytes()).unwrap();
        let twice = once.again().unwrap();
        let at = |plain: &PlainText, what: &str| {
            let start = memchr::memmem::find(plain.bytes(), what.as_bytes()).unwrap();
            text[plain.origin(&(start..start + what.len()))].to_string()
        };
        assert_eq!(at(&twice, "#x"), "%26%2335%3bx");
        assert_eq!(at(&twice, "_key"), "\\u0026#95;key");
        assert_eq!(at(&twice, "#x and _key"), "%26%2335%3bx and \\u0026#95;key");
        assert_eq!(at(&once, "and"), "and");
        assert!(twice.again().is_none());
    }

    #[test]
    fn an_encoded_at_sign_does_not_end_the_password_of_a_url() {
        assert_eq!(plain("x://u:a%40b@host/?to=c%40d"), "[x://u:a b@host/?to=c d\n]");
        assert_eq!(plain("x%3A//u:a%40host and c%40d"), "[x://u:a@host and c@d\n]");
    }

    #[test]
    fn characters_that_are_left_out_belong_to_what_is_around_them() {
        let text = "see a\u{200b}b\u{ff43} so";
        let plain = PlainText::of(text.as_bytes()).unwrap();
        let start = memchr::memmem::find(plain.bytes(), b"abc").unwrap();
        assert_eq!(&text[plain.origin(&(start..start + 3))], "a\u{200b}b\u{ff43}");
    }
}
