//! The work that all layers of one target may take beyond what their bytes permit.
//!
//! A layer of a few hundred bytes may take [`Limits::layer_work`], and a target may have thousands of them. Layers of
//! honest images take nothing beyond what their bytes permit, so a target has room for a few layers that do. The report
//! of a layer says what it took and does not depend on the target; only whether a layer is read does, by the extra work
//! of all layers before it. [`order`] says which come before
//! ([075](../../../docs/decisions/075-bound-the-work-of-a-target.md)).

use std::collections::HashSet;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use layersift_format::manifest::LayerSource;
use layersift_model::{Gap, GapReason, LayerReport, Limits};

use crate::waiting::wait;

/// The sort key of the layers of a target: the largest first, as a large layer at the end would leave other cores idle.
pub fn order(layer: &LayerSource) -> impl Ord + use<'_> {
    (std::cmp::Reverse(layer.size), &layer.location)
}

/// The work of the layers that come before the next one.
#[derive(Clone, Debug)]
pub struct WorkBefore {
    limit: u64,
    layer_limit: u64,
    spent: u64,
    /// Layers that are being read.
    running: u64,
}

impl WorkBefore {
    /// No layers yet, and what `limits` permit.
    pub fn new(limits: &Limits) -> WorkBefore {
        WorkBefore { limit: limits.target_work, layer_limit: limits.layer_work, spent: 0, running: 0 }
    }

    /// Whether the next layer is to be read. That depends on the work of all layers before it: `None` as long as those
    /// that are being read could reach the limit together.
    pub fn is_next_read(&self) -> Option<bool> {
        let most = self.spent.saturating_add(self.running.saturating_mul(self.layer_limit));
        if self.spent > self.limit { Some(false) } else { (most <= self.limit).then_some(true) }
    }

    /// Whether layers are being read.
    pub fn is_running(&self) -> bool {
        self.running > 0
    }

    /// Adds a layer that is being read.
    pub fn begin(&mut self) {
        self.running += 1;
    }

    /// Adds a layer that took `extra` work.
    pub fn add(&mut self, extra: u64) {
        self.spent = self.spent.saturating_add(extra);
    }
}

/// The work of a target so far, while several threads take its layers one after the other.
pub(crate) struct TargetWork {
    state: Mutex<State>,
    ended: Condvar,
}

struct State {
    before: WorkBefore,
    begun: usize,
}

impl TargetWork {
    /// What `limits` permit, of which `spent` is used.
    pub(crate) fn new(limits: &Limits, spent: u64) -> TargetWork {
        let before = WorkBefore { spent, ..WorkBefore::new(limits) };
        TargetWork { state: Mutex::new(State { before, begun: 0 }), ended: Condvar::new() }
    }

    /// The number of the next layer, and whether it is to be read. That depends on the work of all layers before it,
    /// so this waits for those that are being read if they could reach the limit together.
    pub(crate) fn begin(&self) -> (usize, bool) {
        let mut state = self.lock();
        loop {
            if let Some(is_read) = state.before.is_next_read() {
                state.before.begin();
                state.begun += 1;
                return (state.begun - 1, is_read);
            }
            // A layer takes long.
            state = wait(&self.state, state, &self.ended, || std::thread::sleep(Duration::from_millis(1)));
        }
    }

    /// Ends a layer that took `extra` work.
    pub(crate) fn end(&self, extra: u64) {
        let mut state = self.lock();
        state.before.running -= 1;
        state.before.add(extra);
        drop(state);
        self.ended.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Replaces the reports of those `layers` of one image that a scan of it would not have read, by their work. A store
/// may have them all the same, because other images have them.
pub(crate) fn bound(sources: &[LayerSource], layers: &mut [Result<Arc<LayerReport>, Gap>], limits: &Limits) {
    let extra = |layer: &Result<Arc<LayerReport>, Gap>| layer.as_ref().map_or(0, |report| report.extra_work);
    if layers.iter().map(extra).fold(0, u64::saturating_add) <= limits.target_work {
        return;
    }
    let mut all: Vec<_> = sources.iter().zip(layers).collect();
    all.sort_by(|a, b| order(a.0).cmp(&order(b.0)));
    let (mut before, mut counted) = (WorkBefore::new(limits), HashSet::new());
    for (source, layer) in all {
        let is_new = counted.insert((&source.location, &source.digest));
        if before.is_next_read() == Some(false) {
            *layer = Err(too_much_work());
        } else if is_new {
            before.add(extra(layer));
        }
    }
}

/// The gap of a layer that was not read because of the layers before it.
pub(crate) fn too_much_work() -> Gap {
    let detail = "the layers of the image take more work than those of one image may; this one was not read";
    Gap::new(GapReason::LayerTooLarge, detail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use layersift_format::Location;
    use layersift_model::{Digest, Owners, Touched};

    fn report(extra_work: u64) -> LayerReport {
        LayerReport {
            blob: Digest::of(b""),
            blob_bytes: 0,
            diff_id: Digest::of(b""),
            bytes: 0,
            entries: 0,
            files: 0,
            touched: Touched::default(),
            whiteouts: Vec::new(),
            hard_links: Vec::new(),
            symlinks: Vec::new(),
            is_tar: true,
            bytes_after_end: 0,
            extra_work,
            owners: Owners::default(),
            findings: Vec::new(),
            gaps: Vec::new(),
        }
    }

    fn work() -> TargetWork {
        TargetWork::new(&Limits { layer_work: 10, target_work: 25, ..Limits::default() }, 0)
    }

    #[test]
    fn layers_are_read_until_those_before_took_too_much() {
        let work = work();
        let read: Vec<bool> = (0..6).map(|_| (work.begin().1, work.end(9)).0).collect();
        assert_eq!(read, [true, true, true, false, false, false]);
        let ordinary = self::work();
        assert!((0..1_000).all(|number| (ordinary.begin() == (number, true), ordinary.end(0)).0));
    }

    #[test]
    fn a_decision_waits_for_layers_that_could_reach_the_limit() {
        for (extra, expected) in [(0, true), (10, false)] {
            let work = work();
            // Two of them could take 20, and a third 30.
            (0..3).for_each(|_| assert!(work.begin().1));
            std::thread::scope(|scope| {
                let fourth = scope.spawn(|| work.begin().1);
                (0..3).for_each(|_| work.end(extra));
                assert_eq!(fourth.join().unwrap(), expected);
            });
        }
    }

    #[test]
    fn a_layer_that_is_named_again_counts_once() {
        let source = |name: &str| LayerSource { location: Some(Location(name.into())), ..LayerSource::default() };
        let limits = Limits { target_work: 15, ..Limits::default() };
        let bounded = |names: &[&str]| -> Vec<bool> {
            let sources: Vec<LayerSource> = names.iter().map(|name| source(name)).collect();
            let mut layers = vec![Ok(Arc::new(report(10))); names.len()];
            bound(&sources, &mut layers, &limits);
            layers.iter().map(Result::is_ok).collect()
        };
        assert_eq!(bounded(&["a", "a", "a", "b"]), [true; 4]);
        assert_eq!(bounded(&["c", "a", "b", "a"]), [false, true, true, true]);
    }
}
