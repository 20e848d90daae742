//! JSON in strings of JSON: the arguments of a call, and what many tools return. A model reads what its strings say,
//! and so do we: a key of several lines is none with the escapes in it.

use std::ops::Range;

use crate::json::{self, Node, Span, Value, quote, string_at, written};
use crate::room::values_in;

/// How deep JSON in strings of JSON is read.
const MOST_DEEP: usize = 2;

/// The most values of JSON in a string. What has more is scanned as it is written.
const MOST_VALUES: usize = 50_000;

/// A string of a body, a value of the JSON in it, or one of the JSON in that.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Inner {
    /// The string of the body.
    outer: Span,
    /// The values around it and itself: each is a range of the text of the one before.
    path: [Span; MOST_DEEP],
    depth: u8,
}

impl Inner {
    /// The string `outer` of a body.
    pub(crate) fn of(outer: Span) -> Inner {
        Inner { outer, path: [Span { start: 0, end: 0 }; MOST_DEEP], depth: 0 }
    }

    /// The object or the list that `text`, which is that of this string, is the JSON of. What is too deep is scanned as
    /// it is written only.
    pub(crate) fn document<'t>(&self, text: &'t str) -> Option<Node<'t>> {
        let is_deepest = usize::from(self.depth) == MOST_DEEP;
        if is_deepest || !json::is_opening(text) || values_in(text.as_bytes()) > MOST_VALUES {
            return None;
        }
        json::parse(text.as_bytes()).ok().filter(|node| matches!(node.value, Value::Object(_) | Value::Array(_)))
    }

    /// A value at `span` of the text of this string; `None` if that is too deep.
    pub(crate) fn within(self, span: Span) -> Option<Inner> {
        let mut inner = Inner { depth: self.depth + 1, ..self };
        *inner.path.get_mut(usize::from(self.depth))? = span;
        Some(inner)
    }

    /// The string of the body.
    pub(crate) fn outer(&self) -> Span {
        self.outer
    }

    /// Where `range` of the value's text is written in `text`, which is that of the outer string, and `mask` as it is
    /// written there. Without a range, it is the value as a whole.
    pub(crate) fn written(&self, text: &str, range: Option<Range<usize>>, mask: &str) -> (Range<usize>, String) {
        let [first, rest @ ..] = &self.path;
        let raw = text.get(first.range()).unwrap_or_default();
        let shifted = |range: Range<usize>| range.start + first.range().start..range.end + first.range().start;
        if self.depth > 1
            && let Some(span) = rest.first()
            && range.is_some()
        {
            let own = string_at(text, first.start);
            let (range, mask) = masked(&own, *span, range, mask);
            let escaped = quote(&mask);
            let mask = escaped.get(1..escaped.len() - 1).unwrap_or_default();
            return (shifted(written(raw, &range)), mask.into());
        }
        masked(text, *first, range, mask)
    }
}

/// Where `range` of a value is written in `text`, in which it is at `span`, and the mask as it is written there.
fn masked(text: &str, span: Span, range: Option<Range<usize>>, mask: &str) -> (Range<usize>, String) {
    let raw = text.get(span.range()).unwrap_or_default();
    match range.filter(|_| raw.starts_with('"')) {
        Some(range) => {
            let at = written(raw, &range);
            let start = span.range().start;
            (start + at.start..start + at.end, mask.into())
        }
        None => (span.range(), quote(mask)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTER: Span = Span { start: 0, end: 0 };

    fn document(text: &str) -> Option<Node<'_>> {
        Inner::of(OUTER).document(text)
    }

    fn inner_of(text: &str, key: &str) -> (Span, String) {
        let document = document(text).unwrap();
        let node = document.get(key).unwrap();
        (node.span, node.text().unwrap_or_default().to_string())
    }

    #[test]
    fn a_mask_stands_where_the_secret_is_written() {
        let text = r#"{"n": [7, 8], "a": "x\n\u00e9secret\"y", "b": "{\"c\": \"d\\nsecret\"}"}"#;
        let masked = |inner: Inner, range: Option<Range<usize>>| {
            let (range, mask) = inner.written(text, range, "MASK");
            let mut copy = text.to_string();
            copy.replace_range(range, &mask);
            json::parse(copy.as_bytes()).unwrap();
            copy
        };
        let (a, value) = inner_of(text, "a");
        let at = value.find("secret").unwrap();
        assert_eq!(masked(Inner::of(OUTER).within(a).unwrap(), Some(at..at + 6)), text.replacen("secret", "MASK", 1));
        let (b, value) = inner_of(text, "b");
        let (c, value) = inner_of(&value, "c");
        let at = value.find("secret").unwrap();
        let deep = Inner::of(OUTER).within(b).unwrap().within(c).unwrap();
        assert_eq!(masked(deep, Some(at..at + 6)), text.replace("nsecret", "nMASK"));
        assert!(masked(deep, None).ends_with(r#""b": "MASK"}"#));
        let (n, _) = inner_of(text, "n");
        assert_eq!(masked(Inner::of(OUTER).within(n).unwrap(), Some(0..6)), text.replace("[7, 8]", "\"MASK\""));
        assert!(deep.within(c).is_none() && deep.document("{}").is_none());
    }

    #[test]
    fn only_objects_and_lists_are_documents() {
        for text in ["", "7", "\"a\"", "{", "{a}", "[note] see", "{\"a\":1,\"a\":2}", "{} {}"] {
            assert!(document(text).is_none(), "{text}");
        }
        assert!(document(" [\"a\"]").is_some());
        assert!(document(&format!("[{}\"\"]", "\"\",".repeat(MOST_VALUES))).is_none());
    }
}
