//! The databases that were compiled with the program, for the built-in rules.

use hyperscan::SerializedDatabase;
use hyperscan::prelude::*;

use super::pattern::recipe;
use crate::rule::Signature;

/// A number for the disguise, the place of its first digit in a group, and its width.
pub type AnchorCode = (u8, u8, u16);

/// What the build script made.
struct BuiltIn {
    /// What each signature was when the databases were compiled, and the width of its pattern.
    signatures: &'static [(&'static str, usize)],
    anchors: &'static [AnchorCode],
    /// The databases, the one for the best processor first.
    databases: &'static [&'static [u8]],
}

const BUILT_IN: BuiltIn = include!(concat!(env!("OUT_DIR"), "/databases.rs"));

/// The best database that this processor and this version of the library take, with the widest width of a pattern and
/// the anchors behind the signatures, if `signatures` begin with the built-in ones, and how many these are.
pub(super) fn load(signatures: &[Signature]) -> Option<(BlockDatabase, usize, &'static [AnchorCode], usize)> {
    let is_same = |(signature, (known, _)): (&Signature, &(&str, usize))| {
        let Signature { pattern, keywords, confidence, paths, .. } = signature;
        recipe(pattern, keywords, confidence.name(), !paths.is_empty()) == *known
    };
    let count = BUILT_IN.signatures.len();
    if count == 0 || signatures.len() < count || !signatures.iter().zip(BUILT_IN.signatures).all(is_same) {
        return None;
    }
    let widest = BUILT_IN.signatures.iter().map(|(_, width)| *width).max().unwrap_or(0);
    let database = BUILT_IN.databases.iter().find_map(|bytes| bytes.deserialize().ok())?;
    Some((database, widest, BUILT_IN.anchors, count))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ruleset::Ruleset;

    #[test]
    fn the_built_in_rules_are_loaded_and_not_compiled() {
        let signatures = Ruleset::built_in().unwrap().signatures;
        assert!(load(&signatures).is_some());
        assert!(load(&signatures[1..]).is_none());
    }
}
