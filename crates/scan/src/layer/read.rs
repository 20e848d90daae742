//! Reads one layer: decompresses it, hashes its compressed and uncompressed bytes, and walks its entries. Windows with
//! bytes of files go to other threads to be scanned.
//!
//! The digests prove that the scanned bytes are those that the manifest names. If the walk stops early, the rest of the
//! blob is still read and hashed, unless the scan is cancelled.

use std::io::{self, Cursor, Read};
use std::sync::Arc;

use super::background_hasher::BackgroundHasher;
use super::buffer::{Bytes, Pool};
use super::walk::{Overlap, Rest, Segment, Visitor, Walk, WalkError};
use layersift_format::compression::{
    Codec, CompressedBytes, DecoderMemory, Decoding, MAGIC_BYTES, Undecoded, UndecodedPart, WholeReads, read_full,
    read_until_error,
};
use layersift_format::{Blob, CancelReason, Cancellation, Extents, Region, RegionReader};
use layersift_model::{Algorithm, Digest, Gap, GapReason, Hasher, Limits};

use crate::layer_work::{LayerWork, RUN, decompressed, too_much_work};
use crate::memory::MemoryLease;

/// Reads layers.
pub struct LayerReader<'r> {
    /// Buffers for windows; their size is the size of a window.
    pub pool: &'r Pool,
    /// How segments of one file overlap.
    pub overlap: Overlap,
    /// Limits on hostile layers.
    pub limits: &'r Limits,
    /// The algorithm that the manifest names the blob by.
    pub algorithm: Algorithm,
    /// Called with the number of bytes of the blob that were read since the last call.
    pub progress: &'r (dyn Fn(u64) + Sync),
    /// Checked before each window.
    pub cancellation: &'r Cancellation,
    /// The memory of the layer, for decoders that need much.
    pub memory: &'r MemoryLease,
    /// The work of the layer.
    pub work: &'r LayerWork,
    /// Other work on the same layer, which the bytes of its blob permit as well.
    pub beside: Option<&'r LayerWork>,
}

/// Digests, sizes and gaps of a layer that was read.
#[derive(Clone, Debug)]
pub struct LayerFacts {
    /// The digest of the blob as it is stored.
    pub blob: Digest,
    /// The size of the blob in bytes.
    pub blob_bytes: u64,
    /// The digest of the uncompressed bytes.
    pub diff_id: Digest,
    /// The size of the uncompressed layer in bytes.
    pub bytes: u64,
    /// How the blob is compressed, whatever its media type says.
    pub codec: Codec,
    /// Whether the uncompressed bytes are a tar archive.
    pub is_tar: bool,
    /// The number of bytes after the end of the archive.
    pub bytes_after_end: u64,
    /// Bytes of the blob that decompression does not give, to be scanned as well.
    pub undecoded: Vec<UndecodedPart>,
    /// Bytes that were not read, and why.
    pub gaps: Vec<Gap>,
}

/// Work that the reading thread hands to other threads.
pub enum Work<'a, F> {
    /// A window to be scanned.
    Scan(Batch<'a, F>),
    /// A digest with queued windows. The reading thread hashes them itself if no other thread does.
    Hash(Arc<BackgroundHasher<'a>>),
}

/// Segments of files in one window.
pub struct Batch<'a, F> {
    /// The window.
    pub window: Bytes<'a>,
    /// Segments, whose ranges are in the window.
    pub segments: Vec<Segment<F>>,
}

impl<'r> LayerReader<'r> {
    /// Reads a whole layer. Passes entries and bytes to `visitor`, and windows to be scanned or hashed to `others`.
    pub fn layer<'a, V: Visitor<'a>>(
        &self,
        blob: Blob<'a>,
        visitor: &mut V,
        others: &mut dyn FnMut(Work<'a, V::File>),
    ) -> LayerFacts {
        match blob {
            // Windows may outlive this map, so they are copies of its bytes.
            Blob::File(map) => self.streamed(Codec::detect(&map), Box::new(map.into_reader()), None, visitor, others),
            Blob::Mapped(region) => match Codec::detect(&region) {
                Codec::Plain => self.mapped(&region, visitor, others),
                codec => self.streamed(codec, Box::new(RegionReader::new(region)), None, visitor, others),
            },
            Blob::Stream(stream) => self.stream(stream, None, visitor, others),
            Blob::Decompressed(stream, compressed) => self.stream(stream, Some(compressed), visitor, others),
        }
    }

    /// Reads a layer of any codec; see [`LayerReader::streamed`].
    fn stream<'a, V: Visitor<'a>>(
        &self,
        mut stream: Box<dyn Read + Send + 'a>,
        compressed: Option<CompressedBytes>,
        visitor: &mut V,
        others: &mut dyn FnMut(Work<'a, V::File>),
    ) -> LayerFacts {
        let mut head = [0; MAGIC_BYTES];
        // The same error occurs again when the stream is read.
        let length = read_full(&mut stream, &mut head).unwrap_or(0);
        let codec = Codec::detect(&head[..length]);
        let whole = Cursor::new(head).take(length as u64).chain(stream);
        self.streamed(codec, Box::new(whole), compressed, visitor, others)
    }

    /// Reads an uncompressed layer in a mapped file: windows are parts of the map. Pages are released with some
    /// delay, when other threads are usually done with them; a slower thread loads them from the page cache again.
    fn mapped<'a, V: Visitor<'a>>(
        &self,
        bytes: &Region<'a>,
        visitor: &mut V,
        others: &mut dyn FnMut(Work<'a, V::File>),
    ) -> LayerFacts {
        const LAG: usize = 16 << 20;
        const STEP: usize = 8 << 20;
        let mut pass = WalkPass::new(self, Codec::Plain, visitor, others);
        let blob = Arc::new(BackgroundHasher::new(self.algorithm));
        let fresh = self.pool.size() - self.carry();
        let mut start = 0;
        let mut hashed = 0;
        let mut released = 0;
        let mut extents = Extents::default();
        while hashed < bytes.len() {
            if let Some(reason) = self.cancellation.reason() {
                pass.stop(cancelled(reason));
                break;
            }
            // The rest is zeros that are not in the file, and its pages would be made one by one.
            if bytes.check_whole().is_err() {
                break;
            }
            if hashed as u64 > self.limits.layer_bytes {
                pass.stop(too_large(self.limits.layer_bytes));
                break;
            }
            let end = (hashed + fresh).min(bytes.len());
            let window = Bytes::Mapped(bytes.part(start..end));
            match extents.all(bytes, hashed..end) {
                Ok(data) => {
                    self.add_blob_bytes(data);
                    self.work.add((end - hashed) as u64 - data);
                }
                Err(error) => {
                    pass.stop(unreadable(&error));
                    break;
                }
            }
            if !self.work.add(0) {
                pass.stop(too_much_work());
            }
            pass.hash(&blob, &window, hashed - start);
            pass.window(window, start as u64, hashed - start);
            self.work.add(pass.walk.take_runs() * RUN);
            (self.progress)((end - hashed) as u64);
            start = pass.keep.clamp(start as u64, end as u64) as usize;
            hashed = end;
            if hashed - released >= LAG + STEP {
                bytes.part(released..hashed - LAG).release();
                released = hashed - LAG;
            }
        }
        // What the visitor left out in the last window.
        if let Some(reason) = self.cancellation.reason().filter(|_| !pass.stopped) {
            pass.stop(cancelled(reason));
        }
        let digest = blob.finish();
        if let Err(error) = bytes.check_whole() {
            pass.stop(unreadable(&error));
        }
        pass.finish(digest, hashed as u64)
    }

    /// Reads a layer that is not in a mapped file. If it is in an archive that is compressed as a whole, the bytes
    /// `compressed` of that permit work, and not its own.
    fn streamed<'a, V: Visitor<'a>>(
        &self,
        codec: Codec,
        input: Box<dyn Read + Send + 'a>,
        compressed: Option<CompressedBytes>,
        visitor: &mut V,
        others: &mut dyn FnMut(Work<'a, V::File>),
    ) -> LayerFacts {
        let hasher = Hasher::new(self.algorithm);
        let mut pass = WalkPass::new(self, codec, visitor, others);
        pass.is_decompressed |= compressed.is_some();
        let compressed = compressed.map(|bytes| (bytes.count(), bytes));
        let mut raw = Hashed { input: WholeReads::new(input), hasher, bytes: 0, reader: self, compressed };
        let undecoded = Undecoded::default();
        let memory = |bytes| Some(Box::new(self.memory.try_grow(bytes)?) as DecoderMemory);
        let failure = match codec.reader(&mut raw, Decoding { undecoded: &undecoded, memory: &memory }) {
            Ok(mut plain) => self.windows(&mut *plain, &mut pass).err(),
            Err(error) => Some(error),
        };
        if let Some(error) = failure {
            pass.gaps.push(decoding_gap(codec, &error));
        }
        // The rest is read for its digest, which a cancelled scan does not need.
        if !self.cancellation.is_cancelled()
            && let Err(error) = io::copy(&mut raw, &mut io::sink())
        {
            pass.gaps.push(unreadable(&error));
        }
        let (parts, dropped) = undecoded.take();
        if dropped > 0 {
            let detail = "the blob has too many bytes outside its compressed data; the rest was not scanned";
            pass.gaps.push(Gap::new(GapReason::DocumentTooLarge, detail).sized(dropped));
        }
        let facts = pass.finish(raw.hasher.finish(), raw.bytes);
        LayerFacts { undecoded: parts, ..facts }
    }

    fn windows<'a, V: Visitor<'a>>(&self, plain: &mut dyn Read, pass: &mut WalkPass<'_, 'a, '_, V>) -> io::Result<()> {
        let mut previous: Option<(Bytes, u64)> = None;
        loop {
            if let Some(reason) = self.cancellation.reason() {
                pass.stop(cancelled(reason));
                return Ok(());
            }
            let mut buffer = self.pool.take();
            let (start, carried) = match &previous {
                Some((window, start)) => {
                    let from = (pass.keep - start).min(window.len() as u64) as usize;
                    let carry = &window[from..];
                    buffer.space()[..carry.len()].copy_from_slice(carry);
                    (start + from as u64, carry.len())
                }
                None => (0, 0),
            };
            let (fresh, failure) = read_until_error(plain, &mut buffer.space()[carried..]);
            let window = buffer.seal(carried + fresh);
            let mut work = if pass.is_decompressed { decompressed(&window[carried..]) } else { 0 };
            if fresh > 0 {
                pass.window(window.clone(), start, carried);
                work += pass.walk.take_runs() * RUN;
                previous = Some((window, start));
            }
            match failure {
                Some(error) => return Err(error),
                None if fresh == 0 => return Ok(()),
                None => {}
            }
            if !self.work.add(work) {
                pass.stop(too_much_work());
                return Ok(());
            }
            if pass.total > self.limits.layer_bytes {
                let limit = self.limits.layer_bytes;
                pass.stop(too_large(limit));
                return Ok(());
            }
        }
    }

    fn add_blob_bytes(&self, count: u64) {
        self.work.add_blob_bytes(count);
        if let Some(beside) = self.beside {
            beside.add_blob_bytes(count);
        }
    }

    /// The maximum number of bytes that a window repeats from the previous one.
    fn carry(&self) -> usize {
        (self.overlap.before + self.overlap.after + layersift_format::tar::BLOCK).min(self.pool.size() / 2)
    }
}

/// The gap of a scan that was cancelled.
pub(crate) fn cancelled(reason: CancelReason) -> Gap {
    let (reason, detail) = match reason {
        CancelReason::Cancelled => (GapReason::Cancelled, "the scan was cancelled; the rest was not read"),
        CancelReason::DeadlineExceeded => {
            (GapReason::DeadlineExceeded, "the scan reached its deadline; the rest was not read")
        }
    };
    Gap::new(reason, detail)
}

/// The gap of a layer of more than `limit` bytes.
fn too_large(limit: u64) -> Gap {
    let detail = format!("the layer has more than {limit} bytes without compression; the rest was not read");
    Gap::new(GapReason::LayerTooLarge, detail)
}

/// The gap of bytes that cannot be read.
pub(crate) fn unreadable(error: &io::Error) -> Gap {
    match CancelReason::of(error) {
        Some(reason) => cancelled(reason),
        None => Gap::new(GapReason::Unreadable, error.to_string()),
    }
}

fn decoding_gap(codec: Codec, error: &io::Error) -> Gap {
    if let Some(reason) = CancelReason::of(error) {
        return cancelled(reason);
    }
    let reason = match codec {
        Codec::Plain => GapReason::Unreadable,
        _ if error.kind() == io::ErrorKind::Unsupported => GapReason::UnsupportedCompression,
        Codec::Gzip | Codec::Zstd | Codec::Xz | Codec::Bzip2 => GapReason::DamagedCompression,
    };
    Gap::new(reason, format!("{codec} stream: {error}"))
}

/// The state of the walk over the uncompressed bytes.
struct WalkPass<'p, 'a, 's, V: Visitor<'a>> {
    codec: Codec,
    /// Whether decompression has given the bytes.
    is_decompressed: bool,
    walk: Walk<V::File>,
    visitor: &'p mut V,
    others: &'p mut (dyn FnMut(Work<'a, V::File>) + 's),
    /// The digest of the uncompressed bytes; `None` if they are the bytes of the blob, which is hashed anyway.
    diff_id: Option<Arc<BackgroundHasher<'a>>>,
    /// The last window, and the offset in the layer of its first byte.
    last: Option<(Bytes<'a>, u64)>,
    total: u64,
    keep: u64,
    stopped: bool,
    is_damaged: bool,
    gaps: Vec<Gap>,
}

impl<'p, 'a, 's, V: Visitor<'a>> WalkPass<'p, 'a, 's, V> {
    fn new(
        reading: &LayerReader<'_>,
        codec: Codec,
        visitor: &'p mut V,
        others: &'p mut (dyn FnMut(Work<'a, V::File>) + 's),
    ) -> Self {
        let same = codec == Codec::Plain && reading.algorithm == Algorithm::Sha256;
        WalkPass {
            codec,
            is_decompressed: codec != Codec::Plain,
            walk: Walk::new(reading.overlap, reading.limits),
            visitor,
            others,
            diff_id: (!same).then(|| Arc::new(BackgroundHasher::new(Algorithm::Sha256))),
            last: None,
            total: 0,
            keep: 0,
            stopped: false,
            is_damaged: false,
            gaps: Vec::new(),
        }
    }

    /// Processes a window that begins at byte `start` of the layer; its first `carried` bytes are repeated from the
    /// previous window.
    fn window(&mut self, window: Bytes<'a>, start: u64, carried: usize) {
        if let Some(diff_id) = self.diff_id.clone() {
            self.hash(&diff_id, &window, carried);
        }
        self.total = start + window.len() as u64;
        self.keep = self.total;
        if self.stopped {
            return;
        }
        let mut segments = Vec::new();
        loop {
            match self.walk.window(&window, start, self.visitor, &mut segments) {
                Ok(keep) => break self.keep = keep,
                Err(error) => self.give_up(&error),
            }
        }
        self.last = Some((window.clone(), start));
        self.scan(window, segments);
    }

    /// The bytes from here on are not read as an archive, but as a file.
    fn give_up(&mut self, error: &WalkError) {
        self.is_damaged = true;
        let rest = if self.walk.position() == 0 { Rest::NotTar } else { Rest::Unreadable };
        if rest == Rest::Unreadable {
            self.gaps.push(walk_gap(error));
        }
        self.walk.begin_rest(rest, self.visitor);
    }

    fn scan(&mut self, window: Bytes<'a>, segments: Vec<Segment<V::File>>) {
        if !segments.is_empty() {
            (self.others)(Work::Scan(Batch { window, segments }));
        }
    }

    /// Queues the part of `window` from offset `fresh` on for hashing.
    fn hash(&mut self, hasher: &Arc<BackgroundHasher<'a>>, window: &Bytes<'a>, fresh: usize) {
        hasher.push(window.clone(), fresh);
        (self.others)(Work::Hash(Arc::clone(hasher)));
    }

    fn stop(&mut self, gap: Gap) {
        self.gaps.push(gap);
        self.stopped = true;
    }

    fn finish(mut self, blob: Digest, blob_bytes: u64) -> LayerFacts {
        let total = self.total;
        // A rest of less than one block was not parsed.
        let is_whole = self.walk.ended() || (self.walk.at_boundary() && self.walk.position() >= total);
        if let Some((window, start)) = self.last.take().filter(|_| !self.stopped) {
            let mut segments = Vec::new();
            self.walk.finish(&window, start, self.visitor, &mut segments);
            self.scan(window, segments);
        }
        self.walk.abandon(self.visitor);
        let (is_tar, position) = (total == 0 || self.walk.position() > 0, self.walk.position());
        if is_tar && !self.stopped && !self.is_damaged && self.gaps.is_empty() && !is_whole {
            let left = position.abs_diff(total);
            self.gaps.push(Gap::new(GapReason::DamagedTar, "the archive ends in the middle of an entry").sized(left));
        }
        for gap in self.gaps.iter_mut().filter(|gap| gap.reason == GapReason::DamagedTar && gap.bytes.is_none()) {
            gap.bytes = Some(total.saturating_sub(position));
        }
        let ambiguities = self.walk.ambiguities().iter();
        self.gaps.extend(ambiguities.map(|(at, ambiguity)| {
            Gap::new(GapReason::AmbiguousArchive, format!("at byte {at} of the uncompressed layer: {ambiguity}"))
        }));
        let bytes_after_end =
            if self.walk.ended() { total.saturating_sub(self.walk.rest().unwrap_or(total)) } else { 0 };
        let diff_id = self.diff_id.map_or_else(|| blob.clone(), |hasher| hasher.finish());
        let (codec, gaps) = (self.codec, self.gaps);
        let undecoded = Vec::new();
        LayerFacts { blob, blob_bytes, diff_id, bytes: total, codec, is_tar, bytes_after_end, undecoded, gaps }
    }
}

fn walk_gap(error: &WalkError) -> Gap {
    let reason = match error {
        WalkError::Tar { .. } => GapReason::DamagedTar,
        WalkError::TooManyEntries(_) => GapReason::TooManyEntries,
    };
    Gap::new(reason, error.to_string())
}

/// A reader that hashes and counts the bytes read through it, in whole buffers: the work that is permitted by then does
/// not depend on the pieces of a network.
struct Hashed<'a, 'r> {
    input: WholeReads<Box<dyn Read + Send + 'a>>,
    hasher: Hasher,
    bytes: u64,
    reader: &'r LayerReader<'r>,
    /// The bytes of the compressed archive around the layer, and how many of them have permitted work.
    compressed: Option<(u64, CompressedBytes)>,
}

impl Read for Hashed<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(buffer)?;
        let permitting = match &mut self.compressed {
            Some((before, compressed)) => compressed.count() - std::mem::replace(before, compressed.count()),
            None => count as u64,
        };
        self.reader.add_blob_bytes(permitting);
        self.hasher.update(&buffer[..count]);
        self.bytes += count as u64;
        (self.reader.progress)(count as u64);
        Ok(count)
    }
}
