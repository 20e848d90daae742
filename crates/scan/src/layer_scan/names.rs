//! Secrets in the names of entries and of members of archives, and in the targets of links. A runtime creates the
//! names, and a `WORKDIR` with a variable in it is enough to have one there.
//!
//! Only rules of high confidence apply: names of caches and objects look like secrets to others.

use std::collections::HashSet;
use std::ops::Range;

use layersift_model::{Confidence, ImagePath, LayerFinding, Place, Secret};

use super::file::FindingSink;
use crate::confirm::{Confirmed, Matches, keep_best};

/// Bytes of names that are scanned at once.
const BATCH: usize = 64 << 10;

/// Names that wait to be scanned.
#[derive(Default)]
pub(super) struct Names {
    text: Vec<u8>,
    /// What each range of the text is the name of.
    entries: Vec<(Range<usize>, Named)>,
    /// Rules and secrets that were found: the name of a directory is part of those of all its files.
    seen: HashSet<(String, Secret)>,
}

/// What has a name.
struct Named {
    path: ImagePath,
    /// The members that lead to it, if it is one.
    inside: Vec<String>,
    entry: u32,
}

impl Names {
    /// Adds the name of the entry `number` at `path`, and what it links to.
    pub(super) fn add(&mut self, path: &ImagePath, link: &[u8], entry: u32, sink: &FindingSink<'_>) {
        let texts = [path.as_bytes(), link];
        self.push(&texts, Named { path: path.clone(), inside: Vec::new(), entry }, sink);
    }

    /// Adds the name of a member of an archive, the last of `inside`.
    pub(super) fn add_member(&mut self, path: &ImagePath, inside: &[String], entry: u32, sink: &FindingSink<'_>) {
        let Some(name) = inside.last() else { return };
        self.push(&[name.as_bytes()], Named { path: path.clone(), inside: inside.to_vec(), entry }, sink);
    }

    fn push(&mut self, texts: &[&[u8]], named: Named, sink: &FindingSink<'_>) {
        let start = self.text.len();
        self.text.extend_from_slice(&texts.join(&b'\n'));
        self.entries.push((start..self.text.len(), named));
        self.text.push(b'\n');
        if self.text.len() >= BATCH {
            self.scan(sink);
        }
    }

    /// Scans the names that were added since the last time, unless the layer has reached its limit of work.
    pub(super) fn scan(&mut self, sink: &FindingSink<'_>) {
        let text = std::mem::take(&mut self.text);
        let entries = std::mem::take(&mut self.entries);
        if sink.work.is_none_or(|work| work.add(0)) {
            self.scan_text(&text, &entries, sink);
        }
        // The buffers are used again.
        (self.text, self.entries) = (text, entries);
        self.text.clear();
        self.entries.clear();
    }

    fn scan_text(&mut self, text: &[u8], entries: &[(Range<usize>, Named)], sink: &FindingSink<'_>) {
        let mut found = Matches::default();
        let scanned = sink.rules.worker().and_then(|mut worker| {
            let scanned = worker.scan(text, &(0..text.len()), &mut found);
            if let Some(work) = sink.work {
                work.add(worker.work());
            }
            scanned
        });
        if let Err(error) = scanned {
            sink.engine_gap(&error);
        }
        let mut found = found.confirmed;
        found
            .retain(|one| sink.rules.applies_at(one.rule, None) && sink.rules.info(one).confidence == Confidence::High);
        keep_best(&sink.rules.signatures, &mut found);
        for one in found {
            let index = entries.partition_point(|(range, _)| range.end <= one.span.start);
            if let Some((range, named)) = entries.get(index)
                && range.contains(&one.span.start)
                && one.span.end <= range.end
            {
                let written = text.get(one.span.clone()).unwrap_or_default();
                let secret = one.secret.clone().written_as(written);
                self.report(Confirmed { secret, ..one }, named, sink);
            }
        }
    }

    fn report(&mut self, one: Confirmed, named: &Named, sink: &FindingSink<'_>) {
        let rule = sink.rules.info(&one);
        if !self.seen.insert((rule.id.clone(), one.secret.clone())) {
            return;
        }
        sink.add(LayerFinding {
            severity: sink.rules.severity(&one),
            rule,
            place: Place {
                path: named.path.clone(),
                inside: named.inside.clone(),
                views: one.views.into_iter().map(Into::into).collect(),
                ..Place::default()
            },
            entry: named.entry,
            superseded: None,
            secret: Some(one.secret),
            note: Some(match named.inside.is_empty() {
                true => "in the name of the entry, or in the target of the link".into(),
                false => "in the name of the member".into(),
            }),
            checksums: None,
            attributes: None,
        });
    }
}
