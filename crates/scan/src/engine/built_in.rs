//! The databases of the built-in rules, compiled by the build script.

use hyperscan::SerializedDatabase;
use layersift_rules::{Signature, fingerprint};

use super::scan::SignatureDatabase;

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

/// The rules for images, and those for prompts, which follow them where both are used.
const BUILT_IN: [BuiltIn; 2] = include!(concat!(env!("OUT_DIR"), "/databases.rs"));

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
    let mut loaded = Vec::new();
    for set in &BUILT_IN {
        let Some((own, others)) = rest.split_at_checked(set.count) else { continue };
        if let Some(database) = set.load(own) {
            loaded.push(database);
            rest = others;
        }
    }
    loaded
}

impl BuiltIn {
    fn load(&self, signatures: &[Signature]) -> Option<BuiltInDatabase> {
        let BuiltIn { count, fingerprint: expected, widest, encoded_keywords, mask, databases } = *self;
        if fingerprint(signatures).to_string() != expected {
            return None;
        }
        let database = databases.iter().find_map(|bytes| unmasked(bytes, mask).deserialize().ok())?;
        let encoded = encoded_keywords.len();
        let database = SignatureDatabase { database, widest, signatures: count, encoded_keywords: encoded };
        Some(BuiltInDatabase { database, encoded_keywords })
    }
}

/// A copy of `bytes`, unmasked in place: the compiler makes wide instructions of that, and not of an iterator that is
/// collected.
fn unmasked(bytes: &[u8], mask: u8) -> Vec<u8> {
    let mut copy = bytes.to_vec();
    copy.iter_mut().for_each(|byte| *byte ^= mask);
    copy
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
