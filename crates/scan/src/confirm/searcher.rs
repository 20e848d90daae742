//! How one expression is searched for: by backtracking, or by a lazy automaton.
//!
//! The lazy automaton is the quickest for long texts. It makes its states while it searches, which takes longer than
//! all else for a candidate of a hundred bytes. Files that have one candidate of each of hundreds of expressions have
//! the states of all of them made again and again, because a thread keeps few. So an expression gets states when it has
//! searched 64 KiB without. Both engines find the leftmost match as `regex` does.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use regex_automata::hybrid::dfa::DFA;
use regex_automata::hybrid::regex::{Cache, Regex};
use regex_automata::nfa::thompson::backtrack::BoundedBacktracker;
use regex_automata::nfa::thompson::pikevm::PikeVM;
use regex_automata::nfa::thompson::{Compiler, Config, NFA, State, WhichCaptures};
use regex_automata::util::primitives::NonMaxUsize;
use regex_automata::{Anchored, Input, MatchKind, PatternID};
use regex_syntax::hir::Hir;

use super::expressions::{Groups, parse};
use super::factored::factored;
use super::scratch::Scratch;

/// The most bytes of a compiled expression, as `regex` has it.
const MOST_COMPILED: usize = 10 << 20;

/// The most bytes of the states that are made of one expression, in each direction.
const MOST_STATES: usize = 1 << 20;

/// How many bytes an expression searches before states are made for it.
const WITHOUT_STATES: usize = 64 << 10;

/// The engines of one expression.
pub(super) struct Searcher {
    /// The number of the expression in its set.
    number: usize,
    source: Arc<str>,
    backtracker: BoundedBacktracker,
    /// For texts that are too long for the backtracker, and have too many states.
    simulation: PikeVM,
    /// `None` for an expression that has none.
    lazy: OnceLock<Option<Regex>>,
}

/// The places where groups of a match begin and end, by the numbers of `regex`.
type Slots = Vec<Option<NonMaxUsize>>;

impl Searcher {
    /// Compiles `hir`, which is the expression `source` with `number` in its set; `None` if it is too large.
    pub(super) fn new(number: usize, source: Arc<str>, hir: Hir) -> Option<Searcher> {
        let nfa = Compiler::new().configure(config()).build_from_hir(&factored(hir)).ok()?;
        let backtracker = BoundedBacktracker::new_from_nfa(nfa.clone()).ok()?;
        let simulation = PikeVM::new_from_nfa(nfa).ok()?;
        Some(Searcher { number, source, backtracker, simulation, lazy: OnceLock::new() })
    }

    /// The bytes that the compiled expression takes.
    pub(super) fn memory_usage(&self) -> usize {
        self.nfa().memory_usage()
    }

    /// How many states are tried at each byte, at least.
    pub(super) fn alternatives(&self) -> usize {
        let states = self.nfa().states();
        let mut seen = vec![false; states.len()];
        let mut open = vec![self.nfa().start_anchored()];
        let mut count = 0;
        while let Some(id) = open.pop() {
            let (Some(seen), Some(state)) = (seen.get_mut(id.as_usize()), states.get(id.as_usize())) else { continue };
            if std::mem::replace(seen, true) {
                continue;
            }
            count += 1;
            match state {
                State::Union { alternates } => open.extend(alternates.iter().copied()),
                State::BinaryUnion { alt1, alt2 } => open.extend([*alt1, *alt2]),
                State::Look { next, .. } | State::Capture { next, .. } => open.push(*next),
                _ => {}
            }
        }
        count
    }

    /// Whether there is a match in `text`.
    pub(super) fn is_match(&self, text: &[u8], scratch: &mut Scratch) -> bool {
        self.search(&Input::new(text).earliest(true), &mut [], scratch)
    }

    /// The leftmost match in `text` that begins at or after `at`, and those of its groups `names` that matched.
    pub(super) fn groups_at<const N: usize>(
        &self,
        text: &[u8],
        at: usize,
        names: [&str; N],
        scratch: &mut Scratch,
    ) -> Option<Groups<N>> {
        let groups = self.nfa().group_info();
        let mut slots: Slots = vec![None; groups.slot_len()];
        if at > text.len() || !self.search(&Input::new(text).range(at..), &mut slots, scratch) {
            return None;
        }
        let span = |group: usize| -> Option<Range<usize>> {
            Some(slots.get(2 * group).copied()??.get()..slots.get(2 * group + 1).copied()??.get())
        };
        Some((span(0)?, names.map(|name| span(groups.to_index(PatternID::ZERO, name)?))))
    }

    /// Whether there is a match in `input`, whose groups are written to `slots`.
    fn search(&self, input: &Input<'_>, slots: &mut [Option<NonMaxUsize>], scratch: &mut Scratch) -> bool {
        let length = input.get_span().len();
        let is_short = length <= self.backtracker.max_haystack_len();
        if is_short && scratch.may_search_without_states(self.number, length, WITHOUT_STATES) {
            return self.search_without_states(input, slots, scratch);
        }
        let Some(lazy) = self.lazy.get_or_init(|| self.make_lazy()) else {
            return self.search_without_states(input, slots, scratch);
        };
        // The automaton gives up where text needs too many states.
        if slots.is_empty() {
            let search = |states: &mut Cache| lazy.forward().try_search_fwd(states.as_parts_mut().0, input);
            let found = scratch.with_states(self.number, lazy, search);
            return found.map_or_else(|_| self.search_without_states(input, slots, scratch), |found| found.is_some());
        }
        match scratch.with_states(self.number, lazy, |states| lazy.try_search(states, input)) {
            Ok(None) => false,
            Ok(Some(found)) => {
                let whole = input.clone().span(found.span()).anchored(Anchored::Yes);
                self.search_without_states(&whole, slots, scratch)
            }
            Err(_) => self.search_without_states(input, slots, scratch),
        }
    }

    fn search_without_states(
        &self,
        input: &Input<'_>,
        slots: &mut [Option<NonMaxUsize>],
        scratch: &mut Scratch,
    ) -> bool {
        let cache = scratch.backtracking(&self.backtracker);
        match self.backtracker.try_search_slots(cache, input, slots) {
            Ok(found) => found.is_some(),
            Err(_) => {
                let cache = scratch.simulating(self.number, &self.simulation);
                self.simulation.search_slots(cache, input, slots).is_some()
            }
        }
    }

    /// The lazy automaton, in both directions.
    fn make_lazy(&self) -> Option<Regex> {
        let hir = factored(parse(&self.source).ok()?);
        let backwards = config().reverse(true).which_captures(WhichCaptures::None);
        let backwards = Compiler::new().configure(backwards).build_from_hir(&hir).ok()?;
        // It gives up early, and at characters that it cannot read, as that of `regex` does.
        let config = DFA::config()
            .cache_capacity(MOST_STATES)
            .unicode_word_boundary(true)
            .minimum_cache_clear_count(Some(3))
            .minimum_bytes_per_state(Some(10));
        let forwards = DFA::builder().configure(config.clone()).build_from_nfa(self.nfa().clone()).ok()?;
        let backwards = DFA::builder().configure(config.match_kind(MatchKind::All)).build_from_nfa(backwards).ok()?;
        Some(Regex::builder().build_from_dfas(forwards, backwards))
    }

    fn nfa(&self) -> &NFA {
        self.backtracker.get_nfa()
    }
}

fn config() -> Config {
    NFA::config().utf8(false).nfa_size_limit(Some(MOST_COMPILED))
}

#[cfg(test)]
mod tests {
    use layersift_rules::Ruleset;

    use super::*;

    const NAMES: [&str; 4] = ["secret", "secret2", "value", "name"];

    /// What `regex` finds in `text` from `at` on.
    fn expected(regex: &regex::bytes::Regex, text: &[u8], at: usize) -> Option<Groups<4>> {
        let found = regex.captures_at(text, at)?;
        Some((found.get(0)?.range(), NAMES.map(|name| Some(found.name(name)?.range()))))
    }

    /// A thread's memory that has searched as much with the expression `number` as it may without states.
    fn with_states(number: usize) -> Scratch {
        let mut scratch = Scratch::default();
        assert!(!scratch.may_search_without_states(number, usize::MAX, WITHOUT_STATES));
        scratch
    }

    #[test]
    fn all_engines_find_what_regex_finds() {
        let filler = "key = token: x\n".repeat(1_000);
        for (number, rule) in Ruleset::built_in().unwrap().signatures.iter().enumerate() {
            let regex = regex::bytes::RegexBuilder::new(&rule.pattern).unicode(false).build().unwrap();
            let searcher = Searcher::new(number, rule.pattern[..].into(), parse(&rule.pattern).unwrap()).unwrap();
            let inputs = rule.examples.iter().map(|one| &one.input);
            for input in inputs.chain(rule.counterexamples.iter().map(|one| &one.input)) {
                let short = format!("{input}\n{input} ");
                // Without states, the backtracker reads the short one, and the simulation the long one.
                for text in [short.clone(), format!("{filler}{short}")] {
                    let (text, mut at) = (text.as_bytes(), 0);
                    loop {
                        let wanted = expected(&regex, text, at);
                        let mut found = vec![searcher.groups_at(text, at, NAMES, &mut with_states(number))];
                        found.push(searcher.groups_at(text, at, NAMES, &mut Scratch::default()));
                        assert!(found.iter().all(|found| *found == wanted), "{}: {found:?}, not {wanted:?}", rule.id);
                        for scratch in [&mut with_states(number), &mut Scratch::default()] {
                            assert_eq!(searcher.is_match(&text[at..], scratch), regex.is_match(&text[at..]));
                        }
                        let Some((whole, _)) = wanted else { break };
                        at = whole.end.max(whole.start + 1);
                    }
                }
            }
        }
    }

    #[test]
    fn texts_that_are_too_long_for_the_backtracker_are_simulated() {
        let source = "(?<secret>[ab]{20,400}x)y";
        let searcher = Searcher::new(0, source.into(), parse(source).unwrap()).unwrap();
        let text = [&b"ab".repeat(20_000)[..], b"xy"].concat();
        assert!(text.len() > searcher.backtracker.max_haystack_len());
        let mut slots = vec![None; searcher.nfa().group_info().slot_len()];
        assert!(searcher.search_without_states(&Input::new(&text), &mut slots, &mut Scratch::default()));
        let whole = slots[..2].iter().map(|slot| slot.map(NonMaxUsize::get)).collect::<Vec<_>>();
        assert_eq!(whole, [Some(text.len() - 402), Some(text.len())]);
    }
}
