//! A repository of a registry as the crate `attest` reads and writes it, and an image in it.

use std::collections::HashMap;
use std::io::Read;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::Context;
use serde::Deserialize;

use layersift_attest::registry::{Put, Registry as AttestRegistry};
use layersift_attest::{Descriptor, Document, INDEX};
use layersift_format::Cancellation;
use layersift_model::Digest;
use layersift_source::Target;
use layersift_source::registry::{At, Manifest, Reference, Registry, RegistryError, RegistryOptions, RegistrySource};

/// The annotation of manifests in an index that no platform runs.
const REFERENCE_TYPE: &str = "vnd.docker.reference.type";
const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// How long from one read of a tag to the next while a write to it is under way.
const WATCH: Duration = Duration::from_millis(50);

/// A repository.
pub(crate) struct Repository {
    registry: Registry,
    name: String,
    cancellation: Cancellation,
    /// What tags named last. They are read again and again, and seldom change.
    tags: Mutex<HashMap<String, (Digest, Document)>>,
}

/// An image of a registry, whose tag was resolved once.
pub(crate) struct RegistryImage {
    pub(crate) repository: Repository,
    host: String,
    pub(crate) root: Descriptor,
    /// The manifests that can run, if the root is an index.
    pub(crate) platforms: Option<Vec<Descriptor>>,
}

#[derive(Deserialize)]
struct Index {
    #[serde(rename = "mediaType")]
    media_type: Option<String>,
    manifests: Option<Vec<Descriptor>>,
}

impl RegistryImage {
    /// The image that `target` names, if it is one of a registry.
    pub(crate) fn open(
        target: &Target,
        options: RegistryOptions,
        cancellation: &Cancellation,
    ) -> anyhow::Result<Option<RegistryImage>> {
        if target.transport.is_none_or(|transport| transport.name != "docker") {
            return Ok(None);
        }
        let reference: Reference = target.reference.as_deref().unwrap_or_default().parse()?;
        let registry = Registry::new(&reference.host, options)?;
        let repository = Repository {
            registry: registry.clone(),
            name: reference.repository.clone(),
            cancellation: cancellation.clone(),
            tags: Mutex::default(),
        };
        let host = reference.host.name().to_owned();
        let source = RegistrySource::new(registry, reference);
        let manifest = source.root()?;
        let index: Index = serde_json::from_slice(&manifest.bytes).with_context(|| target.text.clone())?;
        let media_type = index.media_type.or_else(|| manifest.media_type.clone()).unwrap_or_default();
        let is_index = media_type == INDEX || media_type == DOCKER_INDEX;
        let runs = |entry: &Descriptor| {
            let annotations = entry.annotations.as_ref();
            annotations.is_none_or(|annotations| !annotations.contains_key(REFERENCE_TYPE))
        };
        let platforms = index.manifests.filter(|_| is_index).map(|all| all.into_iter().filter(runs).collect());
        let mut root = Descriptor::of(&media_type, &manifest.bytes);
        root.digest = manifest.digest.clone();
        Ok(Some(RegistryImage { repository, host, root, platforms }))
    }

    /// What a statement calls the image: registry and repository, as cosign does.
    pub(crate) fn name(&self) -> String {
        format!("{}/{}", self.host, self.repository.name)
    }

    /// A target that names the same bytes, whatever the tag does.
    pub(crate) fn target(&self) -> String {
        format!("docker://{}@{}", self.name(), self.root.digest)
    }
}

impl Repository {
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
        let read = |page: Vec<u8>| serde_json::from_slice::<Index>(&page).ok().map(|index| index.manifests);
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
