//! Follows everything that a document of a source names: what can be pulled by way of it. Nothing is judged here, and
//! what cannot be read is said, so that nobody takes it for what is not there.

use std::collections::HashSet;

use layersift_model::{Digest, Hasher, Limits};

use super::wire::{Descriptor, WireDocument};
use crate::image_source::{Fetched, ImageSource, Location};

/// What can be pulled by way of a document.
#[derive(Clone, Debug, Default)]
pub struct Reached {
    /// Manifests and indexes, each after the one that names it first.
    pub documents: Vec<ReachedDocument>,
    /// Documents that are named, and what they name is not known.
    pub unread: Vec<Unread>,
}

/// A manifest or an index.
#[derive(Clone, Debug)]
pub struct ReachedDocument {
    /// Its digest.
    pub digest: Digest,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// The documents that it names.
    pub children: Vec<Digest>,
    /// Its configuration.
    pub config: Option<Digest>,
    /// Its layers and other blobs.
    pub blobs: Vec<Digest>,
}

/// A document whose content is not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unread {
    /// Its digest.
    pub digest: Digest,
    /// Why: the source does not have it, or something else.
    pub reason: UnreadReason,
}

/// Why the content of a document is not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UnreadReason {
    /// The source does not have it.
    Missing,
    /// The source did not give it, or not what it should be.
    Failed(String),
}

impl Reached {
    /// All blobs, each once.
    pub fn blobs(&self) -> impl Iterator<Item = &Digest> {
        let mut seen = HashSet::new();
        let all = self.documents.iter().flat_map(|document| document.config.iter().chain(&document.blobs));
        all.filter(move |digest| seen.insert(*digest))
    }
}

/// Follows what the document `start` of `source` names.
pub fn reach(source: &dyn ImageSource, start: &Digest, limits: &Limits) -> Reached {
    let mut reached = Reached::default();
    let mut seen = HashSet::from([start.clone()]);
    let mut waiting = vec![(start.clone(), 0)];
    while let Some((digest, depth)) = waiting.pop() {
        let failed = |reason: &str| UnreadReason::Failed(reason.into());
        if depth > limits.index_depth || reached.documents.len() >= limits.manifests {
            let reason = failed("indexes are nested too deeply or name too many manifests");
            reached.unread.push(Unread { digest, reason });
            continue;
        }
        let document = match read(source, &digest, limits) {
            Ok(bytes) => parsed(&digest, bytes),
            Err(reason) => Err(reason),
        };
        match document {
            Ok(document) => {
                let new = document.children.iter().filter(|child| seen.insert((*child).clone()));
                waiting.extend(new.map(|child| (child.clone(), depth + 1)));
                reached.documents.push(document);
            }
            Err(reason) => reached.unread.push(Unread { digest, reason }),
        }
    }
    reached
}

fn read(source: &dyn ImageSource, digest: &Digest, limits: &Limits) -> Result<Vec<u8>, UnreadReason> {
    let failed = |error: &dyn std::fmt::Display| UnreadReason::Failed(error.to_string());
    let blob = match source.open(&source.locate_manifest(digest)).map_err(|error| failed(&error))? {
        Fetched::Blob(blob) => blob,
        Fetched::Missing | Fetched::Passed(_) => return Err(UnreadReason::Missing),
    };
    let bytes = blob.read_document(limits.document_bytes).map_err(|error| failed(&error))?;
    let bytes = bytes.ok_or_else(|| failed(&"it is too large"))?;
    let mut hasher = Hasher::new(digest.algorithm());
    hasher.update(&bytes);
    match hasher.finish() {
        found if found == *digest => Ok(bytes),
        found => Err(failed(&format!("the digest does not match: it is {found}"))),
    }
}

fn parsed(digest: &Digest, bytes: Vec<u8>) -> Result<ReachedDocument, UnreadReason> {
    let place = Location(digest.to_string());
    let failed = |error: super::ImageError| UnreadReason::Failed(error.to_string());
    let document = WireDocument::parse(&place, &bytes).map_err(failed)?;
    let digests = |all: Option<Vec<Descriptor>>| {
        let all = all.into_iter().flatten();
        all.map(|descriptor| descriptor.digest(&place).map_err(failed)).collect::<Result<Vec<Digest>, _>>()
    };
    let is_cache = document.is_cache_index();
    let config = document.config.as_ref().map(|config| config.digest(&place).map_err(failed)).transpose()?;
    let named = digests(document.manifests)?;
    let mut blobs = digests(document.layers)?;
    blobs.extend(digests(document.blobs)?);
    let children = if is_cache { Vec::new() } else { named.clone() };
    if is_cache {
        blobs.extend(named);
    }
    Ok(ReachedDocument { digest: digest.clone(), bytes, children, config, blobs })
}
