//! Observing a scan while it runs: what a progress display, or a server's metrics, want to know.

/// Told how a scan goes on. All calls may come from any thread, at any rate.
pub trait Observer: Sync {
    /// `layers` layers will be read, of `bytes` bytes as they are stored where that is known. May be told again.
    fn planned(&self, layers: usize, bytes: Option<u64>) {
        let _ = (layers, bytes);
    }

    /// `bytes` more bytes of blobs were read.
    fn read(&self, bytes: u64) {
        let _ = bytes;
    }

    /// A layer is done.
    fn layer_done(&self) {}
}

/// Watches nothing.
pub struct Unobserved;

impl Observer for Unobserved {}
