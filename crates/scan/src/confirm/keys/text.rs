//! Extracts a PEM body from the text that it was pasted into: source code, JSON, YAML, a diff, an environment variable.
//!
//! The kind of text is unknown, so it is read in two ways, and the caller keeps the reading that decodes to a key. Both
//! first undo backslash escapes and character references; then
//!
//! - [`quoted`] reads the text as source code in which the label is inside a string literal, and drops the text between
//!   two literals (`" +`, `",`, `. "`, a newline and a `b"`);
//! - [`marked`] reads it as lines that start with a mark (`+`, `> `, `# `, ` * `, `//`), which the line of the END
//!   label shows. Quotes are marks here too.
//!
//! Both leave plain text unchanged.

use std::borrow::Cow;

use super::effort;

/// The longest mark at the start of a line.
const MAX_MARK: usize = 32;

/// A run of this many base64 digits is not source code between two literals.
const BASE64_LINE: usize = 40;

/// `body` with escapes undone: `\n`, `\\n`, `\r`, `\t`, `\u002b`, `\x2b`, `\012`, `\/`, `\"`, a backslash at the line's
/// end, PowerShell's `` `n ``, and the references `&#10;` and `&#xA;` of XML.
pub(super) fn unescape(body: &[u8]) -> Cow<'_, [u8]> {
    effort::charge(3 * body.len());
    if !body.iter().any(|byte| matches!(byte, b'\\' | b'`' | b'&')) {
        return Cow::Borrowed(body);
    }
    let mut plain = Vec::with_capacity(body.len());
    let mut rest = body;
    while let Some((&byte, after)) = rest.split_first() {
        let (byte, after) = match (byte, after) {
            (b'\\', _) => escape(after),
            (b'`', [b'n' | b'r', after @ ..]) => (b'\n', after),
            (b'&', [b'#', after @ ..]) => reference(after),
            _ => (byte, after),
        };
        plain.push(byte);
        rest = after;
    }
    Cow::Owned(plain)
}

/// The text inside the string literals of `text`, whose start is inside a literal. `None` if a line of base64 would be
/// dropped: then the quotes do not delimit literals.
pub(super) fn quoted(text: &[u8]) -> Option<Vec<u8>> {
    effort::charge(3 * text.len());
    // The literal may have been opened with any quote: the first one closes it.
    let mut open = Some(None);
    let mut inside = Vec::with_capacity(text.len());
    let mut run_outside = 0;
    for &byte in text {
        let quote = matches!(byte, b'"' | b'\'' | b'`');
        match open {
            Some(with) if quote && with.is_none_or(|with| with == byte) => open = None,
            Some(_) => inside.push(byte),
            None if quote => {
                (open, run_outside) = (Some(Some(byte)), 0);
                // The text between two literals ends a line: headers must not run into base64.
                inside.push(b'\n');
            }
            None if byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/') => run_outside += 1,
            None => run_outside = 0,
        }
        if run_outside >= BASE64_LINE {
            return None;
        }
    }
    Some(inside)
}

/// The lines of `text` without the mark at their start; the last line of the text is the mark of the END label.
pub(super) fn marked(text: &[u8]) -> Vec<u8> {
    effort::charge(3 * text.len());
    let last = text.rsplit(|&byte| byte == b'\n').next().unwrap_or_default().trim_ascii();
    let is_mark = last.len() <= MAX_MARK && !last.iter().any(u8::is_ascii_alphanumeric);
    let mark = if is_mark { last } else { &[] };
    let mut plain = Vec::with_capacity(text.len());
    for line in text.split(|&byte| byte == b'\n') {
        let line = line.trim_ascii();
        let line = line.strip_prefix(mark).unwrap_or(line);
        plain.extend(line.iter().filter(|byte| !matches!(byte, b'"' | b'\'' | b'`')));
        plain.push(b'\n');
    }
    plain
}

/// The character of an escape whose first backslash was read, and the text after it. Text that was escaped several
/// times has several backslashes.
fn escape(text: &[u8]) -> (u8, &[u8]) {
    let backslashes = text.iter().take_while(|&&byte| byte == b'\\').count();
    let text = text.get(backslashes..).unwrap_or_default();
    match text {
        [b'n' | b'r' | b't', rest @ ..] => (b'\n', rest),
        [b'0', b'1', b'2' | b'5', rest @ ..] => (b'\n', rest),
        [b'u', rest @ ..] => coded(rest, 4, 16).unwrap_or((b'u', rest)),
        [b'x', rest @ ..] => coded(rest, 2, 16).unwrap_or((b'x', rest)),
        [byte, rest @ ..] => (*byte, rest),
        [] => (b' ', text),
    }
}

/// The character of a reference whose `&#` was read, and the text after it.
fn reference(text: &[u8]) -> (u8, &[u8]) {
    let end = text.iter().take(8).position(|&byte| byte == b';');
    let coded = end.and_then(|end| match text.first() {
        Some(b'x' | b'X') => coded(text.get(1..)?, end.checked_sub(1)?, 16),
        _ => coded(text, end, 10),
    });
    coded.map_or((b'&', text), |(byte, rest)| (byte, rest.get(1..).unwrap_or_default()))
}

/// The character with the code that the first `digits` of `text` are, and the text after it.
fn coded(text: &[u8], digits: usize, radix: u32) -> Option<(u8, &[u8])> {
    let (code, rest) = text.split_at_checked(digits)?;
    let code = u32::from_str_radix(std::str::from_utf8(code).ok()?, radix).ok()?;
    // Characters beyond ASCII are not base64: zero makes the decoder reject the body.
    Some((u8::try_from(code).ok().filter(u8::is_ascii).unwrap_or(0), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes() {
        for (escaped, plain) in [
            (r"MI\nIE\\n\r\nx", "MI\nIE\n\n\nx"),
            (r"a\u000ab\u002Bc\u002fd\/e\x2bf\012g", "a\nb+c/d/e+f\ng"),
            (r"a&#10;b&#xA;&#x2b;c&#", "a\nb\n+c&"),
            ("a`nb`c", "a\nb`c"),
            ("a\\\nb\\", "a\nb "),
            (r"\u12", "u12"),
        ] {
            assert_eq!(unescape(escaped.as_bytes()), plain.as_bytes(), "{escaped}");
        }
    }

    #[test]
    fn text_between_literals_is_dropped() {
        for (text, inside) in [
            ("\n\" +\n  \"MIIE\n\" +\n  \"abc\n\" + ", "\n\nMIIE\n\nabc\n"),
            ("', 'MIIE', 'a\"b', '", "\nMIIE\na\"b\n"),
            ("\nMIIE\nabc\n", "\nMIIE\nabc\n"),
        ] {
            assert_eq!(quoted(text.as_bytes()).as_deref(), Some(inside.as_bytes()), "{text}");
        }
        assert_eq!(quoted(format!("\n\" {}\n\" ", "A".repeat(64)).as_bytes()), None);
    }

    #[test]
    fn marks_are_dropped() {
        assert_eq!(marked(b"\n+MI\n++x\n+"), b"\nMI\n+x\n\n");
        assert_eq!(marked(b"\r\n // MI\r\n // /x\r\n // "), b"\n MI\n /x\n\n");
        assert_eq!(marked(b"\n\"MI\n\"x\n\""), b"\nMI\nx\n\n");
        assert_eq!(marked(b" MIIE abc "), b"MIIE abc\n");
        assert_eq!(marked(b"\nMI\nx="), b"\nMI\nx=\n");
    }
}
