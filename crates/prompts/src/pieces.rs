//! Texts in pieces over the items of a list: streamed answers that are not events, as JSON or JSON Lines.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::conversation::{Content, Kind, Part, Role, Segment, Segments, Source, Turn};
use crate::json::{Node, Value, offset};
use crate::pointers::{Name, Pointers, ROOT};
use crate::stream::others;

/// The most strings of a list that are joined: more than the longest answers have.
const MOST_PIECES: usize = 1 << 16;

/// The texts that strings in the same place of several items make. `text` is that of the document.
pub(crate) fn pieces<'a>(text: &'a str, document: &Node<'a>) -> Vec<Part<'a>> {
    let mut texts: BTreeMap<String, (String, Vec<Segment>)> = BTreeMap::new();
    let items = document.items().iter().enumerate();
    let objects = items.filter(|(_, item)| matches!(item.value, Value::Object(_)));
    let strings = objects.flat_map(|(at, item)| others(item, &[]).into_iter().map(move |other| (at, other)));
    let mut pointers = Pointers::of(text);
    for (at, other) in strings.take(MOST_PIECES) {
        let (text, segments) = texts.entry(other.key).or_default();
        let start = text.len();
        text.push_str(other.node.text().unwrap_or_default());
        let item = pointers.add(ROOT, Name::Index(offset(at)));
        let pointer = other.path.into_iter().fold(item, |parent, name| pointers.add(parent, name));
        segments.push(Segment::new(start..text.len(), pointer, Source::String(other.node.span)));
    }
    let pointers = Some(Arc::new(pointers));
    let several = texts.into_values().filter(|(_, segments)| segments.len() > 1);
    let part = |(text, segments): (String, Vec<Segment>)| {
        let content = Content::Text { text: text.into(), segments: Segments::Many(segments) };
        let (role, kind, turn) = (Role::Assistant, Kind::Text, Turn::Newest);
        Part { role, kind, turn, is_followed: false, content, block: None, pointers: pointers.clone() }
    };
    several.map(part).collect()
}
