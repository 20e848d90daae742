//! Archives and compressed streams inside files, opened as their bytes pass: nothing is unpacked to disk, nothing
//! seeks, and memory does not grow with the archive.
//!
//! An [`Opener`] is pushed the bytes of one file and hands what the archive holds to [`Members`], in order. Each member
//! is told by its first bytes, never by its name, and is opened in turn where it is an archive. `level.rs` is one
//! opened archive and the member it is at, `detect.rs` knows what bytes begin with, `stream.rs` drives the codecs;
//! every other file is one format.
//!
//! What cannot be read is a [`Gap`], and its raw bytes are handed out as an unnamed member, so that nothing goes
//! unseen.

mod ar;
mod asar;
mod bytes;
mod bzip2;
mod cpio;
mod detect;
mod flate;
mod level;
mod lz4;
mod rpm;
mod stream;
mod tar;
mod xz;
mod zip;
mod zip_record;
mod zstd;

#[cfg(test)]
mod format_tests;
#[cfg(test)]
mod hostile_tests;

use layersift_model::{Gap, Limits};

use crate::memory::MemoryLease;

use detect::Kind;
use level::{Level, Out, Shared};

/// How many of the first bytes of a file decide whether it is an archive.
pub const HEAD_BYTES: usize = 1024;

/// What is done with what archives hold, in order. Between `begin` and `end` no other member begins.
pub trait Members {
    /// A member begins. `inside` holds the names from the outermost archive to this one; what has no name, such as the
    /// content of a compressed stream, adds none. `size` is in bytes and what the archive claims.
    fn begin(&mut self, inside: &[String], size: Option<u64>);
    /// The next bytes of the member that began last.
    fn bytes(&mut self, bytes: &[u8]);
    /// The member that began last has no more bytes.
    fn end(&mut self);
    /// Something was not read, and why; `inside` as for `begin`. May come while a member is open.
    fn gap(&mut self, inside: &[String], gap: Gap);

    /// Whether nothing more is wanted. Asked while streams are inflated.
    fn is_cancelled(&self) -> bool {
        false
    }
}

/// Opens one file and every archive inside it.
pub struct Opener {
    /// None when a limit stopped it.
    root: Option<Level>,
    shared: Shared,
}

impl Opener {
    /// An opener of the file that begins with `head`: [`HEAD_BYTES`] bytes, or the whole file. `None` for a file that is
    /// not an archive. The head is pushed with the rest. Decoders take their memory from `memory`.
    pub fn detect(head: &[u8], limits: &Limits, memory: &MemoryLease) -> Option<Opener> {
        if limits.archive_depth == 0 {
            return None;
        }
        let kind = Kind::detect(head)?;
        Some(Opener { root: Some(Level::new(kind.open(limits), 1)), shared: Shared::new(limits, memory) })
    }

    /// Takes the next bytes of the file, pieces of any size.
    pub fn push(&mut self, bytes: &[u8], members: &mut dyn Members) {
        let Some(root) = &mut self.root else { return };
        root.push(bytes, &mut Out { shared: &mut self.shared, members });
        if self.shared.stopped {
            self.root = None;
        }
    }

    /// The file has no more bytes.
    pub fn finish(&mut self, members: &mut dyn Members) {
        if let Some(mut root) = self.root.take() {
            root.finish(&mut Out { shared: &mut self.shared, members });
        }
    }
}
