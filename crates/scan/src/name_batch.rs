//! Names that are searched together, which is faster than one by one: each is a line of one text.
//!
//! Only rules of high confidence apply: names of caches and objects look like secrets to others.

use std::collections::BTreeSet;
use std::ops::Range;

use layersift_model::Confidence;

use crate::compiled_rules::CompiledRules;
use crate::confirm::{Confirmed, Matches, keep_best};
use crate::engine::EngineError;
use crate::layer_work::CANDIDATE;
use crate::worker::ScanWorker;

/// Bytes of names that are searched together.
const BATCH: usize = 64 << 10;

/// Names that are searched together.
#[derive(Default)]
pub(crate) struct NameBatch {
    text: Vec<u8>,
    /// Where each name is.
    ranges: Vec<Range<usize>>,
}

impl NameBatch {
    /// Adds a name, which may have several parts, each on a line.
    pub(crate) fn push(&mut self, parts: &[&[u8]]) {
        let start = self.text.len();
        self.text.extend_from_slice(&parts.join(&b'\n'));
        self.ranges.push(start..self.text.len());
        self.text.push(b'\n');
    }

    /// Whether it is time to search.
    pub(crate) fn is_full(&self) -> bool {
        self.text.len() >= BATCH
    }

    /// The number of names.
    pub(crate) fn len(&self) -> usize {
        self.ranges.len()
    }

    /// Removes all names, and keeps the memory.
    pub(crate) fn clear(&mut self) {
        self.text.clear();
        self.ranges.clear();
    }

    /// What is found in each name, with the number of the name. What crosses names is no match, and hides none: names
    /// that such a match touches are searched alone.
    pub(crate) fn search(
        &self,
        rules: &CompiledRules,
        worker: &mut ScanWorker<'_>,
    ) -> Result<Vec<(usize, Confirmed)>, EngineError> {
        let all = sure_matches(&self.text, rules, worker)?;
        let (mut found, across): (Vec<_>, Vec<_>) = all.into_iter().partition(|one| self.has_in_a_name(&one.span));
        let crossed: BTreeSet<usize> = across.iter().flat_map(|one| self.names_at(&one.span)).collect();
        for range in crossed.into_iter().filter_map(|name| self.ranges.get(name)) {
            let name = self.text.get(range.clone()).unwrap_or_default();
            worker.charge(CANDIDATE);
            found.extend(
                sure_matches(name, rules, worker)?
                    .into_iter()
                    .map(|one| Confirmed { span: range.start + one.span.start..range.start + one.span.end, ..one }),
            );
        }
        keep_best(&rules.signatures, &mut found);
        let named = |one: Confirmed| {
            let written = self.text.get(one.span.clone()).unwrap_or_default();
            let name = self.names_at(&one.span).start;
            (name, Confirmed { secret: one.secret.written_as(written), ..one })
        };
        Ok(found.into_iter().map(named).collect())
    }

    /// The names that `span` touches.
    fn names_at(&self, span: &Range<usize>) -> Range<usize> {
        let first = self.ranges.partition_point(|range| range.end <= span.start);
        first..self.ranges.partition_point(|range| range.start < span.end).max(first)
    }

    fn has_in_a_name(&self, span: &Range<usize>) -> bool {
        let range = self.ranges.get(self.names_at(span).start);
        range.is_some_and(|range| range.start <= span.start && span.end <= range.end)
    }
}

fn sure_matches(
    text: &[u8],
    rules: &CompiledRules,
    worker: &mut ScanWorker<'_>,
) -> Result<Vec<Confirmed>, EngineError> {
    let mut matches = Matches::default();
    worker.scan(text, &(0..text.len()), &mut matches)?;
    let mut found = matches.confirmed;
    found.retain(|one| rules.applies_at(one.rule, None) && rules.info(one).confidence == Confidence::High);
    Ok(found)
}
