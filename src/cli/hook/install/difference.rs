//! The difference of two texts in the unified form of diff and git.

use std::fmt::Write as _;
use std::ops::Range;

use layersift_report::terminal::safe;

/// Lines around a change.
const CONTEXT: usize = 3;

/// The difference between `before` and `after`, texts of the file `name`; `None` stands for no file. The changes are
/// shown as one block: what is edited here lies close together.
pub(super) fn unified(name: &str, before: Option<&str>, after: &str) -> String {
    let old: Vec<&str> = before.unwrap_or_default().lines().collect();
    let new: Vec<&str> = after.lines().collect();
    let common = |a: &mut dyn Iterator<Item = (&&str, &&str)>| a.take_while(|(old, new)| old == new).count();
    let head = common(&mut old.iter().zip(&new));
    let most = old.len().min(new.len()) - head;
    let tail = common(&mut old.iter().rev().zip(new.iter().rev())).min(most);
    let mut out = String::new();
    let from = if before.is_some() { name } else { "/dev/null" };
    let around = |lines: &[&str]| head.saturating_sub(CONTEXT)..(lines.len() - tail + CONTEXT).min(lines.len());
    // Writing to a String cannot fail.
    let _ = writeln!(out, "--- {}\n+++ {}", safe(from), safe(name));
    let _ = writeln!(out, "@@ -{} +{} @@", numbers(&around(&old)), numbers(&around(&new)));
    let mut push = |mark: char, lines: &[&str]| lines.iter().for_each(|line| line_of(&mut out, mark, line));
    push(' ', &new[head.saturating_sub(CONTEXT)..head]);
    push('-', &old[head..old.len() - tail]);
    push('+', &new[head..new.len() - tail]);
    push(' ', &new[new.len() - tail..around(&new).end]);
    out
}

fn line_of(out: &mut String, mark: char, line: &str) {
    let _ = writeln!(out, "{mark}{}", line.split('\t').map(safe).collect::<Vec<_>>().join("\t"));
}

fn numbers(range: &Range<usize>) -> String {
    let first = if range.is_empty() { range.start } else { range.start + 1 };
    format!("{first},{}", range.len())
}

#[cfg(test)]
mod tests {
    use super::unified;

    #[test]
    fn changed_lines_are_shown_with_those_around_them() {
        let difference = unified("f", Some("1\n2\n3\n4\n5\n6\n7\n8\n9\n"), "1\n2\n3\n4\nx\ny\n6\n7\n8\n9\n");
        assert_eq!(difference, "--- f\n+++ f\n@@ -2,7 +2,8 @@\n 2\n 3\n 4\n-5\n+x\n+y\n 6\n 7\n 8\n");
    }

    #[test]
    fn a_new_file_has_only_new_lines() {
        assert_eq!(unified("f", None, "a\nb\n"), "--- /dev/null\n+++ f\n@@ -0,0 +1,2 @@\n+a\n+b\n");
        assert_eq!(unified("f", Some("a\n"), "a\na\n"), "--- f\n+++ f\n@@ -1,1 +1,2 @@\n a\n+a\n");
    }

    #[test]
    fn control_characters_are_not_printed() {
        assert!(!unified("f\u{1b}[2J", Some("a\u{1b}[2J\n"), "b\n").contains('\u{1b}'));
    }
}
