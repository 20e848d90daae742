//! The buffers of a scan: slices of a mapped file, or reusable buffers from a pool.

use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};

use layersift_format::Region;

/// Bytes of a layer, cheap to clone and to send to another thread.
#[derive(Clone)]
pub enum Bytes<'a> {
    /// Part of a mapped file.
    Mapped(Region<'a>),
    /// A buffer of a [`Pool`].
    Pooled(Arc<Buffer>),
}

impl Deref for Bytes<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Bytes::Mapped(region) => region.bytes(),
            Bytes::Pooled(buffer) => &buffer.bytes[..buffer.filled],
        }
    }
}

/// A buffer that returns to its pool when dropped.
pub struct Buffer {
    bytes: Vec<u8>,
    filled: usize,
    pool: Pool,
}

impl Buffer {
    /// The whole buffer, for writing.
    pub fn space(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    /// Makes the first `filled` bytes shareable, as read-only data.
    pub fn seal<'a>(mut self, filled: usize) -> Bytes<'a> {
        self.filled = filled.min(self.bytes.len());
        Bytes::Pooled(Arc::new(self))
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        self.pool.free.lock().unwrap_or_else(PoisonError::into_inner).push(bytes);
    }
}

/// A pool of reusable buffers of one size. It keeps as many as were in use at the same time.
#[derive(Clone)]
pub struct Pool {
    size: usize,
    free: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Pool {
    /// A pool of buffers of `size` bytes.
    pub fn new(size: usize) -> Pool {
        Pool { size, free: Arc::default() }
    }

    /// Takes a buffer; its contents are unspecified.
    pub fn take(&self) -> Buffer {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        Buffer { bytes: free.unwrap_or_else(|| vec![0; self.size]), filled: 0, pool: self.clone() }
    }

    /// The size of a buffer in bytes.
    pub fn size(&self) -> usize {
        self.size
    }
}
