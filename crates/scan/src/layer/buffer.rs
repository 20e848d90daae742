//! The bytes that pass through a scan: slices of a mapped file, or buffers that are used again.

use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};

use layersift_format::Region;

/// Some bytes of a layer, cheap to clone and to hand to another thread.
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

/// A buffer that goes back to its pool when the last holder drops it.
pub struct Buffer {
    bytes: Vec<u8>,
    filled: usize,
    pool: Pool,
}

impl Buffer {
    /// The whole buffer, to be filled.
    pub fn space(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    /// Says how many bytes at the front are data, and seals the buffer.
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

/// Buffers of one size that are handed out again and again. As many exist as were ever in use at once.
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

    /// A buffer with old or zero bytes in it.
    pub fn take(&self) -> Buffer {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        Buffer { bytes: free.unwrap_or_else(|| vec![0; self.size]), filled: 0, pool: self.clone() }
    }

    /// The size of a buffer in bytes.
    pub fn size(&self) -> usize {
        self.size
    }
}
