//! Compiled expressions over short pieces of text: paths, secrets, matches. Each is compiled once, however many rules
//! share it.

use std::collections::HashMap;

use regex::bytes::{Regex, RegexBuilder};

use super::ConfirmError;

/// Expressions that were compiled already, by their source.
#[derive(Default)]
pub struct Expressions(HashMap<String, Regex>);

impl Expressions {
    /// The expression `source` of `rule`, over bytes and without Unicode.
    ///
    /// # Errors
    /// For an expression that is none.
    pub fn get(&mut self, rule: &str, source: &str) -> Result<Regex, ConfirmError> {
        if let Some(regex) = self.0.get(source) {
            return Ok(regex.clone());
        }
        let regex = RegexBuilder::new(source).unicode(false).build().map_err(|error| ConfirmError::Expression {
            rule: rule.into(),
            expression: source.into(),
            reason: error.to_string(),
        })?;
        self.0.insert(source.into(), regex.clone());
        Ok(regex)
    }

    /// The expressions `sources` of `rule`.
    ///
    /// # Errors
    /// As for [`Expressions::get`].
    pub fn all(&mut self, rule: &str, sources: &[String]) -> Result<Vec<Regex>, ConfirmError> {
        sources.iter().map(|source| self.get(rule, source)).collect()
    }
}
