//! What was found in the strings of a body as they are written. The JSON that a string is tells less of a secret than
//! what is around it does, and is not to give the same secret again under a lesser rule.

use std::collections::HashMap;
use std::ops::Range;

use layersift_model::Severity;

use crate::conversation::{Content, Part, Source};
use crate::json::string_at;
use crate::outcome::Found;

/// Findings by the string of the body that they are in.
#[derive(Debug, Default)]
pub(crate) struct FoundInStrings {
    found: HashMap<u32, Vec<(Range<usize>, Severity)>>,
    /// The text of the string that was asked for last.
    text: Option<(u32, String)>,
}

impl FoundInStrings {
    /// Notes a finding in the strings of a part.
    pub(crate) fn note(&mut self, part: &Part<'_>, found: &Found) {
        let Content::Text { segments, .. } = &part.content else { return };
        for segment in segments.iter().filter(|one| one.touches(&found.span)) {
            if let Source::String(string) = segment.source {
                let within = within(&segment.range(), &found.span);
                self.found.entry(string.start).or_default().push((within, found.severity));
            }
        }
    }

    /// Whether a finding in JSON in a string is about what was found in the string, and weighs no more.
    pub(crate) fn covers(&mut self, part: &Part<'_>, found: &Found, body: &[u8]) -> bool {
        let Content::Text { segments, .. } = &part.content else { return false };
        let touched: Vec<_> = segments.iter().filter(|one| one.touches(&found.span)).collect();
        touched.into_iter().any(|segment| {
            let Source::Inner(inner) = segment.source else { return false };
            let Some(known) = self.found.get(&inner.outer().start) else { return false };
            let start = inner.outer().start;
            if self.text.as_ref().is_none_or(|(of, _)| *of != start) {
                let body = std::str::from_utf8(body).unwrap_or_default();
                self.text = Some((start, string_at(body, start).into_owned()));
            }
            let text = self.text.as_ref().map_or("", |(_, text)| text);
            let (written, _) = inner.written(text, Some(within(&segment.range(), &found.span)), "");
            let overlaps = |range: &Range<usize>| range.start < written.end && written.start < range.end;
            known.iter().any(|(range, severity)| overlaps(range) && *severity >= found.severity)
        })
    }
}

/// The bytes of `span` that are in `outer`, counted from its beginning.
fn within(outer: &Range<usize>, span: &Range<usize>) -> Range<usize> {
    span.start.max(outer.start) - outer.start..span.end.min(outer.end) - outer.start
}
