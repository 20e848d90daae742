//! What was read of the layers of a target, until its images are assembled.
//!
//! All of it together is bounded by [`Limits::image_layer_bytes`]. Of layers beyond that only the gravest is kept, so
//! that an image with too much in its layers is still known to fail.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use layersift_format::Location;
use layersift_model::{Footprint, Gap, GapReason, LayerReport, Limits, Owners, Touched};

use crate::memory::{MemoryBudget, RetainedMemory};
use crate::target_work::too_much_work;
use layersift_model::{GapList, Ranked};

/// The most findings of a layer of which only the gravest is kept, their bytes, and those of its gaps of one kind.
const REDUCED_FINDINGS: usize = 20;
const REDUCED_BYTES: u64 = 16 << 10;
const REDUCED_GAP_BYTES: u64 = 1 << 10;

/// What was read of a layer, or a gap in its place.
pub(crate) type Outcome<R> = Result<Arc<R>, Gap>;

/// What is kept of a layer.
pub(crate) trait LayerResult: Footprint {
    /// The gravest of it, and a gap that says so.
    fn reduced(&self) -> Self;

    /// The work that the layer took beyond what its bytes permit.
    fn extra_work(&self) -> u64;
}

/// The outcomes of reading layers, by the locations of their blobs.
pub(crate) struct ReadLayers<R> {
    outcomes: HashMap<Location, Outcome<R>>,
    /// The layers that are kept whole by their places among all layers of the target, and the bytes of each.
    whole: BTreeMap<usize, (Location, u64, RetainedMemory)>,
    bytes: u64,
    limit: u64,
    /// The extra work of all layers, and what a target may take.
    extra_work: u64,
    target_work: u64,
    /// The first place that was reduced. All layers from there on are, whichever is read first.
    cutoff: usize,
    memory: MemoryBudget,
}

impl<R> ReadLayers<R> {
    /// The number of layers that were read.
    pub(crate) fn len(&self) -> usize {
        self.outcomes.len()
    }

    /// The outcome of reading the layer at `location`.
    pub(crate) fn get(&self, location: &Location) -> Option<&Outcome<R>> {
        self.outcomes.get(location)
    }

    /// One part of what was read of each layer.
    pub(crate) fn map<T>(&self, part: impl Fn(&R) -> Arc<T>) -> ReadLayers<T> {
        let one = |outcome: &Outcome<R>| outcome.as_ref().map(|layer| part(layer)).map_err(Gap::clone);
        ReadLayers {
            outcomes: self.outcomes.iter().map(|(location, outcome)| (location.clone(), one(outcome))).collect(),
            whole: BTreeMap::new(),
            bytes: 0,
            limit: self.limit,
            extra_work: self.extra_work,
            target_work: self.target_work,
            cutoff: self.cutoff,
            memory: self.memory.clone(),
        }
    }
}

impl<R: LayerResult> ReadLayers<R> {
    pub(crate) fn new(limits: &Limits, memory: &MemoryBudget) -> ReadLayers<R> {
        ReadLayers {
            outcomes: HashMap::new(),
            whole: BTreeMap::new(),
            bytes: 0,
            limit: limits.image_layer_bytes,
            extra_work: 0,
            target_work: limits.target_work,
            cutoff: usize::MAX,
            memory: memory.clone(),
        }
    }

    /// The extra work of the layers that were read.
    pub(crate) fn extra_work(&self) -> u64 {
        self.extra_work
    }

    /// The outcome of reading the next layer of a stream with `read`, unless those before it took too much work.
    pub(crate) fn next(&self, read: impl FnOnce() -> Outcome<R>) -> Outcome<R> {
        if self.extra_work > self.target_work { Err(too_much_work()) } else { read() }
    }

    /// Keeps the outcome of the layer at `location`, the layer `place` of the target.
    pub(crate) fn insert(&mut self, place: usize, location: Location, outcome: Outcome<R>) {
        if let Ok(layer) = &outcome {
            self.extra_work = self.extra_work.saturating_add(layer.extra_work());
            let bytes = layer.footprint();
            self.bytes += bytes;
            self.whole.insert(place, (location.clone(), bytes, self.memory.retain(bytes)));
        }
        self.outcomes.insert(location, outcome);
        while self.bytes > self.limit || self.whole.last_key_value().is_some_and(|(last, _)| *last >= self.cutoff) {
            let Some((place, (location, bytes, _))) = self.whole.pop_last() else { return };
            self.bytes -= bytes;
            self.cutoff = place.min(self.cutoff);
            if let Some(Ok(layer)) = self.outcomes.get_mut(&location) {
                *layer = Arc::new(layer.reduced());
            }
        }
    }
}

impl LayerResult for LayerReport {
    fn extra_work(&self) -> u64 {
        self.extra_work
    }

    fn reduced(&self) -> LayerReport {
        let mut findings = Ranked::new(REDUCED_FINDINGS, REDUCED_BYTES);
        self.findings.iter().for_each(|finding| findings.add(finding.clone()));
        let (findings, dropped) = findings.into_parts();
        let mut gaps = GapList::new(REDUCED_GAP_BYTES);
        gaps.extend(self.gaps.iter().cloned());
        gaps.add(too_much(dropped));
        LayerReport {
            blob: self.blob.clone(),
            diff_id: self.diff_id.clone(),
            touched: Touched::default(),
            whiteouts: Vec::new(),
            hard_links: Vec::new(),
            symlinks: Vec::new(),
            owners: Owners::default(),
            findings,
            gaps: gaps.into_gaps(),
            ..*self
        }
    }
}

/// The gap of a layer of which only the gravest is kept.
pub(crate) fn too_much(dropped: u64) -> Gap {
    let detail = format!(
        "the layers of the image have too many names and findings to be kept; of this layer {dropped} findings were \
         dropped, the least grave first, and what it changes in other layers is not known"
    );
    Gap::new(GapReason::TooManyEntries, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Layer(u64);

    impl Footprint for Layer {
        fn footprint(&self) -> u64 {
            self.0
        }
    }

    impl LayerResult for Layer {
        fn extra_work(&self) -> u64 {
            0
        }

        fn reduced(&self) -> Layer {
            Layer(0)
        }
    }

    /// The places that are kept whole if layers are read in the order `order`.
    fn whole(sizes: &[u64], order: &[usize]) -> Vec<usize> {
        let budget = MemoryBudget::new(100);
        let limits = Limits { image_layer_bytes: 10, ..Limits::default() };
        let mut read = ReadLayers::new(&limits, &budget);
        for &place in order {
            read.insert(place, Location(place.to_string()), Ok(Arc::new(Layer(sizes[place]))));
            assert!(budget.used() <= 10);
        }
        let is_whole = |place: &usize| match read.get(&Location(place.to_string())) {
            Some(Ok(layer)) => layer.0 > 0,
            _ => false,
        };
        (0..sizes.len()).filter(is_whole).collect()
    }

    #[test]
    fn the_first_layers_are_kept_in_any_order() {
        for order in [[0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2], [2, 0, 3, 1]] {
            assert_eq!(whole(&[4, 4, 4, 1], &order), [0, 1], "{order:?}");
            assert_eq!(whole(&[11, 1, 1, 1], &order), Vec::<usize>::new(), "{order:?}");
            assert_eq!(whole(&[1, 2, 3, 4], &order), [0, 1, 2, 3], "{order:?}");
        }
    }
}
