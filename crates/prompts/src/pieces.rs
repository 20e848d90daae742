//! Texts in pieces over the items of a list: streamed answers that are not events, as JSON or JSON Lines.

use std::collections::BTreeMap;

use crate::conversation::{Content, Kind, Part, Role, Segment, Source, Turn};
use crate::json::{Node, Value};
use crate::stream::others;

/// The most strings of a list that are joined: more than the longest answers have.
const MOST_PIECES: usize = 1 << 18;

/// The texts that strings in the same place of several items make.
pub(crate) fn pieces<'a>(document: &Node<'a>) -> Vec<Part<'a>> {
    let mut texts: BTreeMap<String, (String, Vec<Segment>)> = BTreeMap::new();
    let items = document.items().iter().enumerate();
    let objects = items.filter(|(_, item)| matches!(item.value, Value::Object(_)));
    let strings = objects.flat_map(|(at, item)| others(item, &[]).into_iter().map(move |other| (at, other)));
    for (at, other) in strings.take(MOST_PIECES) {
        let (text, segments) = texts.entry(other.key).or_default();
        let start = text.len();
        text.push_str(other.node.text().unwrap_or_default());
        let source = Source::String(other.node.span.clone());
        segments.push(Segment { range: start..text.len(), pointer: format!("/{at}{}", other.pointer), source });
    }
    let several = texts.into_values().filter(|(_, segments)| segments.len() > 1);
    let part = |(text, segments): (String, Vec<Segment>)| {
        let content = Content::Text { text: text.into(), segments };
        Part { role: Role::Assistant, kind: Kind::Text, turn: Turn::Newest, content, block: None }
    };
    several.map(part).collect()
}
