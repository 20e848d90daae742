//! Texts that follow each other in one message. A model reads them as one, and a secret may lie over several of them.

use std::collections::HashMap;

use crate::conversation::{Content, Kind, Part, Segment, Segments};

/// The parts whose texts follow each other.
#[derive(Debug, Default)]
pub(crate) struct Sequences(HashMap<(u32, Kind), Vec<usize>>);

impl Sequences {
    /// Adds the text with the index `part` to a sequence. What a model thought and what it said are two texts.
    pub(crate) fn add(&mut self, sequence: Option<u32>, kind: Kind, part: usize) {
        if let Some(sequence) = sequence {
            self.0.entry((sequence, kind)).or_default().push(part);
        }
    }

    /// The sequences of several texts, each as one part, in their order.
    pub(crate) fn joined<'a>(self, parts: &[Part<'_>]) -> Vec<Part<'a>> {
        let mut several: Vec<Vec<usize>> = self.0.into_values().filter(|indexes| indexes.len() > 1).collect();
        several.sort_unstable();
        several.iter().filter_map(|indexes| join(indexes.iter().filter_map(|index| parts.get(*index)))).collect()
    }
}

fn join<'p, 'a>(parts: impl Iterator<Item = &'p Part<'p>> + Clone) -> Option<Part<'a>> {
    let newest = parts.clone().max_by_key(|part| part.turn)?;
    let (mut joined, mut segments) = (String::new(), Vec::new());
    for part in parts {
        let Content::Text { text, segments: own } = &part.content else { continue };
        let start = joined.len();
        joined.push_str(text);
        segments.extend(own.iter().map(|one| {
            let range = one.range();
            Segment::new(start + range.start..start + range.end, one.pointer, one.source)
        }));
    }
    let content = Content::Text { text: joined.into(), segments: Segments::Many(segments) };
    let Part { role, kind, turn, .. } = *newest;
    Some(Part { role, kind, turn, is_followed: false, content, block: None, pointers: None })
}
