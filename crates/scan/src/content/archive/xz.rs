//! xz, and the older ".lzma".
//!
//! Sources: "The .xz File Format" 1.2.1, section 2; "The .lzma File Format" of XZ Utils (doc/lzma-file-format.txt) for
//! the header of thirteen bytes, and its advice on which values no writer uses.

use liblzma::stream::{Action, Error, Status, Stream};

use layersift_model::Gap;

use super::bytes::{le32, le64};
use super::level::Progress;
use super::stream::{Decode, Step, damaged, too_much_memory};

/// The memory of a decoder in bytes to begin with: a dictionary of 8 MiB, which `xz` uses by default, and tables.
pub(super) const MEMORY: u64 = 10 << 20;

/// The memory limit of a decoder in bytes: a dictionary of 64 MiB, which `xz -9` uses, and tables.
const MOST_MEMORY: u64 = 66 << 20;

/// Whether `head` begins with a ".lzma" header. The format has no magic number, so this tries to
/// decode the bytes.
pub(super) fn is_lzma(head: &[u8]) -> bool {
    may_be_lzma(head) && decodes(head)
}

/// Whether `head` has the form of a ".lzma" header.
pub(super) fn may_be_lzma(head: &[u8]) -> bool {
    let (Some(dictionary), Some(size)) = (le32(head, 1), le64(head, 5)) else { return false };
    // All writers use these properties, and the range coder begins with a zero.
    let is_usual = head.first() == Some(&0x5d) && head.get(13) == Some(&0) && head.len() > 18;
    let is_dictionary = dictionary >= 4096 && (dictionary.is_power_of_two() || (dictionary / 3 * 2).is_power_of_two());
    let is_size = size == u64::MAX || size < 1 << 38;
    is_usual && is_dictionary && is_size
}

fn decodes(head: &[u8]) -> bool {
    let Ok(mut stream) = Stream::new_lzma_decoder(MOST_MEMORY) else { return false };
    let mut output = [0; 4096];
    match stream.process(head, &mut output, Action::Run) {
        Ok(_) => stream.total_out() > 0,
        Err(error) => matches!(error, Error::MemLimit),
    }
}

/// A decoder of one stream.
pub(super) struct Lzma {
    stream: Stream,
    is_xz: bool,
    /// The memory that it may take now.
    limit: u64,
    wants_more: bool,
}

impl Lzma {
    /// Of xz.
    pub(super) fn xz() -> Result<Lzma, Gap> {
        Lzma::new(true, MEMORY)
    }

    /// Of ".lzma".
    pub(super) fn alone() -> Result<Lzma, Gap> {
        Lzma::new(false, MEMORY)
    }

    fn new(is_xz: bool, limit: u64) -> Result<Lzma, Gap> {
        let stream = if is_xz { Stream::new_stream_decoder(limit, 0) } else { Stream::new_lzma_decoder(limit) };
        Ok(Lzma { stream: stream.map_err(damaged)?, is_xz, limit, wants_more: false })
    }
}

impl Decode for Lzma {
    fn wanted_memory(&self) -> Option<u64> {
        self.wants_more.then(|| (2 * self.limit).min(MOST_MEMORY))
    }

    fn allow_memory(&mut self, bytes: u64) -> Result<(), Gap> {
        self.limit = bytes;
        match self.stream.set_memlimit(bytes) {
            Ok(()) => self.wants_more = false,
            // It is still too little.
            Err(Error::MemLimit) if bytes < MOST_MEMORY => {}
            Err(Error::MemLimit) => return Err(too_large()),
            Err(error) => return Err(damaged(error)),
        }
        Ok(())
    }

    fn step(&mut self, input: &[u8], output: &mut [u8]) -> Step {
        let before = (self.stream.total_in(), self.stream.total_out());
        let status = self.stream.process(input, output, Action::Run);
        Step {
            read: (self.stream.total_in() - before.0) as usize,
            written: (self.stream.total_out() - before.1) as usize,
            state: match status {
                Ok(Status::StreamEnd) => Ok(Progress::End),
                Ok(_) => Ok(Progress::More),
                Err(Error::MemLimit) if self.limit < MOST_MEMORY => {
                    self.wants_more = true;
                    Ok(Progress::More)
                }
                Err(Error::MemLimit) => Err(too_large()),
                Err(error) => Err(damaged(error)),
            },
        }
    }

    fn restart(&mut self) -> Result<(), Gap> {
        // What it was allowed so far is still held.
        *self = Lzma::new(self.is_xz, self.limit)?;
        Ok(())
    }
}

fn too_large() -> Gap {
    too_much_memory("its dictionary is larger than 64 MiB")
}
