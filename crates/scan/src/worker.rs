//! What one thread scans bytes with: the engine, the confirmer, and the decoding of what is encoded.

use std::collections::HashMap;
use std::ops::Range;

use crate::compiled_rules::CompiledRules;
use crate::confirm::{Confirmed, Matches};
use crate::disguise;
use crate::disguise::{Decoded, Disguise};
use crate::engine::{Candidate, EngineError, Session};

/// How many disguises may be worn over each other.
const DEPTH: usize = 4;

/// Bytes that are decoded for each byte that is scanned, at most, and some more: a bound on hostile input, which may be
/// read in several ways at once, over and over.
const DECODED_PER_BYTE: usize = 4;
const DECODED_AT_LEAST: usize = 1 << 20;

/// Decoded bytes at the cut end of a run that are decoded again with what follows: nothing is lost there.
const AGAIN: usize = 16 << 10;

/// The engine and the buffers of one thread, given back when dropped.
pub(crate) struct ScanWorker<'r> {
    rules: &'r CompiledRules,
    session: Option<Session>,
}

impl CompiledRules {
    /// What a thread scans with.
    pub(crate) fn worker(&self) -> Result<ScanWorker<'_>, EngineError> {
        Ok(ScanWorker { rules: self, session: Some(self.engine().session()?) })
    }
}

impl ScanWorker<'_> {
    /// Puts everything confirmed in `bytes` that begins inside `owned` into `found`. Returns whether all was decoded
    /// that is written in disguise.
    pub(crate) fn scan(
        &mut self,
        bytes: &[u8],
        owned: &Range<usize>,
        found: &mut Matches,
    ) -> Result<bool, EngineError> {
        let Some(session) = &mut self.session else { return Ok(true) };
        let budget = DECODED_AT_LEAST + bytes.len() * DECODED_PER_BYTE;
        let mut pass = Pass { rules: self.rules, session, budget };
        pass.scan(bytes, owned, 0, found)?;
        Ok(pass.budget > 0)
    }
}

impl Drop for ScanWorker<'_> {
    fn drop(&mut self) {
        if let Some(session) = self.session.take() {
            self.rules.engine().give_back(session);
        }
    }
}

/// One pass over some bytes and all that is decoded from them.
struct Pass<'p> {
    rules: &'p CompiledRules,
    session: &'p mut Session,
    /// Bytes that may still be decoded.
    budget: usize,
}

impl Pass<'_> {
    fn scan(
        &mut self,
        bytes: &[u8],
        owned: &Range<usize>,
        depth: usize,
        found: &mut Matches,
    ) -> Result<(), EngineError> {
        let mut candidates = Vec::new();
        self.rules.engine().scan(self.session, bytes, &mut candidates)?;
        if candidates.is_empty() {
            return Ok(());
        }
        self.rules.confirm(bytes, owned, &mut candidates, found);
        if depth < DEPTH && !candidates.is_empty() {
            self.decode(bytes, owned, depth, &candidates, found)?;
        }
        Ok(())
    }

    /// Decodes what stands around `anchors`, which are in order, and scans it.
    fn decode(
        &mut self,
        bytes: &[u8],
        owned: &Range<usize>,
        depth: usize,
        anchors: &[Candidate],
        found: &mut Matches,
    ) -> Result<(), EngineError> {
        // Up to where the bytes were decoded in each way of reading them.
        let mut done: HashMap<(Disguise, usize), usize> = HashMap::new();
        for (disguise, anchor) in anchors.iter().filter_map(|candidate| self.rules.anchor(*candidate)) {
            let reading = reading(disguise, anchor.start);
            if done.get(&reading).is_some_and(|done| anchor.start < *done) || self.budget == 0 {
                continue;
            }
            let run = disguise::decode(bytes, &anchor, disguise);
            let end = if run.cut { run.span.end.saturating_sub(AGAIN) } else { run.span.end };
            done.insert(reading, end.max(anchor.end));
            self.budget = self.budget.saturating_sub(run.bytes.len());
            let mut inside = Matches::default();
            self.scan(&run.bytes, &(0..run.bytes.len()), depth + 1, &mut inside)?;
            let inside = inside.confirmed.into_iter();
            found.confirmed.extend(inside.filter_map(|one| outside(one, &run, disguise, owned)));
        }
        Ok(())
    }
}

/// Anchors of one reading of the bytes decode to the same; those of another alignment do not.
fn reading(disguise: Disguise, start: usize) -> (Disguise, usize) {
    match disguise {
        Disguise::Base64 { digit } => (Disguise::Base64 { digit: 0 }, (start + 4 - usize::from(digit)) % 4),
        Disguise::Hex | Disguise::Utf16Le | Disguise::Utf16Be => (disguise, start % 2),
        Disguise::Backslash | Disguise::Percent | Disguise::Entity | Disguise::ByteList => (disguise, 0),
    }
}

/// What was confirmed in a decoded run, as found in the bytes that it was decoded from.
fn outside(one: Confirmed, run: &Decoded, disguise: Disguise, owned: &Range<usize>) -> Option<Confirmed> {
    let span = run.origin(&one.span);
    if !owned.contains(&span.start) {
        return None;
    }
    let mut views = one.views;
    views.insert(0, disguise.name());
    Some(Confirmed { span, views, ..one })
}
