//! Placeholders: values that stand in for a secret, values that documentation prints, and the masks of redacted copies.

use std::ops::Range;

use layersift_model::mask;

/// Words that make a value a placeholder wherever they occur in it, in lower case.
const WORDS: [&[u8]; 28] = [
    b"example",
    b"changeme",
    b"change_me",
    b"change-me",
    b"change_this",
    b"change-this",
    b"changethis",
    b"placeholder",
    b"redacted",
    b"dummy",
    b"your_",
    b"your-",
    b"<your",
    b"yourpassword",
    b"yoursecret",
    b"yourtoken",
    b"insert_",
    b"insert-",
    b"replace_",
    b"replace-",
    b"replaceme",
    b"set_me",
    b"set-me",
    b"xxxxx",
    b"*****",
    b".....",
    b"todo:",
    b"not-a-real",
];

/// The most quotation marks and blanks before a mask in a value.
const MOST_QUOTES: usize = 4;

/// Whole values that documentation prints, in lower case.
const VALUES: [&[u8]; 14] = [
    b"password",
    b"passwd",
    b"secret",
    b"token",
    b"user",
    b"username",
    b"pass",
    b"none",
    b"null",
    b"undefined",
    b"true",
    b"false",
    b"foobar",
    b"string",
];

/// Whether `value` is a placeholder and not a secret.
pub fn is_placeholder(value: &[u8]) -> bool {
    let lower = value.to_ascii_lowercase();
    VALUES.contains(&&lower[..]) || has_placeholder_word(&lower) || is_variable(&lower) || is_repetitive(&lower)
}

/// Whether `span` of `bytes` begins with a mask or lies in one: something stands in the place of a secret.
pub(crate) fn is_masked(bytes: &[u8], span: &Range<usize>) -> bool {
    let opening = mask::OPENING.as_bytes();
    let value = bytes.get(span.start..).unwrap_or_default();
    let quotes = value.iter().take(MOST_QUOTES).take_while(|byte| b"\"'\\` ".contains(byte)).count();
    if value.get(quotes..).and_then(mask::length).is_some() {
        return true;
    }
    let first = span.start.saturating_sub(mask::LONGEST);
    let last = bytes.len().min(span.start + opening.len() - 1);
    let near = bytes.get(first..last).unwrap_or_default();
    let around = memchr::memmem::rfind(near, opening).and_then(|at| bytes.get(first + at..));
    around.is_some_and(|mask| mask::length(mask).is_some_and(|length| mask.len() - value.len() < length))
}

/// Whether `lower`, a value in lower case, contains a word that only placeholders contain.
pub(crate) fn has_placeholder_word(lower: &[u8]) -> bool {
    WORDS.iter().any(|word| memchr::memmem::find(lower, word).is_some())
}

/// Whether `value` is a variable or a template that another program fills in: `${X}`, `$(x)`, `{{x}}`, `<x>`, `%x%`,
/// `[x]`, `$X`.
fn is_variable(value: &[u8]) -> bool {
    let surrounded = |open: &[u8], close: &[u8]| value.starts_with(open) && value.ends_with(close);
    memchr::memmem::find(value, b"${").is_some()
        || memchr::memmem::find(value, b"{{").is_some()
        || memchr::memmem::find(value, b"$(").is_some()
        || surrounded(b"<", b">")
        || surrounded(b"%", b"%")
        || surrounded(b"[", b"]")
        || value.strip_prefix(b"$").is_some_and(|name| name.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'_'))
}

/// Whether `value` repeats one or two characters, or counts up through letters or digits.
fn is_repetitive(value: &[u8]) -> bool {
    if value.len() < 8 {
        return false;
    }
    let distinct = value.iter().fold([false; 256], |mut seen, &byte| {
        seen[usize::from(byte)] = true;
        seen
    });
    if distinct.iter().filter(|seen| **seen).count() <= 2 {
        return true;
    }
    let steps = value.windows(2).filter(|pair| pair[1] == pair[0].wrapping_add(1)).count();
    steps * 4 >= value.len() * 3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_and_secrets() {
        for value in [
            "AKIAIOSFODNN7EXAMPLE",
            "changeme",
            "${DB_PASSWORD}",
            "{{ token }}",
            "<token>",
            "xxxxxxxxxxxx",
            "$TOKEN",
            "00000000",
            "0123456789",
            "your-api-key",
            "ghp_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
            "password",
            "CHANGE_THIS_KEY",
            "set-me-please",
        ] {
            assert!(is_placeholder(value.as_bytes()), "{value}");
        }
        for value in ["hunter2", "Tr0ub4dor&3", "9f86d081884c7d65", "pa$$word-4711", "sk_live_4eC39HqLyjWDarjtT1zdp7dc"]
        {
            assert!(!is_placeholder(value.as_bytes()), "{value}");
        }
    }

    #[test]
    fn masks_hide_what_begins_with_them_and_what_is_in_them() {
        let is_masked = |text: &str, value: &str| {
            let start = text.find(value).unwrap();
            is_masked(text.as_bytes(), &(start..start + value.len()))
        };
        for (text, value) in [
            ("curl -u bob:[MASKED some.rule] https://x", "[MASKED"),
            ("password=[MASKED some.rule]", "MASKED some"),
            ("password=[MASKED some.rule]", "some.rule"),
            ("password=\"[MASKED some.rule]\"", "\"[MASKED some.rule]\""),
            ("[MASKED some.rule]", "[MASKED some.rule]"),
        ] {
            assert!(is_masked(text, value), "{text}: {value}");
        }
        for (text, value) in [
            ("[MASKED some.rule] password=k3Vq", "k3Vq"),
            ("password=[MASKED", "[MASKED"),
            ("password=[MASKED K3Vq]", "[MASKED"),
            ("[MASKED some.rule]k3Vq", "k3Vq"),
            ("k3Vq[MASKED some.rule]", "k3Vq"),
        ] {
            assert!(!is_masked(text, value), "{text}: {value}");
        }
    }
}
