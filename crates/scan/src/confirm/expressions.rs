//! Expressions for short texts: paths, secrets, matches. Each is compiled once, however many rules share it, and only
//! when it is first needed: a scan needs few of them.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use regex::bytes::{Regex, RegexBuilder};
use regex_syntax::hir::Hir;

use super::ConfirmError;

/// An expression, shared by its clones.
#[derive(Clone)]
pub struct Expression(Arc<(String, OnceLock<Option<Regex>>)>);

impl Expression {
    /// Whether `text` contains a match. An expression that is too large to compile never matches.
    pub fn is_match(&self, text: &[u8]) -> bool {
        let (source, regex) = &*self.0;
        regex.get_or_init(|| compile(source)).as_ref().is_some_and(|regex| regex.is_match(text))
    }
}

/// Compiles `source` over bytes and without Unicode; `None` if it is invalid.
pub fn compile(source: &str) -> Option<Regex> {
    RegexBuilder::new(source).unicode(false).build().ok()
}

/// Parses the expression `source`, over bytes and without Unicode.
///
/// # Errors
/// If an expression is invalid.
pub fn parse(source: &str) -> Result<Hir, Box<regex_syntax::Error>> {
    regex_syntax::ParserBuilder::new().unicode(false).utf8(false).build().parse(source).map_err(Box::new)
}

/// The error for an invalid expression or glob of `rule`.
pub fn unreadable(rule: &str, expression: &str, reason: &dyn std::fmt::Display) -> ConfirmError {
    ConfirmError::Expression { rule: rule.into(), expression: expression.into(), reason: reason.to_string() }
}

/// Expressions by their source.
#[derive(Default)]
pub struct Expressions {
    known: HashMap<String, Expression>,
    /// Whether expressions are known to be valid and are not parsed before they are needed.
    are_valid: bool,
}

impl Expressions {
    /// Sets whether the expressions that follow are known to be valid.
    pub fn assume_valid(&mut self, are_valid: bool) {
        self.are_valid = are_valid;
    }

    /// The expression `source` of `rule`.
    ///
    /// # Errors
    /// If an expression is invalid.
    pub fn get(&mut self, rule: &str, source: &str) -> Result<Expression, ConfirmError> {
        if let Some(known) = self.known.get(source) {
            return Ok(known.clone());
        }
        if !self.are_valid {
            parse(source).map_err(|error| unreadable(rule, source, &error))?;
        }
        let expression = Expression(Arc::new((source.into(), OnceLock::new())));
        self.known.insert(source.into(), expression.clone());
        Ok(expression)
    }

    /// The expressions `sources` of `rule`.
    ///
    /// # Errors
    /// As for [`Expressions::get`].
    pub fn all(&mut self, rule: &str, sources: &[String]) -> Result<Vec<Expression>, ConfirmError> {
        sources.iter().map(|source| self.get(rule, source)).collect()
    }
}
