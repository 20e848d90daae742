//! Placeholders: values that stand where a secret will be, and values that documentation prints.

/// Words that make a value a placeholder wherever they stand in it, in lower case.
const WORDS: [&[u8]; 22] = [
    b"example",
    b"changeme",
    b"change_me",
    b"change-me",
    b"placeholder",
    b"redacted",
    b"dummy",
    b"your_",
    b"your-",
    b"yourpassword",
    b"yoursecret",
    b"yourtoken",
    b"insert_",
    b"replace_me",
    b"replaceme",
    b"replace-me",
    b"<your",
    b"xxxxx",
    b"*****",
    b".....",
    b"todo:",
    b"not-a-real",
];

/// Whole values that are defaults of documentation, in lower case.
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

/// Whether `value` stands for a secret and is none.
pub fn is_placeholder(value: &[u8]) -> bool {
    let lower = value.to_ascii_lowercase();
    VALUES.contains(&&lower[..])
        || WORDS.iter().any(|word| memchr::memmem::find(&lower, word).is_some())
        || is_variable(&lower)
        || is_repetitive(&lower)
}

/// `${X}`, `$(x)`, `{{x}}`, `<x>`, `%x%`, `$X`: filled in by something else.
fn is_variable(value: &[u8]) -> bool {
    let surrounded = |open: &[u8], close: &[u8]| value.starts_with(open) && value.ends_with(close);
    memchr::memmem::find(value, b"${").is_some()
        || memchr::memmem::find(value, b"{{").is_some()
        || memchr::memmem::find(value, b"$(").is_some()
        || surrounded(b"<", b">")
        || surrounded(b"%", b"%")
        || surrounded(b"[", b"]")
        || (value.starts_with(b"$") && value[1..].iter().all(|b| b.is_ascii_alphanumeric() || *b == b'_'))
}

/// One or two characters over and over, or a run along the alphabet or the digits.
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
        ] {
            assert!(is_placeholder(value.as_bytes()), "{value}");
        }
        for value in ["hunter2", "Tr0ub4dor&3", "9f86d081884c7d65", "pa$$word-4711", "sk_live_4eC39HqLyjWDarjtT1zdp7dc"]
        {
            assert!(!is_placeholder(value.as_bytes()), "{value}");
        }
    }
}
