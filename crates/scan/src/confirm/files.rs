//! Rules that judge files by their path: those for whole files, and signatures that hold only in certain places.

use super::ConfirmError;
use super::expressions::{Expression, Expressions};
use super::globs::GlobIndex;
use layersift_rules::{FileRule, Foreign, Signature};

/// The rules for files, prepared.
pub struct FileRules {
    globs: GlobIndex,
    /// Rules without globs, which hold where an expression does.
    foreign: Vec<(usize, PathExpressions)>,
    rules: Vec<(Option<Expression>, u64)>,
}

impl FileRules {
    /// Prepares `rules`.
    ///
    /// # Errors
    /// For a glob or an expression that is none.
    pub fn new(rules: &[FileRule]) -> Result<FileRules, ConfirmError> {
        let mut prepared = Vec::new();
        let mut foreign = Vec::new();
        let mut expressions = Expressions::default();
        for (index, rule) in rules.iter().enumerate() {
            if let Some(conditions) = &rule.foreign {
                foreign.push((index, PathExpressions::of(&rule.id, conditions, &mut expressions)?));
            }
            let contains = rule.contains.as_deref().map(|source| expressions.get(&rule.id, source)).transpose()?;
            prepared.push((contains, rule.min_size));
        }
        let globs = GlobIndex::new(rules.iter().map(|rule| (&rule.id[..], &rule.paths[..])))?;
        Ok(FileRules { globs, foreign, rules: prepared })
    }

    /// The rules, by their place in the list, whose paths `path` is among; each once.
    pub fn at(&self, path: &[u8]) -> Vec<usize> {
        let mut rules = self.globs.at(path);
        rules.extend(self.foreign.iter().filter(|(_, paths)| paths.holds(path)).map(|(rule, _)| *rule));
        rules
    }

    /// Whether a file of `size` bytes that begins with `head` is what `rule` speaks of.
    pub fn judge(&self, rule: usize, head: &[u8], size: u64) -> bool {
        let Some((contains, least)) = self.rules.get(rule) else { return false };
        size >= *least && contains.as_ref().is_none_or(|contains| contains.is_match(head))
    }
}

/// Signatures that hold only at certain paths. They are no part of the engine: few files are at such paths, and those
/// are searched for each of these signatures by itself.
pub struct LocalSignatures(GlobIndex);

impl LocalSignatures {
    /// Prepares those of `signatures` that have paths.
    ///
    /// # Errors
    /// For a glob that is none.
    pub fn new(signatures: &[Signature]) -> Result<LocalSignatures, ConfirmError> {
        GlobIndex::new(signatures.iter().map(|rule| (&rule.id[..], &rule.paths[..]))).map(LocalSignatures)
    }

    /// The signatures, by their place in the list, that hold in the file at `path`.
    pub fn at(&self, path: &[u8]) -> Vec<usize> {
        self.0.at(path)
    }
}

/// What rules in other scanners' formats ask of a path.
pub(super) struct PathExpressions {
    path: Option<Expression>,
    except: Vec<Expression>,
}

impl PathExpressions {
    /// Prepares what `foreign` asks of the paths of `rule`.
    ///
    /// # Errors
    /// For an expression that is none.
    pub(super) fn of(
        rule: &str,
        foreign: &Foreign,
        expressions: &mut Expressions,
    ) -> Result<PathExpressions, ConfirmError> {
        let path = foreign.path.as_deref().map(|source| expressions.get(rule, source)).transpose()?;
        Ok(PathExpressions { path, except: expressions.all(rule, &foreign.except_paths)? })
    }

    /// Whether the rule holds in the file at `path`.
    pub(super) fn holds(&self, path: &[u8]) -> bool {
        self.path.as_ref().is_none_or(|regex| regex.is_match(path))
            && !self.except.iter().any(|regex| regex.is_match(path))
    }
}
