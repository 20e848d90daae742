//! The one way of text to a terminal or a file. Whatever is printed may quote an image, a registry or a file, and none
//! of them may steer a terminal: what renderers and messages do not clean is cleaned here.

use std::borrow::Cow;
use std::io::{self, Write};

use layersift_model::{changes_display, is_invisible};

use super::masked;

/// Text without characters that change how it is displayed. Line feeds, tabs and the program's own colours stay.
pub(crate) struct Printable<'t>(Cow<'t, [u8]>);

impl<'t> Printable<'t> {
    /// `bytes` with U+FFFD in the place of everything else that changes the display, and of bytes that are not UTF-8.
    pub(crate) fn new(bytes: &'t [u8]) -> Printable<'t> {
        match std::str::from_utf8(bytes) {
            Ok(text) if next(text).is_none() => Printable(Cow::Borrowed(bytes)),
            Ok(text) => Printable(Cow::Owned(cleaned(text).into_bytes())),
            Err(_) => Printable(Cow::Owned(cleaned(&String::from_utf8_lossy(bytes)).into_bytes())),
        }
    }

    /// The bytes.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// The bytes that are cleaned together, or more where none of them is [an end](is_end).
const PART: usize = 64 << 10;

/// Text on its way to `out`, a [`Printable`] part at a time: what is written never has to be in memory as a whole.
pub(crate) struct PrintableWriter<W> {
    out: W,
    /// Whether colours are left out.
    is_plain: bool,
    /// What was not passed on yet.
    part: Vec<u8>,
    /// The number of bytes from which on the part is passed on.
    pass_at: usize,
}

impl<W: Write> PrintableWriter<W> {
    /// A writer to `out`, where colours stay or, for a file, are left out.
    pub(crate) fn new(out: W, is_plain: bool) -> PrintableWriter<W> {
        PrintableWriter { out, is_plain, part: Vec::new(), pass_at: PART }
    }

    /// Writes the rest.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        self.pass(self.part.len())?;
        self.out.flush()
    }

    /// Writes the first `count` bytes of the part.
    fn pass(&mut self, count: usize) -> io::Result<()> {
        let cleaned = Printable::new(&self.part[..count]);
        match self.is_plain {
            // Only text has colours; JSON has no escape sequences.
            true => anstream::adapter::strip_bytes(cleaned.as_bytes()).try_for_each(|text| self.out.write_all(text))?,
            false => self.out.write_all(cleaned.as_bytes())?,
        }
        self.part.drain(..count);
        Ok(())
    }
}

impl<W: Write> Write for PrintableWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.part.extend_from_slice(bytes);
        if self.part.len() >= self.pass_at {
            let end = self.part.iter().rposition(|byte| is_end(*byte)).map_or(0, |at| at + 1);
            self.pass(end)?;
            self.pass_at = PART.max(2 * self.part.len());
        }
        Ok(bytes.len())
    }

    /// Does nothing: the part may end in the middle of a character.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Whether a text can be parted after `byte`: neither a character nor a sequence that sets a colour goes on after it.
fn is_end(byte: u8) -> bool {
    byte.is_ascii() && !matches!(byte, b'\x1b' | b'[' | b';' | b'0'..=b'9')
}

/// A message in one line, without colours, without what nobody sees, and without the logins in what it quotes.
pub(crate) fn message(text: &str) -> String {
    // A line that comes from outside is none of the program's.
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    masked::message(&lines.join(" ")).replace(|c: char| changes_display(c) || is_invisible(c), "\u{fffd}")
}

/// A message of several lines, as [`message()`] cleans a line.
pub(crate) fn lines(text: &str) -> String {
    masked::message(text).replace(|c: char| (changes_display(c) && c != '\n') || is_invisible(c), "\u{fffd}")
}

fn cleaned(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((at, c)) = next(rest) {
        out.push_str(&rest[..at]);
        out.push(char::REPLACEMENT_CHARACTER);
        rest = &rest[at + c.len_utf8()..];
    }
    out + rest
}

/// The first character that is not printed, and its place.
fn next(text: &str) -> Option<(usize, char)> {
    let is_printed = |at: usize, c: char| match c {
        '\n' | '\t' => true,
        '\u{1b}' => is_colour(&text[at..]),
        c => !changes_display(c),
    };
    text.char_indices().find(|(at, c)| !is_printed(*at, *c))
}

/// Whether `text` begins with a sequence that sets a colour (ECMA-48, "Select Graphic Rendition").
fn is_colour(text: &str) -> bool {
    let parameters = text.strip_prefix("\u{1b}[").unwrap_or_default();
    parameters.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';').starts_with('m')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(bytes: &[u8]) -> String {
        String::from_utf8(Printable::new(bytes).as_bytes().to_vec()).unwrap()
    }

    #[test]
    fn only_colours_lines_and_tabs_pass() {
        for same in ["", "plain \u{1f511}\n\tx", "\u{1b}[1;31mred\u{1b}[0m", "\u{1b}[m"] {
            assert_eq!(printed(same.as_bytes()), same);
        }
        for (text, expected) in [
            ("a\u{1b}]0;title\u{7}b", "a\u{fffd}]0;title\u{fffd}b"),
            ("\u{1b}[2J\r\u{9b}31m", "\u{fffd}[2J\u{fffd}\u{fffd}31m"),
            ("x\u{202e}y\u{2066}\u{200f}", "x\u{fffd}y\u{fffd}\u{fffd}"),
            ("end\u{1b}", "end\u{fffd}"),
        ] {
            assert_eq!(printed(text.as_bytes()), expected);
        }
        assert_eq!(printed(b"\xff\x9bx"), "\u{fffd}\u{fffd}x");
        assert_eq!(message("\u{1b}[31mred\nlayersift: \u{202e}"), "\u{fffd}[31mred layersift: \u{fffd}");
        assert_eq!(message("a\u{200b}b\u{feff} \u{e0041}"), "a\u{fffd}b\u{fffd} \u{fffd}");
    }

    #[test]
    fn a_text_in_parts_is_cleaned_as_a_whole() {
        let hostile = "plain \u{1f511}\t\u{1b}[1;31mred\u{1b}[0m \u{1b}[2J\u{9b}31m\u{202e}\u{1b}\n\u{1b}[12;";
        let bytes = [hostile.as_bytes(), b"\xff\x9b\xe2\x80", "\u{e9}".repeat(PART).as_bytes(), b"\xf0\x9f\n"].concat();
        let text = bytes.repeat(3);
        let cleaned = Printable::new(&text).as_bytes().to_vec();
        for (is_plain, expected) in
            [(false, cleaned.clone()), (true, anstream::adapter::strip_bytes(&cleaned).into_vec())]
        {
            for size in [1, 7, 4096, text.len()] {
                let mut out = Vec::new();
                let mut writer = PrintableWriter::new(&mut out, is_plain);
                text.chunks(size).for_each(|part| writer.write_all(part).unwrap());
                writer.finish().unwrap();
                assert!(out == expected, "in parts of {size} bytes");
            }
        }
    }
}
