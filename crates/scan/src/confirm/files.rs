//! Rules that depend on the path of a file: rules for whole files, and signatures with paths.

use super::ConfirmError;
use super::expressions::{Expression, Expressions};
use super::globs::GlobIndex;
use super::scratch::{Scratch, ScratchPool};
use layersift_rules::{FileRule, Foreign, Signature};

/// The rules for files, compiled.
pub struct FileRules {
    globs: GlobIndex,
    /// Rules with expressions instead of globs.
    foreign: Vec<(usize, PathExpressions)>,
    rules: Vec<(Option<Expression>, u64)>,
    scratch: ScratchPool,
}

impl FileRules {
    /// Compiles `rules`, of which the first `valid` are known to be valid.
    ///
    /// # Errors
    /// If a glob or an expression is invalid.
    pub fn new(rules: &[FileRule], valid: usize) -> Result<FileRules, ConfirmError> {
        let mut prepared = Vec::new();
        let mut foreign = Vec::new();
        let mut expressions = Expressions::default();
        for (index, rule) in rules.iter().enumerate() {
            expressions.assume_valid(index < valid);
            if let Some(conditions) = &rule.foreign {
                foreign.push((index, PathExpressions::of(&rule.id, conditions, &mut expressions)?));
            }
            let contains = rule.contains.as_deref().map(|source| expressions.get(&rule.id, source)).transpose()?;
            prepared.push((contains, rule.min_size));
        }
        let globs = GlobIndex::new(rules.iter().map(|rule| (&rule.id[..], &rule.paths[..])), valid)?;
        Ok(FileRules { globs, foreign, rules: prepared, scratch: ScratchPool::default() })
    }

    /// The indices of the rules that apply to `path`, without duplicates.
    pub fn at(&self, path: &[u8]) -> Vec<usize> {
        let mut rules = self.globs.at(path);
        if !self.foreign.is_empty() {
            self.scratch.with(|scratch| {
                rules
                    .extend(self.foreign.iter().filter(|(_, paths)| paths.holds(path, scratch)).map(|(rule, _)| *rule));
            });
        }
        rules
    }

    /// Whether `rule` matches a file of `size` bytes that begins with `head`.
    pub fn judge(&self, rule: usize, head: &[u8], size: u64) -> bool {
        let Some((contains, least)) = self.rules.get(rule) else { return false };
        size >= *least
            && contains.as_ref().is_none_or(|contains| self.scratch.with(|scratch| contains.is_match(head, scratch)))
    }
}

/// Signatures with paths. The engine does not search for them: few files have such paths, and those are searched for
/// each of these signatures separately.
pub struct LocalSignatures(GlobIndex);

impl LocalSignatures {
    /// Compiles the paths of `signatures`, of which the first `valid` are known to be valid.
    ///
    /// # Errors
    /// If a glob is invalid.
    pub fn new(signatures: &[Signature], valid: usize) -> Result<LocalSignatures, ConfirmError> {
        GlobIndex::new(signatures.iter().map(|rule| (&rule.id[..], &rule.paths[..])), valid).map(LocalSignatures)
    }

    /// The indices of the signatures that apply to the file at `path`.
    pub fn at(&self, path: &[u8]) -> Vec<usize> {
        self.0.at(path)
    }
}

/// Conditions of rules in the formats of other scanners on the path.
pub(super) struct PathExpressions {
    path: Option<Expression>,
    except: Vec<Expression>,
}

impl PathExpressions {
    /// Compiles the conditions of `rule` on the path.
    ///
    /// # Errors
    /// If an expression is invalid.
    pub(super) fn of(
        rule: &str,
        foreign: &Foreign,
        expressions: &mut Expressions,
    ) -> Result<PathExpressions, ConfirmError> {
        let path = foreign.path.as_deref().map(|source| expressions.get(rule, source)).transpose()?;
        Ok(PathExpressions { path, except: expressions.all(rule, &foreign.except_paths)? })
    }

    /// Whether the rule applies to the file at `path`.
    pub(super) fn holds(&self, path: &[u8], scratch: &mut Scratch) -> bool {
        self.path.as_ref().is_none_or(|regex| regex.is_match(path, scratch))
            && !self.except.iter().any(|regex| regex.is_match(path, scratch))
    }
}
