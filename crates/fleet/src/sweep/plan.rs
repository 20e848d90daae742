//! Planning: which images an entry of a catalog names, which of them have a report, and which layers have to be read
//! for the others.

use layersift_format::manifest::{Image, LayerSource};
use layersift_format::{SourceError, manifest};
use layersift_model::{Digest, IncompleteImage, LayerKey, Repository, SweepProblem, Verdict};
use layersift_scan::{DocumentReport, ScanError};
use layersift_source::catalog::{Catalog, CatalogError, Entry};
use layersift_source::registry::RegistrySource;
use layersift_store::{ImageId, ImageLayer, ImageRecord, Job, StoreError, StoredReport, TagSighting};

use super::{Pending, Running, Sweep, SweepError, SweepLimits, incomplete, problem};

/// The priority of layers that were never read: a new image does not wait for known ones. Layers that were read under
/// another key have less, the longer ago the more.
const NEW: i64 = 1;

/// How many entries whose images are known are noted at a time.
const KNOWN_AT_ONCE: usize = 64;

/// An image whose report is in the store, and what the policy says of it.
pub(super) struct KnownImage {
    id: ImageId,
    verdict: Verdict,
    incomplete: Option<IncompleteImage>,
}

/// An entry whose images are all known, until that is noted.
pub(super) struct KnownEntry {
    entry: Entry,
    root: Digest,
    images: Vec<KnownImage>,
}

/// An image, and what its documents hold.
pub(super) struct PlannedImage {
    pub(super) image: Image,
    pub(super) documents: DocumentReport,
}

/// What an entry of a catalog turned out to be.
pub(super) enum Resolved {
    /// Images that all have a report.
    Known { root: Digest, images: Vec<KnownImage> },
    /// Images of which at least one has none.
    New { root: Digest, images: Vec<PlannedImage> },
    /// Nothing that can be scanned.
    Problem(SweepProblem),
    /// Nothing: it was deleted while it was listed.
    Gone,
}

/// Finds out what entries are, which is mostly waiting for a registry. Several threads share it.
pub(super) struct Resolver<'r> {
    pub(super) sweep: &'r Sweep<'r>,
    pub(super) catalog: &'r dyn Catalog,
    pub(super) key: &'r LayerKey,
    pub(super) limits: &'r SweepLimits,
}

impl Resolver<'_> {
    /// What `entry` is, without having a layer read.
    ///
    /// # Errors
    /// When the store fails.
    pub(super) fn resolve(&self, entry: &Result<Entry, CatalogError>) -> Result<Resolved, StoreError> {
        match entry {
            // A registry lists repositories that have lost their last tag, and says so when it is asked for tags. Any
            // other 404 may as well mean that these credentials have no access.
            Err(CatalogError::Repository { error, .. }) if problem::is_unknown_name(error) => Ok(Resolved::Gone),
            Err(error) => Ok(Resolved::Problem(problem::catalog(error))),
            Ok(entry) => self.resolve_entry(entry),
        }
    }

    fn resolve_entry(&self, entry: &Entry) -> Result<Resolved, StoreError> {
        if let Some(digest) = &entry.digest
            && let Some(images) = self.known(entry, std::slice::from_ref(digest))?
        {
            return Ok(Resolved::Known { root: digest.clone(), images });
        }
        let registry = match self.sweep.registries.of(&entry.host) {
            Ok(registry) => registry,
            Err(error) => return Ok(Resolved::Problem(problem::registry(&error))),
        };
        let source = RegistrySource::new(registry.with_cancellation(self.limits.token()), entry.reference());
        // Most tags name what they named the last time: then the registry need not send it, nor even read it.
        if let Some((root, images)) = self.met_before(entry)? {
            match source.still_names(&root) {
                Ok(true) => return Ok(Resolved::Known { root, images }),
                Ok(false) => {}
                Err(error) => return Ok(Resolved::Problem(self.refused(entry, SourceError::from(error).into()))),
            }
        }
        let root = match source.root() {
            Ok(root) => root,
            Err(error) => return Ok(Resolved::Problem(self.refused(entry, SourceError::from(error).into()))),
        };
        if let Some(digests) = manifest::image_digests(&root.digest, &root.bytes)
            && let Some(images) = self.known(entry, &digests)?
        {
            return Ok(Resolved::Known { root: root.digest.clone(), images });
        }
        let limits = self.sweep.scanner.limits();
        Ok(match manifest::images_and_index(&source, &root.digest, limits) {
            Ok(images) => {
                let images = images.into_iter().map(|image| self.with_documents(&source, image)).collect();
                Resolved::New { root: root.digest.clone(), images }
            }
            Err(error) => Resolved::Problem(self.refused(entry, error.into())),
        })
    }

    /// Scans the documents of an image now, so that they need not be kept until its layers are read.
    fn with_documents(&self, source: &RegistrySource, mut image: Image) -> PlannedImage {
        let documents = self.sweep.scanner.documents(source, &image, &self.limits.token());
        image.documents = Vec::new();
        PlannedImage { image, documents }
    }

    /// What the tag of an entry named the last time, and the images there, if their reports are known. An index is the
    /// last of its images to be noted, so if it was, all of them were.
    fn met_before(&self, entry: &Entry) -> Result<Option<(Digest, Vec<KnownImage>)>, StoreError> {
        let (None, Some(tag)) = (&entry.digest, entry.tags.first()) else { return Ok(None) };
        let tags = self.sweep.store.tags();
        let Some(root) = tags.last_named(&repository_of(entry), tag)? else { return Ok(None) };
        let manifests = tags.images(entry.host.name(), &entry.repository, tag)?;
        if !manifests.contains(&root) {
            return Ok(None);
        }
        let images = self.known(entry, &manifests)?;
        Ok(images.map(|images| (root, images)))
    }

    /// The images with these manifests, judged, if all have a report in which every layer was read: a layer that could
    /// not be read the last time may be readable now.
    fn known(&self, entry: &Entry, manifests: &[Digest]) -> Result<Option<Vec<KnownImage>>, StoreError> {
        let mut manifests = manifests.to_vec();
        manifests.sort_unstable();
        manifests.dedup();
        let reports = self.sweep.store.images().reports(&manifests, self.key)?;
        let is_read = |stored: &StoredReport| stored.report.layers.iter().all(|layer| layer.is_read);
        if manifests.is_empty() || reports.len() < manifests.len() || !reports.iter().all(is_read) {
            return Ok(None);
        }
        let judged = |StoredReport { image, mut report }| {
            self.sweep.policy.judge(&mut report);
            let name = || entry.reference().to_string();
            KnownImage { id: image, verdict: report.verdict(), incomplete: incomplete(name, &report) }
        };
        Ok(Some(reports.into_iter().map(judged).collect()))
    }

    fn refused(&self, entry: &Entry, error: ScanError) -> SweepProblem {
        let name = entry.reference().to_string();
        if problem::is_blocked(&error) {
            let is_asked = self.catalog.request_scan(entry).unwrap_or(false);
            return problem::blocked(name, is_asked);
        }
        problem::image(name, &error)
    }
}

impl Running<'_> {
    /// Plans what an entry turned out to be: what is missing is queued.
    pub(super) fn plan(&mut self, entry: &Entry, resolved: Resolved) -> Result<(), SweepError> {
        match resolved {
            Resolved::Problem(problem) => self.add_problem(problem),
            Resolved::Gone => {}
            Resolved::Known { root, images } => {
                self.known.push(KnownEntry { entry: entry.clone(), root, images });
                if self.known.len() >= KNOWN_AT_ONCE {
                    self.note_known()?;
                }
            }
            Resolved::New { root, images } => {
                let mut is_whole = true;
                for image in images {
                    // An index of which an image could not be read is read again the next time.
                    let is_noted = is_whole || image.image.manifest_digest.as_ref() != Some(&root);
                    is_whole &= self.plan_image(entry, &root, image, is_noted)?;
                }
            }
        }
        Ok(())
    }

    /// Notes the entries whose images are known: many at a time, as that is all they cost.
    pub(super) fn note_known(&mut self) -> Result<(), SweepError> {
        let known = std::mem::take(&mut self.known);
        let images: Vec<ImageId> = known.iter().flat_map(|known| &known.images).map(|image| image.id).collect();
        if images.is_empty() {
            return Ok(());
        }
        let store = self.sweep.store;
        let tags = |known: &KnownEntry| -> Vec<TagSighting> {
            known.images.iter().flat_map(|image| sightings(&known.entry, &known.root, image.id)).collect()
        };
        let tags: Vec<TagSighting> = known.iter().flat_map(tags).collect();
        store.tags().see(&tags, (self.sweep.clock)())?;
        store.runs().see_images(self.run, &images)?;
        let sizes = store.images().layer_sizes(&images)?;
        for image in known.into_iter().flat_map(|known| known.images) {
            self.sweep.progress.image_listed();
            for bytes in sizes.get(&image.id).into_iter().flatten() {
                self.sweep.progress.layer_known(*bytes);
            }
            self.count(image.verdict, image.incomplete);
            self.sweep.progress.image_done();
        }
        Ok(())
    }

    /// Plans an image, and notes the tags that lead to it if `is_noted` is set. Returns whether it can be scanned.
    fn plan_image(
        &mut self,
        entry: &Entry,
        root: &Digest,
        planned: PlannedImage,
        is_noted: bool,
    ) -> Result<bool, SweepError> {
        let image = &planned.image;
        let store = self.sweep.store;
        self.sweep.progress.image_listed();
        // Nothing is stored of an image with damaged documents: another registry may have them undamaged.
        if let Some(gap) = image.gaps.first().or_else(|| planned.documents.unrepeatable()) {
            self.add_problem(problem::document(entry.reference().to_string(), gap));
            return Ok(false);
        }
        let Some(record) = record_of(image) else {
            self.add_problem(problem::undigested(entry.reference().to_string()));
            return Ok(false);
        };
        let now = (self.sweep.clock)();
        let id = store.images().put(&record, now)?;
        if is_noted {
            store.tags().see(&sightings(entry, root, id), now)?;
        }
        let digests: Vec<Digest> = record.layers.iter().map(|layer| layer.digest.clone()).collect();
        let key = self.cache.key();
        let known = store.layers().with_reports(&digests, key)?;
        let read_before = store.layers().last_read(&digests)?;
        let mut missing: Vec<Digest> = Vec::new();
        let mut jobs: Vec<Job> = Vec::new();
        for layer in &record.layers {
            if known.contains(&layer.digest) || missing.contains(&layer.digest) {
                self.sweep.progress.layer_known(layer.blob_bytes);
                continue;
            }
            missing.push(layer.digest.clone());
            if self.queued.insert(layer.digest.clone()) {
                self.sweep.progress.layer_queued(layer.blob_bytes);
            } else {
                self.sweep.progress.layer_known(layer.blob_bytes);
            }
            // Also where it is queued already: this is one more source.
            jobs.push(Job {
                layer: layer.digest.clone(),
                size: layer.blob_bytes,
                priority: read_before.get(&layer.digest).map_or(NEW, |when| when.saturating_neg()),
                source: format!("{}/{}", entry.host, entry.repository),
            });
        }
        store.queue().enqueue(key, &jobs, now)?;
        if missing.is_empty() {
            self.assemble(planned)?;
            return Ok(true);
        }
        // Layers that an earlier sweep failed to read are tried again; those of this sweep are not.
        let again: Vec<Digest> = missing.iter().filter(|layer| !self.poisoned.contains_key(layer)).cloned().collect();
        store.queue().retry(key, &again)?;
        self.pending.push(Pending { planned, missing });
        Ok(true)
    }
}

/// What is stored of an image before its layers are read: not its instructions, which were not searched for secrets
/// yet. `None` for an image without a manifest digest, or with a layer without a digest.
fn record_of(image: &Image) -> Option<ImageRecord> {
    let layer = |layer: &LayerSource| {
        Some(ImageLayer {
            digest: layer.digest.clone()?,
            diff_id: layer.diff_id.clone(),
            created_by: None,
            blob_bytes: layer.size.unwrap_or(0),
        })
    };
    Some(ImageRecord {
        manifest_digest: image.manifest_digest.clone()?,
        config_digest: image.config_digest.clone(),
        platform: image.platform.clone(),
        layers: image.layers.iter().map(layer).collect::<Option<_>>()?,
    })
}

fn repository_of(entry: &Entry) -> Repository {
    let project = entry.project.clone().unwrap_or_default();
    let inside = entry.repository.strip_prefix(&project).and_then(|rest| rest.strip_prefix('/'));
    Repository {
        registry: entry.host.name().to_string(),
        repository: inside.unwrap_or(&entry.repository).to_string(),
        project,
    }
}

fn sightings(entry: &Entry, root: &Digest, image: ImageId) -> Vec<TagSighting> {
    let repository = repository_of(entry);
    let one = |tag| TagSighting { repository: repository.clone(), tag, digest: root.clone(), image };
    if entry.tags.is_empty() { vec![one(None)] } else { entry.tags.iter().map(|tag| one(Some(tag.clone()))).collect() }
}
