//! A rule set, compiled: the engine that proposes, the confirmer that decides, and what reports say of each rule.

use std::ops::Range;
use std::sync::Arc;

use crate::assemble::chains::Chains;
use crate::assemble::config::Checks;
use crate::confirm::files::{FileRules, LocalSignatures};
use crate::confirm::{Confirmed, Confirmer, Matches, Worth};
use crate::disguise::Disguise;
use crate::engine::{Cache, Candidate, EncodedAnchor, Engine, EngineError, Pattern};
use layersift_model::{RuleInfo, Severity};
use layersift_rules::{FileRule, PatternSet, Ruleset, Signature};

use crate::RulesetError;

/// A compiled rule set, shared by all threads of a scan and by all scans.
pub(crate) struct CompiledRules {
    pub(crate) signatures: Vec<Signature>,
    infos: Vec<Arc<RuleInfo>>,
    /// What is said of files that do not belong in an image, and what tells them.
    file_infos: Vec<Arc<RuleInfo>>,
    pub(crate) files: FileRules,
    pub(crate) local: LocalSignatures,
    pub(crate) checks: Checks,
    pub(crate) chains: Chains,
    pub(crate) digest: String,
    /// What of the rules is left out.
    pub(crate) notes: Vec<String>,
    engine: Engine,
    /// Anchors are patterns behind those of the signatures.
    anchors: Anchors,
    confirmer: Confirmer,
}

impl CompiledRules {
    /// Compiles `ruleset`, with what of it is in `cache`. What the engine refuses is left out and noted where it comes
    /// from another scanner, whose authors could not know of it, and is an error otherwise.
    pub(crate) fn compile(mut ruleset: Ruleset, cache: Option<&Cache>) -> Result<CompiledRules, RulesetError> {
        let (places, patterns) = foreign(&mut ruleset);
        if patterns.is_empty() {
            return CompiledRules::compile_all(ruleset, cache);
        }
        let leave_out_refused = |ruleset: &mut Ruleset, refused: Vec<usize>| {
            let out: Vec<usize> = refused.into_iter().filter_map(|at| places.get(at).copied()).collect();
            leave_out(ruleset, &out)
        };
        if leave_out_refused(&mut ruleset, Engine::known_to_be_refused(&patterns, cache)) {
            return CompiledRules::compile_all(ruleset, cache);
        }
        match CompiledRules::compile_all(ruleset.clone(), cache) {
            Err(RulesetError::Engine(_)) if leave_out_refused(&mut ruleset, Engine::refused(&patterns, cache)) => {
                CompiledRules::compile_all(ruleset, cache)
            }
            outcome => outcome,
        }
    }

    fn compile_all(ruleset: Ruleset, cache: Option<&Cache>) -> Result<CompiledRules, RulesetError> {
        let digest = ruleset.digest();
        let proven = ruleset.built_in_signatures();
        // Each of these takes some milliseconds, and the first byte waits for all of them.
        let ((engine, confirmer), (local, (files, checks))) = rayon::join(
            || (engine(&ruleset.signatures, cache), Confirmer::new(&ruleset.signatures, proven, &ruleset.known_keys)),
            || {
                let others = || (FileRules::new(&ruleset.files), Checks::new(&ruleset.ports, &ruleset.checks));
                rayon::join(|| LocalSignatures::new(&ruleset.signatures), others)
            },
        );
        let (engine, anchors) = engine?;
        let infos: Vec<Arc<RuleInfo>> = ruleset.signatures.iter().map(Signature::info).collect();
        Ok(CompiledRules {
            infos,
            file_infos: ruleset.files.iter().map(FileRule::info).collect(),
            files: files?,
            local: local?,
            checks: checks?,
            chains: Chains::new(ruleset.chains),
            digest,
            notes: ruleset.notes,
            engine,
            anchors,
            confirmer: confirmer?,
            signatures: ruleset.signatures,
        })
    }

    /// What reports say of a finding.
    pub(crate) fn info(&self, confirmed: &Confirmed) -> Arc<RuleInfo> {
        Arc::clone(&self.infos[confirmed.rule])
    }

    /// How bad a finding is: that of its rule, unless it turned out to be no secret.
    pub(crate) fn severity(&self, confirmed: &Confirmed) -> Severity {
        match confirmed.worth {
            Worth::Secret => self.infos[confirmed.rule].severity,
            Worth::Published | Worth::Damaged => Severity::Info,
        }
    }

    /// What reports say of a file that `rule` speaks of.
    pub(crate) fn file_info(&self, rule: usize) -> Arc<RuleInfo> {
        Arc::clone(&self.file_infos[rule])
    }

    /// Whether the signature `rule` holds in the file at `path`; the configuration has no path.
    pub(crate) fn holds_at(&self, rule: usize, path: Option<&[u8]>) -> bool {
        self.confirmer.holds_at(rule, path.unwrap_or_default())
    }

    /// Puts what the signature `rule` finds in `bytes`, beginning inside `owned`, into `found`.
    pub(crate) fn search(&self, rule: usize, bytes: &[u8], owned: &Range<usize>, found: &mut Matches) {
        self.confirmer.search(rule, bytes, owned, found);
    }

    /// The engine, for those who scan with it.
    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Confirms the candidates of signatures, and leaves those of anchors behind in the order of their ends.
    pub(crate) fn confirm(
        &self,
        bytes: &[u8],
        owned: &Range<usize>,
        candidates: &mut Vec<Candidate>,
        found: &mut Matches,
    ) {
        let first_anchor = self.signatures.len();
        candidates.sort_unstable_by_key(|candidate| (candidate.pattern >= first_anchor, candidate.first_end));
        let anchors = candidates.partition_point(|candidate| candidate.pattern < first_anchor);
        self.confirmer.confirm(bytes, owned, &mut candidates[..anchors], found);
        candidates.drain(..anchors);
    }

    /// Where the anchor of `candidate` is, and how what stands around it is written.
    pub(crate) fn anchor(&self, candidate: Candidate) -> Option<(Disguise, Range<usize>)> {
        let (disguise, width) = self.anchors.get(candidate.pattern.checked_sub(self.signatures.len())?)?;
        Some((*disguise, candidate.first_end.checked_sub(*width)?..candidate.first_end))
    }
}

/// How what stands around an anchor is written, and how long the anchor is.
type Anchors = Vec<(Disguise, usize)>;

/// The engine for `signatures`, and the anchors whose patterns are behind theirs: compiled with the program, or now.
fn engine(signatures: &[Signature], cache: Option<&Cache>) -> Result<(Engine, Anchors), EngineError> {
    let Some((engine, codes, count)) = Engine::built_in(signatures) else {
        let set = PatternSet::new(signatures)?;
        return Ok((Engine::compile(&set.patterns, cache)?, anchors_of(&set).collect()));
    };
    let anchor = |((number, digit), width): &EncodedAnchor| Some((Disguise::of_code(*number, *digit)?, *width));
    let mut anchors: Anchors = codes.iter().filter_map(anchor).collect();
    let own = &signatures[count..];
    if own.is_empty() {
        return Ok((engine, anchors));
    }
    let set = PatternSet::new(own)?;
    anchors.extend(anchors_of(&set));
    Ok((engine.with(count, (&set.patterns, own.len()), cache)?, anchors))
}

fn anchors_of(set: &PatternSet) -> impl Iterator<Item = (Disguise, usize)> {
    set.anchors.iter().map(|anchor| (anchor.disguise, anchor.width))
}

/// The patterns of rules from other scanners' files, and their places among the signatures. Those that are none are
/// taken out.
fn foreign(ruleset: &mut Ruleset) -> (Vec<usize>, Vec<Pattern>) {
    let (mut places, mut patterns, mut none) = (Vec::new(), Vec::new(), Vec::new());
    for (place, rule) in ruleset.signatures.iter().enumerate().filter(|(_, rule)| rule.foreign.is_some()) {
        match Pattern::new(&rule.id, &rule.pattern) {
            // Those in front of it that are none will be gone.
            Ok(pattern) => {
                places.push(place - none.len());
                patterns.push(pattern);
            }
            Err(_) => none.push(place),
        }
    }
    leave_out(ruleset, &none);
    (places, patterns)
}

/// Takes the rules at `places` out of `ruleset`, with a note; whether there were any.
fn leave_out(ruleset: &mut Ruleset, places: &[usize]) -> bool {
    let mut ids = Vec::new();
    let mut place = 0;
    ruleset.signatures.retain(|rule| {
        let is_out = places.contains(&place);
        place += 1;
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
