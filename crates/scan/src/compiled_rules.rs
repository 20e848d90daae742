//! A compiled rule set: the engine that finds candidates, the confirmer that verifies them, and rule descriptions.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use crate::assemble::chains::Chains;
use crate::assemble::config::Checks;
use crate::confirm::files::{FileRules, LocalSignatures};
use crate::confirm::{Confirmed, Confirmer, Matches, Verification};
use crate::decoding::Encoding;
use crate::engine::{Cache, Candidate, EncodedKeywordCode, Engine, EngineError, Pattern, SignatureDatabase, built_in};
use layersift_format::Cancellation;
use layersift_model::{RuleInfo, Severity};
use layersift_rules::{FileRule, PatternSet, Ruleset, Scope, Signature};

use crate::RulesetError;

/// A compiled rule set, shared by all threads and scans of an analyzer.
pub(crate) struct CompiledRules {
    pub(crate) signatures: Vec<Signature>,
    /// The descriptions of signatures, made for their first finding: most never have one.
    infos: Vec<OnceLock<Arc<RuleInfo>>>,
    /// The descriptions of file rules, in the order of `files`.
    file_infos: Vec<Arc<RuleInfo>>,
    pub(crate) files: FileRules,
    pub(crate) local: LocalSignatures,
    pub(crate) checks: Checks,
    pub(crate) chains: Chains,
    pub(crate) digest: String,
    /// The signatures that count in some parts of a conversation only: their ids, and these parts.
    pub(crate) scopes: Vec<(String, Vec<Scope>)>,
    /// Whether the rules are made of secrets.
    pub(crate) holds_values: bool,
    /// Warnings about rules that were not loaded completely.
    pub(crate) notes: Vec<String>,
    /// Whether no pattern is found in zeros, once that is known.
    pub(crate) ignores_zeros: OnceLock<bool>,
    engine: Engine,
    /// The encoded keywords, whose patterns follow those of the signatures.
    encoded_keywords: EncodedKeywords,
    confirmer: Confirmer,
}

impl CompiledRules {
    /// The built-in rules.
    #[cfg(test)]
    pub(crate) fn built_in() -> CompiledRules {
        CompiledRules::compile(Ruleset::built_in().unwrap(), None, &Cancellation::never()).unwrap()
    }

    /// Compiles `ruleset`, using databases in `cache`. A pattern that the engine rejects is an error, except in rules
    /// of other scanners, which were not written for this engine: those rules are dropped with a warning.
    pub(crate) fn compile(
        mut ruleset: Ruleset,
        cache: Option<&Cache>,
        cancellation: &Cancellation,
    ) -> Result<CompiledRules, RulesetError> {
        let compile_all = |ruleset| CompiledRules::compile_all(ruleset, cache, cancellation);
        let (places, patterns) = foreign(&mut ruleset);
        if patterns.is_empty() {
            return compile_all(ruleset);
        }
        let leave_out_refused = |ruleset: &mut Ruleset, refused: Vec<usize>| {
            let out: Vec<usize> = refused.into_iter().filter_map(|at| places.get(at).copied()).collect();
            leave_out(ruleset, &out)
        };
        if leave_out_refused(&mut ruleset, Engine::known_to_be_refused(&patterns, cache)) {
            return compile_all(ruleset);
        }
        match compile_all(ruleset.clone()) {
            Err(RulesetError::Engine(_)) if leave_out_refused(&mut ruleset, Engine::refused(&patterns, cache)) => {
                compile_all(ruleset)
            }
            outcome => outcome,
        }
    }

    fn compile_all(
        ruleset: Ruleset,
        cache: Option<&Cache>,
        cancellation: &Cancellation,
    ) -> Result<CompiledRules, RulesetError> {
        let (digest, holds_values) = (ruleset.digest(), ruleset.holds_values());
        let valid = ruleset.built_in_counts();
        let (engine, encoded_keywords) = engine(&ruleset.signatures, holds_values, cache, cancellation)?;
        Ok(CompiledRules {
            infos: ruleset.signatures.iter().map(|_| OnceLock::new()).collect(),
            file_infos: ruleset.files.iter().map(FileRule::info).collect(),
            files: FileRules::new(&ruleset.files, valid.files)?,
            local: LocalSignatures::new(&ruleset.signatures, valid.signatures)?,
            checks: Checks::new(&ruleset.ports, &ruleset.checks, valid.checks)?,
            chains: Chains::new(ruleset.chains),
            digest,
            scopes: scopes(&ruleset.signatures),
            holds_values,
            notes: ruleset.notes,
            ignores_zeros: OnceLock::new(),
            engine,
            encoded_keywords,
            confirmer: Confirmer::new(&ruleset.signatures, valid.signatures, &ruleset.known_keys)?,
            signatures: ruleset.signatures,
        })
    }

    /// The rule description for a finding.
    pub(crate) fn info(&self, confirmed: &Confirmed) -> Arc<RuleInfo> {
        Arc::clone(self.infos[confirmed.rule].get_or_init(|| self.signatures[confirmed.rule].info()))
    }

    /// The severity of a finding: that of its rule, or lower if it is not a working secret.
    pub(crate) fn severity(&self, confirmed: &Confirmed) -> Severity {
        match confirmed.verification {
            Verification::Secret => self.signatures[confirmed.rule].severity,
            Verification::Published | Verification::Damaged => Severity::Info,
        }
    }

    /// The description of the file rule `rule`.
    pub(crate) fn file_info(&self, rule: usize) -> Arc<RuleInfo> {
        Arc::clone(&self.file_infos[rule])
    }

    /// Whether the signature `rule` applies to the file at `path`; `None` stands for the configuration.
    pub(crate) fn applies_at(&self, rule: usize, path: Option<&[u8]>) -> bool {
        self.confirmer.holds_at(rule, path.unwrap_or_default())
    }

    /// Appends the matches of the signature `rule` that begin inside `owned` to `found`.
    pub(crate) fn search(&self, rule: usize, bytes: &[u8], owned: &Range<usize>, found: &mut Matches) {
        self.confirmer.search(rule, bytes, owned, found);
    }

    /// The engine.
    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Confirms the candidates of signatures. Leaves those of encoded keywords in `candidates`, ordered by their ends.
    pub(crate) fn confirm(
        &self,
        bytes: &[u8],
        owned: &Range<usize>,
        candidates: &mut Vec<Candidate>,
        found: &mut Matches,
    ) {
        let first_keyword = self.signatures.len();
        candidates.sort_unstable_by_key(|candidate| (candidate.pattern >= first_keyword, candidate.first_end));
        let encoded_keywords = candidates.partition_point(|candidate| candidate.pattern < first_keyword);
        self.confirmer.confirm(bytes, owned, &mut candidates[..encoded_keywords], found);
        candidates.drain(..encoded_keywords);
    }

    /// The range of the keyword of `candidate`, and the encoding that it was found in.
    pub(crate) fn encoded_keyword(&self, candidate: Candidate) -> Option<(Encoding, Range<usize>)> {
        let (encoding, width) = self.encoded_keywords.get(candidate.pattern.checked_sub(self.signatures.len())?)?;
        Some((*encoding, candidate.first_end.checked_sub(*width)?..candidate.first_end))
    }
}

fn scopes(signatures: &[Signature]) -> Vec<(String, Vec<Scope>)> {
    let limited = signatures.iter().filter(|signature| !signature.scope.is_empty());
    limited.map(|signature| (signature.id.clone(), signature.scope.clone())).collect()
}

/// The encoding of each keyword, and its length in bytes.
type EncodedKeywords = Vec<(Encoding, usize)>;

/// How many rules that are made of values are compiled at once: that takes 150 KiB of memory for each, of which little
/// is left.
const VALUES_AT_ONCE: usize = 250;

/// The engine for `signatures`, and the encoded keywords whose patterns follow theirs. Built-in signatures are already
/// compiled.
fn engine(
    signatures: &[Signature],
    hold_values: bool,
    cache: Option<&Cache>,
    cancellation: &Cancellation,
) -> Result<(Engine, EncodedKeywords), RulesetError> {
    let keyword = |((number, digit), width): &EncodedKeywordCode| Some((Encoding::of_code(*number, *digit)?, *width));
    let (mut databases, mut encoded_keywords) = (Vec::new(), EncodedKeywords::new());
    let mut own = signatures;
    for built_in in built_in(signatures) {
        own = own.get(built_in.database.signatures..).unwrap_or_default();
        encoded_keywords.extend(built_in.encoded_keywords.iter().filter_map(keyword));
        databases.push(built_in.database);
    }
    let is_empty = databases.is_empty();
    let mut compile = |own: &[Signature]| -> Result<(), RulesetError> {
        cancellation.check()?;
        let set = PatternSet::new(own).map_err(EngineError::from)?;
        encoded_keywords.extend(keywords_of(&set));
        databases.push(SignatureDatabase::compile(&set.patterns, own.len(), cache)?);
        Ok(())
    };
    let at_once = if hold_values { VALUES_AT_ONCE } else { usize::MAX };
    own.chunks(at_once).try_for_each(&mut compile)?;
    if is_empty && own.is_empty() {
        compile(own)?;
    }
    Ok((Engine::new(databases), encoded_keywords))
}

fn keywords_of(set: &PatternSet) -> impl Iterator<Item = (Encoding, usize)> {
    set.encoded_keywords.iter().map(|keyword| (keyword.encoding, keyword.width))
}

/// The patterns of rules of other scanners, and their indexes among the signatures. Rules with invalid patterns are
/// removed.
fn foreign(ruleset: &mut Ruleset) -> (Vec<usize>, Vec<Pattern>) {
    let (mut places, mut patterns, mut invalid) = (Vec::new(), Vec::new(), Vec::new());
    for (place, rule) in ruleset.signatures.iter().enumerate().filter(|(_, rule)| rule.foreign.is_some()) {
        match Pattern::new(&rule.id, &rule.pattern) {
            // The invalid rules before this one will be removed.
            Ok(pattern) => {
                places.push(place - invalid.len());
                patterns.push(pattern);
            }
            Err(_) => invalid.push(place),
        }
    }
    leave_out(ruleset, &invalid);
    (places, patterns)
}

/// Removes the rules at the indexes `places` from `ruleset`, with a warning. Returns whether there were any.
fn leave_out(ruleset: &mut Ruleset, places: &[usize]) -> bool {
    let mut ids = Vec::new();
    let mut index = 0;
    ruleset.signatures.retain(|rule| {
        let is_out = places.contains(&index);
        index += 1;
        if is_out {
            ids.push(rule.id.clone());
        }
        !is_out
    });
    if !ids.is_empty() {
        ruleset.notes.push(format!("not loaded, because the engine refuses the expression: {}", ids.join(", ")));
    }
    !ids.is_empty()
}
