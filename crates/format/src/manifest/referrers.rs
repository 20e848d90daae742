//! Reads what refers to an image: signatures, attestations, bills of materials and any other artifact, and what refers
//! to those.
//!
//! Sources: OCI distribution-spec v1.1, "Listing Referrers"; cosign, `specs/SIGNATURE_SPEC.md`. A list of referrers is
//! a hint: what a manifest is, and what it refers to, is in the manifest. The media types in a list are not used,
//! because some tools write wrong ones.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use layersift_model::{Digest, Gap, GapReason, Limits};
use serde::Deserialize;

use super::classify::parts;
use super::read::DocumentReader;
use super::wire::{Descriptor, WireDocument};
use super::{Document, DocumentContent, DocumentKind, Image};
use crate::cancellation::unread_reason;
use crate::image_source::{ImageSource, ReferrerList};
use crate::json::{JsonString, Node};

/// The most bytes of manifests and lists of referrers that are kept: their strings are kept as well, and those of one
/// may take a multiple.
const MAX_KEPT_BYTES: usize = 24 << 20;

/// The most values of the lists of referrers of a target, and of one list. A thousand referrers have some ten thousand.
const MAX_LISTED_VALUES: usize = 100_000;

/// The most blobs of all referrers of a target.
const MAX_BLOBS: usize = 10_000;

/// Digests that a note names.
const MAX_NAMED: usize = 3;

/// The annotation in which cosign puts the type of the statement in a bundle.
const BUNDLE_PREDICATE: &str = "dev.sigstore.bundle.predicateType";

/// Whether a document is an index: it has a list of manifests, which some registries write as `null` if it is empty.
/// One of more values than lists may have counts as one: that it was not read is then a gap.
pub fn is_index(bytes: &[u8]) -> bool {
    Node::parse_within(bytes, MAX_LISTED_VALUES).is_ok_and(|node| {
        node.is_none_or(|node| {
            let is_list = matches!(node.get("manifests"), Some(Node::Array(_) | Node::Null));
            is_list && node.get("layers").is_none() && node.get("config").is_none()
        })
    })
}

/// The manifests that a list of referrers names. `None` if it is not a list.
pub fn listed_referrers(bytes: &[u8]) -> Option<Vec<Digest>> {
    let node = Node::parse_within(bytes, MAX_LISTED_VALUES).ok().flatten()?;
    let entries = node.get("manifests")?.elements().iter();
    Some(entries.filter_map(|entry| entry.get("digest")?.as_str()?.parse().ok()).collect())
}

/// Adds what refers to the manifests and indexes of `images`, which are all images of `source` that are scanned.
pub fn add_referrers(source: &dyn ImageSource, limits: &Limits, images: &mut [Image]) {
    let mut reader = ReferrerReader {
        documents: DocumentReader::new(source, limits),
        known: Known::of(images),
        manifests: 0,
        blobs: 0,
        bytes: 0,
        values: MAX_LISTED_VALUES,
    };
    let mut found: HashMap<Digest, Found> = HashMap::new();
    for image in images {
        let is_subject = |kind| matches!(kind, DocumentKind::Index | DocumentKind::Manifest);
        let subjects = image.documents.iter().filter(|document| is_subject(document.kind));
        let subjects: Vec<Digest> = subjects.filter_map(|document| document.digest.clone()).collect();
        for subject in subjects {
            let found = found.entry(subject).or_insert_with_key(|subject| reader.referrers_of(subject));
            found.add_to(image);
        }
    }
}

/// What is read already, as a part of an image.
#[derive(Clone, Default)]
struct Known {
    manifests: HashSet<Digest>,
    blobs: HashSet<Digest>,
}

/// What refers to one manifest.
#[derive(Default)]
struct Found {
    documents: Vec<Document>,
    gaps: Vec<Gap>,
    notes: Vec<String>,
}

/// A manifest that may be a referrer.
struct Candidate {
    digest: Digest,
    /// What it should refer to.
    of: Digest,
    depth: usize,
    origin: Origin,
}

/// What names a referrer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// A list of referrers.
    List,
    /// Its own name, which says what it refers to.
    Name,
    /// An index that is a referrer.
    Index,
}

struct ReferrerReader<'r> {
    documents: DocumentReader<'r>,
    known: Known,
    /// Manifests, blobs and kept bytes so far.
    manifests: usize,
    blobs: usize,
    bytes: usize,
    /// The values that lists may still have.
    values: usize,
}

/// The walk over what refers to one manifest.
struct Walk {
    seen: Known,
    candidates: VecDeque<Candidate>,
    /// The strings of lists: they take less than their trees.
    lists: Vec<(Option<Digest>, Vec<JsonString>)>,
    /// The strings of the manifests, with the names of their members.
    strings: HashSet<(Option<String>, String)>,
    found: Found,
    /// Manifests that are not there, and those that refer to something else.
    absent: Vec<Digest>,
    of_others: Vec<Digest>,
    /// How many manifests and blobs are beyond the limits.
    unread: usize,
    unread_blobs: usize,
}

impl Known {
    fn of(images: &[Image]) -> Known {
        let mut known = Known::default();
        for image in images {
            for document in &image.documents {
                let is_manifest = matches!(document.kind, DocumentKind::Index | DocumentKind::Manifest);
                let set = if is_manifest { &mut known.manifests } else { &mut known.blobs };
                set.extend(document.digest.clone());
            }
            known.blobs.extend(image.layers.iter().filter_map(|layer| layer.digest.clone()));
            known.blobs.extend(image.config_digest.clone());
        }
        known
    }
}

impl Found {
    /// Adds it to `image`, which may have some of the documents already: a list may name what refers to another
    /// manifest.
    fn add_to(&self, image: &mut Image) {
        let is_known = |document: &Document| {
            document.digest.is_some() && image.documents.iter().any(|known| known.digest == document.digest)
        };
        let new: Vec<Document> = self.documents.iter().filter(|document| !is_known(document)).cloned().collect();
        image.documents.extend(new);
        image.referrer_gaps.extend(self.gaps.iter().cloned());
        image.notes.extend(self.notes.iter().cloned());
    }
}

impl ReferrerReader<'_> {
    fn referrers_of(&mut self, subject: &Digest) -> Found {
        let mut walk = Walk {
            seen: self.known.clone(),
            candidates: VecDeque::new(),
            lists: Vec::new(),
            strings: HashSet::new(),
            found: Found::default(),
            absent: Vec::new(),
            of_others: Vec::new(),
            unread: 0,
            unread_blobs: 0,
        };
        walk.seen.manifests.insert(subject.clone());
        self.look_up(subject, 1, &mut walk);
        while let Some(candidate) = walk.candidates.pop_front() {
            if walk.seen.manifests.insert(candidate.digest.clone()) {
                self.read(&candidate, &mut walk);
            }
        }
        self.finish(walk)
    }

    /// Asks the source what refers to `subject`.
    fn look_up(&mut self, subject: &Digest, depth: usize, walk: &mut Walk) {
        let referrers = self.documents.source.referrers(subject);
        walk.found.gaps.extend(referrers.gaps);
        walk.found.notes.extend(referrers.notes);
        let named = referrers.manifests.into_iter().map(|digest| (digest, Origin::Name));
        let mut all: Vec<(Digest, Origin)> = Vec::new();
        for list in referrers.lists {
            // After `cosign copy`, the tag of the list names the image itself.
            if list.digest.as_ref().is_none_or(|digest| !walk.seen.manifests.contains(digest)) {
                all.extend(self.list(list, walk).into_iter().map(|digest| (digest, Origin::List)));
            }
        }
        let candidate = |(digest, origin)| Candidate { digest, of: subject.clone(), depth, origin };
        walk.candidates.extend(all.into_iter().chain(named).map(candidate));
    }

    /// The manifests that a list names.
    fn list(&mut self, list: ReferrerList, walk: &mut Walk) -> Vec<Digest> {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Entries {
            manifests: Vec<Descriptor>,
        }
        let ReferrerList { bytes, digest } = list;
        self.bytes += bytes.len();
        let place = digest.as_ref().map_or_else(|| "the list of referrers".into(), Digest::to_string);
        let damaged = |error: &dyn std::fmt::Display| {
            Gap::new(GapReason::DamagedDocument, format!("{error}; what it names was not read")).at(&place)
        };
        let node = match Node::parse_within(&bytes, self.values) {
            Ok(Some(node)) => node,
            Ok(None) => {
                let detail = format!("lists of referrers have more than {MAX_LISTED_VALUES} values; this was not read");
                walk.found.gaps.push(Gap::new(GapReason::TooManyReferrers, detail).at(&place));
                return Vec::new();
            }
            Err(error) => {
                walk.found.gaps.push(damaged(&error));
                return Vec::new();
            }
        };
        self.values = self.values.saturating_sub(node.values());
        let entries: Entries = node.strict().unwrap_or_else(|error| {
            walk.found.gaps.push(damaged(&error));
            Entries::default()
        });
        let mut digests = Vec::new();
        for entry in &entries.manifests {
            match entry.digest.parse() {
                Ok(digest) => digests.push(digest),
                Err(error) => walk.found.gaps.push(damaged(&error)),
            }
        }
        walk.lists.push((digest, node.strings("", &[])));
        digests
    }

    /// Reads the manifest of a referrer, and looks up what refers to it.
    fn read(&mut self, candidate: &Candidate, walk: &mut Walk) {
        let limits = self.documents.limits;
        let is_beyond = candidate.depth > limits.referrer_depth || self.manifests >= limits.referrers;
        if is_beyond || self.bytes >= MAX_KEPT_BYTES {
            walk.unread += 1;
            return;
        }
        self.manifests += 1;
        let location = self.documents.source.locate_manifest(&candidate.digest);
        let mut gaps = Vec::new();
        let bytes: Arc<[u8]> = match self.documents.document(&location, Some(&candidate.digest), &mut gaps) {
            Ok(Some(bytes)) => bytes.into(),
            // A registry without referrers goes on listing what was deleted. Nobody can pull it.
            Ok(None) => return walk.absent.push(candidate.digest.clone()),
            Err(error) => {
                let gap = Gap::new(unread_reason(&error), error.to_string()).at(location.0);
                return walk.found.gaps.push(gap);
            }
        };
        self.bytes += bytes.len();
        walk.found.gaps.append(&mut gaps);
        match WireDocument::parse(&location, &bytes) {
            Ok(document) => self.manifest(candidate, document, bytes, walk),
            Err(error) => {
                let detail = format!("{error}; what it names was not read");
                walk.found.gaps.push(Gap::new(GapReason::DamagedDocument, detail).at(location.0));
                walk.push_manifest(candidate, None, None, bytes);
            }
        }
        self.look_up(&candidate.digest, candidate.depth + 1, walk);
    }

    fn manifest(&mut self, candidate: &Candidate, document: WireDocument, bytes: Arc<[u8]>, walk: &mut Walk) {
        let subject = document.subject.as_ref().and_then(|subject| subject.digest.parse::<Digest>().ok());
        let refers = match candidate.origin {
            Origin::List => subject.as_ref() == Some(&candidate.of),
            Origin::Name => subject.as_ref().is_none_or(|subject| *subject == candidate.of),
            Origin::Index => true,
        };
        if !refers {
            walk.of_others.push(candidate.digest.clone());
        }
        let attached_to = subject.unwrap_or_else(|| candidate.of.clone());
        let media_type = Some(document.media_type.clone()).filter(|text| !text.is_empty());
        let predicate = walk.push_manifest(candidate, Some(&attached_to), media_type, bytes);
        if let Some(entries) = document.manifests.as_ref().filter(|_| !document.is_cache_index()) {
            for entry in entries {
                match entry.digest(&self.documents.source.locate_manifest(&candidate.digest)) {
                    Ok(digest) => walk.candidates.push_back(Candidate {
                        digest,
                        of: attached_to.clone(),
                        depth: candidate.depth + 1,
                        origin: Origin::Index,
                    }),
                    Err(error) => walk.found.gaps.push(Gap::new(GapReason::DamagedDocument, error.to_string())),
                }
            }
            return;
        }
        let artifact_type = document.artifact_type.clone();
        let (config, blobs) = parts(document);
        if let Some(config) = &config {
            self.blob(candidate, &attached_to, DocumentKind::Configuration, config, walk);
        }
        for blob in &blobs {
            let kind = kind(blob, &artifact_type, predicate.as_deref());
            self.blob(candidate, &attached_to, kind, blob, walk);
        }
    }

    fn blob(
        &mut self,
        candidate: &Candidate,
        attached_to: &Digest,
        kind: DocumentKind,
        blob: &Descriptor,
        walk: &mut Walk,
    ) {
        let manifest = self.documents.source.locate_manifest(&candidate.digest);
        let digest = match blob.digest(&manifest) {
            Ok(digest) => digest,
            Err(error) => {
                return walk.found.gaps.push(Gap::new(GapReason::DamagedDocument, error.to_string()));
            }
        };
        if !walk.seen.blobs.insert(digest.clone()) {
            return;
        }
        if self.blobs >= MAX_BLOBS {
            walk.unread_blobs += 1;
            return;
        }
        self.blobs += 1;
        let content = match blob.embedded(&digest) {
            Some(bytes) => DocumentContent::Bytes(bytes.into()),
            None => DocumentContent::Blob(self.documents.source.locate(&digest)),
        };
        walk.found.documents.push(Document {
            kind,
            digest: Some(digest),
            media_type: Some(blob.media_type.clone()).filter(|text| !text.is_empty()),
            is_of_index: false,
            attached_to: Some(attached_to.clone()),
            referrer: Some(candidate.digest.clone()),
            content,
        });
    }

    fn finish(&self, walk: Walk) -> Found {
        let Walk { lists, strings, mut found, absent, of_others, unread, unread_blobs, .. } = walk;
        for (digest, mut own) in lists {
            // A registry copies the annotations of each manifest into its list.
            own.retain(|string| !strings.contains(&(string.name.clone(), string.text.clone())));
            found.documents.push(Document {
                kind: DocumentKind::Referrers,
                digest,
                media_type: None,
                is_of_index: false,
                attached_to: None,
                referrer: None,
                content: DocumentContent::Strings(own.into()),
            });
        }
        if unread > 0 {
            let Limits { referrers, referrer_depth, .. } = self.documents.limits;
            let detail = format!(
                "{unread} manifests that refer to the image were not read: the limits are {referrers} manifests, \
                 {referrer_depth} referrers deep, and {} MiB",
                MAX_KEPT_BYTES >> 20
            );
            found.gaps.push(Gap::new(GapReason::TooManyReferrers, detail));
        }
        if unread_blobs > 0 {
            let detail = format!("{unread_blobs} blobs of referrers were not read: the limit is {MAX_BLOBS}");
            found.gaps.push(Gap::new(GapReason::TooManyReferrers, detail));
        }
        if !absent.is_empty() {
            found.notes.push(format!("the target lists referrers that it does not have: {}", some(&absent)));
        }
        if !of_others.is_empty() {
            found.notes.push(format!(
                "the target lists manifests as referrers that do not say so, or refer to another manifest: {}; they \
                 were read all the same",
                some(&of_others)
            ));
        }
        found
    }
}

impl Walk {
    /// Adds the manifest of a referrer, and returns the predicate that its annotations name.
    fn push_manifest(
        &mut self,
        candidate: &Candidate,
        attached_to: Option<&Digest>,
        media_type: Option<String>,
        bytes: Arc<[u8]>,
    ) -> Option<String> {
        let node = Node::parse(&bytes).ok();
        let strings = node.as_ref().map(|node| node.strings("", &[])).unwrap_or_default();
        self.strings.extend(strings.into_iter().map(|string| (string.name, string.text)));
        self.found.documents.push(Document {
            kind: DocumentKind::Referrer,
            digest: Some(candidate.digest.clone()),
            media_type,
            is_of_index: false,
            attached_to: attached_to.cloned(),
            referrer: Some(candidate.digest.clone()),
            content: DocumentContent::Bytes(bytes),
        });
        node?.get("annotations")?.get(BUNDLE_PREDICATE)?.as_str().map(Into::into)
    }
}

/// What a blob of a referrer is, whose manifest names this type of artifact and this predicate.
fn kind(blob: &Descriptor, artifact_type: &str, predicate: Option<&str>) -> DocumentKind {
    let of_predicate = match blob.statement() {
        DocumentKind::Attestation => predicate.map_or(DocumentKind::Attestation, DocumentKind::of_predicate),
        kind => kind,
    };
    let types = [&blob.media_type[..], artifact_type].map(str::to_ascii_lowercase);
    let has = |words: &[&str]| types.iter().any(|kind| words.iter().any(|word| kind.contains(word)));
    if of_predicate != DocumentKind::Attestation {
        of_predicate
    } else if has(&["simplesigning", "cosign.artifact.sig", "notary", "jose+json", "application/cose"]) {
        DocumentKind::Signature
    } else if has(&["spdx", "cyclonedx", "syft"]) {
        DocumentKind::Sbom
    } else if has(&["in-toto", "dsse", "sigstore.bundle"]) {
        DocumentKind::Attestation
    } else {
        DocumentKind::Blob
    }
}

/// The first digests, and how many others there are.
fn some(digests: &[Digest]) -> String {
    let named: Vec<String> = digests.iter().take(MAX_NAMED).map(Digest::to_string).collect();
    let others = digests.len() - named.len();
    let others = if others > 0 { format!(" and {others} others") } else { String::new() };
    named.join(", ") + &others
}

#[cfg(test)]
mod tests;
