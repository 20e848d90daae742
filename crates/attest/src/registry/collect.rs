//! Reading what is attached to an image.

use std::collections::HashSet;

use layersift_model::Digest;

use super::{Registry, fallback_tag, legacy_tag};
use crate::bundle::{BUNDLE_TYPES, PREDICATE_TYPE, bundle_layer};
use crate::evidence::{Evidence, UnreadableError};
use crate::legacy::{self, legacy_layers};
use crate::oci::{Descriptor, EMPTY_CONFIG, Index};
use crate::predicate::{NOT_PASSED, PASSED};

/// How much is read of what is attached to one image. Where there is more, nothing is accepted: the rest may say that
/// the image does not pass.
#[derive(Clone, Copy, Debug)]
pub struct ReadLimits {
    /// The most bundles that are read.
    pub bundles: usize,
    /// The most manifests that are looked into, which may be of anything.
    pub manifests: usize,
    /// The largest blob. What is larger is not an attestation of a scan, and only noted.
    pub blob: u64,
    /// The bytes of all blobs.
    pub bytes: u64,
}

impl ReadLimits {
    /// As much as cosign reads, which takes attestations of any kind.
    pub const OF_COSIGN: ReadLimits = ReadLimits { bundles: 1000, manifests: 10_000, blob: 64 << 20, bytes: 256 << 20 };
}

impl Default for ReadLimits {
    fn default() -> ReadLimits {
        ReadLimits { bundles: 1000, manifests: 10_000, blob: 8 << 20, bytes: 64 << 20 }
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
    read_one(registry, subject, limits, &mut { limits.bytes })
}

/// As [`collect_within`], for several images whose evidence is needed at the same time: the limit on bytes is one for
/// all of them.
///
/// # Errors
/// As [`collect`].
pub fn collect_each<'d, R: Registry>(
    registry: &R,
    subjects: impl IntoIterator<Item = &'d Digest>,
    limits: &ReadLimits,
) -> Result<Vec<Evidence>, R::Error> {
    let mut left = limits.bytes;
    subjects.into_iter().map(|subject| read_one(registry, subject, limits, &mut left)).collect()
}

/// Reads what is attached to `subject`; `left` are the bytes that may be read.
fn read_one<R: Registry>(
    registry: &R,
    subject: &Digest,
    limits: &ReadLimits,
    left: &mut u64,
) -> Result<Evidence, R::Error> {
    let mut reader = Reader { registry, limits, evidence: Evidence::default(), bundles: 0, left };
    let entries = match registry.referrers(subject)? {
        Some(entries) => entries,
        None => {
            let index = registry.manifest(&fallback_tag(subject))?.as_ref().and_then(Index::parse);
            index.map(|index| index.manifests).unwrap_or_default()
        }
    };
    let mut seen = HashSet::new();
    for entry in entries.iter().filter(|entry| entry.digest != *subject) {
        if !seen.insert(&entry.digest) {
            continue;
        }
        if seen.len() > limits.manifests || !reader.referrer(entry)? {
            reader.evidence.add_unreadable(UnreadableError::TooMany(entries.len()));
            break;
        }
    }
    reader.legacy(subject)?;
    Ok(reader.evidence)
}

struct Reader<'r, R> {
    registry: &'r R,
    limits: &'r ReadLimits,
    evidence: Evidence,
    /// The bundles that were read.
    bundles: usize,
    left: &'r mut u64,
}

impl<R: Registry> Reader<'_, R> {
    /// Reads a manifest that refers to the image; whether it was not one bundle too many.
    fn referrer(&mut self, entry: &Descriptor) -> Result<bool, R::Error> {
        let manifest = self.registry.manifest(&entry.digest.to_string())?;
        let Some(manifest) = manifest.filter(|found| is(&found.bytes, &entry.digest)) else {
            self.evidence.add_unreadable(missing_referrer(entry));
            return Ok(true);
        };
        let Some(layer) = bundle_layer(&manifest.bytes) else { return Ok(true) };
        if layer.size > self.limits.blob {
            self.evidence.add_large_bundle(UnreadableError::BlobTooLarge(layer.digest, layer.size));
            return Ok(true);
        }
        if self.bundles == self.limits.bundles {
            return Ok(false);
        }
        self.bundles += 1;
        match self.blob(&layer.digest)? {
            Some(blob) => self.evidence.add_bundle(&blob),
            None => self.add_missing(&layer.digest, annotation(entry, PREDICATE_TYPE)),
        }
        Ok(true)
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
            if layer.size > self.limits.blob {
                self.evidence.add_unreadable(UnreadableError::BlobTooLarge(layer.digest, layer.size));
                continue;
            }
            match self.blob(&layer.digest)? {
                Some(blob) => self.evidence.add_legacy(&layer, &blob),
                None => self.add_missing(&layer.digest, annotation(&layer, legacy::PREDICATE_TYPE)),
            }
        }
        Ok(())
    }

    /// Adds that a blob with an attestation of a predicate type is not there, or larger than it was said to be.
    fn add_missing(&mut self, digest: &Digest, predicate_type: Option<&str>) {
        let error = match predicate_type.filter(|kind| ![PASSED, NOT_PASSED].contains(kind)) {
            Some(other) => UnreadableError::OtherMissing(digest.clone(), shortened(other)),
            // It may have been too large only because of what was read before.
            None if *self.left < self.limits.blob => UnreadableError::TooLarge(self.limits.bytes),
            None => UnreadableError::Missing(digest.clone()),
        };
        self.evidence.add_unreadable(error);
    }

    fn blob(&mut self, digest: &Digest) -> Result<Option<Vec<u8>>, R::Error> {
        let blob = self.registry.blob(digest, (*self.left).min(self.limits.blob))?.filter(|blob| is(blob, digest));
        let length = blob.as_ref().map_or(0, Vec::len);
        *self.left = self.left.saturating_sub(u64::try_from(length).unwrap_or(u64::MAX));
        Ok(blob)
    }
}

/// What a listed manifest was that is not there: an attestation of a scan, for all that the list says, or something
/// else. The types in lists are often wrong, so only another one counts.
fn missing_referrer(entry: &Descriptor) -> UnreadableError {
    let predicate_type = annotation(entry, PREDICATE_TYPE).filter(|kind| ![PASSED, NOT_PASSED].contains(kind));
    let artifact_type = entry.artifact_type.as_deref().filter(|kind| !kind.is_empty() && *kind != EMPTY_CONFIG);
    let artifact_type = artifact_type.filter(|kind| !kind.starts_with(BUNDLE_TYPES));
    match predicate_type.or(artifact_type) {
        Some(other) => UnreadableError::OtherMissing(entry.digest.clone(), shortened(other)),
        None => UnreadableError::Missing(entry.digest.clone()),
    }
}

fn annotation<'e>(entry: &'e Descriptor, name: &str) -> Option<&'e str> {
    entry.annotations.as_ref()?.get(name).map(String::as_str)
}

fn shortened(text: &str) -> String {
    text.chars().take(160).collect()
}

/// Whether these are the bytes that `digest` names.
fn is(bytes: &[u8], digest: &Digest) -> bool {
    let mut hasher = layersift_model::Hasher::new(digest.algorithm());
    hasher.update(bytes);
    hasher.finish() == *digest
}
