//! Reports of layers as the store keeps them, the ones that were last used at hand: images that share a base follow
//! each other.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use layersift_model::{Digest, FingerprintKey, ImageReport, LayerReport};
use layersift_scan::{Analyzer, KnownLayers};
use layersift_store::{Assembled, ReportRecord, RunId, Seconds, Store, StoreError};

/// Reports at hand. One of a distribution's base is a few megabytes.
const AT_HAND: usize = 24;

/// The reports of a store that were made with one key of [`layersift_scan::Analyzer::layer_key`].
pub struct Shelf<'s> {
    store: &'s Store,
    key: String,
    fingerprints: &'s FingerprintKey,
    clock: fn() -> Seconds,
    recent: Mutex<VecDeque<(Digest, Arc<LayerReport>)>>,
    /// What went wrong where no one could be told.
    failed: Mutex<Option<StoreError>>,
}

impl<'s> Shelf<'s> {
    /// The reports of `store` that `scanner` made, or would have made.
    pub fn new(store: &'s Store, scanner: &'s Analyzer, clock: fn() -> Seconds) -> Shelf<'s> {
        let (key, fingerprints) = (scanner.layer_key(), scanner.fingerprint_key());
        Shelf { store, key, fingerprints, clock, recent: Mutex::default(), failed: Mutex::default() }
    }

    /// The key.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The report of `layer`. One that cannot be read any more is forgotten: the layer is read again, by this scan or
    /// by the next sweep.
    ///
    /// # Errors
    /// When the store fails.
    pub fn take(&self, layer: &Digest) -> Result<Option<Arc<LayerReport>>, StoreError> {
        if let Some(report) = self.recent(layer) {
            return Ok(Some(report));
        }
        let Some(record) = self.store.get_report(layer, &self.key)? else { return Ok(None) };
        let Ok(report) = LayerReport::from_kept(&record.report) else {
            self.store.forget_report(layer, &self.key)?;
            return Ok(None);
        };
        let report = Arc::new(report);
        self.remember(layer, &report);
        Ok(Some(report))
    }

    /// What is stored of `report`, the report of `layer`.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] for a report that cannot be written.
    pub fn record(&self, layer: &Digest, report: &LayerReport) -> Result<ReportRecord, StoreError> {
        let invalid = |error: layersift_model::KeptError| StoreError::Invalid {
            what: format!("the report of {layer}"),
            reason: error.to_string(),
        };
        Ok(ReportRecord {
            layer: layer.clone(),
            diff_id: Some(report.diff_id.clone()),
            ruleset: self.key.clone(),
            report: report.to_kept(self.fingerprints).map_err(invalid)?,
            bytes: report.bytes,
            blob_bytes: report.blob_bytes,
            scanned_at: (self.clock)(),
        })
    }

    /// Stores what an image came to, in the sweep `run` or by itself.
    ///
    /// # Errors
    /// When the store fails.
    pub fn put_image(&self, report: &ImageReport, run: Option<RunId>) -> Result<(), StoreError> {
        let mut assembled = Assembled::of(report)?;
        // What the verdict depends on is more than the rules that a report names.
        assembled.ruleset.clone_from(&self.key);
        self.store.put_assembled(&assembled, run, (self.clock)()).map(drop)
    }

    /// What went wrong while a scan used the store; a scan goes on without it.
    pub fn failure(&self) -> Option<StoreError> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn recent(&self, layer: &Digest) -> Option<Arc<LayerReport>> {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let at = recent.iter().position(|(known, _)| known == layer)?;
        let found = recent.remove(at)?;
        let report = Arc::clone(&found.1);
        recent.push_back(found);
        Some(report)
    }

    fn remember(&self, layer: &Digest, report: &Arc<LayerReport>) {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if recent.len() >= AT_HAND {
            recent.pop_front();
        }
        recent.push_back((layer.clone(), Arc::clone(report)));
    }

    fn note(&self, error: StoreError) {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
    }
}

impl KnownLayers for Shelf<'_> {
    fn get(&self, layer: &Digest) -> Option<Arc<LayerReport>> {
        self.take(layer).unwrap_or_else(|error| {
            self.note(error);
            None
        })
    }

    fn keep(&self, layer: &Digest, report: &LayerReport) {
        let stored = self.record(layer, report).and_then(|record| self.store.put_report(&record));
        if let Err(error) = stored {
            self.note(error);
        }
    }
}
