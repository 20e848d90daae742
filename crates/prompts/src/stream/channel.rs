//! One text that arrives in pieces: the text of an answer, or the arguments of a call of a tool.

use std::ops::Range;

use super::holdback::safe_end;
use crate::conversation::{Kind, Role, Turn, scope};
use crate::copy::{mask, masked};
use crate::gate::{Client, Gate};
use crate::outcome::{Found, Outcome};
use crate::policy::Action;
use crate::verdict::{Place, Reason};

/// The bytes before the waiting text that are scanned with it: names of values stand there.
pub(super) const CONTEXT: usize = 512;

/// The most bytes that wait. A private key of 8,192 bits takes 6 KiB.
pub(super) const MOST_WAITING: usize = 16 << 10;

/// A text that arrives in pieces.
#[derive(Debug, Default)]
pub(crate) struct Channel {
    /// The end of what was passed on, with its masks: what was masked must not be found again.
    passed: String,
    waiting: String,
}

/// What becomes of the text that arrived.
#[derive(Debug)]
pub(crate) enum Step {
    /// This may be passed on, after masks for these reasons.
    Pass(String, Vec<Reason>),
    /// The stream has to end.
    Cut(Box<Reason>),
}

impl Channel {
    /// A text that begins with `start`, which has passed.
    pub(crate) fn after(start: &str) -> Channel {
        let start = start.get(floor(start, start.len().saturating_sub(CONTEXT))..).unwrap_or_default();
        Channel { passed: start.into(), waiting: String::new() }
    }

    /// Adds a piece, and returns what may be passed on.
    pub(crate) fn push(&mut self, piece: &str, kind: Kind, gate: &Gate, client: Client<'_>) -> Step {
        self.waiting.push_str(piece);
        let mut safe = safe_end(&self.waiting);
        if self.waiting.len() - safe > MOST_WAITING {
            safe = floor(&self.waiting, self.waiting.len() - MOST_WAITING / 2);
        }
        if safe == 0 {
            return Step::Pass(String::new(), Vec::new());
        }
        self.release(safe, kind, gate, client)
    }

    /// Passes on what waits: no more follows.
    pub(crate) fn finish(&mut self, kind: Kind, gate: &Gate, client: Client<'_>) -> Step {
        self.release(self.waiting.len(), kind, gate, client)
    }

    /// Whether anything waits.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// The bytes that it holds.
    pub(crate) fn len(&self) -> usize {
        self.passed.capacity() + self.waiting.capacity()
    }

    fn release(&mut self, safe: usize, kind: Kind, gate: &Gate, client: Client<'_>) -> Step {
        let before = self.passed.len();
        let window = format!("{}{}", self.passed, self.waiting);
        let mut outcome = gate.scan_text(&window);
        let scope = scope(Role::Assistant, kind);
        outcome.found.retain(|found| gate.counts(found, scope));
        let (safe, ranges, reasons) = match decide(&outcome, before, safe, kind, client) {
            Ok(decided) => decided,
            Err(reason) => return Step::Cut(reason),
        };
        let text = self.waiting.get(..safe).unwrap_or_default();
        let out = masked(text, ranges);
        self.passed.push_str(&out);
        let start = floor(&self.passed, self.passed.len().saturating_sub(CONTEXT));
        self.passed = self.passed.get(start..).unwrap_or_default().into();
        self.waiting = self.waiting.get(safe..).unwrap_or_default().into();
        Step::Pass(out, reasons)
    }
}

type Decided = (usize, Vec<(Range<usize>, String)>, Vec<Reason>);

/// What may pass of a window, whose first `before` bytes have passed: the bytes after them, masks and reasons. An error
/// ends the stream.
fn decide(
    outcome: &Outcome,
    before: usize,
    mut safe: usize,
    kind: Kind,
    client: Client<'_>,
) -> Result<Decided, Box<Reason>> {
    let policy = client.policy;
    if let Some(gap) = outcome.gaps.first() {
        let reason = crate::gate::incomplete(gap.name().into(), policy.unscanned());
        if reason.action == Action::Deny {
            return Err(Box::new(reason));
        }
    }
    let acts = |found: &&Found| policy.action_in(kind, &found.rule, found.severity, Turn::Newest) > Action::Report;
    // What begins in the part that may pass and ends after it has not arrived as a whole.
    for found in outcome.found.iter().filter(acts).filter(|found| found.span.start >= before) {
        if found.span.start < before + safe && found.span.end > before + safe {
            safe = found.span.start - before;
        }
    }
    let (mut ranges, mut reasons) = (Vec::new(), Vec::new());
    for found in outcome.found.iter().filter(|found| found.span.start < before + safe) {
        let mut action = policy.action_in(kind, &found.rule, found.severity, Turn::Newest);
        // What makes a command of a text that has passed may come after it. One that was there before ended the stream.
        let is_late = found.masked.is_none() && action > Action::Report;
        if found.span.end <= before && !is_late {
            continue;
        }
        if action == Action::Mask && found.span.start < before {
            action = Action::Deny;
        }
        let reason = reason(found, action, kind);
        match action {
            Action::Deny => return Err(Box::new(reason)),
            Action::Mask => ranges.push((found.span.start - before..found.span.end - before, mask(&found.rule.id))),
            // It is reported once, where it begins.
            Action::Report if found.span.start < before => continue,
            Action::Report => {}
        }
        reasons.push(reason);
    }
    Ok((safe, ranges, reasons))
}

pub(super) fn reason(found: &Found, action: Action, kind: Kind) -> Reason {
    Reason {
        action,
        rule: found.rule.id.clone(),
        title: found.rule.title.clone(),
        severity: found.severity,
        place: Some(Place {
            role: Role::Assistant,
            kind,
            turn: Turn::Newest,
            pointer: String::new(),
            inside: Vec::new(),
            views: found.views.clone(),
        }),
        masked: found.masked.clone(),
        fingerprint: found.fingerprint.clone(),
        note: found.note.clone(),
    }
}

pub(super) fn floor(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}
