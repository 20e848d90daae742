//! Images that can be read only once: standard input, pipes, and archives that are compressed as a whole.
//!
//! Nothing is written to disk. Documents are kept in memory; every member that looks like a layer is handed out at
//! once, because it cannot be read again. The listing may be the last member, so which layers belong to which image is
//! known only then.

use std::collections::{HashMap, hash_map};
use std::io::{self, Cursor, Read, Write};
use std::path::PathBuf;

use layersift_format::compression::{
    Bounded, Codec, CompressedBytes, DecoderMemory, Decoding, MAGIC_BYTES, Undecoded, read_full,
};
use layersift_format::tar::{BLOCK, Entry, Event, Kind, Parser};
use layersift_format::{ArchiveError, Blob, Fetched, ImageSource, Location, OnLayer, SourceError, StreamedImage};
use layersift_model::{Gap, GapList, GapReason, ImagePath, Limits};

use crate::docker_archive::DockerArchive;
use crate::oci_layout::{self, OciLayout};
use crate::rootfs::RootFs;
use crate::tree::{ArchiveNames, Member, Tree, after_end, ambiguous, link_target, repeated, resolve};

/// The most bytes of documents that are kept in memory, in total.
const MAX_KEPT_BYTES: u64 = 64 << 20;

/// The work that a compressed archive may take whatever its size, in units of [`Limits::layer_work`].
const BASE_WORK: u64 = 4;

/// What a stream is expected to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StreamLayout {
    /// Anything that is read: it is detected.
    Detect,
    /// A Docker archive.
    DockerArchive,
    /// An OCI layout.
    Oci,
    /// Whatever `docker save` writes: a Docker archive, an OCI layout, or both in one.
    DockerSave,
    /// A root file system.
    RootFs,
}

/// An image that is read once.
pub(crate) struct ImageStream {
    input: Box<dyn Read + Send>,
    layout: StreamLayout,
    reference: Option<String>,
    path: PathBuf,
    limits: Limits,
}

impl ImageStream {
    /// The image in `input`, compressed or not. `path` is its name in messages.
    pub(crate) fn new(
        input: Box<dyn Read + Send>,
        layout: StreamLayout,
        reference: Option<String>,
        path: PathBuf,
        limits: Limits,
    ) -> ImageStream {
        ImageStream { input, layout, reference, path, limits }
    }
}

impl StreamedImage for ImageStream {
    fn read(self: Box<Self>, on_layer: &mut OnLayer<'_>) -> Result<Box<dyn ImageSource>, SourceError> {
        let ImageStream { mut input, layout, reference, path, limits } = *self;
        let failed = |error: io::Error| SourceError::Read { path: path.clone(), error };
        let mut head = [0; MAGIC_BYTES];
        let length = read_full(&mut input, &mut head).map_err(failed)?;
        let whole = Cursor::new(head).take(length as u64).chain(input);
        let undecoded = Undecoded::default();
        // One archive is decompressed at a time, so its decoder need not ask for memory.
        let memory = |_| Some(Box::new(()) as DecoderMemory);
        let decoding = Decoding { undecoded: &undecoded, memory: &memory };
        let codec = Codec::detect(&head[..length]);
        let Plain { bytes: mut plain, compressed } = Plain::of(whole, codec, decoding, &limits).map_err(failed)?;
        let mut start = Cursor::new(Vec::new());
        let is_image = match layout {
            StreamLayout::RootFs => false,
            StreamLayout::Detect => first_is_of_an_image(&mut plain, &mut start, &limits).map_err(failed)?,
            _ => true,
        };
        if !is_image {
            if length == 0 || (layout == StreamLayout::Detect && !begins_as_tar(start.get_ref())) {
                return Err(SourceError::NotAnImage { path, what: "not a tar archive".into() });
            }
            on_layer(&RootFs::layer(), layer(start.chain(plain), compressed.as_ref()));
            return Ok(Box::new(RootFs::passed(layout == StreamLayout::Detect)));
        }
        let gaps = GapList::new(limits.gap_bytes);
        let (tree, path) = (StreamedTree::default(), path.clone());
        let mut collector = Collector { path, limits: &limits, compressed, of_layers: 0, tree, gaps, kept: 0 };
        collector.read(&mut start.chain(plain), on_layer)?;
        let Collector { mut tree, mut gaps, compressed, of_layers, .. } = collector;
        tree.compressed = compressed.map(|bytes| bytes.count().saturating_sub(of_layers));
        gaps.extend(not_scanned(&undecoded));
        tree.gaps = gaps.into_gaps();
        let has_index = tree.members.contains_key(oci_layout::INDEX);
        Ok(match layout {
            StreamLayout::Oci => Box::new(OciLayout::new(tree, reference, limits)),
            StreamLayout::Detect | StreamLayout::DockerSave if has_index => {
                Box::new(OciLayout::new(tree, reference, limits).with_docker_listing())
            }
            _ => Box::new(DockerArchive::new(tree, reference, limits)),
        })
    }
}

/// The uncompressed bytes of a stream.
struct Plain<'a> {
    bytes: Box<dyn Read + Send + 'a>,
    /// The bytes that they are decompressed from; `None` if they were not compressed.
    compressed: Option<CompressedBytes>,
}

impl<'a> Plain<'a> {
    /// Decompresses `input`, as far as its bytes permit.
    fn of(
        input: impl Read + Send + 'a,
        codec: Codec,
        decoding: Decoding<'a>,
        limits: &Limits,
    ) -> io::Result<Plain<'a>> {
        if codec == Codec::Plain {
            return Ok(Plain { bytes: Box::new(input), compressed: None });
        }
        let compressed = CompressedBytes::default();
        let bytes = codec.reader(compressed.counting(input), decoding)?;
        let base = limits.layer_work.saturating_mul(BASE_WORK);
        let bytes = Bounded::new(bytes, compressed.clone(), base, limits.layer_work_per_byte);
        Ok(Plain { bytes: Box::new(bytes), compressed: Some(compressed) })
    }
}

/// A layer in a stream.
fn layer<'a>(bytes: impl Read + Send + 'a, compressed: Option<&CompressedBytes>) -> Blob<'a> {
    match compressed {
        Some(compressed) => Blob::Decompressed(Box::new(bytes), compressed.clone()),
        None => Blob::Stream(Box::new(bytes)),
    }
}

/// The gap of the bytes of a compressed archive that decompression does not give. `gzip` stores the name of the file.
fn not_scanned(undecoded: &Undecoded) -> Option<Gap> {
    let (parts, dropped) = undecoded.take();
    let parts: Vec<_> = parts.iter().filter(|part| part.name != "gzip file name").collect();
    let bytes = parts.iter().map(|part| part.bytes.len() as u64).sum::<u64>() + dropped;
    let name = parts.first()?.name;
    Some(Gap::new(GapReason::TrailingData, format!("{name} of the archive: not scanned")).sized(bytes))
}

/// Reads the first header into `start`, and returns whether its entry is one that image archives have.
fn first_is_of_an_image(
    plain: &mut (impl Read + ?Sized),
    start: &mut Cursor<Vec<u8>>,
    limits: &Limits,
) -> io::Result<bool> {
    let mut parser = Parser::new(limits.tar_extension_bytes);
    loop {
        let mut block = [0; BLOCK];
        let length = read_full(plain, &mut block)?;
        start.get_mut().extend_from_slice(&block[..length]);
        if length < BLOCK || start.get_ref().len() as u64 > limits.document_bytes {
            return Ok(false);
        }
        match parser.block(&block) {
            Err(_) | Ok(Some(Event::End)) => return Ok(false),
            Ok(None) => {}
            Ok(Some(Event::Entry(entry))) => {
                let path = ImagePath::normalize(&entry.path);
                if !path.is_root() {
                    return Ok(is_image_member(&path.to_string()));
                }
            }
        }
    }
}

/// Whether an archive that begins with the member `name` is an image and not a root file system.
pub(crate) fn is_image_member(name: &str) -> bool {
    let first = name.split('/').next().unwrap_or(name);
    let stem = first.strip_prefix("sha256:").unwrap_or(first);
    let stem = [".json", ".tar.gz", ".tar"].iter().find_map(|end| stem.strip_suffix(end)).unwrap_or(stem);
    let hexadecimal = stem.len() == 64 && stem.bytes().all(|byte| byte.is_ascii_hexdigit());
    hexadecimal || ["blobs", "oci-layout", "index.json", "manifest.json", "repositories"].contains(&first)
}

fn begins_as_tar(start: &[u8]) -> bool {
    let first = start.first_chunk::<BLOCK>();
    first.is_some_and(|block| Parser::new(u64::MAX).block(block).is_ok())
}

/// The documents of a stream, and the names of the layers in it.
#[derive(Default)]
struct StreamedTree {
    members: HashMap<String, Member<Kept>>,
    gaps: Vec<Gap>,
    /// The bytes that the documents were decompressed from, if they were compressed.
    compressed: Option<u64>,
}

enum Kept {
    Document(Vec<u8>),
    Passed,
}

impl Tree for StreamedTree {
    fn open(&self, path: &str) -> Result<Fetched<'_>, SourceError> {
        Ok(match resolve(&self.members, path)? {
            None => Fetched::Missing,
            Some((_, Kept::Document(bytes))) => Fetched::Blob(Blob::Stream(Box::new(&bytes[..]))),
            Some((name, Kept::Passed)) => Fetched::Passed(Location(name.into())),
        })
    }

    fn gaps(&self) -> Vec<Gap> {
        self.gaps.clone()
    }

    fn compressed_documents(&self) -> Option<u64> {
        self.compressed
    }
}

struct Collector<'c> {
    path: PathBuf,
    limits: &'c Limits,
    /// The bytes that the stream is decompressed from, if it is.
    compressed: Option<CompressedBytes>,
    /// How many of them are those of layers.
    of_layers: u64,
    tree: StreamedTree,
    gaps: GapList,
    kept: u64,
}

impl Collector<'_> {
    fn read(&mut self, plain: &mut (impl Read + Send), on_layer: &mut OnLayer<'_>) -> Result<(), SourceError> {
        let mut parser = Parser::new(self.limits.tar_extension_bytes);
        let mut names = ArchiveNames::new(self.limits);
        let mut at = 0u64;
        let path = self.path.clone();
        let read = |error: io::Error| SourceError::Read { path: path.clone(), error };
        loop {
            let mut block = [0; BLOCK];
            if read_full(plain, &mut block).map_err(read)? < BLOCK {
                return Ok(());
            }
            let damaged = |error| SourceError::Archive { path: path.clone(), at, error: ArchiveError::Tar(error) };
            let event = parser.block(&block).map_err(damaged)?;
            self.gaps.extend(parser.take_ambiguity().map(|ambiguity| ambiguous(ambiguity, at)));
            at += BLOCK as u64;
            match event {
                None => {}
                Some(Event::End) => break,
                Some(Event::Entry(entry)) => {
                    if !names.add(&entry) {
                        let error = ArchiveError::TooManyEntries(self.limits.archive_entries);
                        return Err(SourceError::Archive { path, at, error });
                    }
                    let mut data = plain.by_ref().take(entry.padded());
                    self.entry(&entry, &mut data, on_layer).map_err(read)?;
                    io::copy(&mut data, &mut io::sink()).map_err(read)?;
                    at = at.saturating_add(entry.padded());
                }
            }
        }
        // Read to the end, because the writer of a pipe fails if it is closed early.
        let mut after = AfterEnd::default();
        io::copy(plain, &mut after).map_err(read)?;
        self.gaps.extend(after_end(after.bytes));
        Ok(())
    }

    fn entry(&mut self, entry: &Entry, data: &mut (impl Read + Send), on_layer: &mut OnLayer<'_>) -> io::Result<()> {
        let path = ImagePath::normalize(&entry.path);
        let name = path.to_string();
        let member = match entry.kind {
            Kind::Directory | Kind::Special => return Ok(()),
            Kind::Symlink | Kind::HardLink => Member::Link(link_target(&path, entry.kind, &entry.link)),
            Kind::File => {
                // The holes of a sparse file permit no work.
                let compressed =
                    self.compressed.clone().or_else(|| entry.sparse.is_some().then(CompressedBytes::default));
                let data = data.take(entry.stored);
                let data: Box<dyn Read + Send> = match &compressed {
                    Some(compressed) if self.compressed.is_none() => Box::new(compressed.counting(data)),
                    _ => Box::new(data),
                };
                let mut contents = entry.contents(data).with_few_holes();
                Member::Data(self.file(&name, entry.size, compressed.as_ref(), &mut contents, on_layer)?)
            }
        };
        match self.tree.members.entry(name) {
            hash_map::Entry::Vacant(vacant) => drop(vacant.insert(member)),
            hash_map::Entry::Occupied(known) => {
                let same = match (known.get(), &member) {
                    (Member::Link(first), Member::Link(second)) => first == second,
                    (Member::Data(Kept::Document(first)), Member::Data(Kept::Document(second))) => first == second,
                    _ => false,
                };
                if !same {
                    self.gaps.add(repeated(known.key()));
                }
            }
        }
        Ok(())
    }

    /// Keeps a document, or hands out a layer.
    fn file(
        &mut self,
        name: &str,
        size: u64,
        compressed: Option<&CompressedBytes>,
        data: &mut (impl Read + Send),
        on_layer: &mut OnLayer<'_>,
    ) -> io::Result<Kept> {
        let mut head = vec![0; BLOCK];
        let length = read_full(data, &mut head)?;
        head.truncate(length);
        let document = Codec::detect(&head) == Codec::Plain
            && !begins_as_tar_entry(&head)
            && size <= self.limits.document_bytes
            && self.kept + size <= MAX_KEPT_BYTES;
        if document {
            self.kept += size;
            data.read_to_end(&mut head)?;
            return Ok(Kept::Document(head));
        }
        let whole = Cursor::new(head).chain(data);
        let before = self.compressed.as_ref().map(CompressedBytes::count);
        on_layer(&Location(name.into()), layer(whole, compressed));
        // What is not read as a layer is read for the documents, and for what is between them.
        if let (Some(before), Some(bytes)) = (before, &self.compressed) {
            self.of_layers += bytes.count() - before;
        }
        Ok(Kept::Passed)
    }
}

/// Counts the bytes after the end of an archive, leading zeros apart.
#[derive(Default)]
struct AfterEnd {
    bytes: u64,
}

impl Write for AfterEnd {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let zeros = if self.bytes > 0 { 0 } else { bytes.iter().take_while(|&&byte| byte == 0).count() };
        self.bytes += (bytes.len() - zeros) as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Whether a file begins with a header of a tar archive that has entries.
fn begins_as_tar_entry(head: &[u8]) -> bool {
    begins_as_tar(head) && head.iter().any(|&byte| byte != 0)
}
