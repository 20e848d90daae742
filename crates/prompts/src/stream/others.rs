//! Strings of events that no form names, such as fields that a gateway adds: each may be a piece of a text.
//!
//! Whether such a string is a piece or a whole value is not known, so it is never changed. The whole event waits, with
//! those after it, while the text that its strings may be pieces of has an end that may begin a secret.

use std::collections::{BTreeMap, HashSet, VecDeque};

use super::channel::{CONTEXT, MOST_WAITING, floor, reason};
use super::holdback::safe_end;
use crate::conversation::{Kind, Role, Turn, scope};
use crate::gate::{Client, Gate, incomplete};
use crate::json::{Node, Value, offset};
use crate::outcome::Found;
use crate::pointers::Name;
use crate::policy::Action;
use crate::verdict::Reason;

/// The most texts of such strings. The one that was not continued for the longest time makes room.
const MOST_TEXTS: usize = 256;

/// The most bytes of events that wait.
const MOST_HELD: usize = 64 << 10;

/// How many events without a piece of a text end the wait for its next piece.
const PATIENCE: u32 = 8;

/// Members whose strings are whole: names, kinds and times, which differ from event to event or never go on.
const WHOLE: [&str; 24] = [
    "type",
    "object",
    "id",
    "role",
    "name",
    "model",
    "status",
    "provider",
    "obfuscation",
    "system_fingerprint",
    "service_tier",
    "created",
    "timestamp",
    "format",
    "mime_type",
    "mimeType",
    "modelVersion",
    "traffic_type",
    "quality",
    "size",
    "background",
    "language",
    "severity",
    "usage",
];

/// How such names end.
const WHOLE_ENDS: [&str; 8] = ["_id", "Id", "_at", "At", "_type", "_reason", "Reason", "_stop"];

/// Which of several texts an event has a piece of.
const INDEXES: [&str; 5] = ["index", "output_index", "content_index", "summary_index", "item_id"];

/// A string that no form names.
#[derive(Debug)]
pub(crate) struct Other<'e, 'a> {
    /// Its place in events of this kind.
    pub(crate) key: String,
    /// The string.
    pub(crate) node: &'e Node<'a>,
    /// The steps to it from the event.
    pub(crate) path: Vec<Name>,
}

/// The strings of an event that may be pieces, but for those that begin where `known` says.
pub(crate) fn others<'e, 'a>(event: &'e Node<'a>, known: &[u32]) -> Vec<Other<'e, 'a>> {
    let mut key = ["type", "object"].iter().find_map(|name| event.text_of(name)).unwrap_or_default().to_string();
    for index in INDEXES.iter().filter_map(|name| event.get(name)) {
        match &index.value {
            Value::Number(text) => key.extend([" ", text]),
            Value::String(text) => key.extend([" ", text]),
            _ => {}
        }
    }
    Walk::of(event, key, known)
}

/// A walk over the strings of an event.
struct Walk<'e, 'a, 'k> {
    key: String,
    path: Vec<Name>,
    known: &'k [u32],
    found: Vec<Other<'e, 'a>>,
}

impl<'e, 'a, 'k> Walk<'e, 'a, 'k> {
    fn of(node: &'e Node<'a>, key: String, known: &'k [u32]) -> Vec<Other<'e, 'a>> {
        let mut walk = Walk { key, path: Vec::new(), known, found: Vec::new() };
        walk.value(node);
        walk.found
    }

    fn value(&mut self, node: &'e Node<'a>) {
        match &node.value {
            Value::Object(members) => {
                for member in members.iter().filter(|member| !is_whole(&member.key)) {
                    let name = member.key.replace('~', "~0").replace('/', "~1");
                    self.inside(&name, Name::Key(member.key_at), &member.node);
                }
            }
            Value::Array(items) => {
                for (at, item) in items.iter().enumerate() {
                    // Pieces of a text follow each other in a list, unless they say where they belong.
                    let index = match item.get("index").map(|index| &index.value) {
                        Some(Value::Number(index)) => index,
                        _ => "*",
                    };
                    self.inside(index, Name::Index(offset(at)), item);
                }
            }
            Value::String(text) if !text.is_empty() && !self.known.contains(&node.span.start) => {
                self.found.push(Other { key: self.key.clone(), node, path: self.path.clone() });
            }
            Value::String(_) | Value::Number(_) | Value::Numbers(_) | Value::Literal => {}
        }
    }

    fn inside(&mut self, key: &str, name: Name, node: &'e Node<'a>) {
        let length = self.key.len();
        self.key.extend(["/", key]);
        self.path.push(name);
        self.value(node);
        self.key.truncate(length);
        self.path.pop();
    }
}

fn is_whole(name: &str) -> bool {
    WHOLE.contains(&name) || WHOLE_ENDS.iter().any(|end| name.ends_with(end))
}

/// The last string of a value that a text may begin with.
pub(crate) fn last_string<'e>(node: &'e Node<'_>) -> Option<&'e str> {
    Walk::of(node, String::new(), &[]).last().and_then(|other| other.node.text())
}

/// The texts of such strings, and the events that wait for them.
#[derive(Debug, Default)]
pub(crate) struct Others {
    texts: BTreeMap<String, Text>,
    held: VecDeque<Held>,
    held_bytes: usize,
}

/// The end of a text that may go on.
#[derive(Debug, Default)]
struct Text {
    window: String,
    /// Where the window begins in the text, and how much of the text may pass.
    start: usize,
    safe: usize,
    /// How often the same string came, if no other did.
    same: usize,
    /// The events since the last piece.
    age: u32,
}

/// What an event became, and how far texts have to be safe before it may pass.
#[derive(Debug)]
struct Held {
    bytes: Vec<u8>,
    needs: Vec<(String, usize)>,
}

impl Others {
    /// Adds the strings of an event. `known` are fingerprints of what was found in them as they are.
    ///
    /// # Errors
    /// The reason for which the stream has to end.
    pub(crate) fn push(
        &mut self,
        pieces: &[Other<'_, '_>],
        known: &HashSet<String>,
        gate: &Gate,
        client: Client<'_>,
    ) -> Result<Vec<Reason>, Box<Reason>> {
        for text in self.texts.values_mut() {
            text.age += 1;
            if text.age > PATIENCE {
                text.safe = text.end();
            }
        }
        // A list that is told again in every event is the same piece.
        let mut joined: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for Other { key, node, .. } in pieces {
            joined.entry(key).or_default().push(node.text().unwrap_or_default());
        }
        let mut reasons = Vec::new();
        for (key, pieces) in joined {
            self.make_room(key);
            let text = self.texts.entry(key.into()).or_default();
            reasons.extend(text.push(&pieces, known, gate, client)?);
        }
        Ok(reasons)
    }

    fn make_room(&mut self, key: &str) {
        if self.texts.len() >= MOST_TEXTS && !self.texts.contains_key(key) {
            let oldest = self.texts.iter().max_by_key(|(_, text)| text.age).map(|(key, _)| key.clone());
            oldest.map(|key| self.texts.remove(&key));
        }
    }

    /// Passes what became of an event with these strings, once it may pass.
    pub(crate) fn pass(&mut self, bytes: Vec<u8>, pieces: &[Other<'_, '_>], out: &mut Vec<u8>) {
        let need = |piece: &Other<'_, '_>| Some((piece.key.clone(), self.texts.get(&piece.key)?.end()));
        let needs: Vec<_> = pieces.iter().filter_map(need).collect();
        self.held_bytes += bytes.len();
        self.held.push_back(Held { bytes, needs });
        while self.held_bytes > MOST_HELD || self.held.front().is_some_and(|held| self.may_pass(held)) {
            let Some(held) = self.held.pop_front() else { break };
            self.held_bytes -= held.bytes.len();
            out.extend(held.bytes);
        }
        if self.held.is_empty() {
            self.held = VecDeque::new();
        }
    }

    fn may_pass(&self, held: &Held) -> bool {
        held.needs.iter().all(|(key, end)| self.texts.get(key).is_none_or(|text| text.safe >= *end))
    }

    /// Passes all that waits: the texts have ended.
    pub(crate) fn end(&mut self, out: &mut Vec<u8>) {
        self.held.drain(..).for_each(|held| out.extend(held.bytes));
        *self = Others::default();
    }

    /// The bytes that it holds.
    pub(crate) fn len(&self) -> usize {
        let texts = self.texts.iter().map(|(key, text)| key.capacity() + text.window.capacity() + size_of::<Text>());
        let keys = self.held.iter().flat_map(|held| &held.needs).map(|(key, _)| key.capacity() + size_of::<Held>());
        self.held_bytes + texts.sum::<usize>() + keys.sum::<usize>()
    }
}

impl Text {
    fn end(&self) -> usize {
        self.start + self.window.len()
    }

    fn push(
        &mut self,
        pieces: &[&str],
        known: &HashSet<String>,
        gate: &Gate,
        client: Client<'_>,
    ) -> Result<Vec<Reason>, Box<Reason>> {
        let piece = pieces.concat();
        self.age = 0;
        if self.same > 0 && self.start == 0 && self.window == piece {
            // A name that no list has, or a text that begins with the same piece twice.
            self.same += 1;
            self.safe = self.end();
            return Ok(Vec::new());
        }
        if self.same > 1 {
            let times = self.same.min(CONTEXT / self.window.len().max(1) + 1);
            self.window = self.window.repeat(times);
            self.safe = self.end();
        }
        let before = self.window.len();
        self.same = usize::from(before == 0 && self.start == 0);
        self.window.push_str(&piece);
        // What is in one string alone was found in it.
        let is_joined = before > 0 || pieces.len() > 1;
        let reasons = if is_joined { self.scan(before, known, gate, client)? } else { Vec::new() };
        self.find_safe_end();
        Ok(reasons)
    }

    fn find_safe_end(&mut self) {
        let waiting = self.safe.max(self.end().saturating_sub(MOST_WAITING)) - self.start;
        let waiting = floor(&self.window, waiting);
        self.safe = self.start + waiting + safe_end(self.window.get(waiting..).unwrap_or_default());
        let keep = floor(&self.window, self.safe.saturating_sub(self.start + CONTEXT));
        if self.same == 0 || self.window.len() > MOST_WAITING {
            self.window = self.window.get(keep..).unwrap_or_default().into();
            self.start += keep;
        }
    }

    /// Looks for what lies over the place where the last piece begins.
    fn scan(
        &self,
        before: usize,
        known: &HashSet<String>,
        gate: &Gate,
        client: Client<'_>,
    ) -> Result<Vec<Reason>, Box<Reason>> {
        let window = self.window.get(..floor(&self.window, before + MOST_WAITING)).unwrap_or_default();
        let outcome = gate.scan_text(window);
        if let Some(gap) = outcome.gaps.first() {
            let reason = incomplete(gap.name().into(), client.policy.unscanned());
            if reason.action == Action::Deny {
                return Err(Box::new(reason));
            }
        }
        let scope = scope(Role::Assistant, Kind::Other);
        let is_new = |found: &&Found| {
            let is_known = found.fingerprint.as_ref().is_none_or(|fingerprint| known.contains(fingerprint));
            found.span.end > before && (found.span.start < before || !is_known) && gate.counts(found, scope)
        };
        let mut reasons = Vec::new();
        for found in outcome.found.iter().filter(is_new) {
            // A mask would have to reach over several events.
            match client.policy.action(&found.rule, found.severity, Turn::Newest) {
                Action::Report => reasons.push(reason(found, Action::Report, Kind::Other)),
                Action::Mask | Action::Deny => return Err(Box::new(reason(found, Action::Deny, Kind::Other))),
            }
        }
        Ok(reasons)
    }
}
