//! Blobs of Git repositories: a file behind a header. In `.git/objects`, that is a zlib stream.
//!
//! Source: gitformat-loose(5), the documentation of Git.

use layersift_model::Gap;

use super::bytes::{digits, take};
use super::level::{Format, MemberSink, Progress};

/// What a blob begins with.
const BLOB: &[u8] = b"blob ";

/// The most digits of the size of a blob.
const DIGITS: usize = 20;

/// Whether `head` begins with the header of a blob.
pub(super) fn is_blob(head: &[u8]) -> bool {
    header(head).is_some()
}

/// The length of the header and the size of the file in bytes, if `head` begins with a header.
fn header(head: &[u8]) -> Option<(usize, u64)> {
    let rest = head.strip_prefix(BLOB)?;
    let end = rest.iter().take(DIGITS + 1).position(|byte| *byte == 0)?;
    Some((BLOB.len() + end + 1, digits(rest.get(..end)?, 10)?))
}

/// A reader of a blob: all behind the header is a member without a name.
#[derive(Default)]
pub(super) struct GitBlob {
    is_open: bool,
}

impl Format for GitBlob {
    fn push(&mut self, input: &mut &[u8], sink: &mut MemberSink<'_, '_>) -> Result<Progress, Gap> {
        if !self.is_open {
            let Some((length, size)) = header(input) else { return Ok(Progress::More) };
            take(input, length as u64);
            sink.begin(None, Some(size));
            self.is_open = true;
        }
        sink.bytes(std::mem::take(input));
        Ok(Progress::More)
    }

    fn finish(&mut self, _: &[u8], _: &mut MemberSink<'_, '_>) -> Result<(), Gap> {
        Ok(())
    }
}
