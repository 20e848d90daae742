//! Reads a layer once: its entries, what the files look like, and where the wanted secrets are in them.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::rc::Rc;

use layersift_format::compression::{
    Bounded, Codec, CompressedBytes, DecoderMemory, Decoding, MAGIC_BYTES, Undecoded, read_full,
};
use layersift_format::tar::{BLOCK, Entries, EntriesError, Kind};
use layersift_model::{Algorithm, Digest, Hasher, ImagePath};
use memchr::memmem::Finder;

use crate::needles::Needles;

/// The most bytes of an extended header of an archive.
const EXTENDED: u64 = 1 << 20;

/// How many bytes of a file are looked at together.
const CHUNK: usize = 256 << 10;

/// What begins a text whose signature covers it.
const SIGNED_TEXT: &[u8] = b"-----BEGIN PGP SIGNED MESSAGE-----";

/// What files of other kinds begin with, besides those that have zero bytes in any case.
const MAGIC: [(&[u8], &str); 8] = [
    (b"\x7fELF", "an executable"),
    (b"PK\x03\x04", "an archive"),
    (b"PK\x05\x06", "an archive"),
    (b"!<arch>\n", "an archive"),
    (b"7z\xbc\xaf\x27\x1c", "an archive"),
    (b"Rar!\x1a\x07", "an archive"),
    (b"SQLite format 3", "a database"),
    (b"PACK", "a pack of git"),
];

/// A layer that was read.
#[derive(Debug)]
pub(crate) struct Survey {
    pub(crate) digest: Digest,
    pub(crate) diff_id: Digest,
    pub(crate) size: u64,
    pub(crate) codec: Codec,
    /// Its entries; `None` if it is not a tar archive.
    pub(crate) entries: Option<Vec<Surveyed>>,
}

/// An entry of a layer.
#[derive(Clone, Debug)]
pub(crate) struct Surveyed {
    pub(crate) path: ImagePath,
    pub(crate) kind: Kind,
    pub(crate) link: Vec<u8>,
    pub(crate) modified: Option<i64>,
    /// Where its data is in the archive.
    pub(crate) data: u64,
    /// The ranges of the archive that are this entry alone: its headers, its data and the padding. Global headers
    /// between them concern the entries that follow.
    pub(crate) own: Vec<(u64, u64)>,
    /// Why a value in the file cannot be blanked, if it cannot.
    pub(crate) not_plain: Option<&'static str>,
    /// For each place of a wanted secret: which, and the offset in the file; in order.
    pub(crate) hits: Vec<(usize, u64)>,
}

impl Surveyed {
    /// Whether the entry has contents that can hold a secret: a file, or another name of one.
    pub(crate) fn is_file(&self) -> bool {
        matches!(self.kind, Kind::File | Kind::HardLink)
    }
}

/// Why a layer cannot be read.
pub(crate) enum SurveyError {
    Blob(io::Error),
    Archive(EntriesError),
}

impl From<io::Error> for SurveyError {
    fn from(error: io::Error) -> SurveyError {
        SurveyError::Blob(error)
    }
}

/// Reads the layer `input` to its end, and copies it to `copy` as it is stored.
pub(crate) fn survey(
    input: impl Read + Send,
    algorithm: Algorithm,
    secrets: &Needles,
    copy: &mut (dyn Write + Send),
) -> Result<Survey, SurveyError> {
    let mut stored = Copying { input, copy, hasher: Hasher::new(algorithm), size: 0 };
    let mut head = [0; MAGIC_BYTES];
    let length = read_full(&mut stored, &mut head)?;
    let codec = Codec::detect(&head[..length]);
    let (undecoded, memory) = (Undecoded::default(), |_| Some(Box::new(()) as DecoderMemory));
    let decoding = Decoding { undecoded: &undecoded, memory: &memory };
    let start = io::Cursor::new(head).take(length as u64);
    let (entries, diff_id) = {
        let compressed = CompressedBytes::default();
        let plain = codec.reader(compressed.counting(start.chain(&mut stored)), decoding)?;
        let mut plain = Recorder {
            input: Bounded::layer(plain, compressed),
            hasher: Hasher::new(Algorithm::Sha256),
            tail: Rc::new(RefCell::new(Tail::default())),
        };
        let entries = read_entries(&mut plain, secrets)?;
        io::copy(&mut plain, &mut io::sink())?;
        (entries, plain.hasher.finish())
    };
    io::copy(&mut stored, &mut io::sink())?;
    Ok(Survey { digest: stored.hasher.finish(), diff_id, size: stored.size, codec, entries })
}

/// The entries of an archive; `None` if the first block is not that of one.
fn read_entries<R: Read>(plain: &mut Recorder<R>, secrets: &Needles) -> Result<Option<Vec<Surveyed>>, SurveyError> {
    let tail = plain.tail.clone();
    let mut entries = Entries::new(plain, EXTENDED);
    let (mut found, mut buffer) = (Vec::new(), Vec::new());
    loop {
        // The padding of the entry before and the headers of the next one are kept.
        tail.borrow_mut().keep();
        let placed = match entries.next_entry() {
            Ok(Some(placed)) => placed,
            Ok(None) => return Ok(Some(found)),
            Err(EntriesError::Block { at: 0, .. }) => return Ok(None),
            Err(error) => return Err(SurveyError::Archive(error)),
        };
        let headers = tail.borrow_mut().take_last((placed.data - placed.start) as usize);
        let end = placed.data.saturating_add(placed.entry.padded());
        let mut contents = Contents::new(secrets);
        if placed.entry.kind == Kind::File {
            contents.read(&mut entries.data(), &mut buffer)?;
        }
        io::copy(&mut entries.data(), &mut io::sink())?;
        let not_plain = if placed.entry.sparse.is_some() { Some("it is a sparse file") } else { contents.not_plain };
        found.push(Surveyed {
            path: ImagePath::normalize(&placed.entry.path),
            kind: placed.entry.kind,
            link: placed.entry.link,
            modified: placed.entry.modified,
            data: placed.data,
            own: own_ranges(&headers, placed.start, end),
            not_plain,
            hits: contents.hits,
        });
    }
}

/// The ranges from `start` to `end` without global headers.
fn own_ranges(headers: &[u8], start: u64, end: u64) -> Vec<(u64, u64)> {
    let (mut ranges, mut from, mut at) = (Vec::new(), start, 0);
    while let Some(block) = headers.get(at..at + BLOCK) {
        let size = tar::Header::from_byte_slice(block).entry_size().unwrap_or(0);
        let kind = block[156];
        let length = BLOCK + (size as usize).next_multiple_of(BLOCK);
        match kind {
            b'g' => {
                let global = start + at as u64;
                if from < global {
                    ranges.push((from, global));
                }
                from = global + length as u64;
                at += length;
            }
            b'x' | b'L' | b'K' => at += length,
            0 if block.iter().all(|&byte| byte == 0) => at += BLOCK,
            _ => break,
        }
    }
    ranges.push((from, end));
    ranges
}

/// What the contents of a file look like.
struct Contents<'s> {
    secrets: &'s Needles,
    not_plain: Option<&'static str>,
    hits: Vec<(usize, u64)>,
    /// Where the last place of each secret ends: two of them do not overlap.
    ends: HashMap<usize, u64>,
}

impl<'s> Contents<'s> {
    fn new(secrets: &'s Needles) -> Contents<'s> {
        Contents { secrets, not_plain: None, hits: Vec::new(), ends: HashMap::new() }
    }

    /// Reads all of `data` by way of `buffer`.
    fn read(&mut self, data: &mut impl Read, buffer: &mut Vec<u8>) -> io::Result<()> {
        let signed = Finder::new(SIGNED_TEXT);
        let overlap = self.secrets.longest().max(SIGNED_TEXT.len()) - 1;
        // What overlaps is searched twice, but no byte more often.
        let chunk = CHUNK.max(overlap);
        let (mut at, mut kept, mut is_first) = (0, 0, true);
        buffer.resize(chunk + overlap, 0);
        loop {
            let count = read_full(data, &mut buffer[kept..kept + chunk])?;
            let window = &buffer[..kept + count];
            if is_first {
                self.not_plain = begins_as(window);
                is_first = false;
            }
            if memchr::memchr(0, &window[kept..]).is_some() {
                self.not_plain = self.not_plain.or(Some("it is not a text file"));
            }
            if self.not_plain.is_none() && signed.find(window).is_some() {
                self.not_plain = Some("it is a signed text");
            }
            let (mut found, secrets) = (Vec::new(), self.secrets);
            secrets.find(window, |index, from| {
                if from + secrets.length(index) > kept {
                    found.push((index, at + from as u64));
                }
                true
            });
            found.sort_unstable();
            for (index, from) in found {
                let end = self.ends.entry(index).or_default();
                if from >= *end {
                    *end = from + secrets.length(index) as u64;
                    self.hits.push((index, from));
                }
            }
            if count < chunk {
                self.hits.sort_unstable();
                return Ok(());
            }
            let drop = window.len() - overlap.min(window.len());
            let length = window.len();
            buffer.copy_within(drop..length, 0);
            (at, kept) = (at + drop as u64, length - drop);
        }
    }
}

/// What a file is that begins with `head`, if it is not plain.
fn begins_as(head: &[u8]) -> Option<&'static str> {
    if Codec::detect(head) != Codec::Plain {
        return Some("it is a compressed file");
    }
    MAGIC.iter().find(|(magic, _)| head.starts_with(magic)).map(|(_, what)| match *what {
        "an executable" => "it is an executable",
        "an archive" => "it is an archive",
        "a database" => "it is a database",
        _ => "it is a pack of git",
    })
}

/// Hashes and copies what is read through it.
struct Copying<'c, R> {
    input: R,
    copy: &'c mut (dyn Write + Send),
    hasher: Hasher,
    size: u64,
}

impl<R: Read> Read for Copying<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        self.copy.write_all(&buffer[..count])?;
        self.size += count as u64;
        Ok(count)
    }
}

/// Hashes what is read through it, and keeps the bytes of headers.
struct Recorder<R> {
    input: R,
    hasher: Hasher,
    tail: Rc<RefCell<Tail>>,
}

/// The bytes that were read last.
#[derive(Default)]
struct Tail {
    bytes: Vec<u8>,
    is_kept: bool,
}

impl Tail {
    fn keep(&mut self) {
        self.bytes.clear();
        self.is_kept = true;
    }

    /// The last `length` bytes. Nothing is kept after them.
    fn take_last(&mut self, length: usize) -> Vec<u8> {
        self.is_kept = false;
        self.bytes.split_off(self.bytes.len().saturating_sub(length))
    }
}

impl<R: Read> Read for Recorder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        let mut tail = self.tail.borrow_mut();
        // Entries reads blocks of headers one by one, and skips padding in large pieces.
        if tail.is_kept {
            tail.bytes.extend_from_slice(&buffer[..count]);
        }
        Ok(count)
    }
}
