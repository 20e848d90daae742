//! Expressions over short pieces of text: paths, secrets, matches. Each is compiled once, however many rules share it,
//! and when it is first needed: a scan needs few of them.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use regex::bytes::{Regex, RegexBuilder};
use regex_syntax::hir::Hir;

use super::ConfirmError;

/// An expression, shared by all that hold it.
#[derive(Clone)]
pub struct Expression(Arc<(String, OnceLock<Option<Regex>>)>);

impl Expression {
    /// Whether `text` contains a match. An expression that is too big to be compiled has none.
    pub fn is_match(&self, text: &[u8]) -> bool {
        let (source, regex) = &*self.0;
        regex.get_or_init(|| compile(source)).as_ref().is_some_and(|regex| regex.is_match(text))
    }
}

/// The expression `source`, over bytes and without Unicode, if it is one.
pub fn compile(source: &str) -> Option<Regex> {
    RegexBuilder::new(source).unicode(false).build().ok()
}

/// The syntax of the expression `source`, over bytes and without Unicode.
///
/// # Errors
/// For an expression that is none.
pub fn parse(source: &str) -> Result<Hir, Box<regex_syntax::Error>> {
    regex_syntax::ParserBuilder::new().unicode(false).utf8(false).build().parse(source).map_err(Box::new)
}

/// What is said of an expression or a glob of `rule` that is none.
pub fn unreadable(rule: &str, expression: &str, reason: &dyn std::fmt::Display) -> ConfirmError {
    ConfirmError::Expression { rule: rule.into(), expression: expression.into(), reason: reason.to_string() }
}

/// Expressions that were read already, by their source.
#[derive(Default)]
pub struct Expressions {
    known: HashMap<String, Expression>,
    /// Whether they are proven elsewhere to be expressions, and need not be read before they are needed.
    are_proven: bool,
}

impl Expressions {
    /// From now on, expressions are taken for proven, or not.
    pub fn take_for_proven(&mut self, are_proven: bool) {
        self.are_proven = are_proven;
    }

    /// The expression `source` of `rule`.
    ///
    /// # Errors
    /// For an expression that is none.
    pub fn get(&mut self, rule: &str, source: &str) -> Result<Expression, ConfirmError> {
        if let Some(known) = self.known.get(source) {
            return Ok(known.clone());
        }
        if !self.are_proven {
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
