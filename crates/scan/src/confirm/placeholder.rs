//! Placeholders: values that stand in for a secret, and values that documentation prints.

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
}
