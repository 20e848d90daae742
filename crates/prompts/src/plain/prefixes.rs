//! Lines that something stands in front of: numbers, as tools of agents and `cat -n` write them, paths and numbers of
//! `grep -n`, and the marks of differences, quotations and comments. A key over several lines is none with them.
//!
//! Lines in a row with prefixes of one kind are one text without them.

use super::mapped::Mapped;

/// The most white space before a prefix.
const MOST_SPACE: usize = 16;

/// The most digits of the number of a line.
const MOST_DIGITS: usize = 7;

/// The most bytes of the path before a number.
const LONGEST_PATH: usize = 256;

/// What stands in front of lines, the longer before those that it begins with.
const MARKS: [&[u8]; 13] = [b"//!", b"///", b"//", b"--", b">", b"##", b"#", b"+", b"-", b"*", b"|", b";", b"%"];

/// What stands between the number of a line and the line.
const SEPARATORS: [&[u8]; 7] = ["\u{2192}".as_bytes(), b"\t", b" | ", b"|", b":", b"-", b". "];

/// What stands in front of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Prefix<'t> {
    /// One of [`MARKS`].
    Mark(&'static [u8]),
    /// A path, if there is one, a number, and one of [`SEPARATORS`].
    Number { path: &'t [u8], number: u32, separator: &'static [u8] },
}

impl Prefix<'_> {
    /// Whether a line with this prefix goes on from one with the prefix `before`.
    fn follows(self, before: Prefix<'_>) -> bool {
        match (self, before) {
            (Prefix::Mark(mark), Prefix::Mark(before)) => mark == before,
            (
                Prefix::Number { path, number, separator },
                Prefix::Number { path: other, number: before, separator: same },
            ) => path == other && separator == same && number > before,
            _ => false,
        }
    }
}

/// Lines with prefixes of one kind that were read so far.
struct Run<'t> {
    first: usize,
    /// Where the first line begins behind its prefix, and where it ends.
    first_line: (usize, usize),
    last: Prefix<'t>,
    is_written: bool,
}

/// Adds the lines of `text`, which begins at `offset` of what is mapped, without their prefixes.
pub(super) fn add(text: &[u8], offset: usize, out: &mut Mapped) {
    let mut run: Option<Run<'_>> = None;
    let mut start = 0;
    while start < text.len() {
        let end = memchr::memchr(b'\n', text.get(start..).unwrap_or_default()).map_or(text.len(), |end| start + end);
        let line = text.get(start..end).unwrap_or_default();
        run = match (prefix(line), run) {
            (Some((length, prefix)), Some(mut run)) if prefix.follows(run.last) => {
                if !run.is_written {
                    out.begin_piece(offset + run.first, false);
                    add_line(text, run.first_line, offset, out);
                }
                add_line(text, (start + length, end), offset, out);
                (run.last, run.is_written) = (prefix, true);
                Some(run)
            }
            (Some((length, last)), _) => {
                Some(Run { first: start, first_line: (start + length, end), last, is_written: false })
            }
            (None, _) => None,
        };
        start = end + 1;
    }
}

fn add_line(text: &[u8], (start, end): (usize, usize), offset: usize, out: &mut Mapped) {
    out.extend(text.get(start..end).unwrap_or_default(), offset + start);
    out.push(b'\n', offset + end);
}

/// The prefix of a line, and its length with the space after a mark.
fn prefix(line: &[u8]) -> Option<(usize, Prefix<'_>)> {
    let space = line.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    if space > MOST_SPACE {
        return None;
    }
    let rest = line.get(space..)?;
    let (length, prefix) = numbered(rest).or_else(|| marked(rest))?;
    Some((space + length, prefix))
}

fn marked(rest: &[u8]) -> Option<(usize, Prefix<'_>)> {
    let mark = MARKS.into_iter().find(|mark| rest.starts_with(mark))?;
    // One space belongs to the mark, and further ones to the line. Differences have none.
    let is_spaced = !matches!(mark, b"+" | b"-") && rest.get(mark.len()) == Some(&b' ');
    Some((mark.len() + usize::from(is_spaced), Prefix::Mark(mark)))
}

fn numbered(rest: &[u8]) -> Option<(usize, Prefix<'_>)> {
    let alone = rest.strip_prefix(b"L").unwrap_or(rest);
    if let Some((length, number, separator)) = number(alone) {
        return Some((rest.len() - alone.len() + length, Prefix::Number { path: b"", number, separator }));
    }
    let near = rest.get(..rest.len().min(LONGEST_PATH)).unwrap_or_default();
    let (end, _) = near.iter().enumerate().find(|(at, byte)| {
        matches!(byte, b':' | b'-')
            && rest.get(at + 1).is_some_and(u8::is_ascii_digit)
            && number_at(rest, *at).is_some()
    })?;
    let path = near.get(..end)?;
    let (length, number, separator) = number_at(rest, end)?;
    let is_path = !path.is_empty() && !path.iter().any(u8::is_ascii_whitespace);
    is_path.then_some((end + 1 + length, Prefix::Number { path, number, separator }))
}

/// The number after the mark at `at`, as `grep -n` writes it: between two of the same mark.
fn number_at(rest: &[u8], at: usize) -> Option<(usize, u32, &'static [u8])> {
    let mark = rest.get(at)?;
    number(rest.get(at + 1..)?).filter(|(_, _, separator)| *separator == [*mark])
}

/// The number that `text` begins with, what separates it from the line, and the length of both.
fn number(text: &[u8]) -> Option<(usize, u32, &'static [u8])> {
    let digits = text.iter().take(MOST_DIGITS + 1).take_while(|byte| byte.is_ascii_digit()).count();
    if digits == 0 || digits > MOST_DIGITS {
        return None;
    }
    let number = std::str::from_utf8(text.get(..digits)?).ok()?.parse().ok()?;
    let rest = text.get(digits..)?;
    let separator = SEPARATORS.into_iter().find(|separator| rest.starts_with(separator))?;
    Some((digits + separator.len(), number, separator))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(text: &str) -> String {
        let mut out = Mapped::default();
        add(text.as_bytes(), 0, &mut out);
        let pieces = out.pieces().map(|(_, piece)| format!("[{}]", String::from_utf8_lossy(piece)));
        pieces.collect()
    }

    #[test]
    fn prefixes_of_all_lines_are_left_out() {
        for prefixes in [
            ["     9\u{2192}", "    10\u{2192}", "    11\u{2192}"],
            ["     9\t", "    10\t", "    11\t"],
            ["9|", "10|", "11|"],
            [" 9 | ", "10 | ", "11 | "],
            ["L9:", "L10:", "L11:"],
            ["9:", "10:", "12:"],
            ["src/a-b.c:9:", "src/a-b.c:10:", "src/a-b.c:11:"],
            ["src/a.c-9-", "src/a.c-10-", "src/a.c-11-"],
            ["+", "+", "+"],
            ["> ", "> ", "> "],
            ["    // ", "    // ", "    // "],
            ["# ", "# ", "# "],
            [" * ", " * ", " * "],
        ] {
            let text: String =
                prefixes.iter().zip(["a {", "  b", "}"]).map(|(one, line)| format!("{one}{line}\n")).collect();
            assert_eq!(plain(&text), "[a {\n  b\n}\n]", "{text}");
        }
    }

    #[test]
    fn lines_of_another_kind_end_a_text() {
        assert_eq!(plain("1|a\n2|b\n\n+c\n+d\n-e\n7: f\n3: g\n"), "[a\nb\n][c\nd\n]");
        for text in ["", "a\nb\n", "1|a\n", "+a\n-b\n", "12345678|a\n12345679|b\n", "a b:1:c\na b:2:d\n"] {
            assert_eq!(plain(text), "", "{text}");
        }
    }

    #[test]
    fn bytes_come_from_where_they_stood() {
        let text = "1|ab\n2|cd\n";
        let mut out = Mapped::default();
        add(text.as_bytes(), 100, &mut out);
        let (piece, bytes) = out.pieces().next().unwrap();
        let at = piece.start + memchr::memchr(b'd', bytes).unwrap();
        assert_eq!(out.origin(&(at..at + 1)), 108..109);
        assert_eq!(out.origin(&(piece.start..at + 1)), 102..109);
    }
}
