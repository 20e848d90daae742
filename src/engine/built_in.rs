//! The databases that were compiled with the program, for the patterns of the built-in rules.

use hyperscan::SerializedDatabase;
use hyperscan::prelude::*;

use super::pattern::Pattern;

/// The expressions that the databases hold, and the databases, the one for the best processor first.
const BUILT_IN: (&[&str], &[&[u8]]) = include!(concat!(env!("OUT_DIR"), "/databases.rs"));

/// The best database that this processor and this version of the library take, if `patterns` are the built-in ones.
pub(super) fn load(patterns: &[Pattern]) -> Option<BlockDatabase> {
    let (expressions, databases) = BUILT_IN;
    if !patterns.iter().map(|pattern| pattern.expression.as_str()).eq(expressions.iter().copied()) {
        return None;
    }
    databases.iter().find_map(|bytes| bytes.deserialize().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ruleset::Ruleset;

    #[test]
    fn the_built_in_rules_are_loaded_and_not_compiled() {
        let rules = Ruleset::built_in().unwrap();
        let patterns: Vec<Pattern> =
            rules.signatures.iter().map(|rule| Pattern::new(&rule.id, &rule.pattern).unwrap()).collect();
        assert!(load(&patterns).is_some());
        assert!(load(&patterns[1..]).is_none());
    }
}
