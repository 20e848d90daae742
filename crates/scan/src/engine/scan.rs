//! Scans windows for candidates. The engine reports which pattern matches up to which offset, but not where a match
//! begins.
//!
//! Patterns are compiled in block mode without start-of-match, which is several times faster. A pattern reports every
//! possible end of a match; consecutive ends become one candidate.

use std::sync::{Arc, Mutex, PoisonError};

use hyperscan::prelude::*;
use hyperscan::{PatternFlags, Patterns};

use super::beginnings::Beginnings;
use super::cache::Cache;
use super::error::EngineError;
use layersift_rules::Pattern;

/// A possible match of a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The index of the pattern in the list that the engine was compiled from.
    pub pattern: usize,
    /// The first possible end of the match, as an offset in the window.
    pub first_end: usize,
    /// The last possible end.
    pub last_end: usize,
}

/// The number of candidates after which a scan is interrupted and resumed, which bounds memory.
const CANDIDATES_AT_ONCE: usize = 1 << 16;

/// A compiled set of patterns, shared by all threads.
pub struct Engine {
    parts: Vec<Part>,
    beginnings: Vec<Beginnings>,
    patterns: usize,
    widest: usize,
    idle: Mutex<Vec<Session>>,
}

/// A database, and the patterns of its expression ids: ids below `split` count from `low`, the others from `high`.
struct Part {
    database: Arc<BlockDatabase>,
    split: usize,
    low: usize,
    high: usize,
}

impl Part {
    fn pattern(&self, number: usize) -> usize {
        if number < self.split { self.low + number } else { self.high + (number - self.split) }
    }
}

/// A database of signatures that follow each other, and of the encoded keywords of these.
pub struct SignatureDatabase {
    pub(super) database: Arc<BlockDatabase>,
    /// The length of the longest possible match, in bytes.
    pub(super) widest: usize,
    /// The number of signatures, whose expressions come first.
    pub signatures: usize,
    /// The number of encoded keywords.
    pub encoded_keywords: usize,
    /// The keywords that begin patterns; `None` for rules of users.
    pub(super) beginnings: Option<Beginnings>,
}

impl SignatureDatabase {
    /// Compiles `patterns`, of which the first ones are those of `signatures`, for the processor of this machine, or
    /// loads them from `cache`.
    ///
    /// # Errors
    /// If Hyperscan rejects a pattern; the message is that of Hyperscan.
    pub fn compile(
        patterns: &[Pattern],
        signatures: usize,
        cache: Option<&Cache>,
    ) -> Result<SignatureDatabase, EngineError> {
        Ok(SignatureDatabase {
            database: Arc::new(database(patterns, cache)?),
            widest: patterns.iter().map(Pattern::width).max().unwrap_or(0),
            signatures,
            encoded_keywords: patterns.len().saturating_sub(signatures),
            beginnings: None,
        })
    }
}

/// The scratch memory of one scanning thread, borrowed from the engine.
pub struct Session {
    /// One for each part.
    scratches: Vec<Scratch>,
    /// One for each set of keywords that begin patterns, once they are counted.
    counting: Vec<Scratch>,
    /// For each pattern, the first and last of the current run of ends; the last is 0 if there is no run.
    runs: Vec<(usize, usize)>,
    hit: Vec<usize>,
    /// The ends of matches in the current bytes so far.
    ends: u64,
}

impl Engine {
    /// An engine of `databases`, whose signatures are numbered in this order, and after all of them the encoded
    /// keywords. More than one, because compiling a database of all patterns would take seconds, which is more than
    /// another pass over the bytes takes.
    pub fn new(databases: Vec<SignatureDatabase>) -> Engine {
        let all: usize = databases.iter().map(|one| one.signatures).sum();
        let (mut low, mut high, mut widest) = (0, all, 0);
        let mut parts = Vec::with_capacity(databases.len());
        let beginnings = databases.iter().filter_map(|one| one.beginnings).collect();
        for one in databases {
            let SignatureDatabase { database, signatures: split, .. } = one;
            parts.push(Part { database, split, low, high });
            (low, high, widest) = (low + one.signatures, high + one.encoded_keywords, one.widest.max(widest));
        }
        Engine { parts, beginnings, patterns: high, widest, idle: Mutex::default() }
    }

    /// The indexes of the `patterns` that Hyperscan rejects, according to `cache`; empty if not cached.
    pub fn known_to_be_refused(patterns: &[Pattern], cache: Option<&Cache>) -> Vec<usize> {
        cache.and_then(|cache| cache.refused(patterns)).unwrap_or_default()
    }

    /// The indexes of the `patterns` that Hyperscan rejects. Unless cached, this compiles each by itself.
    pub fn refused(patterns: &[Pattern], cache: Option<&Cache>) -> Vec<usize> {
        let is_refused = |place: &usize| compile_now(&patterns[*place..=*place]).is_err();
        let refused: Vec<usize> = (0..patterns.len()).filter(is_refused).collect();
        if let Some(cache) = cache {
            cache.keep_refused(patterns, &refused);
        }
        refused
    }

    /// Takes an idle session, or creates one.
    ///
    /// # Errors
    /// If memory runs out.
    pub fn session(&self) -> Result<Session, EngineError> {
        if let Some(session) = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop() {
            return Ok(session);
        }
        let failed = |error: hyperscan::Error| EngineError::Scan(error.to_string());
        let scratch = |part: &Part| part.database.alloc_scratch().map_err(failed);
        let scratches = self.parts.iter().map(scratch).collect::<Result<_, _>>()?;
        Ok(Session { scratches, counting: Vec::new(), runs: vec![(0, 0); self.patterns], hit: Vec::new(), ends: 0 })
    }

    /// Returns a session to the engine for reuse.
    pub fn give_back(&self, session: Session) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(session);
    }

    /// Appends all candidates in `bytes` to `found`, in no particular order. Returns the number of ends of matches that
    /// Hyperscan reported: many are few candidates where one follows the other.
    ///
    /// # Errors
    /// If Hyperscan itself fails.
    pub fn scan(&self, session: &mut Session, bytes: &[u8], found: &mut Vec<Candidate>) -> Result<u64, EngineError> {
        session.ends = 0;
        (0..self.parts.len()).try_for_each(|part| self.scan_part(part, session, bytes, found))?;
        Ok(session.ends)
    }

    /// How many patterns Hyperscan begins in `bytes` at keywords, of which most come to nothing. The same bytes begin
    /// the same.
    ///
    /// # Errors
    /// If memory runs out, or Hyperscan itself fails.
    pub fn begun(&self, session: &mut Session, bytes: &[u8]) -> Result<u64, EngineError> {
        if session.counting.is_empty() {
            session.counting = self.beginnings.iter().map(|one| one.scratch()).collect::<Result<_, _>>()?;
        }
        self.beginnings.iter().zip(&session.counting).map(|(one, scratch)| one.count(bytes, scratch)).sum()
    }

    fn scan_part(
        &self,
        part: usize,
        session: &mut Session,
        bytes: &[u8],
        found: &mut Vec<Candidate>,
    ) -> Result<(), EngineError> {
        // Hyperscan has 32-bit block lengths.
        const BLOCK: usize = 1 << 30;
        let mut from = 0;
        let mut done = 0;
        while done < bytes.len() {
            let block = &bytes[from..bytes.len().min(from + BLOCK)];
            let scanned = from + self.scan_block(part, session, Block { bytes: block, base: from, done }, found)?;
            if scanned >= bytes.len() {
                break;
            }
            done = scanned.max(done + 1);
            from = done.saturating_sub(self.widest + 1);
        }
        Ok(())
    }

    /// Scans a block with one part. Returns the offset that the scan reached.
    fn scan_block(
        &self,
        part: usize,
        session: &mut Session,
        Block { bytes: block, base, done }: Block<'_>,
        found: &mut Vec<Candidate>,
    ) -> Result<usize, EngineError> {
        let Session { scratches, runs, hit, ends, .. } = session;
        let (part, scratch) = (&self.parts[part], &scratches[part]);
        let room = found.len() + CANDIDATES_AT_ONCE;
        let mut stopped_at = None;
        let mut last = 0;
        let outcome = part.database.scan(block, scratch, |id: u32, _: u64, end: u64, _: u32| {
            let (id, end) = (id as usize, end as usize);
            *ends += 1;
            if found.len() + hit.len() >= room && end > last {
                stopped_at = Some(last);
                return Matching::Terminate;
            }
            last = end;
            if base + end > done {
                note(runs, hit, found, part.pattern(id), base + end);
            }
            Matching::Continue
        });
        for pattern in hit.drain(..) {
            let (first_end, last_end) = std::mem::take(&mut runs[pattern]);
            found.push(Candidate { pattern, first_end, last_end });
        }
        match (outcome, stopped_at) {
            (_, Some(end)) => Ok(end),
            (Ok(()), None) => Ok(block.len()),
            (Err(error), None) => Err(EngineError::Scan(error.to_string())),
        }
    }
}

/// A block that begins at offset `base`, to be scanned for ends after offset `done`.
struct Block<'b> {
    bytes: &'b [u8],
    base: usize,
    done: usize,
}

/// Adds an end to the run of its pattern, or closes the run and opens another.
fn note(runs: &mut [(usize, usize)], hit: &mut Vec<usize>, found: &mut Vec<Candidate>, pattern: usize, end: usize) {
    let Some(run) = runs.get_mut(pattern) else { return };
    if run.1 == 0 {
        hit.push(pattern);
        *run = (end, end);
    } else if end <= run.1 + 1 {
        run.1 = run.1.max(end);
    } else {
        found.push(Candidate { pattern, first_end: run.0, last_end: run.1 });
        *run = (end, end);
    }
}

/// Loads the database of `patterns` from the cache, or compiles and saves it.
fn database(patterns: &[Pattern], cache: Option<&Cache>) -> Result<BlockDatabase, EngineError> {
    if let Some(kept) = cache.and_then(|cache| cache.load(patterns)) {
        return Ok(kept);
    }
    let compiled = compile_now(patterns)?;
    if let Some(cache) = cache {
        cache.keep(patterns, &compiled);
    }
    Ok(compiled)
}

fn compile_now(patterns: &[Pattern]) -> Result<BlockDatabase, EngineError> {
    let compile = |error: &dyn std::fmt::Display| EngineError::Compile(error.to_string());
    let set: Patterns = patterns
        .iter()
        .enumerate()
        .map(|(id, pattern)| {
            let mut compiled = hyperscan::Pattern::with_flags(pattern.expression(), PatternFlags::empty())
                .map_err(|error| compile(&error))?;
            compiled.id = Some(id);
            Ok(compiled)
        })
        .collect::<Result<_, EngineError>>()?;
    set.build().map_err(|error| compile(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn engine(patterns: &[&str]) -> Engine {
        let patterns: Vec<Pattern> = patterns.iter().map(|source| Pattern::new("test.rule", source).unwrap()).collect();
        Engine::new(vec![SignatureDatabase::compile(&patterns, patterns.len(), None).unwrap()])
    }

    fn candidates(engine: &Engine, bytes: &[u8]) -> Vec<Candidate> {
        let mut session = engine.session().unwrap();
        let mut found = Vec::new();
        engine.scan(&mut session, bytes, &mut found).unwrap();
        engine.give_back(session);
        found
    }

    #[test]
    fn consecutive_ends_are_one_candidate() {
        let engine = engine(&["key_[a-z]{4,20}", "nothing"]);
        let found = candidates(&engine, b".. key_abcdefgh .. key_abcd");
        assert_eq!(
            found,
            [
                Candidate { pattern: 0, first_end: 11, last_end: 15 },
                Candidate { pattern: 0, first_end: 27, last_end: 27 },
            ]
        );
    }

    #[test]
    fn patterns_of_several_databases_are_numbered_signatures_first() {
        let database = |sources: &[&str], signatures| {
            let patterns: Vec<Pattern> = sources.iter().map(|one| Pattern::new("test.rule", one).unwrap()).collect();
            SignatureDatabase::compile(&patterns, signatures, None).unwrap()
        };
        let engine =
            Engine::new(vec![database(&["s0", "s1", "k0"], 2), database(&["s2", "k1", "k2"], 1), database(&["s3"], 1)]);
        let mut found: Vec<(usize, usize)> =
            candidates(&engine, b"s0 s1 s2 s3 k0 k1 k2").iter().map(|one| (one.pattern, one.last_end)).collect();
        found.sort_unstable();
        assert_eq!(found, [(0, 2), (1, 5), (2, 8), (3, 11), (4, 14), (5, 17), (6, 20)]);
    }

    #[test]
    fn a_flood_of_candidates_is_scanned_in_parts_and_nothing_is_lost() {
        let engine = engine(&["ab", "b"]);
        let bytes = b"ab-".repeat(CANDIDATES_AT_ONCE);
        let found = candidates(&engine, &bytes);
        for pattern in 0..2 {
            let mut ends: Vec<usize> = found.iter().filter(|c| c.pattern == pattern).map(|c| c.last_end).collect();
            ends.sort_unstable();
            assert!(ends.iter().copied().eq((0..CANDIDATES_AT_ONCE).map(|i| i * 3 + 2)), "pattern {pattern}");
        }
    }
}
