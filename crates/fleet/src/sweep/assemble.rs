//! Assembling: an image whose layers all have reports, or cannot be read, gets a report of its own, which is stored and
//! judged.

use std::sync::Arc;
use std::time::Instant;

use layersift_format::manifest::LayerSource;
use layersift_model::{Digest, Gap, GapReason, LayerReport};
use layersift_store::{Job, Seconds};

use super::pending::{Next, PendingEntry};
use super::plan::PlannedImage;
use super::stored_base::add_stored_base;
use super::{REQUEUE, Running, SweepError, incomplete, problem};

impl Running<'_> {
    /// Assembles the images whose layers are all read, or cannot be.
    pub(super) fn assemble_complete(&mut self) -> Result<(), SweepError> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let mut wanted: Vec<Digest> = self.pending.iter().flat_map(PendingEntry::queued).map(|job| job.layer).collect();
        wanted.sort_unstable();
        wanted.dedup();
        let read = self.sweep.store.layers().with_reports(&wanted, self.cache.key())?;
        self.poisoned.extend(self.sweep.store.queue().poisoned(&wanted, self.cache.key())?);
        for mut entry in std::mem::take(&mut self.pending) {
            entry.note(|layer| read.get(layer).copied().or_else(|| self.poisoned.get(layer).map(|_| 0)));
            self.advance(entry)?;
        }
        self.requeue()
    }

    /// Queues the layers of an entry that are to be read next, and assembles the images that need no more. It is kept
    /// as long as others do.
    pub(super) fn advance(&mut self, mut entry: PendingEntry) -> Result<(), SweepError> {
        let Next { jobs, complete, left_out } = entry.next(self.sweep.scanner.limits());
        self.queue(&jobs, entry.planned_at)?;
        if entry.waiting() > 0 {
            self.pending.push(entry);
        }
        for image in complete {
            self.assemble(image)?;
        }
        for PlannedImage { image, .. } in left_out {
            self.add_problem(problem::too_much_work(image.reference.unwrap_or_default()));
        }
        Ok(())
    }

    fn queue(&self, jobs: &[Job], planned_at: Seconds) -> Result<(), SweepError> {
        if jobs.is_empty() {
            return Ok(());
        }
        let (queue, key) = (self.sweep.store.queue(), self.cache.key());
        queue.enqueue(key, jobs, planned_at)?;
        // Layers that an earlier sweep failed to read are tried again; those of this sweep are not.
        let layers = jobs.iter().map(|job| &job.layer);
        let again: Vec<Digest> = layers.filter(|layer| !self.poisoned.contains_key(layer)).cloned().collect();
        queue.retry(key, &again)?;
        Ok(())
    }

    /// Queues the jobs of pending images that are gone: another sweep removed a report that it could not decode, or the
    /// server lost in a crash what it had committed.
    fn requeue(&mut self) -> Result<(), SweepError> {
        if self.requeued.elapsed() >= REQUEUE {
            let jobs: Vec<Job> = self.pending.iter().flat_map(PendingEntry::queued).collect();
            self.sweep.store.queue().enqueue(self.cache.key(), &jobs, (self.sweep.clock)())?;
            self.requeued = Instant::now();
        }
        Ok(())
    }

    /// Makes the report of an image from those of its layers, stores it and judges it.
    pub(super) fn assemble(&mut self, planned: PlannedImage) -> Result<(), SweepError> {
        let PlannedImage { image, documents, entry, former } = planned;
        let is_poisoned =
            |layer: &LayerSource| layer.digest.as_ref().is_some_and(|digest| self.poisoned.contains_key(digest));
        if image.layers.iter().any(is_poisoned) && self.is_deleted(&entry) {
            return Ok(());
        }
        // It is read again, while the documents of other images are.
        let memory = self.sweep.scanner.memory().lease_for_document(image.config.memory());
        let mut report = self.sweep.scanner.image(&image, documents, &mut |layer| self.layer(layer))?;
        drop(memory);
        report.findings.extend(former);
        report.target = image.reference.clone().unwrap_or_default();
        self.cache.put_image(&report, Some(self.run))?;
        add_stored_base(self.sweep.store, &mut report)?;
        self.sweep.policy.judge(&mut report);
        let (image, verdict) = (&report.target, report.verdict().name());
        tracing::info!(image, verdict, findings = report.findings.len(), gaps = report.gaps.len(), "image scanned");
        self.count(report.verdict(), incomplete(|| report.target.clone(), &report));
        self.sweep.progress.image_done();
        Ok(())
    }

    /// The report of a layer, or the gap in its place.
    fn layer(&self, layer: &LayerSource) -> Result<Result<Arc<LayerReport>, Gap>, SweepError> {
        let report = match &layer.digest {
            Some(digest) => self.cache.report(digest)?,
            None => None,
        };
        let why = layer.digest.as_ref().and_then(|digest| self.poisoned.get(digest));
        Ok(report.ok_or_else(|| unread(layer, why)))
    }
}

/// The gap for a layer without a report, and why it has none, where that is known.
fn unread(layer: &LayerSource, why: Option<&String>) -> Gap {
    let gap = match (layer.urls.is_empty(), why) {
        (false, _) => {
            let detail = "the layer is held elsewhere, and only its address is in the image";
            Gap::new(GapReason::ForeignLayer, detail)
        }
        (true, None) => Gap::new(GapReason::MissingBlob, "the stored report of the layer cannot be decoded any more"),
        (true, Some(why)) => {
            Gap::new(GapReason::MissingBlob, format!("the layer could not be read, after several attempts: {why}"))
        }
    };
    let gap = layer.location.as_ref().map_or(gap.clone(), |location| gap.at(&location.0));
    layer.size.map_or(gap.clone(), |size| gap.sized(size))
}
