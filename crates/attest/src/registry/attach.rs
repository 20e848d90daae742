//! Attaching attestations to an image, without losing those of others.

use std::collections::HashSet;

use layersift_model::Digest;

use super::shared_tag::{List, Writer};
use super::{AttachError, ListedIn, Pace, Put, Registry, fallback_tag, legacy_tag};
use crate::bundle::Artifact;
use crate::legacy::{NewLayer, append, legacy_layers};
use crate::oci::{Descriptor, Document, INDEX, Index};

/// How often a manifest is written that the registry refuses. docker-registry says for a moment that it does not have a
/// blob while somebody else writes the same one, and all bundles have the same configuration.
const MOST_REFUSED: u32 = 5;

/// The largest blob of another attestation that is looked for.
const MOST_BLOB: u64 = 64 << 20;

/// Attaches bundles to the image `subject`.
///
/// A registry with the referrers API lists them by itself, and loses nothing. For another, the index under the tag
/// `sha256-<hex>` is written and read again until it keeps them, at best effort: see [`Pace`]. Entries of others are
/// kept. One is dropped only if the registry refused the index and says of the entry that there is no such manifest. A
/// tag that holds anything but an index, such as the image itself after `cosign copy`, is written anew.
///
/// # Errors
/// If the registry fails, refuses what is written, or does not list it.
pub fn attach_bundles<R: Registry>(
    registry: &R,
    subject: &Digest,
    artifacts: &[Artifact],
    pace: Pace,
) -> Result<ListedIn, AttachError<R::Error>> {
    for artifact in artifacts {
        put(registry, artifact, pace)?;
    }
    let own: Vec<Descriptor> = artifacts.iter().map(|artifact| artifact.entry.clone()).collect();
    for _ in 0..pace.most_reads {
        let Some(listed) = registry.referrers(subject).map_err(AttachError::Registry)? else {
            return writer(registry, FallbackIndex(registry), fallback_tag(subject), own, pace).run();
        };
        if own.iter().all(|own| listed.iter().any(|entry| entry.digest == own.digest)) {
            return Ok(ListedIn::Referrers);
        }
        registry.pause(pace.pause()).map_err(AttachError::Registry)?;
    }
    Err(AttachError::NotListed(subject.to_string()))
}

/// Writes a manifest after its blobs.
fn put<R: Registry>(registry: &R, artifact: &Artifact, pace: Pace) -> Result<(), AttachError<R::Error>> {
    let reference = artifact.entry.digest.to_string();
    for attempt in 1..=MOST_REFUSED {
        for blob in &artifact.blobs {
            registry.put_blob(blob).map_err(AttachError::Registry)?;
        }
        let put = registry.put_manifest(&reference, &artifact.manifest).map_err(AttachError::Registry)?;
        if put == Put::Stored {
            return Ok(());
        }
        if attempt < MOST_REFUSED {
            registry.pause(pace.pause()).map_err(AttachError::Registry)?;
        }
    }
    Err(AttachError::Refused(format!("the manifest {reference}")))
}

/// Appends attestations to the `.att` manifest of the image `subject`. The layers of others are kept, and the tag is
/// read again as for [`attach_bundles`]. This form has no API that would do better.
///
/// # Errors
/// If the registry fails or refuses what is written, or if the tag holds something else or is full.
pub fn attach_layers<R: Registry>(
    registry: &R,
    subject: &Digest,
    layers: &[NewLayer],
    pace: Pace,
) -> Result<ListedIn, AttachError<R::Error>> {
    for layer in layers {
        registry.put_blob(&layer.blob).map_err(AttachError::Registry)?;
    }
    let own = layers.iter().map(|layer| layer.descriptor.clone()).collect();
    writer(registry, LegacyManifest(registry), legacy_tag(subject), own, pace).run()
}

fn writer<R: Registry, L>(registry: &R, list: L, tag: String, own: Vec<Descriptor>, pace: Pace) -> Writer<'_, R, L> {
    let (seen, dropped) = (Vec::new(), HashSet::new());
    Writer {
        registry,
        list,
        tag,
        own,
        pace,
        seen,
        seen_digests: HashSet::new(),
        dropped,
        contention: 0,
        last: (None, Vec::new()),
        has_written: false,
        refused: 0,
    }
}

/// The index under the fallback tag.
struct FallbackIndex<'r, R>(&'r R);

impl<R: Registry> List<R> for FallbackIndex<'_, R> {
    fn entries(&self, document: Option<&Document>) -> Result<Vec<Descriptor>, AttachError<R::Error>> {
        Ok(document.and_then(Index::parse).map(|index| index.manifests).unwrap_or_default())
    }

    const SENDS: bool = false;

    fn document(
        &self,
        document: Option<&Document>,
        entries: &[Descriptor],
        dropped: &HashSet<Digest>,
    ) -> Result<Document, AttachError<R::Error>> {
        let mut index = document.and_then(Index::parse).unwrap_or_else(Index::empty);
        index.manifests.extend_from_slice(entries);
        index.manifests.retain(|entry| !dropped.contains(&entry.digest));
        let bytes = serde_json::to_vec(&index).map_err(AttachError::Write)?;
        Ok(Document { media_type: INDEX.into(), bytes })
    }

    fn exists(&self, entry: &Descriptor) -> Result<bool, AttachError<R::Error>> {
        let found = self.0.manifest(&entry.digest.to_string()).map_err(AttachError::Registry)?;
        Ok(found.is_some())
    }

    fn listed_in(&self) -> ListedIn {
        ListedIn::FallbackTag
    }
}

/// The manifest under the `.att` tag.
struct LegacyManifest<'r, R>(&'r R);

impl<R: Registry> List<R> for LegacyManifest<'_, R> {
    fn entries(&self, document: Option<&Document>) -> Result<Vec<Descriptor>, AttachError<R::Error>> {
        document.map(legacy_layers).transpose().map(Option::unwrap_or_default).map_err(AttachError::Legacy)
    }

    const SENDS: bool = true;

    fn document(
        &self,
        document: Option<&Document>,
        entries: &[Descriptor],
        dropped: &HashSet<Digest>,
    ) -> Result<Document, AttachError<R::Error>> {
        let entries: Vec<_> = entries.iter().filter(|entry| !dropped.contains(&entry.digest)).cloned().collect();
        let (config, manifest) = append(document, &entries).map_err(AttachError::Legacy)?;
        self.0.put_blob(&config).map_err(AttachError::Registry)?;
        Ok(manifest)
    }

    fn exists(&self, entry: &Descriptor) -> Result<bool, AttachError<R::Error>> {
        Ok(self.0.blob(&entry.digest, MOST_BLOB).map_err(AttachError::Registry)?.is_some())
    }

    fn listed_in(&self) -> ListedIn {
        ListedIn::LegacyTag
    }
}
