//! Looks through what can be pulled by way of the old image and is not a part of what was rewritten: the index that a
//! platform was taken out of, other platforms, and what refers to the image. The list of changes says which of it holds
//! the value, or leads to what does, so that nobody takes the image for gone while that is served.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::io;

use layersift_format::manifest::{ReachedDocument, UnreadReason, listed_referrers, reach};
use layersift_format::tar::EntriesError;
use layersift_format::{Fetched, ImageSource, Listed};
use layersift_model::Digest;

use crate::changes::{Changes, Held, HeldKind};
use crate::error::ScrubError;
use crate::graph::Reader;
use crate::needles::Needles;
use crate::plan;
use crate::request::Request;
use crate::search::Search;
use crate::staging::Staging;
use crate::survey::{self, Survey, SurveyError};

/// The most manifests that refer to the image and are read.
const MOST_REFERRERS: usize = 1_000;

/// What is looked for, and where.
pub(crate) struct OldImage<'o> {
    pub(crate) reader: &'o Reader<'o>,
    pub(crate) search: &'o Search,
    /// What had to go: files are removed wherever they are.
    pub(crate) request: &'o Request,
    pub(crate) staging: &'o Staging,
    /// What the new image has as well.
    pub(crate) kept: BTreeSet<Digest>,
}

/// What was found so far.
#[derive(Default)]
struct Found {
    /// Blobs that hold the value, and those that do not.
    held: BTreeSet<Digest>,
    clean: HashSet<Digest>,
    /// Manifests and indexes that hold it, or lead to what does.
    manifests: BTreeSet<Digest>,
    unread: BTreeSet<String>,
    /// Layers, for the files that are in them; `None` for what has none.
    surveys: HashMap<Digest, Option<Survey>>,
}

impl OldImage<'_> {
    /// Adds to `changes` what holds the value besides.
    pub(crate) fn add_to(&self, changes: &mut Changes) -> Result<(), ScrubError> {
        let source = self.reader.source;
        let listed = source.list()?.into_iter().find_map(|listed| match listed {
            Listed::Manifest { digest, .. } => digest,
            _ => None,
        });
        let Some(root) = listed else { return Ok(()) };
        let mut found = Found::default();
        let old: (HashSet<Digest>, HashSet<Digest>) =
            (changes.old_manifests().into_iter().collect(), changes.old_blobs().into_iter().collect());
        let mut seen = HashSet::new();
        let mut subjects: Vec<Digest> = Vec::new();
        self.documents(&root, &old, &mut seen, &mut found, &mut subjects)?;
        let mut referrers = 0;
        while let Some(subject) = subjects.pop() {
            for referrer in referrers_of(source, &subject, &mut found) {
                referrers += 1;
                if referrers > MOST_REFERRERS {
                    found.unread.insert(format!("what refers to {subject}"));
                    break;
                }
                self.documents(&referrer, &old, &mut seen, &mut found, &mut subjects)?;
            }
        }
        let held = |kind| move |digest: Digest| Held { digest, kind };
        changes.held.extend(found.manifests.into_iter().map(held(HeldKind::Manifest)));
        changes.held.extend(found.held.into_iter().map(held(HeldKind::Blob)));
        changes.unread.extend(found.unread);
        Ok(())
    }

    /// Looks through the document `start` and what it names. What is new are subjects of other documents.
    fn documents(
        &self,
        start: &Digest,
        (old_manifests, old_blobs): &(HashSet<Digest>, HashSet<Digest>),
        seen: &mut HashSet<Digest>,
        found: &mut Found,
        subjects: &mut Vec<Digest>,
    ) -> Result<(), ScrubError> {
        if seen.contains(start) {
            return Ok(());
        }
        let reached = reach(self.reader.source, start, self.reader.limits);
        for unread in reached.unread {
            let why = match unread.reason {
                UnreadReason::Missing => "which is missing".into(),
                UnreadReason::Failed(why) => why,
            };
            found.unread.insert(format!("{} ({why})", unread.digest));
        }
        // What names others comes before them.
        for document in reached.documents.iter().rev() {
            let is_new = seen.insert(document.digest.clone());
            subjects.extend(is_new.then(|| document.digest.clone()));
            let is_old = |digest: &Digest| old_manifests.contains(digest) || found.manifests.contains(digest);
            let leads = document.children.iter().any(is_old);
            let names_old = blobs(document).any(|blob| old_blobs.contains(blob));
            let holds = self.blobs_hold(document, old_blobs, found)?
                | self.has_files(document, old_blobs, found)?
                | self.search.is_in(&document.bytes);
            let is_known = old_manifests.contains(&document.digest) || self.kept.contains(&document.digest);
            if (leads || names_old || holds) && !is_known {
                found.manifests.insert(document.digest.clone());
            }
        }
        Ok(())
    }

    /// Whether a blob of the document holds the value.
    fn blobs_hold(
        &self,
        document: &ReachedDocument,
        old: &HashSet<Digest>,
        found: &mut Found,
    ) -> Result<bool, ScrubError> {
        let mut holds = false;
        for blob in blobs(document).filter(|blob| !self.kept.contains(*blob) && !old.contains(*blob)) {
            if !found.held.contains(blob) && !found.clean.contains(blob) {
                match self.blob_holds(blob)? {
                    Ok(true) => drop(found.held.insert(blob.clone())),
                    Ok(false) => drop(found.clean.insert(blob.clone())),
                    Err(why) => drop(found.unread.insert(format!("{blob}{why}"))),
                }
            }
            holds |= found.held.contains(blob);
        }
        Ok(holds)
    }

    /// Whether a blob holds a value; if that cannot be said, why.
    fn blob_holds(&self, digest: &Digest) -> Result<Result<bool, String>, ScrubError> {
        let source = self.reader.source;
        let Ok(Fetched::Blob(blob)) = source.open(&source.locate(digest)) else { return Ok(Err(String::new())) };
        let (mut file, path) = self.staging.begin()?;
        if io::copy(&mut self.staging.reader(blob.into_reader()), &mut file).is_err() {
            return Ok(Err(String::new()));
        }
        drop(file);
        let Ok(found) = self.search.in_blob(&path, self.staging) else { return Ok(Err(String::new())) };
        Ok(match (found.hits.is_empty(), found.unread) {
            (false, _) => Ok(true),
            (true, Some(gap)) => Err(format!(" ({gap})")),
            (true, None) if self.search.unsearched() > 0 => Err(" (a value is too short to be looked for)".into()),
            (true, None) => Ok(false),
        })
    }

    /// Whether the image of a manifest has a removed file in one of its layers: at its path, through a link, or under
    /// another name.
    fn has_files(
        &self,
        document: &ReachedDocument,
        old: &HashSet<Digest>,
        found: &mut Found,
    ) -> Result<bool, ScrubError> {
        if self.request.paths.is_empty() || document.config.is_none() {
            return Ok(false);
        }
        for layer in &document.blobs {
            let is_known = found.surveys.contains_key(layer);
            let survey = if is_known { continue } else { self.survey(layer) };
            if survey.is_err() {
                found.unread.insert(layer.to_string());
            }
            found.surveys.insert(layer.clone(), survey.ok().flatten());
        }
        let layers: Vec<&Survey> =
            document.blobs.iter().filter_map(|layer| found.surveys.get(layer)?.as_ref()).collect();
        let with_files = plan::layers_with_files(&layers, (0..layers.len()).collect(), self.request, self.staging)?;
        let digests = with_files.into_iter().filter_map(|index| layers.get(index)).map(|survey| survey.digest.clone());
        let others: Vec<Digest> = digests.filter(|layer| !self.kept.contains(layer) && !old.contains(layer)).collect();
        let has_files = !others.is_empty();
        found.clean.retain(|clean| !others.contains(clean));
        found.held.extend(others);
        Ok(has_files)
    }

    /// The entries of a layer; `None` for what is too short for one.
    fn survey(&self, digest: &Digest) -> Result<Option<Survey>, SurveyError> {
        let source = self.reader.source;
        let Ok(Fetched::Blob(blob)) = source.open(&source.locate(digest)) else {
            return Err(SurveyError::Blob(io::ErrorKind::NotFound.into()));
        };
        let input = self.staging.reader(blob.into_reader());
        match survey::survey(input, digest.algorithm(), &Needles::default(), &mut io::sink()) {
            Err(SurveyError::Archive(EntriesError::Read { at: 0, source }))
                if source.kind() == io::ErrorKind::UnexpectedEof =>
            {
                Ok(None)
            }
            read => read.map(Some),
        }
    }
}

fn blobs(document: &ReachedDocument) -> impl Iterator<Item = &Digest> {
    document.blobs.iter().chain(&document.config)
}

/// What refers to a document: for all that the source lists.
fn referrers_of(source: &dyn ImageSource, subject: &Digest, found: &mut Found) -> Vec<Digest> {
    let referrers = source.referrers(subject);
    found.unread.extend(referrers.gaps.iter().map(|gap| format!("what refers to {subject} ({})", gap.reason.name())));
    let mut all = referrers.manifests;
    for list in referrers.lists {
        all.extend(list.digest);
        match listed_referrers(&list.bytes) {
            Some(listed) => all.extend(listed),
            None => drop(found.unread.insert(format!("what refers to {subject}"))),
        }
    }
    all.retain(|digest| digest != subject);
    all
}
