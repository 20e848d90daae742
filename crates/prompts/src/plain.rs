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
//! ```

mod characters;
mod escapes;

use std::ops::Range;

use self::characters::{Reading, reading};

/// How often what was undone is undone again: JSON in a URL in HTML takes three.
const MOST_ROUNDS: usize = 3;

/// The lines of a text that differ from it once disguises are undone.
#[derive(Debug, Default)]
pub struct PlainText {
    bytes: Vec<u8>,
    /// Where bytes come from: those from an offset on, until the next entry, come one by one from an offset of the
    /// text.
    origins: Vec<(usize, usize)>,
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

    /// The lines of `text` in which something was undone; `None` if there are none.
    fn of(text: &[u8]) -> Option<PlainText> {
        let mut plain = PlainText { size: text.len(), ..PlainText::default() };
        let mut start = 0;
        while let Some(rest) = text.get(start..).filter(|rest| !rest.is_empty()) {
            let line = logical_line(rest);
            plain.add(rest.get(..line).unwrap_or_default(), start);
            start += line;
        }
        (!plain.bytes.is_empty()).then_some(plain)
    }

    /// The same of what is left: escapes may stand in escapes.
    fn again(&self) -> Option<PlainText> {
        let mut plain = PlainText::of(&self.bytes)?;
        for (_, origin) in &mut plain.origins {
            *origin = self.origin_of(*origin);
        }
        plain.size = self.size;
        Some(plain)
    }

    /// Whether a finding of a rule counts in a plain text: an invisible character that is written as an escape is
    /// visible.
    pub fn counts(rule: &str) -> bool {
        rule != "prompt.invisible-text"
    }

    /// The bytes, which need not be UTF-8.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The bytes of the text that the bytes in `span` come from.
    pub fn origin(&self, span: &Range<usize>) -> Range<usize> {
        let start = self.origin_of(span.start);
        start..self.origin_of(span.end).max(start)
    }

    fn origin_of(&self, at: usize) -> usize {
        let after = self.origins.partition_point(|(from, _)| *from <= at);
        let origin = after.checked_sub(1).and_then(|index| self.origins.get(index));
        origin.map_or(0, |(from, origin)| origin + (at - from)).min(self.size)
    }

    /// Adds a line that begins at `start` of the text, if something in it is undone.
    fn add(&mut self, line: &[u8], start: usize) {
        if !line.iter().copied().any(escapes::may_begin) {
            return;
        }
        let (bytes, origins) = (self.bytes.len(), self.origins.len());
        let mut at = 0;
        let mut is_changed = false;
        while let Some(rest) = line.get(at..).filter(|rest| !rest.is_empty()) {
            let (length, reading) = next(rest, self.bytes.get(bytes..).unwrap_or_default());
            match reading {
                Reading::AsItIs => {
                    for (index, byte) in rest.iter().copied().take(length).enumerate() {
                        self.push(byte, start + at + index);
                    }
                }
                Reading::Nothing => is_changed = true,
                Reading::Byte(b'@') if rest.starts_with(b"%") && is_in_url(line.get(..at).unwrap_or_default()) => {
                    self.push(b' ', start + at);
                    is_changed = true;
                }
                Reading::Byte(byte) => {
                    self.push(byte, start + at);
                    is_changed = true;
                }
                Reading::Character(character) => {
                    character.encode_utf8(&mut [0; 4]).bytes().for_each(|byte| self.push(byte, start + at));
                    is_changed = true;
                }
            }
            at += length;
        }
        if is_changed {
            self.push(b'\n', start + at);
        } else {
            self.bytes.truncate(bytes);
            self.origins.truncate(origins);
        }
    }

    fn push(&mut self, byte: u8, origin: usize) {
        let at = self.bytes.len();
        if self.origins.last().is_none_or(|(from, known)| known + (at - from) != origin) {
            self.origins.push((at, origin));
        }
        self.bytes.push(byte);
    }
}

/// Whether the last word of `before` is a URL. An encoded `@` in its password is none that ends the password.
fn is_in_url(before: &[u8]) -> bool {
    const LONGEST: usize = 256;
    let near = before.get(before.len().saturating_sub(LONGEST)..).unwrap_or_default();
    let word = near.rsplit(|byte| byte.is_ascii_whitespace() || matches!(byte, b'"' | b'\'')).next();
    word.is_some_and(|word| memchr::memmem::find(word, b"://").is_some())
}

/// The length of the first line with its end, and of those that it is continued on.
fn logical_line(text: &[u8]) -> usize {
    let mut end = 0;
    loop {
        let Some(rest) = text.get(end..) else { return text.len() };
        let Some(newline) = memchr::memchr(b'\n', rest) else { return text.len() };
        end += newline + 1;
        let line = text.get(..end - 1).unwrap_or_default();
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if !matches!(line.last(), Some(b'\\' | b'=')) {
            return end;
        }
    }
}

/// How many bytes of `rest` are read as one, and as what. `before` is what was read of the line.
fn next(rest: &[u8], before: &[u8]) -> (usize, Reading) {
    match rest.first() {
        Some(b'\\') => escapes::backslash(rest),
        Some(b'%') => escapes::percent(rest),
        Some(b'=') => escapes::quoted_printable(rest),
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
                (character.len_utf8(), reading(character, before.last().copied(), after.first().copied()))
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

    fn plain(text: &str) -> String {
        PlainText::of(text.as_bytes()).map_or_else(String::new, |plain| String::from_utf8(plain.bytes).unwrap())
    }

    #[test]
    fn only_lines_with_something_to_undo_are_there() {
        assert_eq!(plain("a plain line\nand\\tone with an escape\nand a last"), "and one with an escape\n\n");
        for text in ["", "nothing = here; 100 % & more", "a\n\nb", "stra\u{df}e f\u{fc}r \u{f6}l", "\\d+\\w"] {
            assert_eq!(plain(text), "", "{text}");
        }
    }

    #[test]
    fn lines_may_be_broken() {
        assert_eq!(plain("a to=\nken\nb"), "a token\n\n");
        assert_eq!(plain("a to\\\r\nken"), "a token\n");
    }

    #[test]
    fn what_was_undone_is_undone_again_and_is_found_in_the_text() {
        let text = "see %26%2335%3bx and \\u0026#95;key so";
        let once = PlainText::of(text.as_bytes()).unwrap();
        assert_eq!(once.bytes(), b"see &#35;x and &#95;key so\n");
        let twice = once.again().unwrap();
        assert_eq!(twice.bytes(), b"see #x and _key so\n\n");
        let at = |plain: &PlainText, what: &str| {
            let start = memchr::memmem::find(plain.bytes(), what.as_bytes()).unwrap();
            text[plain.origin(&(start..start + what.len()))].to_string()
        };
        assert_eq!(at(&twice, "#x"), "%26%2335%3bx");
        assert_eq!(at(&twice, "_key"), "\\u0026#95;key");
        assert_eq!(at(&once, "and"), "and");
        assert!(twice.again().is_none());
    }

    #[test]
    fn an_encoded_at_sign_does_not_end_the_password_of_a_url() {
        assert_eq!(plain("x://u:a%40b@host/?to=c%40d"), "x://u:a b@host/?to=c d\n");
        assert_eq!(plain("x%3A//u:a%40host and c%40d"), "x://u:a@host and c@d\n");
    }

    #[test]
    fn characters_that_are_left_out_belong_to_what_is_around_them() {
        let text = "see a\u{200b}b\u{ff43} so";
        let plain = PlainText::of(text.as_bytes()).unwrap();
        assert_eq!(plain.bytes(), b"see abc so\n");
        assert_eq!(&text[plain.origin(&(4..7))], "a\u{200b}b\u{ff43}");
    }
}
