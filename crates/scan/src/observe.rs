//! Progress events of a running scan, for progress bars and metrics.

/// Receives the progress of a scan. Calls come from any thread, at any rate.
pub trait Observer: Sync {
    /// `layers` layers will be read, of `bytes` stored bytes in total, if known. May be called again with new totals.
    fn planned(&self, layers: usize, bytes: Option<u64>) {
        let _ = (layers, bytes);
    }

    /// `bytes` more bytes of blobs were read.
    fn read(&self, bytes: u64) {
        let _ = bytes;
    }

    /// A layer was scanned.
    fn layer_done(&self) {}
}

/// Ignores all events.
pub struct NoObserver;

impl Observer for NoObserver {}
