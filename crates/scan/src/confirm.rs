//! Confirmation: decides which candidates of the engine are secrets. Most are not.
//!
//! A candidate is a pattern and the position where a match may end. The `regex` crate finds the start of the match and
//! its groups; then the conditions of the rule decide: entropy, a checksum in the token, a parser for a key, no
//! placeholder.

pub mod checksum;
pub mod cipher;
pub mod entropy;
pub mod expressions;
mod factored;
pub mod files;
mod globs;
pub mod jwt;
pub mod keys;
mod keywords;
mod passed;
pub mod placeholder;
mod time;

mod rule;
mod scratch;
mod searcher;

use std::collections::HashMap;
use std::ops::Range;

use crate::engine::Candidate;
use layersift_model::{Confidence, Digest, Secret};
use layersift_rules::{KnownKey, Signature};

use expressions::Expressions;
pub use rule::ConfirmError;
use rule::{CompiledRule, Judgement, Kind};
use scratch::{Scratch, ScratchPool};

/// The number of bytes from the start of a match that a parser may read: twice a private key in text.
pub const REACH: usize = 36 << 10;

/// The number of bytes before a match that its context (`\b`, the name of an assignment) may take.
pub const CONTEXT: usize = 512;

/// A confirmed match in a window.
#[derive(Clone, Debug)]
pub struct Confirmed {
    /// The index of the signature.
    pub rule: usize,
    /// The range of the secret in the window.
    pub span: Range<usize>,
    /// The secret.
    pub secret: Secret,
    /// A note for the report.
    pub note: Option<String>,
    /// What it is worth.
    pub verification: Verification,
    /// The encodings that the secret was decoded from, the outermost first.
    pub views: Vec<&'static str>,
}

/// What was confirmed in a window.
#[derive(Clone, Debug, Default)]
pub struct Matches {
    /// Secrets, and what has the form of one.
    pub confirmed: Vec<Confirmed>,
    /// The signature whose parser has to read the whole file, because something in the window calls for it.
    pub needs_whole_file: Option<usize>,
    /// Whether there may be keys that were not read, because too many were.
    pub has_unread_keys: bool,
    /// The work of confirming, until somebody counts it; see [`crate::layer_work`].
    pub work: u64,
}

impl Matches {
    /// Whether nothing was confirmed.
    pub fn is_empty(&self) -> bool {
        self.confirmed.is_empty() && self.needs_whole_file.is_none()
    }
}

/// What something that was confirmed is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verification {
    /// It is a secret.
    Secret,
    /// It is a key that anyone has.
    Published,
    /// It has the form of a secret and cannot be one as it stands: its checksum is wrong, or no key can be read from
    /// it.
    Damaged,
}

/// The confirming side of a set of signatures.
pub struct Confirmer {
    rules: Vec<CompiledRule>,
    /// For the expressions of all rules.
    scratch: ScratchPool,
    /// The publications of known keys, by the SHA-256 of their canonical form.
    known: HashMap<String, String>,
}

impl Confirmer {
    /// Compiles `signatures`; candidates refer to them by index. The expressions of the first `valid` signatures are
    /// known to be valid. `known` are keys that are published.
    ///
    /// # Errors
    /// If a rule names an unknown checksum or parser, or has an invalid expression.
    pub fn new(signatures: &[Signature], valid: usize, known: &[KnownKey]) -> Result<Confirmer, ConfirmError> {
        let mut expressions = Expressions::default();
        let compile = |(place, signature)| {
            expressions.assume_valid(place < valid);
            CompiledRule::new(signature, &mut expressions)
        };
        let rules = signatures.iter().enumerate().map(compile).collect::<Result<_, _>>()?;
        let known = known.iter().map(|key| (key.sha256.clone(), key.source.clone())).collect();
        Ok(Confirmer { rules, scratch: ScratchPool::default(), known })
    }

    /// Adds the confirmed `candidates` in `bytes` that begin inside `owned` to `found`.
    pub fn confirm(&self, bytes: &[u8], owned: &Range<usize>, candidates: &mut [Candidate], found: &mut Matches) {
        candidates.sort_unstable_by_key(|candidate| (candidate.pattern, candidate.first_end));
        if candidates.is_empty() {
            return;
        }
        self.scratch.with(|scratch| {
            for group in candidates.chunk_by(|a, b| a.pattern == b.pattern) {
                let Some(rule) = self.rules.get(group[0].pattern) else { continue };
                let (mut resume, mut rest) = (0, group);
                while let Some((candidate, others)) = joined(rest, rule.width()) {
                    resume = self.confirm_one(rule, bytes, owned, (candidate, resume), found, scratch);
                    rest = others;
                }
            }
            found.work += scratch.work + keys::effort::take();
        });
    }

    /// Adds all matches of `rule` in `bytes` that begin inside `owned` to `found`, without candidates of an engine.
    pub fn search(&self, rule: usize, bytes: &[u8], owned: &Range<usize>, found: &mut Matches) {
        let Some(compiled) = self.rules.get(rule) else { return };
        let everywhere = Candidate { pattern: rule, first_end: 0, last_end: bytes.len() };
        found.work += bytes.len() as u64;
        if !compiled.may_be_in(bytes) {
            return;
        }
        self.scratch.with(|scratch| {
            self.confirm_one(compiled, bytes, owned, (everywhere, 0), found, scratch);
            found.work += scratch.work + keys::effort::take();
        });
    }

    /// Whether `rule` applies to the file at `path`.
    pub fn holds_at(&self, rule: usize, path: &[u8]) -> bool {
        let places = self.rules.get(rule).and_then(|rule| rule.places.as_ref());
        places.is_none_or(|places| self.scratch.with(|scratch| places.holds(path, scratch)))
    }

    /// Searches for matches that end near the candidate, from `resume` on; returns the position to resume at.
    fn confirm_one(
        &self,
        rule: &CompiledRule,
        bytes: &[u8],
        owned: &Range<usize>,
        (candidate, resume): (Candidate, usize),
        found: &mut Matches,
        scratch: &mut Scratch,
    ) -> usize {
        let horizon = &bytes[..bytes.len().min(candidate.last_end + rule.width() + 1)];
        let mut at = resume.max(candidate.first_end.saturating_sub(rule.width()));
        // A match begins before the place where it may end.
        while at < candidate.last_end
            && let Some(one) = rule.match_at(horizon, at, scratch)
        {
            let Range { start, end } = one.whole;
            if start >= candidate.last_end {
                break;
            }
            let mut next = end.max(start + 1);
            if owned.contains(&start) {
                match rule.judge(bytes, one, scratch) {
                    Judgement::Confirmed { span, secret, note, kind } => {
                        next = next.max(span.end);
                        found.confirmed.push(self.confirmed(candidate.pattern, span, secret, note, kind));
                    }
                    Judgement::NeedsWholeFile => found.needs_whole_file = Some(candidate.pattern),
                    Judgement::Unread => found.has_unread_keys = true,
                    Judgement::Rejected => {}
                }
            }
            at = next;
        }
        at
    }

    fn confirmed(
        &self,
        rule: usize,
        span: Range<usize>,
        secret: Secret,
        note: Option<String>,
        kind: Kind,
    ) -> Confirmed {
        let source = if kind == Kind::Key { self.published(&secret) } else { None };
        let verification = match (kind, &source) {
            (Kind::Damaged, _) => Verification::Damaged,
            (_, Some(_)) => Verification::Published,
            (_, None) => Verification::Secret,
        };
        Confirmed { rule, span, secret, note: source.or(note), verification, views: Vec::new() }
    }

    /// A note with the publication of `key`, if it is published.
    fn published(&self, key: &Secret) -> Option<String> {
        let source = self.known.get(Digest::of(key.reveal()).hex())?;
        Some(format!("a published key, not a secret: {source}"))
    }
}

/// The first of `candidates`, sorted by where they begin, joined with all that are so near that the places where their
/// matches may begin overlap; and the others. A match has at most `width` bytes. A search for each of them would read
/// the same bytes again and again.
fn joined(candidates: &[Candidate], width: usize) -> Option<(Candidate, &[Candidate])> {
    let (first, others) = candidates.split_first()?;
    let mut joined = *first;
    let mut near = 0;
    while let Some(next) = others.get(near).filter(|next| next.first_end.saturating_sub(width) <= joined.last_end) {
        joined.last_end = joined.last_end.max(next.last_end);
        near += 1;
    }
    Some((joined, &others[near..]))
}

/// Drops findings that another finding in the same bytes makes redundant. Of findings with the same span, the one with
/// the highest confidence and severity stays. A finding of low confidence yields to any other that it overlaps. A
/// finding that was decoded from the bytes of another (the DER in a PEM key) only stays if it ranks higher. Damaged
/// secrets yield to all others. Rules for prompts hide only each other: they may not count where the text is from.
pub fn keep_best(signatures: &[Signature], found: &mut Vec<Confirmed>) {
    let for_prompts = |one: &mut Confirmed| !signatures[one.rule].scope.is_empty();
    let mut apart: Vec<_> = found.extract_if(.., for_prompts).collect();
    keep_best_of_kind(signatures, found);
    if !apart.is_empty() {
        keep_best_of_kind(signatures, &mut apart);
        found.append(&mut apart);
        found.sort_by_key(|one| (one.span.start, std::cmp::Reverse(one.span.end), one.rule));
    }
}

fn keep_best_of_kind(signatures: &[Signature], found: &mut Vec<Confirmed>) {
    let rank = |confirmed: &Confirmed| {
        let signature = &signatures[confirmed.rule];
        (signature.confidence, signature.severity)
    };
    let in_order = |a: &Confirmed, b: &Confirmed| {
        let spans = a.span.start.cmp(&b.span.start).then(b.span.end.cmp(&a.span.end));
        spans.then(rank(b).cmp(&rank(a))).then(a.rule.cmp(&b.rule))
    };
    found.sort_by(in_order);
    let mut damaged: Vec<_> = found.extract_if(.., |one| one.verification == Verification::Damaged).collect();
    let (low, mut kept): (Vec<_>, Vec<_>) = found.drain(..).partition(|c| rank(c).0 == Confidence::Low);
    kept.dedup_by(|next, first| next.span == first.span);
    drop_decoded(&mut kept, rank);
    let mut covered = Coverage::default();
    for confirmed in &kept {
        covered.add(&confirmed.span);
    }
    let mut until = 0;
    for confirmed in low {
        if confirmed.span.start >= until && !covered.overlaps(&confirmed.span) {
            until = confirmed.span.end;
            kept.push(confirmed);
        }
    }
    kept.sort_by(in_order);
    let mut taken = Coverage::default();
    for confirmed in &kept {
        taken.add(&confirmed.span);
    }
    damaged.dedup_by(|next, first| next.span == first.span);
    kept.extend(damaged.into_iter().filter(|one| !taken.overlaps(&one.span)));
    kept.sort_by(in_order);
    *found = kept;
}

/// Drops findings that were decoded from inside another. `found` is sorted by start.
fn drop_decoded<R: Ord>(found: &mut Vec<Confirmed>, rank: impl Fn(&Confirmed) -> R) {
    let mut around: Option<(Range<usize>, usize, R)> = None;
    found.retain(|one| {
        let inside = around.as_ref().is_some_and(|(span, views, surest)| {
            one.span.end <= span.end && one.views.len() > *views && rank(one) <= *surest
        });
        let ends = around.as_ref().map_or(0, |(span, ..)| span.end);
        if !inside && one.span.end > ends {
            around = Some((one.span.clone(), one.views.len(), rank(one)));
        }
        !inside
    });
}

/// Merged spans, which are added in the order of their starts.
#[derive(Default)]
struct Coverage(Vec<Range<usize>>);

impl Coverage {
    fn add(&mut self, span: &Range<usize>) {
        match self.0.last_mut() {
            Some(last) if span.start < last.end => last.end = last.end.max(span.end),
            _ => self.0.push(span.clone()),
        }
    }

    fn overlaps(&self, span: &Range<usize>) -> bool {
        let next = self.0.partition_point(|covered| covered.end <= span.start);
        self.0.get(next).is_some_and(|covered| covered.start < span.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate((first_end, last_end): (usize, usize)) -> Candidate {
        Candidate { pattern: 0, first_end, last_end }
    }

    /// The candidates that are searched for, with matches of at most 10 bytes.
    fn searched(ends: &[(usize, usize)]) -> Vec<(usize, usize)> {
        let all: Vec<Candidate> = ends.iter().copied().map(candidate).collect();
        let mut rest = &all[..];
        let mut found = Vec::new();
        while let Some((one, others)) = joined(rest, 10) {
            found.push((one.first_end, one.last_end));
            rest = others;
        }
        found
    }

    #[test]
    fn candidates_that_overlap_are_searched_for_together() {
        assert_eq!(searched(&[]), []);
        assert_eq!(searched(&[(20, 20), (30, 30), (41, 41)]), [(20, 30), (41, 41)]);
        assert_eq!(searched(&[(20, 90), (30, 40), (100, 100)]), [(20, 100)]);
        let near: Vec<(usize, usize)> = (0..10_000).map(|number| (6 * number, 6 * number)).collect();
        assert_eq!(searched(&near), [(0, 59_994)]);
    }
}
