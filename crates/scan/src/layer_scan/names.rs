//! Secrets in the names of entries and of members of archives, and in the targets of links. A runtime creates the
//! names, and a `WORKDIR` with a variable in it is enough to have one there.

use std::collections::HashSet;

use layersift_model::{ImagePath, LayerFinding, Place, Secret};

use super::file::FindingSink;
use crate::confirm::Confirmed;
use crate::name_batch::NameBatch;

/// Names that wait to be scanned.
#[derive(Default)]
pub(super) struct Names {
    batch: NameBatch,
    /// What each name of the batch is the name of.
    entries: Vec<Named>,
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
        self.batch.push(texts);
        self.entries.push(named);
        if self.batch.is_full() {
            self.scan(sink);
        }
    }

    /// Scans the names that were added since the last time, unless the layer has reached its limit of work.
    pub(super) fn scan(&mut self, sink: &FindingSink<'_>) {
        let (mut batch, mut entries) = (std::mem::take(&mut self.batch), std::mem::take(&mut self.entries));
        if sink.work.is_none_or(|work| work.add(0)) {
            self.search(&batch, &entries, sink);
        }
        // The buffers are used again.
        batch.clear();
        entries.clear();
        (self.batch, self.entries) = (batch, entries);
    }

    fn search(&mut self, batch: &NameBatch, entries: &[Named], sink: &FindingSink<'_>) {
        let found = sink.rules.worker().and_then(|mut worker| {
            let found = batch.search(sink.rules, &mut worker);
            if let Some(work) = sink.work {
                work.add(worker.work());
            }
            found
        });
        match found {
            Ok(found) => {
                for (name, one) in found {
                    if let Some(named) = entries.get(name) {
                        self.report(one, named, sink);
                    }
                }
            }
            Err(error) => sink.engine_gap(&error),
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
