//! Redacted copies: the body as it came, with masks in the strings that hold secrets. All other bytes stay, so numbers
//! are not rounded, and the order of members and the white space are those of the client.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::conversation::{Block, Content, Part, Source, Turn};
use crate::inner::Inner;
use crate::json::{self, quote, string_at};

/// The most ranges that are masked within the values of the JSON that one string is: where a range is written is found
/// by reading the value. Further values are masked as a whole.
const MOST_PRECISE: usize = 64;

/// What stands in place of a secret.
pub(crate) fn mask(rule: &str) -> String {
    layersift_model::mask::of(rule)
}

/// The changes to a body.
#[derive(Debug, Default)]
pub(crate) struct Edits {
    /// By the start of a value: its end, its new text, and whether that is the whole value.
    values: BTreeMap<usize, Edit>,
}

#[derive(Debug)]
struct Edit {
    span: Range<usize>,
    /// What to write.
    what: What,
}

#[derive(Debug)]
enum What {
    /// The whole value is replaced.
    Whole(String),
    /// Ranges of a text are replaced.
    Ranges(Ranges),
}

#[derive(Debug)]
struct Ranges {
    text: String,
    own: Vec<(Range<usize>, String)>,
    /// Those in the values of the JSON that the text is.
    inner: Vec<(Range<usize>, String)>,
    /// Whether the text is written as a JSON string, or as it is.
    is_string: bool,
}

impl Ranges {
    fn of(text: &str) -> Ranges {
        Ranges { text: text.into(), own: Vec::new(), inner: Vec::new(), is_string: true }
    }

    /// The text with its masks. What is JSON stays JSON: a program reads it.
    fn masked(self) -> String {
        let Ranges { text, own, inner, is_string } = self;
        let all = masked(&text, own.iter().chain(&inner).cloned().collect());
        let is_json = |text: &str| json::parse(text.as_bytes()).is_ok();
        if !is_string || !json::is_opening(&text) || is_json(&all) || !is_json(&text) {
            return all;
        }
        let mask = own.first().map_or_else(String::new, |(_, mask)| mask.clone());
        let some = masked(&text, inner);
        if some != text && is_json(&some) { some } else { format!("{{\"masked\":{}}}", quote(&mask)) }
    }
}

impl Edits {
    /// Whether there is nothing to change.
    pub(crate) fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// How many values change.
    pub(crate) fn len(&self) -> usize {
        self.values.len()
    }

    /// Masks `span` of a part. Returns whether that was possible.
    pub(crate) fn mask(&mut self, part: &Part<'_>, span: &Range<usize>, rule: &str, body: &[u8]) -> bool {
        match &part.content {
            Content::Text { text, segments } => {
                let touched = || segments.iter().filter(|segment| segment.touches(span));
                if touched().next().is_none()
                    || touched().any(|segment| matches!(segment.source, Source::Name | Source::Fixed))
                {
                    return self.replace_block(part.block.as_ref(), rule);
                }
                for segment in touched() {
                    let range = segment.range();
                    let start = span.start.max(range.start) - range.start;
                    let end = span.end.min(range.end) - range.start;
                    let text = text.get(range).unwrap_or_default();
                    self.add(&segment.source, text, start..end, rule, body);
                }
                true
            }
            // Nobody knows what takes a text in its place; in the history, the chat would be denied for ever.
            Content::Data { source, .. } if part.turn == Turn::History => {
                self.mask_value(source, part.block.as_ref(), rule, body)
            }
            Content::Data { .. } => self.replace_block(part.block.as_ref(), rule),
        }
    }

    /// Masks a value as a whole, with the `block` that it is in. Returns whether that was possible.
    pub(crate) fn mask_value(&mut self, source: &Source, block: Option<&Block>, rule: &str, body: &[u8]) -> bool {
        match source {
            _ if block.is_some() => self.replace_block(block, rule),
            Source::String(span) | Source::Raw(span) => {
                self.replace(&span.range(), &mask(rule));
                true
            }
            Source::Inner(inner) => {
                self.add_inner(*inner, None, rule, body);
                true
            }
            Source::Body | Source::Name | Source::Fixed => false,
        }
    }

    fn replace_block(&mut self, block: Option<&Block>, rule: &str) -> bool {
        let Some(block) = block else { return false };
        let new = format!("{{\"type\":{},\"text\":{}}}", quote(block.text_type), quote(&mask(rule)));
        let span = block.span.range();
        self.values.insert(span.start, Edit { span, what: What::Whole(new) });
        true
    }

    fn add(&mut self, source: &Source, text: &str, range: Range<usize>, rule: &str, body: &[u8]) {
        let (span, is_string) = match source {
            Source::Body => (0..body.len(), false),
            Source::String(span) => (span.range(), true),
            Source::Raw(span) => {
                let new = quote(&mask(rule));
                let span = span.range();
                self.values.entry(span.start).or_insert(Edit { span, what: What::Whole(new) });
                return;
            }
            Source::Inner(inner) => return self.add_inner(*inner, Some(range), rule, body),
            Source::Name | Source::Fixed => return,
        };
        let edit = self
            .values
            .entry(span.start)
            .or_insert_with(|| Edit { span, what: What::Ranges(Ranges { is_string, ..Ranges::of(text) }) });
        if let What::Ranges(ranges) = &mut edit.what {
            ranges.own.push((range, mask(rule)));
        }
    }

    /// Masks a range of a value of JSON in a string, or all of it.
    fn add_inner(&mut self, inner: Inner, range: Option<Range<usize>>, rule: &str, body: &[u8]) {
        let span = inner.outer().range();
        let text = || string_at(std::str::from_utf8(body).unwrap_or_default(), inner.outer().start);
        let edit = self.values.entry(span.start);
        let edit = edit.or_insert_with(|| Edit { span, what: What::Ranges(Ranges::of(&text())) });
        if let What::Ranges(ranges) = &mut edit.what {
            let range = range.filter(|_| ranges.inner.len() < MOST_PRECISE);
            ranges.inner.push(inner.written(&ranges.text, range, &mask(rule)));
        }
    }

    /// Writes `text` in place of the string at `span`.
    pub(crate) fn replace(&mut self, span: &Range<usize>, text: &str) {
        self.values.insert(span.start, Edit { span: span.clone(), what: What::Whole(quote(text)) });
    }

    /// The changed copy.
    pub(crate) fn apply(self, body: &[u8]) -> Vec<u8> {
        let mut copy = Vec::with_capacity(body.len());
        let mut at = 0;
        for edit in self.values.into_values() {
            // A value inside a block that was replaced.
            if edit.span.start < at {
                continue;
            }
            copy.extend_from_slice(body.get(at..edit.span.start).unwrap_or_default());
            match edit.what {
                What::Whole(new) => copy.extend_from_slice(new.as_bytes()),
                What::Ranges(ranges) => {
                    let is_string = ranges.is_string;
                    let masked = ranges.masked();
                    let new = if is_string { quote(&masked) } else { masked };
                    copy.extend_from_slice(new.as_bytes());
                }
            }
            at = edit.span.end;
        }
        copy.extend_from_slice(body.get(at..).unwrap_or_default());
        copy
    }
}

/// `text` with masks in place of ranges. Ranges that overlap get the mask of the first.
pub(crate) fn masked(text: &str, mut ranges: Vec<(Range<usize>, String)>) -> String {
    ranges.sort_by_key(|(range, _)| (range.start, range.end));
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    for (range, mask) in ranges {
        let start = floor(text, range.start);
        let end = ceil(text, range.end);
        if start >= at {
            out.push_str(text.get(at..start).unwrap_or_default());
            out.push_str(&mask);
        }
        at = at.max(end);
    }
    out.push_str(text.get(at..).unwrap_or_default());
    out
}

/// The boundary of a character at or before `at`.
fn floor(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

/// The boundary of a character at or after `at`.
fn ceil(text: &str, at: usize) -> usize {
    (at..text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len())
}
