//! The gate: reads a body, scans its parts, and decides.

use std::collections::HashSet;
use std::mem;
use std::sync::Arc;

use layersift_model::{GapReason, Limits, Severity};
use layersift_scan::{Analyzer, Scope};

use crate::cache::{DeniedParts, PartCache};
use crate::collect::{Collected, Marks, collect};
use crate::conversation::{Content, Conversation, Part, Role, Segment, Source, Turn, Unseen};
use crate::copy::Edits;
use crate::form::{Form, read, read_again, read_passed_through};
use crate::json::{Node, Unreadable};
use crate::outcome::{Found, Outcome, Subject};
use crate::pointers::ROOT;
use crate::policy::{Action, Policy};
use crate::sighting::{Direction, Sighting, Witness};
use crate::strings::FoundInStrings;
use crate::url;
use crate::verdict::{Decision, Place, Reason, Verdict};

/// The most reasons of one verdict.
const MOST_REASONS: usize = 100;

/// The most reasons that are kept until the heaviest of them are chosen, and the most values that are masked.
const MOST_KEPT: usize = 10_000;
const MOST_MASKED: usize = 10_000;

/// The title of what cannot be read.
const UNREADABLE: &str = "a body that cannot be read";

/// What is not scanned, and the mask in place of it.
const INCOMPLETE: &str = "prompt.incomplete";

/// How often a copy is masked before the gate gives up: a mask may uncover a secret that overlapped with another.
const MOST_ROUNDS: usize = 4;

/// Checks bodies with one set of rules. Many threads may share a gate.
pub struct Gate {
    analyzer: Arc<Analyzer>,
    /// What identifies the rules.
    rules: String,
    cache: PartCache,
    denied: DeniedParts,
    witness: Option<Arc<dyn Witness>>,
}

/// Who asks, and what holds for them.
#[derive(Clone, Copy, Debug)]
pub struct Client<'c> {
    /// The name of the client. Clients do not share what is remembered.
    pub name: &'c str,
    /// What the client may send and get.
    pub policy: &'c Policy,
}

impl Gate {
    /// A gate with the rules of `analyzer` that remembers what it found in `remembered` parts; 0 remembers nothing.
    /// Create the analyzer with the [limits](Gate::limits) for bodies.
    pub fn new(analyzer: Arc<Analyzer>, remembered: usize) -> Gate {
        let rules = analyzer.layer_key();
        Gate { analyzer, rules, cache: PartCache::new(remembered), denied: DeniedParts::default(), witness: None }
    }

    /// The same gate, which tells `witness` what secrets it sees.
    pub fn told_to(self, witness: Arc<dyn Witness>) -> Gate {
        Gate { witness: Some(witness), ..self }
    }

    /// Limits for the files in bodies, which are small and hostile.
    pub fn limits() -> Limits {
        Limits { findings_per_file: 200, archive_members: 10_000, archive_bytes: 64 << 20, ..Limits::default() }
    }

    /// Checks a body: as `form`, or as the form that it seems to have.
    pub fn check(&self, body: &[u8], form: Option<Form>, client: Client<'_>) -> Verdict {
        let policy = client.policy;
        if body.len() > policy.max_bytes {
            return Gate::too_large(policy.max_bytes);
        }
        match read(body, form) {
            Ok(conversation) => self.check_conversation(&conversation, client),
            Err(error) => denied("prompt.unreadable", UNREADABLE, error),
        }
    }

    /// The verdict about a body with more than `most` bytes.
    pub fn too_large(most: usize) -> Verdict {
        denied("prompt.too-large", "a body that is too large", Unreadable::TooLarge(most))
    }

    /// The verdict about a body that cannot be read for a reason that its envelope tells.
    pub fn unreadable(why: &str) -> Verdict {
        let reasons = vec![about_body("prompt.unreadable", UNREADABLE, why.into(), Action::Deny)];
        Verdict { decision: Decision::Deny, reasons, copy: None, tokens: 0, is_answer: false }
    }

    /// The verdict about a request whose answer would pass before anything could be said about it.
    pub fn unseen_answer(why: &str) -> Verdict {
        let reasons =
            vec![about_body("prompt.unseen-answer", "an answer that cannot be checked", why.into(), Action::Deny)];
        Verdict { decision: Decision::Deny, reasons, copy: None, tokens: 0, is_answer: false }
    }

    /// Checks a body that was read.
    pub fn check_conversation(&self, conversation: &Conversation<'_>, client: Client<'_>) -> Verdict {
        let mut judged = self.judge(conversation, client);
        self.tell(&judged.reasons, client, conversation.model.as_deref(), conversation.is_answer);
        judged.add_limits(conversation, client.policy);
        let tokens = conversation.tokens();
        let decision = judged.decision();
        if decision == Decision::Deny {
            self.remember_denied(conversation, &judged, client);
        }
        let copy = match decision {
            Decision::Mask => self.masked(conversation, judged.edits, client),
            Decision::Allow | Decision::Deny => None,
        };
        let mut reasons = judged.reasons;
        let decision = if decision == Decision::Mask && copy.is_none() {
            reasons.push(about_body(
                INCOMPLETE,
                "a copy that still has secrets",
                "masking did not remove all of them".into(),
                Action::Deny,
            ));
            Decision::Deny
        } else {
            decision
        };
        Verdict { decision, reasons: tidy(reasons), copy, tokens, is_answer: conversation.is_answer }
    }

    /// Checks the path and the query of a request, which can only be allowed or denied.
    pub fn check_url(&self, url: &str, client: Client<'_>) -> Verdict {
        if url.len() > client.policy.max_bytes {
            return Gate::too_large(client.policy.max_bytes);
        }
        let verdict = self.check_conversation(&url::read(url.as_bytes()), client);
        // Its size in tokens is not that of a prompt.
        Verdict { tokens: 0, ..verdict }
    }

    /// Checks a body that LiteLLM passes through to an API, as it shows it to a guardrail. `None` if it is not one.
    pub fn check_passed_through(&self, body: &[u8], client: Client<'_>) -> Option<Verdict> {
        Some(self.check_conversation(&read_passed_through(body)?, client))
    }

    /// Checks a file, such as one that a prompt mentions. It can only be allowed or denied.
    pub fn check_file(&self, path: &str, bytes: &[u8], client: Client<'_>) -> Verdict {
        let policy = client.policy;
        if bytes.len() > policy.max_bytes {
            return denied("prompt.too-large", "a file that is too large", Unreadable::TooLarge(policy.max_bytes));
        }
        let content = Content::Data { bytes: bytes.to_vec(), pointer: ROOT, source: Source::Fixed, media_type: None };
        let part = Part::of_user(crate::Kind::Data, content);
        let outcome = self.remembered(client, Subject::File { path, bytes });
        let mut judged = Judged::default();
        judged.add(&part, part.turn, &outcome, self, policy, &[]);
        self.tell(&judged.reasons, client, None, false);
        let reasons = tidy(judged.reasons);
        let is_denied = reasons.iter().any(|reason| reason.action == Action::Deny);
        let decision = if is_denied { Decision::Deny } else { Decision::Allow };
        Verdict { decision, reasons, copy: None, tokens: (bytes.len() as u64).div_ceil(4), is_answer: false }
    }

    /// What is in a text, which is not remembered.
    pub(crate) fn scan_text(&self, text: &str) -> Outcome {
        Outcome::of(Subject::Text(text.as_bytes()), &self.analyzer)
    }

    /// Tells the witness what secrets were found. What is no secret, is published or is damaged, is not told.
    pub(crate) fn tell(&self, reasons: &[Reason], client: Client<'_>, model: Option<&str>, is_answer: bool) {
        let Some(witness) = &self.witness else { return };
        let secrets = reasons.iter().filter(|reason| reason.severity > Severity::Info);
        let mut secrets = secrets.filter_map(|reason| Some((reason, reason.fingerprint.as_deref()?))).peekable();
        if secrets.peek().is_none() {
            return;
        }
        // Gateways name clients and models as they were told to by others.
        let is_harmless = |name: &&str| !name.contains(char::is_control) && self.scan_text(name).found.is_empty();
        let (client, model) = (Some(client.name).filter(is_harmless), model.filter(is_harmless));
        for (reason, fingerprint) in secrets {
            let direction = match &reason.place {
                Some(place) => Direction::of(place.role, place.turn, is_answer),
                None => Direction::of(Role::Unknown, Turn::Newest, is_answer),
            };
            witness.saw(&Sighting { fingerprint, rule: &reason.rule, direction, client, model });
        }
    }

    /// Whether a finding counts in a part with these rules for prompts.
    pub(crate) fn counts(&self, found: &Found, scope: Scope) -> bool {
        self.analyzer.counts_in(&found.rule.id, scope)
    }

    /// What is in a document besides the values that `marks` leave out, and what to change in it.
    pub(crate) fn check_document(&self, body: &[u8], document: &Node<'_>, marks: &Marks, client: Client<'_>) -> Judged {
        let Collected { parts, unseen, .. } = collect(body, document, marks);
        let (model, is_answer) = (None, true);
        let conversation =
            Conversation { form: Form::Json, parts, pieces: Vec::new(), unseen, model, is_answer, body, _room: None };
        self.judge(&conversation, client)
    }

    fn judge(&self, conversation: &Conversation<'_>, client: Client<'_>) -> Judged {
        let mut judged = Judged::default();
        let (inner, written): (Vec<_>, Vec<_>) = conversation.parts.iter().partition(|part| part.is_inner());
        for part in written.into_iter().chain(inner) {
            let outcome = self.remembered(client, Subject::of(part));
            let turn = if self.was_denied(part, client) { Turn::History } else { part.turn };
            judged.add(part, turn, &outcome, self, client.policy, conversation.body);
        }
        for part in &conversation.pieces {
            let outcome = self.remembered(client, Subject::of(part));
            judged.add_crossing(part, &outcome, self, client.policy, conversation.body);
        }
        for unseen in &conversation.unseen {
            judged.add_unseen(unseen, client.policy, conversation.body);
        }
        judged.hide_names();
        judged
    }

    /// Whether a part that is new by its place was denied before. Clients join what a person writes after a denial into
    /// the same message.
    fn was_denied(&self, part: &Part<'_>, client: Client<'_>) -> bool {
        part.is_followed && part.turn == Turn::Newest && self.denied.has(&scope(client, &self.rules), Subject::of(part))
    }

    fn remember_denied(&self, conversation: &Conversation<'_>, judged: &Judged, client: Client<'_>) {
        let denied: HashSet<&str> = judged.denied().collect();
        let scope = scope(client, &self.rules);
        for part in conversation.parts.iter().filter(|part| part.turn == Turn::Newest && part.role == Role::User) {
            if denied.contains(&part.pointer_at(0)[..]) {
                self.denied.add(&scope, Subject::of(part));
            }
        }
    }

    fn remembered(&self, client: Client<'_>, subject: Subject<'_>) -> Arc<Outcome> {
        let key =
            if self.cache.is_worth(subject) { self.cache.key(&scope(client, &self.rules), subject) } else { None };
        if let Some(outcome) = key.and_then(|key| self.cache.get(&key)) {
            return outcome;
        }
        let outcome = Arc::new(Outcome::of(subject, &self.analyzer));
        if let Some(key) = key {
            self.cache.insert(key, &outcome);
        }
        outcome
    }

    /// The copy with masks, which was checked again; `None` if it still has secrets.
    fn masked(&self, conversation: &Conversation<'_>, edits: Edits, client: Client<'_>) -> Option<Vec<u8>> {
        let mut copy = edits.apply(conversation.body);
        for _ in 0..MOST_ROUNDS {
            let again = read_again(&copy, Some(conversation.form)).ok()?;
            let judged = self.judge(&again, client);
            if judged.edits.is_empty() {
                let is_clean = judged.decision() == Decision::Allow;
                return is_clean.then_some(copy);
            }
            let next = judged.edits.apply(&copy);
            copy = next;
        }
        None
    }
}

/// What was found, and what to change.
#[derive(Default)]
pub(crate) struct Judged {
    pub(crate) reasons: Vec<Reason>,
    pub(crate) edits: Edits,
    /// The pointers of members whose names have a secret.
    names: HashSet<String>,
    strings: FoundInStrings,
}

impl Judged {
    fn add(&mut self, part: &Part<'_>, turn: Turn, outcome: &Outcome, gate: &Gate, policy: &Policy, body: &[u8]) {
        for found in outcome.found.iter().filter(|found| gate.counts(found, part.scope())) {
            self.add_found(part, turn, found, policy, body);
        }
        self.add_gaps(part, turn, outcome, policy, body);
    }

    /// Adds what lies over several strings: the rest was found in them.
    fn add_crossing(&mut self, part: &Part<'_>, outcome: &Outcome, gate: &Gate, policy: &Policy, body: &[u8]) {
        let Content::Text { segments, .. } = &part.content else { return };
        let is_crossing = |found: &Found| {
            let inside = |one: &Segment| one.range().start <= found.span.start && found.span.end <= one.range().end;
            !segments.iter().any(inside)
        };
        for found in outcome.found.iter().filter(|found| gate.counts(found, part.scope()) && is_crossing(found)) {
            self.add_found(part, part.turn, found, policy, body);
        }
        self.add_gaps(part, part.turn, outcome, policy, body);
    }

    fn add_gaps(&mut self, part: &Part<'_>, turn: Turn, outcome: &Outcome, policy: &Policy, body: &[u8]) {
        let gaps = outcome.gaps.iter().map(|gap| describe(*gap));
        for why in gaps.chain(outcome.unseen.iter().map(|unseen| unseen.describe())) {
            let all = 0..part.text().map_or(0, str::len);
            let action = self.unscanned(turn, policy, |edits| edits.mask(part, &all, INCOMPLETE, body));
            let place = Some(Place { turn, ..place(part, 0, Vec::new(), Vec::new()) });
            self.push(Reason { place, ..incomplete(why.into(), action) });
        }
    }

    fn add_unseen(&mut self, unseen: &Unseen, policy: &Policy, body: &[u8]) {
        let Unseen { pointer, why, turn, source, block } = unseen;
        let action = self.unscanned(*turn, policy, |edits| edits.mask_value(source, block.as_ref(), INCOMPLETE, body));
        self.push(incomplete(format!("{pointer}: {}", why.describe()), action));
    }

    /// What to do about something that was not scanned. In the history it is masked as a whole if it can be: it would
    /// deny the chat for ever.
    fn unscanned(&mut self, turn: Turn, policy: &Policy, mask: impl FnOnce(&mut Edits) -> bool) -> Action {
        let is_masked = turn == Turn::History && policy.incomplete == Action::Deny && mask(&mut self.edits);
        if is_masked { Action::Mask } else { policy.unscanned() }
    }

    fn add_found(&mut self, part: &Part<'_>, turn: Turn, found: &Found, policy: &Policy, body: &[u8]) {
        let mut action = policy.action_in(part.kind, &found.rule, found.severity, turn);
        let mut note = found.note.clone();
        if action == Action::Mask && self.edits.len() >= MOST_MASKED {
            action = Action::Deny;
            note = Some("there is too much to mask".into());
        }
        if action == Action::Mask && !self.edits.mask(part, &found.span, &found.rule.id, body) {
            action = Action::Deny;
            note = Some("it cannot be masked where it is".into());
        }
        if self.strings.covers(part, found, body) {
            return;
        }
        self.strings.note(part, found);
        self.note_names(part, found);
        self.push(Reason {
            action,
            rule: found.rule.id.clone(),
            title: found.rule.title.clone(),
            severity: found.severity,
            place: Some(Place { turn, ..place(part, found.span.start, found.inside.clone(), found.views.clone()) }),
            masked: found.masked.clone(),
            fingerprint: found.fingerprint.clone(),
            note,
        });
    }

    fn push(&mut self, reason: Reason) {
        if self.reasons.len() >= MOST_KEPT {
            self.reasons = tidy(mem::take(&mut self.reasons));
        }
        self.reasons.push(reason);
    }

    fn note_names(&mut self, part: &Part<'_>, found: &Found) {
        let Content::Text { segments, .. } = &part.content else { return };
        let touched = segments.iter().filter(|one| one.touches(&found.span));
        self.names.extend(touched.filter(|one| matches!(one.source, Source::Name)).map(|one| part.pointer_of(one)));
    }

    /// Cuts the names that have a secret off the pointers.
    fn hide_names(&mut self) {
        if self.names.is_empty() {
            return;
        }
        for pointer in self.reasons.iter_mut().filter_map(|reason| Some(&mut reason.place.as_mut()?.pointer)) {
            let ends = pointer.match_indices('/').map(|(at, _)| at).skip(1).chain([pointer.len()]);
            let named = ends.filter_map(|end| pointer.get(..end)).find(|name| self.names.contains(*name));
            if let Some(parent) = named.map(|name| name.rfind('/').unwrap_or(0)) {
                pointer.truncate(parent);
                pointer.push_str("/\u{2026}");
            }
        }
    }

    fn add_limits(&mut self, conversation: &Conversation<'_>, policy: &Policy) {
        let tokens = conversation.tokens();
        if let Some(most) = policy.max_tokens.filter(|most| tokens > *most) {
            let note = format!("about {tokens}, at most {most}");
            self.reasons.push(about_body("prompt.too-many-tokens", "too many tokens", note, Action::Deny));
        }
    }

    /// The pointers of what is denied.
    fn denied(&self) -> impl Iterator<Item = &str> {
        let denied = self.reasons.iter().filter(|reason| reason.action == Action::Deny);
        denied.filter_map(|reason| Some(&reason.place.as_ref()?.pointer[..]))
    }

    fn decision(&self) -> Decision {
        match self.reasons.iter().map(|reason| reason.action).max() {
            Some(Action::Deny) => Decision::Deny,
            Some(Action::Mask) => Decision::Mask,
            Some(Action::Report) | None => Decision::Allow,
        }
    }
}

/// What names client, policy and rules.
fn scope(client: Client<'_>, rules: &str) -> String {
    format!("{:?} {:?} {rules}", client.name, client.policy)
}

/// The reasons in the order of their weight. What was found in a string and in the data that it holds is one reason.
fn tidy(mut reasons: Vec<Reason>) -> Vec<Reason> {
    reasons.sort_by(|a, b| b.action.cmp(&a.action).then(b.severity.cmp(&a.severity)));
    let mut seen = HashSet::new();
    reasons.retain(|reason| {
        let key =
            (&reason.rule, &reason.fingerprint, reason.place.as_ref().map(|place| (&place.pointer, &place.inside)));
        reason.fingerprint.is_none() || seen.insert(format!("{key:?}"))
    });
    reasons.truncate(MOST_REASONS);
    reasons
}

fn place(part: &Part<'_>, offset: usize, inside: Vec<String>, views: Vec<String>) -> Place {
    let pointer = part.pointer_at(offset);
    Place { role: part.role, kind: part.kind, turn: part.turn, pointer, inside, views }
}

pub(crate) fn about_body(rule: &str, title: &str, note: String, action: Action) -> Reason {
    Reason {
        action,
        rule: rule.into(),
        title: title.into(),
        severity: Severity::High,
        place: None,
        masked: None,
        fingerprint: None,
        note: Some(note),
    }
}

/// Something that was not scanned.
pub(crate) fn incomplete(note: String, action: Action) -> Reason {
    about_body(INCOMPLETE, "something that was not scanned", note, action)
}

/// A gap, for people. Details of gaps may name files of the body.
fn describe(gap: GapReason) -> &'static str {
    gap.name()
}

fn denied(rule: &str, title: &str, error: Unreadable) -> Verdict {
    let reasons = vec![about_body(rule, title, error.to_string(), Action::Deny)];
    Verdict { decision: Decision::Deny, reasons, copy: None, tokens: 0, is_answer: false }
}
