//! Rules that judge files by their path: those for whole files, and signatures that hold only in certain places.

use globset::{Glob, GlobBuilder, GlobMatcher, GlobSet, GlobSetBuilder};
use regex::bytes::{Regex, RegexBuilder};

use super::ConfirmError;
use crate::rule::{FileRule, Signature};

/// The rules for files, prepared.
pub struct FileRules {
    /// All globs of all rules.
    globs: GlobSet,
    /// Which rule each glob belongs to.
    owners: Vec<usize>,
    rules: Vec<(Option<Regex>, u64)>,
}

impl FileRules {
    /// Prepares `rules`.
    ///
    /// # Errors
    /// For a glob or an expression that is none.
    pub fn new(rules: &[FileRule]) -> Result<FileRules, ConfirmError> {
        let mut globs = GlobSetBuilder::new();
        let mut owners = Vec::new();
        let mut prepared = Vec::new();
        for (index, rule) in rules.iter().enumerate() {
            for source in &rule.paths {
                globs.add(glob(&rule.id, source)?);
                owners.push(index);
            }
            let contains = rule.contains.as_deref().map(|source| expression(&rule.id, source)).transpose()?;
            prepared.push((contains, rule.min_size));
        }
        let globs = globs.build().map_err(|error| unreadable("the globs of all file rules", "", &error))?;
        Ok(FileRules { globs, owners, rules: prepared })
    }

    /// The rules, by their place in the list, whose paths `path` is among; each once.
    pub fn at(&self, path: &[u8]) -> Vec<usize> {
        let path = String::from_utf8_lossy(path);
        let mut rules: Vec<usize> = self.globs.matches(&*path).into_iter().map(|glob| self.owners[glob]).collect();
        rules.dedup();
        rules
    }

    /// Whether a file of `size` bytes that begins with `head` is what `rule` speaks of.
    pub fn judge(&self, rule: usize, head: &[u8], size: u64) -> bool {
        let Some((contains, least)) = self.rules.get(rule) else { return false };
        size >= *least && contains.as_ref().is_none_or(|contains| contains.is_match(head))
    }
}

/// Where a signature holds.
pub struct Places(Vec<GlobMatcher>);

impl Places {
    /// Prepares the globs of `signature`; `None` where it holds everywhere.
    ///
    /// # Errors
    /// For a glob that is none.
    pub fn of(signature: &Signature) -> Result<Option<Places>, ConfirmError> {
        if signature.paths.is_empty() {
            return Ok(None);
        }
        let globs = signature.paths.iter().map(|source| glob(&signature.id, source).map(|glob| glob.compile_matcher()));
        Ok(Some(Places(globs.collect::<Result<_, _>>()?)))
    }

    /// Whether the signature holds in the file at `path`.
    pub fn holds(&self, path: &[u8]) -> bool {
        let path = String::from_utf8_lossy(path);
        self.0.iter().any(|glob| glob.is_match(&*path))
    }
}

fn glob(rule: &str, source: &str) -> Result<Glob, ConfirmError> {
    let glob = GlobBuilder::new(source).literal_separator(true).build();
    glob.map_err(|error| unreadable(rule, source, &error))
}

fn expression(rule: &str, source: &str) -> Result<Regex, ConfirmError> {
    RegexBuilder::new(source).unicode(false).build().map_err(|error| unreadable(rule, source, &error))
}

fn unreadable(rule: &str, expression: &str, reason: &dyn std::fmt::Display) -> ConfirmError {
    ConfirmError::Expression { rule: rule.into(), expression: expression.into(), reason: reason.to_string() }
}
