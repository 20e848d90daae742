//! Text for a terminal: made safe, measured in columns, cut and wrapped.
//!
//! Names in an image may hold anything. [`clean`] and [`safe`] take out what would steer the terminal; every text from
//! an image passes through one of them.

use std::borrow::Cow;
use std::io::{self, Write};

use anstyle::{AnsiColor, Color, Style};
use layersift_model::{Severity, Verdict, changes_display};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// What stands for the characters that were cut out.
const ELLIPSIS: char = '…';

/// Columns between the pieces of a line.
const GAP: usize = 2;

/// The widest that prose is set: longer lines are hard to read.
const PROSE: usize = 100;

pub(crate) const BOLD: Style = Style::new().bold();
pub(crate) const DIM: Style = Style::new().dimmed();
pub(crate) const PLAIN: Style = Style::new();
pub(crate) const WARNING: Style = Style::new().bold().fg_color(Some(Color::Ansi(AnsiColor::Yellow)));

/// `bytes` with three digits and a binary unit, such as `1.74 GiB`.
pub fn human(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = "KiB";
    for larger in UNITS.into_iter().skip(1).chain(["PiB"]) {
        if value < 999.5 {
            break;
        }
        value /= 1024.0;
        unit = larger;
    }
    let digits = if value < 9.995 { 2 } else { usize::from(value < 99.95) };
    format!("{value:.digits$} {unit}")
}

/// `count` with a comma before every three digits, such as `2,722`.
pub fn thousands(count: u64) -> String {
    let digits = count.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `count` and `noun`, with an `s` unless there is one.
pub fn plural(count: u64, noun: &str) -> String {
    format!("{} {noun}{}", thousands(count), if count == 1 { "" } else { "s" })
}

/// `text` on one line, without control characters, cut to `width` columns.
pub fn clean(text: &str, width: usize) -> String {
    // A history entry may hold a whole script. A character has at most four bytes, and most have a column.
    let enough = text.char_indices().nth(width.saturating_mul(4).saturating_add(64)).map_or(text.len(), |(at, _)| at);
    let words: Vec<&str> = text.get(..enough).unwrap_or(text).split_whitespace().collect();
    cut(&safe(&words.join(" ")), width)
}

/// `text` with every character that changes_display a terminal replaced by U+FFFD.
pub fn safe(text: &str) -> Cow<'_, str> {
    if text.contains(changes_display) { text.replace(changes_display, "\u{fffd}").into() } else { text.into() }
}

/// `text` cut at its end to `width` columns.
pub fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.into();
    }
    let mut out: String = head(text, width.saturating_sub(1)).into();
    out.push(ELLIPSIS);
    out
}

/// `path` cut in the middle to `width` columns, so that the name of the file stays.
pub fn cut_path(path: &str, width: usize) -> String {
    if path.width() <= width {
        return path.into();
    }
    let name = path.trim_end_matches('/').rfind('/').map_or("", |slash| path.get(slash..).unwrap_or_default());
    let left = width.saturating_sub(1);
    // Where the name alone is too long, both of its ends stay.
    let end = if name.is_empty() || name.width() > left { tail(path, left / 2) } else { name };
    format!("{}{ELLIPSIS}{end}", head(path, left.saturating_sub(end.width())))
}

/// The first characters of `text`, of at most `width` columns.
fn head(text: &str, width: usize) -> &str {
    let mut used = 0;
    let end = text.char_indices().find(|(_, c)| {
        used += columns(*c);
        used > width
    });
    end.and_then(|(at, _)| text.get(..at)).unwrap_or(text)
}

/// The last characters of `text`, of at most `width` columns.
fn tail(text: &str, width: usize) -> &str {
    let mut used = 0;
    let start = text.char_indices().rev().find(|(_, c)| {
        used += columns(*c);
        used > width
    });
    start.and_then(|(at, c)| text.get(at + c.len_utf8()..)).unwrap_or(text)
}

fn columns(c: char) -> usize {
    c.width().unwrap_or(0)
}

/// The words of `text` in lines of at most `width` columns. A word that is longer is cut.
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    fill(text, width, width)
}

/// The words of `text` in lines: the first of at most `first` columns, the others of at most `width`.
fn fill(text: &str, first: usize, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    let (mut used, mut room) = (0, first);
    for word in text.split_whitespace() {
        let word = cut(&safe(word), width);
        let columns = word.width();
        let gap = usize::from(used > 0);
        if used + gap + columns > room && (used > 0 || room < width) {
            lines.push(String::new());
            (used, room) = (0, width);
        }
        if let Some(line) = lines.last_mut() {
            line.push_str(if used > 0 { " " } else { "" });
            line.push_str(&word);
        }
        used += usize::from(used > 0) + columns;
    }
    lines
}

/// Writes `text` as a paragraph after `label`, its further lines indented by `indent` columns. An empty text is left
/// out.
pub(crate) fn paragraph(
    out: &mut dyn Write,
    (style, label): (Style, &str),
    text: &str,
    indent: usize,
    columns: usize,
) -> io::Result<()> {
    if text.trim().is_empty() {
        return Ok(());
    }
    let columns = columns.min(PROSE);
    let lines = fill(text, columns.saturating_sub(label.width()), columns.saturating_sub(indent));
    for (index, line) in lines.iter().enumerate() {
        match index {
            0 => writeln!(out, "{style}{label}{style:#}{line}")?,
            _ => writeln!(out, "{:indent$}{line}", "")?,
        }
    }
    Ok(())
}

/// The colour of a severity.
pub fn severity_style(severity: Severity) -> Style {
    let colour = match severity {
        Severity::Critical | Severity::High => AnsiColor::Red,
        Severity::Medium => AnsiColor::Yellow,
        Severity::Low => AnsiColor::Cyan,
        Severity::Info => AnsiColor::Blue,
    };
    let style = Style::new().fg_color(Some(Color::Ansi(colour)));
    if severity == Severity::Critical { style.bold() } else { style }
}

/// The colour of a verdict.
pub fn verdict_style(verdict: Verdict) -> Style {
    let colour = match verdict {
        Verdict::Pass => AnsiColor::Green,
        Verdict::Incomplete => AnsiColor::Yellow,
        Verdict::Fail => AnsiColor::Red,
    };
    Style::new().bold().fg_color(Some(Color::Ansi(colour)))
}

/// A line made of pieces, two columns apart. A piece that does not fit begins a further line, two columns deeper; it is
/// cut where it does not fit there either.
pub struct Line<'w> {
    out: &'w mut dyn Write,
    width: usize,
    indent: usize,
    used: usize,
    is_empty: bool,
}

impl<'w> Line<'w> {
    /// Begins a line `indent` columns from the left, of at most `width` columns.
    pub fn begin(out: &'w mut dyn Write, indent: usize, width: usize) -> io::Result<Line<'w>> {
        write!(out, "{:indent$}", "")?;
        Ok(Line { out, width, indent: indent + GAP, used: indent, is_empty: true })
    }

    /// Adds a text, which is cut at its end. An empty text adds nothing.
    pub fn text(&mut self, style: Style, text: &str) -> io::Result<()> {
        self.piece(style, text, cut)
    }

    /// Adds a path and a `suffix` that is never cut, such as a line number; the path is cut in its middle.
    pub fn path(&mut self, style: Style, path: &str, suffix: &str) -> io::Result<()> {
        let whole = format!("{path}{suffix}");
        self.piece(style, &whole, |_, columns| {
            let room = columns.saturating_sub(suffix.width());
            cut(&(cut_path(path, room) + suffix), columns)
        })
    }

    /// Adds a text that fills the rest of this line if there is room for some of it: it is cut rather than moved.
    pub fn rest(&mut self, style: Style, text: &str) -> io::Result<()> {
        const WORTHWHILE: usize = 24;
        let room = self.width.saturating_sub(self.used + GAP);
        if room >= WORTHWHILE { self.piece(style, &cut(text, room), cut) } else { self.text(style, text) }
    }

    /// Ends the line.
    pub fn end(self) -> io::Result<()> {
        writeln!(self.out)
    }

    fn piece(&mut self, style: Style, text: &str, cut: impl Fn(&str, usize) -> String) -> io::Result<()> {
        if text.is_empty() {
            return Ok(());
        }
        let gap = if self.is_empty { 0 } else { GAP };
        let columns = text.width();
        if !self.is_empty && self.used + gap + columns > self.width {
            write!(self.out, "\n{:1$}", "", self.indent)?;
            self.used = self.indent;
        } else {
            write!(self.out, "{:gap$}", "")?;
            self.used += gap;
        }
        let room = self.width.saturating_sub(self.used);
        let text = if columns > room { Cow::Owned(cut(text, room)) } else { Cow::Borrowed(text) };
        self.used += text.width();
        self.is_empty = false;
        write!(self.out, "{style}{text}{style:#}")
    }
}

/// `text` without the colours that the renderer itself writes.
#[cfg(test)]
pub(crate) fn without_colours(text: &str) -> String {
    let mut out = String::new();
    for (index, part) in text.split("\x1b[").enumerate() {
        let after = if index == 0 { Some(part) } else { part.split_once('m').map(|(_, after)| after) };
        out += after.unwrap_or_default();
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_digits() {
        let shown = [0, 1023, 1024, 10 * 1024 + 512, 1_740_000_000, 999 << 20].map(human);
        assert_eq!(shown, ["0 B", "1023 B", "1.00 KiB", "10.5 KiB", "1.62 GiB", "999 MiB"]);
        assert_eq!(human(u64::MAX), "16384 PiB");
    }

    #[test]
    fn counts() {
        let shown = [0, 999, 1_000, 1_234_567].map(thousands);
        assert_eq!(shown, ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([0, 1, 2_722].map(|count| plural(count, "file")), ["0 files", "1 file", "2,722 files"]);
    }

    #[test]
    fn nothing_from_an_image_steers_the_terminal() {
        assert_eq!(clean("a\x1b[31mb\n\tc", 100), "a\u{fffd}[31mb c");
        assert_eq!(clean("a\u{202e}b\u{9b}c", 100), "a\u{fffd}b\u{fffd}c");
        assert_eq!(wrap("a\x1b[31mb \u{202e}c", 100), ["a\u{fffd}[31mb \u{fffd}c"]);
        assert_eq!(safe("a  b\rc"), "a  b\u{fffd}c");
    }

    #[test]
    fn long_texts_are_cut_at_their_end() {
        assert_eq!(cut("abcdef", 6), "abcdef");
        assert_eq!(cut("abcdef", 4), "abc…");
        assert_eq!(cut("日本語", 5), "日本…");
        assert_eq!(cut("日本語", 4), "日…");
        assert_eq!(clean(&"word ".repeat(100_000), 9), "word wor…");
    }

    #[test]
    fn long_paths_are_cut_before_the_file_name() {
        assert_eq!(cut_path("a/b/c.txt", 9), "a/b/c.txt");
        assert_eq!(cut_path("srv/app/node_modules/next/server.js.map", 26), "srv/app/nod…/server.js.map");
        assert_eq!(cut_path("srv/app/a-name-that-is-far-too-long.txt", 12), "srv/ap…g.txt");
        assert_eq!(cut_path("no-directory-at-all", 8), "no-d…all");
        assert_eq!(cut_path("目录/目录/文件.txt", 13), "目…/文件.txt");
        for width in 1..40 {
            assert!(UnicodeWidthStr::width(&*cut_path("目录/foo/目录/bar/文件.txt", width)) <= width, "{width}");
        }
    }

    #[test]
    fn prose_is_wrapped() {
        assert_eq!(wrap("one two  three\nfour", 9), ["one two", "three", "four"]);
        assert_eq!(wrap("unbreakable", 6), ["unbre…"]);
        assert_eq!(wrap("", 6), [""]);
        assert_eq!(fill("one two three", 4, 9), ["one", "two three"]);
        assert_eq!(fill("three two", 4, 9), ["", "three two"]);
    }

    #[test]
    fn a_piece_that_does_not_fit_begins_a_line() {
        let mut out = Vec::new();
        let mut line = Line::begin(&mut out, 2, 16).unwrap();
        line.path(PLAIN, "a/very/long/path.js", ":7:1").unwrap();
        line.text(PLAIN, "").unwrap();
        line.text(PLAIN, "next").unwrap();
        line.text(PLAIN, "1.0").unwrap();
        line.text(PLAIN, "longer than that").unwrap();
        line.end().unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "  a…/path.js:7:1\n    next  1.0\n    longer than…\n");
    }
}
