//! Secrets in the names of files. A runtime creates such names, and the path of the finding is then a place where the
//! secret stands.
//!
//! Stored reports have no secrets, only their masked forms. Where a path has a text of the secret's length with the
//! beginning and the end that the masked form shows, that text is taken for the secret.

use layersift_model::{Finding, ReportedSecret};
use std::borrow::Cow;
use std::collections::HashMap;

/// What a masked form has in place of what it does not show.
const HIDDEN: &str = "****";

/// Bytes at the beginning and at the end that a masked form must show. Shorter ones would be found anywhere.
const SHOWN: (usize, usize) = (4, 2);

/// The names with secrets in a report.
#[derive(Default)]
pub(super) struct Names {
    /// Paths and archive members as they may be shown.
    whole: HashMap<String, String>,
    /// The same for each name in them: that of a directory is in the paths of all its files.
    parts: HashMap<String, String>,
}

impl Names {
    pub(super) fn of(findings: &[Finding]) -> Names {
        let mut names = Names::default();
        for finding in findings {
            let (Some(file), Some(secret)) = (finding.file(), &finding.secret) else { continue };
            for text in std::iter::once(&file.path).chain(&file.inside) {
                names.add(text, secret);
            }
        }
        names
    }

    fn add(&mut self, path: &str, secret: &ReportedSecret) {
        let before = self.masked(path).into_owned();
        let Some(masked) = without(&before, secret) else { return };
        self.whole.insert(path.into(), masked);
        for part in path.split('/') {
            let before = self.parts.get(part).map_or(part, String::as_str);
            if let Some(masked) = without(before, secret) {
                self.parts.insert(part.into(), masked);
            }
        }
    }

    /// `text` without the secrets in it.
    pub(super) fn masked<'t>(&self, text: &'t str) -> Cow<'t, str> {
        if let Some(masked) = self.whole.get(text) {
            return Cow::Owned(masked.clone());
        }
        if self.parts.is_empty() {
            return Cow::Borrowed(text);
        }
        let parts: Vec<&str> = text.split('/').map(|part| self.parts.get(part).map_or(part, String::as_str)).collect();
        Cow::Owned(parts.join("/"))
    }
}

/// `text` with the masked form of `secret` in its place; `None` if it is not in it.
fn without(text: &str, secret: &ReportedSecret) -> Option<String> {
    let (head, tail) = secret.masked.split_once(HIDDEN)?;
    if (head.len(), tail.len()) != SHOWN || secret.length < head.len() + tail.len() {
        return None;
    }
    let mut masked = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(head) {
        let is_secret = rest.get(at..at + secret.length).is_some_and(|found| found.ends_with(tail));
        let (shown, end) = if is_secret { (&secret.masked[..], at + secret.length) } else { (head, at + head.len()) };
        masked.push_str(&rest[..at]);
        masked.push_str(shown);
        rest = &rest[end..];
    }
    masked.push_str(rest);
    (masked != text).then_some(masked)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::harbor::report::tests::{file, finding, secret};

    #[test]
    fn a_secret_in_a_name_is_masked_in_all_paths() {
        let token = "npm_0123456789abcdefghijklmnopqrstuvwxyz";
        let named = format!("app/x{token}/a");
        let finding = finding("npm.access-token", file(&named), Some(secret(token)));
        let names = Names::of(std::slice::from_ref(&finding));
        assert_eq!(names.masked(&named), "app/xnpm_****yz/a");
        assert_eq!(
            names.masked(&format!("app/x{token}/b/c \u{25b8} d/x{token}")),
            "app/xnpm_****yz/b/c \u{25b8} d/xnpm_****yz"
        );
        assert_eq!(names.masked("app/npm_/a"), "app/npm_/a");
    }

    #[test]
    fn short_secrets_and_labels_mask_nothing() {
        for token in ["c12345678", "key"] {
            let path = format!("app/{token}");
            let finding = finding("a.b", file(&path), Some(secret(token)));
            assert_eq!(Names::of(&[finding]).masked(&path), path);
        }
        let token = "ghp_0123456789abcdefghijklmnopqrst";
        let cut = &token[..20];
        let one = finding("a.b", file(cut), Some(secret(token)));
        assert_eq!(Names::of(&[one]).masked(cut), cut, "only the beginning");
    }
}
