//! The transport `docker:`: one reference of a registry as an [`ImageSource`].
//!
//! A registry stores manifests apart from other blobs, so a location says which it is:
//! `host/repository/manifests/<digest>` or `host/repository/blobs/<digest>`.

use std::collections::HashMap;
use std::io::Cursor;
use std::sync::{Mutex, OnceLock, PoisonError};

use serde::Deserialize;

use super::client::{At, Manifest, Registry};
use super::error::RegistryError;
use super::options::RegistryOptions;
use super::reference::{Reference, ReferenceError};
use super::referrers::Lookups;
use crate::open::Context;
use crate::target::{Argument, InvalidArgument, Transport};
use layersift_format::{Blob, Fetched, ImageSource, Listed, Location, Opened, Referrers, SourceError};
use layersift_model::{Digest, parse};

/// Blobs of one image that are pulled at once, as in skopeo.
const CONCURRENT_READS: usize = 6;

/// `docker:`
pub(crate) static TRANSPORT: Transport = Transport {
    name: "docker",
    argument: "//[HOST/]REPOSITORY[:TAG][@DIGEST]",
    parse: |argument| {
        let text = argument.strip_prefix("//").ok_or(InvalidArgument::NoSlashes)?;
        let reference: Reference = text.parse().map_err(InvalidArgument::Reference)?;
        Ok(Argument { path: None, reference: Some(reference.to_string()) })
    },
    open,
};

/// The most blobs whose sizes are remembered. Those of others are bounded by [`super::RegistryOptions::blob_bytes`].
const MAX_SIZES: usize = 100_000;

/// One image, or one index, of a registry.
pub struct RegistrySource {
    pub(super) registry: Registry,
    pub(super) reference: Reference,
    /// The manifest of the reference, requested once: a tag may move meanwhile, and all reads must see one image.
    root: OnceLock<Manifest>,
    /// Sizes of blobs in the manifests that were read.
    sizes: Mutex<HashMap<Digest, u64>>,
    /// What is known of referrers.
    pub(super) referrers: Lookups,
    /// Manifests of referrers that were not opened yet.
    pub(super) kept: Mutex<HashMap<Digest, Vec<u8>>>,
}

impl RegistrySource {
    /// The image that `reference` names in `registry`, which must be the registry of its host.
    pub fn new(registry: Registry, reference: Reference) -> RegistrySource {
        RegistrySource {
            registry,
            reference,
            root: OnceLock::new(),
            sizes: Mutex::default(),
            referrers: Lookups::default(),
            kept: Mutex::default(),
        }
    }

    /// What it was opened for.
    pub fn reference(&self) -> &Reference {
        &self.reference
    }

    /// The client that it uses.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The manifest or index that the reference names. It is requested once.
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

    /// Whether the reference names the manifest or index with the digest `known`. If it is a tag that still does, most
    /// registries say so without sending the manifest; otherwise the manifest is kept as the
    /// [root](RegistrySource::root).
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

    pub(super) fn manifest(&self, at: &At) -> Result<Manifest, RegistryError> {
        let manifest = self.registry.manifest(&self.reference.repository, at)?;
        self.note_sizes(&manifest.bytes);
        Ok(manifest)
    }

    /// Remembers the sizes of the blobs in a manifest. Other documents have none, and are for the caller to judge.
    fn note_sizes(&self, bytes: &[u8]) {
        #[derive(Deserialize)]
        struct Manifest {
            config: Option<Descriptor>,
            #[serde(default)]
            layers: Vec<Descriptor>,
        }
        #[derive(Deserialize)]
        struct Descriptor {
            digest: Digest,
            size: u64,
        }
        let Ok(manifest) = parse::json::<Manifest>(bytes) else { return };
        let mut sizes = self.sizes.lock().unwrap_or_else(PoisonError::into_inner);
        for Descriptor { digest, size } in manifest.config.into_iter().chain(manifest.layers) {
            if sizes.len() >= MAX_SIZES {
                return;
            }
            // If manifests disagree, the larger size counts: then the blob is read whole, and the smaller size is found
            // to be wrong.
            let known = sizes.entry(digest).or_default();
            *known = size.max(*known);
        }
    }

    fn size(&self, digest: &Digest) -> Option<u64> {
        self.sizes.lock().unwrap_or_else(PoisonError::into_inner).get(digest).copied()
    }

    fn location(&self, kind: &str, digest: &Digest) -> Location {
        Location(format!("{}/{}/{kind}/{digest}", self.reference.host, self.reference.repository))
    }

    /// The digest in a location of `kind`: `manifests` or `blobs`.
    fn digest_in(&self, kind: &str, location: &Location) -> Option<Digest> {
        let rest = location.0.strip_prefix(self.reference.host.name())?.strip_prefix('/')?;
        let rest = rest.strip_prefix(self.reference.repository.as_str())?.strip_prefix('/')?;
        rest.strip_prefix(kind)?.strip_prefix('/')?.parse().ok()
    }

    fn open_manifest(&self, digest: &Digest) -> Result<Vec<u8>, RegistryError> {
        if let Some(root) = self.root.get().filter(|root| root.digest == *digest) {
            return Ok(root.bytes.clone());
        }
        if let Some(bytes) = self.kept.lock().unwrap_or_else(PoisonError::into_inner).remove(digest) {
            return Ok(bytes);
        }
        self.manifest(&At::Digest(digest.clone())).map(|manifest| manifest.bytes)
    }
}

impl ImageSource for RegistrySource {
    fn concurrent_reads(&self) -> Option<usize> {
        Some(CONCURRENT_READS)
    }

    fn list(&self) -> Result<Vec<Listed>, SourceError> {
        let digest = self.root()?.digest.clone();
        let location = self.locate_manifest(&digest);
        let (reference, listing) = (Some(self.reference.to_string()), Vec::new());
        Ok(vec![Listed::Manifest { reference, location, digest: Some(digest), listing }])
    }

    fn missing(&self, what: &str) -> String {
        format!("the registry answered 404 for this {what}")
    }

    fn locate(&self, digest: &Digest) -> Location {
        self.location("blobs", digest)
    }

    fn locate_manifest(&self, digest: &Digest) -> Location {
        self.location("manifests", digest)
    }

    fn referrers(&self, digest: &Digest) -> Referrers {
        self.look_up(digest)
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

/// Opens the image of a registry. Nothing is sent yet.
fn open(context: &Context<'_>) -> Result<Opened, SourceError> {
    let text = context.target.reference.as_deref().unwrap_or_default();
    let reference: Reference = text.parse().map_err(|error: ReferenceError| RegistryError::from(error))?;
    let options = RegistryOptions {
        document_bytes: context.limits.document_bytes,
        blob_bytes: context.limits.layer_bytes,
        ..context.registry.clone()
    };
    let registry = Registry::new(&reference.host, options)?;
    Ok(Opened::Source(Box::new(RegistrySource::new(registry, reference))))
}
