//! The patterns of a set of signatures: one for each signature, and one for each encoded form of a keyword.

use std::collections::BTreeMap;

use layersift_model::{Algorithm, Digest, Hasher};

use crate::encoding::{EncodedKeyword, Keyword, encoded_keywords};
use crate::pattern::{Pattern, PatternError, are_rare};
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

/// The shortest keyword that counts as a beginning. Shorter ones are everywhere in binary files.
const SHORTEST_BEGINNING: usize = 3;

/// A keyword at which an engine begins the patterns of many signatures, which takes time though nothing is found.
#[derive(Clone, Debug)]
pub struct BeginningKeyword {
    /// The keyword in any case.
    pub pattern: Pattern,
    /// The number of signatures whose patterns it begins.
    pub signatures: u32,
}

/// The keywords of those `signatures` whose patterns are matched whole: all others are proposed by literals.
pub fn beginning_keywords(signatures: &[Signature]) -> Vec<BeginningKeyword> {
    let mut counts: BTreeMap<String, u32> = BTreeMap::new();
    for Signature { keywords, .. } in signatures.iter().filter(|one| one.paths.is_empty() && !are_rare(&one.keywords)) {
        let distinct: std::collections::BTreeSet<_> = keywords.iter().map(|one| one.to_ascii_lowercase()).collect();
        for keyword in distinct.into_iter().filter(|one| one.len() >= SHORTEST_BEGINNING) {
            *counts.entry(keyword).or_default() += 1;
        }
    }
    let begin = |(keyword, signatures): (String, u32)| {
        let bytes: String = keyword.bytes().map(|byte| format!("\\x{byte:02x}")).collect();
        let expression = format!("(?i){bytes}");
        BeginningKeyword { pattern: Pattern::made(expression, keyword.len()), signatures }
    };
    counts.into_iter().map(begin).collect()
}

/// The pattern by which an engine proposes candidates for a signature.
fn proposed(signature: &Signature) -> Result<Pattern, PatternError> {
    let mut pattern = Pattern::new(&signature.id, &signature.pattern)?;
    if let Some(proposal) = &signature.proposal {
        pattern = pattern.proposed_by_part(Pattern::new(&signature.id, proposal)?);
    }
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
    for Signature { pattern, keywords, proposal, confidence, paths, .. } in signatures {
        let (words, proposal) = (keywords.join("\n"), proposal.as_deref().unwrap_or_default());
        let text = format!("{pattern}\n{words}\n{confidence:?}\n{}\n{proposal}", paths.is_empty());
        hasher.update(&(text.len() as u64).to_le_bytes());
        hasher.update(text.as_bytes());
    }
    hasher.finish()
}
