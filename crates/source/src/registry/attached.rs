//! A repository of a registry as the crate `attest` reads and writes it.

use std::collections::HashMap;
use std::io::Read;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use layersift_attest::registry::{Put, Registry as AttestRegistry};
use layersift_attest::{Descriptor, Document};
use layersift_format::Cancellation;
use layersift_model::{Digest, parse};
use serde::Deserialize;

use super::{At, Manifest, Registry, RegistryError};

/// How long from one read of a tag to the next while a write to it is under way.
const WATCH: Duration = Duration::from_millis(50);

/// A repository whose attestations are read or written.
pub struct Repository {
    registry: Registry,
    name: String,
    cancellation: Cancellation,
    /// What tags named last. They are read again and again, and seldom change.
    tags: Mutex<HashMap<String, (Digest, Document)>>,
}

/// A page of what refers to a manifest.
#[derive(Deserialize)]
struct Page {
    manifests: Option<Vec<Descriptor>>,
}

impl Repository {
    /// The repository `name` of `registry`, until `cancellation` is cancelled.
    pub fn new(registry: &Registry, name: &str, cancellation: &Cancellation) -> Repository {
        let (registry, cancellation) = (registry.with_cancellation(cancellation.clone()), cancellation.clone());
        Repository { registry, name: name.into(), cancellation, tags: Mutex::default() }
    }

    /// Its name in the registry.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What `tag` names. It is sent only if it is not the same as the last time.
    fn tagged(&self, tag: &str) -> Result<Document, RegistryError> {
        let known = self.tags.lock().unwrap_or_else(PoisonError::into_inner).get(tag).cloned();
        let manifest = match &known {
            Some((digest, _)) => self.registry.manifest_unless(&self.name, tag, digest)?,
            None => Some(self.registry.manifest(&self.name, &At::Tag(tag.into()))?),
        };
        let (digest, document) = match (manifest, known) {
            (Some(manifest), _) => (manifest.digest.clone(), document(manifest)),
            (None, Some(known)) => return Ok(known.1),
            (None, None) => return self.registry.manifest(&self.name, &At::Tag(tag.into())).map(document),
        };
        let mut tags = self.tags.lock().unwrap_or_else(PoisonError::into_inner);
        tags.insert(tag.into(), (digest, document.clone()));
        Ok(document)
    }
}

impl AttestRegistry for Repository {
    type Error = RegistryError;

    fn manifest(&self, reference: &str) -> Result<Option<Document>, RegistryError> {
        let read = match at(reference) {
            At::Tag(tag) => self.tagged(&tag),
            digest => self.registry.manifest(&self.name, &digest).map(document),
        };
        match read {
            Ok(document) => Ok(Some(document)),
            Err(RegistryError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn put_watched(&self, tag: &str, manifest: &Document) -> Result<(Put, Vec<Document>), RegistryError> {
        let is_done = AtomicBool::new(false);
        thread::scope(|scope| {
            let watched = scope.spawn(|| {
                let mut shown: Vec<Document> = Vec::new();
                while !is_done.load(Ordering::Relaxed) {
                    // The write itself says what is wrong with the registry.
                    let read = self.manifest(tag).ok().flatten();
                    shown.extend(read.filter(|read| shown.last() != Some(read)));
                    if self.cancellation.wait(WATCH) {
                        break;
                    }
                }
                shown
            });
            let put = self.put_manifest(tag, manifest);
            is_done.store(true, Ordering::Relaxed);
            let shown = watched.join().unwrap_or_default();
            Ok((put?, shown))
        })
    }

    fn put_manifest(&self, reference: &str, manifest: &Document) -> Result<Put, RegistryError> {
        match self.registry.push_manifest(&self.name, &at(reference), &manifest.media_type, &manifest.bytes) {
            Ok(()) => Ok(Put::Stored),
            Err(error) if is_about_content(&error) => {
                tracing::info!("{reference}: {error}");
                Ok(Put::Refused)
            }
            Err(error) => Err(error),
        }
    }

    fn blob(&self, digest: &Digest, most: u64) -> Result<Option<Vec<u8>>, RegistryError> {
        let stream = match self.registry.blob(&self.name, digest, None) {
            Ok(stream) => stream,
            Err(RegistryError::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut bytes = Vec::new();
        let read = stream.take(most.saturating_add(1)).read_to_end(&mut bytes);
        if let Err(error) = read {
            // What is not a registry's own error cannot be told apart from a blob that is not there.
            return error.downcast::<RegistryError>().map_or(Ok(None), Err);
        }
        Ok((bytes.len() as u64 <= most).then_some(bytes))
    }

    fn put_blob(&self, blob: &Document) -> Result<(), RegistryError> {
        self.registry.push_blob(&self.name, &blob.bytes).map(|_| ())
    }

    fn referrers(&self, subject: &Digest) -> Result<Option<Vec<Descriptor>>, RegistryError> {
        let Some(pages) = self.registry.referrers(&self.name, subject)? else { return Ok(None) };
        // A page that is not an index is no list of referrers.
        let read = |page: Vec<u8>| parse::json::<Page>(&page).ok().map(|page| page.manifests);
        let pages: Option<Vec<_>> = pages.into_iter().map(read).collect();
        Ok(pages.map(|pages| pages.into_iter().flatten().flatten().collect()))
    }

    fn pause(&self, duration: Duration) -> Result<(), RegistryError> {
        self.cancellation.wait(duration);
        Ok(())
    }
}

fn document(manifest: Manifest) -> Document {
    let media_type = manifest.media_type.unwrap_or_default();
    let media_type = media_type.split(';').next().unwrap_or_default().trim().into();
    Document { media_type, bytes: manifest.bytes }
}

fn at(reference: &str) -> At {
    reference.parse().map_or_else(|_| At::Tag(reference.into()), At::Digest)
}

/// Whether the registry refused what was written, and would again.
fn is_about_content(error: &RegistryError) -> bool {
    match error {
        RegistryError::NotFound { .. } => true,
        RegistryError::Status { response, .. } => matches!(response.status, 400 | 413 | 422),
        _ => false,
    }
}
