//! A rule set, compiled: the engine that proposes, the confirmer that decides, and what reports say of each rule.

use std::sync::Arc;

use crate::assemble::chains::Chains;
use crate::assemble::config::Checks;
use crate::confirm::{Confirmed, Confirmer};
use crate::engine::{Candidate, Engine, EngineError, Pattern, Session};
use crate::finding::RuleInfo;
use crate::rule::{Severity, Signature};
use crate::ruleset::Ruleset;

use super::ScanError;

/// A compiled rule set, shared by all threads of a scan and by all scans.
pub(super) struct Rules {
    pub(super) signatures: Vec<Signature>,
    infos: Vec<Arc<RuleInfo>>,
    /// What is said of findings that are no secret: the same, without the severity.
    public: Vec<Arc<RuleInfo>>,
    pub(super) checks: Checks,
    pub(super) chains: Chains,
    pub(super) digest: String,
    engine: Engine,
    confirmer: Confirmer,
}

/// Buffers that one thread uses again from file to file.
pub(super) struct Hands<'r> {
    rules: &'r Rules,
    session: Option<Session>,
    candidates: Vec<Candidate>,
}

impl Rules {
    pub(super) fn compile(ruleset: Ruleset) -> Result<Rules, ScanError> {
        let digest = ruleset.digest();
        let patterns: Vec<Pattern> = ruleset
            .signatures
            .iter()
            .map(|signature| Pattern::new(&signature.id, &signature.pattern))
            .collect::<Result<_, EngineError>>()?;
        let infos: Vec<Arc<RuleInfo>> = ruleset.signatures.iter().map(Signature::info).collect();
        Ok(Rules {
            public: infos
                .iter()
                .map(|info| Arc::new(RuleInfo { severity: Severity::Info, ..(**info).clone() }))
                .collect(),
            infos,
            checks: Checks::new(&ruleset.ports, &ruleset.checks)?,
            chains: Chains::new(ruleset.chains),
            digest,
            engine: Engine::compile(&patterns)?,
            confirmer: Confirmer::new(&ruleset.signatures, &ruleset.known_keys)?,
            signatures: ruleset.signatures,
        })
    }

    /// What reports say of a finding.
    pub(super) fn info(&self, confirmed: &Confirmed) -> Arc<RuleInfo> {
        let infos = if confirmed.public { &self.public } else { &self.infos };
        Arc::clone(&infos[confirmed.rule])
    }

    /// What a thread scans with.
    pub(super) fn hands(&self) -> Result<Hands<'_>, EngineError> {
        Ok(Hands { rules: self, session: Some(self.engine.session()?), candidates: Vec::new() })
    }
}

impl Hands<'_> {
    /// Puts everything confirmed in `bytes` that begins inside `owned` into `found`.
    pub(super) fn scan(
        &mut self,
        bytes: &[u8],
        owned: &std::ops::Range<usize>,
        found: &mut Vec<Confirmed>,
    ) -> Result<(), EngineError> {
        let Some(session) = &mut self.session else { return Ok(()) };
        self.candidates.clear();
        self.rules.engine.scan(session, bytes, &mut self.candidates)?;
        if !self.candidates.is_empty() {
            self.rules.confirmer.confirm(bytes, owned, &mut self.candidates, found);
        }
        Ok(())
    }
}

impl Drop for Hands<'_> {
    fn drop(&mut self) {
        if let Some(session) = self.session.take() {
            self.rules.engine.give_back(session);
        }
    }
}
