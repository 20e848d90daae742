//! Checks that match a regular expression against single strings of the configuration.
//!
//! The group `secret` captures a secret, unless its text is a placeholder or the like (see `literal`). The group
//! `shown` captures the text that reports quote. They quote nothing else: command lines have passwords in unexpected
//! places.

use std::collections::HashSet;
use std::sync::OnceLock;

use regex::bytes::{Captures, Regex, RegexBuilder};

use super::fields::Field;
use super::{CheckError, FieldMatch, FieldMatches, MAX_SHOWN, literal};
use layersift_model::{Secret, quoted};
use layersift_rules::ConfigField;

/// The maximum size of a compiled expression in bytes.
const MAX_COMPILED: usize = 1 << 20;

pub(super) struct Pattern {
    source: String,
    compiled: OnceLock<Option<Compiled>>,
    fields: Vec<ConfigField>,
}

struct Compiled {
    regex: Regex,
    has_secret: bool,
    is_shown: bool,
}

impl Pattern {
    /// The expression matches bytes, without Unicode, like those of signatures. If it is known to be valid, it is
    /// compiled for the first field: a scan of a single file has none.
    pub(super) fn new(rule: &str, source: &str, fields: &[ConfigField], is_valid: bool) -> Result<Pattern, CheckError> {
        let compiled = OnceLock::new();
        if !is_valid {
            let expression = Compiled::new(source);
            let expression =
                expression.map_err(|error| CheckError::Expression { rule: rule.into(), reason: error.to_string() })?;
            compiled.get_or_init(|| Some(expression));
        }
        Ok(Pattern { source: source.into(), compiled, fields: fields.into() })
    }

    /// Adds the matches in `field` to `matches`: every secret, or the first match of a pattern without secrets. Returns
    /// whether there was one.
    pub(super) fn search(&self, field: &Field<'_>, matches: &mut FieldMatches) -> bool {
        if !self.fields.contains(&field.kind) {
            return false;
        }
        let compiled = self.compiled.get_or_init(|| Compiled::new(&self.source).ok());
        compiled.as_ref().is_some_and(|compiled| compiled.search(field, matches))
    }
}

impl Compiled {
    fn new(source: &str) -> Result<Compiled, regex::Error> {
        let regex = RegexBuilder::new(source).unicode(false).size_limit(MAX_COMPILED).build()?;
        let has = |group| regex.capture_names().any(|name| name == Some(group));
        let (has_secret, is_shown) = (has("secret"), has("shown"));
        Ok(Compiled { regex, has_secret, is_shown })
    }

    fn search(&self, field: &Field<'_>, matches: &mut FieldMatches) -> bool {
        // `is_match` is much cheaper than captures, and mostly false.
        if !self.regex.is_match(field.text.as_bytes()) {
            return false;
        }
        if self.has_secret {
            return self.secrets(field, matches);
        }
        let groups = if self.is_shown { self.regex.captures(field.text.as_bytes()) } else { None };
        matches.push(FieldMatch { at: field.name.clone(), secret: None, note: groups.as_ref().and_then(quote) });
        true
    }

    /// Adds all secrets, not just the first: reports mask those that were found wherever they show the history.
    fn secrets(&self, field: &Field<'_>, matches: &mut FieldMatches) -> bool {
        let mut seen = HashSet::new();
        for groups in self.regex.captures_iter(field.text.as_bytes()) {
            let Some(secret) = groups.name("secret").map(|group| literal::unquote(group.as_bytes())) else { continue };
            if literal::is_secret(secret) && seen.insert(secret) {
                matches.push(FieldMatch {
                    at: field.name.clone(),
                    secret: Some(Secret::new(secret)),
                    note: quote(&groups),
                });
            }
        }
        !seen.is_empty()
    }
}

fn quote(groups: &Captures<'_>) -> Option<String> {
    let shown = String::from_utf8_lossy(groups.name("shown")?.as_bytes());
    Some(quoted(&shown, MAX_SHOWN).into())
}
