//! Planning: what an entry of a catalog is, what of it is known, and which layers have to be read for the rest.

use super::{Pending, Running, Sweep, SweepError, Trouble};
use layersift_format::manifest::{Image, ImageError, LayerSource};
use layersift_format::platform::Choice;
use layersift_format::{SourceError, manifest};
use layersift_model::Digest;
use layersift_scan::{ImageScan, ScanError};
use layersift_source::catalog::{Catalog, CatalogError, Entry};
use layersift_source::registry::{RegistryError, RegistryErrorCode, RegistrySource};
use layersift_store::{ImageId, ImageLayer, ImageRecord, Job, Repository, StoreError, Summary, TagSighting};

/// The priority of layers that nobody has read: a new image waits for no old one. Those that were read with other rules
/// have less, the longer ago the more.
const NEW: i64 = 1;

/// Entries whose images are known that are noted at a time.
const MOST_MET: usize = 64;

/// What images came to that were joined by the same rules before.
type Known = Vec<Summary>;

/// An entry whose images are known, until that is noted.
pub(super) struct Met {
    entry: Entry,
    root: Digest,
    images: Known,
}

/// What an entry of a catalog turned out to be.
pub(super) enum Resolved {
    /// Images that were all joined by the same rules before.
    Known { root: Digest, images: Known },
    /// Images of which one at least was not.
    New { root: Digest, images: Vec<Image> },
    /// Nothing that can be looked at.
    Trouble(Trouble),
    /// Nothing: it was deleted while it was listed.
    Gone,
}

/// Finds out what entries are, which is mostly waiting for a registry. Several threads share one.
pub(super) struct Resolver<'r> {
    pub(super) sweep: &'r Sweep<'r>,
    pub(super) catalog: &'r dyn Catalog,
    pub(super) key: &'r str,
}

impl Resolver<'_> {
    /// What `entry` is, without having a layer read.
    ///
    /// # Errors
    /// When the store fails.
    pub(super) fn resolve(&self, entry: &Result<Entry, CatalogError>) -> Result<Resolved, StoreError> {
        match entry {
            // A registry lists repositories that have lost their last tag, and says so when it is asked for tags. Any
            // other 404 may as well mean that these credentials are not to know.
            Err(CatalogError::Repository { error, .. }) if is_unknown_name(error) => Ok(Resolved::Gone),
            Err(error) => Ok(Resolved::Trouble(error.clone().into())),
            Ok(entry) => self.resolve_entry(entry),
        }
    }

    fn resolve_entry(&self, entry: &Entry) -> Result<Resolved, StoreError> {
        if let Some(digest) = &entry.digest
            && let Some(images) = self.known(std::slice::from_ref(digest))?
        {
            return Ok(Resolved::Known { root: digest.clone(), images });
        }
        let registry = match self.sweep.registries.of(&entry.host) {
            Ok(registry) => registry,
            Err(error) => return Ok(Resolved::Trouble(error.into())),
        };
        let source = RegistrySource::new(registry, entry.reference());
        // Most tags name what they named the last time: then the registry need not send it, nor even read it.
        if let Some((root, images)) = self.met_before(entry)? {
            match source.still_names(&root) {
                Ok(true) => return Ok(Resolved::Known { root, images }),
                Ok(false) => {}
                Err(error) => return Ok(Resolved::Trouble(self.refused(entry, SourceError::from(error).into()))),
            }
        }
        let root = match source.root() {
            Ok(root) => root,
            Err(error) => return Ok(Resolved::Trouble(self.refused(entry, SourceError::from(error).into()))),
        };
        if let Some(digests) = manifest::image_digests(&root.digest, &root.bytes)
            && let Some(images) = self.known(&digests)?
        {
            return Ok(Resolved::Known { root: root.digest.clone(), images });
        }
        Ok(match ImageScan::new(self.sweep.scanner).platform(Choice::All).images(&source) {
            Ok(images) => Resolved::New { root: root.digest.clone(), images },
            Err(error) => Resolved::Trouble(self.refused(entry, error)),
        })
    }

    /// The image that the tag of an entry named when it was last met, if that is known. It is not for an index: which
    /// images that has is in its own bytes.
    fn met_before(&self, entry: &Entry) -> Result<Option<(Digest, Known)>, StoreError> {
        let (None, Some(tag)) = (&entry.digest, entry.tags.first()) else { return Ok(None) };
        let Some(root) = self.sweep.store.last_named(&repository_of(entry), tag)? else { return Ok(None) };
        let images = self.known(std::slice::from_ref(&root))?;
        Ok(images.map(|images| (root, images)))
    }

    /// The images with these manifests, if all were joined by the same rules before, and that is enough to judge them.
    fn known(&self, images: &[Digest]) -> Result<Option<Known>, StoreError> {
        let store = self.sweep.store;
        let mut known = Vec::with_capacity(images.len());
        for image in images {
            // What could not be read the last time may be there now.
            let summary = store.summary(image, self.key)?.filter(|summary| summary.unread == 0);
            // Whether a policy allows what an image fails for shows in its findings, not in their number.
            let summary = summary.filter(|summary| !(self.sweep.has_exceptions() && self.sweep.fails(summary)));
            let Some(summary) = summary else { return Ok(None) };
            known.push(summary);
        }
        Ok((!known.is_empty()).then_some(known))
    }

    fn refused(&self, entry: &Entry, error: ScanError) -> Trouble {
        let name = entry.reference().to_string();
        if is_blocked(&error) {
            let is_asked = self.catalog.request_scan(entry).unwrap_or(false);
            return Trouble::Blocked { name, is_asked };
        }
        Trouble::Image { name, error }
    }
}

impl Running<'_> {
    /// Takes note of what an entry turned out to be, and has what is missing read.
    pub(super) fn settle(&mut self, entry: &Entry, resolved: Resolved) -> Result<(), SweepError> {
        match resolved {
            Resolved::Trouble(trouble) => self.trouble(trouble),
            Resolved::Gone => {}
            Resolved::Known { root, images } => {
                self.met.push(Met { entry: entry.clone(), root, images });
                if self.met.len() >= MOST_MET {
                    self.note_met()?;
                }
            }
            Resolved::New { root, images } => {
                for image in images {
                    self.plan_image(entry, &root, image)?;
                }
            }
        }
        Ok(())
    }

    /// Notes the entries that were met and whose images are known: many at a time, as that is all they cost.
    pub(super) fn note_met(&mut self) -> Result<(), SweepError> {
        let met = std::mem::take(&mut self.met);
        let images: Vec<ImageId> = met.iter().flat_map(|met| &met.images).map(|summary| summary.image).collect();
        if images.is_empty() {
            return Ok(());
        }
        let store = self.sweep.store;
        let tags = |met: &Met| -> Vec<TagSighting> {
            met.images.iter().flat_map(|summary| sightings(&met.entry, &met.root, summary.image)).collect()
        };
        let tags: Vec<TagSighting> = met.iter().flat_map(tags).collect();
        store.see_tags(&tags, (self.sweep.clock)())?;
        store.see_images(self.run, &images)?;
        let sizes = store.layer_sizes(&images)?;
        for summary in met.iter().flat_map(|met| &met.images) {
            self.sweep.progress.image_listed();
            for bytes in sizes.get(&summary.image).into_iter().flatten() {
                self.sweep.progress.layer_known(*bytes);
            }
            self.count_known(summary);
            self.sweep.progress.image_done();
        }
        Ok(())
    }

    fn plan_image(&mut self, entry: &Entry, root: &Digest, image: Image) -> Result<(), SweepError> {
        let store = self.sweep.store;
        self.sweep.progress.image_listed();
        // Nothing is stored of an image whose documents are not what they should be: another registry may have them.
        if let Some(gap) = image.gaps.first() {
            let name = entry.reference().to_string();
            self.trouble(Trouble::Documents { name, what: format!("{}: {}", gap.reason.name(), gap.detail) });
            return Ok(());
        }
        let Some(record) = record_of(&image) else {
            let name = entry.reference().to_string();
            self.trouble(Trouble::Documents { name, what: "a layer has no digest".into() });
            return Ok(());
        };
        let now = (self.sweep.clock)();
        let id = store.put_image(&record, now)?;
        store.see_tags(&sightings(entry, root, id), now)?;
        let digests: Vec<Digest> = record.layers.iter().map(|layer| layer.digest.clone()).collect();
        let key = self.shelf.key();
        let known = store.has_reports(&digests, key)?;
        let read_before = store.last_read(&digests)?;
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
            // Also where it is queued already: this is one more place to pull it from.
            jobs.push(Job {
                layer: layer.digest.clone(),
                size: layer.blob_bytes,
                priority: read_before.get(&layer.digest).map_or(NEW, |when| when.saturating_neg()),
                source: format!("{}/{}", entry.host, entry.repository),
            });
        }
        store.enqueue(key, &jobs, now)?;
        if missing.is_empty() {
            return self.join(&image);
        }
        // A sweep after one in which they were given up is a new chance for them; another image of this one is not.
        let again: Vec<Digest> = missing.iter().filter(|layer| !self.given_up.contains_key(layer)).cloned().collect();
        store.revive(key, &again)?;
        self.pending.push(Pending { image, missing });
        Ok(())
    }
}

/// What is stored of an image before its layers are read. Its instructions are not: nobody has looked for secrets in
/// them. `None` for an image of which not even that is known.
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

/// Whether an error says that the registry holds the image back.
fn is_blocked(error: &ScanError) -> bool {
    let ScanError::Image(ImageError::Source(SourceError::Transport(failure))) = error else { return false };
    matches!(failure.downcast_ref(), Some(RegistryError::Blocked { .. }))
}

/// Whether the registry answered that it has no repository of that name.
fn is_unknown_name(error: &RegistryError) -> bool {
    error.status() == Some(404) && error.codes().contains(&RegistryErrorCode::NameUnknown)
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
