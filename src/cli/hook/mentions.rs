//! Files that a prompt mentions as `@path`: assistants send them along, and no tool is called for that.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Most mentions that are looked up.
pub(super) const MOST: usize = 200;

/// The longest path that is looked up, in bytes.
const LONGEST: usize = 4096;

/// The paths that `prompt` mentions, each with the ways to read it, the longest first: `@notes.md#L3-9,` may be the
/// file `notes.md#L3-9,`, `notes.md#L3-9` or `notes.md`.
pub(super) fn mentions(prompt: &str) -> Vec<Vec<String>> {
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    let mut before = None;
    for (at, c) in prompt.char_indices() {
        let begins = c == '@' && before.is_none_or(|before: char| !before.is_alphanumeric() && before != '@');
        before = Some(c);
        if !begins {
            continue;
        }
        let token = token(&prompt[at + 1..]);
        if !token.is_empty() && token.len() <= LONGEST && seen.insert(token) {
            found.push(readings(token));
        }
    }
    found
}

/// The text of a mention: what stands in quotes, or all up to the next space.
fn token(rest: &str) -> &str {
    for quote in ['"', '\'', '`', '<'] {
        if let Some(quoted) = rest.strip_prefix(quote) {
            let end = if quote == '<' { '>' } else { quote };
            return quoted.split(['\n', end]).next().unwrap_or_default();
        }
    }
    let mut end = 0;
    let mut is_escaped = false;
    for (at, c) in rest.char_indices() {
        if c.is_whitespace() && !is_escaped {
            break;
        }
        is_escaped = c == '\\' && !is_escaped;
        end = at + c.len_utf8();
    }
    &rest[..end]
}

/// The paths that `token` may be, without repetitions.
fn readings(token: &str) -> Vec<String> {
    let mut readings = vec![token.to_string()];
    let mut add = |reading: &str| {
        if !reading.is_empty() && !readings.iter().any(|known| known == reading) {
            readings.push(reading.into());
        }
    };
    let trimmed = token.trim_end_matches(['.', ',', ';', ':', '!', '?', ')', ']', '}', '>', '"', '\'', '`', '*']);
    add(trimmed);
    add(&trimmed.replace('\\', ""));
    // A range of lines, or a part of a document.
    for mark in ['#', ':'] {
        if let Some((path, _)) = trimmed.split_once(mark) {
            add(path);
        }
    }
    add(trimmed.strip_prefix("file://").unwrap_or(trimmed));
    readings
}

/// Where `path` is, relative to `directory`, or to the home directory if it begins with `~`.
pub(super) fn resolve(path: &str, directory: &Path, home: Option<&Path>) -> PathBuf {
    match (path.strip_prefix("~/"), home) {
        (Some(rest), Some(home)) => home.join(rest),
        _ => directory.join(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(prompt: &str) -> Vec<String> {
        mentions(prompt).into_iter().next().unwrap_or_default()
    }

    #[test]
    fn mentions_are_words_after_an_at_sign() {
        assert_eq!(first("look at @src/a.rs please"), ["src/a.rs"]);
        assert_eq!(first("@.env"), [".env"]);
        assert_eq!(first("(see @notes.md#L3-9),"), ["notes.md#L3-9),", "notes.md#L3-9", "notes.md"]);
        assert_eq!(first("@\"my file.txt\" is"), ["my file.txt"]);
        assert_eq!(first("@my\\ file.txt is"), ["my\\ file.txt", "my file.txt"]);
        assert_eq!(first("@a.ts:12:4"), ["a.ts:12:4", "a.ts"]);
        assert_eq!(mentions("@a @a @b").len(), 2);
        for none in ["me@example.org", "a @ b", "@@", "no"] {
            assert!(mentions(none).iter().flatten().all(|path| path != "example.org" && !path.is_empty()), "{none}");
        }
        assert!(mentions("me@example.org").is_empty());
    }

    #[test]
    fn paths_are_relative_to_the_directory_of_the_session() {
        let (directory, home) = (Path::new("/w"), Some(Path::new("/h")));
        assert_eq!(resolve("a/b", directory, home), Path::new("/w/a/b"));
        assert_eq!(resolve("~/b", directory, home), Path::new("/h/b"));
        assert_eq!(resolve("/b", directory, home), Path::new("/b"));
    }
}
