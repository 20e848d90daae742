//! A check that is an expression over one string of the configuration.
//!
//! A group called `secret` is a secret, unless its text is none (see `literal`); then later matches are tried. A group
//! called `shown` is what reports quote. Nothing else is quoted: a command line has passwords in unexpected places.

use regex::bytes::{Regex, RegexBuilder};

use super::fields::{Field, shown};
use super::{CheckError, Spot, literal};
use crate::rule::ConfigField;
use crate::secret::Secret;

/// Bytes that a compiled expression may take.
const MOST_COMPILED: usize = 1 << 20;

pub(super) struct Pattern {
    regex: Regex,
    fields: Vec<ConfigField>,
    has_secret: bool,
    is_shown: bool,
}

impl Pattern {
    /// The expression is over bytes, without Unicode, as those of signatures are.
    pub(super) fn new(rule: &str, source: &str, fields: &[ConfigField]) -> Result<Pattern, CheckError> {
        let regex = RegexBuilder::new(source).unicode(false).size_limit(MOST_COMPILED).build();
        let regex =
            regex.map_err(|error| CheckError::Expression { rule: rule.into(), reason: error.to_string() })?;
        let has = |group| regex.capture_names().any(|name| name == Some(group));
        let (has_secret, is_shown) = (has("secret"), has("shown"));
        Ok(Pattern { regex, fields: fields.into(), has_secret, is_shown })
    }

    /// The first place in `field` that the check is about.
    pub(super) fn look_at(&self, field: &Field<'_>) -> Option<Spot> {
        if self.fields.contains(&field.kind) { self.find(&field.text, &field.name) } else { None }
    }

    fn find(&self, text: &str, name: &str) -> Option<Spot> {
        let spot = |secret, note| Spot { at: name.into(), secret, note };
        // Asked first, because it costs a fraction of what captures do and nearly always says no.
        if !self.regex.is_match(text.as_bytes()) {
            return None;
        }
        if !self.has_secret && !self.is_shown {
            return Some(spot(None, None));
        }
        self.regex.captures_iter(text.as_bytes()).find_map(|groups| {
            let secret = groups.name("secret").map(|secret| literal::unquote(secret.as_bytes()));
            if self.has_secret && !secret.is_some_and(literal::is_secret) {
                return None;
            }
            let note = groups.name("shown").map(|quote| shown(&String::from_utf8_lossy(quote.as_bytes())));
            Some(spot(secret.map(Secret::new), note))
        })
    }

    #[cfg(test)]
    pub(super) fn find_in(&self, text: &str) -> Option<Spot> {
        self.find(text, "")
    }
}
