//! Reads archives and compressed streams inside files in one pass: without seeking, without unpacking to disk, and in
//! memory that does not depend on the size of the archive.
//!
//! The caller pushes the bytes of one file into an [`Opener`], which passes the members of the archive to
//! [`Members`], in order. The format of a member is detected by its first bytes, never by its name; members that are
//! archives are opened in turn. `level.rs` is one opened archive and its current member, `detect.rs` detects formats,
//! `stream.rs` drives the codecs; every other file is one format.
//!
//! Data that cannot be read become a [`Gap`], and their raw bytes an unnamed member, so that everything is scanned.

mod ar;
mod asar;
mod bytes;
mod bzip2;
mod cpio;
mod detect;
mod flate;
mod git;
mod git_delta;
mod git_pack;
mod level;
mod lz4;
mod prefixed;
mod rpm;
mod stream;
mod tar;
mod xz;
mod zip;
mod zip_record;
mod zstd;

#[cfg(test)]
mod tests;

use layersift_model::{Gap, Limits};

use crate::memory::MemoryLease;

use detect::Kind;
use level::{BoundedMembers, Level, OpenerState};
pub(crate) use prefixed::PrefixedZip;
use zip::Zip;

/// The number of bytes at the start of a file that are examined to detect an archive.
pub const HEAD_BYTES: usize = 1024;

/// Receives the members of archives, in order. Calls for two members never interleave.
pub trait Members {
    /// A member begins. `inside` holds the names from the outermost archive to this member; a member without a name,
    /// such as the contents of a compressed stream, adds none. `size` is the size in bytes that the archive claims.
    fn begin(&mut self, inside: &[String], size: Option<u64>);
    /// The next bytes of the current member.
    fn bytes(&mut self, bytes: &[u8]);
    /// The current member has no more bytes.
    fn end(&mut self);
    /// Something was not read; `inside` is as for `begin`. May be called while a member is open.
    fn gap(&mut self, inside: &[String], gap: Gap);

    /// Counts work. Returns whether more may be done.
    fn work(&mut self, _: u64) -> bool {
        true
    }

    /// Whether to stop reading. Checked while streams are decompressed.
    fn is_cancelled(&self) -> bool {
        false
    }
}

/// Reads one file and every archive inside it.
pub struct Opener {
    /// `None` after a limit was reached.
    root: Option<Level>,
    shared: OpenerState,
}

impl Opener {
    /// An opener for the file that begins with `head`, which has [`HEAD_BYTES`] bytes or is the whole file; `None` if
    /// the file is not an archive. Push the head with the rest. Decoders take their memory from `memory`.
    pub fn detect(head: &[u8], limits: &Limits, memory: &MemoryLease) -> Option<Opener> {
        if limits.archive_depth == 0 {
            return None;
        }
        let kind = Kind::detect(head)?;
        Some(Opener { root: Some(Level::new(kind.open(limits), 1)), shared: OpenerState::new(limits, memory) })
    }

    /// An opener for the archive that a [`PrefixedZip`] finds.
    pub(crate) fn prefixed(limits: &Limits, memory: &MemoryLease) -> Opener {
        Opener { root: Some(Level::new(Box::new(Zip::new()), 1)), shared: OpenerState::new(limits, memory) }
    }

    /// The work of [`Opener::detect`], as far as it is more than a few looks at `head`.
    pub fn detection_work(head: &[u8]) -> u64 {
        Kind::detection_work(head)
    }

    /// Reads the next bytes of the file, in pieces of any size.
    pub fn push(&mut self, bytes: &[u8], members: &mut dyn Members) {
        let Some(root) = &mut self.root else { return };
        root.push(bytes, &mut BoundedMembers { shared: &mut self.shared, members });
        if self.shared.stopped {
            self.root = None;
        }
    }

    /// The file has no more bytes.
    pub fn finish(&mut self, members: &mut dyn Members) {
        if let Some(mut root) = self.root.take() {
            root.finish(&mut BoundedMembers { shared: &mut self.shared, members });
        }
    }
}
