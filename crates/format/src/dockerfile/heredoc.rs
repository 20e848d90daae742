//! Heredocs of `RUN`, `COPY` and `ADD`: text in a Dockerfile that follows the instruction, up to a line of its own.

use std::collections::HashMap;

/// The lines of a Dockerfile, and where each is: every end of a heredoc is looked up, whatever a file has.
pub(super) struct Lines<'t> {
    pub(super) all: Vec<&'t str>,
    exact: HashMap<&'t str, Vec<usize>>,
    without_tabs: HashMap<&'t str, Vec<usize>>,
}

impl<'t> Lines<'t> {
    pub(super) fn new(text: &'t str) -> Lines<'t> {
        let all: Vec<&str> = text.lines().collect();
        let (mut exact, mut without_tabs) = (HashMap::<&str, Vec<usize>>::new(), HashMap::<&str, Vec<usize>>::new());
        if text.contains("<<") {
            for (index, line) in all.iter().enumerate() {
                exact.entry(line).or_default().push(index);
                without_tabs.entry(line.trim_start_matches('\t')).or_default().push(index);
            }
        }
        Lines { all, exact, without_tabs }
    }

    /// The first line from `next` on that is `name`.
    fn find(&self, name: &str, has_tabs: bool, next: usize) -> Option<usize> {
        let places = if has_tabs { &self.without_tabs } else { &self.exact }.get(name)?;
        places.get(places.partition_point(|place| *place < next)).copied()
    }
}

/// A heredoc, as the instruction names it.
pub(super) struct Heredoc<'t> {
    name: &'t str,
    /// `<<-`: tabs at the beginning of lines are left out.
    has_tabs: bool,
}

/// The heredocs that `arguments` name, in order: words such as `<<EOF`, `<<-"EOF"` and `3<<EOF`.
pub(super) fn find(arguments: &str) -> Vec<Heredoc<'_>> {
    arguments.split_whitespace().filter_map(Heredoc::parse).collect()
}

impl<'t> Heredoc<'t> {
    fn parse(word: &'t str) -> Option<Heredoc<'t>> {
        let rest = word.trim_start_matches(|c: char| c.is_ascii_digit()).strip_prefix("<<")?;
        let (has_tabs, name) = rest.strip_prefix('-').map_or((false, rest), |name| (true, name));
        let name = ['"', '\''].iter().find_map(|quote| name.strip_prefix(*quote)?.strip_suffix(*quote)).unwrap_or(name);
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        (!name.is_empty() && name.chars().all(is_name)).then_some(Heredoc { name, has_tabs })
    }

    /// Its text, which begins at the line `next`, and the line after its end; `None` if nothing ends it.
    pub(super) fn read(&self, lines: &Lines<'_>, next: usize) -> Option<(String, usize)> {
        let end = lines.find(self.name, self.has_tabs, next)?;
        let body = lines.all.get(next..end)?.iter();
        let body: Vec<&str> =
            body.map(|line| if self.has_tabs { line.trim_start_matches('\t') } else { line }).collect();
        Some((body.join("\n"), end + 1))
    }
}
