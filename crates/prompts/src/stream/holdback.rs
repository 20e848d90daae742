//! How much of a growing text may be passed on: all but the tail that may be the beginning of a secret.
//!
//! A secret is mostly one run of characters without white space, so the last such run waits until it has ended. Some
//! secrets take several: private keys in PEM, bytes written as lists, base64 and hexadecimal digits in lines, what is
//! quoted, and literals that may be joined. Prose passes word by word.

use crate::plain::open_run;

/// The most bytes of a quoted text that wait for the end of the quotation.
const MOST_QUOTED: usize = 256;

/// The least length of a line of base64 that may go on in the next line.
const LONG_LINE: usize = 40;

/// What follows a list whose strings are joined.
const LIST_WORDS: [&[u8]; 2] = [b"join", b"concat"];

const PEM_BEGIN: &str = "-----BEGIN";
const PEM_END: &str = "-----END";
const PEM_DASHES: &str = "-----";

/// The bytes of `text` that may be passed on.
pub(crate) fn safe_end(text: &str) -> usize {
    let mut end = open_pem(text).unwrap_or(text.len());
    end = end.min(last_run(text.get(..end).unwrap_or_default()));
    end = end.min(open_quote(text, end));
    end = open_joint(text, end);
    end.min(open_run(text.as_bytes()).unwrap_or(end))
}

/// Where a private key begins that has not ended.
fn open_pem(text: &str) -> Option<usize> {
    let start = text.rfind(PEM_BEGIN)?;
    let rest = text.get(start..)?;
    let is_closed = rest.find(PEM_END).and_then(|end| rest.get(end + PEM_END.len()..)).is_some_and(|after| {
        // The dashes at the end have to be followed by something.
        after.find(PEM_DASHES).is_some_and(|dashes| after.len() > dashes + PEM_DASHES.len())
    });
    (!is_closed).then_some(start)
}

/// Where the last run of characters begins that may go on, with the runs before it that belong to it.
fn last_run(text: &str) -> usize {
    let mut end = text.trim_end().len();
    if end == text.len() {
        // The last run may go on.
        end = start_of_run(text);
    }
    loop {
        let before = text.get(..end).unwrap_or_default().trim_end();
        let start = start_of_run(before);
        let run = before.get(start..).unwrap_or_default();
        let Some(from) = goes_on(run) else {
            // White space before what waits is passed on with the words before it.
            return if before.len() == text.trim_end().len() { text.len() } else { end };
        };
        end = start + from;
        if from > 0 {
            return end;
        }
    }
}

fn start_of_run(text: &str) -> usize {
    text.rfind(char::is_whitespace)
        .map_or(0, |space| space + text.get(space..).and_then(|rest| rest.chars().next()).map_or(1, char::len_utf8))
}

/// Where a run becomes a part of something that may go on after white space: numbers in a list, digits, a full line of
/// base64, or a line that is broken.
fn goes_on(run: &str) -> Option<usize> {
    // The line goes on in the next.
    if run.ends_with(['=', '\\']) && run.len() > 1 {
        return Some(0);
    }
    let is_list = |byte: u8| byte.is_ascii_hexdigit() || b"xX,;:{}()[]\\\"'+-_|".contains(&byte);
    let is_base64 = |byte: u8| byte.is_ascii_alphanumeric() || b"+/=-_\"',\\".contains(&byte);
    if run.is_empty() {
        return None;
    }
    if run.bytes().all(is_list) || (run.len() >= LONG_LINE && run.bytes().all(is_base64)) {
        return Some(0);
    }
    // A list that the name of its type or of a function opens.
    let open = run.rfind(['[', '{', '(']).map(|open| open + 1);
    open.filter(|open| {
        let numbers = run.get(*open..).unwrap_or_default();
        numbers.contains(|c: char| c.is_ascii_digit()) && numbers.bytes().all(is_list)
    })
}

/// Where a quotation begins that has not ended, if that is in the last line before `end` and not far away.
fn open_quote(text: &str, end: usize) -> usize {
    let line = text.get(..end).unwrap_or_default();
    let line_start = line.rfind('\n').map_or(0, |newline| newline + 1);
    let mut open: Option<(u8, usize)> = None;
    let bytes = text.as_bytes();
    let mut before = b' ';
    for (at, byte) in bytes.iter().copied().enumerate().take(end).skip(line_start) {
        match open {
            Some((quote, _)) if byte == quote && before != b'\\' => open = None,
            // An apostrophe is none.
            None if matches!(byte, b'"' | b'`') || (byte == b'\'' && b" =:(,[{".contains(&before)) => {
                open = Some((byte, at));
            }
            _ => {}
        }
        before = byte;
    }
    match open {
        Some((_, at)) if text.len() - at <= MOST_QUOTED => at,
        _ => end,
    }
}

/// Where the first literal begins of those that end right before `end` and may be joined with what follows.
fn open_joint(text: &str, mut end: usize) -> usize {
    let is_quote = |byte: u8| matches!(byte, b'"' | b'\'' | b'`');
    let is_joiner = |byte: &u8| byte.is_ascii_whitespace() || b"+.&|~^<>,()]\\_rfbu@$".contains(byte);
    let bytes = text.as_bytes();
    let next = bytes.get(end..).unwrap_or_default().trim_ascii_start();
    let next = next.iter().position(|byte| !is_joiner(byte)).and_then(|at| next.get(at..)).unwrap_or_default();
    let is_word = |word: &&[u8]| next.starts_with(word) || word.starts_with(next);
    if !next.first().is_none_or(|byte| is_quote(*byte)) && !LIST_WORDS.iter().any(is_word) {
        return end;
    }
    loop {
        let before = bytes.get(..end).unwrap_or_default();
        let close = before.len() - before.iter().rev().take_while(|byte| is_joiner(byte)).count();
        let Some((quote, inside)) = before.get(..close).and_then(<[u8]>::split_last) else { return end };
        let near = inside.len().saturating_sub(MOST_QUOTED);
        let open = inside.get(near..).and_then(|inside| memchr::memrchr(*quote, inside));
        match open {
            Some(open) if is_quote(*quote) => end = near + open,
            _ => return end,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What waits of a text.
    fn waiting(text: &str) -> &str {
        &text[safe_end(text)..]
    }

    #[test]
    fn prose_passes_word_by_word() {
        assert_eq!(waiting("Here is the ans"), "ans");
        assert_eq!(waiting("Here is the answer. "), "");
        assert_eq!(waiting("It's what we don't know, "), "");
        assert_eq!(waiting("straße für öl"), "öl");
        assert_eq!(waiting(""), "");
    }

    #[test]
    fn what_may_go_on_waits() {
        assert_eq!(waiting("the key is ghp_abc"), "ghp_abc");
        assert_eq!(waiting("key = {0x12, 0x34, "), "= {0x12, 0x34, ".trim_start_matches("= "));
        assert_eq!(waiting("dump:\n6768 705f\n"), "6768 705f\n");
        assert_eq!(waiting("key := []byte{0x12, 0x34, "), "0x12, 0x34, ");
        assert_eq!(waiting("Uint8Array([18, "), "18, ");
        assert_eq!(waiting("call(name, "), "");
        let line = "QUJD".repeat(16);
        assert_eq!(waiting(&format!("data\n{line}\n{line}\n")), format!("{line}\n{line}\n"));
        assert_eq!(waiting(&format!("data\n{line}\n{line}\nQUI=\nso ")), "");
        assert_eq!(waiting("the token=\n"), "token=\n");
        assert_eq!(waiting("the token\\\n"), "token\\\n");
        assert_eq!(waiting("password: \"two words "), "\"two words ");
        assert_eq!(waiting("password: \"two words\" so "), "");
        let pem = "-----BEGIN PRIVATE KEY-----\nMIIB some thing\n";
        assert_eq!(waiting(&format!("Use this:\n{pem}")), pem);
        assert_eq!(waiting(&format!("Use this:\n{pem}-----END PRIVATE KEY-----\n")), "");
    }

    #[test]
    fn literals_that_may_be_joined_wait() {
        assert_eq!(waiting("key = \"glp\" "), "\"glp\" ");
        assert_eq!(waiting("key = \"glp\" + "), "\"glp\" + ");
        assert_eq!(waiting("key = \"a b\" +\n  'c' + \"at-"), "\"a b\" +\n  'c' + \"at-");
        assert_eq!(waiting("keys = [\"glp\", \"at-\", "), "[\"glp\", \"at-\", ".trim_start_matches('['));
        assert_eq!(waiting("she said \"no\" and "), "");
        assert_eq!(waiting("{\"name\": \"b c\", \"size\": "), "");
    }

    #[test]
    fn a_long_quotation_does_not_wait_for_its_end() {
        let text = format!("{{\"content\":\"{}", "some words ".repeat(50));
        assert_eq!(waiting(&text), "");
    }
}
