//! A check that is an expression over one string of the configuration.
//!
//! A group called `secret` is a secret, unless its text is none (see `literal`). A group called `shown` is what reports
//! quote. Nothing else is quoted: a command line has passwords in unexpected places.

use std::collections::HashSet;

use regex::bytes::{Captures, Regex, RegexBuilder};

use super::fields::{Field, shown};
use super::{CheckError, Spot, Spots, literal};
use layersift_model::Secret;
use layersift_rules::ConfigField;

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
        let regex = regex.map_err(|error| CheckError::Expression { rule: rule.into(), reason: error.to_string() })?;
        let has = |group| regex.capture_names().any(|name| name == Some(group));
        let (has_secret, is_shown) = (has("secret"), has("shown"));
        Ok(Pattern { regex, fields: fields.into(), has_secret, is_shown })
    }

    /// Puts what the check is about in `field` into `spots`: each of its secrets, or else the first match.
    /// Says whether there was anything.
    pub(super) fn look_at(&self, field: &Field<'_>, spots: &mut Spots) -> bool {
        // Whether there is a match is asked first: it costs a fraction of the groups, and the answer is mostly no.
        if !self.fields.contains(&field.kind) || !self.regex.is_match(field.text.as_bytes()) {
            return false;
        }
        if self.has_secret {
            return self.secrets(field, spots);
        }
        let groups = if self.is_shown { self.regex.captures(field.text.as_bytes()) } else { None };
        spots.push(Spot { at: field.name.clone(), secret: None, note: groups.as_ref().and_then(quote) });
        true
    }

    /// All secrets, not only the first: reports mask the ones that were found in what they show of the history.
    fn secrets(&self, field: &Field<'_>, spots: &mut Spots) -> bool {
        let mut seen = HashSet::new();
        for groups in self.regex.captures_iter(field.text.as_bytes()) {
            let Some(secret) = groups.name("secret").map(|group| literal::unquote(group.as_bytes())) else { continue };
            if literal::is_secret(secret) && seen.insert(secret) {
                spots.push(Spot { at: field.name.clone(), secret: Some(Secret::new(secret)), note: quote(&groups) });
            }
        }
        !seen.is_empty()
    }
}

fn quote(groups: &Captures<'_>) -> Option<String> {
    groups.name("shown").map(|group| shown(&String::from_utf8_lossy(group.as_bytes())))
}
