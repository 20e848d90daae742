//! The transport: one reference of a registry as an [`ImageSource`].
//!
//! A registry holds manifests and other blobs apart, so a location says which it is:
//! `host/repository/manifests/<digest>` or `host/repository/blobs/<digest>`.

use std::collections::HashMap;
use std::io::Cursor;
use std::sync::{Mutex, OnceLock, PoisonError};

use serde::Deserialize;

use super::client::{At, Manifest, Registry};
use super::error::RegistryError;
use super::reference::Reference;
use layersift_format::{Blob, Fetched, ImageSource, Listed, Location, SourceError};
use layersift_model::Digest;

/// Blobs whose sizes are remembered. Those of others are bounded by [`super::RegistryOptions::blob_bytes`].
const MOST_SIZES: usize = 100_000;

/// One image, or one index, of a registry.
pub struct RegistrySource {
    registry: Registry,
    reference: Reference,
    /// What the reference names, once it was asked for: a tag may move meanwhile, and this image is one.
    root: OnceLock<Manifest>,
    /// The sizes of blobs that manifests name.
    sizes: Mutex<HashMap<Digest, u64>>,
}

impl RegistrySource {
    /// The image that `reference` names in `registry`, which must be the registry of its host.
    pub fn new(registry: Registry, reference: Reference) -> RegistrySource {
        RegistrySource { registry, reference, root: OnceLock::new(), sizes: Mutex::default() }
    }

    /// The registry, which knows what it was asked for so far.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The manifest or index that the reference names. It is asked for once.
    ///
    /// # Errors
    /// As [`Registry::manifest`].
    pub fn root(&self) -> Result<&Manifest, RegistryError> {
        if let Some(root) = self.root.get() {
            return Ok(root);
        }
        let at = match (&self.reference.digest, &self.reference.tag) {
            (Some(digest), _) => At::Digest(digest.clone()),
            (None, tag) => At::Tag(tag.clone().unwrap_or_else(|| "latest".into())),
        };
        let root = self.manifest(&at)?;
        Ok(self.root.get_or_init(|| root))
    }

    /// Whether the reference names the manifest or index with the digest `known`. Where it is a tag and still does,
    /// most registries say so without sending it; otherwise what it names is kept as the [root](RegistrySource::root).
    ///
    /// # Errors
    /// As [`Registry::manifest`].
    pub fn still_names(&self, known: &Digest) -> Result<bool, RegistryError> {
        if let (None, Some(tag), None) = (self.root.get(), &self.reference.tag, &self.reference.digest) {
            let Some(root) = self.registry.manifest_unless(&self.reference.repository, tag, known)? else {
                return Ok(true);
            };
            self.note_sizes(&root.bytes);
            let _ = self.root.set(root);
        }
        Ok(self.root()?.digest == *known)
    }

    fn manifest(&self, at: &At) -> Result<Manifest, RegistryError> {
        let manifest = self.registry.manifest(&self.reference.repository, at)?;
        self.note_sizes(&manifest.bytes);
        Ok(manifest)
    }

    /// Remembers how large the blobs of a manifest are. What is no manifest names none; the caller says what it is.
    fn note_sizes(&self, bytes: &[u8]) {
        #[derive(Deserialize)]
        struct Named {
            config: Option<Descriptor>,
            #[serde(default)]
            layers: Vec<Descriptor>,
        }
        #[derive(Deserialize)]
        struct Descriptor {
            digest: Digest,
            size: u64,
        }
        let Ok(named) = serde_json::from_slice::<Named>(bytes) else { return };
        let mut sizes = self.sizes.lock().unwrap_or_else(PoisonError::into_inner);
        for Descriptor { digest, size } in named.config.into_iter().chain(named.layers) {
            if sizes.len() >= MOST_SIZES {
                return;
            }
            // Where manifests disagree, the larger one is read to its end, and the other one's reader is told.
            let known = sizes.entry(digest).or_default();
            *known = size.max(*known);
        }
    }

    fn size(&self, digest: &Digest) -> Option<u64> {
        self.sizes.lock().unwrap_or_else(PoisonError::into_inner).get(digest).copied()
    }

    fn place(&self, kind: &str, digest: &Digest) -> Location {
        Location(format!("{}/{}/{kind}/{digest}", self.reference.host, self.reference.repository))
    }

    /// The digest in a location of this kind.
    fn digest_in(&self, kind: &str, location: &Location) -> Option<Digest> {
        let rest = location.0.strip_prefix(self.reference.host.name())?.strip_prefix('/')?;
        let rest = rest.strip_prefix(self.reference.repository.as_str())?.strip_prefix('/')?;
        rest.strip_prefix(kind)?.strip_prefix('/')?.parse().ok()
    }

    fn open_manifest(&self, digest: &Digest) -> Result<Vec<u8>, RegistryError> {
        if let Some(root) = self.root.get().filter(|root| root.digest == *digest) {
            return Ok(root.bytes.clone());
        }
        self.manifest(&At::Digest(digest.clone())).map(|manifest| manifest.bytes)
    }
}

impl ImageSource for RegistrySource {
    fn list(&self) -> Result<Vec<Listed>, SourceError> {
        let digest = self.root()?.digest.clone();
        let location = self.locate_manifest(&digest);
        Ok(vec![Listed::Manifest { reference: Some(self.reference.to_string()), location, digest: Some(digest) }])
    }

    fn locate(&self, digest: &Digest) -> Location {
        self.place("blobs", digest)
    }

    fn locate_manifest(&self, digest: &Digest) -> Location {
        self.place("manifests", digest)
    }

    fn open(&self, location: &Location) -> Result<Fetched<'_>, SourceError> {
        let stream = if let Some(digest) = self.digest_in("manifests", location) {
            self.open_manifest(&digest).map(|bytes| Blob::Stream(Box::new(Cursor::new(bytes))))
        } else if let Some(digest) = self.digest_in("blobs", location) {
            let blob = self.registry.blob(&self.reference.repository, &digest, self.size(&digest));
            blob.map(|blob| Blob::Stream(Box::new(blob)))
        } else {
            return Ok(Fetched::Missing);
        };
        match stream {
            Ok(blob) => Ok(Fetched::Blob(blob)),
            Err(RegistryError::NotFound { .. }) => Ok(Fetched::Missing),
            Err(error) => Err(error.into()),
        }
    }
}
