//! Expressions for short texts: candidates, secrets, paths. Each is compiled once, however many rules share it, and
//! only when it is first needed: a scan needs few of them.
//!
//! All of them together must not take much: a hostile image needs them all. So of the engines of `regex` only those are
//! compiled that are small.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use regex_syntax::hir::Hir;

use super::ConfirmError;
use super::scratch::Scratch;
use super::searcher::Searcher;
use crate::layer_work::SEARCHED;

/// The bytes of a compiled expression for which beginning a search takes one unit of work, and the most that it takes;
/// and the bytes for which each byte that is searched takes [`SEARCHED`] once more. Hostile text has the states of
/// expressions made again and again.
const BEGUN_FOR_ONE: u64 = 2;
const MOST_BEGUN: u64 = 8_000;
const SEARCHED_FOR_ONE: u64 = 200_000;

/// The work of each alternative of an expression that is tried at each byte, if that is more than [`SEARCHED`].
const TRIED: u64 = 3;

/// A match, and those of its groups that matched.
pub(super) type Groups<const N: usize> = (Range<usize>, [Option<Range<usize>>; N]);

/// An expression, shared by its clones.
#[derive(Clone)]
pub struct Expression(Arc<Inner>);

struct Inner {
    /// Its number among all expressions of a set.
    number: usize,
    source: Arc<str>,
    compiled: OnceLock<Compiled>,
}

/// What an expression is once it was needed.
struct Compiled {
    /// `None` for an expression that is invalid or too large.
    searcher: Option<Searcher>,
    /// The work of beginning a search, and that of each byte.
    begun: u64,
    searched: u64,
    /// The greatest length of a match in bytes; 0 if it has no limit.
    width: usize,
}

impl Expression {
    /// Whether `text` contains a match. An expression that is too large to compile never matches.
    pub(super) fn is_match(&self, text: &[u8], scratch: &mut Scratch) -> bool {
        scratch.work += self.work(text.len());
        self.searcher().is_some_and(|searcher| searcher.is_match(text, scratch))
    }

    /// The leftmost match in `text` that begins at or after `at`, and those of its groups `names` that matched.
    pub(super) fn groups_at<const N: usize>(
        &self,
        text: &[u8],
        at: usize,
        names: [&str; N],
        scratch: &mut Scratch,
    ) -> Option<Groups<N>> {
        let found = self.searcher()?.groups_at(text, at, names, scratch);
        let end = found.as_ref().map_or(text.len(), |(whole, _)| whole.end);
        scratch.work += self.work(end.saturating_sub(at));
        found
    }

    /// The greatest length of a match in bytes; 0 if it has no limit.
    pub(super) fn width(&self) -> usize {
        self.compiled().width
    }

    /// The work of searching `length` bytes.
    fn work(&self, length: usize) -> u64 {
        let compiled = self.compiled();
        compiled.begun + compiled.searched * length as u64
    }

    fn searcher(&self) -> Option<&Searcher> {
        self.compiled().searcher.as_ref()
    }

    fn compiled(&self) -> &Compiled {
        self.0.compiled.get_or_init(|| self.0.compile())
    }
}

impl Inner {
    /// Compiles the expression over bytes and without Unicode. It is parsed once, for its width as well: parsing a
    /// large one takes longer than a search.
    fn compile(&self) -> Compiled {
        let none = Compiled { searcher: None, begun: 0, searched: 0, width: 0 };
        let Ok(hir) = parse(&self.source) else { return none };
        let width = hir.properties().maximum_len().unwrap_or(0);
        let Some(searcher) = Searcher::new(self.number, Arc::clone(&self.source), hir) else {
            return Compiled { width, ..none };
        };
        let (size, tried) = (searcher.memory_usage() as u64, searcher.alternatives() as u64);
        let begun = (size / BEGUN_FOR_ONE).min(MOST_BEGUN);
        let searched = SEARCHED.max(TRIED * tried) + SEARCHED * size / SEARCHED_FOR_ONE;
        Compiled { searcher: Some(searcher), begun, searched, width }
    }
}

/// Parses the expression `source`, over bytes and without Unicode.
///
/// # Errors
/// If an expression is invalid.
pub fn parse(source: &str) -> Result<Hir, Box<regex_syntax::Error>> {
    regex_syntax::ParserBuilder::new().unicode(false).utf8(false).build().parse(source).map_err(Box::new)
}

/// The error for an invalid expression or glob of `rule`.
pub fn unreadable(rule: &str, expression: &str, reason: &dyn std::fmt::Display) -> ConfirmError {
    ConfirmError::Expression { rule: rule.into(), expression: expression.into(), reason: reason.to_string() }
}

/// Expressions by their source.
#[derive(Default)]
pub struct Expressions {
    known: HashMap<String, Expression>,
    /// Whether expressions are known to be valid and are not parsed before they are needed.
    are_valid: bool,
}

impl Expressions {
    /// Sets whether the expressions that follow are known to be valid.
    pub fn assume_valid(&mut self, are_valid: bool) {
        self.are_valid = are_valid;
    }

    /// The expression `source` of `rule`.
    ///
    /// # Errors
    /// If an expression is invalid.
    pub fn get(&mut self, rule: &str, source: &str) -> Result<Expression, ConfirmError> {
        if let Some(known) = self.known.get(source) {
            return Ok(known.clone());
        }
        if !self.are_valid {
            parse(source).map_err(|error| unreadable(rule, source, &error))?;
        }
        Ok(self.pattern(source))
    }

    /// The expression `source`, which the engine has accepted as a pattern.
    pub(super) fn pattern(&mut self, source: &str) -> Expression {
        if let Some(known) = self.known.get(source) {
            return known.clone();
        }
        let number = self.known.len();
        let expression = Expression(Arc::new(Inner { number, source: source.into(), compiled: OnceLock::new() }));
        self.known.insert(source.into(), expression.clone());
        expression
    }

    /// The expressions `sources` of `rule`.
    ///
    /// # Errors
    /// As for [`Expressions::get`].
    pub fn all(&mut self, rule: &str, sources: &[String]) -> Result<Vec<Expression>, ConfirmError> {
        sources.iter().map(|source| self.get(rule, source)).collect()
    }
}
