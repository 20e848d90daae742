//! Streamed answers: server-sent events of the APIs of OpenAI and Anthropic are checked while they pass.
//!
//! Pieces of one text are joined, and what may be the beginning of a secret is held back until it is known what it is.
//! An event passes as it came, with the part of its text that may pass; what was held back follows in an event of the
//! same kind. Where it is not known what the strings of an event are, the event waits as a whole.

mod channel;
mod events;
mod holdback;
mod others;

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;

use self::channel::{Channel, Step};
use self::events::{ChannelId, Effect, effect};
use self::others::Others;
pub(crate) use self::others::others;
use crate::collect::{Mark, Marks};
use crate::conversation::Kind;
use crate::copy::Edits;
use crate::form::{mark_event, model_of};
use crate::gate::{Client, Gate, about_body};
use crate::json::{self, BYTE_ORDER_MARK, Span, quote};
use crate::policy::Action;
use crate::verdict::{Decision, Reason, Verdict};

/// The most bytes of one event.
const MOST_EVENT: usize = 8 << 20;

/// The bytes of an event that is not large.
const USUAL_EVENT: usize = 64 << 10;

/// The most texts of one answer.
const MOST_CHANNELS: usize = 256;

/// The most bytes of an event that is repeated with what was held back.
const MOST_TEMPLATE: usize = 16 << 10;

/// The data of the last event of OpenAI's streams.
const DONE: &str = "[DONE]";

/// The characters at the end of a growing text that have to be held back because they may begin a secret.
pub fn held_back(text: &str) -> usize {
    text.get(holdback::safe_end(text)..).unwrap_or_default().chars().count()
}

/// Checks one streamed answer.
#[derive(Debug, Default)]
pub struct StreamCheck {
    /// Bytes of an event whose end has not arrived.
    partial: Vec<u8>,
    /// Whether an event has arrived. There may be a byte order mark before the first.
    has_begun: bool,
    /// How many of these bytes were searched for the end of the event, and where the last line in them begins.
    searched: Searched,
    texts: BTreeMap<ChannelId, OpenText>,
    others: Others,
    /// What blocks and items begin with whose text goes on in other events.
    begun: BTreeMap<String, String>,
    is_cut: bool,
    reasons: Vec<Reason>,
    /// Reasons that the witness of the gate was not told yet.
    untold: Vec<Reason>,
    /// The model that the events name.
    model: Option<String>,
}

/// A text that may go on.
#[derive(Debug)]
struct OpenText {
    channel: Channel,
    kind: Kind,
    template: Template,
    /// Whether the answer has said that it does not go on. Some readers join what comes all the same.
    has_ended: bool,
}

impl OpenText {
    /// The same, of which nothing waits and only the context is left.
    fn ended(self) -> OpenText {
        OpenText { template: Template::default(), has_ended: true, ..self }
    }
}

/// An event with a piece of the text, of which others are made.
#[derive(Debug, Default)]
struct Template {
    name: Option<String>,
    data: String,
    /// The string with the piece.
    span: Range<usize>,
    /// The strings with pieces of other texts, which are not repeated.
    others: Vec<Range<usize>>,
}

impl StreamCheck {
    /// Checks the next bytes, and returns what may be passed on. After a denial, that ends with an error that both SDKs
    /// show, and nothing may follow.
    pub fn push(&mut self, bytes: &[u8], gate: &Gate, client: Client<'_>) -> Vec<u8> {
        let out = self.push_events(bytes, gate, client);
        self.tell(gate, client);
        out
    }

    fn push_events(&mut self, bytes: &[u8], gate: &Gate, client: Client<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        if self.is_cut {
            return out;
        }
        self.partial.extend_from_slice(bytes);
        while let Some(length) = self.searched.event_length(&self.partial) {
            let rest = self.partial.split_off(length);
            let event = std::mem::replace(&mut self.partial, rest);
            let is_first = !std::mem::replace(&mut self.has_begun, true);
            let event = event.strip_prefix(BYTE_ORDER_MARK).filter(|_| is_first).unwrap_or(&event);
            self.event(event, gate, client, &mut out);
            if self.is_cut {
                return out;
            }
        }
        if self.partial.is_empty() {
            // Thousands of streams are open at a time.
            self.partial = Vec::new();
        }
        if self.partial.len() > MOST_EVENT {
            self.cut(unreadable("an event of a stream is too large"), &mut out);
        }
        out
    }

    /// Passes on what was held back: the stream has ended.
    pub fn finish(&mut self, gate: &Gate, client: Client<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        if !self.is_cut && !self.partial.is_empty() {
            // Readers dispatch no event without an empty line after it; what is there may still be shown by some.
            let rest = [&std::mem::take(&mut self.partial)[..], b"\n\n"].concat();
            self.event(&rest, gate, client, &mut out);
        }
        if !self.is_cut {
            self.others.end(&mut out);
            self.end_texts("", gate, client, &mut out);
        }
        self.tell(gate, client);
        out
    }

    fn tell(&mut self, gate: &Gate, client: Client<'_>) {
        let untold = std::mem::take(&mut self.untold);
        gate.tell(&untold, client, self.model.as_deref(), true);
    }

    /// Whether the stream was ended by a denial.
    pub fn is_cut(&self) -> bool {
        self.is_cut
    }

    /// The bytes that are held: of texts that wait, of events that have not ended, and of those that are repeated. A
    /// large event counts several times, as it takes its size several times once it is checked.
    pub fn waiting_bytes(&self) -> usize {
        let texts = self.texts.values().map(|open| open.channel.len() + open.template.size());
        let begun = self.begun.iter().map(|(what, text)| what.capacity() + text.capacity());
        let large = 2 * self.partial.len().saturating_sub(USUAL_EVENT);
        self.partial.capacity() + large + texts.sum::<usize>() + begun.sum::<usize>() + self.others.len()
    }

    /// Why the answer was changed or ended, so far.
    pub fn reasons(&self) -> &[Reason] {
        &self.reasons
    }

    fn event(&mut self, event: &[u8], gate: &Gate, client: Client<'_>, out: &mut Vec<u8>) {
        let Some(Fields { name, data, others }) = fields(event) else {
            return self.cut(unreadable("an event of a stream is not UTF-8"), out);
        };
        // Comments, which keep a connection open, and ids.
        let is_plain = gate.scan_text(&others).found.is_empty();
        if data.is_empty() {
            if is_plain {
                self.others.pass(event.into(), &[], out);
            }
            return;
        }
        let mut rewritten = Vec::new();
        if !is_plain {
            write_event(None, data.as_bytes(), &mut rewritten);
        }
        let (event, name) = if is_plain { (event, name) } else { (&rewritten[..], None) };
        if data.trim() == DONE {
            self.others.end(out);
            self.end_texts("", gate, client, out);
            if !self.is_cut {
                out.extend_from_slice(event);
            }
            return;
        }
        let document = match json::parse(data.as_bytes()) {
            Ok(document) => document,
            Err(error) => return self.cut(unreadable(&format!("an event of a stream is not JSON: {error}")), out),
        };
        if self.model.is_none() {
            // Of OpenAI's chat completions, of Anthropic's messages, and of responses.
            let places = [Some(&document), document.get("message"), document.get("response")];
            self.model = places.into_iter().flatten().find_map(model_of);
        }
        let effect = effect(&document);
        let mut marks = Marks::default();
        mark_event(&document, &mut marks);
        for piece in &effect.pieces {
            marks.add(piece.node, Mark { is_skipped: true, ..Mark::default() });
        }
        let judged = gate.check_document(data.as_bytes(), &document, &marks, client);
        let denied = judged.reasons.iter().find(|reason| reason.action == Action::Deny).cloned();
        if let Some(reason) = denied {
            return self.cut(reason, out);
        }
        let known = judged.reasons.iter().filter_map(|reason| reason.fingerprint.clone()).collect();
        self.note(judged.reasons);
        let mut passing = Vec::new();
        self.pass(event, (name, &data), &effect, judged.edits, (gate, client), &mut passing);
        if !self.is_cut {
            self.pass_others(passing, &effect, &known, (gate, client), out);
        } else {
            out.append(&mut passing);
        }
    }

    /// Passes on what became of an event, once it is known what the strings are that no form names.
    fn pass_others(
        &mut self,
        passing: Vec<u8>,
        effect: &Effect<'_, '_>,
        known: &HashSet<String>,
        (gate, client): (&Gate, Client<'_>),
        out: &mut Vec<u8>,
    ) {
        if !effect.is_ping {
            match self.others.push(&effect.others, known, gate, client) {
                Ok(reasons) => self.note(reasons),
                Err(reason) => return self.cut(*reason, out),
            }
        }
        self.others.pass(passing, &effect.others, out);
        if !effect.ends.is_empty() {
            self.others.end(out);
        }
    }

    /// Passes an event on, with what may pass of its pieces.
    fn pass(
        &mut self,
        event: &[u8],
        (name, data): (Option<String>, &str),
        effect: &Effect<'_, '_>,
        mut edits: Edits,
        (gate, client): (&Gate, Client<'_>),
        out: &mut Vec<u8>,
    ) {
        let is_ending = |channel: &ChannelId| effect.ends.iter().any(|end| channel.begins_with(end));
        let mut ended = Vec::new();
        if let Some((what, text)) = &effect.begins {
            self.begin(what, text);
        }
        for piece in &effect.pieces {
            if !self.has_room_for(&piece.channel) {
                return self.cut(unreadable("an answer has too many texts"), out);
            }
            let begun = piece.begun_by.as_ref().and_then(|what| self.begun.get(what));
            let open = self.texts.entry(piece.channel.clone()).or_insert_with(|| OpenText {
                channel: begun.map_or_else(Channel::default, |text| Channel::after(text)),
                kind: piece.kind,
                template: Template::default(),
                has_ended: false,
            });
            open.has_ended = false;
            if data.len() <= MOST_TEMPLATE {
                open.template = Template::new(name.as_deref(), data, piece.node.span, effect);
            }
            let text = piece.node.text().unwrap_or_default();
            let mut steps = vec![open.channel.push(text, piece.kind, gate, client)];
            if is_ending(&piece.channel) {
                ended.push(piece.channel.clone());
            }
            // What is held back needs an event that it follows in.
            if is_ending(&piece.channel) || open.template.data.is_empty() {
                steps.push(open.channel.finish(piece.kind, gate, client));
            }
            let mut passing = String::new();
            for step in steps {
                match step {
                    Step::Pass(released, reasons) => {
                        passing.push_str(&released);
                        self.note(reasons);
                    }
                    Step::Cut(reason) => return self.cut(*reason, out),
                }
            }
            if passing != text {
                edits.replace(&piece.node.span.range(), &passing);
            }
        }
        for channel in ended {
            if let Some(open) = self.texts.remove(&channel) {
                self.texts.insert(channel, open.ended());
            }
        }
        for end in &effect.ends {
            self.end_texts(end, gate, client, out);
            if self.is_cut {
                return;
            }
        }
        if edits.is_empty() {
            out.extend_from_slice(event);
        } else {
            write_event(name.as_deref(), &edits.apply(data.as_bytes()), out);
        }
    }

    /// Passes on what was held back of all texts whose id begins with `beginning`.
    fn end_texts(&mut self, beginning: &str, gate: &Gate, client: Client<'_>, out: &mut Vec<u8>) {
        let ending: Vec<ChannelId> = self.texts.keys().filter(|id| id.begins_with(beginning)).cloned().collect();
        for id in ending {
            let Some(mut open) = self.texts.remove(&id) else { continue };
            if open.channel.is_waiting() {
                match open.channel.finish(open.kind, gate, client) {
                    Step::Pass(text, reasons) => {
                        self.note(reasons);
                        open.template.write(&text, out);
                    }
                    Step::Cut(reason) => return self.cut(*reason, out),
                }
            }
            self.texts.insert(id, open.ended());
        }
    }

    /// Whether a piece of this text may follow. A text that has ended makes room for it.
    fn has_room_for(&mut self, channel: &ChannelId) -> bool {
        if self.texts.len() < MOST_CHANNELS || self.texts.contains_key(channel) {
            return true;
        }
        let ended = self.texts.iter().find(|(_, open)| open.has_ended).map(|(id, _)| id.clone());
        ended.and_then(|id| self.texts.remove(&id)).is_some()
    }

    /// Notes what a block or an item begins with.
    fn begin(&mut self, what: &str, text: &str) {
        if self.begun.len() >= MOST_CHANNELS {
            self.begun.pop_first();
        }
        let start = text.len().saturating_sub(channel::CONTEXT);
        let text = text.get(channel::floor(text, start)..).unwrap_or_default();
        self.begun.insert(what.into(), text.into());
    }

    fn note(&mut self, reasons: Vec<Reason>) {
        const MOST_REASONS: usize = 100;
        let room = MOST_REASONS.saturating_sub(self.reasons.len());
        self.untold.extend(reasons.iter().take(room).cloned());
        self.reasons.extend(reasons.into_iter().take(room));
    }

    /// Ends the stream with an error.
    fn cut(&mut self, reason: Reason, out: &mut Vec<u8>) {
        self.is_cut = true;
        self.partial = Vec::new();
        self.texts.clear();
        self.others = Others::default();
        self.untold.push(reason.clone());
        self.reasons.insert(0, reason);
        let reasons = self.reasons.first().cloned().into_iter().collect();
        let verdict = Verdict { decision: Decision::Deny, reasons, copy: None, tokens: 0, is_answer: true };
        let data = format!(
            "{{\"type\":\"error\",\"error\":{{\"type\":\"permission_error\",\"message\":{}}}}}",
            quote(&verdict.message())
        );
        write_event(Some("error"), data.as_bytes(), out);
    }
}

impl Template {
    fn new(name: Option<&str>, data: &str, span: Span, effect: &Effect<'_, '_>) -> Template {
        let pieces = effect.pieces.iter().map(|piece| piece.node.span);
        let others = pieces.chain(effect.others.iter().map(|other| other.node.span));
        let others = others.filter(|other| *other != span).map(Span::range).collect();
        Template { name: name.map(String::from), data: data.into(), span: span.range(), others }
    }

    fn size(&self) -> usize {
        self.data.len() + self.others.len() * size_of::<Range<usize>>()
    }

    fn write(&self, text: &str, out: &mut Vec<u8>) {
        let mut edits = Edits::default();
        self.others.iter().for_each(|other| edits.replace(other, ""));
        edits.replace(&self.span, text);
        write_event(self.name.as_deref(), &edits.apply(self.data.as_bytes()), out);
    }
}

fn write_event(name: Option<&str>, data: &[u8], out: &mut Vec<u8>) {
    if let Some(name) = name {
        out.extend_from_slice(b"event: ");
        out.extend_from_slice(name.as_bytes());
        out.push(b'\n');
    }
    for line in data.split(|byte| *byte == b'\n') {
        out.extend_from_slice(b"data: ");
        out.extend_from_slice(line);
        out.push(b'\n');
    }
    out.push(b'\n');
}

/// How far the bytes of an event were searched for its end.
#[derive(Debug, Default)]
struct Searched {
    at: usize,
    line_start: usize,
}

impl Searched {
    /// The length of the first event, with the empty line after it. `bytes` are those of before and more, or those
    /// after the last event.
    fn event_length(&mut self, bytes: &[u8]) -> Option<usize> {
        while let Some(line) = bytes.get(self.at..).and_then(|rest| memchr::memchr2(b'\n', b'\r', rest)) {
            let at = self.at + line;
            self.at = at;
            let end = match (bytes.get(at), bytes.get(at + 1)) {
                // A line feed may follow, in the next bytes.
                (Some(b'\r'), None) => return None,
                (Some(b'\r'), Some(b'\n')) => at + 2,
                _ => at + 1,
            };
            if at == self.line_start {
                *self = Searched::default();
                return Some(end);
            }
            *self = Searched { at: end, line_start: end };
        }
        self.at = bytes.len();
        None
    }
}

/// What an event has.
struct Fields {
    name: Option<String>,
    data: String,
    /// All lines that are not data.
    others: String,
}

/// The fields of an event; `None` if it is not UTF-8.
fn fields(event: &[u8]) -> Option<Fields> {
    let text = std::str::from_utf8(event).ok()?;
    let (mut name, mut data, mut others) = (None, Vec::new(), String::new());
    for line in text.split(['\r', '\n']) {
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        if field == "event" {
            name = Some(value.to_string());
        }
        if field == "data" {
            data.push(value);
        } else {
            others.push_str(line);
            others.push('\n');
        }
    }
    Some(Fields { name, data: data.join("\n"), others })
}

fn unreadable(note: &str) -> Reason {
    about_body("prompt.unreadable", "an answer that cannot be read", note.into(), Action::Deny)
}
