//! Files that are texts: what a text gets, they get. In JSON and JSON Lines, strings are decoded as those of a body.

use std::borrow::Cow;
use std::mem;

use crate::batch::{lines, list, may_be_request, parse_line, read_values};
use crate::conversation::{Content, Conversation, UnseenReason};
use crate::json::{self, BYTE_ORDER_MARK, Node, Unreadable};
use crate::packed::zlib;

/// About the bytes of lines that are read at a time.
const AT_A_TIME: usize = 128 << 10;

/// The most values that are read at a time, by their commas: each takes far more memory than a number takes bytes.
const MOST_VALUES: usize = 1 << 20;

/// One of so many bytes of a text may be a control character.
const FEW: usize = 64;

/// How deep files in strings of files that are JSON are read as JSON themselves.
const MOST_DEEP: usize = 3;

/// What is in a file and shows only once it is decoded.
#[derive(Clone, Copy, Debug)]
pub enum Inside<'a> {
    /// The file itself, which is a text and no document: it may have disguises and files in it.
    Itself(&'a str),
    /// A text of a document.
    Text(&'a str),
    /// A file in a document, or the file without its compression.
    File(&'a [u8]),
    /// What cannot be read of a request in it.
    Unseen(UnseenReason),
}

/// Gives `take` what is in a file, and what is in the files in it. Archives are left to the analyzer.
pub fn each_inside(bytes: &[u8], take: &mut dyn FnMut(Inside<'_>)) {
    each_inside_of(bytes, MOST_DEEP, take);
}

fn each_inside_of(bytes: &[u8], deep: usize, take: &mut dyn FnMut(Inside<'_>)) {
    if deep == 0 {
        return;
    }
    let Some(text) = text_of(bytes) else {
        if let Some(inflated) = zlib(bytes) {
            take(Inside::File(&inflated));
            each_inside_of(&inflated, deep - 1, take);
        }
        return;
    };
    let is_read = each_value(&text, &mut |values| match values {
        Values::Unseen(why) => take(Inside::Unseen(why)),
        Values::Read(conversation) => {
            for part in conversation.parts.iter().chain(&conversation.pieces) {
                match &part.content {
                    Content::Text { text, .. } => take(Inside::Text(text)),
                    Content::Data { bytes, .. } => {
                        take(Inside::File(bytes));
                        each_inside_of(bytes, deep - 1, take);
                    }
                }
            }
            conversation.unseen.iter().for_each(|unseen| take(Inside::Unseen(unseen.why)));
        }
    });
    if !is_read {
        take(Inside::Itself(&text));
    }
}

/// What is in a file that is a text.
enum Values<'a> {
    /// Values with their strings decoded.
    Read(Conversation<'a>),
    /// Something in a request that cannot be read.
    Unseen(UnseenReason),
}

/// The text of a file; `None` if it is none. Texts in other character sets than those of Unicode have their ASCII.
fn text_of(bytes: &[u8]) -> Option<Cow<'_, str>> {
    match bytes {
        [0xff, 0xfe, rest @ ..] => return Some(utf16(rest, u16::from_le_bytes)),
        [0xfe, 0xff, rest @ ..] => return Some(utf16(rest, u16::from_be_bytes)),
        _ => {}
    }
    let bytes = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes);
    if let Ok(text) = std::str::from_utf8(bytes) {
        return Some(text.into());
    }
    let is_control = |byte: &&u8| **byte < b' ' && !matches!(**byte, b'\t' | b'\n' | 0x0b | 0x0c | b'\r' | 0x1b);
    let is_text = bytes.iter().filter(is_control).count() <= bytes.len() / FEW;
    is_text.then(|| String::from_utf8_lossy(bytes))
}

fn utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> Cow<'_, str> {
    let units = bytes.chunks_exact(2).map(|pair| unit([pair[0], pair[1]]));
    char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect::<String>().into()
}

/// Reads the values of JSON or JSON Lines. Returns whether all of the text was read.
fn each_value(text: &str, take: &mut dyn FnMut(Values<'_>)) -> bool {
    if !json::is_opening(text) {
        return false;
    }
    if is_small(text)
        && let Ok(document) = json::parse(text.as_bytes())
    {
        let values = if document.items().is_empty() { std::slice::from_ref(&document) } else { document.items() };
        take(Values::Read(read_values(text, &document, values)));
        return true;
    }
    let mut is_all = true;
    let (mut values, mut bytes) = (Vec::new(), 0);
    for (start, line) in lines(text) {
        match (json::is_opening(line) && is_small(line)).then(|| parse_line(line, start)) {
            Some(Ok(value)) => {
                values.push(value);
                bytes += line.len();
            }
            Some(Err(Unreadable::Surrogate(_))) => is_all &= mended(line, take),
            _ => {
                is_all = false;
                tell_unread(line, take);
            }
        }
        if bytes > AT_A_TIME {
            take_list(text, mem::take(&mut values), take);
            bytes = 0;
        }
    }
    take_list(text, values, take);
    is_all
}

fn is_small(text: &str) -> bool {
    memchr::memchr_iter(b',', text.as_bytes()).count() <= MOST_VALUES
}

fn take_list(text: &str, values: Vec<Node<'_>>, take: &mut dyn FnMut(Values<'_>)) {
    if !values.is_empty() {
        let document = list(values);
        take(Values::Read(read_values(text, &document, document.items())));
    }
}

fn tell_unread(line: &str, take: &mut dyn FnMut(Values<'_>)) {
    if may_be_request(line) {
        take(Values::Unseen(UnseenReason::DamagedRequest));
    }
}

/// Reads a line with half a surrogate pair, as sets of data have them where a text was cut, without surrogates.
fn mended(line: &str, take: &mut dyn FnMut(Values<'_>)) -> bool {
    let mut mended = line.to_string();
    for at in line.match_indices("\\u").map(|(at, _)| at) {
        let is_surrogate = line.get(at + 2..at + 4).is_some_and(|digits| {
            let [first, second] = digits.as_bytes() else { return false };
            matches!(first, b'd' | b'D') && matches!(second, b'8' | b'9' | b'a'..=b'f' | b'A'..=b'F')
        });
        if is_surrogate && line.is_char_boundary(at + 6) {
            mended.replace_range(at..at + 6, "\\ufffd");
        }
    }
    match parse_line(&mended, 0) {
        Ok(value) => {
            take_list(&mended, vec![value], take);
            true
        }
        Err(_) => {
            tell_unread(line, take);
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Vec<String>, Vec<UnseenReason>, bool) {
        let (mut texts, mut unseen) = (Vec::new(), Vec::new());
        let is_all = each_value(text, &mut |values| match values {
            Values::Read(conversation) => {
                texts.extend(conversation.parts.iter().filter_map(|part| part.text().map(String::from)));
                unseen.extend(conversation.unseen.iter().map(|unseen| unseen.why));
            }
            Values::Unseen(why) => unseen.push(why),
        });
        (texts, unseen, is_all)
    }

    #[test]
    fn lines_are_read_and_what_is_none_is_told() {
        let tokens = |id: &str| format!("{{{id}\"body\": {{\"model\": \"m\", \"prompt\": [1, 2]}}}}\n");
        let (texts, unseen, is_all) = read("{\"a\": \"x\\ny\"}\n\n[\"b\"]\r\n");
        assert!(is_all && unseen.is_empty());
        assert_eq!(texts, ["\"a\": \nx\ny\n\"b\"\n"]);
        assert_eq!(read(&format!("{{}}\n{}", tokens("\"custom_id\": \"1\", "))).1, [UnseenReason::Tokens]);
        // A set of data may have lists of numbers.
        assert!(read(&format!("{{}}\n{}", tokens(""))).1.is_empty());
        let twice = "{\"custom_id\": 1, \"body\": {}, \"body\": {}}\n";
        assert_eq!(read(&format!("{{}}\n{twice}")).1, [UnseenReason::DamagedRequest]);
        assert_eq!(read("{\"a\": \"\\ud800\u{e9}\"}\n{\"b\": 1}\n").0, ["\"a\": \"\u{fffd}\u{e9}\"\n", "\"b\": 1\n"]);
        for text in ["{\n // a comment\n \"a\": 1}", "text", ""] {
            assert_eq!((read(text).1, read(text).2), (Vec::new(), false), "{text}");
        }
    }

    #[test]
    fn texts_are_told_from_other_files() {
        assert_eq!(text_of(b"\xef\xbb\xbfa").as_deref(), Some("a"));
        assert_eq!(text_of(b"\xff\xfea\0b\0").as_deref(), Some("ab"));
        assert_eq!(text_of(b"\xfe\xff\0a").as_deref(), Some("a"));
        assert_eq!(text_of(b"caf\xe9").as_deref(), Some("caf\u{fffd}"));
        assert!(text_of(&(0..=255).collect::<Vec<u8>>()).is_none());
    }
}
