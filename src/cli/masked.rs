//! Arguments and messages as they may be shown: without the logins, passwords and PINs that may be in them, and without
//! the secrets of an image that a message quotes.

mod quoted;

use std::ops::Range;
use std::sync::OnceLock;

/// What hides a part.
const MASK: &str = "***";

/// What stands before a secret: parts of a URI of a key (RFC 7512), and words of a connection string.
const NAMES: [&str; 5] = ["pin-value=", "pin-source=", "password=", "passwd=", "pwd="];

/// The fewest bytes of a secret that is searched for in messages. A shorter one is hidden where it stands in a URL.
const SHORTEST: usize = 6;

/// The environment variables that may have a login, besides those of this program.
const VARIABLES: [&str; 4] = ["DOCKER_HOST", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"];

/// `argument` without the login of each URL and the PIN of each URI in it.
pub(crate) fn argument(argument: &str) -> String {
    replaced(argument, &hidden(argument))
}

/// A message, which may quote URLs, arguments and variables of this process as a whole or in part, and names from
/// images, registries and files.
pub(crate) fn message(text: &str) -> String {
    static SECRETS: OnceLock<Vec<String>> = OnceLock::new();
    let secrets = SECRETS.get_or_init(|| {
        let arguments = std::env::args_os().map(|argument| argument.to_string_lossy().into_owned());
        let (passwords, others): (Vec<_>, Vec<_>) = variables().partition(|(name, _)| is_secret(name));
        let texts = arguments.chain(others.into_iter().map(|(_, value)| value));
        secrets(texts, passwords.into_iter().map(|(_, value)| value))
    });
    quoted::masked(&without(text, secrets))
}

fn without(text: &str, secrets: &[String]) -> String {
    let text = secrets.iter().fold(text.to_string(), |text, secret| text.replace(secret, MASK));
    let logins = logins(&text, true);
    replaced(&text, &logins)
}

/// Whether the value of a variable is a secret as a whole.
fn is_secret(name: &str) -> bool {
    // The settings of the service have the names of files in such variables.
    !name.starts_with("LAYERSIFT_SERVE_") && ["PASSWORD", "TOKEN", "SECRET"].iter().any(|end| name.ends_with(end))
}

/// The names and values of the variables that may have a login.
fn variables() -> impl Iterator<Item = (String, String)> {
    let is_read = |name: &str| {
        name.starts_with("LAYERSIFT_") || VARIABLES.iter().any(|variable| name.eq_ignore_ascii_case(variable))
    };
    let lossy = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
    std::env::vars_os().map(move |(name, value)| (lossy(name), lossy(value))).filter(move |(name, _)| is_read(name))
}

/// What is hidden of the texts, and the passwords, the longest first: one may be a part of another.
fn secrets(texts: impl Iterator<Item = String>, passwords: impl Iterator<Item = String>) -> Vec<String> {
    let mut found: Vec<String> = passwords.collect();
    for text in texts {
        for range in hidden(&text) {
            let secret = &text[range];
            found.extend(secret.split_once(':').map(|(_, password)| password.to_string()));
            found.push(secret.to_string());
        }
    }
    found.retain(|secret| secret.len() >= SHORTEST);
    found.sort_unstable_by_key(|secret| std::cmp::Reverse(secret.len()));
    found
}

fn replaced(text: &str, ranges: &[Range<usize>]) -> String {
    let (mut out, mut at) = (String::new(), 0);
    for range in ranges.iter().filter(|range| !range.is_empty()) {
        if range.start >= at {
            out += &text[at..range.start];
            out += MASK;
        }
        at = at.max(range.end);
    }
    out + &text[at..]
}

/// Where something is to be hidden, in order.
fn hidden(text: &str) -> Vec<Range<usize>> {
    let mut found = logins(text, false);
    if !text.contains("//") {
        found.extend(bare_password(text));
    }
    found.extend(NAMES.iter().flat_map(|name| named(text, name)));
    found.sort_unstable_by_key(|range| range.start);
    found
}

/// The logins of URLs. In a message, which goes on after a URL, a number after the host is its port.
fn logins(text: &str, is_message: bool) -> Vec<Range<usize>> {
    let (mut found, mut start) = (Vec::new(), 0);
    while let Some(at) = text[start..].find("//") {
        start += at + 2;
        let after = &text[start..];
        // A login may have any character but these; a password with a slash in it is hidden up to the last @.
        let is_end = |c: char| c.is_whitespace() || is_message && matches!(c, '"' | '`');
        let end = after.find(is_end).unwrap_or(after.len());
        let (authority, _) = after.split_at(after.find(['/', '?', '#']).unwrap_or(end).min(end));
        let has_password = authority
            .split_once(':')
            .is_some_and(|(_, rest)| !is_message || rest.is_empty() || rest.bytes().any(|byte| !byte.is_ascii_digit()));
        let login = authority.rfind('@').or_else(|| after[..end].rfind('@').filter(|_| has_password));
        if let Some(at) = login.filter(|at| !is_digest(&after[at + 1..])) {
            found.push(start..start + at);
            start += at;
        }
    }
    found
}

/// The password of `user:password@host` and `scheme:/user:password@host`, which are addresses without `//`.
fn bare_password(text: &str) -> Option<Range<usize>> {
    let end = text.rfind('@').filter(|at| !is_digest(&text[at + 1..]))?;
    let user = text[..end].rfind('/').map_or(0, |at| at + 1);
    let mut colons = text[..end].match_indices(':').map(|(at, _)| at);
    // A password with a slash in it begins at the first colon that is not the scheme's.
    let is_password = |at: &usize| *at >= user || !text[at + 1..].starts_with('/');
    colons.find(is_password).map(|at| at + 1..end).filter(|range| !text[range.clone()].is_empty())
}

fn is_digest(text: &str) -> bool {
    text.starts_with("sha256:") || text.starts_with("sha512:")
}

/// What comes after `name`, in any case.
fn named(text: &str, name: &str) -> Vec<Range<usize>> {
    let lower = text.to_ascii_lowercase();
    let values = lower.match_indices(name).map(|(at, _)| {
        let start = at + name.len();
        let value = &text[start..];
        let end = match value.strip_prefix('\'') {
            Some(quoted) => quoted.find('\'').map_or(value.len(), |at| at + 2),
            None => value.find(['&', ';', ' ', '\t', '\n']).unwrap_or(value.len()),
        };
        start..start + end
    });
    values.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logins_and_pins_are_hidden() {
        for (text, expected) in [
            ("http://user:made-up@tsa.example/x", "http://***@tsa.example/x"),
            ("--timestamp=https://made-up@tsa.example", "--timestamp=https://***@tsa.example"),
            ("https://user:made/up@tsa.example", "https://***@tsa.example"),
            ("https://tsa.example/a@b", "https://tsa.example/a@b"),
            (
                "registry:https://u:p@one.example/x https://u:p@two.example",
                "registry:https://***@one.example/x https://***@two.example",
            ),
            ("pkcs11:token=a?module-path=/x.so&pin-value=98765", "pkcs11:token=a?module-path=/x.so&pin-value=***"),
            ("pkcs11:token=a?PIN-VALUE=98765&x=1", "pkcs11:token=a?PIN-VALUE=***&x=1"),
            ("oci:dir", "oci:dir"),
            ("user:made-up@host/x", "user:***@host/x"),
            ("postgres:/user:made-up@host", "postgres:/user:***@host"),
            ("postgres:/user:made/up@host", "postgres:/user:***@host"),
            ("host=h password=made-up user=u", "host=h password=*** user=u"),
            ("password='made up' user=u", "password=*** user=u"),
            ("rootfs:/mnt/a@b", "rootfs:/mnt/a@b"),
            ("docker://r.example/x:1@sha256:00", "docker://r.example/x:1@sha256:00"),
            ("docker:x:1@sha256:00", "docker:x:1@sha256:00"),
        ] {
            assert_eq!(argument(text), expected);
        }
    }

    #[test]
    fn messages_quote_no_password_whole_or_in_part() {
        let arguments = ["scan", "https://user:made-up-word@a.example/x", "--store=me:other-word@b.example"];
        let secrets = secrets(arguments.iter().map(ToString::to_string), ["pass-word".to_string()].into_iter());
        for (text, expected) in [
            ("https://user:made-up-word@a.example/x: no such file", "https://***@a.example/x: no such file"),
            ("http://127.0.0.1/pass-word", "http://127.0.0.1/***"),
            ("invalid tag `made-up-word@a.example/x`", "invalid tag `***@a.example/x`"),
            ("cannot open me:other-word@b.example", "cannot open me:***@b.example"),
            ("{\"url\":\"http://c:80/x\",\"by\":\"a@b\"}", "{\"url\":\"http://c:80/x\",\"by\":\"a@b\"}"),
            ("a.toml: `url`: https://x:y@c.example", "a.toml: `url`: https://***@c.example"),
        ] {
            assert_eq!(without(text, &secrets), expected);
        }
    }
}
