//! The databases of the built-in rules, compiled by the build script.

use hyperscan::SerializedDatabase;
use hyperscan::prelude::*;
use layersift_rules::{Signature, fingerprint};

/// The encoded form of a keyword: the code of its [`layersift_rules::Encoding`], and its length in bytes.
pub type EncodedKeywordCode = ((u8, u8), usize);

/// The output of the build script.
struct BuiltIn {
    /// The number of signatures in the databases.
    count: usize,
    /// The fingerprint of these signatures, to detect others.
    fingerprint: &'static str,
    /// The length of the longest possible match, in bytes.
    widest: usize,
    /// The encoded forms of keywords, whose patterns follow those of the signatures.
    encoded_keywords: &'static [EncodedKeywordCode],
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
    pub(super) encoded_keywords: &'static [EncodedKeywordCode],
    /// The number of signatures in it.
    pub(super) count: usize,
}

/// The best database that this processor and this version of the library can load, if `signatures` begin with the
/// built-in ones.
pub(super) fn load(signatures: &[Signature]) -> Option<Loaded> {
    let BuiltIn { count, fingerprint: expected, widest, encoded_keywords, mask, databases } = BUILT_IN;
    if fingerprint(signatures.get(..count)?).to_string() != expected {
        return None;
    }
    let unmasked = |bytes: &[u8]| bytes.iter().map(|byte| byte ^ mask).collect::<Vec<u8>>();
    let database = databases.iter().find_map(|bytes| unmasked(bytes).deserialize().ok())?;
    Some(Loaded { database, widest, encoded_keywords, count })
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
