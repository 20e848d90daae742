//! The keywords of a rule that is searched for without an engine: a file in which none of them is need not be searched.

use std::sync::OnceLock;

use aho_corasick::AhoCorasick;
use layersift_rules::Signature;

/// The keywords of one rule.
pub(super) struct Keywords {
    words: Vec<String>,
    /// Compiled when a file is first searched. Without it, every file may have them.
    compiled: OnceLock<Option<AhoCorasick>>,
}

impl Keywords {
    /// The keywords of `signature`; `None` if an engine proposes its matches, or if they need not contain a keyword.
    pub(super) fn of(signature: &Signature) -> Option<Keywords> {
        let is_searched = !signature.paths.is_empty() && !signature.keywords.is_empty() && signature.foreign.is_none();
        is_searched.then(|| Keywords { words: signature.keywords.clone(), compiled: OnceLock::new() })
    }

    /// Whether one of them, in any case, is in `bytes`.
    pub(super) fn are_in(&self, bytes: &[u8]) -> bool {
        let compile = || AhoCorasick::builder().ascii_case_insensitive(true).build(&self.words).ok();
        self.compiled.get_or_init(compile).as_ref().is_none_or(|words| words.is_match(bytes))
    }
}

#[cfg(test)]
mod tests {
    use layersift_rules::Ruleset;

    use super::*;

    #[test]
    fn rules_for_paths_are_searched_where_a_keyword_is() {
        let rules = Ruleset::built_in().unwrap();
        let local: Vec<&Signature> = rules.signatures.iter().filter(|rule| !rule.paths.is_empty()).collect();
        assert!(local.len() > 20);
        for rule in local {
            let keywords = Keywords::of(rule).unwrap();
            assert!(!keywords.are_in(b"0123 4567"), "{}", rule.id);
            assert!(keywords.are_in(format!("0 {} 1", rule.keywords[0].to_uppercase()).as_bytes()), "{}", rule.id);
        }
        let everywhere = rules.signatures.iter().find(|rule| rule.paths.is_empty()).unwrap();
        assert!(Keywords::of(everywhere).is_none());
    }
}
