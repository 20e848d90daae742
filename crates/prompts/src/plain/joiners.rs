//! What joins the literals of one string: operators of programs, nothing at all in some of them and in a shell, and the
//! commas of a list that is joined.

use memchr::memmem;

/// The most bytes between two literals: an operator, a line break and the indentation.
const LONGEST: usize = 120;

/// Words that say that the strings of a list are joined. They are looked for near the list.
const LIST_WORDS: [&[u8]; 5] = [b"join", b"concat", b"implode", b"paste", b"strcat"];

/// Where `LIST_WORDS` are looked for, and how far the answer holds.
const LOOKED_BEFORE: usize = 128;
const LOOKED_AFTER: usize = 512;
const HOLDS_FOR: usize = 256;

/// What is known of the lists near a place.
#[derive(Debug, Default)]
pub(super) struct Lists {
    until: usize,
    is_joined: bool,
}

pub(super) fn is_quote(byte: u8) -> bool {
    matches!(byte, b'"' | b'\'' | b'`')
}

/// Whether a byte may stand in an operator that joins strings.
fn is_operator(byte: u8) -> bool {
    matches!(byte, b'+' | b'.' | b'&' | b'|' | b'~' | b'^' | b'<' | b'>')
}

/// The length of what joins two literals at `at`, where a quotation mark is, from that one to the one that opens the
/// next literal.
pub(super) fn joiner(text: &[u8], at: usize, lists: &mut Lists) -> Option<usize> {
    if at.checked_sub(1).and_then(|before| text.get(before)) == Some(&b'\\') {
        return None;
    }
    // A quotation mark that opens a literal is none that closes one: most end here.
    let is_letter = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let is_after_letter = is_letter(at.checked_sub(1).and_then(|before| text.get(before)));
    if !is_after_letter && is_letter(text.get(at + 1)) {
        return None;
    }
    let is_joiner = |between: &Between, lists: &mut Lists| match (between.operators, between.commas) {
        (1..=3, 0) => true,
        (0, 1) => lists.are_joined(text, at),
        (0, 0) => between.space > 0 && is_side_by_side(text, at, between.end, between.is_broken),
        _ => false,
    };
    match Between::after(text, at) {
        Some(between) if is_joiner(&between, lists) => Some(between.end - at),
        _ => in_word(text, at),
    }
}

/// A quotation mark in a word of a shell, or two of them.
fn in_word(text: &[u8], at: usize) -> Option<usize> {
    let is_token =
        |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || b"_-./+=".contains(byte));
    let before = text.get(at.checked_sub(1)?..at)?;
    if !is_token(before.first()) {
        return None;
    }
    let quote = *text.get(at)?;
    let after = text.get(at + 1)?;
    if is_quote(*after) {
        return is_token(text.get(at + 2)).then_some(2);
    }
    // A letter before a string says what kind of string it is, and an apostrophe is none of a shell's.
    let is_long = text.get(at.checked_sub(3)?..at)?.iter().all(|byte| is_token(Some(byte)));
    let is_paired = || {
        let is_in_word = |byte: &&u8| !byte.is_ascii_whitespace();
        let before = text.get(at.saturating_sub(LONGEST)..at).unwrap_or_default().iter().rev().take_while(is_in_word);
        let after = text.get(at + 1..).unwrap_or_default().iter().take(LONGEST).take_while(is_in_word);
        before.chain(after).any(|byte| *byte == quote)
    };
    (quote != b'`' && is_long && is_token(Some(after)) && (quote == b'"' || is_paired())).then_some(1)
}

/// What stands between two literals.
#[derive(Default)]
struct Between {
    operators: usize,
    commas: usize,
    space: usize,
    is_broken: bool,
    /// After the quotation mark that opens the next literal.
    end: usize,
}

impl Between {
    /// What follows the quotation mark at `at`, if another one follows it.
    fn after(text: &[u8], at: usize) -> Option<Between> {
        let mut between = Between::default();
        let mut next = at + 1;
        while next < at + LONGEST {
            let rest = text.get(next..)?;
            next += match rest {
                [b' ' | b'\t', ..] => between.add_space(1, false),
                [b'\r' | b'\n', ..] => between.add_space(1, true),
                [b'\\' | b'_', b'\n', ..] => between.add_space(2, true),
                [b'\\' | b'_', b'\r', b'\n', ..] => between.add_space(3, true),
                [b'}', b'$' | b'#', b'{', ..] => between.add_operator(3),
                // A line of a quoted mail or of a comment.
                [b'>' | b'#' | b'*', b' ', ..] if between.is_broken => between.add_space(2, true),
                [b'/', b'/', b' ', ..] if between.is_broken => between.add_space(3, true),
                [b')' | b'(', ..] => 1,
                [b',', ..] => {
                    between.commas += 1;
                    1
                }
                [byte, ..] if is_operator(*byte) => between.add_operator(1),
                // Letters before a literal that say what kind of literal it is.
                [b'r' | b'R' | b'f' | b'F' | b'b' | b'B' | b'u' | b'U' | b'L' | b'@' | b'$' | b'N', quote, ..]
                    if is_quote(*quote) && next > at + 1 =>
                {
                    1
                }
                [quote, ..] if is_quote(*quote) => {
                    between.end = next + 1;
                    return Some(between);
                }
                _ => return None,
            };
        }
        None
    }

    fn add_space(&mut self, length: usize, is_break: bool) -> usize {
        self.space += length;
        self.is_broken |= is_break;
        length
    }

    fn add_operator(&mut self, length: usize) -> usize {
        self.operators += 1;
        length
    }
}

/// Whether two literals with nothing but space between them are two, and not a string of spaces.
fn is_side_by_side(text: &[u8], at: usize, end: usize, is_broken: bool) -> bool {
    let before = at.checked_sub(1).and_then(|before| text.get(before));
    let closes =
        |byte: &u8| (byte.is_ascii_graphic() && !b"([{,=:+\"'`".contains(byte)) || (is_broken && *byte == b' ');
    let opens = |byte: &u8| byte.is_ascii_graphic() && !b")]},;:\"'`".contains(byte);
    before.is_some_and(closes) && text.get(end).is_some_and(opens)
}

impl Lists {
    fn are_joined(&mut self, text: &[u8], at: usize) -> bool {
        if at >= self.until {
            let near = at.saturating_sub(LOOKED_BEFORE)..text.len().min(at + LOOKED_AFTER);
            let near = text.get(near).unwrap_or_default().to_ascii_lowercase();
            self.is_joined = LIST_WORDS.iter().any(|word| memmem::find(&near, word).is_some());
            self.until = at + HOLDS_FOR;
        }
        self.is_joined
    }
}

#[cfg(test)]
mod tests {
    use super::super::PlainText;

    fn plain(text: &str) -> Option<String> {
        let plain = PlainText::rounds(text.as_bytes()).next()?;
        Some(String::from_utf8_lossy(plain.bytes()).trim_matches(|c| "\n|;&<>{}".contains(c)).to_string())
    }

    #[test]
    fn literals_are_joined() {
        for text in [
            "x = \"to\" + \"ken\"",
            "x = 'to' . 'ken'",
            "x = \"to\" \"ken\"",
            "x = \"to\"\n    \"ken\"",
            "x = \"to\" +\n    \"ken\"",
            "x = \"to\"\n  + \"ken\"",
            "x = \"to\" \\\r\n  \"ken\"",
            "x = \"to\" & _\n  \"ken\"",
            "x = \"to\" || 'ken'",
            "x = \"to\"..\"ken\"",
            "x = `to` + `ken`",
            "x = \"to\" + f\"ken\"",
            "x = (\"to\") + (\"ken\")",
            "x = \"${\"to\"}${\"ken\"}\"",
            "x = 'to'\"ken\"",
            "x = \"to\"'ken'",
            "x = 'to''ken'",
            "x = [\"to\", \"ken\"].join(\"\")",
            "x = \"\".join(['to',\n 'ken'])",
            "x = concat('to', \"ken\")",
            "> x = \"to\" +\n> \"ken\"",
        ] {
            assert!(plain(text).is_some_and(|plain| plain.contains("token")), "{text}: {:?}", plain(text));
        }
        assert_eq!(
            plain("echo abc\"def\"ghi abc'def'ghi abc''def").as_deref(),
            Some("echo abcdefghi abcdefghi abcdef")
        );
    }

    #[test]
    fn other_strings_stay() {
        for text in [
            "x = [\"to\", \"ken\"]",
            "{\"a\": \"\", \"b\": \"c\"}",
            "it's what he hasn't, isn't it? l'eau d'un",
            "f(\"a\", 'b', `c`); y(\" \")",
            "f\"abc\" rb\"abc\" u8\"abc\" \"\" ''",
            "<a b=\"c\" d='e'><f g=\"h\">",
            "\"\"\"doc\"\"\"",
            "\"to\" if x else \"ken\"",
        ] {
            assert_eq!(plain(text), None, "{text}");
        }
    }
}
