//! Archives inside a layer: their members are packed into windows and scanned like the files of the layer.
//!
//! Small members share a window; a member that does not fit is split into overlapping segments, like a file of the
//! layer.

use std::ops::Range;

use super::file::FileHandle;
use crate::content::archive::{HEAD_BYTES, Members, Opener, PrefixedZip};
use crate::layer::buffer::{Buffer, Bytes, Pool};
use crate::layer::read::Batch;
use crate::layer::walk::{Overlap, Segment};
use crate::layer_work::{LayerWork, named};
use crate::memory::MemoryLease;
use layersift_format::Cancellation;
use layersift_model::{Gap, Limits};

/// Receives full windows.
pub(super) type Dispatch<'d, 'a, 's> = &'d (dyn Fn(Batch<'a, FileHandle<'a, 's>>) + 'd);

/// The resources for packing and scanning members.
#[derive(Clone, Copy)]
pub(super) struct Packing<'d, 'a, 's> {
    pub(super) pool: &'d Pool,
    pub(super) overlap: Overlap,
    pub(super) limits: &'d Limits,
    pub(super) memory: &'d MemoryLease,
    pub(super) work: &'d LayerWork,
    pub(super) cancellation: &'d Cancellation,
    pub(super) dispatch: Dispatch<'d, 'a, 's>,
}

impl Packing<'_, '_, '_> {
    /// Counts `work`. Returns whether the layer may take more; what is left out once it is cancelled is a gap of the
    /// reader.
    pub(super) fn goes_on(&self, work: u64) -> bool {
        self.work.add(work) && !self.cancellation.is_cancelled()
    }
}

/// A file of a layer that is an archive, or may be one.
pub(super) enum Unpacking<'d, 'a, 's> {
    /// The first bytes, too few to decide.
    Sniffing(Vec<u8>),
    /// The file is an archive.
    Open(Box<(Opener, Packer<'d, 'a, 's>)>),
    /// The file is not an archive, but one may begin in it.
    Prefix(PrefixedZip),
    /// The file is not an archive.
    Plain,
}

impl<'d, 'a, 's> Unpacking<'d, 'a, 's> {
    /// Processes the next bytes of `file`; `last` is set for its last bytes.
    pub(super) fn bytes(&mut self, file: &FileHandle<'a, 's>, bytes: &[u8], last: bool, packing: Packing<'d, 'a, 's>) {
        match self {
            Unpacking::Plain => {}
            Unpacking::Prefix(search) => {
                if let Some((first, rest)) = search.find(bytes) {
                    let opener = Opener::prefixed(packing.limits, packing.memory);
                    *self = Unpacking::opened(opener, &[&first, rest], file, packing);
                }
            }
            Unpacking::Open(open) => open.0.push(bytes, &mut open.1),
            Unpacking::Sniffing(head) if head.is_empty() && (last || bytes.len() >= HEAD_BYTES) => {
                self.open(file, bytes, packing);
            }
            Unpacking::Sniffing(head) => {
                head.extend_from_slice(bytes);
                if last || head.len() >= HEAD_BYTES {
                    let head = std::mem::take(head);
                    self.open(file, &head, packing);
                }
            }
        }
    }

    /// The file has no more bytes.
    pub(super) fn finish(self) {
        if let Unpacking::Open(open) = self {
            let (mut opener, mut packer) = *open;
            opener.finish(&mut packer);
            packer.finish();
        }
    }

    fn open(&mut self, file: &FileHandle<'a, 's>, bytes: &[u8], packing: Packing<'d, 'a, 's>) {
        let head = &bytes[..bytes.len().min(HEAD_BYTES)];
        if !packing.work.add(Opener::detection_work(head)) {
            *self = Unpacking::Plain;
            return;
        }
        *self = match Opener::detect(head, packing.limits, packing.memory) {
            Some(opener) => Unpacking::opened(opener, &[bytes], file, packing),
            None => match PrefixedZip::behind(head).filter(|_| packing.limits.archive_depth > 0) {
                Some(search) => {
                    *self = Unpacking::Prefix(search);
                    return self.bytes(file, bytes, false, packing);
                }
                None => Unpacking::Plain,
            },
        };
    }

    fn opened(
        mut opener: Opener,
        pieces: &[&[u8]],
        file: &FileHandle<'a, 's>,
        packing: Packing<'d, 'a, 's>,
    ) -> Unpacking<'d, 'a, 's> {
        let mut packer = Packer::new(file.clone(), packing);
        pieces.iter().for_each(|piece| opener.push(piece, &mut packer));
        Unpacking::Open(Box::new((opener, packer)))
    }
}

/// Packs the members of one archive into windows.
pub(super) struct Packer<'d, 'a, 's> {
    archive: FileHandle<'a, 's>,
    packing: Packing<'d, 'a, 's>,
    buffer: Option<Buffer>,
    filled: usize,
    segments: Vec<Segment<FileHandle<'a, 's>>>,
    /// Bytes in the window that were not yet passed to their files: file, offset in it, range in the window.
    fresh: Vec<(FileHandle<'a, 's>, u64, Range<usize>)>,
    open: Option<OpenMember<'a, 's>>,
}

struct OpenMember<'a, 's> {
    file: FileHandle<'a, 's>,
    /// The offset in the window at which the member's bytes begin, and their offset in the member.
    start: usize,
    offset: u64,
    /// The end of the bytes of the member that earlier segments own.
    owned: u64,
    /// The offset in the window of the first byte that was not yet passed to the file.
    fresh: usize,
}

impl<'d, 'a, 's> Packer<'d, 'a, 's> {
    fn new(archive: FileHandle<'a, 's>, packing: Packing<'d, 'a, 's>) -> Packer<'d, 'a, 's> {
        Packer { archive, packing, buffer: None, filled: 0, segments: Vec::new(), fresh: Vec::new(), open: None }
    }

    /// Hands out the last window, and releases the archive.
    fn finish(mut self) {
        self.end_member();
        self.flush();
        self.archive.release();
    }

    fn end_member(&mut self) {
        self.note_fresh();
        let Some(open) = self.open.take() else { return };
        open.file.end();
        if open.start < self.filled {
            self.segments.push(open.segment(self.filled, self.filled - open.start));
        }
        open.file.release();
    }

    /// Begins the member `file`.
    fn begin_file(&mut self, file: FileHandle<'a, 's>) {
        self.end_member();
        self.open = Some(OpenMember { file, start: self.filled, offset: 0, owned: 0, fresh: self.filled });
    }

    /// Hands out the window. The open member continues in the next one, with an overlap.
    fn rotate(&mut self) {
        let overlap = self.packing.overlap;
        let total = overlap.before + overlap.after;
        let mut carry = Vec::new();
        self.note_fresh();
        if let (Some(open), Some(buffer)) = (&mut self.open, &mut self.buffer) {
            let length = self.filled - open.start;
            // Too few bytes for a segment: they are repeated in the next window.
            if length > total {
                self.segments.push(open.segment(self.filled, length - overlap.after));
                open.owned = open.offset + (length - overlap.after) as u64;
            }
            let kept = length.min(total);
            carry.extend_from_slice(&buffer.space()[self.filled - kept..self.filled]);
            open.offset += (length - kept) as u64;
            (open.start, open.fresh) = (0, kept);
        }
        self.flush();
        if !carry.is_empty() {
            let mut buffer = self.packing.pool.take();
            buffer.space()[..carry.len()].copy_from_slice(&carry);
            (self.buffer, self.filled) = (Some(buffer), carry.len());
        }
    }

    fn note_fresh(&mut self) {
        let Some(open) = &mut self.open else { return };
        if open.fresh < self.filled {
            let offset = open.offset + (open.fresh - open.start) as u64;
            self.fresh.push((open.file.clone(), offset, open.fresh..self.filled));
            open.fresh = self.filled;
        }
    }

    /// Hands out the window.
    fn flush(&mut self) {
        let Some(buffer) = self.buffer.take() else { return };
        let window: Bytes<'a> = buffer.seal(std::mem::take(&mut self.filled));
        for (file, offset, range) in self.fresh.drain(..) {
            file.bytes(offset, &window, range);
            file.release();
        }
        let segments = std::mem::take(&mut self.segments);
        if !segments.is_empty() {
            (self.packing.dispatch)(Batch { window, segments });
        }
    }
}

impl<'a, 's> OpenMember<'a, 's> {
    /// The segment from the start of the member's bytes in the window to `end`, which owns its first `until` bytes as
    /// far as no other segment does.
    fn segment(&self, end: usize, until: usize) -> Segment<FileHandle<'a, 's>> {
        Segment {
            file: self.file.clone(),
            range: self.start..end,
            offset: self.offset,
            owned: (self.owned - self.offset) as usize..until,
        }
    }
}

impl Members for Packer<'_, '_, '_> {
    fn begin(&mut self, inside: &[String], _: Option<u64>) {
        let member = self.archive.member(inside.to_vec());
        self.packing.work.add(named(member.path_bytes()));
        self.begin_file(member);
    }

    fn bytes(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && self.open.is_some() {
            let filled = self.filled;
            let buffer = self.buffer.get_or_insert_with(|| self.packing.pool.take());
            let space = &mut buffer.space()[filled..];
            let count = space.len().min(bytes.len());
            space[..count].copy_from_slice(&bytes[..count]);
            bytes = &bytes[count..];
            self.filled += count;
            if !bytes.is_empty() {
                self.rotate();
            }
        }
    }

    fn end(&mut self) {
        self.end_member();
    }

    fn work(&mut self, work: u64) -> bool {
        self.packing.work.add(work)
    }

    fn is_cancelled(&self) -> bool {
        self.packing.cancellation.is_cancelled()
    }

    fn gap(&mut self, inside: &[String], gap: Gap) {
        self.archive.gap(inside, gap);
    }
}

/// A file outside of any layer, read in pieces: scans its bytes, and its members if it is an archive.
pub(super) struct FileUnpacker<'d, 'a, 's> {
    file: FileHandle<'a, 's>,
    packing: Packing<'d, 'a, 's>,
    unpacking: Unpacking<'d, 'a, 's>,
    /// Packs the bytes of the file itself.
    packer: Packer<'d, 'a, 's>,
}

impl<'d, 'a, 's> FileUnpacker<'d, 'a, 's> {
    pub(super) fn new(file: FileHandle<'a, 's>, packing: Packing<'d, 'a, 's>) -> FileUnpacker<'d, 'a, 's> {
        let mut packer = Packer::new(file.clone(), packing);
        packer.begin_file(file.clone());
        FileUnpacker { file, packing, unpacking: Unpacking::Sniffing(Vec::new()), packer }
    }

    /// Processes the next bytes.
    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.unpacking.bytes(&self.file, bytes, false, self.packing);
        self.packer.bytes(bytes);
    }

    /// The file has no more bytes.
    pub(super) fn finish(mut self) {
        self.unpacking.bytes(&self.file, &[], true, self.packing);
        self.unpacking.finish();
        self.packer.finish();
        self.file.release();
    }
}
