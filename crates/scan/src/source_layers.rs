//! Reads the layers of a source's images, each once and several at a time.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::thread;

use layersift_format::manifest::{Image, LayerSource};
use layersift_format::{Blob, CancelReason, Cancellation, Fetched, ImageSource, Location};
use layersift_model::{Algorithm, Gap, GapReason, Limits};
use rayon::ThreadPool;

use crate::layer::read::cancelled;
use crate::observe::Observer;
use crate::read_layers::{LayerResult, Outcome, ReadLayers};
use crate::target_work::{TargetWork, order, too_much_work};

/// The layers of the images of a source.
pub(crate) struct SourceLayers<'s> {
    pub(crate) source: &'s dyn ImageSource,
    pub(crate) cancellation: &'s Cancellation,
    pub(crate) observer: &'s dyn Observer,
}

impl SourceLayers<'_> {
    /// Calls `read` for every layer of `images`, once for each, and several at a time on `threads`, and adds what it
    /// returns to `all`. It returns `None` for a layer that the stream has passed. Layers whose predecessors took too
    /// much work are gaps.
    pub(crate) fn read_all<R: LayerResult + Send + Sync>(
        &self,
        images: &[Image],
        threads: &ThreadPool,
        limits: &Limits,
        all: ReadLayers<R>,
        read: impl Fn(&Location, &LayerSource) -> Option<Outcome<R>> + Sync,
    ) -> ReadLayers<R> {
        // By location, for a fixed order. The layers of a stream that were read before come before these.
        let mut unique: BTreeMap<&Location, (usize, &LayerSource)> = BTreeMap::new();
        let mut places = all.len()..;
        for layer in images.iter().flat_map(|image| &image.layers) {
            if let Some(location) = &layer.location
                && !unique.contains_key(location)
            {
                unique.insert(location, (places.next().unwrap_or(usize::MAX), layer));
            }
        }
        let mut queue: Vec<_> = unique.into_iter().map(|(location, (place, layer))| (location, place, layer)).collect();
        queue.sort_by(|(_, _, a), (_, _, b)| order(a).cmp(&order(b)));
        let bytes = queue.iter().map(|(_, _, layer)| layer.size).sum::<Option<u64>>();
        self.observer.planned(queue.len(), bytes);
        let target = TargetWork::new(limits, all.extra_work());
        let all = Mutex::new(all);
        let work = || {
            loop {
                let (next, is_read) = target.begin();
                let Some((location, place, layer)) = queue.get(next) else { return target.end(0) };
                let outcome = if is_read { read(location, layer) } else { Some(Err(too_much_work())) };
                target.end(outcome.iter().flatten().map(|layer| layer.extra_work()).sum());
                if let Some(outcome) = outcome {
                    all.lock().unwrap_or_else(PoisonError::into_inner).insert(*place, (*location).clone(), outcome);
                }
                self.observer.layer_done();
            }
        };
        match self.source.concurrent_reads() {
            // These threads mostly wait for the network, so they are separate from the scanning threads.
            Some(readers) => thread::scope(|scope| {
                for _ in 0..readers.min(queue.len()) {
                    scope.spawn(work);
                }
            }),
            None => threads.scope(|scope| {
                for _ in 0..threads.current_num_threads().min(queue.len()) {
                    scope.spawn(|_| work());
                }
            }),
        }
        all.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a layer, with the algorithm of the digest in its manifest. `None` for a layer that the stream has passed.
    pub(crate) fn open(&self, location: &Location, layer: &LayerSource) -> Option<Result<(Blob<'_>, Algorithm), Gap>> {
        if let Some(reason) = self.cancellation.reason() {
            return Some(Err(cancelled(reason).at(&location.0)));
        }
        let algorithm = layer.digest.as_ref().map_or(Algorithm::Sha256, |digest| digest.algorithm());
        match self.source.open(location) {
            Ok(Fetched::Blob(blob)) => Some(Ok((blob, algorithm))),
            Ok(Fetched::Passed(_)) => None,
            Ok(Fetched::Missing) if !layer.urls.is_empty() => {
                let detail = "foreign layer: the image has only its URL, and the layer was not downloaded";
                Some(Err(Gap::new(GapReason::ForeignLayer, detail).at(&location.0)))
            }
            Ok(Fetched::Missing) => {
                let gap = Gap::new(GapReason::MissingBlob, self.source.missing("layer")).at(&location.0);
                Some(Err(layer.size.map_or(gap.clone(), |size| gap.sized(size))))
            }
            Err(error) => {
                let gap = match CancelReason::of(&error) {
                    Some(reason) => cancelled(reason),
                    None => Gap::new(GapReason::Unreadable, error.to_string()),
                };
                Some(Err(gap.at(&location.0)))
            }
        }
    }
}

/// What was read of a layer of an image, or the gap in its place.
pub(crate) fn find<R>(source: &dyn ImageSource, layer: &LayerSource, read: &ReadLayers<R>) -> Outcome<R> {
    let missing = || Gap::new(GapReason::MissingBlob, "the layer was not read");
    let location = layer.location.as_ref().ok_or_else(missing)?;
    if let Some(outcome) = read.get(location) {
        return outcome.clone();
    }
    match source.open(location) {
        Ok(Fetched::Passed(name)) => read.get(&name).cloned().unwrap_or_else(|| Err(missing())),
        _ => Err(missing()),
    }
}

/// The algorithm of the digest of a layer in a stream, whose manifest may come later.
pub(crate) fn algorithm_of(location: &Location) -> Algorithm {
    if location.0.contains("blobs/sha512/") { Algorithm::Sha512 } else { Algorithm::Sha256 }
}
