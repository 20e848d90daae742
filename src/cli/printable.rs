//! The one way of text to a terminal or a file. Whatever is printed may quote an image, a registry or a file, and none
//! of them may steer a terminal: what renderers and messages do not clean is cleaned here.

use std::borrow::Cow;

use layersift_model::changes_display;

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

/// A message on a line of its own, without colours.
pub(crate) fn message(text: &str) -> String {
    text.replace(|c: char| changes_display(c) && c != '\n', "\u{fffd}")
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
        assert_eq!(message("\u{1b}[31mred\n\u{202e}"), "\u{fffd}[31mred\n\u{fffd}");
    }
}
