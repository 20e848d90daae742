//! Scans bytes on one thread: finds candidates, confirms them, and decodes and scans encoded data.

use std::collections::HashMap;
use std::ops::Range;

use layersift_format::compression::is_zeros;
use layersift_model::{Gap, GapReason};

use crate::compiled_rules::CompiledRules;
use crate::confirm::keys::effort::WindowEffort;
use crate::confirm::{Confirmed, Matches};
use crate::decoding;
use crate::decoding::{Decoded, Encoding};
use crate::engine::{Candidate, EngineError, Session};
use crate::layer_work::{CANDIDATE, begun, scanned};

/// The maximum number of nested encodings.
const MAX_DEPTH: usize = 4;

/// The decoding limit of a buffer: bytes decoded per byte scanned, plus a constant. Hostile input could otherwise be
/// decoded many times, in several encodings.
const DECODED_PER_BYTE: usize = 4;
const DECODED_AT_LEAST: usize = 1 << 20;

/// The work after which nothing more of a buffer is decoded, whatever its size, and for each of its bytes. What is
/// decoded may begin as many patterns as other text, and be decoded again: a window of nothing but an encoded keyword
/// would take many times this. Text that is encoded as a whole takes far less, and so does a short one that is encoded
/// several times.
const DECODING_WORK: u64 = 128 << 20;
const DECODING_WORK_PER_BYTE: u64 = 256;

/// Bytes at the end of a truncated run that are decoded again with the bytes that follow, so no match is lost there.
const OVERLAP: usize = 16 << 10;

/// The fewest zeros that the engine does not look at, where no pattern is found in zeros.
const ZEROS: usize = 64 << 10;

/// The engine session of one thread, returned when dropped.
pub(crate) struct ScanWorker<'r> {
    rules: &'r CompiledRules,
    session: Option<Session>,
    work: u64,
    counts_begun: bool,
}

impl CompiledRules {
    /// A worker for one thread.
    pub(crate) fn worker(&self) -> Result<ScanWorker<'_>, EngineError> {
        Ok(ScanWorker { rules: self, session: Some(self.engine().session()?), work: 0, counts_begun: true })
    }

    /// Whether no pattern is found in a row of zeros, which is looked up once: rules of users may have some that are.
    fn ignores_zeros(&self) -> Result<bool, EngineError> {
        if let Some(known) = self.ignores_zeros.get() {
            return Ok(*known);
        }
        let (mut session, mut found) = (self.engine().session()?, Vec::new());
        let outcome = self.engine().scan(&mut session, &[0; ZEROS], &mut found);
        self.engine().give_back(session);
        outcome.map(|_| *self.ignores_zeros.get_or_init(|| found.is_empty()))
    }
}

impl ScanWorker<'_> {
    /// Sets whether it is counted what the engine begins in bytes. In what is decoded from them, it always is.
    pub(crate) fn count_begun(&mut self, counts: bool) {
        self.counts_begun = counts;
    }

    /// Appends all confirmed matches that begin inside `owned` to `found`. Returns the gap of what was not read:
    /// encoded data, or keys.
    pub(crate) fn scan(
        &mut self,
        bytes: &[u8],
        owned: &Range<usize>,
        found: &mut Matches,
    ) -> Result<Option<Gap>, EngineError> {
        if bytes.len() >= ZEROS && is_zeros(bytes) && self.rules.ignores_zeros()? {
            return Ok(None);
        }
        let Some(session) = &mut self.session else { return Ok(None) };
        let _effort = WindowEffort::begin(bytes.len());
        let budget = DECODED_AT_LEAST + bytes.len() * DECODED_PER_BYTE;
        let most_work = DECODING_WORK + bytes.len() as u64 * DECODING_WORK_PER_BYTE;
        let counts_begun = self.counts_begun;
        let mut pass = BufferScan { rules: self.rules, session, budget, most_work, counts_begun, work: 0 };
        let outcome = pass.scan(bytes, owned, 0, found);
        self.work = self.work.saturating_add(pass.work);
        outcome?;
        let detail = match (pass.budget, found.has_unread_keys) {
            (0, _) => "encoded data exceeds the decoding limit; the rest was not decoded",
            (_, true) => "private keys and key stores exceed the limit of work; the rest was not read as keys",
            (_, false) => return Ok(None),
        };
        Ok(Some(Gap::new(GapReason::TooMuchEncoded, detail)))
    }

    /// Appends the matches of the local signature `rule` that begin inside `owned` to `found`.
    pub(crate) fn search(&mut self, rule: usize, bytes: &[u8], owned: &Range<usize>, found: &mut Matches) {
        self.rules.search(rule, bytes, owned, found);
        self.work = self.work.saturating_add(std::mem::take(&mut found.work));
    }

    /// Counts work besides that of scans.
    pub(crate) fn charge(&mut self, work: u64) {
        self.work = self.work.saturating_add(work);
    }

    /// The work of all scans so far; see [`crate::layer_work`].
    pub(crate) fn work(&self) -> u64 {
        self.work
    }
}

impl Drop for ScanWorker<'_> {
    fn drop(&mut self) {
        if let Some(session) = self.session.take() {
            self.rules.engine().give_back(session);
        }
    }
}

/// The scan of one buffer and of all bytes decoded from it.
struct BufferScan<'p> {
    rules: &'p CompiledRules,
    session: &'p mut Session,
    /// The bytes that may still be decoded.
    budget: usize,
    /// The work after which nothing is decoded.
    most_work: u64,
    counts_begun: bool,
    work: u64,
}

impl BufferScan<'_> {
    fn scan(
        &mut self,
        bytes: &[u8],
        owned: &Range<usize>,
        depth: usize,
        found: &mut Matches,
    ) -> Result<(), EngineError> {
        let mut candidates = Vec::new();
        let engine = self.rules.engine();
        let ends = engine.scan(self.session, bytes, &mut candidates)?;
        self.work = self.work.saturating_add(scanned(bytes, ends) + candidates.len() as u64 * CANDIDATE);
        if self.counts_begun || depth > 0 {
            self.work = self.work.saturating_add(begun(bytes, engine.begun(self.session, bytes)?));
        }
        if candidates.is_empty() {
            return Ok(());
        }
        self.rules.confirm(bytes, owned, &mut candidates, found);
        self.work = self.work.saturating_add(std::mem::take(&mut found.work));
        if depth < MAX_DEPTH && !candidates.is_empty() {
            self.decode(bytes, owned, depth, &candidates, found)?;
        }
        Ok(())
    }

    /// Decodes and scans the bytes around `keywords`, which are sorted by offset.
    fn decode(
        &mut self,
        bytes: &[u8],
        owned: &Range<usize>,
        depth: usize,
        keywords: &[Candidate],
        found: &mut Matches,
    ) -> Result<(), EngineError> {
        // The offset up to which the bytes were decoded, for each encoding and alignment.
        let mut done: HashMap<(Encoding, usize), usize> = HashMap::new();
        for (encoding, keyword) in keywords.iter().filter_map(|candidate| self.rules.encoded_keyword(*candidate)) {
            let alignment = alignment(encoding, keyword.start);
            if done.get(&alignment).is_some_and(|done| keyword.start < *done) {
                continue;
            }
            if self.work > self.most_work {
                self.budget = 0;
            }
            if self.budget == 0 {
                break;
            }
            let run = match self.rules.holds_values {
                true => decoding::decode_lines(bytes, &keyword, encoding),
                false => decoding::decode(bytes, &keyword, encoding),
            };
            let end = if run.cut { run.span.end.saturating_sub(OVERLAP) } else { run.span.end };
            done.insert(alignment, end.max(keyword.end));
            self.budget = self.budget.saturating_sub(run.bytes.len());
            let mut inside = Matches::default();
            self.scan(&run.bytes, &(0..run.bytes.len()), depth + 1, &mut inside)?;
            let has_unread_keys = inside.has_unread_keys;
            let inside = inside.confirmed.into_iter();
            found.has_unread_keys |= has_unread_keys;
            found.confirmed.extend(inside.filter_map(|one| outside(one, &run, encoding, owned)));
        }
        Ok(())
    }
}

/// The encoding and alignment of an encoded keyword. Encoded keywords with the same alignment decode to the same bytes.
fn alignment(encoding: Encoding, start: usize) -> (Encoding, usize) {
    match encoding {
        Encoding::Base64 { digit } => (Encoding::Base64 { digit: 0 }, (start + 4 - usize::from(digit)) % 4),
        Encoding::Hex | Encoding::Utf16Le | Encoding::Utf16Be => (encoding, start % 2),
        Encoding::Backslash | Encoding::Percent | Encoding::Entity | Encoding::ByteList => (encoding, 0),
    }
}

/// Maps a match in a decoded run to the bytes that the run was decoded from.
fn outside(one: Confirmed, run: &Decoded, encoding: Encoding, owned: &Range<usize>) -> Option<Confirmed> {
    let span = run.origin(&one.span);
    if !owned.contains(&span.start) {
        return None;
    }
    let mut views = one.views;
    views.insert(0, encoding.name());
    Some(Confirmed { span, views, ..one })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encoded_keywords_are_not_decoded_without_end() {
        let rules = CompiledRules::built_in();
        let mut worker = rules.worker().unwrap();
        let hex: Vec<u8> = b"secret_key".iter().flat_map(|byte| format!("{byte:02x}").into_bytes()).collect();
        let utf16: Vec<u8> = b"secret_key".iter().flat_map(|byte| [*byte, 0]).collect();
        let limit = DECODING_WORK + (512 << 10) * DECODING_WORK_PER_BYTE;
        let mut scan = |text: &[u8]| {
            let before = worker.work();
            let gap = worker.scan(text, &(0..text.len()), &mut Matches::default()).unwrap();
            (worker.work() - before, gap.map(|gap| gap.reason))
        };
        for unit in [hex, utf16] {
            let (work, gap) = scan(&unit.repeat((512 << 10) / unit.len()));
            // What is looked at before anything is decoded, and one run, may be beyond it.
            assert!(work < 4 * limit && gap == Some(GapReason::TooMuchEncoded), "{work} {gap:?}");
        }
        let settings = "[settings]\r\npassword = \"\"\r\nlevel = 1\r\nname = somebody else\r\n".repeat(4_000);
        let utf16: Vec<u8> = settings.bytes().flat_map(|byte| [byte, 0]).collect();
        let (work, gap) = scan(&utf16);
        assert!(work < limit && gap.is_none(), "{work} {gap:?}");
    }
}
