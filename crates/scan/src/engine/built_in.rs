//! The databases of the built-in rules, compiled by the build script.

use std::sync::{Arc, OnceLock};

use hyperscan::{BlockDatabase, SerializedDatabase};
use layersift_format::copy_in_large_pages;
use layersift_rules::{Signature, fingerprint};

use super::beginnings::Beginnings;
use super::scan::SignatureDatabase;

/// The encoded form of a keyword: the code of its [`layersift_rules::Encoding`], and its length in bytes.
pub type EncodedKeywordCode = ((u8, u8), usize);

/// The output of the build script.
pub(super) struct BuiltIn {
    /// The number of signatures in the databases.
    count: usize,
    /// The fingerprint of these signatures, to detect others.
    fingerprint: &'static str,
    /// The length of the longest possible match, in bytes.
    widest: usize,
    /// The encoded forms of keywords, whose patterns follow those of the signatures.
    encoded_keywords: &'static [EncodedKeywordCode],
    /// For each keyword that begins patterns, how many it begins.
    pub(super) begun: &'static [u32],
    /// What every byte of the databases is XORed with.
    mask: u8,
    /// The masked databases, the one for the best processor first.
    databases: &'static [&'static [u8]],
    /// The databases of the keywords that begin patterns, likewise.
    pub(super) beginnings: &'static [&'static [u8]],
}

/// The rules for images, and those for prompts, which follow them where both are used.
pub(super) static BUILT_IN: [BuiltIn; SETS] = include!(concat!(env!("OUT_DIR"), "/databases.rs"));

/// The number of sets of built-in rules.
pub(super) const SETS: usize = 2;

/// The loaded databases, which all engines of the process share; `None` for a set that cannot be loaded here.
static LOADED: [OnceLock<Option<Arc<BlockDatabase>>>; SETS] = [const { OnceLock::new() }; SETS];

/// A database of built-in signatures.
pub struct BuiltInDatabase {
    /// The database.
    pub database: SignatureDatabase,
    /// The encoded forms of the keywords of its signatures.
    pub encoded_keywords: &'static [EncodedKeywordCode],
}

/// The databases of the built-in rules that `signatures` begin with: the best ones that this processor and this version
/// of the library can load.
pub fn built_in(signatures: &[Signature]) -> Vec<BuiltInDatabase> {
    let mut rest = signatures;
    let mut found = Vec::new();
    for (number, (set, loaded)) in BUILT_IN.iter().zip(&LOADED).enumerate() {
        let Some((own, others)) = rest.split_at_checked(set.count) else { continue };
        if fingerprint(own).to_string() != set.fingerprint {
            continue;
        }
        if let Some(database) = loaded.get_or_init(|| set.load(set.databases)) {
            found.push(set.with(Arc::clone(database), Beginnings { set: number }));
            rest = others;
        }
    }
    found
}

/// Loads the databases of all built-in rules, unless that was done before. It takes longer than anything else before a
/// scan, and needs nothing, so a thread of its own can do it while rules are read.
pub fn load_built_in() {
    for (set, loaded) in BUILT_IN.iter().zip(&LOADED) {
        loaded.get_or_init(|| set.load(set.databases));
    }
}

impl BuiltIn {
    /// The first of `databases`, which are of this set, that can be loaded here.
    pub(super) fn load(&self, databases: &[&[u8]]) -> Option<Arc<BlockDatabase>> {
        databases.iter().find_map(|bytes| unmasked(bytes, self.mask)?.deserialize().ok()).map(Arc::new)
    }

    fn with(&self, database: Arc<BlockDatabase>, beginnings: Beginnings) -> BuiltInDatabase {
        let BuiltIn { count: signatures, widest, encoded_keywords, .. } = *self;
        let encoded = encoded_keywords.len();
        let database =
            SignatureDatabase { database, widest, signatures, encoded_keywords: encoded, beginnings: Some(beginnings) };
        BuiltInDatabase { database, encoded_keywords }
    }
}

/// A copy of `bytes`, unmasked in place: the compiler makes wide instructions of that, and not of an iterator that is
/// collected. `None` if memory runs out.
fn unmasked(bytes: &[u8], mask: u8) -> Option<impl AsRef<[u8]> + use<>> {
    let mut copy = copy_in_large_pages(bytes).ok()?;
    copy.iter_mut().for_each(|byte| *byte ^= mask);
    Some(copy)
}

#[cfg(test)]
mod tests {
    use layersift_rules::Ruleset;

    use super::*;

    #[test]
    fn the_built_in_rules_are_loaded_and_not_compiled() {
        let signatures = Ruleset::for_prompts(&[]).unwrap().signatures;
        let images = Ruleset::built_in().unwrap().signatures.len();
        let counts = |signatures: &[Signature]| -> Vec<usize> {
            built_in(signatures).iter().map(|one| one.database.signatures).collect()
        };
        assert_eq!(counts(&signatures), [images, signatures.len() - images]);
        assert_eq!(counts(&signatures[..images]), [images]);
        assert_eq!(counts(&signatures[images..]), [signatures.len() - images]);
        assert!(counts(&signatures[1..]).is_empty());
    }
}
