//! Reading what is attached to an image.

use layersift_model::Digest;

use super::{Registry, fallback_tag, legacy_tag};
use crate::bundle::bundle_layer;
use crate::evidence::{Evidence, UnreadableError};
use crate::legacy::legacy_layers;
use crate::oci::{Descriptor, Index};

/// How much is read of what is attached to one image. Where there is more, nothing is accepted: the rest may say that
/// the image does not pass.
#[derive(Clone, Copy, Debug)]
pub struct ReadLimits {
    /// The most manifests that are looked into.
    pub referrers: usize,
    /// The largest blob.
    pub blob: u64,
    /// The bytes of all blobs.
    pub bytes: u64,
}

impl Default for ReadLimits {
    fn default() -> ReadLimits {
        ReadLimits { referrers: 1000, blob: 64 << 20, bytes: 256 << 20 }
    }
}

/// Reads everything that is attached to the image `subject`, in both forms. Every list of referrers is read as a whole,
/// because the artifact types in them are often wrong.
///
/// # Errors
/// If the registry fails. Something that is listed and cannot be read is no error: it is in the evidence.
pub fn collect<R: Registry>(registry: &R, subject: &Digest) -> Result<Evidence, R::Error> {
    collect_within(registry, subject, &ReadLimits::default())
}

/// As [`collect`], with other limits.
///
/// # Errors
/// As [`collect`].
pub fn collect_within<R: Registry>(registry: &R, subject: &Digest, limits: &ReadLimits) -> Result<Evidence, R::Error> {
    let mut reader = Reader { registry, limits, evidence: Evidence::default(), left: limits.bytes };
    let entries = match registry.referrers(subject)? {
        Some(entries) => entries,
        None => {
            let index = registry.manifest(&fallback_tag(subject))?.as_ref().and_then(Index::parse);
            index.map(|index| index.manifests).unwrap_or_default()
        }
    };
    for (count, entry) in entries.iter().enumerate() {
        if count == limits.referrers {
            reader.evidence.add_unreadable(UnreadableError::TooMany(entries.len()));
            break;
        }
        reader.referrer(entry)?;
    }
    reader.legacy(subject)?;
    Ok(reader.evidence)
}

struct Reader<'r, R> {
    registry: &'r R,
    limits: &'r ReadLimits,
    evidence: Evidence,
    left: u64,
}

impl<R: Registry> Reader<'_, R> {
    fn referrer(&mut self, entry: &Descriptor) -> Result<(), R::Error> {
        let manifest = self.registry.manifest(&entry.digest.to_string())?;
        let Some(manifest) = manifest.filter(|found| is(&found.bytes, &entry.digest)) else {
            self.evidence.add_unreadable(UnreadableError::Missing(entry.digest.clone()));
            return Ok(());
        };
        let Some(layer) = bundle_layer(&manifest.bytes) else { return Ok(()) };
        if let Some(blob) = self.blob(&layer.digest)? {
            self.evidence.add_bundle(&blob);
        }
        Ok(())
    }

    fn legacy(&mut self, subject: &Digest) -> Result<(), R::Error> {
        let Some(manifest) = self.registry.manifest(&legacy_tag(subject))? else { return Ok(()) };
        let layers = match legacy_layers(&manifest) {
            Ok(layers) => layers,
            Err(error) => {
                self.evidence.add_unreadable(error);
                return Ok(());
            }
        };
        for layer in layers {
            if let Some(blob) = self.blob(&layer.digest)? {
                self.evidence.add_legacy(&layer, &blob);
            }
        }
        Ok(())
    }

    fn blob(&mut self, digest: &Digest) -> Result<Option<Vec<u8>>, R::Error> {
        let blob = self.registry.blob(digest, self.left.min(self.limits.blob))?.filter(|blob| is(blob, digest));
        match &blob {
            Some(blob) => self.left = self.left.saturating_sub(u64::try_from(blob.len()).unwrap_or(u64::MAX)),
            // It may have been too large only because of what was read before.
            None if self.left < self.limits.blob => {
                self.evidence.add_unreadable(UnreadableError::TooLarge(self.limits.bytes));
            }
            None => self.evidence.add_unreadable(UnreadableError::Missing(digest.clone())),
        }
        Ok(blob)
    }
}

/// Whether these are the bytes that `digest` names.
fn is(bytes: &[u8], digest: &Digest) -> bool {
    let mut hasher = layersift_model::Hasher::new(digest.algorithm());
    hasher.update(bytes);
    hasher.finish() == *digest
}
