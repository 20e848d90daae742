//! The databases that the build script compiled, for the built-in rules.

use hyperscan::SerializedDatabase;
use hyperscan::prelude::*;
use layersift_rules::{Signature, fingerprint};

/// A keyword in disguise: the code of its [`layersift_rules::Disguise`], and its length in bytes.
pub type EncodedAnchor = ((u8, u8), usize);

/// What the build script made.
struct BuiltIn {
    /// How many signatures the databases hold.
    count: usize,
    /// What these signatures were when the databases were compiled.
    fingerprint: &'static str,
    /// The greatest length of a match.
    widest: usize,
    /// The keywords in disguise, whose patterns come after those of the signatures.
    anchors: &'static [EncodedAnchor],
    /// What every byte of the databases is XORed with.
    mask: u8,
    /// The masked databases, the one for the best processor first.
    databases: &'static [&'static [u8]],
}

const BUILT_IN: BuiltIn = include!(concat!(env!("OUT_DIR"), "/databases.rs"));

/// A database for the built-in signatures.
pub(super) struct Loaded {
    pub(super) database: BlockDatabase,
    pub(super) widest: usize,
    pub(super) anchors: &'static [EncodedAnchor],
    /// How many signatures it holds.
    pub(super) count: usize,
}

/// The best database that this processor and this version of the library take, if `signatures` begin with the built-in
/// ones.
pub(super) fn load(signatures: &[Signature]) -> Option<Loaded> {
    let BuiltIn { count, fingerprint: expected, widest, anchors, mask, databases } = BUILT_IN;
    if fingerprint(signatures.get(..count)?).to_string() != expected {
        return None;
    }
    let unmasked = |bytes: &[u8]| bytes.iter().map(|byte| byte ^ mask).collect::<Vec<u8>>();
    let database = databases.iter().find_map(|bytes| unmasked(bytes).deserialize().ok())?;
    Some(Loaded { database, widest, anchors, count })
}

#[cfg(test)]
mod tests {
    use layersift_rules::Ruleset;

    use super::*;

    #[test]
    fn the_built_in_rules_are_loaded_and_not_compiled() {
        let signatures = Ruleset::built_in().unwrap().signatures;
        assert!(load(&signatures).is_some());
        assert!(load(&signatures[1..]).is_none());
    }
}
