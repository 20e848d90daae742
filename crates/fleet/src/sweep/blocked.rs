//! Images that a registry does not serve because of a policy (Harbor's status 412).
//!
//! The policy is on manifests; the blobs of a blocked image can be pulled. So an image whose layers the store knows is
//! read all the same. For any other, the sweep waits while the registry's scanner runs, and asks it to scan if it was
//! told to: a scan of the registry replaces the report that the registry has of the image.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use layersift_format::manifest::{self, LayerSource};
use layersift_format::{Fetched, ImageSource, Listed, Location, Referrers, SourceError};
use layersift_model::{Digest, Finding, Location as FindingLocation, ReportKind, SweepProblem};
use layersift_scan::{DocumentReport, ScanError};
use layersift_source::catalog::Entry;
use layersift_source::registry::{At, BlockReason, Registry, RegistryError, RegistrySource};
use layersift_store::StoreError;

use super::document_memory::DocumentMemory;
use super::plan::{PlannedImage, Resolver};
use super::problem;

/// How long a sweep waits for the registry's scan of one image at most.
const LONGEST_WAIT: Duration = Duration::from_secs(120);

/// The pause before the first time that the registry is asked again; each one is half as long again as the last.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Waits in vain after which a sweep does not wait any more: the registry's scanner stands still.
const MOST_IN_VAIN: usize = 3;

/// How often a wait looks whether the sweep has ended.
const TICK: Duration = Duration::from_millis(200);

/// How often an answer may say that there was no scan after one was requested.
const UNTIL_STARTED: u32 = 3;

/// Waits of a sweep that were in vain.
#[derive(Debug, Default)]
pub(super) struct Patience(AtomicUsize);

/// A source that lists a blocked manifest as missing, and keeps why.
pub(super) struct UnblockedPart<'s> {
    source: &'s RegistrySource,
    blocked: Mutex<Vec<(Digest, SourceError)>>,
}

impl<'s> UnblockedPart<'s> {
    pub(super) fn new(source: &'s RegistrySource) -> UnblockedPart<'s> {
        UnblockedPart { source, blocked: Mutex::default() }
    }

    /// The manifests that are blocked, and why.
    pub(super) fn blocked(self) -> Vec<(Digest, SourceError)> {
        self.blocked.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ImageSource for UnblockedPart<'_> {
    fn concurrent_reads(&self) -> Option<usize> {
        self.source.concurrent_reads()
    }

    fn list(&self) -> Result<Vec<Listed>, SourceError> {
        self.source.list()
    }

    fn missing(&self, what: &str) -> String {
        self.source.missing(what)
    }

    fn locate(&self, digest: &Digest) -> Location {
        self.source.locate(digest)
    }

    fn locate_manifest(&self, digest: &Digest) -> Location {
        self.source.locate_manifest(digest)
    }

    fn referrers(&self, digest: &Digest) -> Referrers {
        self.source.referrers(digest)
    }

    fn open(&self, location: &Location) -> Result<Fetched<'_>, SourceError> {
        match self.source.open(location) {
            Err(error) if problem::source_block_reason(&error).is_some() => {
                let Some(digest) = location.0.rsplit('/').next().and_then(|digest| digest.parse().ok()) else {
                    return Err(error);
                };
                self.blocked.lock().unwrap_or_else(PoisonError::into_inner).push((digest, error));
                Ok(Fetched::Missing)
            }
            result => result,
        }
    }
}

impl Resolver<'_> {
    /// The image with the manifest `digest`, made of what the store knows of its manifest; `None` if it does not know
    /// enough. The configuration is pulled.
    pub(super) fn known_by_layers(
        &self,
        entry: &Entry,
        (registry, memory): (&Registry, &DocumentMemory<'_>),
        digest: &Digest,
    ) -> Result<Option<PlannedImage>, StoreError> {
        let images = self.sweep.store.images();
        let Some(stored) = images.find(digest)? else { return Ok(None) };
        let Some(config_digest) = stored.config_digest else { return Ok(None) };
        let known = images.layers(stored.id)?;
        // What the manifest says beside its layers is only known from a report.
        let Some(former) = images.latest_report(digest)?.map(|former| former.report) else { return Ok(None) };
        if known.is_empty() || known.len() as u64 != stored.layers_count {
            return Ok(None);
        }
        // Registries block only what they can scan themselves.
        if former.kind != ReportKind::Image {
            return Ok(None);
        }
        let source = RegistrySource::new(registry.clone(), entry.reference());
        let media_type = |index: usize| former.layers.get(index)?.media_type.clone();
        let layers = known.into_iter().enumerate().map(|(index, layer)| LayerSource {
            location: Some(source.locate(&layer.digest)),
            digest: Some(layer.digest),
            size: (layer.blob_bytes > 0).then_some(layer.blob_bytes),
            diff_id: layer.diff_id,
            media_type: media_type(index),
            ..LayerSource::default()
        });
        let Ok(config) = registry.with_cancellation(self.limits.token()).small_blob(&entry.repository, &config_digest)
        else {
            return Ok(None);
        };
        memory.charge(&config);
        let place = source.locate(&config_digest);
        let Ok(mut image) = manifest::without_manifest(&place, config_digest, config, layers.collect()) else {
            return Ok(None);
        };
        image.reference = Some(Entry { digest: Some(digest.clone()), ..entry.clone() }.reference().to_string());
        image.manifest_digest = Some(digest.clone());
        image.platform = stored.platform.or(image.platform);
        image.notes.push(
            "the registry blocks the manifest, so the image was read by the layers that the store has of it; what was \
             found in the manifest is what the last scan of it found"
                .into(),
        );
        let is_of_document = |finding: &Finding| matches!(finding.location, FindingLocation::Document(_));
        let former = former.findings.into_iter().filter(is_of_document).collect();
        let entry = Arc::new(entry.clone());
        Ok(Some(PlannedImage { image, documents: DocumentReport::default(), entry, former }))
    }

    /// Waits until the registry serves the manifest of `entry`, which was blocked by `error`, if its scanner is running
    /// or may be asked to.
    ///
    /// # Errors
    /// The problem, if it still does not.
    pub(super) fn wait_for_scan(
        &self,
        entry: &Entry,
        registry: &Registry,
        error: ScanError,
    ) -> Result<(), SweepProblem> {
        let name = entry.reference().to_string();
        let Some(mut reason) = problem::block_reason(&error) else { return Err(problem::image(name, &error)) };
        let mut said = problem::text(&error);
        let mut notes = Vec::new();
        let may_ask = matches!(reason, BlockReason::NotScanned | BlockReason::ScanFailed);
        let mut is_asked = false;
        if self.limits.request_scans && may_ask {
            match self.catalog.request_scan(entry) {
                Ok(true) => {
                    is_asked = true;
                    notes.push("the registry was asked to scan the image".to_string());
                }
                Ok(false) => notes.push("this registry cannot be asked to scan it".to_string()),
                Err(error) => notes.push(problem::text(&error)),
            }
        }
        let (started, mut pause, mut answers) = (Instant::now(), FIRST_PAUSE, 0);
        let longest = self.limits.layer_timeout.map_or(LONGEST_WAIT, |time| time.min(LONGEST_WAIT));
        let at = match (&entry.digest, entry.tags.first()) {
            (Some(digest), _) => At::Digest(digest.clone()),
            (None, tag) => At::Tag(tag.cloned().unwrap_or_else(|| "latest".into())),
        };
        loop {
            let is_starting = is_asked && answers < UNTIL_STARTED && reason != BlockReason::Vulnerable;
            if reason != BlockReason::ScanRunning && !is_starting {
                break;
            }
            let is_over = started.elapsed() + pause > longest;
            if is_over || self.patience.0.load(Ordering::Relaxed) >= MOST_IN_VAIN {
                self.patience.0.fetch_add(usize::from(is_over), Ordering::Relaxed);
                notes.push(format!("it was not scanned after {} seconds", started.elapsed().as_secs()));
                break;
            }
            tracing::debug!(image = name, seconds = pause.as_secs_f64(), "waiting for the registry to scan the image");
            if self.is_over_after(pause) {
                break;
            }
            pause = (pause * 3 / 2).min(LONGEST_PAUSE);
            answers += 1;
            match registry.with_cancellation(self.limits.token()).manifest(&entry.repository, &at) {
                Ok(_) => return Ok(()),
                Err(error) => {
                    let RegistryError::Blocked { response, .. } = &error else {
                        return Err(problem::image(name, &SourceError::from(error).into()));
                    };
                    reason = BlockReason::of(response);
                    said = problem::text(&error);
                }
            }
        }
        Err(problem::blocked(name, &said, &notes))
    }

    /// Waits for `time`. Returns whether the sweep ended in the meantime.
    fn is_over_after(&self, time: Duration) -> bool {
        let until = Instant::now() + time;
        while let Some(rest) = until.checked_duration_since(Instant::now()).filter(|rest| !rest.is_zero()) {
            if self.limits.patience.wait(rest.min(TICK)) || self.limits.cancellation.is_cancelled() {
                return true;
            }
        }
        false
    }
}
