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

/// The most names that a message lists.
const MOST_LISTED: usize = 20;

/// The most characters of each.
const MOST_CHARACTERS: usize = 300;

/// `names` for a message, separated by commas: the first of them, each [`quoted`], and how many others there are;
/// `none` if there are none.
pub fn list_names<N: AsRef<str>>(names: impl IntoIterator<Item = N>, none: &str) -> String {
    let mut names = names.into_iter();
    let mut shown: Vec<String> =
        names.by_ref().take(MOST_LISTED).map(|name| quoted(name.as_ref(), MOST_CHARACTERS).into_owned()).collect();
    let others = names.count();
    if others > 0 {
        shown.push(format!("and {others} more"));
    }
    if shown.is_empty() { none.into() } else { shown.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_quoted_whole_or_not_at_all() {
        assert_eq!(quoted("n\u{e9}w\n", 4), "n\u{e9}w\n");
        assert_eq!(quoted("n\u{e9}w\n!", 4), "(5 characters)");
    }
    #[test]
    fn a_list_has_a_bound() {
        assert_eq!(list_names([""; 0], "no images"), "no images");
        assert_eq!(list_names(["a:1", "b:2"], ""), "a:1, b:2");
        let many = list_names((0..100_000).map(|number| format!("{number}{}", "x".repeat(400))), "");
        assert!(many.len() < 1_000 && many.ends_with("(402 characters), and 99980 more"), "{many}");
    }
}
