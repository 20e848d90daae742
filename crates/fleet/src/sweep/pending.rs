//! Images that wait for their layers, and which of these are read next.
//!
//! A layer is read if the layers of its image that come before it took little extra work, as in a scan
//! ([`WorkBefore`]). So only as many layers are queued at a time as could reach the limit together, and the next ones
//! as those are read, which mostly take no extra work. What the report of an image says does not depend on others.
//!
//! The images of an entry are one target. An image is read if the layers of all images before it took little extra
//! work. One that is not read has no report, which would be taken for that of the same image elsewhere: it is a problem
//! of the sweep ([079](../../../../docs/decisions/079-bound-the-work-of-images-in-a-sweep.md)).

#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};

use layersift_model::{Digest, Limits};
use layersift_scan::{RetainedMemory, WorkBefore, order};
use layersift_store::{Job, Seconds};

use super::plan::PlannedImage;

/// The images of an entry, until all of them are assembled.
pub(super) struct PendingEntry {
    images: Vec<PendingImage>,
    /// When it was planned: jobs are given out by their age, which is that of the entry, whenever they are queued.
    pub(super) planned_at: Seconds,
    /// Whether layers wait until others are read.
    pub(super) is_held: bool,
    _memory: RetainedMemory,
}

/// An image, with each of its layers once, in the order in which they are read.
pub(super) struct PendingImage {
    /// `None` once it is assembled, or known not to be read.
    planned: Option<PlannedImage>,
    layers: Vec<PendingLayer>,
    /// Where the layers can be pulled from.
    source: String,
}

/// A layer of an image.
pub(super) struct PendingLayer {
    pub(super) digest: Digest,
    pub(super) bytes: u64,
    pub(super) priority: i64,
    pub(super) state: LayerState,
}

/// What is known of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LayerState {
    Unread,
    Queued,
    /// It was read and took this much extra work, or cannot be read.
    Ended(u64),
}

/// What is to be done next with the images of an entry.
#[derive(Default)]
pub(super) struct Next {
    /// Layers to queue.
    pub(super) jobs: Vec<Job>,
    /// Images whose layers are all read, or are not to be.
    pub(super) complete: Vec<PlannedImage>,
    /// Images that are not to be read.
    pub(super) left_out: Vec<PlannedImage>,
}

impl PendingEntry {
    pub(super) fn new(images: Vec<PendingImage>, planned_at: Seconds, memory: RetainedMemory) -> PendingEntry {
        PendingEntry { images, planned_at, is_held: false, _memory: memory }
    }

    /// What is to be done next. The layers to queue count as queued from now on.
    pub(super) fn next(&mut self, limits: &Limits) -> Next {
        let (mut next, mut before, mut counted) = (Next::default(), WorkBefore::new(limits), HashSet::new());
        self.is_held = false;
        for image in &mut self.images {
            let is_read = if image.has_ended() { Some(true) } else { before.is_next_read() };
            if is_read == Some(false) {
                next.left_out.extend(image.planned.take());
                continue;
            }
            if is_read.is_none() || !image.walk(&mut next, WorkBefore::new(limits), &mut before, &mut counted) {
                self.is_held = true;
                break;
            }
        }
        next
    }

    /// Notes which of the layers have ended, and their extra work.
    pub(super) fn note(&mut self, extra_work: impl Fn(&Digest) -> Option<u64>) {
        for layer in self.images.iter_mut().flat_map(|image| &mut image.layers) {
            if !matches!(layer.state, LayerState::Ended(_))
                && let Some(extra) = extra_work(&layer.digest)
            {
                layer.state = LayerState::Ended(extra);
            }
        }
    }

    /// The jobs of the layers that are queued, or being read.
    pub(super) fn queued(&self) -> impl Iterator<Item = Job> {
        let of_image = |image: &PendingImage| {
            let queued = image.layers.iter().filter(|layer| layer.state == LayerState::Queued);
            queued.map(|layer| layer.job(&image.source)).collect::<Vec<_>>()
        };
        self.images.iter().flat_map(of_image)
    }

    /// How many images wait.
    pub(super) fn waiting(&self) -> usize {
        self.images.iter().filter(|image| image.planned.is_some()).count()
    }
}

impl PendingImage {
    /// An image with these layers, which can be pulled from `source`.
    pub(super) fn new(
        planned: PlannedImage,
        mut layers: HashMap<Digest, PendingLayer>,
        source: String,
    ) -> PendingImage {
        let mut named: Vec<_> = planned.image.layers.iter().collect();
        named.sort_by(|a, b| order(a).cmp(&order(b)));
        let layers = named.into_iter().filter_map(|layer| layers.remove(layer.digest.as_ref()?)).collect();
        PendingImage { planned: Some(planned), layers, source }
    }

    fn has_ended(&self) -> bool {
        self.layers.iter().all(|layer| matches!(layer.state, LayerState::Ended(_)))
    }

    /// Walks the layers as far as it is known whether they are read, and adds their work to that of the `entry`, unless
    /// they are `counted` there. Returns whether it is known of all of them.
    fn walk(
        &mut self,
        next: &mut Next,
        mut before: WorkBefore,
        entry: &mut WorkBefore,
        counted: &mut HashSet<Digest>,
    ) -> bool {
        for layer in &mut self.layers {
            if layer.state == LayerState::Unread {
                match before.is_next_read() {
                    Some(true) => next.jobs.push(layer.job(&self.source)),
                    Some(false) => break,
                    None => return false,
                }
                layer.state = LayerState::Queued;
            }
            layer.add_to(&mut before);
            if counted.insert(layer.digest.clone()) {
                layer.add_to(entry);
            }
        }
        if !before.is_running() {
            next.complete.extend(self.planned.take());
            // The images after it depend on these.
            self.layers.retain(|layer| matches!(layer.state, LayerState::Ended(extra) if extra > 0));
        }
        true
    }
}

impl PendingLayer {
    fn job(&self, source: &str) -> Job {
        Job { layer: self.digest.clone(), size: self.bytes, priority: self.priority, source: source.into() }
    }

    fn add_to(&self, work: &mut WorkBefore) {
        match self.state {
            LayerState::Ended(extra) => work.add(extra),
            LayerState::Unread | LayerState::Queued => work.begin(),
        }
    }
}
