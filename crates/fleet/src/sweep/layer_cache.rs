//! A cache of layer reports: the store, with the reports that were last used in memory. Images that share a base follow
//! each other.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use layersift_model::{Digest, FingerprintKey, Footprint, ImageReport, LayerKey, LayerReport};
use layersift_scan::{Analyzer, KnownLayers, MemoryBudget, RetainedMemory};
use layersift_store::{ImageId, LayerRecord, RunId, Seconds, Store, StoreError};

/// How many reports are in memory, and their bytes. One of a distribution's base is a few megabytes.
const IN_MEMORY: usize = 24;
const BYTES_IN_MEMORY: u64 = 24 << 20;

/// The reports of a store under one key, that of [`layersift_scan::Analyzer::layer_key`].
pub struct LayerCache<'s> {
    store: &'s Store,
    key: LayerKey,
    fingerprints: &'s FingerprintKey,
    clock: fn() -> Seconds,
    memory: &'s MemoryBudget,
    /// The last reports that were used, and the memory that they take.
    recent: Mutex<VecDeque<(Digest, Arc<LayerReport>, RetainedMemory)>>,
    /// The first error of a call that cannot return one.
    failed: Mutex<Option<StoreError>>,
}

impl<'s> LayerCache<'s> {
    /// The reports of `store` that are valid for `scanner`.
    pub fn new(store: &'s Store, scanner: &'s Analyzer, clock: fn() -> Seconds) -> LayerCache<'s> {
        let (key, fingerprints) = (LayerKey::new(scanner.layer_key()), scanner.fingerprint_key());
        let memory = scanner.memory();
        LayerCache { store, key, fingerprints, clock, memory, recent: Mutex::default(), failed: Mutex::default() }
    }

    /// The key.
    pub fn key(&self) -> &LayerKey {
        &self.key
    }

    /// The report of `layer`. A report that cannot be decoded any more is removed from the store: the layer is read
    /// again, by this scan or by the next sweep.
    ///
    /// # Errors
    /// When the store fails.
    pub fn report(&self, layer: &Digest) -> Result<Option<Arc<LayerReport>>, StoreError> {
        if let Some(report) = self.recent(layer) {
            return Ok(Some(report));
        }
        let layers = self.store.layers();
        let Some(record) = layers.report(layer, &self.key)? else { return Ok(None) };
        let Ok(report) = LayerReport::from_kept(&record.report) else {
            layers.forget_report(layer, &self.key)?;
            return Ok(None);
        };
        let report = Arc::new(report);
        self.remember(layer, &report);
        Ok(Some(report))
    }

    /// `report`, the report of `layer`, as it is stored.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] for a report that cannot be encoded.
    pub fn record(&self, layer: &Digest, report: &LayerReport) -> Result<LayerRecord, StoreError> {
        let invalid = |error: layersift_model::KeptError| StoreError::Invalid {
            what: format!("the report of {layer}"),
            reason: error.to_string(),
        };
        Ok(LayerRecord {
            layer: layer.clone(),
            diff_id: Some(report.diff_id.clone()),
            key: self.key.clone(),
            report: report.to_kept(self.fingerprints).map_err(invalid)?,
            bytes: report.bytes,
            blob_bytes: report.blob_bytes,
            extra_work: report.extra_work,
            scanned_at: (self.clock)(),
        })
    }

    /// Stores the report of an image, which the sweep `run` made, or a scan.
    ///
    /// # Errors
    /// When the store fails.
    pub fn put_image(&self, report: &ImageReport, run: Option<RunId>) -> Result<ImageId, StoreError> {
        self.store.images().put_report(report, &self.key, run, (self.clock)())
    }

    /// The first error of the store during a scan; the scan went on without the store.
    pub fn failure(&self) -> Option<StoreError> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn recent(&self, layer: &Digest) -> Option<Arc<LayerReport>> {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let at = recent.iter().position(|(known, _, _)| known == layer)?;
        let found = recent.remove(at)?;
        let report = Arc::clone(&found.1);
        recent.push_back(found);
        Some(report)
    }

    fn remember(&self, layer: &Digest, report: &Arc<LayerReport>) {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.push_back((layer.clone(), Arc::clone(report), self.memory.retain(report.footprint())));
        let is_over = |recent: &VecDeque<(Digest, Arc<LayerReport>, RetainedMemory)>| {
            let bytes = recent.iter().map(|(_, _, memory)| memory.bytes()).sum::<u64>();
            recent.len() > IN_MEMORY || bytes > BYTES_IN_MEMORY
        };
        while is_over(&recent) {
            recent.pop_front();
        }
    }

    fn note(&self, error: StoreError) {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
    }
}

impl KnownLayers for LayerCache<'_> {
    fn get(&self, layer: &Digest) -> Option<Arc<LayerReport>> {
        self.report(layer).unwrap_or_else(|error| {
            self.note(error);
            None
        })
    }

    fn keep(&self, layer: &Digest, report: &LayerReport) {
        let stored = self.record(layer, report).and_then(|record| self.store.layers().put_report(&record));
        if let Err(error) = stored {
            self.note(error);
        }
    }
}
