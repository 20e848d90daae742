//! Names from outside in messages and places.

use std::borrow::Cow;

/// `text`, or its length in parentheses if it has more than `most` characters. It is never cut: a part of a secret
/// would not be recognised and masked.
pub fn quoted(text: &str, most: usize) -> Cow<'_, str> {
    match text.chars().nth(most) {
        Some(_) => format!("({} characters)", text.chars().count()).into(),
        None => text.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_quoted_whole_or_not_at_all() {
        assert_eq!(quoted("n\u{e9}w\n", 4), "n\u{e9}w\n");
        assert_eq!(quoted("n\u{e9}w\n!", 4), "(5 characters)");
    }
}
