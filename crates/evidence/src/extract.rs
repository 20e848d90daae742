//! Takes files out of a layer, while the whole layer is read and hashed.

use std::collections::HashMap;
use std::io::{self, Read};
use std::sync::atomic::Ordering;

use layersift_format::compression::{
    Bounded, Codec, CompressedBytes, DecoderMemory, Decoding, MAGIC_BYTES, Undecoded, read_full,
};
use layersift_format::tar::{Entries, Kind, PlacedEntry};
use layersift_format::{Blob, Cancellation};
use layersift_model::{Algorithm, Digest, FileAttributes, FingerprintKey, Hasher, ImagePath};

use crate::error::EvidenceError;
use crate::manifest::{FoundIn, LayerIdentity, Range};

/// The most bytes of an extended header of an archive.
const EXTENDED: u64 = 1 << 20;

/// The longest range in bytes: no secret is longer.
const LONGEST: u64 = 64 << 10;

/// The most bytes of holes of a sparse file. They are in no archive, so there is no end to them.
const HOLES: u64 = 16 << 30;

/// A file that is wanted of a layer, and the findings that it is evidence of.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub(crate) select: Select,
    /// The findings, and where their secrets are in the file: offset and length.
    pub findings: Vec<(FoundIn, Option<(u64, u64)>)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Select {
    /// The entry with this number.
    Entry(u32),
    /// The last entry at this path.
    Path(ImagePath),
    /// The layer as it is stored.
    Blob,
}

impl Wanted {
    /// The entry `number` of the layer's archive.
    pub fn entry(number: u32) -> Wanted {
        Wanted { select: Select::Entry(number), findings: Vec::new() }
    }

    /// The file that the layer has at `path`: the last, if there are several. It is wanted alone.
    pub fn path(path: &[u8]) -> Wanted {
        Wanted { select: Select::Path(ImagePath::normalize(path)), findings: Vec::new() }
    }

    /// The whole layer as it is stored. It is wanted alone.
    pub fn blob() -> Wanted {
        Wanted { select: Select::Blob, findings: Vec::new() }
    }

    /// Whether it is the whole layer.
    pub fn is_blob(&self) -> bool {
        self.select == Select::Blob
    }

    /// What it is called where nothing was read of it.
    fn name(&self) -> String {
        match &self.select {
            Select::Path(path) => path.to_string(),
            Select::Entry(number) => format!("entry {number}"),
            Select::Blob => String::new(),
        }
    }
}

/// A file that was taken out.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) size: u64,
    pub(crate) sha256: Digest,
    /// The entry; `None` for a whole layer.
    pub(crate) placed: Option<PlacedEntry>,
    pub(crate) findings: Vec<FoundIn>,
}

impl Taken {
    /// What the entry records of the file; `None` for a whole layer.
    pub(crate) fn attributes(&self) -> Option<FileAttributes> {
        self.placed.as_ref().map(|placed| placed.entry.attributes(placed.number))
    }
}

/// What was not taken out.
#[derive(Debug)]
pub(crate) struct NotTaken {
    /// Its size in bytes, if that is known.
    pub(crate) size: Option<u64>,
    /// The entry, if it was read.
    pub(crate) placed: Option<PlacedEntry>,
    /// What it is called if it was not.
    pub(crate) name: String,
    pub(crate) why: &'static str,
}

/// What became of a file that is wanted.
#[derive(Debug)]
pub(crate) enum Outcome {
    Taken(Taken),
    LeftOut(NotTaken),
}

/// Receives what is taken out.
pub(crate) trait Sink {
    /// The file `wanted`, by its index, begins, or begins again. It has `size` bytes without holes, if that is known.
    /// Returns whether there is room for it: if not, it is dropped.
    fn begin(&mut self, wanted: usize, size: Option<u64>) -> Result<bool, EvidenceError>;

    /// Its next bytes. Returns whether there is room for them: if not, the file is dropped.
    fn bytes(&mut self, bytes: &[u8]) -> Result<bool, EvidenceError>;

    /// All files are dropped.
    fn drop_all(&mut self) -> Result<(), EvidenceError>;

    /// It is complete.
    fn end(&mut self) -> Result<(), EvidenceError>;
}

/// Reads a layer to its end, hands what is wanted of it to `sink`, and returns the digests of what was read. Nothing is
/// taken of a layer that decompresses to far more than one of its size may: it has no digests, as it is not read on.
pub(crate) fn extract(
    layer: &LayerIdentity,
    blob: Blob<'_>,
    wanted: &[Wanted],
    (key, cancellation): (&FingerprintKey, &Cancellation),
    sink: &mut dyn Sink,
) -> Result<(Option<LayerIdentity>, Vec<Option<Outcome>>), EvidenceError> {
    let index = layer.index;
    let failed = |source| EvidenceError::Blob { layer: index, source };
    let algorithm = layer.digest.as_ref().map_or(Algorithm::Sha256, Digest::algorithm);
    let mut taken: Vec<Option<Outcome>> = wanted.iter().map(|_| None).collect();
    let mut stored = Tee { input: blob.into_reader(), hasher: Hasher::new(algorithm), size: 0, cancellation };
    if let [one @ Wanted { select: Select::Blob, findings }] = wanted {
        // Nothing of the archive is needed, so a layer that is damaged can be taken as well.
        sink.begin(0, None)?;
        let Some(sha256) = copy_whole(index, &mut stored, sink)? else {
            return Ok((None, vec![Some(left_out(one, NO_ROOM))]));
        };
        sink.end()?;
        let (size, digest) = (stored.size, stored.hasher.finish());
        let findings = findings.iter().map(|(found, _)| found.clone()).collect();
        let read = LayerIdentity { digest: Some(digest), diff_id: None, stored_bytes: size, ..layer.clone() };
        return Ok((Some(read), vec![Some(Outcome::Taken(Taken { size, sha256, placed: None, findings }))]));
    }
    let mut head = [0; MAGIC_BYTES];
    let length = read_full(&mut stored, &mut head).map_err(failed)?;
    let undecoded = Undecoded::default();
    let memory = |_| Some(Box::new(()) as DecoderMemory);
    let decoding = Decoding { undecoded: &undecoded, memory: &memory };
    let start = io::Cursor::new(head).take(length as u64);
    let compressed = CompressedBytes::default();
    let (plain_size, diff_id) = {
        let start = compressed.counting(start.chain(&mut stored));
        let reader = Codec::detect(&head[..length]).reader(start, decoding).map_err(failed)?;
        let reader = Bounded::layer(reader, compressed);
        let is_over = reader.is_over();
        let mut plain = Tee { input: reader, hasher: Hasher::new(Algorithm::Sha256), size: 0, cancellation };
        let read = entries(index, &mut plain, wanted, (key, cancellation), &mut taken, sink);
        let read = read.and_then(|()| io::copy(&mut plain, &mut io::sink()).map_err(failed));
        if is_over.load(Ordering::Relaxed) {
            sink.drop_all()?;
            return Ok((None, wanted.iter().map(|one| Some(left_out(one, TOO_FAR))).collect()));
        }
        read?;
        (plain.size, plain.hasher.finish())
    };
    io::copy(&mut stored, &mut io::sink()).map_err(failed)?;
    let (size, digest) = (stored.size, stored.hasher.finish());
    let read = LayerIdentity {
        digest: Some(digest),
        diff_id: Some(diff_id),
        stored_bytes: size,
        bytes: plain_size,
        ..layer.clone()
    };
    Ok((Some(read), taken))
}

/// Why something is left out.
pub(crate) const NO_ROOM: &str = "the limit of bytes of the bundle";
const TOO_FAR: &str = "its layer decompresses to far more than a layer of its size may";

fn left_out(wanted: &Wanted, why: &'static str) -> Outcome {
    Outcome::LeftOut(NotTaken { size: None, placed: None, name: wanted.name(), why })
}

fn entries(
    layer: usize,
    plain: &mut (dyn Read + Send),
    wanted: &[Wanted],
    (key, cancellation): (&FingerprintKey, &Cancellation),
    taken: &mut [Option<Outcome>],
    sink: &mut dyn Sink,
) -> Result<(), EvidenceError> {
    let mut entries = Entries::new(plain, EXTENDED);
    let damaged = |source| EvidenceError::Layer { layer, source };
    let mut linked: Vec<Option<String>> = wanted.iter().map(|_| None).collect();
    let selected = Selected::of(wanted);
    let mut holes = HOLES;
    while let Some(placed) = entries.next_entry().map_err(damaged)? {
        if let Some((index, one)) = selected.find(&placed).and_then(|index| Some((index, wanted.get(index)?))) {
            if placed.entry.kind != Kind::File {
                linked[index] = Some(other_than_file(&placed));
                continue;
            }
            linked[index] = None;
            let own = placed.entry.size.saturating_sub(placed.entry.stored);
            holes = holes.checked_sub(own).ok_or_else(|| EvidenceError::Holes {
                layer,
                path: ImagePath::normalize(&placed.entry.path).to_string(),
                size: placed.entry.size,
            })?;
            if !sink.begin(index, Some(placed.entry.stored))? {
                let (size, name) = (Some(placed.entry.size), String::new());
                taken[index] = Some(Outcome::LeftOut(NotTaken { size, placed: Some(placed), name, why: NO_ROOM }));
                continue;
            }
            let contents = placed.entry.contents(entries.data());
            let file = copy(layer, contents, one, (key, cancellation), sink)?;
            taken[index] = Some(Outcome::Taken(Taken { placed: Some(placed), ..file }));
            sink.end()?;
        }
    }
    for ((one, taken), linked) in wanted.iter().zip(taken).zip(linked) {
        if let Some(why) = linked.or_else(|| taken.is_none().then(|| "it is not there".into())) {
            let path = match &one.select {
                Select::Path(path) => path.to_string(),
                Select::Entry(number) => format!("with the number {number}"),
                Select::Blob => continue,
            };
            return Err(EvidenceError::NoFile { layer, path, why });
        }
    }
    Ok(())
}

/// What is wanted, by what an entry has to be. Who asks for an entry twice gets it once.
struct Selected<'w> {
    numbers: HashMap<u32, usize>,
    paths: HashMap<&'w ImagePath, usize>,
}

impl<'w> Selected<'w> {
    fn of(wanted: &'w [Wanted]) -> Selected<'w> {
        let mut selected = Selected { numbers: HashMap::new(), paths: HashMap::new() };
        for (index, one) in wanted.iter().enumerate() {
            match &one.select {
                Select::Entry(number) => drop(selected.numbers.entry(*number).or_insert(index)),
                Select::Path(path) => drop(selected.paths.entry(path).or_insert(index)),
                Select::Blob => {}
            }
        }
        selected
    }

    fn find(&self, placed: &PlacedEntry) -> Option<usize> {
        let by_number = self.numbers.get(&placed.number).copied();
        if self.paths.is_empty() {
            return by_number;
        }
        by_number.or_else(|| self.paths.get(&ImagePath::normalize(&placed.entry.path)).copied())
    }
}

fn other_than_file(placed: &PlacedEntry) -> String {
    let target = ImagePath::normalize(&placed.entry.link);
    match placed.entry.kind {
        Kind::HardLink => format!("it is a hard link to {target}; name that path"),
        Kind::Symlink => format!("it is a symbolic link to {}", String::from_utf8_lossy(&placed.entry.link)),
        Kind::Directory => "it is a directory".into(),
        Kind::File | Kind::Special => "it has no bytes of its own".into(),
    }
}

/// Copies a file to `sink`, and hashes it and the ranges that are wanted of it.
fn copy(
    layer: usize,
    mut contents: impl Read,
    wanted: &Wanted,
    (key, cancellation): (&FingerprintKey, &Cancellation),
    sink: &mut dyn Sink,
) -> Result<Taken, EvidenceError> {
    let (mut hasher, mut at) = (Hasher::new(Algorithm::Sha256), 0_u64);
    let mut ranges: Vec<Vec<u8>> = wanted.findings.iter().map(|_| Vec::new()).collect();
    let mut buffer = vec![0; 64 << 10];
    loop {
        let failed = |source| EvidenceError::Blob { layer, source };
        cancellation.check().map_err(|reason| failed(reason.into()))?;
        let count = contents.read(&mut buffer).map_err(failed)?;
        if count == 0 {
            break;
        }
        let bytes = &buffer[..count];
        hasher.update(bytes);
        sink.bytes(bytes)?;
        for ((_, range), kept) in wanted.findings.iter().zip(&mut ranges) {
            let Some((offset, length)) = range.filter(|(_, length)| *length <= LONGEST) else { continue };
            kept.extend_from_slice(part(bytes, at, offset, length));
        }
        at += count as u64;
    }
    let findings = wanted.findings.iter().zip(ranges).map(|((found, range), bytes)| {
        let mut found = found.clone();
        // What a parser made of the bytes, such as the material of a key, is in no range.
        let is_plain = found.fingerprint.as_ref().is_some_and(|wanted| key.fingerprints(&bytes).contains(wanted));
        found.range =
            range.filter(|_| is_plain).map(|(offset, length)| Range { offset, length, sha256: Digest::of(&bytes) });
        found
    });
    Ok(Taken { size: at, findings: findings.collect(), sha256: hasher.finish(), placed: None })
}

/// What is in `bytes`, which begin at `at` in a file, of the `length` bytes from `offset` on.
pub(crate) fn part(bytes: &[u8], at: u64, offset: u64, length: u64) -> &[u8] {
    let end = at + bytes.len() as u64;
    let from = offset.clamp(at, end) - at;
    let to = offset.saturating_add(length).clamp(at, end) - at;
    bytes.get(from as usize..to as usize).unwrap_or_default()
}

/// Copies a whole layer to `sink`, and gives its SHA-256; `None` where there is no room for it.
fn copy_whole(layer: usize, stored: &mut impl Read, sink: &mut dyn Sink) -> Result<Option<Digest>, EvidenceError> {
    let (mut hasher, mut buffer) = (Hasher::new(Algorithm::Sha256), vec![0; 64 << 10]);
    loop {
        let count = stored.read(&mut buffer).map_err(|source| EvidenceError::Blob { layer, source })?;
        if count == 0 {
            return Ok(Some(hasher.finish()));
        }
        hasher.update(&buffer[..count]);
        if !sink.bytes(&buffer[..count])? {
            return Ok(None);
        }
    }
}

/// Hashes what is read through it, until somebody cancels that.
struct Tee<'c, R> {
    input: R,
    hasher: Hasher,
    size: u64,
    cancellation: &'c Cancellation,
}

impl<R: Read> Read for Tee<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.cancellation.check()?;
        let count = self.input.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        self.size += count as u64;
        Ok(count)
    }
}
