//! The patterns of a set of signatures: one for each signature, and one for each encoded form of a keyword.

use layersift_model::{Algorithm, Digest, Hasher};

use crate::encoding::{EncodedKeyword, Keyword, encoded_keywords};
use crate::pattern::{Pattern, PatternError};
use crate::rule::Signature;

/// The patterns that an engine searches for.
#[derive(Clone, Debug, Default)]
pub struct PatternSet {
    /// The patterns of the signatures, in their order, followed by those of `encoded_keywords`.
    pub patterns: Vec<Pattern>,
    /// The encoded forms of keywords.
    pub encoded_keywords: Vec<EncodedKeyword>,
}

impl PatternSet {
    /// The patterns for `signatures`.
    ///
    /// # Errors
    /// If a pattern is invalid, or its matches are empty or unbounded.
    pub fn new(signatures: &[Signature]) -> Result<PatternSet, PatternError> {
        let mut patterns = signatures.iter().map(proposed).collect::<Result<Vec<Pattern>, PatternError>>()?;
        let everywhere = signatures.iter().filter(|signature| signature.paths.is_empty());
        let keywords = everywhere.flat_map(|signature| {
            let confidence = signature.confidence.name();
            signature.keywords.iter().map(move |text| Keyword::new(text, &signature.pattern, confidence))
        });
        let encoded_keywords = encoded_keywords(keywords);
        patterns
            .extend(encoded_keywords.iter().map(|keyword| Pattern::made(keyword.expression.clone(), keyword.width)));
        Ok(PatternSet { patterns, encoded_keywords })
    }
}

/// The pattern by which an engine proposes candidates for a signature.
fn proposed(signature: &Signature) -> Result<Pattern, PatternError> {
    let pattern = Pattern::new(&signature.id, &signature.pattern)?;
    Ok(match signature.foreign {
        // The matches of other scanners' rules need not contain a keyword.
        Some(_) => pattern,
        // Prompts are short, so a frequent keyword costs little.
        None if !signature.scope.is_empty() => pattern.proposed_by_all(&signature.keywords),
        None => pattern.proposed(&signature.keywords, !signature.paths.is_empty()),
    })
}

/// The digest of everything in `signatures` that their patterns depend on. A compiled database is only valid for
/// signatures with the same fingerprint as those that it was compiled from.
pub fn fingerprint(signatures: &[Signature]) -> Digest {
    let mut hasher = Hasher::new(Algorithm::Sha256);
    for Signature { pattern, keywords, confidence, paths, .. } in signatures {
        let text = format!("{pattern}\n{}\n{confidence:?}\n{}\n", keywords.join("\n"), paths.is_empty());
        hasher.update(&(text.len() as u64).to_le_bytes());
        hasher.update(text.as_bytes());
    }
    hasher.finish()
}
