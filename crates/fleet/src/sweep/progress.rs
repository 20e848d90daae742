//! Counts of what a sweep has done so far.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts that only grow. Any thread may add to them and read them.
#[derive(Debug, Default)]
pub struct Progress {
    images: AtomicU64,
    images_done: AtomicU64,
    layers_queued: AtomicU64,
    layers_read: AtomicU64,
    layers_known: AtomicU64,
    layers_failed: AtomicU64,
    bytes_queued: AtomicU64,
    bytes_read: AtomicU64,
    bytes_done: AtomicU64,
    bytes_saved: AtomicU64,
}

/// The counts at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Images that were listed.
    pub images: u64,
    /// Images that were joined, or were known before.
    pub images_done: u64,
    /// Layers that have to be read, here or elsewhere.
    pub layers_queued: u64,
    /// Layers that were read here.
    pub layers_read: u64,
    /// Layers of listed images that were known or queued already.
    pub layers_known: u64,
    /// Attempts at layers that failed here.
    pub layers_failed: u64,
    /// Bytes of the layers that have to be read, as they are stored.
    pub bytes_queued: u64,
    /// Bytes that were read here, of layers that are not done, too.
    pub bytes_read: u64,
    /// Bytes of the layers that were read here.
    pub bytes_done: u64,
    /// Bytes of the layers that were known.
    pub bytes_saved: u64,
}

impl Progress {
    /// The counts at this moment.
    pub fn counted(&self) -> Counted {
        let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Counted {
            images: get(&self.images),
            images_done: get(&self.images_done),
            layers_queued: get(&self.layers_queued),
            layers_read: get(&self.layers_read),
            layers_known: get(&self.layers_known),
            layers_failed: get(&self.layers_failed),
            bytes_queued: get(&self.bytes_queued),
            bytes_read: get(&self.bytes_read),
            bytes_done: get(&self.bytes_done),
            bytes_saved: get(&self.bytes_saved),
        }
    }

    pub(super) fn image_listed(&self) {
        self.images.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn image_done(&self) {
        self.images_done.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn layer_queued(&self, bytes: u64) {
        self.layers_queued.fetch_add(1, Ordering::Relaxed);
        self.bytes_queued.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn layer_known(&self, bytes: u64) {
        self.layers_known.fetch_add(1, Ordering::Relaxed);
        self.bytes_saved.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn layer_read(&self, bytes: u64) {
        self.layers_read.fetch_add(1, Ordering::Relaxed);
        self.bytes_done.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn layer_failed(&self) {
        self.layers_failed.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn bytes_read(&self, bytes: u64) {
        self.bytes_read.fetch_add(bytes, Ordering::Relaxed);
    }
}
