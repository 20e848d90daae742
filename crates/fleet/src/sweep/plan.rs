//! Planning: which images an entry of a catalog names, which of them have a report, and which layers have to be read
//! for the others.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use layersift_format::manifest::{Image, LayerSource};
use layersift_format::{ImageSource, SourceError, manifest};
use layersift_model::{
    Digest, Finding, Footprint, GapReason, IncompleteImage, LayerKey, ReportKind, Repository, SweepProblem, Verdict,
};
use layersift_scan::{DocumentReport, DocumentWork, RetainedMemory, ScanError};
use layersift_source::catalog::{Catalog, CatalogError, Entry};
use layersift_source::registry::{Registry, RegistrySource};
use layersift_store::{ImageId, ImageLayer, ImageRecord, StoreError, StoredReport, TagSighting};

use super::blocked::{Patience, UnblockedPart};
use super::document_memory::{ChargedSource, DocumentMemory};
use super::pending::{LayerState, PendingEntry, PendingImage, PendingLayer};
use super::stored_base::add_stored_base;
use super::{Running, Sweep, SweepError, SweepLimits, deleted, incomplete, problem};

/// The priority of layers that were never read: a new image does not wait for known ones. Layers that were read under
/// another key have less, the longer ago the more.
const NEW: i64 = 1;

/// The priority of a layer that somebody waits for.
const URGENT: i64 = 2;

/// The most bytes of images that wait in memory for room to wait there for their layers.
const SMALL: u64 = 1 << 20;

/// How many entries whose images are known are noted at a time.
const KNOWN_AT_ONCE: usize = 64;

/// An image whose report is in the store, and what the policy says of it.
pub(super) struct KnownImage {
    id: ImageId,
    verdict: Verdict,
    incomplete: Option<IncompleteImage>,
    /// Whether it is an artifact of documents alone, as an index is.
    may_be_index: bool,
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
    /// What led to it.
    pub(super) entry: Arc<Entry>,
    /// What an earlier scan found in documents that cannot be read any more.
    pub(super) former: Vec<Finding>,
}

/// What an entry of a catalog turned out to be, and the memory that its images take until they are assembled.
pub(super) struct Planned {
    resolved: Resolved,
    memory: RetainedMemory,
}

/// What an entry of a catalog turned out to be.
pub(super) enum Resolved {
    /// Images that all have a report.
    Known { root: Digest, images: Vec<KnownImage> },
    /// Images of which at least one has none, and what is in the way of others of the same index.
    New { root: Digest, images: Vec<PlannedImage>, problems: Vec<SweepProblem> },
    /// Nothing that can be scanned.
    Problem(SweepProblem),
    /// Nothing: it was deleted since it was listed.
    Deleted,
}

/// What is to be done with an image of an entry.
enum PlannedFor {
    /// It has to be scanned.
    Scan(Box<PendingImage>),
    /// It is counted already.
    NotAgain,
    /// It cannot be scanned.
    Nothing,
}

/// Finds out what entries are, which is mostly waiting for a registry. Several threads share it.
pub(super) struct Resolver<'r> {
    pub(super) sweep: &'r Sweep<'r>,
    pub(super) catalog: &'r dyn Catalog,
    pub(super) key: &'r LayerKey,
    pub(super) limits: &'r SweepLimits,
    /// How long it goes on waiting for scans of registries.
    pub(super) patience: Patience,
}

impl Footprint for PlannedImage {
    fn footprint(&self) -> u64 {
        let former = self.former.iter().map(Footprint::footprint).sum::<u64>();
        self.image.footprint() + self.documents.footprint() + former
    }
}

impl Footprint for Resolved {
    fn footprint(&self) -> u64 {
        let Resolved::New { images, .. } = self else { return 0 };
        images.iter().map(Footprint::footprint).sum()
    }
}

impl Resolver<'_> {
    /// What `entry` is, without having a layer read. Waits until there is memory for images that wait for their layers.
    ///
    /// # Errors
    /// When the store fails.
    pub(super) fn resolve(&self, entry: &Result<Entry, CatalogError>) -> Result<Planned, StoreError> {
        let budget = self.sweep.scanner.memory();
        let mut reserved = budget.retain(0);
        loop {
            let resolved = match entry {
                Err(error) => Resolved::Problem(problem::catalog(error)),
                Ok(entry) => self.resolve_entry(entry)?,
            };
            let bytes = resolved.footprint();
            if bytes <= reserved.bytes() {
                return Ok(Planned { resolved, memory: reserved });
            }
            drop(reserved);
            if let Some(memory) = budget.try_keep(bytes) {
                return Ok(Planned { resolved, memory });
            }
            // What takes much is not kept until there is room, but found out again.
            let small = (bytes <= SMALL).then_some(resolved);
            match (budget.keep(bytes, &self.limits.patience), small) {
                (None, _) => return Ok(Planned { resolved: Resolved::Deleted, memory: budget.retain(0) }),
                (Some(memory), Some(resolved)) => return Ok(Planned { resolved, memory }),
                (Some(memory), None) => reserved = memory,
            }
        }
    }

    fn resolve_entry(&self, entry: &Entry) -> Result<Resolved, StoreError> {
        let memory = &DocumentMemory::new(self.sweep.scanner.memory());
        if let Some(digest) = &entry.digest
            && let Some(images) = self.known_by_digest(entry, digest, memory)?
        {
            return Ok(Resolved::Known { root: digest.clone(), images });
        }
        let registries = self.sweep.registries;
        let client = match registries.of_repository(&entry.host, &entry.repository) {
            Ok(client) => client,
            Err(error) => return Ok(Resolved::Problem(problem::registry(&error))),
        };
        let mut registry = client.registry;
        let mut served = self.served(entry, &registry, memory)?;
        if let (true, Err(error)) = (client.is_lent, &served)
            && problem::is_denied(error)
            && let Ok(own) = registries.of(&entry.host)
        {
            registry = own;
            served = self.served(entry, &registry, memory)?;
        }
        match served {
            Ok(resolved) => Ok(resolved),
            Err(error) => self.unserved(entry, &registry, error, memory),
        }
    }

    /// What `entry` is, or why the registry does not serve its manifest or index.
    fn served(
        &self,
        entry: &Entry,
        registry: &Registry,
        memory: &DocumentMemory<'_>,
    ) -> Result<Result<Resolved, ScanError>, StoreError> {
        memory.clear();
        let source = RegistrySource::new(registry.with_cancellation(self.limits.token()), entry.reference());
        // Most tags name what they named the last time: then the registry need not send it, nor even read it.
        if entry.digest.is_none()
            && let Some((root, images)) = self.met_before(entry, memory)?
        {
            match source.still_names(&root) {
                Ok(true) => return Ok(Ok(Resolved::Known { root, images })),
                Ok(false) => {}
                Err(error) => return Ok(Err(SourceError::from(error).into())),
            }
        }
        let root = match source.root() {
            Ok(root) => root,
            Err(error) => return Ok(Err(SourceError::from(error).into())),
        };
        memory.charge(&root.bytes);
        if let Some(digests) = manifest::image_digests(&root.digest, &root.bytes)
            && let Some(images) = self.known(entry, &digests, memory)?
        {
            return Ok(Ok(Resolved::Known { root: root.digest.clone(), images }));
        }
        let part = UnblockedPart::new(&source);
        let images = match self.planned(&part, &root.digest, entry, memory) {
            Ok(images) => images,
            Err(error) => return Ok(Err(error)),
        };
        let mut resolved = (images, Vec::new());
        for (digest, error) in part.blocked() {
            self.add_blocked(entry, (registry, memory), (digest, error.into()), &mut resolved)?;
        }
        let (images, problems) = resolved;
        Ok(Ok(Resolved::New { root: root.digest.clone(), images, problems }))
    }

    /// What an entry is whose manifest or index the registry does not serve.
    fn unserved(
        &self,
        entry: &Entry,
        registry: &Registry,
        error: ScanError,
        memory: &DocumentMemory<'_>,
    ) -> Result<Resolved, StoreError> {
        memory.clear();
        let is_blocked = problem::block_reason(&error).is_some();
        if problem::is_not_found(&error) && matches!(self.catalog.still_lists(entry), Ok(false)) {
            return Ok(Resolved::Deleted);
        }
        if is_blocked
            && let Some(root) = entry.digest.clone()
            && let Some(image) = self.known_by_layers(entry, (registry, memory), &root)?
        {
            return Ok(Resolved::New { root, images: vec![image], problems: Vec::new() });
        }
        if let Err(problem) = self.wait_for_scan(entry, registry, error) {
            return Ok(Resolved::Problem(problem));
        }
        let served = self.served(entry, registry, memory)?;
        Ok(served.unwrap_or_else(|error| Resolved::Problem(problem::image(entry.reference().to_string(), &error))))
    }

    /// Adds an image of the index of `entry` that is blocked, in place of the one that was not read.
    fn add_blocked(
        &self,
        entry: &Entry,
        (registry, memory): (&Registry, &DocumentMemory<'_>),
        (digest, error): (Digest, ScanError),
        (images, problems): &mut (Vec<PlannedImage>, Vec<SweepProblem>),
    ) -> Result<(), StoreError> {
        images.retain(|planned| planned.image.manifest_digest.as_ref() != Some(&digest));
        let child = Entry { digest: Some(digest.clone()), ..entry.clone() };
        if let Some(image) = self.known_by_layers(&child, (registry, memory), &digest)? {
            images.insert(0, image);
            return Ok(());
        }
        let source = RegistrySource::new(registry.with_cancellation(self.limits.token()), child.reference());
        let name = || child.reference().to_string();
        let served = self.wait_for_scan(&child, registry, error);
        let planned = || self.planned(&source, &digest, &child, memory);
        match served.and_then(|()| planned().map_err(|error| problem::image(name(), &error))) {
            // The index stays the last.
            Ok(found) => drop(images.splice(0..0, found)),
            Err(problem) => problems.push(problem),
        }
        Ok(())
    }

    /// The images of `source`. Their documents are scanned now, so that they need not be kept until their layers are
    /// read.
    fn planned(
        &self,
        source: &dyn ImageSource,
        root: &Digest,
        entry: &Entry,
        memory: &DocumentMemory<'_>,
    ) -> Result<Vec<PlannedImage>, ScanError> {
        let (entry, limits) = (Arc::new(entry.clone()), self.sweep.scanner.limits());
        let source = &ChargedSource { source, memory, most: limits.document_bytes };
        let mut images = manifest::images_and_index(source, root, limits)?;
        if self.limits.with_referrers {
            manifest::add_referrers(source, limits, &mut images);
        }
        let lease = || memory.lease();
        let work = DocumentWork::new(limits).with_lease(&lease);
        let with_documents = |mut image: Image| {
            let documents = self.sweep.scanner.documents(source, &image, &work, &self.limits.token());
            image.documents = Vec::new();
            PlannedImage { image, documents, entry: Arc::clone(&entry), former: Vec::new() }
        };
        Ok(images.into_iter().map(with_documents).collect())
    }

    /// The images of a manifest or an index with this digest, if their reports are known. An index has a report of its
    /// own, which does not say what is in its images.
    fn known_by_digest(
        &self,
        entry: &Entry,
        digest: &Digest,
        memory: &DocumentMemory<'_>,
    ) -> Result<Option<Vec<KnownImage>>, StoreError> {
        let Some(images) = self.known(entry, std::slice::from_ref(digest), memory)? else { return Ok(None) };
        if !images.iter().any(|image| image.may_be_index) {
            return Ok(Some(images));
        }
        let met = self.met_before(entry, memory)?.filter(|(root, _)| root == digest);
        Ok(met.map(|(_, images)| images))
    }

    /// What the tag of an entry named the last time, and the images there, if their reports are known. An index is the
    /// last of its images to be noted, so if it was, all of them were.
    fn met_before(
        &self,
        entry: &Entry,
        memory: &DocumentMemory<'_>,
    ) -> Result<Option<(Digest, Vec<KnownImage>)>, StoreError> {
        // An image without tags is noted under an empty one.
        let tag = entry.tags.first().map_or("", String::as_str);
        let tags = self.sweep.store.tags();
        let Some(root) = tags.last_named(&repository_of(entry), tag)? else { return Ok(None) };
        let manifests = tags.images(entry.host.name(), &entry.repository, tag)?;
        if !manifests.contains(&root) {
            return Ok(None);
        }
        let images = self.known(entry, &manifests, memory)?;
        Ok(images.map(|images| (root, images)))
    }

    /// The images with these manifests, judged, if all have a report in which every layer was read: a layer that could
    /// not be read the last time may be readable now.
    fn known(
        &self,
        entry: &Entry,
        manifests: &[Digest],
        memory: &DocumentMemory<'_>,
    ) -> Result<Option<Vec<KnownImage>>, StoreError> {
        if self.limits.reread_documents {
            return Ok(None);
        }
        let mut manifests = manifests.to_vec();
        manifests.sort_unstable();
        manifests.dedup();
        let images = self.sweep.store.images();
        let packed = images.packed_reports(&manifests, self.key)?;
        if manifests.is_empty() || packed.len() < manifests.len() {
            return Ok(None);
        }
        let mut known = Vec::with_capacity(packed.len());
        // One after the other: a report may be large.
        for packed in packed {
            let _memory = memory.while_read(packed.memory());
            let Some(StoredReport { image, mut report }) = images.unpack(&packed, self.key)? else { return Ok(None) };
            if !report.layers.iter().all(|layer| layer.is_read) {
                return Ok(None);
            }
            add_stored_base(self.sweep.store, &mut report)?;
            self.sweep.policy.judge(&mut report);
            let name = || entry.reference().to_string();
            let may_be_index = report.kind == ReportKind::Artifact && report.layers.is_empty();
            let (verdict, incomplete) = (report.verdict(), incomplete(name, &report));
            known.push(KnownImage { id: image, verdict, incomplete, may_be_index });
        }
        Ok(Some(known))
    }
}

impl Running<'_> {
    /// Plans what an entry turned out to be: what is missing is queued.
    pub(super) fn plan(&mut self, entry: &Entry, planned: Planned) -> Result<(), SweepError> {
        match planned.resolved {
            Resolved::Problem(problem) => {
                self.add_problem(problem);
                self.note_listed(entry)?;
            }
            Resolved::Deleted => self.note(deleted(entry)),
            Resolved::Known { root, images } => {
                self.known.push(KnownEntry { entry: entry.clone(), root, images });
                if self.known.len() >= KNOWN_AT_ONCE {
                    self.note_known()?;
                }
            }
            Resolved::New { root, images, problems } => {
                let mut is_whole = problems.is_empty();
                problems.into_iter().for_each(|problem| self.add_problem(problem));
                let mut pending = Vec::with_capacity(images.len());
                for image in images {
                    // An index of which an image could not be read is read again the next time.
                    let is_noted = is_whole || image.image.manifest_digest.as_ref() != Some(&root);
                    match self.plan_image(entry, &root, image, is_noted)? {
                        PlannedFor::Scan(image) => pending.push(*image),
                        PlannedFor::NotAgain => {}
                        PlannedFor::Nothing => is_whole = false,
                    }
                }
                if !is_whole {
                    self.note_listed(entry)?;
                }
                self.advance(PendingEntry::new(pending, (self.sweep.clock)(), planned.memory))?;
            }
        }
        Ok(())
    }

    /// Notes that an entry is listed whose image was not read: what its tags led to before is not gone.
    fn note_listed(&self, entry: &Entry) -> Result<(), SweepError> {
        let (tags, now) = (self.sweep.store.tags(), (self.sweep.clock)());
        Ok(tags.still_listed(&repository_of(entry), &entry.tags, entry.digest.as_ref(), now)?)
    }

    /// Counts an image of an entry. `false` if it is counted in that repository already: the child of an index may have
    /// a tag of its own.
    fn is_first(&mut self, entry: &Entry, image: ImageId) -> bool {
        let mut hasher = DefaultHasher::new();
        (&entry.host, &entry.repository).hash(&mut hasher);
        self.counted.insert((hasher.finish(), image))
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
        for KnownEntry { entry, images, .. } in known {
            for image in images {
                if !self.is_first(&entry, image.id) {
                    continue;
                }
                self.sweep.progress.image_listed();
                for bytes in sizes.get(&image.id).into_iter().flatten() {
                    self.sweep.progress.layer_known(*bytes);
                }
                self.count(image.verdict, image.incomplete);
                self.sweep.progress.image_done();
            }
        }
        Ok(())
    }

    /// Plans an image, and notes the tags that lead to it if `is_noted` is set.
    fn plan_image(
        &mut self,
        entry: &Entry,
        root: &Digest,
        planned: PlannedImage,
        is_noted: bool,
    ) -> Result<PlannedFor, SweepError> {
        let image = &planned.image;
        let store = self.sweep.store;
        // Nothing is stored of an image with damaged documents: another registry may have them undamaged.
        let damage = image.gaps.iter().find(|gap| gap.reason != GapReason::DocumentTooLarge);
        if let Some(gap) = damage.or_else(|| planned.documents.unrepeatable()) {
            if !self.is_deleted(entry) {
                self.sweep.progress.image_listed();
                self.add_problem(problem::document(entry.reference().to_string(), gap));
            }
            return Ok(PlannedFor::Nothing);
        }
        let Some(record) = record_of(image) else {
            self.sweep.progress.image_listed();
            self.add_problem(problem::undigested(entry.reference().to_string()));
            return Ok(PlannedFor::Nothing);
        };
        let now = (self.sweep.clock)();
        let id = store.images().put(&record, now)?;
        if is_noted {
            store.tags().see(&sightings(entry, root, id), now)?;
        }
        if !self.is_first(entry, id) {
            return Ok(PlannedFor::NotAgain);
        }
        self.sweep.progress.image_listed();
        let layers = self.layers_of(&record)?;
        let source = format!("{}/{}", entry.host, entry.repository);
        Ok(PlannedFor::Scan(Box::new(PendingImage::new(planned, layers, source))))
    }

    /// What is known of the layers of an image.
    fn layers_of(&mut self, record: &ImageRecord) -> Result<HashMap<Digest, PendingLayer>, SweepError> {
        let layers = self.sweep.store.layers();
        let digests: Vec<Digest> = record.layers.iter().map(|layer| layer.digest.clone()).collect();
        let known = layers.with_reports(&digests, self.cache.key())?;
        let read_before = layers.last_read(&digests)?;
        let mut all = HashMap::with_capacity(digests.len());
        for ImageLayer { digest, blob_bytes, .. } in &record.layers {
            let ended = known.get(digest).copied().or_else(|| self.poisoned.get(digest).map(|_| 0));
            let is_new = ended.is_none() && !all.contains_key(digest) && self.queued.insert(digest.clone());
            if is_new {
                self.sweep.progress.layer_queued(*blob_bytes);
            } else {
                self.sweep.progress.layer_known(*blob_bytes);
            }
            let priority = match read_before.get(digest) {
                _ if self.limits.is_urgent => URGENT,
                None => NEW,
                Some(when) => when.saturating_neg(),
            };
            let state = ended.map_or(LayerState::Unread, LayerState::Ended);
            let layer = PendingLayer { digest: digest.clone(), bytes: *blob_bytes, priority, state };
            all.entry(digest.clone()).or_insert(layer);
        }
        Ok(all)
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
            // 0 stands for a size that no manifest states.
            blob_bytes: layer.size.map_or(0, |size| size.max(1)),
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
